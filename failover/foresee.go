package failover

import (
	"bailiwick/consult"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

// Future is what becomes of a consult that runs.
type Future uint8

// Stays, or the law forbids it where it is: then it Moves to where it may be, or Ends when
// the map's withdrawal grace is over.
const (
	Stays Future = iota
	Moves
	Ends
)

// Foresee tells what a [Room] on an edge of region home would do in a World to a consult that
// runs there, and by which rule. It is of the law alone: modes and load move a consult, and
// end none.
func Foresee(w *steer.World, home region.ID, self region.EdgeID, p *consult.Placement) (Future, residency.Verdict) {
	i := w.RegionIndex(home)
	if i < 0 { // taken out of the map, which is a mode
		return Stays, residency.Verdict{}
	}
	c := p.Client(w.Map)
	v := steer.Permits(w, &w.Regions[i], c)
	if v.Permitted() || !isLaw(v) {
		return Stays, residency.Verdict{}
	}
	c.Without, c.Runs = []region.EdgeID{self}, true
	var d steer.Decision
	if steer.Rank(w, c, &d); len(d.Candidates) > 0 {
		return Moves, v
	}
	return Ends, v
}
