package rtp

import "encoding/binary"

// Numbers are what two sides call the same things in RTP: payload types and header
// extensions, by their number on the one side that on the other.
type Numbers struct {
	Types      [128]uint8
	Extensions [256]uint8
}

// Renumber gives a packet's payload type and header extensions their other numbers, in place.
// What is no RTP packet is left half done: Parse refuses it before and after.
func (n *Numbers) Renumber(b []byte) {
	if len(b) < 12 {
		return
	}
	b[1] = b[1]&0x80 | n.Types[b[1]&0x7f]&0x7f
	rest := b[12:]
	csrcs := int(b[0]&0x0f) * 4
	if b[0]&0x10 == 0 || len(rest) < csrcs+4 {
		return
	}
	rest = rest[csrcs:]
	profile, size := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))*4
	if rest = rest[4:]; len(rest) < size {
		return
	}
	switch rest = rest[:size]; {
	case profile == 0xBEDE:
		for len(rest) > 0 {
			switch id := rest[0] >> 4; {
			case rest[0] == 0: // padding
				rest = rest[1:]
			case id == 15:
				return
			default:
				size := 2 + int(rest[0]&0x0f)
				rest[0] = n.Extensions[id]<<4 | rest[0]&0x0f
				rest = rest[min(size, len(rest)):]
			}
		}
	case profile>>4 == 0x100:
		for len(rest) > 1 {
			if rest[0] == 0 {
				rest = rest[1:]
				continue
			}
			rest[0] = n.Extensions[rest[0]]
			rest = rest[min(2+int(rest[1]), len(rest)):]
		}
	}
}
