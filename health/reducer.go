package health

import (
	"time"

	"bailiwick/region"
)

// Reducer folds observations. Its methods are not safe for concurrent use.
type Reducer struct {
	p     Params
	edges map[region.EdgeID]*edge
	stale map[string]outage
}

// outage is a vantage that is known to be out of reach.
type outage struct {
	since time.Time
	over  bool // Fresh was called: the next observation ends it
}

func (o outage) silent(p Params, t time.Time) bool { return !t.Before(o.since.Add(p.StaleAfter)) }

// New makes an empty reducer.
func New(p Params) *Reducer {
	return &Reducer{p: p, edges: map[region.EdgeID]*edge{}, stale: map[string]outage{}}
}

// Observe takes one observation. Observations of one edge come in the order of
// their instants; an earlier one counts as if it were made at the last instant.
//
// Of one vantage's observations within half an Interval only the last word counts,
// so a vantage that repeats itself quickly does not outrun the damping. What a
// stale vantage says is not heard.
func (r *Reducer) Observe(o Observation) {
	if out, isStale := r.stale[o.Vantage]; isStale {
		if !out.over {
			return
		}
		for _, e := range r.edges { // the outage was in force until now
			e.advance(r, o.At)
		}
		delete(r.stale, o.Vantage)
	}
	e := r.edges[o.Edge]
	if e == nil {
		e = &edge{born: o.At, at: o.At, since: o.At, state: Down}
		r.edges[o.Edge] = e
	}
	e.advance(r, o.At)
	e.hear(r.p, o)
}

// Forget drops an edge that was deregistered or drained on purpose: at once, past
// any damping. When it is observed again it is new.
func (r *Reducer) Forget(id region.EdgeID) { delete(r.edges, id) }

// Stale says that a vantage cannot be reached since then. Its votes stand until
// StaleAfter has passed. Until it is heard again, later calls change nothing: the
// outage is as old as its last word.
func (r *Reducer) Stale(vantage string, since time.Time) {
	if out, isStale := r.stale[vantage]; isStale {
		since = out.since
	}
	r.stale[vantage] = outage{since: since}
}

// Fresh says that a vantage can be reached again: its outage ends with its next
// observation.
func (r *Reducer) Fresh(vantage string) {
	if out, isStale := r.stale[vantage]; isStale {
		out.over = true
		r.stale[vantage] = out
	}
}

// Snapshot is the word on every edge at now, or at its last observation if that is
// later. It changes nothing in the reducer.
func (r *Reducer) Snapshot(now time.Time) Snapshot {
	s := Snapshot{Edges: make(map[region.EdgeID]Health, len(r.edges))}
	for id, e := range r.edges {
		c := e.then(r, now)
		s.Edges[id] = c.health(r)
		if at := c.nextChange(r); !at.IsZero() && (s.NextChange.IsZero() || at.Before(s.NextChange)) {
			s.NextChange = at
		}
	}
	return s
}

// State is one edge's of the Snapshot at now: Unknown for one never observed.
func (r *Reducer) State(id region.EdgeID, now time.Time) State {
	e := r.edges[id]
	if e == nil {
		return Unknown
	}
	c := e.then(r, now)
	return c.state
}
