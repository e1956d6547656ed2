package sfu

import (
	"slices"
	"time"

	"bailiwick/edge/sfu/allot"
	"bailiwick/edge/sfu/ladder"
)

// choices are what one video can be received in, by ascending bitrate.
type choices struct {
	layers []allot.Layer
	at     []place // of each
	top    place   // that the publisher has had
	lacks  bool    // some of what it has had
	capped bool    // some of what there is
}

// place is up to which layer and temporal layer a video is received. Negative is not
// at all.
type place struct{ spatial, temporal int }

var nowhere = place{-1, -1}

// index is that of the best choice which is not above a place.
func (c *choices) index(to place) int {
	for i := len(c.at) - 1; i >= 0; i-- {
		if c.at[i].spatial <= to.spatial && c.at[i].temporal <= to.temporal {
			return i
		}
	}
	return allot.None
}

// add puts one choice where its bitrate belongs.
func (c *choices) add(l allot.Layer, at place) {
	i := len(c.layers)
	for i > 0 && c.layers[i-1].Bitrate > l.Bitrate {
		i--
	}
	c.layers, c.at = slices.Insert(c.layers, i, l), slices.Insert(c.at, i, at)
}

// offer lists what a video can be received in now. A layer that its sender was told to pause
// counts as if it came, with what it took last.
func (t *track) offer(c *choices, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.layers, c.at, c.top, c.lacks, c.capped = c.layers[:0], c.at[:0], nowhere, false, false
	fps := 0
	for of := range t.flows {
		if f := &t.flows[of]; f.comes(now) || fps == 0 {
			fps = max(fps, f.fps)
		}
	}
	for of := range t.flows {
		f := &t.flows[of]
		if !f.known() {
			continue
		}
		c.top = place{of, max(c.top.temporal, f.top)}
		if !f.comes(now) && t.asks.has(of) && now.Sub(t.since[of]) > patient {
			c.lacks = true
			continue
		}
		l := allot.Layer{}
		l.Width, l.Height = t.sizeLocked(of)
		for temporal := range f.top + 1 {
			l.Bitrate, l.FPS = t.takesLocked(place{of, temporal}), float64(fps)/float64(int(1)<<(f.top-temporal))
			if t.bendsLocked() { // its sender can send less of all
				l.Bitrate = min(l.Bitrate, leastVideo)
			}
			c.add(l, place{of, temporal})
		}
	}
}

// capped leaves of the choices what a step of the ladder leaves of the video; but for Audio that
// is something.
func capped(step ladder.Step, profile allot.Profile, c *choices) {
	out := func(at place) bool {
		high := at.spatial == c.top.spatial && at.spatial > 0
		fluent := at.temporal == c.top.temporal && at.temporal > 0 && profile != allot.Sign
		switch step {
		case ladder.Spatial:
			return high
		case ladder.Temporal:
			return fluent
		case ladder.Both:
			return high || fluent
		case ladder.Audio:
			return true
		}
		return false
	}
	n := 0
	for i, at := range c.at {
		if !out(at) {
			c.layers[n], c.at[n] = c.layers[i], at
			n++
		}
	}
	if n == 0 && step != ladder.Audio {
		n = min(1, len(c.at))
	}
	c.capped = n < len(c.at)
	c.layers, c.at = c.layers[:n], c.at[:n]
}
