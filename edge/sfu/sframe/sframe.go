// Package sframe reads what SFrame (RFC 9605) puts before a frame that is encrypted end to end,
// and tells by it media that are from media that are not.
//
// It has no key and decrypts nothing: that is the participants'. It opens no socket, reads no
// clock and starts no goroutine; nothing here is safe for concurrent use, and nothing allocates.
package sframe

import "encoding/binary"

// Header is the beginning of a frame.
type Header struct {
	KID, CTR uint64
	Size     int // in octets
}

// Parse reads the header that b begins with (section 4.3).
func Parse(b []byte) (h Header, ok bool) {
	if len(b) == 0 {
		return Header{}, false
	}
	h.Size = 1
	field := func(bits byte) uint64 {
		if bits&8 == 0 {
			return uint64(bits)
		}
		n := int(bits&7) + 1
		var v [8]byte
		if len(b) >= h.Size+n {
			copy(v[8-n:], b[h.Size:])
		}
		h.Size += n
		return binary.BigEndian.Uint64(v[:])
	}
	h.KID = field(b[0] >> 4)
	h.CTR = field(b[0] & 15)
	if h.Size > len(b) {
		return Header{}, false
	}
	return h, true
}

// Guard passes of one stream what is encrypted. Only the first packet of a frame says so: those
// that follow go the way of the last first one.
type Guard struct{ open bool }

// Pass tells whether a packet may go on. The KIDs of who sends begin with the three octets of
// tag and have four; of tag 0 nothing may. starts says that a frame begins with the packet.
// Media in the clear pass once in 2^28 frames by chance, which are then lost to who decrypts.
func (g *Guard) Pass(tag uint32, starts bool, b []byte) bool {
	if len(b) == 0 {
		return true // it is there to fill a path
	}
	if starts {
		h, ok := Parse(b)
		g.open = ok && tag != 0 && h.KID>>8 == uint64(tag)
	}
	return g.open
}
