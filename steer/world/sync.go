package world

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/store"
)

const (
	keysPrefix  = "bailiwick/keys/"
	flagsPrefix = "bailiwick/law/"
	acksPrefix  = "bailiwick/acks/"
)

// watch follows the four parts of the store that the world is made of.
func (w *Writer) watch(ctx context.Context, g *errgroup.Group) {
	kv := func(prefix string, apply func([]store.Entry)) {
		g.Go(func() error {
			return w.cfg.Store.Watch(ctx, prefix, func(s store.Snapshot) {
				w.mu.Lock()
				defer w.mu.Unlock()
				apply(s.Entries)
				w.syncedLocked(prefix)
			}, w.reachable(prefix))
		})
	}
	kv(steer.ModesPrefix, w.applyModesLocked)
	kv(keysPrefix, w.applyKeysLocked)
	kv(flagsPrefix, w.applyFlagsLocked)
	g.Go(func() error {
		return w.cfg.Store.WatchInstances(ctx, Service, func(list []store.Instance) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.applyInstancesLocked(list, time.Now())
			w.syncedLocked(Service)
		}, w.reachable(Service))
	})
}

// watches is how many parts must have been heard before a cold start is synced.
const watches = 4

func (w *Writer) syncedLocked(part string) {
	w.in.seen[part] = true
	w.unsaved = true
	w.foldLocked(time.Now())
	if len(w.in.seen) == watches {
		w.once.Do(func() { close(w.synced) })
	}
}

// reachable keeps the age of the store's word.
func (w *Writer) reachable(part string) func(error) {
	return func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		before := w.in.failed
		if err == nil {
			delete(w.in.failing, part)
		} else {
			w.in.failing[part] = err
		}
		now := time.Now()
		switch {
		case len(w.in.failing) == 0 && !before.IsZero():
			w.in.failed = time.Time{}
			w.reducer.Fresh(storeVantage)
			w.cfg.Log.Info("store is back", "after", now.Sub(before).Round(time.Millisecond))
			w.foldLocked(now)
		case len(w.in.failing) > 0 && before.IsZero():
			w.in.failed = now
			w.reducer.Stale(storeVantage, now)
			w.cfg.Log.Error("store is out of reach: steering goes on with the last known good", "err", err)
			w.foldLocked(now)
		}
	}
}

// applyModesLocked takes every region's mode. One that cannot be read keeps the
// last mode known; an absent one is serving.
func (w *Writer) applyModesLocked(entries []store.Entry) {
	modes := make(map[region.ID]steer.ModeRecord, len(entries))
	for _, e := range entries {
		id := region.ID(strings.TrimPrefix(e.Key, steer.ModesPrefix))
		rec, err := steer.ParseModeRecord(e.Value)
		if err != nil {
			if last, known := w.in.modes[id]; known {
				modes[id] = last
			}
			w.cfg.Log.Error("region mode not readable: the last known mode stays", "key", e.Key, "err", err)
			continue
		}
		if w.in.deployment.Region(id) == nil {
			w.cfg.Log.Warn("region mode for a region that is not in the map", "key", e.Key)
		}
		modes[id] = rec
	}
	w.in.modes, w.in.Modes = modes, entries
}

func (w *Writer) applyKeysLocked(entries []store.Entry) {
	keys := make(map[string]steer.JoinKey, len(entries))
	for _, e := range entries {
		k, err := w.cfg.ParseKey(e.Value)
		if err != nil {
			w.cfg.Log.Error("join key not readable", "key", e.Key, "err", err)
			continue
		}
		keys[strings.TrimPrefix(e.Key, keysPrefix)] = k
	}
	w.in.keys, w.in.Keys = keys, entries
}

// applyFlagsLocked lays the store's law flags over the map's.
func (w *Writer) applyFlagsLocked(entries []store.Entry) {
	flags := make(map[string]bool, len(entries))
	for name, on := range w.in.deployment.Flags {
		flags[name] = on
	}
	for _, e := range entries {
		on := string(e.Value) == "true"
		if !on && string(e.Value) != "false" {
			w.cfg.Log.Error("law flag not readable: want true or false; taken as false", "key", e.Key)
		}
		flags[strings.TrimPrefix(e.Key, flagsPrefix)] = on
	}
	w.in.law, w.in.Flags = w.cfg.Law.With(flags), entries
}

// applyInstancesLocked takes the registered edges. An edge that is gone was taken
// out: it is forgotten at once, past any damping — unless more than half of three
// or more vanish in one breath, which is likelier a broken store than a decision:
// those stay until their probes agree.
func (w *Writer) applyInstancesLocked(list []store.Instance, now time.Time) {
	edges := make(map[region.EdgeID]placedEdge, len(list))
	for _, in := range list {
		reg, e, err := ParseInstance(in)
		if err != nil {
			w.cfg.Log.Error("registration not readable", "err", err)
			continue
		}
		edges[e.ID] = placedEdge{region: reg, edge: e, status: in.Status}
		w.reducer.Observe(health.Observation{Edge: e.ID, Vantage: storeVantage, OK: in.Status == store.Passing, At: now})
	}
	var gone []region.EdgeID
	for id := range w.in.edges {
		if _, still := edges[id]; !still {
			gone = append(gone, id)
		}
	}
	shrunk := len(w.in.edges) >= 3 && len(gone)*2 > len(w.in.edges)
	if shrunk {
		w.cfg.Log.Error("most edges vanished from the store at once: kept until probes agree", "gone", len(gone), "known", len(w.in.edges))
	}
	for _, id := range gone {
		if shrunk && w.reducer.Snapshot(now).Edges[id].State != health.Down {
			kept := w.in.edges[id]
			kept.status = store.Critical
			edges[id] = kept
			continue
		}
		w.reducer.Forget(id)
	}
	w.in.edges, w.in.Instances = edges, list
}

// acknowledge publishes which modes this node has applied, so that a drill knows
// when every node has.
func (w *Writer) acknowledge(ctx context.Context) error {
	changed, cancel := w.Subscribe()
	defer cancel()
	acked, first := uint64(0), true
	for {
		if cur := w.Current(); cur.StoreUp && (first || cur.Applied != acked) {
			b, _ := json.Marshal(struct {
				Generation uint64    `json:"generation"`
				Applied    uint64    `json:"applied"`
				At         time.Time `json:"at"`
			}{cur.Generation, cur.Applied, cur.At.UTC()})
			if _, err := w.cfg.Store.Put(ctx, acksPrefix+w.cfg.Node, b); err == nil {
				acked, first = cur.Applied, false
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
