// Package red sends audio again beside what comes next (RFC 2198): a packet that is lost is in the
// one after it, which costs no round trip.
//
// It is pure, and allocates nothing. A History is for one goroutine at a time.
package red

const (
	// Depth is how many earlier packets one may carry at most.
	Depth = 2
	// longest is a packet that is kept, in bytes: Opus at 128 kbit/s has 320 in 20 ms. What is
	// longer is music, and is not sent again.
	longest = 480
	// Limits of the header of what is sent again: 14 bits of timestamp, 10 of length.
	maxOffset, maxLength = 1<<14 - 1, 1<<10 - 1

	headSize, lastSize = 4, 1
)

// Most is how many bytes a payload grows by at most.
const Most = Depth*(headSize+longest) + lastSize

// History is the last packets of one stream. Its zero value is ready.
type History struct {
	kept [Depth]packet
	next int
}

type packet struct {
	set bool
	seq uint16
	ts  uint32
	n   int
	b   [longest]byte
}

// Add keeps a packet, so that the next ones may carry it. seq and ts are those it is sent with.
func (h *History) Add(seq uint16, ts uint32, payload []byte) {
	p := &h.kept[h.next]
	h.next = (h.next + 1) % Depth
	p.set, p.seq, p.ts = len(payload) > 0 && len(payload) <= longest, seq, ts
	if p.set {
		p.n = copy(p.b[:], payload)
	}
}

// Wrap appends the payload of the packet seq, with up to depth of those right before it, to dst. pt is the
// payload type of all of them. What was not kept, is not right before it, or is too long ago is
// left out.
func (h *History) Wrap(dst []byte, depth int, pt uint8, seq uint16, ts uint32, payload []byte) []byte {
	var before [Depth]*packet // the nearest first
	n := 0
	for n < min(depth, Depth) {
		p := h.find(seq - uint16(n) - 1)
		if p == nil || ts-p.ts > maxOffset || ts == p.ts {
			break
		}
		before[n] = p
		n++
	}
	for i := n - 1; i >= 0; i-- { // the oldest first
		p := before[i]
		head := uint32(0x80|pt)<<24 | (ts-p.ts)<<10 | uint32(p.n)
		dst = append(dst, byte(head>>24), byte(head>>16), byte(head>>8), byte(head))
	}
	dst = append(dst, pt)
	for i := n - 1; i >= 0; i-- {
		dst = append(dst, before[i].b[:before[i].n]...)
	}
	return append(dst, payload...)
}

func (h *History) find(seq uint16) *packet {
	for i := range h.kept {
		if p := &h.kept[i]; p.set && p.seq == seq {
			return p
		}
	}
	return nil
}

// Last is where the newest block begins in a RED payload: it is what a receiver that lost nothing
// plays. ok is false for what RFC 2198 does not allow, and pt is that of the newest.
func Last(payload []byte) (at int, pt uint8, ok bool) {
	heads, blocks := 0, 0
	for {
		if heads >= len(payload) {
			return 0, 0, false
		}
		if payload[heads]&0x80 == 0 {
			at = heads + lastSize + blocks
			return at, payload[heads], at <= len(payload)
		}
		if heads+headSize > len(payload) {
			return 0, 0, false
		}
		blocks += int(payload[heads+2]&3)<<8 | int(payload[heads+3])
		heads += headSize
	}
}
