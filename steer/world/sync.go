package world

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"bailiwick/steer"
	"bailiwick/store"
)

// watch follows the parts of one datacenter that the world is made of.
func (w *Writer) watch(ctx context.Context, g *errgroup.Group, name string, st store.Store) {
	kv := func(prefix string, take func(store.Snapshot) Change) {
		g.Go(func() error {
			return st.Watch(ctx, prefix, func(s store.Snapshot) { w.heardOf(func() Change { return take(s) }) }, w.reachable(name, prefix))
		})
	}
	kv(steer.ModesPrefix, func(s store.Snapshot) Change { return w.heard.Modes(name, s, time.Now()) })
	kv(keysPrefix, func(s store.Snapshot) Change { return w.heard.Keys(name, s.Entries) })
	kv(flagsPrefix, func(s store.Snapshot) Change { return w.heard.Flags(name, s.Entries) })
	g.Go(func() error {
		return st.WatchInstances(ctx, Service, func(list []store.Instance) {
			w.heardOf(func() Change { return w.heard.Instances(name, list, time.Now()) })
		}, w.reachable(name, Service))
	})
}

// heardOf folds what a store said, as soon as it must be.
func (w *Writer) heardOf(take func() Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change := take()
	w.unsaved = w.unsaved || change != Same
	w.changedLocked(change, time.Now())
	if w.heard.Synced() {
		w.once.Do(func() { close(w.synced) })
	}
}

func (w *Writer) reachable(datacenter, part string) func(error) {
	return func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		now := time.Now()
		w.changedLocked(w.heard.Reach(datacenter, part, err, now), now)
	}
}
