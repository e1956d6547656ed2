package layer

import (
	"encoding/binary"
	"math/bits"

	"bailiwick/edge/sfu/rtp"
)

// Dependencies is what the dependency descriptors of one stream say of its layers (AV1 RTP
// specification, appendix A): a header extension that describes frames of any codec, even one
// whose payload is encrypted end to end. Descriptors refer to a structure that comes with
// keyframes, which is kept here.
type Dependencies struct {
	known     bool
	from      uint16 // number of the packet that brought the structure, or of one after it
	offset    uint8  // template IDs count from here, modulo 64
	count     int    // of templates
	targets   int    // decode targets
	chains    int
	templates [64]template
	layers    [32]layers // of each decode target
	width     [4]uint16  // of each spatial layer
	height    [4]uint16
}

type layers struct{ spatial, temporal uint8 }

// template is what many frames have in common.
type template struct {
	layers
	far  uint16 // largest difference to the number of a frame that it refers to
	dtis uint64 // two bits for each decode target
}

const switchIndication = 2 // table A.2

// Describe reads the extension of the packet with that number. ok is false for one that is
// malformed; one of which the structure is not known is described as of the lowest layer. A
// structure holds from its packet on, however late that comes; who sends it again, as old as it
// is, changes nothing.
func (s *Dependencies) Describe(seq uint16, ext []byte) (d Descriptor, ok bool) {
	r := reader{b: ext}
	d.Start, d.End = r.flag(), r.flag()
	id := uint8(r.bits(6))
	d.Picture, d.Bits, d.Fixed, d.extension = uint16(r.bits(16)), 16, true, true
	var structure, active, dtis, fdiffs, chains bool
	if len(ext) > 3 {
		structure, active, dtis, fdiffs, chains = r.flag(), r.flag(), r.flag(), r.flag(), r.flag()
	}
	if structure {
		var anew Dependencies
		if !anew.read(&r) || r.short {
			return Descriptor{}, false
		}
		if anew.from = seq; s.known && !s.before(seq) {
			s = &anew
		} else {
			*s = anew
		}
	} else if int16(seq-s.from) > 1<<14 { // so that it is not the younger one when numbers have gone round
		s.from = seq - 1<<13
	}
	if r.short {
		return Descriptor{}, false
	}
	index := int(id-s.offset) & 63
	if !s.known || index >= s.count {
		return d, true
	}
	if active {
		r.bits(s.targets)
	}
	t := s.templates[index]
	if dtis {
		t.dtis = r.dtis(s.targets)
	}
	if fdiffs {
		t.far = 0
		for size := r.bits(2); size > 0; size = r.bits(2) {
			t.far = max(t.far, uint16(r.bits(int(4*size)))+1)
		}
	}
	if chains {
		for range s.chains {
			r.bits(8)
		}
	}
	if r.short {
		return Descriptor{}, false
	}
	d.Spatial, d.Temporal = t.spatial, t.temporal
	d.Base, d.span = s.offset+uint8(s.count-1), uint8(s.count-1)
	d.Up = true
	lasting := false // a target of this very layer may be begun here
	for i, l := range s.layers[:s.targets] {
		if l.spatial != t.spatial || l.temporal < t.temporal {
			continue
		}
		is := t.dtis>>(2*i)&3 == switchIndication
		if l.temporal > t.temporal {
			d.Up = d.Up && is
		}
		lasting = lasting || is
	}
	// A frame for each lower spatial layer stands between it and the last picture.
	d.Fresh = t.far <= uint16(t.spatial) && lasting
	if d.Keyframe = structure && d.Start && t.far == 0; d.Keyframe {
		d.Tallest = s.templates[s.count-1].spatial
		d.Width, d.Height = s.width[d.Tallest], s.height[d.Tallest]
	}
	return d, true
}

// before tells whether the structure is older than a packet; one that is far before it is of a
// source that began anew.
func (s *Dependencies) before(seq uint16) bool {
	step := int16(seq - s.from)
	return step > 0 || step < -maxJump
}

// Sealed describes a packet of VP8 of which the frames are encrypted end to end: by its dependency
// descriptor, ext, alone. One without it is of a video without layers that has no keyframe. sealed
// is what the packet has of a frame, and starts says that a frame begins with it: the payload
// descriptor (RFC 7741 section 4.2) is no part of the frame, and is not encrypted.
func (s *Dependencies) Sealed(p *rtp.Packet, ext []byte) (d Descriptor, sealed []byte, starts bool) {
	var of Descriptor
	if end := of.vp8Descriptor(p.Payload); end > 0 {
		sealed, starts = p.Payload[end:], of.Start
	}
	d, ok := s.Describe(p.Seq, ext)
	if !ok || len(ext) == 0 {
		d = Descriptor{End: p.Marker}
	}
	return d, sealed, starts
}

// read reads a structure (template_dependency_structure of A.4.1).
func (s *Dependencies) read(r *reader) bool {
	s.offset = uint8(r.bits(6))
	s.targets = int(r.bits(5)) + 1
	var l layers
	for next := uint32(0); next != 3; next = r.bits(2) {
		switch next {
		case 1:
			l.temporal++
		case 2:
			l.spatial, l.temporal = l.spatial+1, 0
		}
		if s.count == len(s.templates) || l.spatial > 3 || l.temporal > 7 {
			return false
		}
		s.templates[s.count].layers = l
		s.count++
	}
	templates := s.templates[:s.count]
	for i := range templates {
		t := &templates[i]
		t.dtis = r.dtis(s.targets)
		for target := range s.targets {
			if of := &s.layers[target]; t.dtis>>(2*target)&3 != 0 {
				of.spatial, of.temporal = max(of.spatial, t.spatial), max(of.temporal, t.temporal)
			}
		}
	}
	for i := range templates {
		for r.flag() {
			templates[i].far = max(templates[i].far, uint16(r.bits(4))+1)
		}
	}
	if s.chains = int(r.ns(uint32(s.targets) + 1)); s.chains > 0 {
		for range s.targets {
			r.ns(uint32(s.chains))
		}
		for range s.count * s.chains {
			r.bits(4)
		}
	}
	if r.flag() { // resolutions
		for i := range l.spatial + 1 {
			s.width[i], s.height[i] = uint16(r.bits(16)+1), uint16(r.bits(16)+1)
		}
	}
	s.known = true
	return true
}

// WriteDependency writes what the origin says over an extension that Describe has read, or an
// equal one: the frame's number, and the IDs of its template and of its structure's first, so
// that the structures of two simulcast layers do not mean the same IDs.
func WriteDependency(ext []byte, o rtp.Origin) {
	if len(ext) < 3 {
		return
	}
	ext[0] = ext[0]&0xc0 | (ext[0]+o.Base)&0x3f
	binary.BigEndian.PutUint16(ext[1:], o.Picture)
	if len(ext) > 4 && ext[3]&0x80 != 0 { // template_id_offset: three bits here, three there
		offset := (ext[3]<<3 | ext[4]>>5) + o.Base
		ext[3] = ext[3]&0xf8 | offset>>3&0x07
		ext[4] = ext[4]&0x1f | offset<<5
	}
}

// reader reads bits; behind the end they are 0, and it is short.
type reader struct {
	b     []byte
	at    int
	short bool
}

func (r *reader) flag() bool { return r.bits(1) != 0 }

func (r *reader) bits(n int) (v uint32) {
	if r.at+n > 8*len(r.b) {
		r.short, r.at = true, 8*len(r.b)
		return 0
	}
	for ; n > 0; n-- {
		v = v<<1 | uint32(r.b[r.at/8]>>(7-r.at%8)&1)
		r.at++
	}
	return v
}

// ns reads one of n values (ns(n) of A.4.1).
func (r *reader) ns(n uint32) uint32 {
	w := bits.Len32(n)
	m := uint32(1)<<w - n
	v := r.bits(w - 1)
	if v < m {
		return v
	}
	return v<<1 - m + r.bits(1)
}

func (r *reader) dtis(targets int) (v uint64) {
	for i := range targets {
		v |= uint64(r.bits(2)) << (2 * i)
	}
	return v
}
