package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bailiwick/consult"
	"bailiwick/failover"
	"bailiwick/region"
	"bailiwick/sim/page"
	"bailiwick/steer"
)

// look is what is checked each second.
func (s *Sim) look() {
	s.store.remember()
	s.out()
	for _, n := range s.nodes {
		if !n.linked() || n.flaky > 0 || n.lag > 0 {
			n.deaf = s.now
		}
		s.lookDead(n)
		s.lookLeft(n)
		s.lookModes(n)
		if n.edge != nil && n.alive {
			for _, rm := range n.edge.rooms {
				s.lookAt(rm)
				s.lookOwned(rm)
				s.lookEmpties(rm)
			}
			for _, m := range n.edge.media {
				for _, p := range m.parts {
					if c := p.session.conn; c.done && s.now-max(c.gone, c.since) > 40*time.Second {
						s.fail("orphan", "%s carries media of %s in %s for nobody", n.id, p.who, m.id)
					}
				}
			}
		}
	}
	all := true
	for _, t := range s.talks {
		if !t.sees.recorded && (t.by.inc != t.byInc || !t.by.alive) {
			t.sees.lost = true // its maker died before the store was back
		}
		all = s.lookEnded(t) && all
		all = s.lookWhole(t) && all
	}
	if s.healed {
		if all = all && s.agree(); !all {
			s.sees.well = 0
		} else if s.sees.well++; s.sees.well > 5 && s.now-s.healAt > 12*time.Second {
			s.sees.over = true
		}
		if s.now-s.healAt > healWithin {
			s.fail("heal", "%s", s.whyNot())
		}
	}
	s.after(time.Second, s.look)
}

// lookDead: a node whose clock is right takes no edge for well that has long been dead, as long
// as it has heard the store, or has not, and no region has gone dark of itself.
func (s *Sim) lookDead(n *node) {
	if !n.alive || n15(n) > 0 || n.flaky > 0 || n.lag > 0 {
		n.turned = s.now
		return
	}
	for i := range n.cur.Regions {
		well := false
		for k := range n.cur.Regions[i].Edges {
			well = well || n.cur.Regions[i].Edges[k].Health != steer.Unhealthy
		}
		if !well {
			n.turned = s.now
		}
	}
	for i := range n.cur.Regions {
		for k := range n.cur.Regions[i].Edges {
			x := &n.cur.Regions[i].Edges[k]
			e := s.node(string(x.ID))
			if e == nil || e.alive || x.Health == steer.Unhealthy {
				continue
			}
			if since := s.now - max(e.died, n.turned); since > deadWithin {
				s.fail("health", "%s takes %s for %s, dead for %s", n.id, x.ID, x.Health, since)
			}
		}
	}
}

// lookLeft: a node that hears the store knows no edge any more that deregistered, unless it left
// at once with others, which is likelier a broken store.
func (s *Sim) lookLeft(n *node) {
	if !n.alive || !n.hears(knowWithin) || n15(n) > 0 {
		return
	}
	for id, at := range s.store.left {
		if _, known := n.cur.Known()[region.EdgeID(id)]; !known || s.now-at < knowWithin || s.now-n.born < knowWithin {
			continue
		}
		alone := true
		for other, t := range s.store.left {
			alone = alone && (other == id || (t-at).Abs() > knowWithin)
		}
		for _, e := range s.edges { // who dies registers no more, nor does who is restored away
			alone = alone && (e.id == id || s.store.instance(e.id) != nil)
		}
		if alone {
			s.fail("left", "%s still knows %s, which deregistered %s ago", n.id, id, s.now-at)
		}
	}
}

// lookModes: a node that hears the store, and whose clock is right, has every region in the
// mode that its record says, which may be over by now.
func (s *Sim) lookModes(n *node) {
	if !n.alive || !n.hears(knowWithin) || n15(n) > 0 || s.now-s.store.modeAt < knowWithin {
		return
	}
	for i := range n.cur.Regions {
		r := &n.cur.Regions[i]
		word := s.word(r.ID)
		if over := s.time().Sub(word.ExpiresAt); !word.ExpiresAt.IsZero() && over.Abs() < knowWithin {
			continue
		}
		if is := word.At(s.time()); r.Mode != is {
			s.fail("mode", "%s takes %s for %s, and its record says %s", n.id, r.ID, r.Mode, is)
		}
	}
}

func (s *Sim) lookAt(rm *room) {
	n := rm.e.n
	if rm.t == nil {
		return
	}
	inMap := s.laws.m.Region(rm.e.region) != nil
	if !inMap || s.laws.holds(rm.t.kind, rm.e.region) {
		rm.sees.untruthful = 0
	} else if rm.sees.untruthful == 0 {
		rm.sees.untruthful = s.now
	}
	for _, c := range rm.conns {
		if c.told == 0 || rm.machine.Terms().Edge != rm.e.id {
			c.here = 0
		}
		switch held := rm.machine.Holds(c.seat); {
		case held && !c.answered && s.now-c.since > answerWithin+n15(n):
			s.fail("unanswered", "%s has not answered %s in %s", n.id, c.token.Participant, rm.id)
		case held && c.told > 0 && rm.machine.Terms().Edge == rm.e.id && c.here == 0:
			c.here = s.now
		case held && c.told > 0 && rm.machine.Terms().Edge == rm.e.id && s.now-c.here > answerWithin:
			s.fail("told", "%s has sent %s of %s away, and has not taken it back", n.id, c.token.Participant, rm.id)
		case held && c.gone > 0 && s.now-c.gone > failover.ResumeGrace+2*time.Second+n15(n):
			s.fail("orphan", "%s holds the seat of %s in %s, who is gone", n.id, c.token.Participant, rm.id)
		case !held || c.session == nil:
		case rm.sees.unlawful > 0 && s.now-rm.sees.unlawful > max(s.laws.m.WithdrawalGrace, n.cur.Map.WithdrawalGrace)+graceWithin+n15(n):
			s.fail("grace", "%s holds a seat of %s, which its law has forbidden for %s", n.id, rm.id, s.now-rm.sees.unlawful)
		case rm.sees.untruthful > 0 && n.hears(knowWithin) && s.now-rm.sees.untruthful > s.laws.m.WithdrawalGrace+knowWithin+5*time.Second+n15(n):
			s.fail("grace", "%s holds a seat of %s, which the true law has forbidden for %s", n.id, rm.id, s.now-rm.sees.untruthful)
		}
	}
}

// lookOwned: people who are well where they are do not stay without an owner: their edge
// takes the owner for lost, and may claim them.
func (s *Sim) lookOwned(rm *room) {
	n := rm.e.n
	terms := rm.machine.Terms()
	_, self := n.cur.Edge(rm.e.id)
	if !rm.machine.Active() || terms.Edge == rm.e.id || n.cur.Usable(terms.Edge) || self == nil || self.Health == steer.Unhealthy ||
		rm.e.own() != "" || rm.sees.unlawful > 0 || n15(n) > time.Second {
		rm.sees.unowned = 0
		return
	}
	if rm.sees.unowned == 0 {
		rm.sees.unowned = s.now
	}
	if since := s.now - max(rm.sees.unowned, rm.sees.claimed); since > ownWithin {
		s.fail("unowned", "%s holds %s, and has taken its owner %s for lost for %s", n.id, rm.id, terms.Edge, since)
	}
}

// lookEmpties: an owner that its own World gives a reason to be empty, and another place for
// what it holds, has placed that there.
func (s *Sim) lookEmpties(rm *room) {
	n := rm.e.n
	if !rm.machine.Active() || rm.machine.Terms().Edge != rm.e.id || rm.e.own() == "" && rm.sees.unlawful == 0 || rm.e.better(rm.t.kind, "") == "" {
		rm.sees.idle = 0
		return
	}
	if rm.sees.idle == 0 {
		rm.sees.idle = s.now
	}
	if since := s.now - rm.sees.idle; since > emptyWithin+n15(n) {
		s.fail("empties", "%s has kept %s for %s, and should not: it %s, unlawful %t, and %s would take it", n.id, rm.id, since, rm.e.own(), rm.sees.unlawful > 0, rm.e.better(rm.t.kind, ""))
	}
}

// lookEnded: what has ended is over on every edge that could hear so.
func (s *Sim) lookEnded(t *talk) (over bool) {
	over = true
	c := &t.sees
	if !c.ended || c.lost {
		return true
	}
	since := c.written
	if since == 0 { // the node that knows must still be there to write it
		if c.by.inc != c.byInc {
			return true
		}
		if c.by.alive && c.by.inc == c.byInc && c.by.hears(endWithin) && s.now-c.endAt > endWithin {
			s.fail("ended", "%s has ended for %s, and its record does not say so", t.id, s.now-c.endAt)
		}
		return false
	}
	for _, e := range s.edges {
		rm := e.edge.seated(t.id)
		if rm == nil {
			continue
		}
		over = false
		within := endWithin
		if p := s.store.record(t.id); p == nil || p.Epoch != rm.machine.Terms().Epoch || p.Edge != rm.machine.Terms().Edge {
			within = endLate
		}
		if e.hears(within) && s.now-since > within {
			s.fail("ended", "%s ended %s ago, and %s still has people in it", t.id, s.now-since, e.id)
		}
	}
	return over
}

// persons who want to be in the call now.
func (t *talk) wanting() (list []*person) {
	for _, p := range t.persons {
		if p.wants {
			list = append(list, p)
		}
	}
	return list
}

// whole tells whether everybody who wants to hears all others.
func (t *talk) whole(who []*person) bool {
	var at *mediaRoom
	for _, p := range who {
		tb := p.shown()
		if tb == nil {
			return false
		}
		w := tb.currentWire()
		if w == nil || !w.alive() || w.conn.session.hears() < len(who)-1 {
			return false
		}
		if m := w.conn.session.room; at == nil {
			at = m
		} else if at != m {
			return false
		}
	}
	return true
}

// lookWhole: whoever can meet meets within the bound. It tells whether all is well.
func (s *Sim) lookWhole(t *talk) bool {
	c := &t.sees
	who := t.wanting()
	if len(who) == 0 || c.ended || c.byLaw || c.lost || t.whole(who) {
		c.apart = 0
		clear(c.ok)
		return true
	}
	if c.apart == 0 {
		c.apart = s.now
	}
	if c.ok == nil {
		c.ok = map[*node]time.Duration{}
	}
	told := t.told()
	pause := time.Duration(0)
	for _, e := range s.edges {
		if rm := e.edge.find(t.id); rm != nil && rm.sees.claimed > max(c.apart, s.now-meetWithin) {
			pause = max(pause, min(30*time.Second<<(rm.sees.claims-1), 5*time.Minute))
		}
	}
	possible := false
	for _, e := range s.edges {
		if !told || !t.takes(e, who) {
			delete(c.ok, e)
			continue
		}
		possible = true
		if _, was := c.ok[e]; !was {
			c.ok[e] = s.now
		}
		since := s.now - max(c.ok[e], c.apart)
		if since > s.sees.Worst {
			s.sees.Worst, s.sees.who = since, t.name
		}
		if since > meetWithin+pause {
			s.fail("apart", "%s is in pieces for %s, and %s could take everybody: %s", t.id, since, e.id, t.where())
		}
	}
	return !possible && !s.healed || !s.possibleAtAll(t)
}

// possibleAtAll: somewhere the law lets it be.
func (s *Sim) possibleAtAll(t *talk) bool {
	for _, e := range s.edges {
		if s.laws.holds(t.kind, e.edge.region) {
			return true
		}
	}
	return false
}

// takes tells whether an edge could take everybody now.
func (t *talk) takes(e *node, who []*person) bool {
	s := t.s
	if !e.alive || e.stopping || !e.hears(0) || s.laws.m.Region(e.edge.region) == nil || !s.laws.holds(t.kind, e.edge.region) ||
		s.modeOf(e.edge.region).mode != steer.Serving {
		return false
	}
	if in := s.store.instance(e.id); in == nil || in.maint > 0 || in.critical {
		return false
	}
	rm := e.edge.find(t.id)
	if (rm == nil || !rm.counted) && e.edge.self.Admits > 0 && e.edge.active*100 >= e.edge.self.Admits*95 {
		return false
	}
	for _, p := range who {
		tb := p.shown()
		if tb == nil || p.cuts[e.slot] != [2]int{} || !slices.ContainsFunc(tb.page.Addresses, func(a page.Address) bool { return s.edgeOf(a.URL) == e }) {
			return false
		}
	}
	for _, h := range s.edges { // whoever holds somebody must know that it is well
		if h.edge.seated(t.id) != nil && !h.cur.Usable(e.edge.id) {
			return false
		}
	}
	return true
}

// told tells whether the edges that hold somebody of the consult hear each other: by the
// store.
func (t *talk) told() bool {
	for _, h := range t.s.edges {
		if h.edge.seated(t.id) != nil && (!h.hears(5*time.Second) || n15(h) > time.Second) {
			return false
		}
	}
	return true
}

// where words who is where.
func (t *talk) where() string {
	var b strings.Builder
	for _, e := range t.s.edges {
		if rm := e.edge.seated(t.id); rm != nil {
			fmt.Fprintf(&b, "%s has %d seats and says %s at %d; ", e.id, len(rm.conns), rm.machine.Terms().Edge, rm.machine.Terms().Epoch)
		}
	}
	for _, p := range t.persons {
		if tb := p.shown(); tb != nil {
			at := "nowhere"
			if w := tb.currentWire(); w != nil {
				at = fmt.Sprintf("%s alive=%t heard=%d", w.e.id, w.alive(), w.lastHeard)
			}
			fmt.Fprintf(&b, "%s %s at %s; ", p.name(), tb.page.Name, at)
		} else {
			fmt.Fprintf(&b, "%s gone; ", p.name())
		}
	}
	return b.String()
}

// agree: with every fault gone, every node says the same.
func (s *Sim) agree() bool { return s.disagreement() == "" }

func (s *Sim) disagreement() string {
	for _, n := range s.nodes {
		w := n.cur
		switch {
		case !n.alive:
			return n.id + " is dead"
		case n.m != s.laws.m:
			return n.id + " has an old map"
		case len(w.Away) > 0 || !n.heard.Synced():
			return n.id + " does not hear the store"
		case w.LawDigest != lawOn().Digest():
			return n.id + " has another law"
		case len(w.Known()) != len(s.edges):
			return fmt.Sprintf("%s knows %d edges", n.id, len(w.Known()))
		}
		for i := range w.Regions {
			if w.Regions[i].Mode != steer.Serving {
				return fmt.Sprintf("%s has %s as %s", n.id, w.Regions[i].ID, w.Regions[i].Mode)
			}
			for k := range w.Regions[i].Edges {
				switch e := &w.Regions[i].Edges[k]; {
				case e.Mode != steer.Serving:
					return fmt.Sprintf("%s has %s out", n.id, e.ID)
				case e.Health == steer.Unhealthy && s.Script.Seed%8 == 0: // waiting for it takes a quarter of a run
					return fmt.Sprintf("%s takes %s for down", n.id, e.ID)
				}
			}
		}
		for id, r := range w.Known() {
			if r.Lease != steer.Held {
				return fmt.Sprintf("%s has %s lapsed", n.id, id)
			}
		}
		if n.edge != nil {
			for _, other := range s.edges {
				if _, known := w.Keys[other.kid]; !known {
					return fmt.Sprintf("%s lacks the key of %s", n.id, other.id)
				}
			}
		}
	}
	for _, t := range s.talks {
		if d := s.differ(t); d != "" {
			return d
		}
	}
	return ""
}

// differ: a live consult has one owner, by everybody's word and its record's.
func (s *Sim) differ(t *talk) string {
	var terms *consult.Terms
	if c := &t.sees; c.lost || c.ended && c.by.inc != c.byInc { // who took the end died: it may have told nobody
		return ""
	}
	for _, e := range s.edges {
		rm := e.edge.seated(t.id)
		if rm == nil {
			continue
		}
		is := rm.machine.Terms()
		if terms != nil && (terms.Edge != is.Edge || terms.Epoch != is.Epoch) {
			return fmt.Sprintf("%s: %s", t.id, t.where())
		}
		terms = &is
	}
	p := s.store.record(t.id)
	if p == nil || terms == nil || len(t.wanting()) == 0 {
		return "" // whoever made it died before it was written
	}
	if p.Ended || p.Epoch != terms.Epoch || p.Edge != terms.Edge {
		return fmt.Sprintf("the record of %s says %s at %d, ended %t; %s", t.id, p.Edge, p.Epoch, p.Ended, t.where())
	}
	return ""
}

func (s *Sim) whyNot() string {
	if d := s.disagreement(); d != "" {
		return d
	}
	for _, t := range s.talks {
		if who := t.wanting(); len(who) > 0 && !t.sees.ended && !t.whole(who) {
			return fmt.Sprintf("%s is in pieces: %s", t.id, t.where())
		}
	}
	return "it was well for too short a time"
}
