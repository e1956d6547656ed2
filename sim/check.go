package sim

import (
	"slices"
	"time"

	"bailiwick/consult"
	"bailiwick/failover"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/sim/page"
	"bailiwick/steer"
	"bailiwick/store"
)

// The bounds of what is promised; DESIGN.md has their reasons.
const (
	// meetWithin: both halves of a consult meet again, from when they can.
	meetWithin = 90 * time.Second
	// endWithin: an end that is on record is over on every edge that hears the store; where
	// an edge has terms that are not on record yet, it asks once a minute.
	endWithin, endLate = 20 * time.Second, 85 * time.Second
	// knowWithin: a node decides by a map that was published or a mode that was written.
	knowWithin = 15 * time.Second
	// ownWithin: the consult of an owner that is lost is claimed where its people are.
	ownWithin = 30 * time.Second
	// emptyWithin: an owner that should be empty has placed elsewhere what it holds. The least
	// time that a World's load is old is 5 s.
	emptyWithin = 12 * time.Second
	// deadWithin: a dead edge is taken for down. The least time up after a rise is 60 s, as long
	// as counts the word of a store that is away, and as far apart as regions fall.
	deadWithin = 85 * time.Second
	// graceWithin: no seat outlasts the grace, by the edge's own World.
	graceWithin = 1500 * time.Millisecond
	// answerWithin: a hello is answered.
	answerWithin = 8 * time.Second
	// healWithin: with every fault gone all is well.
	healWithin = 8 * time.Minute
)

// check is what the invariants remember of a run.
type check struct {
	seats failover.Seat
	over  bool // healed, and all has been well for a while
	well  int  // seconds
	Worst time.Duration
	who   string
}

// roomCheck is what they remember of a room.
type roomCheck struct {
	been       map[consult.ParticipantID]bool
	running    bool
	active     bool
	claims     int
	claimed    time.Duration // until when it pauses after the last claim
	unlawful   time.Duration // since when the edge's own World forbids it; 0: it does not
	untruthful time.Duration // since when the true law does
	unowned    time.Duration // since when its owner is dead
	idle       time.Duration // since when it should be elsewhere and could be
}

// talkCheck is what they remember of a consult.
type talkCheck struct {
	recorded     bool
	asked, ended bool // somebody asked for the end; somebody was told that it has ended
	endAt        time.Duration
	written      time.Duration // when the record first said so; 0: it does not
	by           *node
	byInc        int
	byLaw        bool // an edge ended it for want of a lawful place
	lost         bool // nothing is promised of it any more
	undone       bool // a restore changed its record, which nobody has written since
	apart        time.Duration
	ok           map[*node]time.Duration // since when an edge could take everybody
	cut          time.Duration           // when a path of somebody last changed
}

func (k *check) seat() failover.Seat {
	k.seats++
	return k.seats
}

// started begins a node's life: what it has said may begin anew.
func (k *check) started(n *node) { n.met = map[region.EdgeID]bool{} }

// jumped: a clock that is set back takes a serial back that is made of it.
func (k *check) jumped(n *node, by time.Duration) {
	n.jumped = n.s.now
	if by < 0 {
		n.serial = 0
	}
}

// folded: generations grow by one, and what was applied never goes back.
func (k *check) folded(n *node, last *steer.World) {
	s := n.s
	for id := range n.cur.Known() {
		n.met[id] = true
	}
	if last != nil {
		if n.cur.Generation != last.Generation+1 {
			s.fail("generation", "%s: %d after %d", n.id, n.cur.Generation, last.Generation)
		}
		for dc, rev := range last.Applied {
			if n.cur.Applied[dc] < rev {
				s.fail("applied", "%s: %d after %d", n.id, n.cur.Applied[dc], rev)
			}
		}
		if n.cur.Answers < last.Answers {
			s.fail("answers", "%s: %d after %d", n.id, n.cur.Answers, last.Answers)
		}
	}
	if n.edge == nil {
		serial := uint64(n.bornClock) + n.cur.Generation
		if serial < n.serial {
			s.fail("serial", "%s: SOA %d after %d", n.id, serial, n.serial)
		}
		n.serial = serial
		return
	}
	for _, rm := range n.edge.rooms {
		rm.law()
	}
}

// law notes since when a room is unlawful by its edge's own World.
func (rm *room) law() {
	w := rm.e.n.cur
	if rm.t == nil || w.RegionIndex(rm.e.region) < 0 || lawful(rm.t.kind, rm.e.region, w.Map, flagOf(w), w.At) {
		rm.sees.unlawful = 0
	} else if rm.sees.unlawful == 0 {
		rm.sees.unlawful = rm.e.n.s.now
	}
}

// wrote: no write takes a record's epoch back, nor its end.
func (k *check) wrote(s *Sim, was, is *consult.Placement) {
	t := s.talk(is.Consult)
	if t != nil {
		t.sees.recorded, t.sees.undone = true, false
	}
	if is.Ended && t != nil && t.sees.written == 0 {
		t.sees.written = s.now
	}
	if was == nil {
		return
	}
	if is.Epoch < was.Epoch || is.Epoch == was.Epoch && is.Edge > was.Edge {
		s.fail("epoch", "the record of %s goes from %s at %d to %s at %d", is.Consult, was.Edge, was.Epoch, is.Edge, is.Epoch)
	}
	if was.Ended && !is.Ended {
		s.fail("ended", "the record of %s says no longer that it ended", is.Consult)
	}
}

// restored: what a restore takes back is written again by who knows it, as if the store had
// been away, if the edges that know it notice: their marks were younger.
func (k *check) restored(s *Sim, is []store.Entry) {
	at := map[string]store.Entry{}
	for _, e := range is {
		at[e.Key] = e
	}
	for _, t := range s.talks {
		c, now := &t.sees, s.store.placed[at[t.id.Key()].Rev]
		if now == s.store.record(t.id) && !c.undone {
			continue
		}
		c.undone = true
		for _, n := range s.edges {
			if (n == t.by || n == c.by || n.edge.find(t.id) != nil) && at[consult.NoticesTo(n.edge.id)+"edge"].Rev >= n.edge.mark.rev {
				c.lost = true
			}
		}
		c.apart = 0
		clear(c.ok)
		c.recorded = now != nil
		if c.written, c.endAt = 0, s.now; now != nil && now.Ended {
			c.written = s.now
		}
	}
}

func (k *check) heardEnd(*edge, consult.ID) {}

// before is asked just before a step.
func (c *roomCheck) before(rm *room) {
	c.running = slices.ContainsFunc(rm.conns, func(x *conn) bool {
		return x.session != nil && !x.session.part.parked && rm.machine.Holds(x.seat)
	})
}

// stepped judges what a machine says is to be done.
func (k *check) stepped(rm *room, ev failover.Event, was consult.Terms, actions []failover.Action) {
	s := rm.e.n.s
	is := rm.machine.Terms()
	if was.Epoch > is.Epoch || was.Epoch == is.Epoch && was.Epoch > 0 && is.Edge > was.Edge {
		s.fail("epoch", "%s takes %s from %s at %d back to %s at %d", rm.e.id, rm.id, was.Edge, was.Epoch, is.Edge, is.Epoch)
	}
	if rm.t == nil {
		return // made by nobody of this run: a shrunk script
	}
	rm.law()
	for _, a := range actions {
		switch a := a.(type) {
		case failover.Admit:
			rm.admits(a, ev)
		case failover.Refuse:
			rm.refuses(a, ev)
		case failover.Place:
			rm.places(a, was, ev)
			was = a.Terms
		case failover.Close:
			rm.closes(a)
		case failover.End:
			rm.ends(a)
		case failover.Move:
			if is := rm.machine.Terms(); a.Token.Epoch != is.Epoch || a.Token.Edge != is.Edge {
				s.fail("move", "%s sends somebody of %s to %s at %d, and is itself at %d", rm.e.id, rm.id, a.Token.Edge, a.Token.Epoch, is.Epoch)
			}
		}
	}
	if rm.machine.Ended() {
		return
	}
	for _, c := range rm.conns {
		if c.session == nil || !c.wire.open || c.later || rm.machine.Holds(c.seat) {
			continue
		}
		if !slices.ContainsFunc(actions, func(a failover.Action) bool {
			x, is := a.(failover.Admit)
			return is && rm.conn(x.Seat).token.Participant == c.token.Participant
		}) && !slices.ContainsFunc(actions, func(a failover.Action) bool { x, is := a.(failover.Close); return is && x.Seat == c.seat }) {
			s.fail("orphan", "%s forgets the seat of %s in %s", rm.e.id, c.token.Participant, rm.id)
		}
	}
	if len(rm.conns) == 0 && rm.machine.Seats() > 0 {
		s.fail("orphan", "%s holds a seat of %s for nobody", rm.e.id, rm.id)
	}
}

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
			full := x.Admits > 0 && x.Load.Consults*100 >= x.Admits*95
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
			case x.Mode == steer.Serving && (x.Admits == 0 || x.Load.Consults*100 < x.Admits*95):
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

// places: only the owner places anew, and others by a claim with its reason.
func (rm *room) places(a failover.Place, was consult.Terms, ev failover.Event) {
	s, e := rm.e.n.s, rm.e
	w := e.n.cur
	if a.Reason == "unwritten" {
		return
	}
	is := a.Terms
	switch ev := ev.(type) { // what was in force when it was decided
	case failover.Joined:
		if ev.Token.Supersedes(&was) {
			was = ev.Token.Terms
		}
	case failover.Heard:
		if ev.Terms.Supersedes(&was) {
			was = ev.Terms
		}
	case failover.Wrote:
		if ev.Terms.Supersedes(&was) {
			was = ev.Terms
		}
	}
	if is.Epoch != was.Epoch+1 {
		s.fail("place", "%s places %s at epoch %d after %d", e.id, rm.id, is.Epoch, was.Epoch)
	}
	if is.Edge == was.Edge {
		s.fail("place", "%s places %s anew on %s, where it is", e.id, rm.id, is.Edge)
	}
	if !slices.ContainsFunc(rm.conns, func(c *conn) bool { return !c.wire.park && !c.done }) {
		s.fail("place", "%s places %s, and nobody of it is there", e.id, rm.id)
	}
	reg, to := w.Edge(is.Edge)
	if is.Edge != e.id {
		switch {
		case to == nil:
			s.fail("place", "%s places %s on %s, which it does not know", e.id, rm.id, is.Edge)
		case reg.Mode != steer.Serving || to.Mode != steer.Serving:
			s.fail("mode", "%s places %s on %s, which is out", e.id, rm.id, is.Edge)
		case !lawful(rm.t.kind, reg.ID, w.Map, flagOf(w), w.At):
			s.fail("law", "%s places %s on %s, which its law forbids", e.id, rm.id, is.Edge)
		case e.n.knows(is.Edge):
			s.fail("mode", "%s places %s on %s, which has long been out", e.id, rm.id, is.Edge)
		}
	} else if why := e.own(); why != "" || rm.sees.unlawful > 0 {
		s.fail("mode", "%s claims %s, and %s, unlawful %t", e.id, rm.id, why, rm.sees.unlawful > 0)
	}
	if was.Edge == e.id {
		return // the owner
	}
	switch a.Reason {
	case "all_here":
		here := map[consult.ParticipantID]bool{}
		for _, c := range rm.conns {
			if !c.done && c.gone == 0 && !c.wire.park {
				here[c.token.Participant] = true
			}
		}
		if len(here) < len(kinds[rm.t.kind].law) {
			s.fail("place", "%s claims %s for all, and %d are there", e.id, rm.id, len(here))
		}
	case "unreachable":
		rm.pause()
		if !slices.ContainsFunc(rm.conns, func(c *conn) bool {
			return c.wire.stranded || c.told > 0 && s.now-c.told >= failover.StrandedAfter-n15(e.n)
		}) {
			s.fail("place", "%s places %s of %s for somebody stranded, who is not", e.id, rm.id, was.Edge)
		}
	default: // its mode, its law, or that the owner is lost: the owner is of no use
		rm.pause()
		if reg, _ := w.Edge(was.Edge); w.Usable(was.Edge) && lawful(rm.t.kind, reg.ID, w.Map, flagOf(w), w.At) {
			s.fail("place", "%s places %s: %s, and %s, whose it is, is usable", e.id, rm.id, a.Reason, was.Edge)
		}
	}
}

func (rm *room) pause() {
	rm.sees.claims++
	rm.sees.claimed = rm.e.n.s.now + min(30*time.Second<<(rm.sees.claims-1), 5*time.Minute)
}

// closes: a seat that lives is closed only when the law's grace is over.
func (rm *room) closes(a failover.Close) {
	s := rm.e.n.s
	c := rm.conn(a.Seat)
	if c == nil || c.session == nil || c.done || !c.wire.open || c.gone > 0 {
		return
	}
	if !rm.graceOver() {
		s.fail("cut", "%s closes the seat of %s in %s", rm.e.id, c.token.Participant, rm.id)
	}
}

func (rm *room) graceOver() bool {
	n := rm.e.n
	return rm.sees.unlawful > 0 && n.s.now-rm.sees.unlawful >= n.cur.Map.WithdrawalGrace-time.Second-n15(n)
}

func (rm *room) ends(a failover.End) {
	s := rm.e.n.s
	switch {
	case a.Reason == "done" && !rm.t.sees.asked:
		s.fail("cut", "%s ends %s, which nobody ended", rm.e.id, rm.id)
	case a.Reason == "law" && !rm.graceOver():
		s.fail("cut", "%s ends %s by law before the grace is over", rm.e.id, rm.id)
	}
	if a.Reason == "law" {
		if x := rm.e.better(rm.t.kind, ""); x != "" {
			s.fail("cut", "%s ends %s by law, and %s would take it", rm.e.id, rm.id, x)
		}
		rm.t.sees.lost = true // here it is over, and its record does not say so
		rm.t.sees.byLaw = true
	}
}

// made: a consult is placed where its router's World lets it, and refused only when it
// lets it nowhere.
func (k *check) made(s *Sim, t *talk, p *consult.Placement, by *node, recorded bool, refused *problem.Document, err error) {
	w := by.cur
	t.sees.recorded = recorded
	if err != nil {
		s.fail("make", "%s cannot make a consult: %v", by.id, err)
	}
	if refused != nil {
		s.note("refused", t.name, refused.Code, 0)
		if x := by.edge.better(t.kind, ""); x != "" {
			s.fail("make", "%s refuses %s: %s, and %s would take it", by.id, t.name, refused.Code, x)
		}
		if x := by.edge.despite(t.kind); x != "" {
			s.fail("make", "%s refuses %s: %s, and %s looks no worse than all that may take it", by.id, t.name, refused.Code, x)
		}
		return
	}
	for _, id := range append([]region.EdgeID{p.Edge}, p.Standby...) {
		reg, e := w.Edge(id)
		switch {
		case e == nil:
			s.fail("make", "%s places %s on %s, which it does not know", by.id, t.name, id)
		case !lawful(t.kind, reg.ID, w.Map, flagOf(w), w.At):
			s.fail("law", "%s places %s on %s, which its law forbids", by.id, t.name, id)
		case reg.Mode != steer.Serving || e.Mode != steer.Serving:
			s.fail("mode", "%s places %s on %s, which is out", by.id, t.name, id)
		case e.Admits > 0 && e.Load.Consults*100 >= e.Admits*95:
			s.fail("full", "%s places %s on %s, which is full", by.id, t.name, id)
		case by.knows(id):
			s.fail("mode", "%s places %s on %s, which has long been out", by.id, t.name, id)
		case by.missed(id):
			s.fail("make", "%s places %s on %s, which has left", by.id, t.name, id)
		}
	}
	if len(p.Standby) == 0 {
		if x := by.edge.better(t.kind, p.Edge); x != "" {
			s.fail("make", "%s makes %s without a standby, and %s would be one", by.id, t.name, x)
		}
	}
	if p.Epoch != 1 {
		s.fail("epoch", "%s makes %s at epoch %d", by.id, t.name, p.Epoch)
	}
}

// ended: somebody was told that it has.
func (k *check) ended(t *talk, by *node, recorded bool) {
	c := &t.sees
	c.ended, c.endAt, c.by, c.byInc = true, t.s.now, by, by.inc
	if _, told := by.edge.told[t.id]; !told {
		t.s.fail("ended", "%s ended %s and has not heard of it", by.id, t.id)
	}
}

// looked: whoever asks after the end is told of it, where the record can be read.
func (k *check) looked(s *Sim, t *talk, p *consult.Placement, recorded bool, err error) {
	if err == nil && recorded && t.sees.written > 0 && !t.sees.lost && !p.Ended {
		s.fail("ended", "%s is read as running, and has ended", t.id)
	}
}

// resolved: DNS answers by its own World.
func (k *check) resolved(n *node, kind string) {
	edges, _ := n.answer(kind)
	w := n.cur
	for _, id := range edges {
		reg, e := w.Edge(id)
		if e == nil || !lawful(kind, reg.ID, w.Map, flagOf(w), w.At) {
			n.s.fail("dns", "%s answers %s for %s, which its law forbids", n.id, id, kind)
		} else if reg.Mode != steer.Serving || e.Mode != steer.Serving {
			n.s.fail("dns", "%s answers %s, which is out", n.id, id)
		}
		if n.knows(id) {
			n.s.fail("dns", "%s answers %s, which has long been out", n.id, id)
		}
	}
}

// stopped: a page that was in a call ends for a reason.
func (k *check) stopped(tb *tab, was bool, e *page.Event) {
	t := tb.p.t
	s := t.s
	s.note("stopped", tb.name, tb.page.Text, 0)
	if tb.p.shown() == nil {
		tb.p.wants = false
	}
	ok := true
	switch text := tb.page.Text; text {
	case "ended.left":
	case "ended.done":
		ok = t.sees.asked || t.sees.byLaw
	case "ended.law":
		ok = t.sees.byLaw
	case "link.elsewhere":
		ok = len(tb.p.tabs) > 1
	case "link.bad": // whose key the edge does not know yet, or knows no more
	default:
		ok = !was || !tb.wasUp
	}
	if !ok {
		s.fail("cut", "the page of %s ends with %s", tb.name, tb.page.Text)
	}
}

// out notes since when edges have been out, by the operators' words in the store.
func (s *Sim) out() {
	for _, e := range s.edges {
		for i, out := range e.isOut() {
			if !out {
				e.out[i] = 0
			} else if e.out[i] == 0 {
				e.out[i] = s.now
			}
		}
	}
}

// isOut tells of the edge's region and of the edge itself.
func (n *node) isOut() [2]bool {
	in := n.s.store.instance(n.id)
	return [2]bool{n.s.modeOf(n.edge.region).mode != steer.Serving, in != nil && in.maint > 0}
}

// knows tells whether a node must know by now that an edge is out.
func (n *node) knows(out region.EdgeID) bool {
	e := n.s.node(string(out))
	if e == nil || !n.hears(knowWithin) {
		return false
	}
	for i, out := range e.isOut() {
		since := e.out[i]
		if i == 0 {
			since = max(since, n.s.store.modeAt)
		}
		if out && e.out[i] > 0 && n.s.now-since > knowWithin+n15(n) {
			return true
		}
	}
	return false
}

// modeIs is an operator's word, as the store has it.
type modeIs struct{ mode steer.Mode }

func (s *Sim) modeOf(id region.ID) modeIs { return modeIs{s.word(id).At(s.time())} }

// word is the operator's record itself; where there is none, it is of a region that serves.
func (s *Sim) word(id region.ID) steer.ModeRecord {
	i, found := s.store.find(steer.ModeKey(id))
	if !found {
		return steer.ModeRecord{}
	}
	e := s.store.entries[i]
	rec, known := s.store.modes[e.Rev]
	if !known {
		rec, _ = steer.ParseModeRecord(e.Value) // one that cannot be read is serving
		s.store.modes[e.Rev] = rec
	}
	return rec
}
