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
		case !kinds[t.kind].urgent && e.Admits > 0 && e.Load.Consults*100 >= e.Admits*95:
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
