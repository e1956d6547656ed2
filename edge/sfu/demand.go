package sfu

import (
	"time"

	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/signal"
)

// unwatched is how long nobody must have watched a layer before its sender is told to pause it.
const unwatched = 5 * time.Second

// demandLocked tells the client which layers of its video somebody watches: one that is watched
// again at once, and one that is not any more after a while. With any goes the lowest, which is
// there as soon as another fails; but where its path carries no video, none is.
func (x *Session) demandLocked(now time.Time) {
	t := x.pub.tracks[Video]
	if x.stopped || !x.obeys || x.who.media != x || !t.layered.Load() {
		return
	}
	var watched mask
	for _, l := range t.fanout() {
		if l.at.spatial >= 0 {
			if watched |= 1 | 1<<l.at.spatial; t.stacked.Load() {
				watched |= 1<<l.at.spatial - 1 // on which it stands
			}
		}
	}
	t.mu.Lock()
	for of := range layer.Layers {
		if watched.has(of) && !t.asks.has(of) {
			t.since[of] = now
		}
	}
	t.asks |= watched
	switch {
	case t.asks == watched:
		t.idle = time.Time{}
	case t.idle.IsZero():
		t.idle = now
	case now.Sub(t.idle) >= unwatched:
		t.asks, t.idle = watched, time.Time{}
	}
	is := t.asks & x.lets(now)
	t.mu.Unlock()
	if is == x.asks {
		return
	}
	x.asks = is
	m := signal.Layers{Type: signal.TypeLayers, Video: []string{}}
	for of, rid := range rids {
		if is.has(of) {
			m.Video = append(m.Video, rid)
		}
	}
	x.sink(m)
}
