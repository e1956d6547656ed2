// Package ladder decides what the consults of one edge lose while the edge is under pressure, so
// that quality is lost and care is not: full, one of resolution and frame rate capped, both capped,
// audio only, and at last new consults go to a lawful neighbour. No consult is dropped, none loses
// its audio, and urgent and emergency ones are taken always.
//
// All losses of all consults stand in one order (order.go), and the node's state is a place in it:
// a consult has lost what stands before that place. So no pressure and no history can break the
// order, whoever joins late is where the others of its kind are, and what was lost last comes back
// first. The order is the least clinical first, with three reasons to depart from one priority
// after the other:
//
//   - follow-up and routine go down together, each step follow-up first: a picture that a follow-up
//     loses is more care than the resolution of a routine consult. Education goes down alone before
//     them, as nobody is treated in it, and urgent and emergency after them, as what is looked at
//     there decides at once.
//   - the video of a consult marked sign is its speech, and without it the call is over for who
//     signs. It is lost after all other video but that of emergencies, whatever its priority.
//   - the video of an emergency is the last of all.
//
// It opens nothing, reads no clock and starts no goroutine: times are arguments, and never go
// back. A Ladder is not safe for concurrent use. The same calls with the same seed give the same
// changes, in whatever order the consults are listed.
package ladder

import (
	"cmp"
	"slices"
	"time"

	"bailiwick/edge/sfu/allot"
)

// Consult is one that runs on the edge.
type Consult struct {
	ID       string
	Priority Priority
	Profile  allot.Profile // of several, that which loses most by a step: sign, then detail
	Step     Step          // in force, Full for who has just joined

	// Rates are what the edge sends for it at each step of its profile, in bit/s on the wire:
	// measured at the step in force, foreseen at the others. What was never seen is the plan's
	// figure, 3 Mbit/s a two-person consult.
	Rates [Steps]int
}

// Load is the edge's, measured over about the last second.
type Load struct {
	Egress int // bit/s of all that is sent, relayed too
	Budget int // bit/s, the NIC's share that is for use: half of it by the plan; 0: no bound

	// CPU is the share of all cores that the edge may use, and Memory that of its limit which is
	// in use, 0 to 1. Memory that stays with the process after it was freed is not in use: it
	// would look like a pressure that no step relieves.
	CPU, Memory float64
}

// Reason is why a consult's step changed.
type Reason uint8

const (
	None Reason = iota
	Egress
	CPU
	Memory
	Relief // there is room again
)

var reasons = [...]string{"none", "egress", "cpu", "memory", "relief"}

// String is the reason's name in metrics and on a consult's timeline.
func (r Reason) String() string { return reasons[r] }

// marks are shares of what there is: above high consults shed, down to the middle, and below low
// they get back, up to the middle. A load of 90 % lowers layers (acceptance G1).
var marks = [...]struct{ high, low float64 }{
	Egress: {0.90, 0.75},
	CPU:    {0.85, 0.70},
	Memory: {0.85, 0.75},
}

func goal(r Reason) float64 { return (marks[r].high + marks[r].low) / 2 }

const (
	// settle is how long what a step frees may not show in the load: a switch waits for a
	// keyframe, and the load is that of the last second.
	settle = 3 * time.Second

	// hold is how long the load must be low before something comes back, each time. Before the
	// first that does after a loss it doubles whenever what came back had to go again within
	// lasting, which is forgotten when nothing had to go for a while.
	hold     = 5 * time.Second
	holdMost = 10 * time.Minute
	lasting  = time.Minute
	forget   = 30 * time.Minute

	// No more steps in one tick than a fraction of the consults, as a load can be measured and a
	// rate be foreseen wrongly; few consults need no such care.
	fraction, few = 4, 8
)

// Change is one consult's step.
type Change struct {
	ID       string
	From, To Step
	Reason   Reason
}

// Report is the outcome of a tick.
type Report struct {
	// Changes are in the order of the losses, those that lose before those that get back. They
	// are valid until the next tick, and told again while Consult.Step is another.
	Changes []Change

	// Here is the least priority of which new consults are taken here. Those below it go to a
	// lawful neighbour, and where there is none start here with the step that Ladder.Step says.
	// It is never above Urgent.
	Here Priority

	Over  Reason // what is above its high mark
	Rung  int    // how far down the edge is: 0, all is full, to Rungs
	Spent bool   // it is above a mark, and no consult has anything left to give
}

// Ladder is one edge's. Make it with New.
type Ladder struct {
	seed   uint64
	place  place
	reason Reason // of the last descent

	freed  int       // bit/s that the last steps were to free
	shed   time.Time // when
	since  time.Time // the load is low and nothing came back
	hold   time.Duration
	batch  int       // how many steps come back at once
	raised time.Time // when the last did; zero: none since the last shed

	moves   []move
	changed []changed
	changes []Change
}

// move is one loss that one consult can suffer or get back.
type move struct {
	place
	bits int // between with it and without, bit/s
}

type changed struct {
	place
	Change
}

// New draws the consults' lots with the seed. One seed stays for the life of an edge's process, or
// consults that are equal change places.
func New(seed uint64) *Ladder { return &Ladder{seed: seed, hold: hold, batch: 1} }

// Step is that with which a new consult starts.
func (l *Ladder) Step(c *Consult) Step { return c.at(l.place, lot(l.seed, c.ID)) }

// Tick takes the load and all consults, once a second, and says what is to change.
func (l *Ladder) Tick(now time.Time, load Load, consults []Consult) Report {
	if now.Sub(l.shed) >= forget {
		l.hold = hold
	}
	over, need := load.over()
	spent := false
	switch {
	case over != None:
		l.since, l.reason = now, over
		if now.Sub(l.shed) >= settle {
			l.freed = 0
		}
		if need -= l.freed; need > 0 {
			spent = l.descend(now, need, consults)
		}
	case !load.low():
		l.since = now
	case l.place > top && now.Sub(l.since) >= l.wait():
		l.ascend(now, &load, consults)
	}
	return Report{Changes: l.compare(consults), Here: l.here(), Over: over, Rung: min(l.place.rung(), Rungs), Spent: spent}
}

// wait is how long the load has to have been low.
func (l *Ladder) wait() time.Duration {
	if l.raised.IsZero() {
		return l.hold
	}
	return hold
}

// descend takes the next losses until they free need, in bit/s, and says whether there are none left.
func (l *Ladder) descend(now time.Time, need int, consults []Consult) (spent bool) {
	l.list(consults, func(p place) bool { return p > l.place })
	if len(l.moves) == 0 {
		l.place = bottom
		return true
	}
	slices.SortFunc(l.moves, func(a, b move) int { return cmp.Compare(a.place, b.place) })
	most, freed := max(few, len(consults)/fraction), 0
	for i, m := range l.moves {
		if freed >= need || i == most {
			break
		}
		l.place = m.place
		freed += m.bits
	}
	l.freed, l.shed, l.batch = l.freed+freed, now, 1
	if now.Sub(l.raised) < lasting {
		l.hold = min(2*l.hold, holdMost)
	}
	l.raised = time.Time{}
	return false
}

// ascend gives back the last losses: one, and then twice as many each time that it went well, as
// long as the load stays in the middle of its marks. One at a time would keep a thousand consults
// on audio for an hour after the pressure is gone.
func (l *Ladder) ascend(now time.Time, load *Load, consults []Consult) {
	l.list(consults, func(p place) bool { return p <= l.place })
	slices.SortFunc(l.moves, func(a, b move) int { return cmp.Compare(b.place, a.place) })
	sure, likely := load.room()
	n, added := 0, 0
	for most := min(l.batch, max(few, len(consults)/fraction)); n < len(l.moves) && n < most; n++ {
		// What CPU a bit costs is a guess, which may keep all from coming back, but not the first.
		if added += l.moves[n].bits; added > sure || n > 0 && added > likely {
			break
		}
	}
	switch {
	case n == len(l.moves):
		l.place = top
	case n > 0:
		l.place = l.moves[n].place
	}
	if n > 0 {
		l.since, l.raised, l.batch = now, now, 2*n
	}
}

// list collects the losses at the places that are in question.
func (l *Ladder) list(consults []Consult, in func(place) bool) {
	l.moves = l.moves[:0]
	for i := range consults {
		c := &consults[i]
		lot, from := lot(l.seed, c.ID), Full
		for _, w := range walks[c.Profile] {
			if p := c.place(w.loss, lot); in(p) {
				l.moves = append(l.moves, move{p, max(0, c.Rates[from]-c.Rates[w.to])})
			}
			from = w.to
		}
	}
}

// compare tells the consults whose step is not that of the node's place.
func (l *Ladder) compare(consults []Consult) []Change {
	l.changed = l.changed[:0]
	for i := range consults {
		c := &consults[i]
		lot := lot(l.seed, c.ID)
		to := c.at(l.place, lot)
		if to == c.Step {
			continue
		}
		ch := changed{Change: Change{c.ID, c.Step, to, l.reason}}
		if to < c.Step {
			ch.Reason = Relief
		}
		for _, w := range walks[c.Profile] { // the last loss of those that make the difference
			if w.to <= max(to, c.Step) {
				ch.place = c.place(w.loss, lot)
			}
		}
		l.changed = append(l.changed, ch)
	}
	slices.SortFunc(l.changed, func(a, b changed) int {
		back := cmp.Compare(b2i(a.Reason == Relief), b2i(b.Reason == Relief))
		along := cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.ID, b.ID))
		if a.Reason == Relief {
			along = -along
		}
		return cmp.Or(back, along)
	})
	l.changes = l.changes[:0]
	for _, c := range l.changed {
		l.changes = append(l.changes, c.Change)
	}
	return l.changes
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// here follows the losses: who comes new when consults of its priority lose their video has a
// better place elsewhere.
func (l *Ladder) here() Priority {
	p := Education
	for p < Urgent && l.place.rung() >= int(rungs[p][video]) {
		p++
	}
	return p
}

// shares are of what there is.
func (l *Load) shares() (s [len(marks)]float64) {
	if l.Budget > 0 {
		s[Egress] = float64(l.Egress) / float64(l.Budget)
	}
	s[CPU], s[Memory] = l.CPU, l.Memory
	return s
}

// over is what is above its high mark, and what has to be freed of egress, in bit/s, to bring it
// to the middle. CPU and memory are taken to go with egress, which is near enough to begin with:
// the next measurement corrects it.
func (l *Load) over() (worst Reason, need int) {
	for r, share := range l.shares() {
		if r == int(None) || !(share > marks[r].high) {
			continue
		}
		if n := int(float64(l.Egress) * (1 - goal(Reason(r))/share)); worst == None || n > need {
			worst, need = Reason(r), n
		}
	}
	return worst, max(need, 1)
}

// low says whether all is below its low mark. What is not a number is not.
func (l *Load) low() bool {
	for r, share := range l.shares() {
		if r != int(None) && !(share < marks[r].low) {
			return false
		}
	}
	return true
}

// room is how much may be added to a low load before the middle of its marks, in bit/s: what is
// sure, by egress itself, and what is likely, by CPU and memory if they go with it.
func (l *Load) room() (sure, likely int) {
	const unbound = 1 << 60
	sure, likely = unbound, unbound
	for r, share := range l.shares() {
		room := unbound
		if share > 0 {
			room = int(min(float64(l.Egress)*(goal(Reason(r))/share-1), unbound))
		}
		switch Reason(r) {
		case Egress:
			if l.Budget > 0 {
				sure = int(goal(Egress)*float64(l.Budget)) - l.Egress
			}
		case CPU, Memory:
			likely = min(likely, room)
		}
	}
	return sure, likely
}
