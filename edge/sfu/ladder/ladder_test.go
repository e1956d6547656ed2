package ladder

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"bailiwick/edge/sfu/allot"
)

var start = time.Unix(1_000_000, 0)

func at(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }

const mbit = 1_000_000

// two is a two-person consult of the plan: 3 Mbit/s, and 0.08 of audio (acceptance G2).
var two = [Steps]int{Full: 3 * mbit, Spatial: 1 * mbit, Temporal: 1.8 * mbit, Both: 0.6 * mbit, Audio: 0.08 * mbit}

// node plays one edge: what its consults send follows their steps half a second late, and it is
// measured over a second.
type node struct {
	*testing.T
	ladder   *Ladder
	now      int // s
	budget   int
	relayed  int     // bit/s beside the consults
	cpu      float64 // a bit/s, of all cores
	idle     float64 // CPU without any
	noise    float64
	foresees float64 // what is foreseen of the difference of steps, of what is so
	rng      *rand.Rand
	consults []*running
	input    []Consult
	load     Load // of the last tick
	last     Report
}

type running struct {
	Consult
	rates   [Steps]int
	earlier Step // before the last tick
}

func newNode(t *testing.T, seed uint64, budget int) *node {
	return &node{T: t, ladder: New(seed), budget: budget, foresees: 1, rng: rand.New(rand.NewPCG(seed, 9))}
}

func (n *node) join(id string, p Priority, profile allot.Profile, rates [Steps]int) *running {
	r := &running{Consult: Consult{ID: id, Priority: p, Profile: profile}, rates: rates}
	r.Step = n.ladder.Step(&r.Consult)
	r.earlier = r.Step
	n.consults = append(n.consults, r)
	return r
}

func (n *node) crowd(count int, p Priority) {
	for i := range count {
		n.join(fmt.Sprintf("%v-%d", p, i), p, allot.Face, two)
	}
}

// tick is one second, after which the changes are in force.
func (n *node) tick() Report {
	n.Helper()
	n.load = Load{Egress: n.relayed, Budget: n.budget}
	load := &n.load
	n.input = n.input[:0]
	for _, r := range n.consults {
		sent := (r.rates[r.earlier] + r.rates[r.Step]) / 2
		load.Egress += sent
		for s := range r.Rates {
			r.Rates[s] = max(0, sent+int(n.foresees*float64(r.rates[s]-r.rates[r.Step])))
		}
		n.input = append(n.input, r.Consult)
		r.earlier = r.Step
	}
	load.Egress = int(float64(load.Egress) * (1 + n.noise*n.rng.NormFloat64()))
	load.CPU = n.idle + n.cpu*float64(load.Egress)
	n.now++
	n.last = n.ladder.Tick(at(n.now), n.load, n.input)
	for _, c := range n.last.Changes {
		i := slices.IndexFunc(n.consults, func(r *running) bool { return r.ID == c.ID })
		if r := n.consults[i]; r.Step != c.From || c.From == c.To {
			n.Fatalf("%ds: %+v of one at %v", n.now, c, r.Step)
		}
		n.consults[i].Step = c.To
	}
	return n.last
}

// run ticks for seconds and counts the changes.
func (n *node) run(seconds int) (down, up int) {
	n.Helper()
	for range seconds {
		for _, c := range n.tick().Changes {
			if c.Reason == Relief {
				up++
			} else {
				down++
			}
		}
	}
	return down, up
}

// egress is what is sent once the steps show, in bit/s.
func (n *node) egress() int {
	sum := n.relayed
	for _, r := range n.consults {
		sum += r.rates[r.Step]
	}
	return sum
}

// depth compares steps of all profiles: the caps of the first step are alike.
func depth(s Step) int { return [...]int{Full: 0, Spatial: 1, Temporal: 1, Both: 2, Audio: 3}[s] }

// ordered checks the law: nobody is worse off than one of less priority that has something to give.
func (n *node) ordered() {
	n.Helper()
	var worst [Emergency + 1]*running
	for _, r := range n.consults {
		if w := worst[r.Priority]; w == nil || depth(r.Step) > depth(w.Step) {
			worst[r.Priority] = r
		}
	}
	for _, low := range n.consults {
		give := Audio
		if low.Profile == allot.Sign {
			give = Spatial // its video is no quality, but its speech
		}
		for p := low.Priority + 1; p <= Emergency; p++ {
			if high := worst[p]; high != nil && depth(high.Step) > depth(low.Step) && low.Step != give {
				n.Fatalf("%ds: %v %d is at %v while %v %d is at %v", n.now, high.Priority, high.Profile, high.Step, low.Priority, low.Profile, low.Step)
			}
		}
		e := worst[Emergency]
		if low.Step != Audio && low.Priority != Emergency && e != nil && e.Step == Audio {
			n.Fatalf("%ds: an emergency lost its video before %v at %v", n.now, low.Priority, low.Step)
		}
	}
	if n.last.Here > Urgent {
		n.Fatalf("%ds: new consults are taken only from %v", n.now, n.last.Here)
	}
}

func TestOrderIsWhole(t *testing.T) {
	for p := Education; p <= Emergency; p++ {
		for profile, walk := range walks {
			was := place(0)
			for i, w := range walk {
				c := Consult{Priority: p, Profile: allot.Profile(profile)}
				if rungs[p][w.loss] == 0 {
					t.Errorf("%v: loss %d has no rung", p, w.loss)
				}
				if is := c.place(w.loss, 1<<63); is <= was {
					t.Errorf("%v, profile %d: step %d comes before the one before it", p, profile, i)
				} else {
					was = is
				}
			}
			if walk[len(walk)-1].to != Audio {
				t.Errorf("profile %d ends at %v", profile, walk[len(walk)-1].to)
			}
		}
		for l := first; p > Education && l < losses; l++ {
			if rungs[p][l] <= rungs[p-1][l] {
				t.Errorf("%v suffers loss %d before %v", p, l, p-1)
			}
		}
	}
	if order[Rungs-2].Priority != Emergency || order[Rungs-2].loss != video || order[Rungs-1].loss != speech {
		t.Errorf("the last to go is not the video of emergencies: %v", order[Rungs-2:])
	}
}

// One of each kind, one loss at a time, and back.
func TestWalk(t *testing.T) {
	l := New(1)
	consults := []Consult{{ID: "routine detail", Priority: Routine, Profile: allot.Detail, Rates: two}}
	for p := Education; p <= Emergency; p++ {
		consults = append(consults, Consult{ID: p.String(), Priority: p, Rates: two},
			Consult{ID: p.String() + " sign", Priority: p, Profile: allot.Sign, Rates: two})
	}
	apply := func(changes []Change) (said string) {
		for _, c := range changes {
			i := slices.IndexFunc(consults, func(of Consult) bool { return of.ID == c.ID })
			consults[i].Step = c.To
			said += c.ID + " " + c.To.String()
		}
		return said
	}
	var down []string
	for !l.descend(start, 1, consults) {
		down = append(down, apply(l.compare(consults)))
	}
	want := []string{
		"education spatial", "education sign spatial", "education both", "education audio",
		"follow-up spatial", "follow-up sign spatial",
		"routine spatial", "routine detail temporal", "routine sign spatial",
		"follow-up both", "routine both", "routine detail both",
		"follow-up audio", "routine audio", "routine detail audio",
		"urgent spatial", "urgent sign spatial", "urgent both", "urgent audio",
		"emergency spatial", "emergency sign spatial", "emergency both",
		"education sign audio", "follow-up sign audio", "routine sign audio", "urgent sign audio",
		"emergency audio", "emergency sign audio",
	}
	if consults[0].lotLess(l, &consults[5]) { // equals, whom the lot orders
		for i := range want[1:] {
			if strings.HasPrefix(want[i+1], "routine detail") {
				want[i], want[i+1] = want[i+1], want[i]
			}
		}
	}
	if !slices.Equal(down, want) {
		t.Errorf("down\n%q, want\n%q", down, want)
	}
	if r := l.Tick(start.Add(settle), Load{CPU: 1}, consults); r.Rung != Rungs || !r.Spent || r.Here != Urgent || r.Over != CPU {
		t.Errorf("at the bottom: %+v", r)
	}
	var up []string
	for l.place > top {
		l.batch = 1
		l.ascend(start, &Load{}, consults)
		said := apply(l.compare(consults))
		up = append(up, said[:strings.LastIndex(said, " ")])
	}
	slices.Reverse(up)
	for i, u := range up {
		if u != want[i][:strings.LastIndex(want[i], " ")] {
			t.Errorf("back, as number %d from the end: %s, want that of %s", i, u, want[i])
		}
	}
	if r := l.Tick(start, Load{}, consults); len(up) != len(want) || r.Rung != 0 || r.Here != Education || len(r.Changes) > 0 {
		t.Errorf("at the top after %d: %+v", len(up), r)
	}
}

func (c *Consult) lotLess(l *Ladder, other *Consult) bool {
	return c.place(first, lot(l.seed, c.ID)) < other.place(first, lot(l.seed, other.ID))
}

func TestScenarios(t *testing.T) {
	count := func(n *node, p Priority) (at [Steps]int) {
		for _, r := range n.consults {
			if r.Priority == p {
				at[r.Step]++
			}
		}
		return at
	}
	type steps = [Steps]int
	rows := []struct {
		name   string
		budget int
		crowd  [Emergency + 1]int
		edit   func(n *node)
		want   map[Priority]steps
		here   Priority
		over   Reason // at first
	}{
		{"half full", 600 * mbit, [...]int{20, 20, 20, 20, 20}, nil,
			map[Priority]steps{Education: {Full: 20}, Routine: {Full: 20}, Emergency: {Full: 20}}, Education, None},
		{"at the mark, not above", 300 * mbit, [...]int{0, 0, 90, 0, 0}, nil, map[Priority]steps{Routine: {Full: 90}}, Education, None},
		{"above it: to the middle of the marks", 300 * mbit, [...]int{0, 0, 91, 0, 0}, nil,
			map[Priority]steps{Routine: {Full: 91 - 13, Spatial: 13}}, FollowUp, Egress}, // 273 − 13·2 ≤ 247.5
		{"a quarter of the consults a second", 300 * mbit, [...]int{20, 20, 20, 20, 20}, nil,
			map[Priority]steps{Education: {Spatial: 15, Both: 5}, FollowUp: {Full: 20}, Emergency: {Full: 20}}, Education, Egress}, // 300 − 20·2 − 5·0.4 ≤ 270
		{"education goes down first, alone", 290 * mbit, [...]int{20, 20, 20, 20, 20}, func(n *node) { n.relayed = 14 * mbit },
			map[Priority]steps{Education: {Both: 10, Audio: 10}, FollowUp: {Full: 20}, Emergency: {Full: 20}}, FollowUp, Egress}, // 314 − 20·2.4 − 10·0.52 ≤ 261
		{"follow-up and routine together", 200 * mbit, [...]int{20, 20, 20, 20, 20}, nil,
			map[Priority]steps{Education: {Audio: 20}, FollowUp: {Spatial: 20}, Routine: {Full: 1, Spatial: 19}, Urgent: {Full: 20}}, FollowUp, Egress}, // 300 − 20·2.92 − 39·2 ≤ 165
		{"urgent after all of them", 120 * mbit, [...]int{20, 20, 20, 20, 20}, nil,
			map[Priority]steps{Education: {Audio: 20}, FollowUp: {Audio: 20}, Routine: {Audio: 20}, Urgent: {Full: 7, Spatial: 13}, Emergency: {Full: 20}}, Urgent, Egress},
		{"twice the budget, all routine", 300 * mbit, [...]int{0, 0, 200, 0, 0}, nil,
			map[Priority]steps{Routine: {Full: 23, Spatial: 177}}, FollowUp, Egress},
		{"audio of all does not fit", 5 * mbit, [...]int{20, 20, 20, 20, 20}, nil,
			map[Priority]steps{Education: {Audio: 20}, Routine: {Audio: 20}, Emergency: {Audio: 20}}, Urgent, Egress},
		{"CPU", 0, [...]int{0, 0, 100, 0, 0}, func(n *node) { n.cpu = 1.0 / (300 * mbit) },
			map[Priority]steps{Routine: {Full: 75, Spatial: 25}}, FollowUp, CPU}, // 300 − 25·2 ≤ 0.85·300
		{"CPU, and less of egress", 300 * mbit, [...]int{0, 0, 95, 0, 0}, func(n *node) { n.cpu = 1.0 / (285 * mbit) },
			map[Priority]steps{Routine: {Full: 95 - 23, Spatial: 23}}, FollowUp, CPU}, // 285 − 23·2 ≤ 0.85·285
		{"egress, and less of CPU", 285 * mbit, [...]int{0, 0, 95, 0, 0}, func(n *node) { n.cpu = 0.86 / (285 * mbit) },
			map[Priority]steps{Routine: {Full: 95 - 23, Spatial: 23}}, FollowUp, Egress},
		{"relayed traffic alone", 100 * mbit, [5]int{}, func(n *node) { n.relayed = 95 * mbit }, nil, Urgent, Egress},
		{"no budget is known", 0, [...]int{0, 0, 100, 0, 0}, nil, map[Priority]steps{Routine: {Full: 100}}, Education, None},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			n := newNode(t, 7, r.budget)
			for p, count := range r.crowd {
				n.crowd(count, Priority(p))
			}
			if r.edit != nil {
				r.edit(n)
			}
			if over := n.tick().Over; over != r.over {
				t.Errorf("over %v, want %v", over, r.over)
			}
			n.run(120)
			n.ordered()
			for p, want := range r.want {
				if got := count(n, p); got != want {
					t.Errorf("%v: %v, want %v (full, spatial, temporal, both, audio)", p, got, want)
				}
			}
			if n.last.Here != r.here {
				t.Errorf("new ones from %v, want from %v", n.last.Here, r.here)
			}
		})
	}
}

// populate fills the node with count consults of all kinds, and of what networks they have.
func (n *node) populate(count int) {
	mix := [Emergency + 1]float64{}
	for p := range mix {
		mix[p] = n.rng.Float64()
	}
	for i := range count {
		p := Priority(n.rng.IntN(len(mix)))
		if n.rng.Float64() > mix[p] {
			p = Routine
		}
		n.join(fmt.Sprintf("c%d", i), p, allot.Profile(n.rng.IntN(3)), n.rates())
	}
}

func (n *node) rates() [Steps]int {
	full := 0.1 + 4*n.rng.Float64()
	r := [Steps]int{Full: int(full * mbit), Audio: 80_000}
	r[Spatial] = max(r[Audio], int(full*(0.2+0.3*n.rng.Float64())*mbit))
	r[Temporal] = max(r[Audio], int(full*(0.4+0.3*n.rng.Float64())*mbit))
	r[Both] = max(r[Audio], min(r[Spatial], r[Temporal])*2/3)
	return r
}

func (n *node) demand() int {
	sum := n.relayed
	for _, r := range n.consults {
		sum += r.rates[Full]
	}
	return sum
}

// Whatever comes, the order holds at each second, the same input has the same output in whatever
// order it is listed, and all is full again when the pressure is gone.
func TestProperties(t *testing.T) {
	for seed := range uint64(60) {
		n := newNode(t, seed, 0)
		n.populate(1 + n.rng.IntN(120))
		base := n.demand()
		n.noise = 0.01
		twin := New(seed)
		for phase := range 8 {
			n.budget = int(float64(base) / (0.3 + 2.5*n.rng.Float64()))
			n.cpu = n.rng.Float64() / float64(base) * 1.5
			n.foresees = 0.5 + n.rng.Float64()
			for range 30 + n.rng.IntN(60) {
				switch n.rng.IntN(12) {
				case 0:
					n.join(fmt.Sprintf("n%d", n.now), Priority(n.rng.IntN(5)), allot.Profile(n.rng.IntN(3)), n.rates())
				case 1:
					if len(n.consults) > 1 {
						i := n.rng.IntN(len(n.consults))
						n.consults = slices.Delete(n.consults, i, i+1)
					}
				case 2:
					if len(n.consults) > 0 {
						n.consults[n.rng.IntN(len(n.consults))].Profile = allot.Profile(n.rng.IntN(3))
					}
				}
				got := n.tick()
				n.ordered()
				input := slices.Clone(n.input)
				rand.Shuffle(len(input), func(i, j int) { input[i], input[j] = input[j], input[i] })
				again := twin.Tick(at(n.now), n.load, input)
				if !slices.Equal(got.Changes, again.Changes) || got.Here != again.Here || got.Rung != again.Rung {
					t.Fatalf("seed %d, phase %d, %ds: %+v, and once more %+v", seed, phase, n.now, got, again)
				}
			}
		}
		n.budget, n.cpu = 2*n.demand(), 0
		n.run(int(holdMost.Seconds()) + 120)
		for _, r := range n.consults {
			if r.Step != Full {
				t.Fatalf("seed %d: %s is at %v without pressure", seed, r.ID, r.Step)
			}
		}
		if n.last.Rung != 0 || n.last.Here != Education || n.last.Over != None {
			t.Fatalf("seed %d: got %+v", seed, n.last)
		}
	}
}

// Twice the budget for ten minutes (acceptance G5): nobody is dropped, no urgent one refused, and
// what is sent is under the budget within seconds and stays there.
func TestTwiceTheBudget(t *testing.T) {
	for seed := range uint64(4) {
		n := newNode(t, seed, 5000*mbit)
		n.noise = 0.005
		n.populate(2000)
		n.budget = n.demand() / 2
		under, changes := 0, 0
		for range 600 {
			changes += len(n.tick().Changes)
			n.ordered()
			if n.egress() > n.budget {
				under = n.now
			}
		}
		if under > 10 {
			t.Errorf("seed %d: above the budget for %d s", seed, under)
		}
		if changes > 2*len(n.consults) {
			t.Errorf("seed %d: %d changes of %d consults", seed, changes, len(n.consults))
		}
		for _, r := range n.consults {
			if r.Step > Audio || r.Priority == Emergency && r.Step != Full {
				t.Errorf("seed %d: %v %s is at %v", seed, r.Priority, r.ID, r.Step)
			}
		}
	}
}

// A load that stays has its steps, and keeps them. What CPU one more step costs is a guess: where
// no step is small beside the node, it may be tried in vain, at most as often as holds allow.
func TestConstantLoadDoesNotOscillate(t *testing.T) {
	tried := 0
	for seed := range uint64(100) {
		n := newNode(t, seed, 0)
		n.noise = 0.01
		n.populate(1 + n.rng.IntN(200))
		n.relayed = n.rng.IntN(n.demand())
		over, byCPU := 0.7+2*n.rng.Float64(), seed%2 == 1
		if byCPU { // a part of it is there without any consult
			n.idle = 0.5 * n.rng.Float64()
			n.cpu = (over - n.idle) / float64(n.demand())
		} else {
			n.budget = int(float64(n.demand()) / over)
		}
		n.run(60)
		bursts, ups, last := 0, 0, 0 // noise may take a load that is just below its mark over it, once
		for range 1800 {
			changes := n.tick().Changes
			if len(changes) == 0 {
				continue
			}
			if changes[len(changes)-1].Reason == Relief {
				ups++
			} else {
				if n.now > last+int(settle.Seconds()) {
					bursts++
				}
				last = n.now
			}
		}
		if ups > 0 {
			tried++
		}
		if ups > 0 && !byCPU || ups > 10 || bursts > ups+1 && !n.last.Spent {
			t.Errorf("seed %d: of %d consults some went down %d times and up %d times", seed, len(n.consults), bursts, ups)
		}
	}
	if tried > 5 {
		t.Errorf("%d of 50 nodes that lack CPU tried in vain", tried)
	}
}

// Where a tenth is foreseen of what a step does and a step is much of a small node's load, too many
// come back and have to go again, but ever more rarely.
func TestWrongForesightSlowsDown(t *testing.T) {
	for seed := range uint64(8) {
		n := newNode(t, seed, 0)
		n.populate(2 + int(seed))
		n.budget = int(float64(n.demand()) / (1.05 + 0.1*float64(seed)))
		n.foresees = 0.1
		n.relayed = n.budget
		n.run(60)
		n.relayed = 0
		swings, was := 0, false
		for range 4 * 3600 {
			if c := n.tick().Changes; len(c) > 0 {
				if up := c[0].Reason == Relief; up != was {
					swings, was = swings+1, up
				}
			}
		}
		if most := 2 * (8 + 4*6); swings > most { // eight until the wait is of ten minutes
			t.Errorf("seed %d: %d swings in four hours, want at most %d", seed, swings, most)
		}
	}
}

// What came back and had to go again within a minute waits twice as long, up to a bound.
func TestHoldDoubles(t *testing.T) {
	l := New(1)
	c := []Consult{{ID: "a", Priority: Routine, Rates: two}}
	tick := func(s int, egress int) Report {
		r := l.Tick(at(s), Load{Egress: egress * mbit, Budget: 100 * mbit}, c)
		for _, ch := range r.Changes {
			c[0].Step = ch.To
		}
		return r
	}
	var waits []int
	down := 0
	for s := 1; len(waits) < 9; s++ {
		if c[0].Step == Full {
			if tick(s, 91); c[0].Step == Full {
				t.Fatalf("%d s: above the mark and full", s)
			}
			down = s
		} else if tick(s, 10); c[0].Step == Full {
			waits = append(waits, s-down)
		}
	}
	// One step comes back, and 5 s later two: the consult had lost all three.
	if want := []int{5 + 5, 10 + 5, 20 + 5, 40 + 5, 80 + 5, 160 + 5, 320 + 5, 600 + 5, 600 + 5}; !slices.Equal(waits, want) {
		t.Errorf("waits %v s, want %v", waits, want)
	}
	for s := range int(forget.Seconds()) {
		tick(down+605+s, 10)
	}
	for s := down + 605 + int(forget.Seconds()); ; s++ {
		if tick(s, 91); c[0].Step != Full {
			down = s
			break
		}
	}
	for s := down + 1; c[0].Step != Full; s++ {
		if tick(s, 10); s > down+10 {
			t.Fatal("the waits of half an hour ago are not forgotten")
		}
	}
}

// CPU that others use is no reason to keep a consult on audio, though it looks as if the little
// that is sent cost all of it.
func TestComesBackBesideABusyNeighbour(t *testing.T) {
	n := newNode(t, 1, 1000*mbit)
	n.crowd(10, Routine)
	n.idle = 0.9
	n.run(120)
	if n.last.Rung == 0 || !n.last.Spent {
		t.Fatalf("got %+v", n.last)
	}
	n.idle = 0.65
	n.run(300)
	if n.last.Rung != 0 {
		t.Errorf("got %+v", n.last)
	}
}

// When those who lost have left, the node forgets it.
func TestNobodyLeft(t *testing.T) {
	n := newNode(t, 1, 100*mbit)
	n.crowd(100, Routine)
	n.run(60)
	if n.last.Rung == 0 {
		t.Fatalf("got %+v", n.last)
	}
	n.consults = nil
	n.run(6)
	if n.last.Rung != 0 || n.last.Here != Education {
		t.Errorf("got %+v", n.last)
	}
}

// A single false reading costs no more than a part of the consults a step, and that for seconds.
func TestFalseReading(t *testing.T) {
	n := newNode(t, 3, 1000*mbit)
	n.crowd(100, Routine)
	n.run(5)
	n.relayed = 1 << 50
	if down, _ := n.run(1); down != 25 {
		t.Errorf("%d consults went down", down)
	}
	n.relayed = 0
	if down, up := n.run(60); down != 0 || up != 25 {
		t.Errorf("then %d down and %d up", down, up)
	}
}

// What is not a number is neither above nor below a mark.
func TestNotANumber(t *testing.T) {
	for _, cpu := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		l := New(1)
		c := []Consult{{ID: "a", Step: Audio, Rates: two}}
		l.place = bottom
		for s := range 100 {
			r := l.Tick(at(s), Load{Egress: 3 * mbit, Budget: 100 * mbit, CPU: cpu}, c)
			if stays := len(r.Changes) == 0; !stays && !math.IsInf(cpu, -1) {
				t.Fatalf("CPU %v: %+v", cpu, r)
			}
		}
	}
}

// Who comes while the node is down starts where the others of its kind are.
func TestJoinsWhereOthersAre(t *testing.T) {
	n := newNode(t, 5, 100*mbit)
	n.crowd(40, Education)
	n.crowd(30, Routine)
	n.run(30)
	if r := n.join("late", Education, allot.Face, two); r.Step != Audio {
		t.Errorf("an education consult starts at %v", r.Step)
	}
	if r := n.join("late too", Emergency, allot.Face, two); r.Step != Full {
		t.Errorf("an emergency starts at %v", r.Step)
	}
	// One that was not asked for is told, and again until it is so.
	c := Consult{ID: "late again", Priority: Education, Rates: two}
	for range 3 {
		got := n.ladder.Tick(at(n.now), Load{}, []Consult{c}).Changes
		if want := []Change{{"late again", Full, Audio, Egress}}; !slices.Equal(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

// One seed sheds the same consults in the same order; no consult is first with all seeds.
func TestLots(t *testing.T) {
	shed := func(seed uint64) (ids []string) {
		n := newNode(t, seed, 250*mbit)
		n.crowd(100, Routine)
		for range 20 {
			for _, c := range n.tick().Changes {
				ids = append(ids, c.ID)
			}
		}
		return ids
	}
	if a, b := shed(1), shed(1); !slices.Equal(a, b) || len(a) < 20 {
		t.Errorf("got %v, then %v", a, b)
	}
	lead := map[string]int{}
	for seed := range uint64(200) {
		lead[shed(seed)[0]]++
	}
	for id, times := range lead {
		if times > 10 { // of 200, over 100 consults
			t.Errorf("%s is first with %d seeds of 200", id, times)
		}
	}
}

func TestNames(t *testing.T) {
	for p := Education; p <= Emergency; p++ {
		if PriorityOf(p.String()) != p {
			t.Errorf("%v is read as %v", p, PriorityOf(p.String()))
		}
	}
	if PriorityOf("") != Routine || PriorityOf("asap") != Routine {
		t.Error("who names none is not routine")
	}
	for s := Full; s < Steps; s++ {
		if s.String() == "" {
			t.Errorf("step %d has no name", s)
		}
	}
}

// full is a node of the plan: 1,666 consults of 3 Mbit/s on half of 10 Gbit/s (acceptance A4).
func full() ([]Consult, Load) {
	consults := make([]Consult, 1666)
	for i := range consults {
		consults[i] = Consult{ID: fmt.Sprintf("01JD%022d", i), Priority: Priority(i % 5), Profile: allot.Profile(i % 3), Rates: two}
	}
	return consults, Load{Egress: 1666 * 3 * mbit, Budget: 5000 * mbit, CPU: 0.5, Memory: 0.3}
}

// worst is a second in which all lose, and the next in which all have it back.
func worst(l *Ladder, s int, load Load, consults []Consult) int {
	l.place = top
	changes := l.Tick(at(10*s), Load{Egress: 2 * load.Egress, Budget: load.Budget}, consults).Changes
	l.batch = len(consults)
	return len(changes) + len(l.Tick(at(10*s+9), Load{Budget: load.Budget}, consults).Changes)
}

func TestAllocatesNothing(t *testing.T) {
	l := New(1)
	consults, load := full()
	s := 0
	if n := testing.AllocsPerRun(20, func() { worst(l, s, load, consults); s++ }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTick(b *testing.B) {
	consults, load := full()
	b.Run("calm", func(b *testing.B) {
		l, load := New(1), load
		load.Egress /= 2
		b.ReportAllocs()
		for i := range b.N {
			l.Tick(at(i), load, consults)
		}
	})
	b.Run("twice", func(b *testing.B) {
		l := New(1)
		b.ReportAllocs()
		for i := range b.N {
			if worst(l, i, load, consults) == 0 {
				b.Fatal("nothing changes")
			}
		}
	})
}
