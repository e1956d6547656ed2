package world

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/store"
)

// The parts of a datacenter that a node follows.
const (
	keysPrefix  = "bailiwick/keys/"
	flagsPrefix = "bailiwick/law/"
)

var parts = []string{steer.ModesPrefix, keysPrefix, flagsPrefix, Service}

// Change is what something heard means for the next World.
type Change uint8

const (
	Same Change = iota // it would be the same
	Load               // an edge's load, as decisions see it: it may wait a little
	News               // fold at once
)

// Heard is what one node was told, parsed: by its stores, its probes and its files. It
// has no clock, lock or socket: a [Writer] keeps one, and so may a simulation.
type Heard struct {
	catalogue *residency.Law
	parseKey  func([]byte) (steer.JoinKey, error)
	log       *slog.Logger

	facts   steer.Facts
	reducer *health.Reducer
	stores  map[string]*told
	flags   map[string]bool // of facts.Law; nil: as the law was given
	world   *steer.World    // the last one folded
}

// told is what one datacenter said, in its own words and parsed.
type told struct {
	saved
	rev     uint64    // of the last snapshot of the modes
	applied time.Time // when facts last took it
	keys    map[string]steer.JoinKey
	flags   map[string]bool
	edges   map[region.EdgeID]steer.Registered
	failing map[string]error // parts that are out of reach
	since   time.Time        // when the first of them failed; zero: none
	seen    map[string]bool  // parts that were heard at least once
}

// NewHeard knows the map and the law alone. datacenters are the names of the stores.
func NewHeard(m *region.Map, law *residency.Law, p health.Params, parseKey func([]byte) (steer.JoinKey, error), log *slog.Logger, datacenters ...string) *Heard {
	h := &Heard{catalogue: law, parseKey: parseKey, log: log, reducer: health.New(p), stores: map[string]*told{}, world: &steer.World{}}
	h.facts = steer.Facts{Map: m, Law: law, Modes: map[string]map[region.ID]steer.Said{}, Applied: map[string]uint64{}, Interval: p.Interval}
	for _, name := range datacenters {
		h.facts.Modes[name] = nil
		h.stores[name] = &told{failing: map[string]error{}, seen: map[string]bool{}}
	}
	return h
}

// vantage is a store's vote among the health observations: the lease of an edge says
// what the edge says of itself.
func vantage(datacenter string) string {
	if datacenter == "" {
		return "store"
	}
	return "store " + datacenter
}

// Fold makes the next World, and forgets the health of edges that it lacks.
func (h *Heard) Fold(now time.Time) *steer.World {
	was := h.world.Known()
	h.facts.Health = h.reducer.Snapshot(now)
	h.world = steer.Fold(h.world, &h.facts, now)
	for id := range was {
		if _, still := h.world.Known()[id]; !still {
			h.reducer.Forget(id)
		}
	}
	return h.world
}

// SetMap takes another map.
func (h *Heard) SetMap(m *region.Map) {
	h.facts.Map = m
	h.lay()
}

// Foresee is the World as it would be now with another map.
func (h *Heard) Foresee(m *region.Map, now time.Time) *steer.World {
	facts := h.facts
	facts.Map, facts.Law = m, h.catalogue.With(h.flagsOf(m))
	return steer.Fold(h.world, &facts, now)
}

// Observe takes the words of probes that ended at one instant.
func (h *Heard) Observe(now time.Time, probes ...health.Observation) Change {
	for _, o := range probes {
		if _, known := h.world.Known()[o.Edge]; known { // else it was deregistered while the probe ran
			h.reducer.Observe(o)
		}
	}
	return h.due(now)
}

func (h *Heard) due(now time.Time) Change {
	if h.world.Due(func(id region.EdgeID) health.State { return h.reducer.State(id, now) }, now) {
		return News
	}
	return Same
}

// Tick lets time pass: call it once each probe interval. What the stores said last is
// their word until they say another, so it is repeated to the reducer.
func (h *Heard) Tick(now time.Time) Change {
	for id, e := range h.world.Known() {
		h.lease(id, e, now)
	}
	for name, t := range h.stores {
		if t.rev > h.facts.Applied[name] && now.Sub(t.applied) >= idleRev {
			h.apply(name, now)
			return News
		}
	}
	return h.due(now)
}

// lease tells the reducer what a registration says of its edge. In maintenance it says
// nothing: the operator's word binds past health, and must not tie with a probe later.
func (h *Heard) lease(id region.EdgeID, e steer.Registered, now time.Time) {
	if t := h.stores[e.Datacenter]; e.Lease == steer.Maintenance || t == nil || !t.since.IsZero() {
		return
	}
	h.reducer.Observe(health.Observation{Edge: id, Vantage: vantage(e.Datacenter), Own: true, OK: e.Lease == steer.Held, At: now})
}

// idleRev is how long a revision waits that came without a change of the modes. Under a
// prefix that holds nothing, each write of any other key is one: acknowledging them all
// would cost the store as many.
const idleRev = time.Minute

func (h *Heard) apply(datacenter string, now time.Time) {
	t := h.stores[datacenter]
	t.applied = now
	h.facts.Applied = maps.Clone(h.facts.Applied)
	h.facts.Applied[datacenter] = t.rev
}

// Modes takes every region's mode. One that cannot be read keeps the last mode known; an
// absent one is serving.
func (h *Heard) Modes(datacenter string, s store.Snapshot, now time.Time) Change {
	t := h.stores[datacenter]
	t.rev = max(t.rev, s.Rev)
	if !t.first(steer.ModesPrefix) && store.EqualEntries(t.Modes, s.Entries) {
		return Same
	}
	modes := make(map[region.ID]steer.Said, len(s.Entries))
	for _, e := range s.Entries {
		id := region.ID(strings.TrimPrefix(e.Key, steer.ModesPrefix))
		rec, err := steer.ParseModeRecord(e.Value)
		if err != nil {
			if last, known := h.facts.Modes[datacenter][id]; known {
				modes[id] = last
			}
			h.log.Error("region mode not readable: the last known mode stays", "key", e.Key, "err", err)
			continue
		}
		switch {
		case h.facts.Map.Region(id) == nil:
			h.log.Warn("region mode for a region that is not in the map", "key", e.Key)
		case datacenter != "" && h.facts.Map.Datacenter(id) != datacenter:
			h.log.Warn("region mode does not count: the region's modes are kept in another datacenter", "key", e.Key, "datacenter", datacenter, "want", h.facts.Map.Datacenter(id))
		}
		modes[id] = steer.Said{ModeRecord: rec, Rev: e.Rev}
	}
	all := maps.Clone(h.facts.Modes)
	all[datacenter] = modes
	h.facts.Modes, t.Modes = all, s.Entries
	h.apply(datacenter, now)
	return News
}

// Keys takes the join keys that are published in a datacenter.
func (h *Heard) Keys(datacenter string, entries []store.Entry) Change {
	t := h.stores[datacenter]
	if !t.first(keysPrefix) && store.EqualEntries(t.Keys, entries) {
		return Same
	}
	t.Keys, t.keys = entries, make(map[string]steer.JoinKey, len(entries))
	for _, e := range entries {
		k, err := h.parseKey(e.Value)
		if err != nil {
			h.log.Error("join key not readable", "key", e.Key, "err", err)
			continue
		}
		t.keys[strings.TrimPrefix(e.Key, keysPrefix)] = k
	}
	all := map[string]steer.JoinKey{}
	for _, name := range h.names() {
		maps.Copy(all, h.stores[name].keys)
	}
	h.facts.Keys = all
	return News
}

// Flags takes a datacenter's law flags.
func (h *Heard) Flags(datacenter string, entries []store.Entry) Change {
	t := h.stores[datacenter]
	if !t.first(flagsPrefix) && store.EqualEntries(t.Flags, entries) {
		return Same
	}
	t.Flags, t.flags = entries, make(map[string]bool, len(entries))
	for _, e := range entries {
		name := strings.TrimPrefix(e.Key, flagsPrefix)
		if !h.catalogue.HasFlag(name) { // else whoever misspells what is to be revoked believes that it is
			h.log.Error("law flag not known: it does nothing", "key", e.Key)
			continue
		}
		on := string(e.Value) == "true"
		if !on && string(e.Value) != "false" {
			h.log.Error("law flag not readable: want true or false; taken as false", "key", e.Key)
		}
		t.flags[name] = on
	}
	h.lay()
	return News
}

// lay puts the law in force as its flags are now.
func (h *Heard) lay() {
	flags := h.flagsOf(h.facts.Map)
	if h.flags == nil || !maps.Equal(flags, h.flags) {
		h.flags, h.facts.Law = flags, h.catalogue.With(flags)
	}
}

// flagsOf lays the stores' law flags over a map's. Where stores differ the flag is off:
// what somebody denies is not asserted.
func (h *Heard) flagsOf(m *region.Map) map[string]bool {
	said := map[string]bool{}
	for _, t := range h.stores {
		for name, on := range t.flags {
			before, twice := said[name]
			said[name] = on && (before || !twice)
		}
	}
	flags := maps.Clone(m.Flags)
	if flags == nil {
		flags = map[string]bool{}
	}
	maps.Copy(flags, said)
	return flags
}

// Instances takes the edges that are registered in a datacenter.
func (h *Heard) Instances(datacenter string, list []store.Instance, now time.Time) Change {
	t := h.stores[datacenter]
	first := t.first(Service)
	last, edges := t.Instances, t.edges
	t.Instances, t.edges = list, make(map[region.EdgeID]steer.Registered, len(list))
	for i, in := range list {
		r, read := edges[region.EdgeID(in.ID)]
		var err error
		if !read || i >= len(last) || !store.EqualInstances(last[i:i+1], list[i:i+1]) { // most say what they said
			r, err = Registered(datacenter, in)
		}
		if err != nil {
			h.log.Error("registration not readable", "err", err)
			continue
		}
		t.edges[r.Edge.ID] = r
		h.lease(r.Edge.ID, r, now)
	}
	was := h.facts.Edges
	h.facts.Edges = t.edges
	if len(h.stores) > 1 {
		h.facts.Edges = h.registered()
	}
	change := differ(was, h.facts.Edges)
	if first || change == News {
		return News
	}
	return max(change, h.due(now))
}

// registered are the edges of all datacenters; of one that is in several, the best lease
// counts.
func (h *Heard) registered() map[region.EdgeID]steer.Registered {
	all := map[region.EdgeID]steer.Registered{}
	for _, name := range h.names() {
		for id, e := range h.stores[name].edges {
			if other, twice := all[id]; !twice || e.Lease < other.Lease {
				all[id] = e
			}
		}
	}
	return all
}

// differ tells how the edges that are registered changed.
func differ(was, is map[region.EdgeID]steer.Registered) Change {
	change := Same
	if len(was) != len(is) {
		return News
	}
	for id, e := range is {
		old, known := was[id]
		seen, before := e.Edge.Decides(), old.Edge.Decides()
		e.Edge.Load, old.Edge.Load = steer.Load{}, steer.Load{}
		switch {
		case !known || e != old:
			return News
		case seen != before:
			change = Load
		}
	}
	return change
}

// Load is what an edge last said that it holds: newer than the World's, where no decision
// would differ.
func (h *Heard) Load(id region.EdgeID) steer.Load { return h.facts.Edges[id].Edge.Load }

// Reach takes whether one part of a datacenter can be reached.
func (h *Heard) Reach(datacenter, part string, err error, now time.Time) Change {
	t := h.stores[datacenter]
	if err == nil {
		delete(t.failing, part)
	} else {
		t.failing[part] = err
	}
	away := maps.Clone(h.facts.Away)
	switch failing := len(t.failing) > 0; {
	case !failing && !t.since.IsZero():
		h.log.Info("store is back", "datacenter", datacenter, "after", now.Sub(t.since).Round(time.Millisecond))
		t.since = time.Time{}
		h.reducer.Fresh(vantage(datacenter))
		delete(away, datacenter)
	case failing && t.since.IsZero():
		h.log.Error("store is out of reach: steering goes on with the last known good", "datacenter", datacenter, "err", err)
		t.since = now
		h.reducer.Stale(vantage(datacenter), now)
		if away == nil {
			away = map[string]bool{}
		}
		away[datacenter] = true
	default:
		return Same
	}
	h.facts.Away = away
	return News
}

// Synced tells whether there is a word to serve: every datacenter was heard in all its
// parts, but for those that are out of reach, and one at least was.
func (h *Heard) Synced() bool {
	heard := 0
	for _, t := range h.stores {
		switch {
		case len(t.seen) == len(parts):
			heard++
		case t.since.IsZero():
			return false
		}
	}
	return heard > 0
}

// names are the datacenters in order.
func (h *Heard) names() []string { return slices.Sorted(maps.Keys(h.stores)) }

// first tells whether a part had not been heard before.
func (t *told) first(part string) bool {
	first := !t.seen[part]
	t.seen[part] = true
	return first
}
