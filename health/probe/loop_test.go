package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"

	"bailiwick/health"
	"bailiwick/region"
)

// recorder stands in for the probe of a loop and takes as long as it is told.
type recorder struct {
	mu     sync.Mutex
	starts map[region.EdgeID][]time.Time
	now    int
	most   int
	takes  func(region.EdgeID) time.Duration
}

func (r *recorder) probe(ctx context.Context, t Target) {
	r.mu.Lock()
	r.starts[t.Edge] = append(r.starts[t.Edge], time.Now())
	r.now++
	r.most = max(r.most, r.now)
	d := r.takes(t.Edge)
	r.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	r.mu.Lock()
	r.now--
	r.mu.Unlock()
}

// runLoop runs a loop over targets for d of a bubble's time.
func runLoop(t *testing.T, d time.Duration, p health.Params, takes time.Duration, targets func() []Target) *recorder {
	t.Helper()
	r := &recorder{starts: map[region.EdgeID][]time.Time{}, takes: func(region.EdgeID) time.Duration { return takes }}
	l := &loop{p: p, targets: targets, probe: r.probe, plan: map[region.EdgeID]*turn{}, done: make(chan region.EdgeID, inFlight)}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := l.run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("run: got %v, want the context's error", err)
	}
	if r.now != 0 {
		t.Errorf("%d probes still run after the loop returned", r.now)
	}
	return r
}

func edges(n int) []Target {
	list := make([]Target, n)
	for i := range list {
		list[i] = Target{Edge: region.EdgeID(fmt.Sprintf("e-%d", i)), HTTP: HTTP{URL: "http://e.test"}}
	}
	return list
}

func TestLoopKeepsTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := health.Production()
		begin := time.Now()
		list := append(edges(20), Target{Edge: "nothing-to-ask"})
		r := runLoop(t, 10*p.Interval, p, time.Millisecond, func() []Target { return list })
		firsts := map[time.Time]bool{}
		for _, e := range list[:20] {
			starts := r.starts[e.Edge]
			if len(starts) != 10 {
				t.Fatalf("%s was probed %d times in ten intervals", e.Edge, len(starts))
			}
			if d := starts[0].Sub(begin); d < 0 || d >= p.Interval {
				t.Errorf("%s: first probe after %s, want within one interval", e.Edge, d)
			}
			for i := 1; i < len(starts); i++ {
				if d := starts[i].Sub(starts[i-1]); d != p.Interval {
					t.Errorf("%s: probe %d came %s after the one before, want %s", e.Edge, i, d, p.Interval)
				}
			}
			firsts[starts[0]] = true
		}
		if len(firsts) < 15 {
			t.Errorf("first probes fall on %d moments, want them spread", len(firsts))
		}
		if got := r.starts["nothing-to-ask"]; got != nil {
			t.Errorf("an edge with no address was probed at %v", got)
		}
	})
}

func TestLoopFollowsTheSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := health.Production()
		begin := time.Now()
		r := runLoop(t, 12*p.Interval, p, time.Millisecond, func() []Target {
			if age := time.Since(begin); age >= 4*p.Interval && age < 8*p.Interval {
				return edges(2)
			}
			return edges(1)
		})
		if got := len(r.starts["e-0"]); got != 12 {
			t.Errorf("e-0 stays: probed %d times in 12 intervals", got)
		}
		starts := r.starts["e-1"]
		if len(starts) < 3 || len(starts) > 4 {
			t.Fatalf("e-1 is there for 4 intervals: probed %d times", len(starts))
		}
		if first, last := starts[0].Sub(begin), starts[len(starts)-1].Sub(begin); first < 4*p.Interval || last >= 8*p.Interval+p.Interval/looks {
			t.Errorf("e-1 is there from %s to %s: probed from %s to %s", 4*p.Interval, 8*p.Interval, first, last)
		}
	})
}

func TestLoopNeverOverlapsAnEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := health.Production()
		p.Timeout = 12 * time.Second // outlasts two intervals
		r := runLoop(t, 20*p.Interval, p, time.Hour, func() []Target { return edges(1) })
		starts := r.starts["e-0"]
		if len(starts) < 6 {
			t.Fatalf("probed %d times, want turns skipped, not stopped", len(starts))
		}
		for i := 1; i < len(starts); i++ {
			if d := starts[i].Sub(starts[i-1]); d != 3*p.Interval {
				t.Errorf("probe %d came %s after the one before, want %s", i, d, 3*p.Interval)
			}
		}
		if r.most != 1 {
			t.Errorf("%d probes of one edge at a time", r.most)
		}
	})
}

func TestLoopBoundsConcurrencyAndStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := health.Production()
		list := edges(4 * inFlight) // each hangs for the whole timeout
		r := runLoop(t, 10*p.Interval, p, time.Hour, func() []Target { return list })
		if r.most != inFlight {
			t.Errorf("%d probes at a time, want the bound of %d reached and kept", r.most, inFlight)
		}
		counts := make([]int, 0, len(list))
		for _, e := range list {
			counts = append(counts, len(r.starts[e.Edge]))
		}
		// 32 at a time, 2 s each, make 25 s/2 s×32 = 800 probes of 128 edges in 50 s.
		if lo, hi := slices.Min(counts), slices.Max(counts); lo < 5 || hi > 8 {
			t.Errorf("edges were probed %d to %d times, want about 6 each", lo, hi)
		}
	})
}

func TestLoopObserves(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer up.Close()
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	defer down.Close()
	hangs := make(chan struct{})
	hung := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs }))
	defer hung.Close()
	defer close(hangs)
	binding := responder(t, "127.0.0.1:0", func(_ int, m *stun.Message, from *net.UDPAddr) [][]byte { return [][]byte{success(m, from)} })

	want := map[region.EdgeID]string{
		"both": "true ", "http-only": "true ", "stun-only": "true ",
		"not-ready": "false readyz not ready", "hung": "false readyz timeout", "no-stun": "false stun refused",
	}
	targets := []Target{
		{"both", HTTP{URL: up.URL}, binding}, {"http-only", HTTP{URL: up.URL}, netip.AddrPort{}}, {"stun-only", HTTP{}, binding},
		{"not-ready", HTTP{URL: down.URL}, binding}, {"hung", HTTP{URL: hung.URL}, binding},
		{"no-stun", HTTP{URL: up.URL}, netip.MustParseAddrPort("127.0.0.1:1")},
	}
	p := health.Production().Scale(50 * time.Millisecond)
	p.Timeout = Timeout
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got := map[region.EdgeID]string{}
	var mu sync.Mutex
	err := Loop(ctx, p, "node-1", func() []Target { return targets }, func(o health.Observation) {
		mu.Lock()
		defer mu.Unlock()
		if o.Vantage != "node-1" || o.At.IsZero() {
			t.Errorf("observation %+v: want vantage node-1 and a time", o)
		}
		got[o.Edge] = fmt.Sprint(o.OK, " ", o.Reason)
		if len(got) == len(want) {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want every edge observed within 30 s; saw %v", err, got)
	}
	for id, w := range want {
		if got[id] != w {
			t.Errorf("%s: got %q, want %q", id, got[id], w)
		}
	}
}
