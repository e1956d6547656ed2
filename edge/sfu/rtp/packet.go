// Package rtp is the arithmetic of forwarding RTP: one publisher's packets to
// many subscribers, each with a stream of its own (RFC 3550, RFC 4585).
//
// It opens no socket, reads no clock and starts no goroutine: time is an argument,
// and nothing here is safe for concurrent use. The packet path (Parse,
// Receiver.Receive, Gaps.Seen, Ring.Put, Rewriter.Forward) allocates nothing once
// the ring is warm.
package rtp

import (
	"encoding/binary"
	"errors"
)

// MaxPacket bounds one RTP packet in bytes: nothing larger crosses an Ethernet.
const MaxPacket = 1500

const (
	// window is how far behind the newest packet one may come and still count, in
	// packets: four seconds of video at 2.5 Mbit/s.
	window = 1024
	// maxJump is the largest step, either way, that is loss or disorder; a larger
	// one is a source that began anew (MAX_DROPOUT of RFC 3550 A.1).
	maxJump = 3000
)

// ErrMalformed is returned for bytes that are not one RTP packet.
var ErrMalformed = errors.New("malformed rtp packet")

// Packet is one parsed RTP packet. Payload and extensions alias the parsed bytes;
// padding is already cut off.
type Packet struct {
	SSRC        uint32
	Timestamp   uint32
	Seq         uint16
	PayloadType uint8
	Marker      bool
	Payload     []byte

	header  int // bytes before the payload
	profile uint16
	ext     []byte
}

// Parse reads one packet (RFC 3550 section 5.1). CSRCs are skipped: no browser
// sends them, and an SFU mixes nothing.
func Parse(b []byte) (Packet, error) {
	if len(b) < 12 || len(b) > MaxPacket || b[0]>>6 != 2 {
		return Packet{}, ErrMalformed
	}
	p := Packet{
		Marker:      b[1]&0x80 != 0,
		PayloadType: b[1] & 0x7f,
		Seq:         binary.BigEndian.Uint16(b[2:]),
		Timestamp:   binary.BigEndian.Uint32(b[4:]),
		SSRC:        binary.BigEndian.Uint32(b[8:]),
	}
	rest := b[12:]
	csrcs := int(b[0]&0x0f) * 4
	if len(rest) < csrcs {
		return Packet{}, ErrMalformed
	}
	rest = rest[csrcs:]
	if b[0]&0x10 != 0 {
		if len(rest) < 4 {
			return Packet{}, ErrMalformed
		}
		p.profile = binary.BigEndian.Uint16(rest)
		n := int(binary.BigEndian.Uint16(rest[2:])) * 4
		if len(rest) < 4+n {
			return Packet{}, ErrMalformed
		}
		p.ext, rest = rest[4:4+n], rest[4+n:]
	}
	p.header = len(b) - len(rest)
	if b[0]&0x20 != 0 {
		if len(rest) == 0 {
			return Packet{}, ErrMalformed
		}
		pad := int(rest[len(rest)-1])
		if pad == 0 || pad > len(rest) {
			return Packet{}, ErrMalformed
		}
		rest = rest[:len(rest)-pad]
	}
	p.Payload = rest
	return p, nil
}

// Restore appends to dst the packet that a repair packet repeats (RFC 4588 section 4), with the
// SSRC and payload type of the stream that lost it; nil is a repair packet of nothing, sent to
// fill a path. raw is what p was parsed from.
func Restore(p *Packet, raw []byte, ssrc uint32, payloadType uint8, dst []byte) []byte {
	if len(p.Payload) < 2 {
		return nil
	}
	dst = append(append(dst, raw[:p.header]...), p.Payload[2:]...)
	dst[0] &^= 0x20 // its padding was the repair packet's
	dst[1] = dst[1]&0x80 | payloadType
	copy(dst[2:], p.Payload[:2])
	binary.BigEndian.PutUint32(dst[8:], ssrc)
	return dst
}

// Extension returns the header extension with that ID, in the one-byte form (RFC 8285 section
// 4.2) or the two-byte form (4.3), which packets with one of more than 16 bytes have; nil when
// absent.
func (p *Packet) Extension(id uint8) []byte {
	if p.profile>>4 == 0x100 {
		for b := p.ext; len(b) > 0; {
			if b[0] == 0 { // padding
				b = b[1:]
				continue
			}
			if len(b) < 2 || len(b) < 2+int(b[1]) {
				return nil
			}
			n := int(b[1])
			if b[0] == id {
				return b[2 : 2+n]
			}
			b = b[2+n:]
		}
		return nil
	}
	if p.profile != 0xBEDE {
		return nil
	}
	for b := p.ext; len(b) > 0; {
		if b[0] == 0 { // padding
			b = b[1:]
			continue
		}
		n := int(b[0]&0x0f) + 1
		if b[0]>>4 == 15 || len(b) < 1+n {
			return nil
		}
		if b[0]>>4 == id {
			return b[1 : 1+n]
		}
		b = b[1+n:]
	}
	return nil
}

// H264Keyframe tells whether a payload (RFC 6184 sections 5.6 to 5.8) begins an H.264
// keyframe: a sequence parameter set, which every WebRTC sender puts before each IDR
// picture. An IDR slice without one cannot be decoded by somebody new.
func H264Keyframe(b []byte) bool {
	const sps, stapA = 7, 24
	if len(b) == 0 {
		return false
	}
	switch b[0] & 0x1f {
	case sps:
		return true
	case stapA:
		for b = b[1:]; len(b) > 2; {
			n := int(binary.BigEndian.Uint16(b))
			if b[2]&0x1f == sps {
				return n > 0
			}
			if len(b) < 2+n {
				return false
			}
			b = b[2+n:]
		}
	}
	return false
}
