package sim

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bailiwick/residency"
	"bailiwick/steer"
)

// length is the number of actions of a schedule.
const length = 200

// TestSimulation runs schedules for SIMTIME, on as many workers as there are processors.
// SIMSEED is the first seed; a run says where it left off. SIMWORST is a folder for what
// real processes can do of the worst schedules. SIMSHRINK=no stops at the first failure.
func TestSimulation(t *testing.T) {
	span := time.Minute
	if testing.Short() {
		span = 5 * time.Second
	}
	if v := os.Getenv("SIMTIME"); v != "" {
		var err error
		if span, err = time.ParseDuration(v); err != nil {
			t.Fatalf("SIMTIME: %v", err)
		}
	}
	first := uint64(1)
	if v := os.Getenv("SIMSEED"); v != "" {
		var err error
		if first, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("SIMSEED: %v", err)
		}
	}
	type slow struct {
		seed uint64
		took time.Duration
		who  string
	}
	var (
		next    atomic.Uint64
		steps   atomic.Uint64
		virtual atomic.Int64
		mu      sync.Mutex
		failed  []*Sim
		worst   []slow
		done    int
		workers sync.WaitGroup
	)
	next.Store(first)
	most := 8 // of failed runs
	shrink := os.Getenv("SIMSHRINK") != "no"
	if !shrink {
		most = 1 // whether there is a fault is all that is asked
	}
	defer debug.SetGCPercent(debug.SetGCPercent(1000)) // runs are short-lived
	began, used := time.Now(), cpu()
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for time.Since(began) < span {
				mu.Lock()
				enough := len(failed) >= most
				mu.Unlock()
				if enough {
					return
				}
				s := Run(Generate(next.Add(1)-1, length), nil)
				steps.Add(uint64(s.Steps))
				virtual.Add(int64(s.now))
				mu.Lock()
				done++
				if s.Fault != nil {
					failed = append(failed, s)
				}
				if worst = append(worst, slow{s.Script.Seed, s.sees.Worst, s.sees.who}); len(worst) > 200 {
					slices.SortFunc(worst, func(a, b slow) int { return cmp.Compare(b.took, a.took) })
					worst = worst[:20]
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	took := time.Since(began)
	fmt.Printf("sim: %.1f ms of processor time a schedule\n", (cpu()-used)*1000/float64(max(done, 1)))
	fmt.Printf("sim: %d schedules of %d actions in %.1f s, %.1f a second; %.0f events a second; %s of virtual time; seeds %d to %d; %d failed\n",
		done, length, took.Seconds(), float64(done)/took.Seconds(), float64(steps.Load())/took.Seconds(), time.Duration(virtual.Load()).Round(time.Minute), first, next.Load()-1, len(failed))
	slices.SortFunc(worst, func(a, b slow) int { return cmp.Compare(b.took, a.took) })
	for i, w := range worst {
		if i < 20 {
			fmt.Printf("sim: worst %2d: seed %d, %s in pieces for %.1f s\n", i+1, w.seed, w.who, w.took.Seconds())
			if dir := os.Getenv("SIMWORST"); dir != "" {
				replay := Run(Generate(w.seed, length), nil).Replay()
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("worst-%02d.replay", i+1)), []byte(replay), 0o644); err != nil {
					t.Error(err)
				}
			}
		}
	}
	slices.SortFunc(failed, func(a, b *Sim) int { return cmp.Compare(a.Script.Seed, b.Script.Seed) })
	for _, s := range failed {
		fmt.Println(s)
		t.Error(s)
	}
	if len(failed) > 0 && shrink {
		s := failed[0]
		fmt.Printf("sim: the shortest schedule found for seed %d, to be kept as sim/testdata/NAME.script:\n%s", s.Script.Seed, Shrink(s.Script, s.Fault.Rule, 400))
	}
}

// TestDeterminism: one seed is one trace.
func TestDeterminism(t *testing.T) {
	hashes := map[uint64]bool{}
	for seed := range uint64(4) {
		a, b := Run(Generate(1000+seed, length), nil), Run(Generate(1000+seed, length), nil)
		if a.Hash != b.Hash || a.Steps != b.Steps {
			t.Errorf("seed %d: trace %x of %d steps, then %x of %d", 1000+seed, a.Hash, a.Steps, b.Hash, b.Steps)
		}
		hashes[a.Hash] = true
	}
	if len(hashes) != 4 {
		t.Errorf("four seeds gave %d traces", len(hashes))
	}
}

// TestScripts plays the schedules that once broke something, and what they print as is
// what they are read from.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.script")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".script"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sc, err := ParseScript(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if again, err := ParseScript(sc.String()); err != nil || again.String() != sc.String() {
				t.Errorf("it does not read what it prints: %v", err)
			}
			if s := Run(sc, nil); s.Fault != nil {
				t.Error(s)
			}
		})
	}
}

// TestReplay prints one run: SIMREPLAY is a seed or a script.
func TestReplay(t *testing.T) {
	what := os.Getenv("SIMREPLAY")
	if what == "" {
		t.Skip("SIMREPLAY names no seed or script")
	}
	var sc *Script
	if seed, err := strconv.ParseUint(what, 10, 64); err == nil {
		sc = Generate(seed, length)
	} else {
		text, err := os.ReadFile(what)
		if err != nil {
			t.Fatal(err)
		}
		if sc, err = ParseScript(string(text)); err != nil {
			t.Fatal(err)
		}
	}
	s := Run(sc, os.Stdout)
	fmt.Println(s)
	if s.Fault != nil && os.Getenv("SIMSHRINK") == "yes" {
		fmt.Print(Shrink(sc, s.Fault.Rule, 1500))
	}
}

// TestOracle holds the law that the invariants judge by to package residency, in every
// state that a run's map and law may be in.
func TestOracle(t *testing.T) {
	s := &Sim{Script: &Script{Topology: "full"}}
	s.store = &storage{s: s}
	s.laws.open(s)
	for states := range 1 << (len(papers) + 2) {
		for i, name := range papers {
			if delete(s.laws.expires, name); states>>i&1 == 1 {
				s.laws.expires[name] = time.Time{}
			}
		}
		clear(s.laws.gone)
		if states>>len(papers)&1 == 1 {
			s.laws.gone["fr-par"] = 1
		}
		on := states>>(len(papers)+1)&1 == 1
		s.laws.publish()
		m := s.laws.m
		w := &steer.World{At: epoch, Map: m, Law: residency.Shipped().With(map[string]bool{"dpf_valid": on}), Regions: make([]steer.Region, len(m.Regions))}
		for i := range m.Regions {
			w.Regions[i] = steer.Region{Region: &m.Regions[i], Hop: m.Hop(&m.Regions[i])}
		}
		for kind := range kinds {
			p := placement(kind)
			for i := range w.Regions {
				r := &w.Regions[i]
				got, want := lawful(kind, r.ID, m, on, epoch), steer.Permits(w, r, p.Terms.Client(m)).Permitted()
				if got != want {
					t.Errorf("%s in %s, papers %v gone, flag %t: the oracle says %t, the law %t", kind, r.ID, s.laws.expires, on, got, want)
				}
			}
		}
	}
}
