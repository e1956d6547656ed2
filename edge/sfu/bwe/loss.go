package bwe

import (
	"math"
	"time"
)

const (
	lossFew  = 0.02 // below it the rate may grow, draft-ietf-rmcat-gcc-02 section 6
	lossMany = 0.10 // above it the rate falls

	lossHeld = 5 * time.Second

	lossBlock   = 500 * time.Millisecond
	lossPackets = 50
	lossPatient = 3 * time.Second // for a block with fewer packets
	lossLeast   = 10

	// wellBelow is the part of what the path has lately delivered, below which loss is not
	// because of the rate.
	wellBelow = 0.9
	farBelow  = 0.6 // for a sender that is limited by itself: its rate varies
)

// losses tells the loss that a rate causes from that which the path always has.
//
// The draft's loss-based part takes all loss for congestion: at a random loss above 10 % it
// falls to the floor, though everything else arrives at once. So loss is read as libwebrtc's
// LossBasedBweV2 models it: of what is sent at S through a capacity C, the path loses an
// inherent part p, and of the rest what is too much, (S-C)/S. A rate that loses is cut to a part
// of what was delivered. What is still lost then, well below what the path has shown it
// delivers and with no queue, is inherent: the cut is undone, and only what exceeds it counts.
type losses struct {
	inherent float64
	smooth   float64 // excess
	recent   float64 // for who asks

	since       time.Duration // what was sent before does not count
	n, lost     int
	bytes       int
	first, last time.Duration
}

func (l *losses) add(sent time.Duration, size int, lost bool) {
	if sent < l.since {
		return
	}
	if l.n == 0 {
		l.first, l.last = sent, sent
	}
	l.first, l.last = min(l.first, sent), max(l.last, sent)
	l.n++
	l.bytes += size
	if lost {
		l.lost++
	}
}

// found takes back what add called lost: it only came late.
func (l *losses) found(sent time.Duration) {
	if sent >= max(l.since, l.first) && l.lost > 0 {
		l.lost--
	}
}

// close ends a block of packets when there are enough. excess is the part of them that the rate
// has surely cost, by this block or by the last few; shown is what the path has lately delivered,
// in bit/s, or 0 while that says nothing.
func (l *losses) close(shown, target float64) (excess float64, ok bool) {
	span := l.last - l.first
	if !(l.n >= lossPackets && span >= lossBlock || l.n >= lossLeast && span >= lossPatient) {
		return 0, false
	}
	loss := float64(l.lost) / float64(l.n)
	rate := float64(l.bytes*8) / span.Seconds()
	below := rate < wellBelow*shown && target < wellBelow*shown || rate < farBelow*shown
	if below || loss < l.inherent-l.noise() {
		l.inherent += (loss - l.inherent) / 2
	}
	known := min(l.inherent, 0.9)
	l.smooth += (1 - (1-loss)/(1-known) - l.smooth) / 4
	excess = max(l.smooth, 1-(1-loss)/(1-min(known+l.noise(), 0.95)), 0)
	l.recent += (loss - l.recent) / 2
	l.n, l.lost, l.bytes = 0, 0, 0
	return excess, true
}

// noise is two standard deviations of what a block of the inherent loss shows.
func (l *losses) noise() float64 {
	return 2 * math.Sqrt(l.inherent*(1-l.inherent)/float64(max(1, l.n)))
}

// restart counts only what is sent from now on.
func (l *losses) restart(at time.Duration) {
	l.since, l.n, l.lost, l.bytes, l.smooth = at, 0, 0, 0, 0
}
