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
)

// Descriptor is what a forwarder must know of one packet.
type Descriptor struct {
	// Start is the first packet of a frame, where that can be told; Keyframe is such a one,
	// of a frame that needs no other. A decoder can begin here and nowhere else.
	Start, Keyframe bool
	// End is the last packet of a frame.
	End bool
	// Temporal is the temporal layer, from 0. One with Sync refers to layer 0 alone (RFC 7741
	// section 4.2, Y): who has not received its layer so far can begin with it.
	Temporal uint8
	Sync     bool
	// Picture numbers the frames, in Bits bits: 7, 15, or 0 where there is none. Base numbers
	// those of temporal layer 0 (TL0PICIDX).
	Picture uint16
	Bits    uint8
	Base    uint8
	// Width and Height are a keyframe's, in pixels; 0 where they cannot be told.
	Width, Height uint16

	pictureAt, baseAt uint8 // where in the payload; baseAt is 0 where there is none
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
	if len(b) == 0 {
		return false
	}
	d.Start = b[0]&0x17 == 0x10 // S, and partition 0
	i := 1
	if b[0]&0x80 != 0 { // X
		if len(b) < 2 {
			return false
		}
		x := b[1]
		i = 2
		if x&0x80 != 0 { // I
			if len(b) <= i {
				return false
			}
			d.pictureAt, d.Bits, d.Picture = uint8(i), 7, uint16(b[i])
			i++
			if b[i-1]&0x80 != 0 { // M
				if len(b) <= i {
					return false
				}
				d.Bits, d.Picture = 15, uint16(b[i-1]&0x7f)<<8|uint16(b[i])
				i++
			}
		}
		if x&0x40 != 0 { // L
			if len(b) <= i {
				return false
			}
			d.baseAt, d.Base = uint8(i), b[i]
			i++
		}
		if x&0x30 != 0 { // T, K: one octet for both
			if len(b) <= i {
				return false
			}
			if x&0x20 != 0 {
				d.Temporal, d.Sync = b[i]>>6, b[i]&0x20 != 0
			}
			i++
		}
	}
	if b = b[i:]; len(b) == 0 {
		return false
	}
	if d.Keyframe = d.Start && b[0]&0x01 == 0; !d.Keyframe { // P
		return true
	}
	// RFC 6386 section 9.1: three octets, the start code, and 14 bits for each side.
	if len(b) >= 10 && bytes.Equal(b[3:6], []byte{0x9d, 0x01, 0x2a}) {
		d.Width, d.Height = binary.LittleEndian.Uint16(b[6:])&0x3fff, binary.LittleEndian.Uint16(b[8:])&0x3fff
	}
	return true
}
