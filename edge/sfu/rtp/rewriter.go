package rtp

import (
	"time"

	"github.com/pion/rtp"
)

// Rewriter turns the packets of one source after another into one stream towards
// one subscriber: its own SSRC, sequence numbers without a break or a repetition,
// timestamps that go on where the last source stopped.
//
// A sequence number is spent once. Under AEAD_AES_128_GCM the nonce is made of
// SSRC, rollover counter and sequence number (RFC 7714 section 8.1), so two
// different packets with one number would give the key away. Hence: numbers only
// move forward, by less than maxJump at a time, whatever a publisher sends; each is
// kept with the packet that it was given to, and sent again only with that one.
// Forwarded extensions are the one part that Again cannot repeat, so a stream has
// either extensions or retransmission.
type Rewriter struct {
	ssrc uint32
	rate uint32 // Hz

	source  uint32 // SSRC of the current source
	bound   bool
	held    bool
	first   uint16 // number of the source's first packet, of those that are kept
	newest  uint16 // newest source number
	tsDelta uint32

	seq  uint16 // newest that was spent, or left for one that is late
	ts   uint32
	at   time.Time
	sent bool
	// spent has the newest numbers, each in its place. Those since first have sources'
	// numbers that grow with their own.
	spent []spent

	packets, octets uint32
}

// spent is what became of one number.
type spent struct {
	packet  uint32 // as the publisher's Ring has it
	tsDelta uint32
	in      uint16 // the source's number
	sent    bool   // or else it waits for a packet that is late
}

// NewRewriter makes a stream of the given SSRC and clock rate in Hz whose first
// packet is numbered seq. It keeps as many of the newest numbers, a power of two: what
// is further behind comes too late, and is not sent again. RFC 3711 section 3.3.1: seq
// below 2^15 keeps a first packet that is lost from confusing the receiver's rollover
// counter.
func NewRewriter(ssrc, rate uint32, seq uint16, keep int) Rewriter {
	return Rewriter{ssrc: ssrc, rate: rate, seq: seq&0x7fff - 1, spent: make([]spent, keep)}
}

// Hold says that packets are being left out: the next one follows the last one
// sent, with no gap for a receiver to complain about.
func (r *Rewriter) Hold() { r.held = r.bound }

// Forget says that the packets to come are of another publisher's Ring: what was sent
// so far is not sent again.
func (r *Rewriter) Forget() {
	r.bound, r.held = false, false
	clear(r.spent)
}

// place is where a number is kept.
func (r *Rewriter) place(seq uint16) *spent { return &r.spent[int(seq)&(len(r.spent)-1)] }

// Forward fills h with the outgoing header of p, which is packet in the publisher's
// Ring; its Extensions are left alone. It reports false for a packet that must not be
// sent: a duplicate, or one too old.
func (r *Rewriter) Forward(p *Packet, packet uint32, at time.Time, h *rtp.Header) bool {
	step := int(int16(p.Seq - r.newest))
	switch {
	case !r.bound || p.SSRC != r.source || step > maxJump || step < -maxJump:
		r.anchor(p, at)
	case step <= 0:
		seq, ok := r.late(p.Seq)
		if !ok {
			return false
		}
		r.send(p, packet, seq, h)
		return true
	case r.held:
		r.held = false
		r.seq++
	default:
		r.skip(step - 1)
		r.seq++
	}
	r.newest = p.Seq
	if behind := uint16(len(r.spent) - 1); r.seq-r.first > behind {
		r.first = r.seq - behind
	}
	*r.place(r.seq) = spent{in: p.Seq, tsDelta: r.tsDelta}
	r.send(p, packet, r.seq, h)
	r.ts, r.at, r.sent = h.Timestamp, at, true
	return true
}

// anchor begins a source: its timestamps are laid where the stream's own clock is.
func (r *Rewriter) anchor(p *Packet, at time.Time) {
	if r.sent {
		passed := max(1, ticks(at.Sub(r.at), r.rate))
		r.tsDelta = r.ts + passed - p.Timestamp
	}
	r.source, r.bound, r.held = p.SSRC, true, false
	r.seq++
	r.first = r.seq
}

// skip leaves numbers for packets that are lost, or late.
func (r *Rewriter) skip(n int) {
	for i := max(0, n-len(r.spent)); i < n; i++ {
		*r.place(r.seq + uint16(i) + 1) = spent{in: r.newest + uint16(i) + 1, tsDelta: r.tsDelta}
	}
	r.seq += uint16(n)
}

// late finds the number that was left for a packet of the source: not before the one that
// it would have if none was ever left out.
func (r *Rewriter) late(in uint16) (seq uint16, ok bool) {
	behind := min(int(r.newest-in), int(r.seq-r.first), len(r.spent)-1)
	for seq = r.seq - uint16(behind); ; seq++ {
		s := r.place(seq)
		if s.in == in {
			return seq, !s.sent
		}
		if seq == r.seq || int16(s.in-in) > 0 {
			return 0, false
		}
	}
}

func (r *Rewriter) send(p *Packet, packet uint32, seq uint16, h *rtp.Header) {
	s := r.place(seq)
	s.packet, s.sent = packet, true
	r.header(p, s, seq, h)
	r.packets++
	r.octets += uint32(len(p.Payload))
}

func (r *Rewriter) header(p *Packet, s *spent, seq uint16, h *rtp.Header) {
	h.Version, h.Padding, h.PaddingSize = 2, false, 0
	h.Marker, h.PayloadType = p.Marker, p.PayloadType
	h.SequenceNumber, h.Timestamp, h.SSRC = seq, p.Timestamp+s.tsDelta, r.ssrc
}

// Source gives the place in the publisher's Ring of the packet that was sent as seq, while it
// can still be sent again: what a subscriber's NACK means.
func (r *Rewriter) Source(seq uint16) (packet uint32, ok bool) {
	if int(r.seq-seq) >= len(r.spent) {
		return 0, false
	}
	s := r.place(seq)
	return s.packet, s.sent
}

// Again fills h as Forward did for the packet that was sent as seq. It reports false when p
// is not that one.
func (r *Rewriter) Again(p *Packet, seq uint16, h *rtp.Header) bool {
	s := r.place(seq)
	if _, ok := r.Source(seq); !ok || s.in != p.Seq {
		return false
	}
	r.header(p, s, seq, h)
	return true
}

// Timestamp maps a timestamp of the source with that SSRC into this stream's, for
// sender reports; ok is false while the stream carries another source or nothing.
func (r *Rewriter) Timestamp(source, ts uint32) (uint32, bool) {
	return ts + r.tsDelta, r.bound && r.source == source
}

// Sent returns the counts of a sender report (RFC 3550 section 6.4.1): packets and
// payload bytes, without retransmissions.
func (r *Rewriter) Sent() (packets, octets uint32) { return r.packets, r.octets }

// ticks converts a duration to timestamp units; a negative one is 0.
func ticks(d time.Duration, rate uint32) uint32 {
	return uint32(uint64(max(0, d).Seconds() * float64(rate)))
}
