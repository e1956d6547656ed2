package steer

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
)

// Facts are what a World is folded from, as plain data: what the map, the law, the
// stores and the probes said last. Fold keeps its maps; whoever learns something new
// makes new ones.
type Facts struct {
	Map *region.Map
	Law *residency.Law // under the flags in force

	// Of the store, by datacenter; one nameless is the common case. Modes has an entry for
	// each, heard or not.
	Modes   map[string]map[region.ID]Said
	Applied map[string]uint64 // the revision of the snapshot that Modes came from
	Away    map[string]bool   // out of reach

	Edges  map[region.EdgeID]Registered
	Keys   map[string]JoinKey
	Health health.Snapshot
	// Interval lies between two probes of an edge: damping is counted in it.
	Interval time.Duration
}

// modes are those of the datacenter that keeps the region's. A nameless store keeps what
// no other does.
func (f *Facts) modes(id region.ID) map[region.ID]Said {
	if modes, there := f.Modes[f.Map.Datacenter(id)]; there {
		return modes
	}
	return f.Modes[""]
}

// Said is an operator's word on a region, and the store's revision of it.
type Said struct {
	ModeRecord
	Rev uint64
}

// Registered is an edge as the store lists it.
type Registered struct {
	Datacenter string // of the store
	Region     region.ID
	Edge       Edge // its Health is Fold's to say
	Lease      Lease
}

// Lease is what the store says of a registration.
type Lease uint8

const (
	Held        Lease = iota // the edge renews it
	Lapsed                   // it does not, or a check fails: health weighs that
	Maintenance              // an operator took the edge or its machine out: that binds like a mode
)

// Fold makes the next World of a node from what is known now and from the last World,
// which holds all that passes from fold to fold; nil for the first. It depends on its
// arguments alone.
func Fold(prev *World, f *Facts, now time.Time) *World {
	if prev == nil {
		prev = &World{}
	}
	w := &World{Generation: prev.Generation + 1, At: now, Law: f.Law, LawDigest: f.Law.Digest(), Map: f.Map, MapDigest: f.Map.Digest,
		Keys: f.Keys, Applied: applied(prev.Applied, f.Applied), Away: maps.Clone(f.Away), StoreUp: len(f.Away) == 0}
	w.known, w.Doubted = known(prev.known, f)
	w.Left = left(prev, w)
	w.Regions = make([]Region, len(f.Map.Regions))
	edges := w.edges(f)
	for i := range f.Map.Regions {
		r := &f.Map.Regions[i]
		w.Regions[i] = Region{Region: r, Hop: f.Map.Hop(r), Edges: edges[r.ID]}
		w.Regions[i].say(f.modes(r.ID)[r.ID], now)
	}
	w.Wakes = wakes(f, now)
	w.restrain(prev, f, now)
	if w.Answers = prev.Answers; !prev.decidesLike(w) {
		w.Answers++
	}
	return w
}

// Due tells whether the next World would differ from w, though nobody but the probes and
// the clock said anything since.
func (w *World) Due(state func(region.EdgeID) health.State, now time.Time) bool {
	if !now.Before(w.Wakes) {
		return true
	}
	for i := range w.Regions {
		for k := range w.Regions[i].Edges {
			if e := &w.Regions[i].Edges[k]; healthOf(state(e.ID)) != e.Health && !w.held[e.ID] {
				return true
			}
		}
	}
	return false
}

// Known are the registered edges that w was folded from, those among them that are doubted
// to be gone. It is not to be changed.
func (w *World) Known() map[region.EdgeID]Registered { return w.known }

// applied never goes back: a store whose keys were deleted, or that was restored, says a
// lower revision of what was folded in long ago.
func applied(was, heard map[string]uint64) map[string]uint64 {
	is := maps.Clone(was)
	for name, rev := range heard {
		if rev > is[name] {
			if is == nil {
				is = map[string]uint64{}
			}
			is[name] = rev
		}
	}
	return is
}

// say takes the operator's word, which is over when its time is.
func (r *Region) say(word Said, now time.Time) {
	if r.Rev = word.Rev; !word.ExpiresAt.IsZero() && !now.Before(word.ExpiresAt) {
		return
	}
	r.Mode, r.Reason, r.Actor, r.Drill, r.Until = word.At(now), word.Reason, word.Actor, word.Drill, word.ExpiresAt
}

// edges are those of each region, ordered by ID: the registered ones, and the map's own
// that have never registered.
func (w *World) edges(f *Facts) map[region.ID][]Edge {
	all := map[region.ID][]Edge{}
	for _, p := range w.known {
		e := p.Edge
		if p.Lease == Maintenance {
			e.Mode = max(e.Mode, Draining)
		}
		all[p.Region] = append(all[p.Region], e)
	}
	for i := range f.Map.Regions {
		r := &f.Map.Regions[i]
		for k := range r.Edges {
			if _, registered := w.known[r.Edges[k].ID]; !registered && !w.Left[r.Edges[k].ID] {
				all[r.ID] = append(all[r.ID], static(f.Map, r, &r.Edges[k]))
			}
		}
	}
	for _, edges := range all {
		slices.SortFunc(edges, func(a, b Edge) int { return cmp.Compare(a.ID, b.ID) })
		for i := range edges {
			edges[i].Health = healthOf(f.Health.Edges[edges[i].ID].State)
		}
	}
	return all
}

// static is an edge of the map that nobody registered.
func static(m *region.Map, r *region.Region, of *region.Edge) Edge {
	e := Edge{ID: of.ID, Host: "https://" + string(of.ID) + ".edge." + m.Zone, Admits: r.Capacity.Admission}
	for _, a := range of.Addrs {
		if a.Is4() {
			e.Addr4 = a
		} else {
			e.Addr6 = a
		}
	}
	return e
}

// stepLimit bounds the age of World.At.
const stepLimit = time.Minute

// wakes is when the world must be folded again though nobody says anything: a mode
// expires, a paper expires, or a minute has passed.
func wakes(f *Facts, now time.Time) time.Time {
	next := now.Add(stepLimit)
	sooner := func(t time.Time) {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	sooner(f.Health.NextChange)
	for _, modes := range f.Modes {
		for _, m := range modes {
			sooner(m.ExpiresAt)
		}
	}
	for t := range f.Map.Deadlines() {
		sooner(t)
	}
	return next
}

func healthOf(s health.State) Health {
	switch s {
	case health.Up:
		return Up
	case health.Down:
		return Unhealthy
	}
	return Unknown
}
