package sfu

import (
	"time"

	"bailiwick/edge/sfu/allot"
	"bailiwick/edge/sfu/ladder"
	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/signal"
)

const (
	// downlink is what a participant is thought able to receive who says nothing of what
	// arrives, in bit/s; and the most that one video without simulcast is let take.
	downlink = 2_500_000
	// voice is kept for audio at least, in bit/s: silence costs little, and ends without notice.
	voice = 60_000
	// A video without simulcast is paused where not even the least is left for it, in bit/s: its
	// sender is told what there is. With less than plain it shows.
	leastVideo = 100_000
	plainVideo = 300_000
	// patient is how long a layer that is wanted may take to come before it is not counted on.
	patient = 3 * time.Second
	// A connection that carries so much less than it is sent does not wait for a keyframe of less.
	floodOver, floodUnder = 3, 2 // 1.5
	// stage is the width that all videos together are thought to have, in pixels, where nothing is
	// said of it (signal.View); beside a screen that somebody shares a face has strip.
	stage, strip = 1920, 480
	// A screen without layers of its own is let take so many times what a face beside it is.
	large = 4
)

// roles are those of allot, by their names.
var roles = map[string]allot.Role{"patient": allot.Patient, "clinician": allot.Clinician}

// allocation divides what one connection carries among the videos that it shows. It is guarded by
// room.mu.
type allocation struct {
	allot.Allocator
	lines  []*line
	videos []allot.Video
	offers []choices
	given  []int
	to     []place
}

// allocateLocked sets which layers each line gets, of what the connection carries now; audio
// gets what it needs first. It is called whenever that, the room or a publisher's layers may
// have changed.
func (x *Session) allocateLocked(now time.Time) {
	if x.stopped || x.who.media != x {
		return
	}
	a := &x.allocation
	audio := a.listLocked(x, now)
	target := int(x.rate.Load())
	if target == 0 {
		target = downlink
	}
	x.slimLocked(target, now)
	x.doubleLocked(now)
	a.given = a.Allot(target, audio, a.videos, now, a.given[:0])
	want := a.Want(audio, a.videos)
	rest, spare, parts := target-audio, target-audio, 0
	a.to = a.to[:0]
	sends := audio
	for i, l := range a.lines {
		if v := &a.videos[i]; v.Current != allot.None {
			sends += v.Layers[v.Current].Bitrate
		}
		to := a.placeOf(i, x.room.step)
		a.to = append(a.to, to)
		if a.given[i] >= 0 {
			spare -= a.videos[i].Layers[a.given[i]].Bitrate
		}
		switch {
		case to.spatial < 0:
		case l.src.Load().bends():
			parts += l.parts()
		case a.given[i] >= 0:
			rest -= a.videos[i].Layers[a.given[i]].Bitrate
		}
	}
	for i, l := range a.lines {
		t, to, share := l.src.Load(), a.to[i], 0
		if to.spatial >= 0 && t.bends() {
			part := rest * l.parts() / parts
			share = min(max(part, leastVideo), ceilings[x.room.step])
			if rate := t.rate(); rate > share/2 && share < ceilings[x.room.step] { // its sender is held back
				want = max(want, target-part+min(2*share, downlink))
			}
		}
		l.capLocked(share)
		l.judgeLocked(a, i, to)
		hurry := sends*floodUnder > target*floodOver
		l.moveLocked(to, hurry, now)
		l.barLocked(to, spare, hurry, now)
	}
	x.want.Store(int64(want))
}

// placeOf is where line i goes. A video of which nothing comes stays as it was, for when something
// does; one of which nothing ever came is shown until it is known how much that is.
func (a *allocation) placeOf(i int, step ladder.Step) place {
	c, at := &a.offers[i], a.lines[i].at
	switch given := a.given[i]; {
	case given >= 0:
		return c.at[given]
	case len(c.layers) > 0 || step == ladder.Audio:
		return nowhere
	case at.spatial < 0 && c.top == nowhere:
		return place{0, temporals - 1}
	}
	return at
}

// listLocked lists the videos that the session is to be shown and what there is of each, and
// returns what audio needs, in bit/s.
func (a *allocation) listLocked(x *Session, now time.Time) (audio int) {
	a.lines, a.videos = a.lines[:0], a.videos[:0]
	for _, l := range x.neg.lines {
		switch t := l.src.Load(); {
		case t == nil:
		case !l.on:
			l.share, l.quality = 0, quality{signal.VideoOff, signal.CauseChosen}
		case l.kind == Audio:
			audio += t.rate()
		default:
			a.lines = append(a.lines, l)
		}
	}
	columns, screens := 1, false
	for _, l := range a.lines {
		screens = screens || l.kind == Screen
	}
	for columns*columns < len(a.lines) {
		columns++
	}
	for len(a.offers) < len(a.lines) {
		a.offers = append(a.offers, choices{})
	}
	for i, l := range a.lines {
		c := &a.offers[i]
		l.src.Load().offer(c, now)
		capped(x.room.step, x.room.profile, c)
		v := allot.Video{ID: l.who.id, Layers: c.layers, Wanted: stage / columns, Role: roles[l.who.role],
			Profile: x.room.profile, Current: c.index(l.at)}
		switch {
		case l.kind == Screen:
			v.ID, v.Wanted, v.Role, v.Profile, v.Claim = l.who.id+" screen", stage, allot.Screen, allot.Detail, l.claim(ceilings[x.room.step])
		case screens:
			v.Wanted = min(v.Wanted, strip)
		}
		if w, said := x.who.width(l.who, l.kind); said {
			v.Wanted = w
		}
		a.videos = append(a.videos, v)
	}
	return max(audio, voice)
}

// rate is what comes of a track that has no layers, in bit/s.
func (t *track) rate() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.takesLocked(place{0, temporals - 1})
}

// bends tells whether the track's sender sends as much as it is told: it has no layers, and has not
// shown otherwise.
func (t *track) bends() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bendsLocked()
}

func (t *track) bendsLocked() bool { return !t.deaf && !t.layered.Load() }

// obey notes whether the sender of a video without layers stays within what it was told, in bit/s:
// some do not listen, and what they send counts as it is.
func (t *track) obey(told int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch f := &t.flows[0]; {
	case told == 0 || t.layered.Load():
	case !f.comes(now) || f.latest <= told*3/2:
		t.over = time.Time{}
		t.deaf = t.deaf && told > leastVideo
	case t.over.IsZero():
		t.over = now
	case now.Sub(t.over) >= patient:
		t.deaf = true
	}
}

// barLocked keeps the line from layers that would take more than the one it is to carry, and more
// than is spare, in bit/s: by their names they are the lower ones, but it is what comes that counts. The one
// that it carries may stay until the other should have begun, unless the path loses it already: the
// picture stands then until the other's keyframe.
func (l *line) barLocked(to place, spare int, hurry bool, now time.Time) {
	t := l.src.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	current, large := l.layers.Current(), t.above(to, max(spare, 0))
	switch {
	case !large.has(current):
		l.over = time.Time{}
	case hurry:
		l.over = now.Add(-patient)
	case l.over.IsZero():
		l.over = now
	}
	if current >= 0 && now.Sub(l.over) < patient {
		large &^= 1 << current
	}
	l.layers.Bar(uint8(large))
}

// above are the layers of which up to the same temporal layer takes more than that place and so
// much more.
func (t *track) above(to place, spare int) (large mask) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if to.spatial < 0 || !t.flows[to.spatial].known() || t.stacked.Load() {
		return 0
	}
	most := t.takesLocked(to)*5/4 + spare
	for of := range t.flows {
		if of != to.spatial && t.flows[of].upTo(to.temporal) > most {
			large |= 1 << of
		}
	}
	return large
}

// moveLocked has the line carry up to that layer: in a hurry it is asked for at once.
func (l *line) moveLocked(to place, hurry bool, now time.Time) {
	if to == l.at && !l.fresh {
		return
	}
	was := l.at
	if l.fresh {
		was = nowhere
	}
	l.at, l.fresh = to, false
	l.mu.Lock()
	l.layers.Want(to.spatial, to.temporal)
	l.mu.Unlock()
	if to.spatial == was.spatial {
		return
	}
	if to.spatial >= 0 && (was.spatial < 0 || hurry) {
		l.src.Load().wantKeyframe(to.spatial)
	}
	l.who.media.demandLocked(now)
}

// capLocked sets what a video without simulcast may take on this line, in bit/s; 0 is that this
// line has no say in it.
func (l *line) capLocked(share int) {
	was := l.share
	l.share = share
	if told := l.who.media.pub.tracks[l.kind].ceiling.Load(); share != was && share > 0 && int64(share) < told*4/5 {
		l.who.media.kick() // or else the next report is early enough
	}
}

// ceilingLocked is what a video may take at most, in bit/s: what each of those can receive who are
// shown it. Of one with layers everybody has their own.
func (t *track) ceilingLocked() int {
	if t.layered.Load() {
		return 0
	}
	most := 0
	for _, l := range t.fanout() {
		if l.share > 0 && (most == 0 || l.share < most) {
			most = l.share
		}
	}
	if most == 0 {
		if len(t.fanout()) > 0 {
			return leastVideo // so that somebody can be shown it again
		}
		return downlink
	}
	return most
}

// mask is a set of simulcast layers.
type mask uint8

const every = mask(1<<layer.Layers - 1)

func (m mask) has(of int) bool { return of >= 0 && m>>of&1 != 0 }
