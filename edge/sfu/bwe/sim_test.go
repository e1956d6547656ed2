package bwe

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/sfu/allot"
)

// A link that has one queue, which is full at limit octets: a token bucket of burst octets and
// rate bit/s. What passes takes delay, a part of it is lost at random.
type link struct {
	rate   func(t time.Duration) float64 // bit/s
	limit  int
	burst  int
	delay  time.Duration
	jitter time.Duration // uniform, and order is kept
	loss   float64
	longer time.Duration // from then on the path takes 60 ms more

	last   time.Duration // when the newest will have left the queue
	in     time.Duration // when the newest arrives
	queued []queued
	rand   *rand.Rand
}

type queued struct {
	leaves time.Duration
	size   int
}

func (l *link) send(t time.Duration, size int) (arrives time.Duration, ok bool) {
	waiting := 0
	for len(l.queued) > 0 && l.queued[0].leaves <= t {
		l.queued = l.queued[1:]
	}
	for _, q := range l.queued {
		waiting += q.size
	}
	if waiting+size > l.limit {
		return 0, false
	}
	rate := l.rate(max(t, l.last))
	begins := max(t-time.Duration(float64(l.burst*8)/rate*1e9), l.last)
	l.last = begins + time.Duration(float64(size*8)/rate*1e9)
	leaves := max(t, l.last)
	l.queued = append(l.queued, queued{leaves, size})
	if l.rand.Float64() < l.loss {
		return 0, false
	}
	arrives = leaves + l.delay
	if l.longer > 0 && t >= l.longer {
		arrives += 60 * time.Millisecond
	}
	if l.jitter > 0 {
		arrives += time.Duration(l.rand.Int64N(int64(l.jitter)))
	}
	l.in = max(l.in, arrives)
	return l.in, true
}

// estimating is what is compared.
type estimating interface {
	Sent(seq uint16, size int, at time.Time)
	Feedback(report []byte, now time.Time)
	Target() int
	Padding(want int, now time.Time) int
}

// scenario is one subscriber behind one link: audio always, video at what the target leaves.
type scenario struct {
	name    string
	link    link
	seed    uint64
	length  time.Duration
	start   int
	ceiling int
	video   int           // most bit/s of video that there is to send
	layers  []int         // bit/s that video can have; nil: any
	paced   bool          // packets of a frame are spread, as senders do; otherwise they come at once
	camera  []allot.Layer // what package allot chooses of, each 100 ms; nil: it is not asked
	bare    bool          // no padding is sent
	every   time.Duration // of padding's clock, 5 ms
	beside  int           // octets of another's packet in the same queue each 20 ms
	check   func(t *testing.T, sc *scenario, r *result)
}

const (
	audioSize  = 100 // octets, with IP and UDP: 40 kbit/s
	audioEvery = 20 * time.Millisecond
	audioRate  = audioSize * 8 * 50
	fps        = 25
	floor      = 30_000
)

type sample struct {
	at     time.Duration
	target int
	link   int
	layer  int           // of the camera
	delay  time.Duration // longest that audio took in the queue since the last sample
}

type result struct {
	samples   []sample
	decreases int
	delivered int // octets
}

// mean of the target over [from, to).
func (r *result) mean(from, to time.Duration) int {
	sum, n := 0, 0
	for _, s := range r.samples {
		if s.at >= from && s.at < to {
			sum, n = sum+s.target, n+1
		}
	}
	return sum / max(1, n)
}

func (r *result) least(from, to time.Duration) int {
	v := 1 << 40
	for _, s := range r.samples {
		if s.at >= from && s.at < to {
			v = min(v, s.target)
		}
	}
	return v
}

func (r *result) most(from, to time.Duration) (v int) {
	for _, s := range r.samples {
		if s.at >= from && s.at < to {
			v = max(v, s.target)
		}
	}
	return v
}

func (r *result) delay(from, to time.Duration) (v time.Duration) {
	for _, s := range r.samples {
		if s.at >= from && s.at < to {
			v = max(v, s.delay)
		}
	}
	return v
}

// until is how long after from the target first satisfies is; -1: never.
func (r *result) until(from time.Duration, is func(s sample) bool) time.Duration {
	for _, s := range r.samples {
		if s.at >= from && is(s) {
			return s.at - from
		}
	}
	return -1
}

type delivery struct {
	at       time.Duration
	seq      uint16
	numbered bool
}

// run plays the scenario. step is told each instant before it happens.
func (sc scenario) run(e estimating, start time.Time, step func(now time.Time)) *result {
	l := sc.link
	l.rand = rand.New(rand.NewPCG(sc.seed, 9))
	r := &result{}
	var seq uint16
	var arrivals Arrivals
	var coming []delivery
	var feedback [][]byte
	var feedbackAt []time.Duration
	var video []int // sizes of packets of the frame that are not sent yet
	var pending []*rtcp.TransportLayerCC
	var worst time.Duration
	send := func(t time.Duration, size int, audio bool) {
		e.Sent(seq, size, start.Add(t))
		if at, ok := l.send(t, size); ok {
			coming = append(coming, delivery{at, seq, true})
			r.delivered += size
			if audio {
				worst = max(worst, at-t-l.delay)
			}
		}
		seq++
	}
	var allocator allot.Allocator
	videos := []allot.Video{{ID: "a", Layers: sc.camera, Wanted: 1280, Current: allot.None}}
	every := max(sc.every, 5*time.Millisecond)
	before := e.Target()
	for t := time.Duration(0); t < sc.length; t += time.Millisecond {
		now := start.Add(t)
		if step != nil {
			step(now)
		}
		for len(coming) > 0 && coming[0].at <= t {
			arrivals.Arrived(coming[0].seq, start.Add(coming[0].at))
			coming = coming[1:]
		}
		if t%(100*time.Millisecond) == 0 {
			pending = arrivals.Feedback(1, 2, pending[:0])
			for _, f := range pending {
				if l.rand.Float64() < l.loss {
					continue
				}
				b, err := f.Marshal()
				if err != nil {
					panic(err)
				}
				feedback, feedbackAt = append(feedback, b), append(feedbackAt, t+l.delay)
			}
			if sc.camera != nil {
				videos[0].Current = allocator.Allot(e.Target(), audioRate, videos, now, nil)[0]
			}
			r.samples = append(r.samples, sample{t, e.Target(), int(l.rate(t)), videos[0].Current, worst})
			worst = 0
		}
		for len(feedback) > 0 && feedbackAt[0] <= t {
			e.Feedback(feedback[0], now)
			feedback, feedbackAt = feedback[1:], feedbackAt[1:]
			if after := e.Target(); after < before {
				r.decreases++
			}
			before = e.Target()
		}
		if t%audioEvery == 0 {
			send(t, audioSize, true)
			if sc.beside > 0 {
				l.send(t, sc.beside)
			}
		}
		rate := min(e.Target()-audioRate, sc.video)
		if sc.layers != nil {
			fits := 0
			for _, layer := range sc.layers {
				if layer <= rate {
					fits = layer
				}
			}
			rate = fits
		}
		if sc.camera != nil {
			rate = 0
			if n := videos[0].Current; n != allot.None {
				rate = sc.camera[n].Bitrate
			}
		}
		if t%(time.Second/fps) == 0 && rate > 20_000 {
			frame := float64(rate) / 8 / fps * (0.7 + 0.6*l.rand.Float64())
			for ; frame > 0; frame -= 1160 {
				video = append(video, min(int(frame), 1160)+40)
			}
		}
		for n := 0; len(video) > 0 && (!sc.paced || n == 0); n++ {
			send(t, video[0], false)
			video = video[1:]
		}
		if !sc.bare && t%every == 0 {
			want := audioRate + sc.video
			if sc.layers != nil {
				for i := len(sc.layers) - 1; i >= 0 && sc.layers[i] > rate; i-- {
					want = audioRate + sc.layers[i]
				}
				if want <= e.Target() {
					want = 0
				}
			}
			if sc.camera != nil {
				want = allocator.Want(audioRate, videos)
			}
			for due := e.Padding(want, now); due >= 50; due -= 1200 {
				send(t, min(due, 1200), false)
			}
		}
	}
	return r
}

func constant(rate float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return rate }
}

func steps(rate float64, then ...float64) func(time.Duration) float64 {
	return func(t time.Duration) float64 {
		r := rate
		for i := 0; i+1 < len(then); i += 2 {
			if t.Seconds() >= then[i] {
				r = then[i+1]
			}
		}
		return r
	}
}
