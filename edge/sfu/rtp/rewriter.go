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
// move forward, by less than maxJump at a time, whatever a publisher sends;
// packets from before an anchor are dropped; a number is sent again only by Again,
// which makes the same bytes. Forwarded extensions are the one part that Again
// cannot repeat, so a stream has either extensions or retransmission.
type Rewriter struct {
	ssrc uint32
	rate uint32 // Hz

	source   uint32 // SSRC of the current source
	bound    bool
	held     bool
	floor    uint16 // oldest source number that may still be sent
	newest   uint16 // newest source number sent
	seen     seen
	seqDelta uint16
	tsDelta  uint32

	seq  uint16 // newest sent
	ts   uint32
	at   time.Time
	sent bool

	packets, octets uint32
}

// NewRewriter makes a stream of the given SSRC and clock rate in Hz whose first
// packet is numbered seq. RFC 3711 section 3.3.1: seq below 2^15 keeps a first
// packet that is lost from confusing the receiver's rollover counter.
func NewRewriter(ssrc, rate uint32, seq uint16) Rewriter {
	return Rewriter{ssrc: ssrc, rate: rate, seq: seq&0x7fff - 1}
}

// Hold says that packets are being left out: the next one follows the last one
// sent, with no gap for a receiver to complain about.
func (r *Rewriter) Hold() { r.held = r.bound }

// Forward fills h with the outgoing header of p; its Extensions are left alone. It
// reports false for a packet that must not be sent: a duplicate, or one too old.
func (r *Rewriter) Forward(p *Packet, at time.Time, h *rtp.Header) bool {
	step := int(int16(p.Seq - r.newest))
	switch {
	case !r.bound || p.SSRC != r.source || step > maxJump || step < -maxJump:
		r.anchor(p, at)
	case r.held:
		if step <= 0 {
			return false // from before the pause
		}
		r.renumber(p)
	case int16(p.Seq-r.floor) < 0:
		return false
	case !r.seen.add(r.newest, p.Seq, step):
		return false
	}
	if int16(p.Seq-r.newest) > 0 {
		r.newest = p.Seq
		if int16(r.newest-r.floor) >= window {
			r.floor = r.newest - window + 1
		}
	}
	r.header(p, h)
	if int16(h.SequenceNumber-r.seq) > 0 || !r.sent {
		r.seq, r.ts, r.at, r.sent = h.SequenceNumber, h.Timestamp, at, true
	}
	r.packets++
	r.octets += uint32(len(p.Payload))
	return true
}

// anchor begins a source: its timestamps are laid where the stream's own clock is.
func (r *Rewriter) anchor(p *Packet, at time.Time) {
	if r.sent {
		passed := max(1, ticks(at.Sub(r.at), r.rate))
		r.tsDelta = r.ts + passed - p.Timestamp
	}
	r.source, r.bound = p.SSRC, true
	r.renumber(p)
}

func (r *Rewriter) renumber(p *Packet) {
	r.held = false
	r.seqDelta = r.seq + 1 - p.Seq
	r.floor, r.newest = p.Seq, p.Seq
	r.seen.reset()
	r.seen.add(p.Seq, p.Seq, 0)
}

func (r *Rewriter) header(p *Packet, h *rtp.Header) {
	h.Version, h.Padding, h.PaddingSize = 2, false, 0
	h.Marker, h.PayloadType = p.Marker, p.PayloadType
	h.SequenceNumber, h.Timestamp, h.SSRC = p.Seq+r.seqDelta, p.Timestamp+r.tsDelta, r.ssrc
}

// Source gives the source's number of a packet that was sent as out, while it can
// still be sent again: what a subscriber's NACK means to the publisher's ring.
func (r *Rewriter) Source(out uint16) (seq uint16, ok bool) {
	seq = out - r.seqDelta
	if !r.bound || r.held || int16(seq-r.floor) < 0 || int16(r.newest-seq) < 0 {
		return 0, false
	}
	return seq, r.seen.bits[seq%window/64]&(1<<(seq%64)) != 0
}

// Again fills h as Forward did for the same packet. It reports false when p was
// not sent in this form.
func (r *Rewriter) Again(p *Packet, h *rtp.Header) bool {
	if p.SSRC != r.source {
		return false
	}
	if _, ok := r.Source(p.Seq + r.seqDelta); !ok {
		return false
	}
	r.header(p, h)
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
