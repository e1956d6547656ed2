// Package health turns observations and time into one damped word on each edge.
//
// Observations come from vantage points: this node's own probes and the store,
// whose lease says what an edge says of itself. Each vantage has one vote on each
// edge it observed, damped by Fall, Window and Rise; the majority of those that
// vote decides, and the edge's state then keeps to minimum times. It is not the
// law and not an operator's word: what is drained, in maintenance or deregistered binds
// past all of this, and no lease is heard here while its edge is in maintenance.
//
// The rules, in the order in which they bind:
//
//  1. The first observation of an edge is its state: a newly registered edge that
//     passes is up at once, and no minimum time holds that first state.
//  2. A vantage's first observation is its vote. It then falls with Fall failures
//     among its last Window observations and rises with Rise successes in a row.
//  3. A vantage that said nothing for StaleAfter does not vote. When fewer than
//     Quorum vote, the state is frozen.
//  4. A vantage that is known to be out of reach ([Reducer.Stale]) stops voting
//     StaleAfter later, and the quorum falls by one on the edges that it observed, though
//     never below one: with the store gone, a node's own probes speak alone. No edge is ever expired.
//  5. More than half of the votes decide. A tie changes nothing, for this node's own
//     network may be what is broken; but an edge whose lease has been heard to be lapsed
//     for StaleAfter since that vote fell loses the tie: the lease is its own word, and
//     such a silence no longer the restart of an agent. It is heard by none of those
//     who must be able to drain it, and may answer this node alone. So an edge that
//     lost its agent keeps its clients for StaleAfter, and for as long as two vantages
//     that reach it outvote the lease; one that passes its lease is never taken out by
//     one node's probes.
//  6. An edge stays up for MinUp and down for its hold. The hold is MinDown, doubled
//     each time the edge falls within MaxHold of its last rise, up to MaxHold.
//
// The package is pure: time is the observations' and the caller's. The same
// observations give the same snapshots, whatever the order among different vantages
// at one instant and however often snapshots are taken. At most one automatic change
// a region in 60 s is no rule of this package: it knows edges, not regions.
package health

import (
	"time"

	"bailiwick/region"
)

// Params are the times and counts of the rules. Make them with [Production].
type Params struct {
	Interval time.Duration // between two probes of one edge from one vantage
	Timeout  time.Duration // of one probe

	Window int // a vantage's newest observations that count
	Fall   int // failures among Window that turn its vote down
	Rise   int // successes in a row that turn it up; at most Window

	Quorum     int           // votes without which nothing changes
	StaleAfter time.Duration // silence after which a vantage does not vote

	MinDown time.Duration // least time down before the first flap doubles it
	MinUp   time.Duration // least time up after a rise
	MaxHold time.Duration // most time down by force; a rise this old is no flap
}

// Production are the parameters of a deployment.
func Production() Params {
	return Params{
		Interval: 5 * time.Second, Timeout: 2 * time.Second,
		Window: 6, Fall: 3, Rise: 6,
		Quorum: 2, StaleAfter: 60 * time.Second,
		MinDown: 30 * time.Second, MinUp: 60 * time.Second, MaxHold: 15 * time.Minute,
	}
}

// minTimeout keeps scaled probes from failing because a small machine is busy.
const minTimeout = 500 * time.Millisecond

// Scale is the same machine with another probe interval: every time shrinks or
// grows with it, the counts stay. Timeout is never scaled below 500 ms.
func (p Params) Scale(interval time.Duration) Params {
	f := float64(interval) / float64(p.Interval)
	scale := func(d time.Duration) time.Duration { return time.Duration(f * float64(d)) }
	q := p
	q.Interval = interval
	q.Timeout = max(scale(p.Timeout), min(p.Timeout, minTimeout))
	q.StaleAfter = scale(p.StaleAfter)
	q.MinDown, q.MinUp, q.MaxHold = scale(p.MinDown), scale(p.MinUp), scale(p.MaxHold)
	return q
}

// Observation is one word of one vantage on one edge.
type Observation struct {
	Edge    region.EdgeID
	Vantage string
	Own     bool // it is the edge's own word: its lease, or the lack of it
	OK      bool
	At      time.Time
	Reason  string // why not OK; of a closed set, for people
}

// State is the damped word.
type State uint8

const (
	Unknown State = iota // never observed
	Up
	Down
)

func (s State) String() string { return [...]string{"unknown", "up", "down"}[s] }

// Why says what keeps the state as it is.
type Why uint8

const (
	Birth  Why = iota // the first observation; votes agree or are tied
	Voted             // the votes changed it
	Held              // the votes want another state, its minimum time is not over
	Frozen            // too few vantages vote
)

func (w Why) String() string { return [...]string{"birth", "voted", "held", "frozen"}[w] }

// Health is the word on one edge.
type Health struct {
	State  State
	Since  time.Time // when the state began
	Flaps  int       // falls in a row, each within MaxHold of the rise before it
	Why    Why
	Reason string // of the first vantage, by name, whose last observation failed
}

// Snapshot is the word on every edge ever observed and not forgotten.
type Snapshot struct {
	Edges map[region.EdgeID]Health
	// NextChange is the earliest instant at which a State differs from this
	// snapshot if nothing more is observed; zero when none will.
	NextChange time.Time
}
