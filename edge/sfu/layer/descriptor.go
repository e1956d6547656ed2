// Package layer chooses which packets of a published video go on to one subscriber: of the
// simulcast layers one, of that as many temporal layers as are wanted, and of a frame all or
// nothing. The subscriber sees one stream without a seam: sequence numbers and timestamps are
// package rtp's, picture IDs are here.
//
// It opens no socket, reads no clock and starts no goroutine; nothing here is safe for
// concurrent use. A packet's way through it (Describe, Switch.Packet, Descriptor.Write)
// allocates nothing. What publishers send is not trusted: a packet that cannot be read is one
// of a video without layers, and no lie can make a sequence number be spent twice.
package layer

import (
	"bytes"
	"encoding/binary"

	"bailiwick/edge/sfu/rtp"
)

// Codec tells how a payload begins.
type Codec uint8

const (
	Unknown Codec = iota // of which nothing is read
	VP8
	H264
	VP9
	AV1
)

// Tells reports whether a payload says itself of which layers it is. What others say of that is in
// their dependency descriptors: AV1's, H.264's, and VP8's without an extended payload descriptor, as
// browsers send it where the other is negotiated.
func (c Codec) Tells(payload []byte) bool {
	return c == VP9 || c == VP8 && len(payload) > 0 && payload[0]&0x80 != 0
}

// Descriptor is what a forwarder must know of one packet. A picture is what has one timestamp;
// it has a frame for each spatial layer.
type Descriptor struct {
	// Start and End are the first and the last packet of a frame, where that can be told.
	Start, End bool
	// Keyframe is the first packet of a picture that needs no other. A decoder can begin here
	// and nowhere else.
	Keyframe bool
	// Spatial is the layer within the stream, from 0; simulcast has none. One that is Fresh
	// refers to lower ones of its own picture at most: who has not received its layer so far can
	// begin with it.
	Spatial uint8
	Fresh   bool
	// Temporal is the temporal layer, from 0. One with Sync refers to layer 0 alone (RFC 7741
	// section 4.2, Y): who has not received its layer so far can begin with it. After one with Up
	// no higher layer refers to what was before it (RFC 9628 section 4.2, U): who has not received
	// those so far can begin with any.
	Temporal uint8
	Sync, Up bool
	// Picture numbers the pictures, in Bits bits: 7, 15, or 0 where there is none; 16 are of a
	// dependency descriptor, which numbers frames. Where they are Fixed, references are counted in
	// them, and what is left out leaves a gap.
	Picture uint16
	Bits    uint8
	Fixed   bool
	// Base numbers the pictures of temporal layer 0 (TL0PICIDX); of a dependency descriptor it is
	// the last template's ID.
	Base uint8
	// Width and Height are a keyframe's, in pixels, of its highest spatial layer, which is Tallest; 0
	// where they cannot be told.
	Width, Height uint16
	Tallest       uint8

	pictureAt, baseAt uint8 // where in the payload; baseAt is 0 where there is none
	extension         bool  // it is a dependency descriptor that was read
	span              uint8 // of which the template IDs begin so far before Base
}

// Describe reads a packet. What is malformed is described as Unknown is: one layer, of which
// no frame is a keyframe.
func Describe(c Codec, p *rtp.Packet) Descriptor {
	var d Descriptor
	switch c {
	case VP8:
		if !d.vp8(p.Payload) {
			d = Descriptor{}
		}
	case H264:
		// RFC 6184 has no layers, and says nothing of where a frame that is no keyframe begins.
		d.Keyframe = rtp.H264Keyframe(p.Payload)
		d.Start = d.Keyframe
	case VP9:
		if d.vp9(p.Payload) {
			return d
		}
		d = Descriptor{}
	case AV1:
		// Section 4.4: N, and no Z. All else is in the dependency descriptor.
		d.Keyframe = len(p.Payload) > 0 && p.Payload[0]&0x88 == 0x08
		d.Start = d.Keyframe
	}
	d.End = p.Marker
	return d
}

// Write writes what the origin says over what was read of payload, of which it returns what
// is to be sent. It does so in place, and always the same fields: to be called for each
// subscriber in turn with the same bytes.
func (d *Descriptor) Write(payload []byte, o rtp.Origin) []byte {
	if o.Empty {
		return nil
	}
	switch d.Bits {
	case 7:
		payload[d.pictureAt] = byte(o.Picture & 0x7f)
	case 15:
		binary.BigEndian.PutUint16(payload[d.pictureAt:], o.Picture|1<<15)
	}
	if d.baseAt != 0 {
		payload[d.baseAt] = o.Base
	}
	return payload
}

// vp8 reads a payload descriptor and the beginning of a payload header (RFC 7741 sections 4.2
// and 4.3).
func (d *Descriptor) vp8(b []byte) bool {
	i := d.vp8Descriptor(b)
	if i == 0 {
		return false
	}
	b = b[i:]
	if d.Keyframe = d.Start && b[0]&0x01 == 0; !d.Keyframe { // P
		return true
	}
	// RFC 6386 section 9.1: three octets, the start code, and 14 bits for each side.
	if len(b) >= 10 && bytes.Equal(b[3:6], []byte{0x9d, 0x01, 0x2a}) {
		d.Width, d.Height = binary.LittleEndian.Uint16(b[6:])&0x3fff, binary.LittleEndian.Uint16(b[8:])&0x3fff
	}
	return true
}

// vp8Descriptor reads a payload descriptor, and gives where it ends; 0 is cut short, or there is
// nothing behind it.
func (d *Descriptor) vp8Descriptor(b []byte) (end int) {
	if len(b) == 0 {
		return 0
	}
	d.Start = b[0]&0x17 == 0x10 // S, and partition 0
	i := 1
	if b[0]&0x80 != 0 { // X
		if len(b) < 2 {
			return 0
		}
		x := b[1]
		i = 2
		if x&0x80 != 0 { // I
			if i = d.picture(b, i); i == 0 {
				return 0
			}
		}
		if x&0x40 != 0 { // L
			if len(b) <= i {
				return 0
			}
			d.baseAt, d.Base = uint8(i), b[i]
			i++
		}
		if x&0x30 != 0 { // T, K: one octet for both
			if len(b) <= i {
				return 0
			}
			if x&0x20 != 0 {
				d.Temporal, d.Sync = b[i]>>6, b[i]&0x20 != 0
			}
			i++
		}
	}
	if len(b) <= i {
		return 0
	}
	return i
}

// picture reads a picture ID at i, and gives where it ends; 0 is cut short.
func (d *Descriptor) picture(b []byte, i int) int {
	switch {
	case len(b) > i && b[i]&0x80 == 0: // M
		d.pictureAt, d.Bits, d.Picture = uint8(i), 7, uint16(b[i])
		return i + 1
	case len(b) > i+1:
		d.pictureAt, d.Bits, d.Picture = uint8(i), 15, binary.BigEndian.Uint16(b[i:])&0x7fff
		return i + 2
	}
	return 0
}

// vp9 reads a payload descriptor (RFC 9628 section 4.2).
func (d *Descriptor) vp9(b []byte) bool {
	const I, P, L, F, B, E, V = 0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02
	if len(b) == 0 || b[0]&(F|I) == F { // references that are counted in what is not there
		return false
	}
	x, i := b[0], 1
	d.Start, d.End, d.Fresh, d.Fixed = x&B != 0, x&E != 0, x&P == 0, true
	if x&I != 0 {
		if i = d.picture(b, i); i == 0 {
			return false
		}
	}
	if x&L != 0 {
		if len(b) <= i {
			return false
		}
		d.Temporal, d.Up, d.Spatial = b[i]>>5, b[i]&0x10 != 0, b[i]>>1&0x07
		i++
		if x&F == 0 {
			if len(b) <= i {
				return false
			}
			d.baseAt, d.Base = uint8(i), b[i]
			i++
		}
	}
	d.Keyframe = d.Start && d.Fresh && d.Spatial == 0
	for n, more := 0, x&F != 0 && x&P != 0; more; n++ { // P_DIFF, N
		if len(b) <= i || n == 3 {
			return false
		}
		more = b[i]&1 != 0
		i++
	}
	if x&V != 0 {
		if i = d.structure(b, i); i == 0 {
			return false
		}
	}
	return len(b) > i
}

// structure reads a scalability structure at i (RFC 9628 section 4.2.1), and gives where it ends;
// 0 is cut short.
func (d *Descriptor) structure(b []byte, i int) int {
	if len(b) <= i {
		return 0
	}
	x := b[i]
	i++
	if x&0x10 != 0 { // Y
		if i += (int(x>>5) + 1) * 4; len(b) < i {
			return 0
		}
		if d.Keyframe {
			d.Width, d.Height, d.Tallest = binary.BigEndian.Uint16(b[i-4:]), binary.BigEndian.Uint16(b[i-2:]), x>>5
		}
	}
	if x&0x08 != 0 { // G
		if len(b) <= i {
			return 0
		}
		n := int(b[i])
		for i++; n > 0; n-- {
			if len(b) <= i {
				return 0
			}
			i += 1 + int(b[i]>>2&0x03) // R
		}
	}
	return i
}
