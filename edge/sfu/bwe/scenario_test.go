package bwe

import (
	"fmt"
	"testing"
	"time"

	"bailiwick/edge/sfu/allot"
)

const far = 25 * time.Millisecond // one way

func secs(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// fall and rise are when the link of the 1 Mbps → 150 kbps → 1 Mbps rows changes.
var (
	fall, rise = secs(20), secs(40)
	updown     = steps(1e6, 20, 150e3, 40, 1e6)
	all        = []int{80e3, 250e3, 800e3}
	camera     = []allot.Layer{{Bitrate: 80e3, Width: 320, Height: 180, FPS: 30}, {Bitrate: 250e3, Width: 640, Height: 360, FPS: 30}, {Bitrate: 700e3, Width: 1280, Height: 720, FPS: 30}}
)

// rich is what a camera of 540 lines gives.
var rich = []allot.Layer{{Bitrate: 140e3, Width: 240, Height: 135, FPS: 15}, {Bitrate: 450e3, Width: 480, Height: 270, FPS: 15}, {Bitrate: 1400e3, Width: 960, Height: 540, FPS: 15}}

var scenarios = []scenario{
	{name: "60 kbps", link: link{rate: constant(60e3), limit: 15_000}, check: within(0.7, 1.1, 300)},
	{name: "60 kbps, 15 % lost", link: link{rate: constant(60e3), limit: 15_000, loss: 0.15}, check: within(0.7, 1.3, 500)},
	{name: "300 kbps", link: link{rate: constant(300e3), limit: 30_000}, check: within(0.8, 1.1, 300)},
	{name: "300 kbps, start at 1 M", link: link{rate: constant(300e3), limit: 30_000}, start: 1e6, check: within(0.8, 1.1, 300)},
	{name: "1 M beside another's audio", link: link{rate: constant(1e6), limit: 60_000}, beside: 100, check: within(0.8, 1.1, 300)},
	{name: "1 M-150 k-1 M", link: link{rate: updown, limit: 40_000}, check: recovers},
	{name: "1 M-150 k-1 M, paced", link: link{rate: updown, limit: 40_000}, paced: true, check: recovers},
	{name: "1 M-150 k-1 M, bucket of 5 kB", link: link{rate: updown, limit: 40_000, burst: 5000}, check: recovers},
	{name: "1 M-150 k-1 M, queue of 8 kB", link: link{rate: updown, limit: 8000}, paced: true, check: recovers},
	{name: "1 M-150 k-1 M, layers", link: link{rate: updown, limit: 40_000}, layers: all, video: 800e3, check: recovers},
	{name: "1 M-150 k-1 M, layers, 20 ms", link: link{rate: updown, limit: 40_000}, layers: all, video: 800e3, every: 20 * time.Millisecond, check: recovers},
	{name: "1 M-150 k-1 M, allotted", link: link{rate: updown, limit: 40_000}, camera: camera, check: returns},
	{name: "1 M-150 k-1 M, allotted, 20 ms", link: link{rate: updown, limit: 40_000}, camera: camera, every: 20 * time.Millisecond, check: returns},
	{name: "300 kbps, allotted", link: link{rate: constant(300e3), limit: 15_000}, camera: camera, check: lowest},
	{name: "15 % lost", link: link{rate: constant(20e6), limit: 200_000, loss: 0.15}, length: secs(120), check: stays(600_000)},
	{name: "15 % lost, no probes", link: link{rate: constant(20e6), limit: 200_000, loss: 0.15}, length: secs(120), bare: true, check: stays(300_000)},
	{name: "policer of 500 k", link: link{rate: constant(500e3), limit: 4000}, paced: true, check: within(0.75, 1.15, 300)},
	{name: "clean LAN", link: link{rate: constant(100e6), limit: 1_000_000, delay: time.Millisecond, jitter: 2 * time.Millisecond}, length: 600 * time.Second, check: still},
	{name: "audio only", link: link{rate: constant(1e6), limit: 60_000, jitter: 2 * time.Millisecond}, video: -1, bare: true, check: still},
	{name: "audio only on 60 kbps", link: link{rate: constant(60e3), limit: 15_000, jitter: 2 * time.Millisecond}, video: -1, bare: true, check: still},
	{name: "path becomes longer", link: link{rate: steps(1e6, 30, 60e3, 30.3, 1e6), limit: 60_000, longer: 30 * time.Second}, length: secs(40), check: reaches(800_000)},
	{name: "a tenth used, one stall", link: link{rate: steps(20e6, 30, 20e3, 30.3, 20e6), limit: 200_000}, video: 200_000, start: 2e6, bare: true, check: resumes(350_000)},
	{name: "20 M-300 k, 0.3 s of queue", link: link{rate: steps(20e6, 20, 300e3), limit: 11_250}, camera: rich, length: secs(40), check: falls(300_000, 300*time.Millisecond)},
	{name: "1 M-150 k, 0.3 s of queue", link: link{rate: steps(1e6, 20, 150e3), limit: 5_625}, camera: rich, length: secs(40), check: falls(150_000, 500*time.Millisecond)},
	{name: "Wi-Fi", link: link{rate: constant(20e6), limit: 200_000, jitter: 30 * time.Millisecond}, check: stays(1_500_000)},
	{name: "a tenth used, Wi-Fi", link: link{rate: constant(20e6), limit: 200_000, jitter: 30 * time.Millisecond}, video: 200_000, start: 2e6, bare: true, check: stays(600_000)},
}

// within checks the second half: the target's mean in parts of the link, and audio's delay in ms.
func within(least, most float64, delay int) func(*testing.T, *scenario, *result) {
	return func(t *testing.T, sc *scenario, r *result) {
		rate := sc.link.rate(0)
		if mean := float64(r.mean(sc.length/2, sc.length)); mean < least*rate || mean > most*rate {
			t.Errorf("mean target %.0f of %.0f bit/s", mean, rate)
		}
		if d := r.delay(sc.length/2, sc.length); d > time.Duration(delay)*time.Millisecond {
			t.Errorf("audio was delayed by %v", d)
		}
	}
}

// recovers checks what the acceptance rows ask for when the link falls and rises again.
func recovers(t *testing.T, sc *scenario, r *result) {
	if d := r.below(); d < 0 || d > 1200*time.Millisecond {
		t.Errorf("below the fallen link after %v", d)
	}
	if d := r.delay(fall+secs(5), rise); d > 600*time.Millisecond {
		t.Errorf("audio was still delayed by %v", d)
	}
	// Two chains of up to four probes take a round trip each.
	if d := r.back(sc); d < 0 || d > secs(5)+16*max(0, sc.link.delay-far) {
		t.Errorf("back at 90 %% after %v", d)
	}
}

// returns checks that the best layer is back as soon, and that below it nothing wavers.
func returns(t *testing.T, sc *scenario, r *result) {
	best := func(s sample) bool { return s.layer == len(sc.camera)-1 }
	if d := r.until(secs(5), best); d != 0 {
		t.Error("not the best layer before the fall")
	}
	if d := r.until(rise, best); d < 0 || d > secs(5)+16*max(0, sc.link.delay-far) {
		t.Errorf("the best layer is back after %v", d)
	}
	changes := 0
	for i, s := range r.samples[1:] {
		if s.layer != r.samples[i].layer {
			changes++
		}
	}
	if changes > 12 {
		t.Errorf("%d changes of layer", changes)
	}
	if d := r.delay(fall+secs(5), rise); d > 600*time.Millisecond {
		t.Errorf("audio was still delayed by %v", d)
	}
}

// lowest checks that video has its lowest layer all the time after the first seconds.
func lowest(t *testing.T, sc *scenario, r *result) {
	for _, s := range r.samples {
		if s.at > secs(10) && s.layer == allot.None {
			t.Errorf("no video at %v", s.at)
			break
		}
	}
	if d := r.delay(secs(10), sc.length); d > 300*time.Millisecond {
		t.Errorf("audio was delayed by %v", d)
	}
}

// stays checks that in the second half the target does not fall below least, and is more on the
// whole.
func stays(least int) func(*testing.T, *scenario, *result) {
	return func(t *testing.T, sc *scenario, r *result) {
		if v := r.mean(sc.length/2, sc.length); v < 3*least/2 {
			t.Errorf("mean target %d", v)
		}
		if v := r.least(sc.length/2, sc.length); v < least {
			t.Errorf("target fell to %d", v)
		}
	}
}

// resumes checks what stays does from a second after the link stood still.
func resumes(least int) func(*testing.T, *scenario, *result) {
	return func(t *testing.T, sc *scenario, r *result) {
		if v := r.mean(secs(31), sc.length); v < 3*least/2 {
			t.Errorf("mean target %d", v)
		}
		if v := r.least(secs(31), sc.length); v < least {
			t.Errorf("target still %d", v)
		}
	}
}

// falls checks that the fallen link is seen before its queue is passed, and that the queue is gone soon.
func falls(to int, within time.Duration) func(*testing.T, *scenario, *result) {
	return func(t *testing.T, sc *scenario, r *result) {
		if d := r.until(fall, func(s sample) bool { return s.target < to }); d < 0 || d > within+2*sc.link.delay {
			t.Errorf("below the fallen link after %v", d)
		}
		if d := r.delay(fall+1300*time.Millisecond+2*sc.link.delay, fall+2*time.Second); d > 200*time.Millisecond {
			t.Errorf("audio was still delayed by %v", d)
		}
	}
}

// reaches checks the last three seconds.
func reaches(least int) func(*testing.T, *scenario, *result) {
	return func(t *testing.T, sc *scenario, r *result) {
		if v := r.mean(sc.length-secs(3), sc.length); v < least {
			t.Errorf("target %d in the end", v)
		}
	}
}

// still checks that the target never falls, and does not grow beyond what was seen to arrive.
func still(t *testing.T, sc *scenario, r *result) {
	if r.decreases > 0 {
		t.Errorf("%d decreases", r.decreases)
	}
	if v := r.most(0, sc.length); sc.video < 0 && v > sc.start {
		t.Errorf("target grew to %d by audio alone", v)
	}
	if v := r.least(secs(10), sc.length); sc.video > 0 && v < sc.ceiling {
		t.Errorf("target %d, not the ceiling", v)
	}
}

func (r *result) below() time.Duration {
	return r.until(fall, func(s sample) bool { return s.target < 150_000 })
}

// back is when the target lets 90 % of the link be used, or all video that there is.
func (r *result) back(sc *scenario) time.Duration {
	return r.until(rise, func(s sample) bool { return s.target >= min(900_000, audioRate+sc.video) })
}

func (sc scenario) filled() scenario {
	if sc.length == 0 {
		sc.length = secs(60)
	}
	if sc.start == 0 {
		sc.start = 300_000
	}
	if sc.camera != nil {
		sc.video = sc.camera[len(sc.camera)-1].Bitrate
	}
	if sc.video == 0 {
		sc.video = 3_000_000
	}
	if sc.link.delay == 0 {
		sc.link.delay = far
	}
	sc.ceiling = 2_500_000
	return sc
}

func (r *result) row(sc scenario) string {
	h := sc.length / 2
	if sc.link.rate(fall) == sc.link.rate(0) {
		return fmt.Sprintf("%5d %5d..%-5d %5d ms %4d", r.mean(h, sc.length)/1000, r.least(h, sc.length)/1000, r.most(h, sc.length)/1000,
			r.delay(h, sc.length).Milliseconds(), r.decreases)
	}
	return fmt.Sprintf("%5d %5d..%-5d %5d ms %4d  below in %4.1f s, back in %4.1f s%s", r.mean(fall+secs(5), rise)/1000, r.least(fall+secs(5), rise)/1000,
		r.most(fall+secs(5), rise)/1000, r.delay(fall+secs(5), rise).Milliseconds(), r.decreases, r.below().Seconds(), r.back(&sc).Seconds(), r.best(sc))
}

func (r *result) best(sc scenario) string {
	if sc.camera == nil {
		return ""
	}
	return fmt.Sprintf(", best layer in %.1f s", r.until(rise, func(s sample) bool { return s.layer == len(sc.camera)-1 }).Seconds())
}

// TestScenarios logs a table: kbit/s of the target, mean and range, audio's worst delay in the
// queue, and how often the target fell; over the second half, or of the rows that fall and rise,
// over what follows five seconds after the fall.
func TestScenarios(t *testing.T) {
	for _, sc := range scenarios {
		sc := sc.filled()
		t.Run(sc.name, func(t *testing.T) {
			ours := sc.run(NewEstimator(sc.start, floor, sc.ceiling), time.Unix(1000, 0), nil)
			t.Logf("%-30s bwe  %s", sc.name, ours.row(sc))
			sc.check(t, &sc, ours)
			if !testing.Short() {
				sc.length = min(sc.length, secs(120))
				t.Logf("%-30s pion %s", sc.name, runPeer(t, sc).row(sc))
			}
		})
	}
}

// TestOtherPaths plays the rows with other delays, intervals of feedback and chances.
func TestOtherPaths(t *testing.T) {
	for _, sc := range scenarios {
		for _, delay := range []time.Duration{5 * time.Millisecond, 60 * time.Millisecond, 120 * time.Millisecond} {
			for seed := range uint64(4) {
				sc := sc.filled()
				sc.length = min(sc.length, secs(120))
				sc.link.delay, sc.seed = delay, seed+1
				t.Run(fmt.Sprintf("%s/%v/%d", sc.name, delay, sc.seed), func(t *testing.T) {
					r := sc.run(NewEstimator(sc.start, floor, sc.ceiling), time.Unix(1000, 0), nil)
					sc.check(t, &sc, r)
					if t.Failed() {
						t.Log(r.row(sc))
					}
				})
			}
		}
	}
}
