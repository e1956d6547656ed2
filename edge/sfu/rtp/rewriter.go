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
// Whatever else of a packet is changed on its way must follow from its Origin alone;
// what cannot, such as a forwarded extension, is for streams that send nothing again.
//
// A packet that is left out on purpose (Leave) takes no number. One that is lost may be of
// those or not, so a number is left for it; should it come late and be left out after all,
// an empty packet takes that number, and the subscriber asks for nothing.
type Rewriter struct {
	ssrc uint32
	rate uint32 // Hz

	now     run
	before  [4]run // late packets of them still find their numbers; the last is first
	bound   bool
	held    bool
	turned  bool
	align   uint32 // the next source's timestamps are ahead of the present one's by so much
	aligned bool   // or else that is not known
	tsDelta uint32

	seq  uint16 // newest that was spent, or left for one that is late
	top  uint16 // newest that was spent
	ts   uint32
	past uint32 // newest timestamp, of what was left out too: nothing that begins is before it
	at   time.Time
	sent bool
	// spent has the newest numbers, each in its place.
	spent []spent

	packets, octets uint32
}

// run is what one source has of the numbers: those from first to last, in which the source's
// own grow with them.
type run struct {
	source      uint32 // SSRC
	newest      uint16 // of the source's own
	first, last uint16
}

// Origin is where a packet that was sent can be had again, and what was written into it.
type Origin struct {
	Packet  uint32 // as the publisher's Ring has it
	Layer   uint8  // whose Ring that is
	Base    uint8  // for package layer
	Picture uint16 // for package layer
	Empty   bool   // sent without the payload
	Marker  bool   // sent with the marker, whatever the packet has
}

// spent is what became of one number.
type spent struct {
	origin  Origin
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
	seq = seq&0x7fff - 1
	return Rewriter{ssrc: ssrc, rate: rate, seq: seq, top: seq, spent: make([]spent, keep)}
}

// Hold says that packets are being left out: the next one follows the last one
// sent, with no gap for a receiver to complain about.
func (r *Rewriter) Hold() { r.held = r.bound }

// Turn says that the next packet to be forwarded begins a source, or begins anew with the one
// that there is: it follows the last one sent, whatever its own number. Where known is true
// its timestamps are ahead of the present source's by so much at the same instant.
func (r *Rewriter) Turn(ahead uint32, known bool) {
	r.turned, r.align, r.aligned = true, ahead, known
}

// Forget says that the packets to come are of another publisher's Ring: what was sent
// so far is not sent again.
func (r *Rewriter) Forget() {
	r.bound, r.held, r.turned, r.before = false, false, false, [4]run{}
	clear(r.spent)
}

// place is where a number is kept.
func (r *Rewriter) place(seq uint16) *spent { return &r.spent[int(seq)&(len(r.spent)-1)] }

// Forward fills h with the outgoing header of p, which can be had again as o says; its
// Extensions are left alone. It reports false for a packet that must not be sent: a
// duplicate, or one too old.
func (r *Rewriter) Forward(p *Packet, o Origin, at time.Time, h *rtp.Header) bool {
	step := int(int16(p.Seq - r.now.newest))
	if !r.turned && (p.SSRC != r.now.source || step <= 0) {
		if sent, passed := r.passed(p, o, h); sent || passed {
			return sent
		}
	}
	switch {
	case !r.bound || r.turned || p.SSRC != r.now.source || r.far(step):
		r.anchor(p, at)
	case step <= 0:
		return r.late(&r.now, p, o, h)
	case r.held:
		r.held = false
		r.seq++
	default:
		r.skip(step - 1)
		r.seq++
	}
	r.now.newest = p.Seq
	r.keep()
	*r.place(r.seq) = spent{in: p.Seq, tsDelta: r.tsDelta}
	r.send(p, o, r.seq, h)
	r.top, r.ts, r.past, r.at, r.sent = r.seq, h.Timestamp, h.Timestamp, at, true
	return true
}

// Late is Forward for a packet that must not begin a source: it is sent if a number was left
// for it.
func (r *Rewriter) Late(p *Packet, o Origin, h *rtp.Header) bool {
	if sent, passed := r.passed(p, o, h); sent || passed {
		return sent
	}
	step := int(int16(p.Seq - r.now.newest))
	return r.bound && !r.turned && p.SSRC == r.now.source && step <= 0 && step >= -maxJump && r.late(&r.now, p, o, h)
}

// Leave says that p is left out on purpose. It reports true, with h filled, for one that comes
// late and has a number: an empty packet must be sent with it.
func (r *Rewriter) Leave(p *Packet, o Origin, h *rtp.Header) (empty bool) {
	o.Empty = true
	if r.Late(p, o, h) {
		return true
	}
	if !r.bound || r.turned || p.SSRC != r.now.source {
		return false
	}
	switch step := int(int16(p.Seq - r.now.newest)); {
	case r.far(step):
		r.Turn(0, false)
	case step <= 0:
	case r.held:
		r.now.newest = p.Seq
	default:
		r.skip(step - 1)
		r.now.newest, r.past = p.Seq, p.Timestamp+r.tsDelta
		r.keep()
	}
	return false
}

// passed sends a packet that is late, and of a run before the present one. It reports passed
// where that is another source's, if sent or not.
func (r *Rewriter) passed(p *Packet, o Origin, h *rtp.Header) (sent, passed bool) {
	for i := range r.before {
		of := &r.before[i]
		if step := int16(p.Seq - of.newest); *of == (run{}) || p.SSRC != of.source || step > 0 || step < -maxJump {
			continue
		}
		if passed = p.SSRC != r.now.source; r.late(of, p, o, h) {
			return true, passed
		}
	}
	return false, passed
}

// far tells whether a step of the source is no loss: it began anew, or so many were lost among
// those that were left out that their numbers would lead too far.
func (r *Rewriter) far(step int) bool {
	return step < -maxJump || int(r.seq-r.top)+step > maxJump
}

// anchor begins a source: its timestamps are laid where the stream's own clock is.
func (r *Rewriter) anchor(p *Packet, at time.Time) {
	same := r.bound && p.SSRC == r.now.source
	if r.sent {
		next := r.ts + max(1, ticks(at.Sub(r.at), r.rate)) // by arrival
		if r.bound && r.turned && (r.aligned || same) {
			ahead := r.align
			if same {
				ahead = 0
			}
			// A report that is a second off is wrong, or a lie.
			if exact := p.Timestamp + r.tsDelta - ahead; uint32(int32(exact-next)+int32(r.rate)) <= 2*r.rate {
				next = exact
			}
		}
		if int32(next-r.past) < 1 {
			next = r.past + 1
		}
		r.tsDelta = next - p.Timestamp
	}
	if r.bound {
		copy(r.before[1:], r.before[:])
		r.before[0] = r.now
	}
	r.bound, r.held, r.turned = true, false, false
	r.seq++
	r.now = run{source: p.SSRC, first: r.seq}
}

// skip leaves numbers for packets that are lost, or late.
func (r *Rewriter) skip(n int) {
	for i := max(0, n-len(r.spent)); i < n; i++ {
		*r.place(r.seq + uint16(i) + 1) = spent{in: r.now.newest + uint16(i) + 1, tsDelta: r.tsDelta}
	}
	r.seq += uint16(n)
}

// keep moves what is looked for along with what is kept.
func (r *Rewriter) keep() {
	r.now.last = r.seq
	behind := uint16(len(r.spent) - 1)
	if r.seq-r.now.first > behind {
		r.now.first = r.seq - behind
	}
	for i := range r.before {
		if of := &r.before[i]; *of != (run{}) && r.seq-of.first > behind {
			if of.first = r.seq - behind; int16(of.last-of.first) < 0 {
				*of = run{}
			}
		}
	}
}

// late sends a packet with the number that was left for it.
func (r *Rewriter) late(of *run, p *Packet, o Origin, h *rtp.Header) bool {
	behind := of.newest - p.Seq
	for seq := of.last; ; seq-- {
		s := r.place(seq)
		switch d := of.newest - s.in; {
		case d == behind && !s.sent:
			r.send(p, o, seq, h)
			return true
		case d >= behind || seq == of.first:
			return false
		}
	}
}

func (r *Rewriter) send(p *Packet, o Origin, seq uint16, h *rtp.Header) {
	s := r.place(seq)
	s.origin, s.sent = o, true
	r.header(p, s, seq, h)
	r.packets++
	if !o.Empty {
		r.octets += uint32(len(p.Payload))
	}
}

func (r *Rewriter) header(p *Packet, s *spent, seq uint16, h *rtp.Header) {
	h.Version, h.Padding, h.PaddingSize = 2, false, 0
	h.Marker, h.PayloadType = (p.Marker || s.origin.Marker) && !s.origin.Empty, p.PayloadType
	h.SequenceNumber, h.Timestamp, h.SSRC = seq, p.Timestamp+s.tsDelta, r.ssrc
}

// Source tells where the packet that was sent as seq can be had, while it can still be sent
// again: what a subscriber's NACK means.
func (r *Rewriter) Source(seq uint16) (o Origin, ok bool) {
	if int(r.seq-seq) >= len(r.spent) {
		return Origin{}, false
	}
	s := r.place(seq)
	return s.origin, s.sent
}

// Again fills h as Forward or Leave did for the packet that was sent as seq. It reports false
// when p is not that one.
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
	return ts + r.tsDelta, r.bound && r.now.source == source
}

// Newest is the last number that was spent.
func (r *Rewriter) Newest() uint16 { return r.top }

// Sent returns the counts of a sender report (RFC 3550 section 6.4.1): packets and
// payload bytes, without retransmissions.
func (r *Rewriter) Sent() (packets, octets uint32) { return r.packets, r.octets }

// ticks converts a duration to timestamp units; a negative one is 0.
func ticks(d time.Duration, rate uint32) uint32 {
	return uint32(uint64(max(0, d).Seconds() * float64(rate)))
}
