package sfu

import (
	"math"
	"time"

	"bailiwick/edge/sfu/layer"
)

const (
	// temporals bounds the temporal layers that are told apart; what is above counts with the
	// last.
	temporals = 3
	// flowEvery is over how long a flow is measured.
	flowEvery = time.Second
	// dry is when a layer that brings nothing is not counted on any more.
	dry = 2 * time.Second
)

// flow is how much of a layer comes, a second at a time, without what is below it. Of video it tells
// temporal layers apart.
type flow struct {
	began  time.Time // of the second that is counted
	newest time.Time // packet
	ts     uint32
	bytes  [temporals]int
	frames int

	top     int            // temporal layer
	rate    [temporals]int // of it and those below, bit/s on the wire, smoothed; 0: none, or not known yet
	latest  int            // of all, over the last second that was counted
	fps     int            // of all; in fives, as cameras have it
	width   int            // of its keyframes, in pixels; 0: not known
	height  int
	tallest int // the spatial layer of its stream that they are of
}

// add takes one packet of so many bytes.
func (f *flow) add(d *layer.Descriptor, ts uint32, size int, at time.Time) {
	if passed := at.Sub(f.began); passed >= flowEvery {
		if passed < dry {
			f.measure(passed)
		} else {
			f.burst()
		}
		f.began, f.bytes, f.frames = at, [temporals]int{}, 0
	}
	temporal := min(int(d.Temporal), temporals-1)
	f.top = max(f.top, temporal)
	f.bytes[temporal] += size
	if ts != f.ts {
		f.ts = ts
		f.frames++
	}
	if d.Width > 0 {
		f.width, f.height, f.tallest = int(d.Width), int(d.Height), int(d.Tallest)
	}
	f.newest = at
}

func (f *flow) measure(over time.Duration) {
	sum := 0
	for i, n := range f.bytes {
		sum += n
		rate := int(float64(8*sum) / over.Seconds())
		if f.rate[i] > 0 {
			rate = (f.rate[i] + rate) / 2
		}
		f.rate[i] = rate
	}
	f.latest = int(float64(8*sum) / over.Seconds())
	for f.top > 0 && f.bytes[f.top] == 0 {
		f.top--
	}
	f.fps = max(5, 5*int(math.Round(float64(f.frames)/over.Seconds()/5)))
}

// burst takes what came before a silence: of how much less than usual it was that tells nothing.
func (f *flow) burst() {
	sum := 0
	for i, n := range f.bytes {
		sum += n
		f.rate[i] = max(f.rate[i], int(float64(8*sum)/flowEvery.Seconds()))
	}
}

// known tells whether it has been measured.
func (f *flow) known() bool { return f.rate[f.top] > 0 }

// upTo is the rate of a temporal layer and those below.
func (f *flow) upTo(temporal int) int { return f.rate[min(temporal, f.top)] }

// comes tells whether there is something of it now.
func (f *flow) comes(now time.Time) bool { return now.Sub(f.newest) < dry }
