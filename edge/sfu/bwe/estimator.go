package bwe

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/pion/rtcp"
)

const (
	// remembered is how many sent packets feedback can speak of: a second at 10 Mbit/s.
	remembered = 1024

	// AIMD rate control, draft-ietf-rmcat-gcc-02 section 5.5.
	beta      = 0.85 // of what arrives, after over-use
	eta       = 1.08 // a second, while the capacity is unknown
	lossBeta  = 0.75 // after loss: deep enough to show whether it follows the rate
	headroom  = 1.5  // over what arrives; a path that was not used has shown nothing
	allowance = 10_000
	least     = 1000 // bit/s of additive increase

	// drain is the time in which a cut shall empty the queue that stands, and drainMost the
	// part of the capacity that is left to media meanwhile. The draft takes 0.85 always, which
	// needs ten seconds for a queue of one and a half.
	drain     = time.Second
	drainMost = 0.3
	drained   = 25 * time.Millisecond
	drainLong = 5 * time.Second // then it is no queue, but a path that has become longer

	// floodLeast packets were sent within a brief time where a path can be flooded.
	floodLeast = 6
	// unmoved is the part of what was sent then that comes at once where the path only stood still.
	unmoved = 0.75

	// limited is the part of the target below which a sender says nothing about the path by
	// what it sends.
	limited = 0.7

	// silence is how long what is sent may stay without any feedback before the rate is halved,
	// in the spirit of RFC 8083 section 4.3. The draft has no rule.
	silence = time.Second
)

// Estimator concludes how many bits a second one connection carries from the feedback on what
// was sent on it (draft-ietf-rmcat-gcc-02, with a trendline filter, another loss-based part, see
// losses, and probes as libwebrtc's). Rates are in bit/s of the sizes that Sent is given: who
// wants IP and UDP headers counted, counts them there.
type Estimator struct {
	floor, ceiling, target float64

	started bool
	epoch   time.Time
	newest  uint16
	history [remembered]packet

	refKnown bool
	ref      int64 // newest reference time, extended, of 64 ms

	sent, acked meter
	media       meter // acked, without probes
	delay       delay
	losses      losses
	probe       probe
	skipped     bool // packets of a probe, which the delay filter does not see
	shown       extreme

	capacity  float64 // mean of what arrived at over-use, 0: unknown
	deviation float64
	cutAt     time.Duration
	fresh     bool // something that was sent after the last cut came
	draining  bool
	flooded   bool    // by the last report
	stalled   float64 // target before the last flood
	offered   float64 // what was sent then, 0: it was none
	restore   float64
	grewAt    time.Duration
	hold      bool          // losses are more than few
	few       time.Duration // when they last were, or were acted upon
	undo, was float64       // target and inherent loss before the last cut for losses

	heard    bool // any feedback
	waits    bool // for feedback on what was sent at waitsAt
	waitsAt  time.Duration
	response time.Duration // from sending to its feedback
	quickest extreme       // of that, negated
}

type packet struct {
	at    time.Duration
	size  int32
	seq   uint16
	state state
	probe uint8
}

type state uint8

const (
	unused state = iota
	flying
	lost
	came
)

// NewEstimator begins with start; the target never leaves floor to ceiling. All in bit/s.
func NewEstimator(start, floor, ceiling int) *Estimator {
	e := &Estimator{floor: float64(floor), ceiling: float64(ceiling), was: 1}
	e.set(float64(start))
	return e
}

// Target is the bitrate to send at most.
func (e *Estimator) Target() int { return int(e.target) }

// Loss is the part of what was sent lately that did not arrive, 0 to 1.
func (e *Estimator) Loss() float64 { return e.losses.recent }

// Inherent is the part of what is sent that the path loses whatever the rate, 0 to 1.
func (e *Estimator) Inherent() float64 { return e.losses.inherent }

// Queue is how long packets stand in the path's queue now, as far as it is known.
func (e *Estimator) Queue() time.Duration { return max(0, e.delay.queue) }

// Trip is the shortest time of late in which feedback on a packet came, which is a little more than
// a round trip; 0 is not known.
func (e *Estimator) Trip() time.Duration {
	return time.Duration(-e.quickest.value() * float64(time.Second))
}

func (e *Estimator) set(rate float64) { e.target = min(max(rate, e.floor), e.ceiling) }

// Sent takes one packet that was sent at, with its transport-wide number and its size in octets.
func (e *Estimator) Sent(seq uint16, size int, at time.Time) {
	if !e.started {
		e.started, e.epoch = true, at
	}
	t := at.Sub(e.epoch)
	e.newest = seq
	p := &e.history[seq%remembered]
	*p = packet{at: t, size: int32(size), seq: seq, state: flying}
	if e.probe.open {
		p.probe = e.probe.id
		e.probe.sent(size, t)
	}
	e.sent.add(t, size)
	if !e.waits {
		e.waits, e.waitsAt = true, t
	} else if t-e.waitsAt > silence {
		e.waitsAt = t
		e.set(e.target / 2)
	}
}

// Padding says how many octets to send now beside the media, in packets that are numbered and
// Sent as all are (padding, or copies by RTX), to find out whether the path carries want bit/s:
// what all that the owner could send now needs, or 0. It is asked each 5 to 20 ms; most of the
// time the answer is 0.
//
// A probe lasts 100 ms and goes to no more than twice what has fit, and when it fits the next
// follows at once: want is reached in a few round trips. One that does not fit is repeated after
// 1 to 2.5 s, so that a path which became faster is found soon.
func (e *Estimator) Padding(want int, now time.Time) int {
	if !e.started {
		return 0
	}
	at := now.Sub(e.epoch)
	p := &e.probe
	if p.open {
		return p.due(at)
	}
	if p.waiting && at-p.ended > probeWait {
		p.waiting = false
		p.failed(at)
	}
	goal := min(float64(want), e.ceiling)
	if goal <= e.target {
		p.proven = 0
		return 0
	}
	if p.waiting || at < p.next || !e.heard || e.delay.usage == overuse || e.draining {
		return 0
	}
	switch {
	case p.proven >= goal:
		p.begin(p.proven, at, probeConfirm)
	case p.proven == 0 && e.capacity > 0:
		p.begin(min(probeCareful*e.target, e.beyond(goal)), at, probeFor)
	default:
		p.begin(min(probeFactor*max(p.proven, e.target), e.beyond(goal)), at, probeFor)
	}
	return p.due(at)
}

// beyond is the rate of a probe that shows goal.
func (e *Estimator) beyond(goal float64) float64 { return max(1.1*goal, 1.25*e.target) }

// Feedback takes one report from the peer, an RTCP packet of FMT 15 (section 3.1 of the draft on
// transport-wide congestion control), which came now. One that is cut short counts as far as it
// goes.
func (e *Estimator) Feedback(report []byte, now time.Time) {
	const fixed = 20
	if !e.started || len(report) < fixed {
		return
	}
	if report[0]&0x20 != 0 { // padding
		report = report[:max(fixed, len(report)-int(report[len(report)-1]))]
	}
	at := now.Sub(e.epoch)
	e.fresh = false
	ref := uint32(report[16])<<16 | uint32(report[17])<<8 | uint32(report[18])
	count := int(binary.BigEndian.Uint16(report[14:]))
	r := reading{e: e, at: at, seq: binary.BigEndian.Uint16(report[12:]), left: count, ticks: e.reference(ref)}
	chunks := report[fixed:]
	n := 0
	for left := count; left > 0 && len(chunks) >= n+2; n += 2 {
		_, of := chunk(chunks[n:]).status(0)
		left -= of
	}
	r.deltas = chunks[n:]
	for chunks = chunks[:n]; len(chunks) > 0; chunks = chunks[2:] {
		c := chunk(chunks)
		symbol, of := c.status(0)
		if c.isRun() {
			r.run(symbol, of)
			continue
		}
		for i := range of {
			symbol, _ = c.status(i)
			r.run(symbol, 1)
		}
	}
	if r.known {
		if !e.heard {
			e.heard, e.probe.next = true, at+firstProbe
		}
		e.waits = false
		e.quickest.add(at, -e.response.Seconds())
		if e.flooded = e.floods(); e.flooded {
			e.delay.usage = overuse
		}
		e.update(at)
	}
}

// chunk begins with the two octets that say what became of some packets.
type chunk []byte

func (c chunk) isRun() bool { return c[0]&0x80 == 0 }

// status is that of the chunk's packet i, of so many.
func (c chunk) status(i int) (symbol uint16, of int) {
	switch v := binary.BigEndian.Uint16(c); v >> 14 {
	case 0, 1:
		return v >> 13 & 3, int(v & 0x1fff)
	case 2:
		return v >> (13 - i) & 1, 14
	default:
		return v >> (12 - 2*i) & 3, 7
	}
}

// reference extends the 24 bits of a report's reference time, and gives it in ticks.
func (e *Estimator) reference(ref uint32) int64 {
	if !e.refKnown {
		e.refKnown, e.ref = true, int64(ref)
	}
	e.ref += int64(int32((ref-uint32(e.ref))<<8) >> 8)
	return e.ref * refTick
}

// reading walks through one report.
type reading struct {
	e      *Estimator
	at     time.Duration
	seq    uint16
	left   int
	ticks  int64
	deltas []byte
	known  bool // it spoke of something that was sent
}

// run takes n packets of one status.
func (r *reading) run(symbol uint16, n int) {
	n = min(n, r.left)
	r.left -= n
	switch symbol {
	case rtcp.TypeTCCPacketReceivedSmallDelta, rtcp.TypeTCCPacketReceivedLargeDelta:
		octets := int(symbol)
		for ; n > 0; n-- {
			if len(r.deltas) < octets {
				r.left = 0
				return
			}
			if octets == 1 {
				r.ticks += int64(r.deltas[0])
			} else {
				r.ticks += int64(int16(binary.BigEndian.Uint16(r.deltas)))
			}
			r.deltas = r.deltas[octets:]
			r.received()
			r.seq++
		}
	case rtcp.TypeTCCPacketNotReceived:
		// Two octets can speak of 8,191 packets: only what is remembered is looked up.
		if before := r.e.newest - (remembered - 1) - r.seq; before < 1<<15 {
			skip := min(n, int(before))
			n, r.seq = n-skip, r.seq+uint16(skip)
		}
		end := r.seq + uint16(n)
		for n = min(n, remembered); n > 0; n-- {
			r.lost()
			r.seq++
		}
		r.seq = end
	default: // received, and not said when
		r.seq += uint16(n)
	}
}

func (r *reading) received() {
	e := r.e
	p := &e.history[r.seq%remembered]
	if p.seq != r.seq || p.state != flying && p.state != lost {
		return
	}
	r.known = true
	arrived := time.Duration(r.ticks) * tick
	if p.probe == 0 {
		if p.state == lost {
			e.losses.found(p.at)
		} else {
			e.losses.add(p.at, int(p.size), false)
		}
	}
	p.state = came
	e.fresh = e.fresh || p.at >= e.cutAt
	e.response = r.at - p.at
	e.acked.add(arrived, int(p.size))
	if p.probe == 0 {
		e.media.add(arrived, int(p.size))
		if e.skipped {
			e.skipped = false
			e.delay.forget()
		}
		e.delay.add(p.at, arrived)
		if e.probe.waiting && p.at >= e.probe.ended {
			e.measured(r.at)
		}
		return
	}
	e.skipped = true
	if p.probe == e.probe.id && (e.probe.open || e.probe.waiting) {
		e.probe.received(int(p.size), p.at, arrived)
		switch queue := e.delay.over(arrived - p.at); {
		case queue > probeLate:
			// The path has become slow meanwhile, and the rest will not come soon.
			e.probe.open, e.probe.waiting = false, false
			e.probe.failed(r.at)
			e.delay.usage, e.delay.queue = overuse, queue
		case e.probe.waiting && e.probe.all.came == e.probe.all.n:
			e.measured(r.at)
		}
	}
}

// floods says whether far less arrives than is sent, and what does waited long: a path that has
// become much slower. The filter looks at delays, of which a queue says nothing before it is
// passed; a voice loses most packets of half a second meanwhile.
func (e *Estimator) floods() bool {
	stands := e.response + time.Duration(e.quickest.value()*float64(time.Second))
	sent, n := e.sent.rate(brief)
	came, _ := e.acked.rate(brief)
	if e.draining || stands < queueLong || n < floodLeast || came > sent/2 {
		return false
	}
	e.delay.queue = max(e.delay.queue, stands)
	e.stalled = e.target
	e.offered, _ = e.sent.rate(long)
	return true
}

func (r *reading) lost() {
	p := &r.e.history[r.seq%remembered]
	if p.seq != r.seq || p.state != flying {
		return
	}
	r.known = true
	p.state = lost
	if p.probe == 0 {
		r.e.losses.add(p.at, int(p.size), true)
	}
}

// measured takes the result of the probe.
func (e *Estimator) measured(at time.Duration) {
	p := &e.probe
	p.waiting = false
	rate, fits, ok := p.result(e.losses.inherent)
	if !ok || e.delay.usage == overuse {
		p.failed(at)
		return
	}
	switch {
	case !fits:
		if rate > e.target || rate < limited*e.target { // or the path has become that slow
			e.set(rate)
		}
		e.capacity, e.deviation = rate/probeSafe, rate/20
		p.failed(at)
	case p.lasts == probeConfirm:
		e.shown.add(at, rate)
		e.set(max(e.target, rate))
		e.capacity, p.pause, p.proven = 0, 0, 0
	case rate <= max(p.proven, e.target):
		p.failed(at) // the owner did not send what was asked for
	default:
		p.proven = rate
	}
}

// update draws the conclusions of one report.
func (e *Estimator) update(at time.Duration) {
	rate, _ := e.acked.rate(long)
	e.shown.add(at, rate)
	if came, _ := e.acked.rate(brief); e.draining && e.offered > 0 && came >= unmoved*e.offered {
		// All of it came at once: the path had only stood still.
		e.draining, e.offered, e.capacity = false, 0, 0
		e.delay.forget()
		e.set(max(e.target, e.stalled))
	}
	if e.draining && (e.delay.queue < drained || at-e.cutAt > drainLong) {
		e.draining = false
		e.set(max(e.target, beta*e.restore))
	}
	lossy := e.lossy(at)
	switch {
	case e.delay.usage == overuse:
		e.cut(at)
	case lossy:
		undo, was := max(e.undo, e.target), min(e.was, e.losses.inherent)
		e.cut(at)
		e.undo, e.was, e.hold = undo, was, true // until it has shown what the loss is
	case e.delay.usage == normal && !e.hold && !e.draining:
		e.increase(at)
	}
	e.grewAt = at
}

// lossy says whether losses call for a cut.
func (e *Estimator) lossy(at time.Duration) bool {
	shown := e.shown.value()
	if e.delay.queue > drained {
		shown = 0 // what is lost now can be of the queue
	}
	excess, ok := e.losses.close(shown, e.target)
	if !ok {
		return false
	}
	if e.hold = excess >= lossFew; !e.hold {
		e.few = at
		if e.losses.inherent > e.was+lossFew { // the last cut has shown that it is not the rate
			e.set(max(e.target, e.undo))
		}
		e.undo, e.was = 0, 1
	}
	// Between few and many the rate stays, and not for ever: a cut shows whether it is the cause.
	return excess > lossMany || at-e.few > lossHeld
}

// cut falls below what arrives, far enough that the queue empties.
func (e *Estimator) cut(at time.Duration) {
	steady, _ := e.acked.rate(long)
	rate, part := min(e.acked.recent(), steady), lossBeta
	if e.delay.usage == overuse {
		rate, part = e.acked.recent(), beta
		if e.flooded {
			rate, _ = e.acked.rate(brief)
		}
		rate /= 1 - min(e.losses.inherent, 0.5) // so much must be sent for it
	}
	if q := e.delay.queue; q > drained {
		part = min(part, max(drainMost, 1-q.Seconds()/drain.Seconds()))
	}
	if sent, _ := e.sent.rate(long); sent < limited*e.target && !e.flooded {
		// What arrives is what was sent, not what the path carries: find it step by step, each
		// with a look at what follows.
		if !e.fresh {
			return
		}
		e.set(min(e.target, max(part*rate, e.target/2)))
	} else if next := part * rate; next < e.target {
		e.set(next)
	} else {
		return
	}
	e.cutAt, e.fresh = at, false
	if !e.flooded && !e.draining {
		e.offered = 0
	}
	e.restore, e.draining = rate, e.delay.queue > drained
	e.losses.restart(at)
	e.shown = extreme{}
	e.shown.add(at, min(rate, steady))
	e.few, e.undo, e.was = at, 0, 1
	if e.delay.usage != overuse {
		return
	}
	if e.capacity == 0 || rate < e.capacity-3*e.deviation {
		e.capacity, e.deviation = rate, rate/20
		return
	}
	e.deviation += (math.Abs(rate-e.capacity) - e.deviation) / 20
	e.deviation = min(max(e.deviation, e.capacity/50), e.capacity/8)
	e.capacity += (rate - e.capacity) / 20
}

// increase grows by a factor, or by half a packet a response time near the known capacity, and
// no further than what arrives supports.
func (e *Estimator) increase(at time.Duration) {
	rate, _ := e.media.rate(long)
	passed := min(max(at-e.grewAt, 0), time.Second)
	if rate > e.capacity+3*e.deviation {
		e.capacity = 0
	}
	next := e.target * math.Pow(eta, passed.Seconds())
	if e.capacity > 0 && rate > e.capacity-3*e.deviation {
		response := max(e.response, 0) + 100*time.Millisecond
		frame := e.target / 30
		size := frame / math.Ceil(frame/(1200*8))
		next = e.target + max(least*passed.Seconds(), size/2*passed.Seconds()/response.Seconds())
	}
	e.set(max(e.target, min(next, headroom*rate+allowance)))
}
