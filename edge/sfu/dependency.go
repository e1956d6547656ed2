package sfu

import (
	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/sfu/rtp"
)

// dependencies are what the dependency descriptors of one stream say.
type dependencies struct {
	layer.Dependencies
	ssrc uint32
}

// dependenciesLocked are those that a packet of a layer refers to. What is had again, not fresh, may
// be of a stream that is no more.
func (t *track) dependenciesLocked(p *rtp.Packet, of int, fresh bool) *dependencies {
	is := t.dependencies[of]
	if is == nil || is.ssrc != p.SSRC {
		is = &dependencies{ssrc: p.SSRC}
		if fresh {
			t.dependencies[of] = is
		}
	}
	return is
}

// describe reads a packet of a layer: by its payload where that says all, or else by its dependency
// descriptor, if it has one. fresh is one that comes, and not from a ring.
func (t *track) describe(p *rtp.Packet, of int, fresh bool) (d layer.Descriptor) {
	switch {
	case t.kind == Audio:
	case t.sealed != nil:
		d, _, _ = t.unwrap(p, of, fresh)
	default:
		d = t.read(p, of, fresh)
	}
	return d
}

// read is describe for a video that is not sealed.
func (t *track) read(p *rtp.Packet, of int, fresh bool) layer.Descriptor {
	c := codec(p.PayloadType)
	if ext := p.Extension(extDependency); len(ext) > 0 && !c.Tells(p.Payload) {
		t.mu.Lock()
		d, ok := t.dependenciesLocked(p, of, fresh).Describe(p.Seq, ext)
		t.mu.Unlock()
		if ok {
			return d
		}
	}
	return layer.Describe(c, p)
}

// carryDependency begins the header's extensions with what the packet says of its dependencies, in the
// numbers of this line, where it is described by that. It goes by the packet alone, and the order
// of the extensions is always the same: a packet may be sent again as it was, under the same nonce.
func (l *line) carryDependency(t *track, p *rtp.Packet, o rtp.Origin) {
	l.header.ClearExtensions()
	if t.sealed == nil && codec(p.PayloadType).Tells(p.Payload) {
		return
	}
	if ext := p.Extension(extDependency); len(ext) > 0 && len(ext) <= len(l.dependency) && !o.Empty {
		ext = l.dependency[:copy(l.dependency[:], ext)]
		layer.WriteDependency(ext, o)
		l.header.SetExtension(extDependency, ext)
	}
}
