package sfu

import (
	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/sfu/rtp"
	"bailiwick/edge/sfu/sframe"
)

// sealed has a track sent encrypted end to end. Of its payload nothing is read but what SFrame and
// VP8 put before the frame, and media that are not encrypted go no further (ADR 21).
type sealed struct {
	guards [layer.Layers]sframe.Guard // the worker's
}

// pass describes a packet that came of a layer; ok is false for one in the clear where none may
// be.
func (t *track) pass(p *rtp.Packet, of int) (d layer.Descriptor, ok bool) {
	s := t.sealed
	if s == nil {
		d = t.describe(p, of, true)
		t.skews[of].Level(&d, p.Timestamp)
		return d, true
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

// unwrap describes a packet of a sealed video.
func (t *track) unwrap(p *rtp.Packet, of int, fresh bool) (d layer.Descriptor, frame []byte, starts bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dependenciesLocked(p, of, fresh).Sealed(p, p.Extension(extDependency))
}

// refuse counts a packet in the clear, and tells of the first.
func (p *publisher) refuse() {
	p.count.inClear.Add(1)
	if !p.told.Swap(true) && p.inClear != nil {
		p.inClear()
	}
}
