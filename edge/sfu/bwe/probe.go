package bwe

import (
	"math"
	"time"
)

const (
	probeFor     = 100 * time.Millisecond
	probeConfirm = 300 * time.Millisecond
	probePackets = 6
	sameBurst    = 2 * time.Millisecond
	probeTick    = 5 * time.Millisecond // what is due at once when a probe begins
	probeWait    = 2 * time.Second      // for its feedback

	// A probe goes to so many times what is known to fit, so that one which does not fit leaves
	// no more than probeFor of queue; half of it near the capacity that over-use has shown.
	probeFactor  = 2
	probeCareful = 1.5

	// As libwebrtc reads a probe: what comes much slower than it was sent has met the limit,
	// and a little less than that is safe. Its second half tells on its own, less surely.
	probeReceived  = 0.6 // of the packets, for a result at all
	probeArrived   = 0.85
	probeSent      = 0.8 // of what was asked for: a coarse clock ends a probe early
	probeSaturated = 0.9
	tailSaturated  = 0.7
	probeSafe      = 0.95

	// probeLate is the delay at which the rest of a probe is not waited for: more than one that
	// did not fit makes.
	probeLate = 250 * time.Millisecond

	// firstProbe is how long after the first feedback: on a slow link the start value alone
	// makes a queue, which has to show.
	firstProbe = 300 * time.Millisecond
	probePause = time.Second // after one that did not fit; doubles up to
	probeRare  = 2500 * time.Millisecond
)

// probe is one short run of packets at a higher rate, media and padding alike, in a chain of
// such. The target is raised at the end of the chain: when the limit was met, or when what is
// wanted has fit twice, the second time for longer. A token bucket lets any short run pass, and
// a target raised too early is a queue.
type probe struct {
	proven float64 // bit/s that fit so far in this chain
	next   time.Duration
	pause  time.Duration

	id      uint8 // of the packets; 0 is none
	open    bool  // packets that are sent belong to it
	waiting bool  // for feedback
	rate    float64
	lasts   time.Duration
	began   time.Duration
	ended   time.Duration

	all, tail stretch
}

// stretch is some consecutive packets, in bursts: a clock that sends each 20 ms makes such, and
// so does a frame.
type stretch struct {
	n, bytes, head int // head is the octets of the first burst
	first, last    time.Duration

	came, cameBytes, before int           // before is the octets that came before the newest burst
	firstOut, newestOut     time.Duration // when the first and the newest burst of which something came were sent
	firstIn, newestIn       time.Duration // and when the first of each came
}

func (p *probe) begin(rate float64, at, lasts time.Duration) {
	id := max(1, p.id+1)
	*p = probe{id: id, open: true, rate: rate, began: at, lasts: lasts, next: p.next, pause: p.pause, proven: p.proven}
}

// due is what is still to be sent now, in octets. It ends the probe when that is done.
func (p *probe) due(at time.Duration) int {
	d := at - p.began
	if d >= p.lasts && p.all.n >= probePackets || d >= 3*p.lasts || d < 0 {
		p.open, p.waiting, p.ended = false, true, at
		return 0
	}
	return max(0, int(p.rate/8*(d+probeTick).Seconds())-p.all.bytes)
}

func (p *probe) sent(size int, at time.Duration) {
	p.all.sent(size, at)
	if at-p.began >= p.lasts/2 {
		p.tail.sent(size, at)
	}
}

func (p *probe) received(size int, sent, arrived time.Duration) {
	p.all.received(size, sent, arrived)
	if sent-p.began >= p.lasts/2 {
		p.tail.received(size, sent, arrived)
	}
}

// result is the rate that the path has carried, in bit/s, where it always loses the part
// inherent; fits is true when it was that of the probe, so that more may fit.
func (p *probe) result(inherent float64) (rate float64, fits, ok bool) {
	sent, came, slower, ok := p.all.rates()
	if !ok {
		return 0, false, false
	}
	if _, late, much, ok := p.tail.rates(); ok && much < tailSaturated {
		return probeSafe * min(came, late), false, true
	}
	if slower < probeSaturated {
		return probeSafe * min(came, sent), false, true
	}
	inherent = min(inherent, 0.5)
	chance := 2 * math.Sqrt(inherent*(1-inherent)/float64(p.all.n)) // what a loss by chance varies by
	if arrived := float64(p.all.cameBytes) / float64(p.all.bytes) / (1 - inherent); arrived < probeArrived-chance {
		return probeSafe * arrived * sent, false, true
	}
	return min(p.rate, sent/probeSent), true, true
}

// failed ends the chain, and waits, longer each time.
func (p *probe) failed(at time.Duration) {
	p.proven = 0
	p.pause = min(max(probePause, 2*p.pause), probeRare)
	p.next = at + p.pause
}

func (s *stretch) sent(size int, at time.Duration) {
	if s.n == 0 {
		s.first = at
	}
	s.n++
	s.bytes += size
	if s.last = at; at-s.first <= sameBurst {
		s.head += size
	}
}

func (s *stretch) received(size int, sent, arrived time.Duration) {
	switch {
	case s.came == 0:
		s.firstOut, s.newestOut, s.firstIn, s.newestIn = sent, sent, arrived, arrived
	case sent > s.newestOut+sameBurst:
		s.newestOut, s.newestIn, s.before = sent, arrived, s.cameBytes
	}
	s.came++
	s.cameBytes += size
}

// rates are those of sending and of arriving, in bit/s; slower is how much slower the bursts came
// than they were sent. Bursts are compared by their first packets, so that the time which one
// takes by itself does not count.
func (s *stretch) rates() (sent, came, slower float64, ok bool) {
	span, out, in := s.last-s.first, s.newestOut-s.firstOut, s.newestIn-s.firstIn
	if s.came < 3 || float64(s.came) < probeReceived*float64(s.n) || span <= 0 || out <= 0 || in <= 0 || in > 5*time.Second {
		return 0, 0, 0, false
	}
	return float64((s.bytes-s.head)*8) / span.Seconds(), float64(s.before*8) / in.Seconds(), out.Seconds() / in.Seconds(), true
}
