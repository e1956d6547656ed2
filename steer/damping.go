package steer

import (
	"maps"
	"time"

	"bailiwick/health"
	"bailiwick/region"
)

// damping is what a World hands to the next one, so that what the stores and the probes
// say in one breath is not all believed at once.
type damping struct {
	known map[region.EdgeID]Registered
	dark  time.Time              // when health alone last took a whole region out
	held  map[region.EdgeID]bool // edges whose fall waits for that to be darkEvery ago
}

// doubtful is the least number of edges of which more than half may not vanish at once.
const doubtful = 3

// known are the edges that count as registered. One that is gone was taken out: it is
// gone at once, past any damping; unless more than half of three or more vanish in one
// breath, which is likelier a broken store than a decision. Those stay, their leases
// lapsed, until their health is down.
func known(was map[region.EdgeID]Registered, f *Facts) (all map[region.EdgeID]Registered, doubted int) {
	gone := 0
	for id := range was {
		if _, still := f.Edges[id]; !still {
			gone++
		}
	}
	if len(was) < doubtful || gone*2 <= len(was) {
		return f.Edges, 0
	}
	all = maps.Clone(f.Edges)
	for id, e := range was {
		if _, still := f.Edges[id]; !still && f.Health.Edges[id].State != health.Down {
			if all == nil {
				all = map[region.EdgeID]Registered{}
			}
			e.Lease = Lapsed
			all[id] = e
			doubted++
		}
	}
	return all, doubted
}

// maxLeft edges that have left are remembered though the map does not have them.
const maxLeft = 1000

// left are the edges that were registered and are no more. The map need not have them: it may
// again, with the region that was taken out of it for a while.
func left(prev, w *World) map[region.EdgeID]bool {
	var all map[region.EdgeID]bool
	add := func(id region.EdgeID) {
		if _, is := w.known[id]; is {
			return
		}
		if all == nil {
			all = map[region.EdgeID]bool{}
		}
		all[id] = true
	}
	for id := range prev.known {
		add(id)
	}
	for id := range prev.Left {
		add(id)
	}
	if len(all) <= maxLeft {
		return all
	}
	named := map[region.EdgeID]bool{}
	for i := range w.Map.Regions {
		for _, e := range w.Map.Regions[i].Edges {
			if all[e.ID] {
				named[e.ID] = true
			}
		}
	}
	return named
}

// darkEvery is the least time between two regions that health alone takes out, in
// probe intervals: 60 s in production. Probes that find region after region dead in
// one breath are likelier wrong than right; an operator's word never waits.
const darkEvery = 12

// restrain holds back the fall of a region's last edges while another region fell within
// darkEvery.
func (w *World) restrain(prev *World, f *Facts, now time.Time) {
	w.dark = prev.dark
	for i := range w.Regions {
		r := &w.Regions[i]
		k := prev.RegionIndex(r.ID)
		if k < 0 || !dark(r) || dark(&prev.Regions[k]) || len(prev.Regions[k].Edges) == 0 {
			continue
		}
		free := w.dark.Add(darkEvery * f.Interval)
		if w.dark.IsZero() || !now.Before(free) {
			w.dark = now
			continue
		}
		if free.Before(w.Wakes) {
			w.Wakes = free
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
func dark(r *Region) bool {
	for i := range r.Edges {
		if r.Edges[i].Health != Unhealthy {
			return false
		}
	}
	return len(r.Edges) > 0
}
