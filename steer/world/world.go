// Package world is the single writer of the World: it watches the stores, keeps what
// they, the probes and the files said ([Heard]), lets [steer.Fold] make one immutable
// [steer.World] of it, and swaps one atomic pointer.
//
// Readers call [Writer.Current] once per request and wait for nothing. Losing the
// store changes nothing that is already known: the last good word is kept, written
// to a file, and served again after a cold start, never expired to empty.
package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/store"
)

// Config is what a Writer folds from.
type Config struct {
	Map    *region.Map
	Law    *residency.Law
	Stores store.Set
	Health health.Params
	// Path is the last-known-good file; empty keeps none.
	Path string
	// ParseKey reads the value of a published join key.
	ParseKey func([]byte) (steer.JoinKey, error)
	Log      *slog.Logger
	// Registry takes the metrics; may be nil.
	Registry prometheus.Registerer
}

// Writer folds; its methods are safe for concurrent use.
type Writer struct {
	cfg     Config
	current atomic.Pointer[steer.World]
	synced  chan struct{} // closed once there is a word to serve: the stores' or the file's
	once    sync.Once

	mu      sync.Mutex
	heard   *Heard
	subs    map[chan struct{}]struct{}
	unsaved bool
	folded  time.Time     // the last time
	soon    time.Time     // when a load that waits is to be folded; zero: none waits
	nudge   chan struct{} // soon was set
}

// New folds a first World from the map and, where there is one, the last-known-good
// file. A file that cannot be read is an error that says so: remove it to start
// without it.
func New(cfg Config) (*Writer, error) {
	w := &Writer{cfg: cfg, subs: map[chan struct{}]struct{}{}, synced: make(chan struct{}), nudge: make(chan struct{}, 1),
		heard: NewHeard(cfg.Map, cfg.Law, cfg.Health, cfg.ParseKey, cfg.Log, slices.Collect(maps.Keys(cfg.Stores))...)}
	saved, found, err := readSaved(cfg.Path)
	if err != nil {
		return nil, err
	}
	if found {
		w.heard.Restore(saved, time.Now())
		w.once.Do(func() { close(w.synced) })
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.foldLocked(time.Now())
	if cfg.Registry != nil {
		if err := cfg.Registry.Register(metrics{w}); err != nil {
			return nil, fmt.Errorf("world: metrics: %w", err)
		}
	}
	return w, nil
}

// Current is the newest World; never nil.
func (w *Writer) Current() *steer.World { return w.current.Load() }

// Load is what an edge last said that it holds. The World's may lag behind by less than
// makes a decision differ; it is for people.
func (w *Writer) Load(id region.EdgeID) steer.Load {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard.Load(id)
}

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
	w.heard.SetMap(m)
	w.foldLocked(time.Now())
}

// Foresee is the World as another map would make it; nothing changes.
func (w *Writer) Foresee(m *region.Map) *steer.World {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard.Foresee(m, time.Now())
}

// Observe takes one probe's word on an edge.
func (w *Writer) Observe(o health.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changedLocked(w.heard.Observe(o.At, o), o.At)
}

// Run watches the stores and keeps time until ctx ends.
func (w *Writer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for name, st := range w.cfg.Stores {
		w.watch(ctx, g, name, st)
	}
	g.Go(func() error { return w.keep(ctx) })
	err := g.Wait()
	if saveErr := w.save(); saveErr != nil {
		return errors.Join(err, saveErr)
	}
	return err
}

// keep lets time pass in the world, and writes the last-known-good file when there is
// something new.
func (w *Writer) keep(ctx context.Context) error {
	tick := time.NewTicker(w.cfg.Health.Interval)
	defer tick.Stop()
	failing := false
	for {
		wake := time.NewTimer(time.Until(w.wakes()))
		select {
		case <-ctx.Done():
			wake.Stop()
			return ctx.Err()
		case <-w.nudge:
		case <-wake.C:
			w.mu.Lock()
			if now := time.Now(); !w.soon.IsZero() && !now.Before(w.soon) || !now.Before(w.heard.world.Wakes) {
				w.foldLocked(now)
			}
			w.mu.Unlock()
		case <-tick.C:
			w.mu.Lock()
			now := time.Now()
			w.changedLocked(w.heard.Tick(now), now)
			w.mu.Unlock()
			err := w.save()
			if err != nil && !failing { // once an outage, not once a try
				w.cfg.Log.Error("last-known-good not written: trying on", "path", w.cfg.Path, "err", err)
			}
			failing = err != nil
		}
		wake.Stop()
	}
}

// wakes is the next instant at which the world is to be folded though nobody says more.
func (w *Writer) wakes() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at := w.heard.world.Wakes; w.soon.IsZero() || at.Before(w.soon) {
		return at
	}
	return w.soon
}

// loadEvery is the least time from a fold to one for a load alone: four a second, however
// many edges there are.
const loadEvery = 250 * time.Millisecond

// changedLocked folds at once, or soon, or not at all.
func (w *Writer) changedLocked(change Change, now time.Time) {
	switch at := w.folded.Add(loadEvery); {
	case change == News, change == Load && !now.Before(at):
		w.foldLocked(now)
	case change == Load && w.soon.IsZero():
		w.soon = at
		select {
		case w.nudge <- struct{}{}:
		default:
		}
	}
}

// foldLocked makes the next World and swaps it in.
func (w *Writer) foldLocked(now time.Time) {
	w.folded, w.soon = now, time.Time{}
	old := w.heard.world
	next := w.heard.Fold(now)
	w.current.Store(next)
	w.unsaved = w.unsaved || !maps.Equal(next.Left, old.Left)
	if next.Doubted > 0 && old.Doubted == 0 {
		w.cfg.Log.Error("most edges vanished from the store at once: kept until probes agree", "gone", next.Doubted, "known", len(next.Known()))
	}
	for c := range w.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
