package bwe

import "time"

const (
	// burst is the time within which packets are sent, or come, as one group
	// (draft-ietf-rmcat-gcc-02 section 5.2).
	burst = 5 * time.Millisecond

	// The trendline filter, which took the place of the draft's Kalman filter in libwebrtc:
	// a line through the last samples of the smoothed delay.
	trendSamples   = 20
	trendSmoothing = 0.9
	trendGain      = 4
	trendMost      = 60

	// The adaptive threshold and the over-use detector: sections 5.3 and 5.4.
	thresholdStart = 12.5 // ms
	thresholdLeast = 6
	thresholdMost  = 600
	thresholdUp    = 0.0087
	thresholdDown  = 0.039
	thresholdFar   = 15
	overTime       = 10 * time.Millisecond

	// A queue that stands and grows is over-use whatever the trend says: at a large step down the
	// filter needs a second to see it, in which a slow link's queue grows by several.
	queueSome = 15 * time.Millisecond
	queueLong = 80 * time.Millisecond
)

type usage int8

const (
	normal usage = iota
	underuse
	overuse
)

// delay watches the variation of the one-way delay.
type delay struct {
	usage  usage
	queue  time.Duration // that stands: how much longer packets take than the fastest of late
	before time.Duration // queue of the group before
	least  extreme       // of the one-way delay, negated

	some       bool // cur
	pair       bool // prev
	cur, prev  group
	acc        float64 // ms
	smoothed   float64
	n          int // deltas, up to trendMost
	at         [trendSamples]float64
	of         [trendSamples]float64
	filled     int
	slot       int
	trend      float64
	threshold  float64
	overFor    time.Duration
	overSeen   int
	reordered  int
	firstDelta time.Duration
}

type group struct {
	first, sent    time.Duration // when its first and last packets were sent
	began, arrived time.Duration // when its first and last came
	least          time.Duration // one-way delay
}

// forget begins the filter anew, and keeps the threshold and the least delay.
func (d *delay) forget() {
	d.some, d.pair, d.n, d.filled, d.slot, d.acc, d.smoothed, d.trend = false, false, 0, 0, 0, 0, 0, 0
	d.usage, d.overFor, d.overSeen = normal, 0, 0
}

// add takes a packet that came, in the order of sending.
func (d *delay) add(sent, arrived time.Duration) {
	took := arrived - sent
	if !d.some {
		d.some, d.cur = true, group{sent, sent, arrived, arrived, took}
		return
	}
	g := &d.cur
	if sent < g.first {
		return
	}
	gap := arrived - g.arrived
	variation := gap - (sent - g.sent)
	if sent-g.first <= burst || gap <= burst && variation < 0 && arrived-g.began < 20*burst {
		g.sent, g.arrived, g.least = max(g.sent, sent), max(g.arrived, arrived), min(g.least, took)
		return
	}
	d.close()
	d.cur = group{sent, sent, arrived, arrived, took}
}

// over is how much longer than the fastest of late a packet took.
func (d *delay) over(took time.Duration) time.Duration {
	if !d.least.some {
		return 0
	}
	return took + time.Duration(d.least.value()*float64(time.Second))
}

func (d *delay) close() {
	g := d.cur
	d.least.add(g.arrived, -g.least.Seconds())
	d.before, d.queue = d.queue, d.over(g.least)
	if d.pair {
		sent, came := g.sent-d.prev.sent, g.arrived-d.prev.arrived
		if jump := came - sent; jump > 3*time.Second || jump < -3*time.Second {
			d.forget() // a clock was set
			d.least = extreme{}
			d.queue = 0
			return
		}
		if came < 0 {
			if d.reordered++; d.reordered < 3 {
				return
			}
			d.forget()
		} else {
			d.update(came-sent, sent, g.arrived)
		}
		d.reordered = 0
	}
	d.pair, d.prev = true, g
}

func (d *delay) update(variation, sent, arrived time.Duration) {
	if d.n == 0 {
		d.firstDelta = arrived
	}
	d.n = min(d.n+1, trendMost)
	d.acc += ms(variation)
	d.smoothed = trendSmoothing*d.smoothed + (1-trendSmoothing)*d.acc
	d.at[d.slot], d.of[d.slot] = ms(arrived-d.firstDelta), d.smoothed
	d.slot = (d.slot + 1) % trendSamples
	d.filled = min(d.filled+1, trendSamples)
	was := d.trend
	if d.filled == trendSamples {
		d.trend = d.slope() * float64(d.n) * trendGain
	}
	d.detect(was, sent)
}

// slope is the least squares one, in ms of delay a ms.
func (d *delay) slope() float64 {
	var x, y float64
	for i := range trendSamples {
		x += d.at[i]
		y += d.of[i]
	}
	x, y = x/trendSamples, y/trendSamples
	var up, down float64
	for i := range trendSamples {
		up += (d.at[i] - x) * (d.of[i] - y)
		down += (d.at[i] - x) * (d.at[i] - x)
	}
	if down == 0 {
		return 0
	}
	return up / down
}

func (d *delay) detect(was float64, sent time.Duration) {
	if d.threshold == 0 {
		d.threshold = thresholdStart
	}
	rising := d.queue > queueLong && d.before > queueSome && d.queue > d.before+burst
	switch {
	case d.trend > d.threshold:
		if d.overSeen++; d.overSeen == 1 {
			d.overFor = sent / 2
		} else {
			d.overFor += sent
		}
		if d.overFor > overTime && d.overSeen > 1 && d.trend >= was {
			d.usage, d.overFor, d.overSeen = overuse, 0, 0
		}
	case d.trend < -d.threshold:
		d.usage, d.overFor, d.overSeen = underuse, 0, 0
	default:
		d.usage, d.overFor, d.overSeen = normal, 0, 0
	}
	if rising {
		d.usage = overuse
	}
	size := max(d.trend, -d.trend)
	if size > d.threshold+thresholdFar {
		return
	}
	k := thresholdUp
	if size < d.threshold {
		k = thresholdDown
	}
	d.threshold += k * (size - d.threshold) * min(ms(sent), 100)
	d.threshold = min(max(d.threshold, thresholdLeast), thresholdMost)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
