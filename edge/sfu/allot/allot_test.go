package allot

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var start = time.Unix(1_000_000, 0)

func at(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }

// camera is simulcast of three sizes, each in two frame rates.
var camera = []Layer{
	{60_000, 320, 180, 15}, {90_000, 320, 180, 30},
	{180_000, 640, 360, 15}, {280_000, 640, 360, 30},
	{600_000, 1280, 720, 15}, {900_000, 1280, 720, 30},
}

func video(id string, edit func(*Video)) Video {
	v := Video{ID: id, Layers: camera, Wanted: 1280, Current: None}
	if edit != nil {
		edit(&v)
	}
	return v
}

func TestAllot(t *testing.T) {
	const audio = 40_000
	small := func(v *Video) { v.Wanted = 300 }
	screen := func(claim int) func(*Video) {
		return func(v *Video) {
			v.Role, v.Profile, v.Layers, v.Claim = Screen, Detail, []Layer{{100_000, 1920, 1080, 10}}, claim
		}
	}
	current := func(n int) func(*Video) { return func(v *Video) { v.Current = n } }
	rows := []struct {
		name   string
		target int
		videos []Video
		want   []int
	}{
		{"audio alone fits", 90_000, []Video{video("a", nil)}, []int{None}},
		{"audio does not fit", 10_000, []Video{video("a", nil)}, []int{None}},
		{"the lowest layer", 100_000, []Video{video("a", nil)}, []int{0}},
		{"all that it can show", 2_000_000, []Video{video("a", nil)}, []int{5}},
		{"no more than its size has a use for", 2_000_000, []Video{video("a", small)}, []int{1}},
		{"a size between two", 2_000_000, []Video{video("a", func(v *Video) { v.Wanted = 400 })}, []int{3}},
		{"larger than all", 2_000_000, []Video{video("a", func(v *Video) { v.Wanted = 4000 })}, []int{5}},
		{"hidden", 2_000_000, []Video{video("a", func(v *Video) { v.Wanted = 0 })}, []int{None}},
		{"no layers", 2_000_000, []Video{video("a", func(v *Video) { v.Layers = nil })}, []int{None}},
		{"an upgrade needs headroom", 350_000, []Video{video("a", current(1))}, []int{1}},
		{"what is there needs none", 320_000, []Video{video("a", current(3))}, []int{3}},
		{"a downgrade", 319_000, []Video{video("a", current(3))}, []int{1}},
		{"each has its lowest before one has more", 170_000, []Video{video("a", current(3)), video("b", small)}, []int{0, 0}},
		{"the larger is upgraded", 500_000, []Video{video("a", small), video("b", nil)}, []int{1, 3}},
		{"the clinician is upgraded", 500_000, []Video{video("a", nil), video("b", func(v *Video) { v.Role = Clinician })}, []int{1, 3}},
		{"a step that fits, where one that serves more does not", 190_000,
			[]Video{video("a", func(v *Video) { v.Layers = camera[2:]; v.Role = Clinician }), video("b", nil)}, []int{None, 1}},
		{"sign language is the last to pause", 100_000,
			[]Video{video("a", func(v *Video) { v.Role = Clinician }), video("b", func(v *Video) { v.Profile = Sign; v.Wanted = 100; v.Layers = camera[:2] })}, []int{0, None}},
		{"sign language is the first to have any", 130_000,
			[]Video{video("a", func(v *Video) { v.Role = Clinician }), video("b", func(v *Video) { v.Profile = Sign; v.Wanted = 100 })}, []int{None, 1}},
		{"sign language that is fast only when too wide", 2_000_000, []Video{video("a", func(v *Video) {
			v.Profile, v.Wanted, v.Layers = Sign, 300, []Layer{camera[0], camera[5]}
		})}, []int{0}},
		{"what a screen claims comes before upgrades", 800_000, []Video{video("a", current(5)), video("s", screen(600_000))}, []int{1, 0}},
		{"and leaves the rest", 1_000_000, []Video{video("a", current(3)), video("s", screen(600_000))}, []int{3, 0}},
		{"one that stands still leaves nearly all", 1_300_000, []Video{video("a", nil), video("s", screen(10_000))}, []int{5, 0}},
		{"one that claims more than there is has all", 400_000, []Video{video("a", current(3)), video("s", screen(3_000_000))}, []int{0, 0}},
		{"faces pause before a screen", 150_000, []Video{video("a", func(v *Video) { v.Role = Clinician }), video("s", screen(600_000))}, []int{None, 0}},
		{"current is of other layers", 320_000, []Video{video("a", current(17))}, []int{1}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var a Allocator
			if got := a.Allot(r.target, audio, r.videos, start, nil); !slices.Equal(got, r.want) {
				t.Errorf("got %v, want %v", got, r.want)
			}
		})
	}
}

// What each profile sheds, from all to nothing.
func TestProfiles(t *testing.T) {
	rows := []struct {
		profile Profile
		want    []int
	}{
		{Face, []int{5, 3, 1, 0, None}},
		{Detail, []int{5, 4, 3, 2, 1, 0, None}},
		{Sign, []int{5, 3, 1, None}},
	}
	for _, r := range rows {
		var a Allocator
		v := video("a", func(v *Video) { v.Profile = r.profile; v.Current = 5 })
		var got []int
		for target := 1_000_000; target >= 0; target -= 10_000 {
			if v.Current = a.Allot(target, 0, []Video{v}, start, nil)[0]; len(got) == 0 || got[len(got)-1] != v.Current {
				got = append(got, v.Current)
			}
		}
		if !slices.Equal(got, r.want) {
			t.Errorf("profile %d sheds %v, want %v", r.profile, got, r.want)
		}
	}
	slow := video("a", func(v *Video) { v.Profile = Sign; v.Layers = []Layer{{60_000, 320, 180, 15}} })
	var a Allocator
	if got := a.Allot(1_000_000, 0, []Video{slow}, start, nil); got[0] != 0 {
		t.Errorf("sign language that is only to be had slowly: %v", got)
	}
}

// step runs one call and takes its choices for current.
func step(a *Allocator, target int, videos []Video, now time.Time) {
	for i, c := range a.Allot(target, 40_000, videos, now, nil) {
		videos[i].Current = c
	}
}

func TestUpgradesBackOff(t *testing.T) {
	var a Allocator
	videos := []Video{video("a", nil)}
	ups := []float64{}
	for s := 0.0; s < 600; s += 0.1 {
		target := 150_000
		if videos[0].Current <= 1 {
			target = 400_000 // an estimate that is too high until it is used
		}
		was := videos[0].Current
		step(&a, target, videos, at(s))
		if videos[0].Current > was {
			ups = append(ups, s)
		}
	}
	if len(ups) < 8 || len(ups) > 16 {
		t.Errorf("%d upgrades in ten minutes: %v", len(ups), ups)
	}
	for i := 2; i+1 < len(ups); i++ {
		if ups[i+1]-ups[i] < ups[i]-ups[i-1]-1 && ups[i]-ups[i-1] < 60 {
			t.Errorf("upgrades at %v", ups)
			break
		}
	}
	// One that lasts is forgiven.
	step(&a, 400_000, videos, at(700))
	step(&a, 400_000, videos, at(710))
	step(&a, 150_000, videos, at(720))
	step(&a, 400_000, videos, at(721))
	low := videos[0].Current
	step(&a, 400_000, videos, at(722.1))
	if high := videos[0].Current; low != 1 || high != 3 {
		t.Errorf("layer %d a second after a downgrade, %d after two", low, high)
	}
}

// An estimate that falls in steps is one fall: it is back as soon as after one step.
func TestOneFall(t *testing.T) {
	var a Allocator
	videos := []Video{video("a", nil)}
	step(&a, 2_000_000, videos, at(0))
	for i, target := range []int{900_000, 500_000, 300_000, 200_000, 150_000, 100_000, 60_000} {
		step(&a, target, videos, at(5+float64(i)/10))
	}
	if videos[0].Current != None {
		t.Fatalf("layer %d", videos[0].Current)
	}
	if step(&a, 2_000_000, videos, at(7)); videos[0].Current != None {
		t.Errorf("layer %d at once", videos[0].Current)
	}
	if step(&a, 2_000_000, videos, at(7.7)); videos[0].Current != 5 {
		t.Errorf("layer %d after two seconds", videos[0].Current)
	}
}

// A path that carries far more than when its last upgrades failed is another: what was learnt of the
// poor one does not hold it back.
func TestAnotherPath(t *testing.T) {
	var a Allocator
	videos := []Video{video("a", nil)}
	now := 0.0
	for range 5 { // upgrades that do not last
		step(&a, 190_000, videos, at(now))
		step(&a, 60_000, videos, at(now+1))
		now += 70
	}
	if step(&a, 270_000, videos, at(now-68)); videos[0].Current != None {
		t.Errorf("layer %d at not quite half more", videos[0].Current)
	}
	if step(&a, 900_000, videos, at(now-68)); videos[0].Current < 3 {
		t.Errorf("layer %d of the better path", videos[0].Current)
	}
}

// Who was hidden, or smaller, is shown in full at once.
func TestShownAgain(t *testing.T) {
	var a Allocator
	videos := []Video{video("a", nil)}
	for i, wanted := range []int{1280, 0, 1280, 300, 1280} {
		videos[0].Wanted = wanted
		step(&a, 2_000_000, videos, at(float64(i)/10))
	}
	if videos[0].Current != 5 {
		t.Errorf("layer %d", videos[0].Current)
	}
}

// An estimate that wavers about a step does not make the picture waver.
func TestWaveringTarget(t *testing.T) {
	var a Allocator
	videos := []Video{video("a", nil)}
	r := rand.New(rand.NewPCG(1, 2))
	changes := 0
	for s := 0.0; s < 600; s += 0.1 {
		was := videos[0].Current
		step(&a, 320_000+r.IntN(40_000)-25_000, videos, at(s)) // 280 kbit/s and audio need 320
		if videos[0].Current != was {
			changes++
		}
	}
	if changes != 1 {
		t.Errorf("%d changes", changes)
	}
}

func scene(r *rand.Rand) []Video {
	var videos []Video
	for i := range 1 + r.IntN(6) {
		videos = append(videos, video(fmt.Sprint(i), func(v *Video) {
			v.Wanted, v.Role, v.Profile = r.IntN(5)*400, Role(r.IntN(3)), Profile(r.IntN(3))
			v.Layers = slices.Clone(camera[r.IntN(3):])
			for i := range v.Layers {
				v.Layers[i].Bitrate += r.IntN(20_000)
			}
			v.Current = r.IntN(len(v.Layers)+1) - 1
		}))
	}
	return videos
}

// Whatever is shown and wanted: never more than the target, the same every time, and with a
// target that stays nothing changes any more once each could have been upgraded.
func TestConstantTargetSettles(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 3))
		var a, b Allocator
		videos := scene(r)
		var last []int
		target := 0
		for n := range 400 {
			switch {
			case n < 100 && n%10 == 0:
				target = r.IntN(4_000_000) // restless at first
			case n == 100:
				videos[r.IntN(len(videos))].Wanted = 1280
			}
			got := a.Allot(target, 40_000, videos, at(float64(n)), nil)
			if again := b.Allot(target, 40_000, videos, at(float64(n)), nil); !slices.Equal(got, again) {
				t.Fatalf("seed %d: %v, then %v", seed, got, again)
			}
			sum := 40_000
			for i, c := range got {
				if c != None {
					sum += videos[i].Layers[c].Bitrate
				}
				videos[i].Current = c
			}
			if sum > max(target, 40_000) {
				t.Fatalf("seed %d: %d bit/s of %d", seed, sum, target)
			}
			if n > 100+70 && !slices.Equal(got, last) {
				t.Fatalf("seed %d: at %d s %v became %v with %d bit/s: %+v", seed, n, last, got, target, videos)
			}
			last = got
		}
		if want := a.Want(40_000, videos); want > 0 {
			for i, c := range a.Allot(want, 40_000, videos, at(10_000), nil) {
				videos[i].Current = c
			}
			if more := a.Want(40_000, videos); more != 0 {
				t.Fatalf("seed %d: with the %d bit/s that were wanted, %d are", seed, want, more)
			}
		}
	}
}

func TestWhoLeavesIsForgotten(t *testing.T) {
	var a Allocator
	videos := []Video{video("a", nil), video("b", nil), video("c", nil)}
	step(&a, 1_000_000, videos, start)
	step(&a, 1_000_000, videos[2:], start)
	if len(a.history) != 1 || a.history[0].id != "c" {
		t.Errorf("%d are remembered", len(a.history))
	}
}

func TestAllotAllocatesNothing(t *testing.T) {
	var a Allocator
	var dst []int
	videos := []Video{video("a", nil), video("b", nil), video("c", nil)}
	now := start
	round := func() {
		now = now.Add(time.Second)
		dst = a.Allot(1_500_000, 40_000, videos, now, dst[:0])
		a.Want(40_000, videos)
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
