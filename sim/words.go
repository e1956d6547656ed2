package sim

import (
	"bailiwick/region"
	"bailiwick/steer"
)

// out notes since when edges have been out, by the operators' words in the store.
func (s *Sim) out() {
	for _, e := range s.edges {
		for i, out := range e.isOut() {
			if !out {
				e.out[i] = 0
			} else if e.out[i] == 0 {
				e.out[i] = s.now
			}
		}
	}
}

// isOut tells of the edge's region and of the edge itself.
func (n *node) isOut() [2]bool {
	in := n.s.store.instance(n.id)
	return [2]bool{n.s.modeOf(n.edge.region).mode != steer.Serving, in != nil && in.maint > 0}
}

// knows tells whether a node must know by now that an edge is out.
func (n *node) knows(out region.EdgeID) bool {
	e := n.s.node(string(out))
	if e == nil || !n.hears(knowWithin) {
		return false
	}
	for i, out := range e.isOut() {
		since := e.out[i]
		if i == 0 {
			since = max(since, n.s.store.modeAt)
		}
		if out && e.out[i] > 0 && n.s.now-since > knowWithin+n15(n) {
			return true
		}
	}
	return false
}

// modeIs is an operator's word, as the store has it.
type modeIs struct{ mode steer.Mode }

func (s *Sim) modeOf(id region.ID) modeIs { return modeIs{s.word(id).At(s.time())} }

// word is the operator's record itself; where there is none, it is of a region that serves.
func (s *Sim) word(id region.ID) steer.ModeRecord {
	i, found := s.store.find(steer.ModeKey(id))
	if !found {
		return steer.ModeRecord{}
	}
	e := s.store.entries[i]
	rec, known := s.store.modes[e.Rev]
	if !known {
		rec, _ = steer.ParseModeRecord(e.Value) // one that cannot be read is serving
		s.store.modes[e.Rev] = rec
	}
	return rec
}
