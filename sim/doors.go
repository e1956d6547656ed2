package sim

import (
	"slices"
	"time"

	"bailiwick/failover"
	"bailiwick/region"
	"bailiwick/steer"
)

// own tells what the edge's own World says of its region: why nobody new may come.
func (e *edge) own() (why string) {
	w := e.n.cur
	i := w.RegionIndex(e.region)
	_, self := w.Edge(e.id)
	switch {
	case i < 0:
		return "is not in the map"
	case w.Regions[i].Mode != steer.Serving:
		return "is " + w.Regions[i].Mode.String()
	case e.leaving:
		return "stops"
	case self != nil && self.Mode != steer.Serving:
		return "is in maintenance"
	}
	return ""
}

func (rm *room) admits(a failover.Admit, ev failover.Event) {
	s, e := rm.e.n.s, rm.e
	c := rm.conn(a.Seat)
	j, now := ev.(failover.Joined)
	resumes := now && j.Seat == a.Seat && j.Resumes
	full := now && j.Seat == a.Seat && j.Full
	back := rm.sees.been[c.token.Participant] && rm.sees.running
	if _, told := e.told[rm.id]; told {
		s.fail("ended", "%s admits to %s, whose end it has heard", e.id, rm.id)
	}
	if rm.sees.unlawful > 0 && !resumes {
		s.fail("law", "%s admits to %s, which its law forbids", e.id, rm.id)
	}
	if why := e.own(); why != "" && !resumes && !back {
		s.fail("mode", "%s admits to %s, and %s", e.id, rm.id, why)
	}
	if e.n.knows(e.id) && !resumes && !back {
		s.fail("mode", "%s admits to %s, and has long been out", e.id, rm.id)
	}
	if full && !resumes && !rm.sees.running {
		s.fail("full", "%s admits to %s, and is full", e.id, rm.id)
	}
	if !resumes && rm.sees.untruthful > 0 && s.now-rm.sees.untruthful > knowWithin+n15(e.n) && e.n.hears(knowWithin) && !s.laws.holds(rm.t.kind, e.region) {
		s.fail("law", "%s admits to %s, which the true law has forbidden for %s", e.id, rm.id, s.now-rm.sees.untruthful)
	}
	rm.sees.been[c.token.Participant] = true
}

// n15 is what a clock that was set, or is set wrong, adds to a bound.
func n15(n *node) time.Duration {
	d := n.offset.Abs()
	if n.jumped > 0 && n.s.now-n.jumped < 2*time.Minute {
		d += 45 * time.Second
	}
	return d
}

// hears tells whether the node has been hearing the store for so long.
func (n *node) hears(d time.Duration) bool {
	return n.linked() && n.s.now-n.deaf >= d && n.s.now-n.born >= d && n.lag == 0 && len(n.cur.Away) == 0
}

func (rm *room) refuses(a failover.Refuse, ev failover.Event) {
	s, e := rm.e.n.s, rm.e
	c := rm.conn(a.Seat)
	j, now := ev.(failover.Joined)
	now = now && j.Seat == a.Seat
	who := c.token.Participant
	if a.Verdict.Code == failover.ConsultEnded {
		if !rm.t.sees.asked && !rm.machine.Ended() {
			s.fail("cut", "%s says that %s has ended, and it has not", e.id, rm.id)
		}
		return
	}
	if now && j.Resumes {
		s.fail("cut", "%s refuses %s of %s a seat that is theirs: %s", e.id, who, rm.id, a.Verdict.Code)
	}
	byLaw := a.Verdict.Row != nil || a.Verdict.Participant != ""
	if byLaw != (rm.sees.unlawful > 0) {
		s.fail("refuse", "%s refuses %s by %s, and by its law: unlawful %t", e.id, rm.id, a.Verdict.Code, rm.sees.unlawful > 0)
	}
	if byLaw || c.wire.park {
		return
	}
	if rm.sees.been[who] && rm.sees.running {
		s.fail("cut", "%s refuses %s, who comes back to %s: %s", e.id, who, rm.id, a.Verdict.Code)
	}
	if a.Verdict.Code == "region_full" {
		if rm.sees.running {
			s.fail("full", "%s refuses %s, which runs there, for being full", e.id, rm.id)
		}
		if kinds[rm.t.kind].urgent {
			s.fail("full", "%s refuses %s, which is urgent, for being full", e.id, rm.id)
		}
	} else if e.own() == "" {
		s.fail("refuse", "%s refuses %s for its mode, and serves", e.id, rm.id)
	}
	terms := rm.machine.Terms()
	if x := e.better(rm.t.kind, terms.Edge); x != "" {
		s.fail("refuse", "%s refuses %s: %s, and %s would take it", e.id, rm.id, a.Verdict.Code, x)
	}
}

// turned: who is turned away at the door, before any room hears of it, is so for a reason.
func (k *check) turned(e *edge, t *ticket, code string) {
	s, terms := e.n.s, &t.token.Terms
	good := true
	switch code {
	case "wrong_edge":
		good = terms.Edge != e.id && !slices.Contains(terms.Standby, e.id)
	case "token_expired":
		good = e.n.offset != 0
	case "store_unavailable":
		good = !e.n.hears(knowWithin)
	case "token_invalid":
		_, published := s.store.read(keysAt + t.kid)
		good = !published || !e.n.hears(knowWithin) || s.now-s.store.keyAt < knowWithin || e.n.offset != 0
	case string(failover.ConsultEnded):
		talk := s.talk(terms.Consult)
		good = talk == nil || talk.sees.asked || talk.sees.byLaw
	}
	if !good {
		s.fail("refuse", "%s turns somebody of %s away: %s", e.id, terms.Consult, code)
	}
}

// better is an edge that by this one's World could take a consult of the kind.
func (e *edge) better(kind string, but region.EdgeID) region.EdgeID {
	w := e.n.cur
	for i := range w.Regions {
		r := &w.Regions[i]
		if r.Mode != steer.Serving || !lawful(kind, r.ID, w.Map, flagOf(w), w.At) {
			continue
		}
		for k := range r.Edges {
			x := &r.Edges[k]
			full := !kinds[kind].urgent && x.Admits > 0 && x.Load.Consults*100 >= x.Admits*95
			if x.ID != e.id && x.ID != but && x.Mode == steer.Serving && x.Health != steer.Unhealthy && !full {
				return x.ID
			}
		}
	}
	return ""
}

// despite is an edge that takes a consult of the kind though it looks down, as all do that by
// this edge's World may take it.
func (e *edge) despite(kind string) (found region.EdgeID) {
	w := e.n.cur
	for i := range w.Regions {
		r := &w.Regions[i]
		if r.Mode != steer.Serving || !lawful(kind, r.ID, w.Map, flagOf(w), w.At) {
			continue
		}
		for k := range r.Edges {
			x := &r.Edges[k]
			switch {
			case x.Health != steer.Unhealthy:
				return ""
			case x.Mode == steer.Serving && (kinds[kind].urgent || x.Admits == 0 || x.Load.Consults*100 < x.Admits*95):
				found = x.ID
			}
		}
	}
	return found
}

// missed tells whether a node takes an edge that it knew, and that has deregistered, for one
// that never was there, though it has had the time to hear so. That most left at once it may
// doubt (steer's shrink guard).
func (n *node) missed(id region.EdgeID) bool {
	left, gone := n.s.store.left[string(id)]
	_, known := n.cur.Known()[id]
	return gone && !known && n.hears(knowWithin) && n.s.now-left > knowWithin+n15(n) && n.met[id] && n.s.laws.at < left
}
