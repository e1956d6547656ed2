// Package world is the single writer of the World: it folds the map, the law, the
// operators' modes, the registered edges and the damped health into one immutable
// [steer.World] and swaps one atomic pointer.
//
// Readers call [Writer.Current] once per request and wait for nothing. Losing the
// store changes nothing that is already known: the last good word is kept, written
// to a file, and served again after a cold start, never expired to empty.
package world

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/store"
)

// storeVantage is the store's vote among the health observations: the lease of an
// edge says what the edge says of itself.
const storeVantage = "store"

// Config is what a Writer folds from.
type Config struct {
	Node   string // this process's name: its acknowledgement is bailiwick/acks/NODE
	Map    *region.Map
	Law    *residency.Law
	Store  store.Store
	Health health.Params
	// Path is the last-known-good file; empty keeps none.
	Path string
	// ParseKey reads the value of a published join key.
	ParseKey func([]byte) (steer.JoinKey, error)
	Log      *slog.Logger
}

// Writer folds; its methods are safe for concurrent use.
type Writer struct {
	cfg     Config
	current atomic.Pointer[steer.World]
	synced  chan struct{} // closed once there is a word to serve: the store's or the file's
	once    sync.Once

	mu      sync.Mutex
	in      inputs
	reducer *health.Reducer
	subs    map[chan struct{}]struct{}
	unsaved bool
	wakes   time.Time              // the next instant at which time alone changes the world
	dark    time.Time              // when health alone last took a whole region out
	held    map[region.EdgeID]bool // edges whose fall waits for that to be darkEvery ago
}

// inputs is all that was last known, in the store's own words and parsed.
type inputs struct {
	saved
	deployment *region.Map
	modes      map[region.ID]steer.ModeRecord
	edges      map[region.EdgeID]placedEdge
	keys       map[string]steer.JoinKey
	law        *residency.Law
	failing    map[string]error // watches that cannot reach the store now
	failed     time.Time        // since when; zero while all of them can
	seen       map[string]bool  // watches that delivered at least once
}

type placedEdge struct {
	region region.ID
	edge   steer.Edge
	status store.Status
}

// New folds a first World from the map and, where there is one, the last-known-good
// file. A file that cannot be read is an error that says so: remove it to start
// without it.
func New(cfg Config) (*Writer, error) {
	w := &Writer{cfg: cfg, reducer: health.New(cfg.Health), subs: map[chan struct{}]struct{}{}, synced: make(chan struct{})}
	w.in = inputs{deployment: cfg.Map, law: cfg.Law, modes: map[region.ID]steer.ModeRecord{}, edges: map[region.EdgeID]placedEdge{},
		keys: map[string]steer.JoinKey{}, failing: map[string]error{}, seen: map[string]bool{}}
	s, found, err := loadSaved(cfg.Path)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if found {
		w.applyModesLocked(s.Modes)
		w.applyKeysLocked(s.Keys)
		w.applyFlagsLocked(s.Flags)
		w.applyInstancesLocked(s.Instances, now)
		w.once.Do(func() { close(w.synced) })
	}
	w.foldLocked(now)
	return w, nil
}

// Current is the newest World; never nil.
func (w *Writer) Current() *steer.World { return w.current.Load() }

// Synced is closed once the world holds a word of the store or of the
// last-known-good file; until then no edge is known.
func (w *Writer) Synced() <-chan struct{} { return w.synced }

// Subscribe gives a channel that gets a value after each new World, conflated:
// read Current when it fires. Call cancel when done.
func (w *Writer) Subscribe() (changed <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.subs[c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.subs, c)
	}
}

// SetMap swaps the map: a reload.
func (w *Writer) SetMap(m *region.Map) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in.deployment = m
	w.applyFlagsLocked(w.in.Flags)
	w.foldLocked(time.Now())
}

// Observe takes one probe's word on an edge.
func (w *Writer) Observe(o health.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.in.edges[o.Edge]; !known {
		return // it was deregistered while the probe ran
	}
	w.reducer.Observe(o)
	w.foldIfDueLocked(o.At)
}

// Run watches the store and keeps time until ctx ends.
func (w *Writer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	w.watch(ctx, g)
	g.Go(func() error { return w.tick(ctx) })
	g.Go(func() error { return w.acknowledge(ctx) })
	err := g.Wait()
	if saveErr := w.save(); saveErr != nil {
		return errors.Join(err, saveErr)
	}
	return err
}

// tick repeats the store's frozen word to the reducer, lets time pass in the
// world, and writes the last-known-good file when there is something new.
func (w *Writer) tick(ctx context.Context) error {
	t := time.NewTicker(w.cfg.Health.Interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		w.mu.Lock()
		now := time.Now()
		if w.in.failed.IsZero() {
			for _, e := range w.in.edges {
				w.reducer.Observe(health.Observation{Edge: e.edge.ID, Vantage: storeVantage, OK: e.status == store.Passing, At: now})
			}
		}
		w.foldIfDueLocked(now)
		w.mu.Unlock()
		if err := w.save(); err != nil {
			w.cfg.Log.Error("last-known-good not written", "path", w.cfg.Path, "err", err)
		}
	}
}

// foldLocked makes the next World and swaps it in.
func (w *Writer) foldLocked(now time.Time) {
	next := &steer.World{At: now, Generation: 1, Law: w.in.law, Map: w.in.deployment, Keys: w.in.keys, StoreUp: w.in.failed.IsZero()}
	if old := w.current.Load(); old != nil {
		next.Generation = old.Generation + 1
	}
	for _, e := range w.in.Modes {
		next.Applied = max(next.Applied, e.Rev)
	}
	snap := w.reducer.Snapshot(now)
	next.Regions = make([]steer.Region, len(w.in.deployment.Regions))
	for i := range w.in.deployment.Regions {
		r := &w.in.deployment.Regions[i]
		mode := w.in.modes[r.ID]
		next.Regions[i] = steer.Region{Region: r, Hop: w.in.deployment.Hop(r), Mode: mode.At(now), Reason: mode.Reason,
			Edges: w.edgesLocked(r, snap)}
	}
	w.wakes = w.nextLocked(now, snap)
	w.restrainLocked(next, now)
	w.current.Store(next)
	for c := range w.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// darkEvery is the least time between two regions that health alone takes out, in
// probe intervals: 60 s in production. Probes that find region after region dead in
// one breath are likelier wrong than right; an operator's word never waits.
const darkEvery = 12

// restrainLocked holds back the fall of a region's last edges while another region
// fell within darkEvery.
func (w *Writer) restrainLocked(next *steer.World, now time.Time) {
	w.held = nil
	prev := w.current.Load()
	if prev == nil {
		return
	}
	for i := range next.Regions {
		r := &next.Regions[i]
		k := prev.RegionIndex(r.ID)
		if k < 0 || !dark(r) || dark(&prev.Regions[k]) || len(prev.Regions[k].Edges) == 0 {
			continue
		}
		free := w.dark.Add(darkEvery * w.cfg.Health.Interval)
		if w.dark.IsZero() || !now.Before(free) {
			w.dark = now
			continue
		}
		if free.Before(w.wakes) {
			w.wakes = free
		}
		if w.held == nil {
			w.held = map[region.EdgeID]bool{}
		}
		for e := range r.Edges {
			w.held[r.Edges[e].ID] = true
			if _, was := prev.Edge(r.Edges[e].ID); was != nil {
				r.Edges[e].Health = was.Health
			}
		}
	}
}

// dark tells whether every edge of a region looks down.
func dark(r *steer.Region) bool {
	for i := range r.Edges {
		if r.Edges[i].Health != steer.Unhealthy {
			return false
		}
	}
	return len(r.Edges) > 0
}

// edgesLocked are the registered edges of a region, and the map's static ones that
// have not registered, ordered by ID.
func (w *Writer) edgesLocked(r *region.Region, snap health.Snapshot) []steer.Edge {
	var edges []steer.Edge
	for _, p := range w.in.edges {
		if p.region != r.ID {
			continue
		}
		e := p.edge
		e.Health = healthOf(snap, e.ID)
		edges = append(edges, e)
	}
	for _, static := range r.Edges {
		if _, registered := w.in.edges[static.ID]; registered {
			continue
		}
		e := steer.Edge{ID: static.ID, Host: "https://" + string(static.ID) + ".edge." + w.in.deployment.Zone,
			Admits: r.Capacity.Admission, Health: healthOf(snap, static.ID)}
		for _, a := range static.Addrs {
			if a.Is4() {
				e.Addr4 = a
			} else {
				e.Addr6 = a
			}
		}
		edges = append(edges, e)
	}
	slices.SortFunc(edges, func(a, b steer.Edge) int { return cmp.Compare(a.ID, b.ID) })
	return edges
}

// foldIfDueLocked folds when the damped health or time alone changed something.
func (w *Writer) foldIfDueLocked(now time.Time) {
	if !w.wakes.IsZero() && !now.Before(w.wakes) {
		w.foldLocked(now)
		return
	}
	snap := w.reducer.Snapshot(now)
	for _, r := range w.current.Load().Regions {
		for _, e := range r.Edges {
			if healthOf(snap, e.ID) != e.Health && !w.held[e.ID] {
				w.foldLocked(now)
				return
			}
		}
	}
}

// stepLimit bounds the age of World.At.
const stepLimit = time.Minute

// nextLocked is when the world must be folded again though nobody says anything:
// a mode expires, a paper expires, or a minute has passed.
func (w *Writer) nextLocked(now time.Time, snap health.Snapshot) time.Time {
	next := now.Add(stepLimit)
	sooner := func(t time.Time) {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	sooner(snap.NextChange)
	for _, m := range w.in.modes {
		sooner(m.ExpiresAt)
	}
	for _, t := range w.in.deployment.Deadlines() {
		sooner(t)
	}
	return next
}

func healthOf(s health.Snapshot, id region.EdgeID) steer.Health {
	switch s.Edges[id].State {
	case health.Up:
		return steer.Up
	case health.Down:
		return steer.Unhealthy
	}
	return steer.Unknown
}
