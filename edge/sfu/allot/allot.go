// Package allot divides what a subscriber's connection carries among the videos that it could
// receive. Audio comes first and is never shed. Then each visible video gets its lowest layer,
// screens what they claim, and what is left goes to upgrades, a step at a time, to whom it serves most.
//
// It opens nothing, reads no clock and starts no goroutine: times are arguments. An Allocator is
// not safe for concurrent use. The same calls give the same choices.
package allot

import (
	"cmp"
	"slices"
	"time"
)

// Role is that of the participant who is seen.
type Role uint8

const (
	Other Role = iota
	Patient
	Clinician
	Screen // nobody: what a participant shares
)

// weight is small beside what size on screen makes, so that who is made large is large.
func (r Role) weight() int { return 2 + int(r) }

// Profile says what a video loses first.
type Profile uint8

const (
	Face   Profile = iota // resolution, then frame rate
	Detail                // frame rate, then resolution: what is looked at is still
	Sign                  // resolution; never below signFPS, and of all videos the last to pause
)

// signFPS is the least at which sign language and lips can be read.
const signFPS = 20

// Layer is one encoding that a video can be received in.
type Layer struct {
	Bitrate       int // bit/s, on the wire
	Width, Height int
	FPS           float64
}

// Video is one that the subscriber could receive.
type Video struct {
	ID      string
	Layers  []Layer // by ascending bitrate
	Wanted  int     // width on screen in pixels of the device; 0: hidden
	Role    Role
	Profile Profile
	Current int // index of the layer that is sent now, None if none
	// Claim is what it takes, in bit/s, as far as there is so much, before any video is upgraded:
	// that of a screen, whose sender keeps to what it is left.
	Claim int
}

// None is the choice of no layer.
const None = -1

const (
	// An upgrade needs headroom, so that an estimate which wavers about a step does not take it.
	headroomOver, headroomUnder = 6, 5 // 1.2

	// After a downgrade for lack of bitrate the video waits before it is upgraded; longer, by
	// twice each time, when the upgrade before did not last.
	wait     = 2 * time.Second
	waitMost = 64 * time.Second
	lasting  = 10 * time.Second

	// With so much more bitrate than its last upgrade had a video does not wait: the path is another.
	otherOver, otherUnder = 3, 2 // 1.5
)

// Allocator remembers how one subscriber's upgrades went. Its zero value is ready.
type Allocator struct {
	history []history
	plans   []plan
	order   []int
}

type history struct {
	id     string
	seen   bool      // in this call
	up     time.Time // that it was upgraded; zero: it has fallen since
	with   int       // the target of then
	before time.Time // no upgrade before, unless there is far more than that
	wait   time.Duration
}

// waits says whether the video must not be upgraded yet.
func (h *history) waits(target int, now time.Time) bool {
	return now.Before(h.before) && (h.with == 0 || target*otherUnder < h.with*otherOver)
}

// plan is what one video may receive, and what it is given.
type plan struct {
	ladder []int // indices of layers, each better than the one before
	given  int   // how many steps of it
	stuck  bool  // the next one does not fit
}

// Allot appends to dst the layer for each of the videos, or None, so that with audio, in bit/s,
// they stay within target, in bit/s. Whoever is given less for lack of bitrate is so at once.
func (a *Allocator) Allot(target, audio int, videos []Video, now time.Time, dst []int) []int {
	a.prepare(videos)
	rest, reserve := target-audio, target*headroomUnder/headroomOver-audio
	// take gives the video its next step if that fits.
	take := func(i int) bool {
		v, p := &videos[i], &a.plans[i]
		cost := v.Layers[p.ladder[p.given]].Bitrate
		kept := v.Current >= 0 && v.Current < len(v.Layers) && cost <= v.Layers[v.Current].Bitrate
		fresh := p.given == 0 && a.recall(i, v.ID).before.IsZero() // has never been paused
		if p.given > 0 {
			cost -= v.Layers[p.ladder[p.given-1]].Bitrate
		}
		if p.stuck = cost > rest || !kept && !fresh && (cost > reserve || a.recall(i, v.ID).waits(target, now)); p.stuck {
			return false
		}
		p.given++
		rest, reserve = rest-cost, reserve-cost
		return true
	}
	for _, i := range a.order {
		take(i)
	}
	for i, v := range videos {
		if p := &a.plans[i]; p.given > 0 && v.Claim > 0 {
			more := max(0, min(v.Claim-v.Layers[p.ladder[p.given-1]].Bitrate, rest))
			rest, reserve = rest-more, reserve-more
		}
	}
	for {
		i := a.hungriest(videos)
		if i < 0 {
			break
		}
		take(i)
	}
	for i := range videos {
		dst = append(dst, a.settle(i, &videos[i], target, now))
	}
	a.history = slices.DeleteFunc(a.history, func(h history) bool { return !h.seen })
	for i := range a.history {
		a.history[i].seen = false
	}
	return dst
}

// Want is the target, in bit/s, with which each video would be given the best layer that its size
// on screen has a use for: what a probe of the connection has to show. It is 0 when all have it.
func (a *Allocator) Want(audio int, videos []Video) int {
	a.prepare(videos)
	sum, lacks := audio, false
	for i, v := range videos {
		if p := a.plans[i]; len(p.ladder) > 0 {
			top := p.ladder[len(p.ladder)-1]
			sum += max(v.Layers[top].Bitrate, v.Claim)
			lacks = lacks || v.Current != top
		}
	}
	if !lacks {
		return 0
	}
	return (sum*headroomOver + headroomUnder - 1) / headroomUnder
}

// prepare lays out the plans, and the order of the lowest layers: sign language, then weight and
// size, then as they are listed.
func (a *Allocator) prepare(videos []Video) {
	for len(a.plans) < len(videos) {
		a.plans = append(a.plans, plan{})
	}
	a.order = a.order[:0]
	for i := range videos {
		p := &a.plans[i]
		p.ladder, p.given, p.stuck = ladder(&videos[i], p.ladder[:0]), 0, false
		if len(p.ladder) > 0 {
			a.order = append(a.order, i)
		}
	}
	slices.SortStableFunc(a.order, func(i, j int) int {
		v, w := &videos[i], &videos[j]
		return cmp.Or(cmp.Compare(b2i(w.Profile == Sign), b2i(v.Profile == Sign)),
			cmp.Compare(w.Role.weight()*w.Wanted, v.Role.weight()*v.Wanted))
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ladder appends the layers that the video's profile goes through, none of them wider than its
// size on screen has a use for.
func ladder(v *Video, dst []int) []int {
	if v.Wanted <= 0 {
		return dst
	}
	widest, fluent := 0, false // the narrowest that fills what is wanted, else the widest
	for _, l := range v.Layers {
		if enough := widest >= v.Wanted; !enough && l.Width > widest || enough && l.Width >= v.Wanted && l.Width < widest {
			widest = l.Width
		}
	}
	for _, l := range v.Layers {
		fluent = fluent || l.FPS >= signFPS && l.Width <= widest
	}
	for i, l := range v.Layers {
		if l.Width > widest || v.Profile == Sign && fluent && l.FPS < signFPS {
			continue
		}
		if len(dst) == 0 || better(v.Profile, l, v.Layers[dst[len(dst)-1]]) {
			dst = append(dst, i)
		}
	}
	return dst
}

// better says whether a step to l from than, which costs less, gains what the profile is about.
func better(p Profile, l, than Layer) bool {
	size, rate := cmp.Compare(l.Width*l.Height, than.Width*than.Height), cmp.Compare(l.FPS, than.FPS)
	if p == Detail {
		return cmp.Or(size, rate) > 0
	}
	return cmp.Or(rate, size) > 0
}

// hungriest is the video whose next step serves most: the more it is wanted wider than it is.
func (a *Allocator) hungriest(videos []Video) int {
	best := -1
	for i := range videos {
		p := &a.plans[i]
		if p.stuck || p.given == 0 || p.given == len(p.ladder) {
			continue
		}
		if best < 0 || a.hunger(videos, i) > a.hunger(videos, best) {
			best = i
		}
	}
	return best
}

func (a *Allocator) hunger(videos []Video, i int) float64 {
	v, p := &videos[i], &a.plans[i]
	return float64(v.Role.weight()*v.Wanted) / float64(max(1, v.Layers[p.ladder[p.given-1]].Width))
}

// settle is the choice for one video, and remembers what it says about upgrades.
func (a *Allocator) settle(i int, v *Video, target int, now time.Time) int {
	h, p := a.recall(i, v.ID), &a.plans[i]
	h.seen = true
	was, is := bitrate(v, v.Current), 0
	choice := None
	if p.given > 0 {
		choice = p.ladder[p.given-1]
		is = v.Layers[choice].Bitrate
	}
	lacks := p.given < len(p.ladder) // for the bitrate's sake
	switch {
	case is > was:
		h.up, h.with = now, target
	case is < was && lacks:
		switch {
		case h.wait == 0 || !h.up.IsZero() && now.Sub(h.up) >= lasting:
			h.wait = wait
		case !h.up.IsZero():
			h.wait = min(2*h.wait, waitMost)
		} // else it is the same fall, which goes on
		h.up, h.before = time.Time{}, now.Add(h.wait)
	}
	return choice
}

// recall finds what is remembered of a video, mostly where it is in the list.
func (a *Allocator) recall(hint int, id string) *history {
	if hint < len(a.history) && a.history[hint].id == id {
		return &a.history[hint]
	}
	for i := range a.history {
		if a.history[i].id == id {
			return &a.history[i]
		}
	}
	a.history = append(a.history, history{id: id})
	return &a.history[len(a.history)-1]
}

func bitrate(v *Video, layer int) int {
	if layer < 0 || layer >= len(v.Layers) {
		return 0
	}
	return v.Layers[layer].Bitrate
}
