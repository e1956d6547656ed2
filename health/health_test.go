package health

import (
	"bufio"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bailiwick/region"
)

var start = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

// event is one thing that happens to a reducer.
type event struct {
	at      time.Time
	vantage string
	do      func(*Reducer)
}

// expectation is one line of a scenario.
type expectation struct {
	where string
	at    time.Time
	edge  region.EdgeID
	want  []string // state, then name=value
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			events, expected := parse(t, file)
			if len(expected) == 0 {
				t.Fatal("expects nothing")
			}
			r := New(Production())
			for _, x := range expected {
				for len(events) > 0 && !events[0].at.After(x.at) {
					events[0].do(r)
					events = events[1:]
				}
				if got := say(r.Snapshot(x.at), x.edge, x.want); got != strings.Join(x.want, " ") {
					t.Errorf("%s: got %s, want %s", x.where, got, strings.Join(x.want, " "))
				}
			}
		})
	}
}

// say words the asked facts of an edge the way a scenario does.
func say(s Snapshot, id region.EdgeID, asked []string) string {
	h := s.Edges[id]
	said := []string{h.State.String()}
	for _, fact := range asked[1:] {
		name, _, _ := strings.Cut(fact, "=")
		value := ""
		switch name {
		case "since":
			value = h.Since.Sub(start).String()
		case "why":
			value = h.Why.String()
		case "flaps":
			value = strconv.Itoa(h.Flaps)
		case "reason":
			value = h.Reason
		case "next":
			if value = "never"; !s.NextChange.IsZero() {
				value = s.NextChange.Sub(start).String()
			}
		}
		said = append(said, name+"="+value)
	}
	return strings.Join(said, " ")
}

// parse reads a scenario; both lists are in the order of their instants.
func parse(t *testing.T, file string) (events []event, expected []expectation) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	edge := region.EdgeID("de-fra-1")
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		where := fmt.Sprintf("%s:%d", file, n)
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "edge" && len(words) == 2:
			edge = region.EdgeID(words[1])
		case words[0] == "expect" && len(words) >= 4:
			for i, w := range words[3:] {
				// Durations are compared as time.Duration words them.
				if name, value, _ := strings.Cut(w, "="); (name == "since" || name == "next") && value != "never" {
					words[3+i] = name + "=" + offset(t, where, value).String()
				}
			}
			expected = append(expected, expectation{where, start.Add(offset(t, where, words[1])), region.EdgeID(words[2]), words[3:]})
		case len(words) >= 2:
			events = append(events, parseEvent(t, where, edge, words)...)
		default:
			t.Fatalf("%s: not a line: %s", where, line)
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	slices.SortStableFunc(expected, func(a, b expectation) int { return a.at.Compare(b.at) })
	return events, expected
}

func parseEvent(t *testing.T, where string, edge region.EdgeID, words []string) (events []event) {
	from, to, isRange := strings.Cut(words[0], "..")
	first := offset(t, where, from)
	last := first
	if isRange {
		last = offset(t, where, to)
	}
	if words[1] == "forget" {
		return []event{{start.Add(first), "", func(r *Reducer) { r.Forget(edge) }}}
	}
	vantage, verb := words[1], words[2]
	for d := first; d <= last; d += Production().Interval {
		at := start.Add(d)
		switch verb {
		case "ok":
			events = append(events, event{at, vantage, func(r *Reducer) {
				r.Observe(Observation{Edge: edge, Vantage: vantage, Own: vantage == "store", OK: true, At: at})
			}})
		case "fail":
			reason := strings.Join(words[3:], " ")
			events = append(events, event{at, vantage, func(r *Reducer) {
				r.Observe(Observation{Edge: edge, Vantage: vantage, Own: vantage == "store", At: at, Reason: reason})
			}})
		case "stale":
			events = append(events, event{at, vantage, func(r *Reducer) { r.Stale(vantage, at) }})
		case "fresh":
			events = append(events, event{at, vantage, func(r *Reducer) { r.Fresh(vantage) }})
		default:
			t.Fatalf("%s: %q is no word of a vantage", where, verb)
		}
	}
	return events
}

func offset(t *testing.T, where, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	return d
}

// story is a random but repeatable run of observations and outages: three vantages,
// three edges, spells of failure.
func story(seed uint64) (instants [][]event) {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := Production()
	bad := map[string]float64{}
	for tick := range 400 {
		at := start.Add(time.Duration(tick) * p.Interval)
		var now []event
		for _, vantage := range []string{"store", "probe", "other"} {
			if rng.IntN(100) == 0 {
				now = append(now, event{at, vantage, func(r *Reducer) { r.Stale(vantage, at) }})
			} else if rng.IntN(30) == 0 {
				now = append(now, event{at, vantage, func(r *Reducer) { r.Fresh(vantage) }})
			}
			for _, id := range []region.EdgeID{"a-1", "a-2", "b-1"} {
				key := vantage + string(id)
				if rng.IntN(15) == 0 {
					bad[key] = []float64{0, 0.3, 1}[rng.IntN(3)]
				}
				if rng.IntN(20) == 0 {
					continue // a lost word
				}
				o := Observation{Edge: id, Vantage: vantage, Own: vantage == "store", OK: rng.Float64() >= bad[key], At: at, Reason: "timeout"}
				now = append(now, event{at, vantage, func(r *Reducer) { r.Observe(o) }})
			}
		}
		instants = append(instants, now)
	}
	return instants
}

func equal(a, b Snapshot) bool {
	return a.NextChange.Equal(b.NextChange) && maps.Equal(a.Edges, b.Edges)
}

func TestOrderAtOneInstantIsIrrelevant(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 2))
		a, b := New(Production()), New(Production())
		for tick, now := range story(seed) {
			for _, ev := range now {
				ev.do(a)
			}
			for _, i := range sameVantageOrder(rng, now) {
				now[i].do(b)
				b.Snapshot(now[i].at) // looking must change nothing
			}
			at := start.Add(time.Duration(tick)*Production().Interval + time.Second)
			if got, want := b.Snapshot(at), a.Snapshot(at); !equal(got, want) {
				t.Fatalf("seed %d, %s: got %+v, want %+v", seed, at.Sub(start), got, want)
			}
			for id, h := range a.Snapshot(at).Edges {
				if got := a.State(id, at); got != h.State {
					t.Fatalf("seed %d, %s: State of %s is %v, in the Snapshot %v", seed, at.Sub(start), id, got, h.State)
				}
			}
		}
	}
}

// sameVantageOrder permutes the vantages of an instant: story lists each vantage's
// events together, and they stay in their order.
func sameVantageOrder(rng *rand.Rand, now []event) []int {
	var blocks [][]int
	for i, ev := range now {
		if i == 0 || ev.vantage != now[i-1].vantage {
			blocks = append(blocks, nil)
		}
		blocks[len(blocks)-1] = append(blocks[len(blocks)-1], i)
	}
	rng.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	return slices.Concat(blocks...)
}

func TestNextChangeIsExact(t *testing.T) {
	for seed := range uint64(3) {
		r := New(Production())
		for _, now := range story(seed) {
			for _, ev := range now {
				ev.do(r)
			}
			at := now[0].at
			s := r.Snapshot(at)
			end := at.Add(time.Hour)
			if !s.NextChange.IsZero() {
				end = s.NextChange
				if !differs(s, r.Snapshot(end)) {
					t.Fatalf("seed %d, %s: nothing changes at NextChange %s", seed, at.Sub(start), end.Sub(start))
				}
			}
			for probe := at; probe.Before(end); probe = probe.Add(max(time.Second, end.Sub(at)/50)) {
				if differs(s, r.Snapshot(probe)) {
					t.Fatalf("seed %d, %s: a state changes at %s, before NextChange %s", seed, at.Sub(start), probe.Sub(start), end.Sub(start))
				}
			}
		}
	}
}

func differs(a, b Snapshot) bool {
	for id, h := range a.Edges {
		if b.Edges[id].State != h.State {
			return true
		}
	}
	return false
}

func TestFlappingIsBounded(t *testing.T) {
	// The worst edge fails as soon as it is up and passes as soon as it is down.
	p := Production()
	r := New(p)
	const edge = "de-fra-1"
	var falls []time.Time
	state := Unknown
	for d := time.Duration(0); d < 24*time.Hour; d += p.Interval {
		at := start.Add(d)
		for _, vantage := range []string{"store", "probe"} {
			r.Observe(Observation{Edge: edge, Vantage: vantage, OK: state != Up, At: at})
		}
		h := r.Snapshot(at).Edges[edge]
		if h.State == Down && state == Up {
			falls = append(falls, at)
		}
		state = h.State
	}
	if len(falls) < 10 {
		t.Fatalf("fell %d times: this test tests nothing", len(falls))
	}
	if limit := int(24*time.Hour/(p.MaxHold+p.MinUp)) + 6; len(falls) > limit {
		t.Errorf("fell %d times in a day, want at most %d", len(falls), limit)
	}
	for i := 7; i < len(falls); i++ {
		if gap := falls[i].Sub(falls[i-1]); gap < p.MaxHold+p.MinUp {
			t.Errorf("fall %d came %s after the one before, want at least %s", i, gap, p.MaxHold+p.MinUp)
		}
	}
}

func TestScale(t *testing.T) {
	p := Production()
	q := p.Scale(250 * time.Millisecond)
	want := Params{Interval: 250 * time.Millisecond, Timeout: 500 * time.Millisecond, Window: 6, Fall: 3, Rise: 6,
		Quorum: 2, StaleAfter: 3 * time.Second, MinDown: 1500 * time.Millisecond, MinUp: 3 * time.Second, MaxHold: 45 * time.Second}
	if q != want {
		t.Errorf("got %+v, want %+v", q, want)
	}
	if p.Scale(p.Interval) != p {
		t.Errorf("scaling to the same interval: got %+v, want %+v", p.Scale(p.Interval), p)
	}
	if cmp.Compare(p.Scale(time.Minute).Timeout, p.Timeout) <= 0 {
		t.Error("a longer interval does not lengthen the timeout")
	}
}

func BenchmarkObserveAndSnapshot(b *testing.B) {
	r := New(Production())
	b.ReportAllocs()
	for i := range b.N {
		at := start.Add(time.Duration(i) * 50 * time.Millisecond)
		id := region.EdgeID("e-" + strconv.Itoa(i%100))
		r.Observe(Observation{Edge: id, Vantage: "probe", OK: true, At: at})
		r.Snapshot(at)
	}
}
