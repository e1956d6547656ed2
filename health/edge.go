package health

import (
	"slices"
	"strings"
	"time"
)

// edge is what is known of one edge. Its state is decided for every instant before
// at; the instant itself stays open, because more observations of it may come.
type edge struct {
	born  time.Time
	at    time.Time
	votes []*vote // by vantage

	state State
	since time.Time
	moved bool      // the votes changed the state at least once
	until time.Time // the minimum time of the state is over
	rose  time.Time // zero before the first rise
	flaps int
}

// vote is one vantage's damped word on one edge.
type vote struct {
	vantage string
	own     bool // it is the edge's own word
	up      bool
	fell    time.Time // since when it is down and was heard to be, again and again
	window  []sample  // oldest first, at most Params.Window
	heard   time.Time
}

type sample struct {
	ok     bool
	at     time.Time
	reason string
}

// hear takes an observation at the edge's open instant.
func (e *edge) hear(p Params, o Observation) {
	i, heard := slices.BinarySearchFunc(e.votes, o.Vantage, func(v *vote, name string) int { return strings.Compare(v.vantage, name) })
	if !heard {
		e.votes = slices.Insert(e.votes, i, &vote{vantage: o.Vantage, up: o.OK})
	}
	v := e.votes[i]
	v.own = o.Own
	v.hear(p, sample{ok: o.OK, at: e.at, reason: o.Reason})
	if e.at.Equal(e.born) {
		// Several vantages may be the first: one that passes is enough.
		e.state = Down
		for _, v := range e.votes {
			if v.last().ok {
				e.state = Up
			}
		}
	}
}

func (v *vote) last() sample { return v.window[len(v.window)-1] }

func (v *vote) hear(p Params, s sample) {
	if s.at.Sub(v.heard) > p.StaleAfter {
		v.window = v.window[:0] // what it saw before its silence says nothing now
		v.fell = s.at
	}
	v.heard = s.at
	if n := len(v.window); n > 0 && s.at.Sub(v.window[n-1].at) < p.Interval/2 {
		v.window[n-1].ok, v.window[n-1].reason = s.ok, s.reason
	} else {
		if n == p.Window {
			v.window = slices.Delete(v.window, 0, 1)
		}
		v.window = append(v.window, s)
	}
	up := v.turn(p)
	if s.ok || v.up && !up {
		v.fell = s.at
	}
	v.up = up
}

// lapsed tells whether it is the word of an edge that has been silent for long: one that
// was heard to be, not one that nobody has heard of since.
func (v *vote) lapsed(p Params) bool {
	return v.own && !v.up && v.heard.Sub(v.fell) >= p.StaleAfter
}

// turn is the vote after the window changed.
func (v *vote) turn(p Params) bool {
	failures, row := 0, 0
	for _, s := range v.window {
		row++
		if !s.ok {
			failures, row = failures+1, 0
		}
	}
	if v.up {
		return failures < p.Fall
	}
	return row >= p.Rise
}

// tally counts the votes at t: those for up, all, and how many are needed; lapsed: the
// edge's own is among them, and has long been down.
func (e *edge) tally(r *Reducer, t time.Time) (up, all, quorum int, lapsed bool) {
	quorum = r.p.Quorum
	for _, v := range e.votes {
		silent := t.Sub(v.heard) > r.p.StaleAfter
		if out, isStale := r.stale[v.vantage]; isStale {
			if silent = out.silent(r.p, t); silent {
				quorum--
			}
		}
		if silent {
			continue
		}
		all++
		if v.up {
			up++
		}
		lapsed = lapsed || v.lapsed(r.p)
	}
	return up, all, max(quorum, 1), lapsed
}

// wanted is the state that the votes want at t: the present one when they are too
// few, or tied and the edge is not silent itself.
func (e *edge) wanted(r *Reducer, t time.Time) (_ State, frozen bool) {
	up, all, quorum, lapsed := e.tally(r, t)
	switch {
	case all < quorum:
		return e.state, true
	case up*2 > all:
		return Up, false
	case up*2 < all || lapsed && up*2 == all:
		return Down, false
	}
	return e.state, false
}

// decide changes the state at t if the votes want it and its minimum time is over.
func (e *edge) decide(r *Reducer, t time.Time) {
	want, _ := e.wanted(r, t)
	if want == e.state || t.Before(e.until) || t.Equal(e.born) {
		return
	}
	e.state, e.since, e.moved = want, t, true
	if want == Up {
		e.rose, e.until = t, t.Add(r.p.MinUp)
		return
	}
	if !e.rose.IsZero() && t.Sub(e.rose) < r.p.MaxHold {
		e.flaps++
	} else {
		e.flaps = 0
	}
	e.until = t.Add(hold(r.p, e.flaps))
}

// hold is the least time down after so many flaps.
func hold(p Params, flaps int) time.Duration {
	d := p.MinDown
	for range flaps {
		if d *= 2; d >= p.MaxHold {
			return p.MaxHold
		}
	}
	return d
}

// advance decides every instant from at up to but without t, and opens t.
func (e *edge) advance(r *Reducer, t time.Time) {
	for e.at.Before(t) {
		e.decide(r, e.at)
		e.at = e.nextEvent(r, t)
	}
}

// then is a copy of e as it is at t: advance and decide touch no vote.
func (e *edge) then(r *Reducer, t time.Time) edge {
	c := *e
	c.advance(r, t)
	c.decide(r, c.at)
	return c
}

// nextEvent is the first instant after at, and no later than t, at which time alone
// may change the votes or let the state change.
func (e *edge) nextEvent(r *Reducer, t time.Time) time.Time {
	sooner := func(c time.Time) {
		if c.After(e.at) && c.Before(t) {
			t = c
		}
	}
	sooner(e.until)
	for _, v := range e.votes {
		sooner(v.heard.Add(r.p.StaleAfter + 1)) // silence is more than StaleAfter
	}
	for _, out := range r.stale {
		sooner(out.since.Add(r.p.StaleAfter))
	}
	return t
}

// nextChange lets time pass on e, a copy, until its state changes; zero when it
// never does.
func (e *edge) nextChange(r *Reducer) time.Time {
	const never = 1 << 62 // a century and more; every event is within hours
	end := e.at.Add(never)
	for state := e.state; e.at.Before(end); {
		e.at = e.nextEvent(r, end)
		e.decide(r, e.at)
		if e.state != state {
			return e.at
		}
	}
	return time.Time{}
}

func (e *edge) health(r *Reducer) Health {
	h := Health{State: e.state, Since: e.since, Flaps: e.flaps}
	want, frozen := e.wanted(r, e.at)
	switch {
	case want != e.state:
		h.Why = Held
	case frozen:
		h.Why = Frozen
	case e.moved:
		h.Why = Voted
	}
	for _, v := range e.votes {
		if !v.last().ok {
			h.Reason = v.last().reason
			break
		}
	}
	return h
}
