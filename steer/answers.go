package steer

import "slices"

// Decides is the edge as a decision sees it: two edges for which it is the same are
// answered, ranked and admitted to alike. Of the load that is the tenth, whether the edge is
// full, and what it sheds.
func (e Edge) Decides() Edge {
	load := Load{Consults: e.tenth(), Sheds: e.Load.Sheds, Spent: e.Load.Spent}
	if e.full() {
		load.Parked = 1
	}
	e.Load = load
	return e
}

// decidesLike tells whether no decision differs between w and the next World.
func (w *World) decidesLike(next *World) bool {
	if w.LawDigest != next.LawDigest || w.Map != next.Map && (w.MapDigest == "" || w.MapDigest != next.MapDigest) {
		return false
	}
	from, to := w.At, next.At
	if from.After(to) { // the clock went back
		from, to = to, from
	}
	for t := range next.Map.Deadlines() {
		if !t.Before(from) && !t.After(to) {
			return false
		}
	}
	return slices.EqualFunc(w.Regions, next.Regions, func(a, b Region) bool {
		return a.ID == b.ID && a.Mode == b.Mode && slices.EqualFunc(a.Edges, b.Edges, func(a, b Edge) bool { return a.Decides() == b.Decides() })
	})
}
