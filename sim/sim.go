// Package sim runs the control plane as machines in one process, under a seeded
// scheduler and in virtual time: edges with the failover machine of each room, routers,
// Worlds, DNS nodes, a store, and pages in people's browsers. It breaks them by chance
// and holds every step to the invariants of check.go, doors.go and look.go. See DESIGN.md.
//
// There is no goroutine and no clock: one seed is one run, and its trace has one hash.
// The decisions are the product's own code (failover, steer, consult, router.Records,
// world.Heard); what connects them in edge/ and steer/world is written again here, single-
// threaded, and the page is a model of web/consult/machine.js.
package sim

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"bailiwick/consult"
	"bailiwick/region"
	"bailiwick/steer"
)

// epoch is when every run begins.
var epoch = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

var quiet = slog.New(slog.DiscardHandler)

// Sim is one run.
type Sim struct {
	Script *Script
	// Trace gets what happens in words, where it is wanted.
	Trace io.Writer

	now   time.Duration
	queue queue
	seq   uint64
	Steps int    // events so far
	Hash  uint64 // of the trace
	Fault *Fault // the first invariant that was broken

	laws    laws
	store   *storage
	nodes   []*node // edges, then DNS nodes
	edges   []*node
	cuts    [][]int // of nodes and, last, the store: cuts[from][to] > 0
	talks   []*talk
	tickets []ticket
	keys    map[string]steer.JoinKey // join keys, parsed
	jobs    []*job                   // placements on their way to the store
	nested  bool
	undo    []*undo
	healed  bool
	healAt  time.Duration
	lastCut time.Duration // when the network, a process or a clock last changed
	sees    check
}

// Fault is a broken invariant.
type Fault struct {
	Rule string // its name
	Text string
	Step int
	At   time.Duration
}

func (s *Sim) String() string {
	if s.Fault == nil {
		return fmt.Sprintf("seed %d: %d steps, %s", s.Script.Seed, s.Steps, s.now)
	}
	return fmt.Sprintf("sim: INVARIANT seed=%d step=%d: %s: %s (at %.3fs)", s.Script.Seed, s.Fault.Step, s.Fault.Rule, s.Fault.Text, s.Fault.At.Seconds())
}

// fail notes the first broken invariant; the run stops after this event.
func (s *Sim) fail(rule, format string, args ...any) {
	if s.Fault == nil {
		s.Fault = &Fault{Rule: rule, Text: fmt.Sprintf(format, args...), Step: s.Steps, At: s.now}
	}
}

// time is the true one.
func (s *Sim) time() time.Time { return epoch.Add(s.now) }

// note puts one happening into the trace.
func (s *Sim) note(what string, who, detail string, n uint64) {
	h := s.Hash ^ uint64(s.now)
	for _, text := range [...]string{what, who, detail} {
		for i := range len(text) {
			h = (h ^ uint64(text[i])) * 0x100000001b3
		}
		h = (h ^ 0xff) * 0x100000001b3
	}
	s.Hash = (h ^ n) * 0x100000001b3
	if s.Trace != nil {
		fmt.Fprintf(s.Trace, "%9.3f %-9s %-14s %s %d\n", s.now.Seconds(), what, who, detail, n)
	}
}

// item is something that will happen.
type item struct {
	at  time.Duration
	seq uint64
	do  func()
}

// queue is a binary heap by time, then by the order of asking.
type queue []item

func (q queue) less(i, k int) bool {
	return q[i].at < q[k].at || q[i].at == q[k].at && q[i].seq < q[k].seq
}

func (q *queue) push(it item) {
	*q = append(*q, it)
	h := *q
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.less(i, up) {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (q *queue) pop() item {
	h := *q
	top := h[0]
	last := len(h) - 1
	h[0], h[last] = h[last], item{}
	h = h[:last]
	for i := 0; ; {
		k := 2*i + 1
		if k >= last {
			break
		}
		if k+1 < last && h.less(k+1, k) {
			k++
		}
		if !h.less(k, i) {
			break
		}
		h[i], h[k] = h[k], h[i]
		i = k
	}
	*q = h
	return top
}

// after does it that much later.
func (s *Sim) after(d time.Duration, do func()) {
	s.seq++
	s.queue.push(item{s.now + max(d, 0), s.seq, do})
}

// undo ends a fault; healing does it early.
type undo struct {
	done bool
	do   func()
}

// lasts undoes a fault after d, or when everything is healed.
func (s *Sim) lasts(d time.Duration, do func()) {
	u := &undo{do: do}
	s.undo = append(s.undo, u)
	s.after(d, func() { u.run() })
}

func (u *undo) run() {
	if !u.done {
		u.done = true
		u.do()
	}
}

// tooMany events are many times those of any run that comes to its end.
const tooMany = 1_000_000

// Run plays a script to its end. Trace may be nil.
func Run(script *Script, trace io.Writer) *Sim {
	s := &Sim{Script: script, Trace: trace, Hash: 0xcbf29ce484222325, keys: map[string]steer.JoinKey{}}
	s.build()
	for i := range script.Actions {
		a := &script.Actions[i]
		s.after(a.At, func() {
			s.note("action", a.Verb, strings.Join(a.Args, " "), 0)
			s.act(a)
		})
	}
	s.after(script.Ends(), s.heal)
	s.after(time.Second, s.look)
	for len(s.queue) > 0 && s.Fault == nil && !s.sees.over {
		it := s.queue.pop()
		s.now = it.at
		if s.Steps++; s.Steps > tooMany {
			s.fail("endless", "something goes on and on: it has stood still at one instant, or nothing comes to rest")
		}
		it.do()
	}
	return s
}

// build makes the machines and starts them.
func (s *Sim) build() {
	s.laws.open(s)
	s.sees.seats = 1
	s.store = &storage{s: s, r: newRand(s.Script.Seed, "store"), rev: 10, index: 10, placed: map[uint64]*consult.Placement{}, modes: map[uint64]steer.ModeRecord{}, left: map[string]time.Duration{}}
	s.store.remember()
	for _, id := range topologies[s.Script.Topology] {
		n := &node{s: s, id: id, slot: len(s.nodes), r: newRand(s.Script.Seed, id)}
		n.client = &client{n: n}
		n.watch()
		n.edge = newEdge(n, s.regionOf(id))
		s.nodes, s.edges = append(s.nodes, n), append(s.edges, n)
	}
	for i := range 1 + len(s.edges)/8 {
		id := fmt.Sprintf("ns%d", i+1)
		n := &node{s: s, id: id, slot: len(s.nodes), r: newRand(s.Script.Seed, id)}
		n.client = &client{n: n}
		n.watch()
		s.nodes = append(s.nodes, n)
	}
	s.cuts = make([][]int, len(s.nodes)+1)
	for i := range s.cuts {
		s.cuts[i] = make([]int, len(s.nodes)+1)
	}
	s.flag(true)
	for _, n := range s.nodes {
		s.after(n.r.between(0, 5*time.Millisecond), n.start)
	}
}

func (s *Sim) node(id string) *node {
	for _, n := range s.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

func (s *Sim) regionOf(edge string) region.ID { return region.ID(edge[:len(edge)-2]) }

// reaches tells whether a packet from one node gets to another.
func (s *Sim) reaches(from, to int) bool { return s.cuts[from][to] == 0 }

// heal ends every fault. From now on everything must come right.
func (s *Sim) heal() {
	s.note("heal", "", "", 0)
	for i := 0; i < len(s.undo); i++ {
		s.undo[i].run()
	}
	s.healed, s.healAt, s.lastCut = true, s.now, s.now
	for i := range s.laws.m.Regions {
		s.serve(s.laws.m.Regions[i].ID)
	}
	s.flag(true)
	for _, n := range s.nodes {
		n.offset = 0
		if !n.alive {
			n.start()
		}
	}
}
