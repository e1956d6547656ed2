package sfu

import (
	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/sfu/rtp"
	"bailiwick/edge/sfu/sframe"
)

// sealed is what is known of a track that is encrypted end to end. Of its payload nothing is read
// but what SFrame and VP8 put before the frame, and media that are not encrypted go no further
// (ADR 21).
type sealed struct {
	guards [layer.Layers]sframe.Guard // the worker's
	layers [layer.Layers]dependencies // guarded by track.mu
}

// dependencies are what one layer's dependency descriptors say, up to its newest packet.
type dependencies struct {
	layer.Dependencies
	ssrc uint32
	seq  uint16
}

// describe reads a packet that came of a layer; ok is false for one in the clear where none may
// be.
func (t *track) describe(p *rtp.Packet, of int) (d layer.Descriptor, ok bool) {
	s := t.sealed
	if s == nil {
		return t.recall(p, of), true
	}
	frame, starts := p.Payload, true // of audio each packet is a frame
	if t.kind != Audio {
		d, frame, starts = t.unwrap(p, of, true)
		if p.PayloadType != ptVP8 || len(frame) == 0 && len(p.Payload) > 0 {
			return d, false
		}
	}
	return d, s.guards[of].Pass(t.publisher.kid.Load(), starts, frame)
}

// recall reads a packet of a layer's ring.
func (t *track) recall(p *rtp.Packet, of int) (d layer.Descriptor) {
	switch {
	case t.kind == Audio:
	case t.sealed == nil:
		d = layer.Describe(codec(p.PayloadType), p)
	default:
		d, _, _ = t.unwrap(p, of, false)
	}
	return d
}

// unwrap describes a packet of a sealed video. One that is new may bring the structure that those
// after it refer to; one that is late, or had again, may not.
func (t *track) unwrap(p *rtp.Packet, of int, fresh bool) (d layer.Descriptor, frame []byte, starts bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	is := &t.sealed.layers[of]
	if fresh && (is.ssrc != p.SSRC || int16(p.Seq-is.seq) > 0) {
		is.ssrc, is.seq = p.SSRC, p.Seq
		return is.Sealed(p, p.Extension(extDependency))
	}
	was := is.Dependencies
	return was.Sealed(p, p.Extension(extDependency))
}

// refuse counts a packet in the clear, and tells of the first.
func (p *publisher) refuse() {
	p.count.inClear.Add(1)
	if !p.told.Swap(true) && p.inClear != nil {
		p.inClear()
	}
}

// carryDependency has the header say what the packet does of its dependencies, in the numbers of
// this line. The extensions of one packet are always in one order: it may be sent again as it was,
// under the same nonce.
func (l *line) carryDependency(t *track, p *rtp.Packet, o rtp.Origin) {
	if t.sealed == nil {
		return
	}
	h := &l.header
	h.Extension, h.ExtensionProfile, h.Extensions = true, pion.ExtensionProfileTwoByte, h.Extensions[:0]
	if ext := p.Extension(extDependency); len(ext) > 0 && len(ext) <= len(l.dependency) && !o.Empty {
		ext = l.dependency[:copy(l.dependency[:], ext)]
		layer.WriteDependency(ext, o)
		h.SetExtension(extDependency, ext)
	}
}
