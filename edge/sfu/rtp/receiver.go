package rtp

import (
	"time"

	"github.com/pion/rtcp"
)

// Receiver keeps the statistics of one received source for its reception reports
// (RFC 3550 section 6.4.1, appendices A.1, A.3 and A.8). Packets are authenticated
// already, so a source needs no probation.
type Receiver struct {
	rate uint32 // Hz
	ssrc uint32

	started  bool
	base     uint32 // extended
	newest   uint32 // extended
	received uint32
	seen     seen

	expectedBefore, receivedBefore uint32

	epoch   time.Time
	transit int32
	jitter  float64 // timestamp units

	sr   uint64 // NTP time of the last sender report
	srTS uint32
	srAt time.Time
}

// NewReceiver begins with the source ssrc, whose clock runs at rate Hz.
func NewReceiver(ssrc, rate uint32) Receiver { return Receiver{ssrc: ssrc, rate: rate} }

// SSRC is the source.
func (r *Receiver) SSRC() uint32 { return r.ssrc }

// Started tells whether a packet came.
func (r *Receiver) Started() bool { return r.started }

// Receive counts one packet. fresh is false for a duplicate or one too old to be
// told from a duplicate; anew is true when the source began again with other
// sequence numbers.
func (r *Receiver) Receive(p *Packet, at time.Time) (fresh, anew bool) {
	step := int(int16(p.Seq - uint16(r.newest)))
	switch {
	case !r.started:
		r.restart(p, at)
	case step > maxJump || step < -maxJump:
		r.restart(p, at)
		return true, true
	case step <= -window:
		return false, false
	case !r.seen.add(uint16(r.newest), p.Seq, step):
		return false, false
	default:
		if step > 0 {
			r.newest += uint32(step)
		}
		r.received++
	}
	transit := int32(ticks(at.Sub(r.epoch), r.rate) - p.Timestamp)
	if r.received > 1 {
		d := float64(transit - r.transit)
		r.jitter += (max(d, -d) - r.jitter) / 16
	}
	r.transit = transit
	return true, false
}

func (r *Receiver) restart(p *Packet, at time.Time) {
	*r = Receiver{rate: r.rate, ssrc: r.ssrc, sr: r.sr, srTS: r.srTS, srAt: r.srAt, started: true, epoch: at, received: 1,
		base: uint32(p.Seq), newest: uint32(p.Seq), transit: -int32(p.Timestamp)}
	r.seen.add(p.Seq, p.Seq, 0)
}

// SenderReport takes the source's own report.
func (r *Receiver) SenderReport(ntp uint64, ts uint32, at time.Time) {
	r.sr, r.srTS, r.srAt = ntp, ts, at
}

// Clock gives the source's wall clock (NTP format) and the timestamp of the same
// instant, both carried on to now from its last sender report; ok is false before
// the first.
func (r *Receiver) Clock(now time.Time) (ntp uint64, ts uint32, ok bool) {
	if r.srAt.IsZero() {
		return 0, 0, false
	}
	passed := max(0, now.Sub(r.srAt))
	whole := uint64(passed / time.Second)
	part := uint64(passed%time.Second) << 32 / uint64(time.Second)
	return r.sr + whole<<32 + part, r.srTS + ticks(passed, r.rate), true
}

// Report makes the next reception report; ok is false before the first packet.
func (r *Receiver) Report(now time.Time) (rep rtcp.ReceptionReport, ok bool) {
	if !r.started {
		return rep, false
	}
	expected := r.newest - r.base + 1
	rep.SSRC, rep.LastSequenceNumber, rep.Jitter = r.ssrc, r.newest, uint32(r.jitter)
	if expected > r.received { // late ones can make it negative; 24 bits
		rep.TotalLost = min(expected-r.received, 1<<23-1)
	}
	want, got := expected-r.expectedBefore, r.received-r.receivedBefore
	r.expectedBefore, r.receivedBefore = expected, r.received
	if want > got {
		rep.FractionLost = uint8(min((want-got)<<8/want, 255))
	}
	if !r.srAt.IsZero() {
		rep.LastSenderReport = uint32(r.sr >> 16)
		rep.Delay = uint32(now.Sub(r.srAt).Seconds() * 65536)
	}
	return rep, true
}
