package probe

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"bailiwick/health"
	"bailiwick/region"
)

// Target is one edge to probe.
type Target struct {
	Edge region.EdgeID
	HTTP HTTP           // its HTTP listener; without a URL: not asked
	STUN netip.AddrPort // its TURN listener; the zero value: not asked
}

// inFlight bounds how many edges are probed at one moment.
const inFlight = 32

// looks is how often an interval the set of targets is read anew.
const looks = 5

// Loop probes every target once each p.Interval, from a random first moment
// within the interval (full jitter), so that nodes do not probe in step; from then
// on the Interval lies between two probes of one edge, for the damping counts on it.
// A probe is OK when HTTP and STUN both are. observe is told under the vantage's
// name, from several goroutines.
//
// targets is asked several times an interval and must not block. An edge that has
// left it is not probed again, though a probe under way may still report. No edge
// is probed twice at one moment: a probe that outlasts the interval makes it skip
// turns. Loop returns the context's error, after its last probe has ended.
func Loop(ctx context.Context, p health.Params, vantage string, targets func() []Target, observe func(health.Observation)) error {
	probe := func(timed context.Context, t Target) {
		ok, reason := both(timed, t)
		if ctx.Err() == nil { // else the probe was cut short, and says nothing
			observe(health.Observation{Edge: t.Edge, Vantage: vantage, OK: ok, At: time.Now(), Reason: reason})
		}
	}
	l := &loop{p: p, targets: targets, probe: probe, plan: map[region.EdgeID]*turn{}, done: make(chan region.EdgeID, inFlight)}
	return l.run(ctx)
}

// both asks a target's HTTP and STUN at the same moment.
func both(ctx context.Context, t Target) (ok bool, reason string) {
	var ready, binding Result
	var g sync.WaitGroup
	if t.HTTP.URL != "" {
		g.Go(func() { ready = Ready(ctx, t.HTTP) })
	}
	if t.STUN.IsValid() {
		g.Go(func() { binding = STUN(ctx, t.STUN) })
	}
	g.Wait()
	switch {
	case t.HTTP.URL != "" && !ready.OK:
		return false, "readyz " + string(ready.Reason)
	case t.STUN.IsValid() && !binding.OK:
		return false, "stun " + string(binding.Reason)
	}
	return true, ""
}

// loop is one goroutine that owns the plan; probes run in goroutines of their own.
type loop struct {
	p       health.Params
	targets func() []Target
	probe   func(context.Context, Target)
	plan    map[region.EdgeID]*turn
	running int
	done    chan region.EdgeID
}

// turn is when an edge is probed next.
type turn struct {
	at      time.Time
	running bool
	listed  bool // among the targets at the last look
}

func (l *loop) run(ctx context.Context) error {
	defer func() {
		for ; l.running > 0; l.running-- {
			<-l.done
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case id := <-l.done:
			l.running--
			l.plan[id].running = false
		case <-timer.C:
		}
		timer.Reset(l.round(ctx, time.Now()))
	}
}

// round starts what is due and says how long to wait for the next round.
func (l *loop) round(ctx context.Context, now time.Time) time.Duration {
	for id := range l.plan {
		l.plan[id].listed = false
	}
	wait := l.p.Interval / looks
	var due []Target
	for _, target := range l.targets() {
		if target.HTTP.URL == "" && !target.STUN.IsValid() {
			continue
		}
		t := l.plan[target.Edge]
		if t == nil {
			t = &turn{at: now.Add(rand.N(l.p.Interval))}
			l.plan[target.Edge] = t
		}
		t.listed = true
		if t.at.After(now) {
			wait = min(wait, t.at.Sub(now))
		} else {
			due = append(due, target)
		}
	}
	for id, t := range l.plan {
		if !t.listed && !t.running {
			delete(l.plan, id)
		}
	}
	l.startDue(ctx, now, due)
	return wait
}

// startDue probes the longest due first; those beyond inFlight stay due until a
// probe ends.
func (l *loop) startDue(ctx context.Context, now time.Time, due []Target) {
	slices.SortStableFunc(due, func(a, b Target) int { return l.plan[a.Edge].at.Compare(l.plan[b.Edge].at) })
	for _, target := range due {
		t := l.plan[target.Edge]
		if !t.running {
			if l.running == inFlight {
				return
			}
			l.start(ctx, target, t)
		}
		for !t.at.After(now) {
			t.at = t.at.Add(l.p.Interval)
		}
	}
}

func (l *loop) start(ctx context.Context, target Target, t *turn) {
	t.running = true
	l.running++
	go func() {
		ctx, cancel := context.WithTimeout(ctx, l.p.Timeout)
		defer cancel()
		l.probe(ctx, target)
		l.done <- target.Edge
	}()
}
