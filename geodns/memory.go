package geodns

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"

	"bailiwick/geodns/geo"
	"bailiwick/residency"
	"bailiwick/steer"
)

// memory is the choices already made in one World and one geo table, by network or
// pinned jurisdiction: direct-mapped, so that it has a bound whatever strangers ask,
// and without a lock. A new World starts an empty one; a choice costs one ranking.
type memory struct {
	world *steer.World
	table *geo.Table
	slots [memorySlots]atomic.Pointer[choice]
}

// memorySlots is how many are remembered, two to a place: 512 KiB of pointers.
const memorySlots = 1 << 16

// choice is a decision as DNS words it. It is immutable.
type choice struct {
	network netip.Prefix           // asked from; invalid for a pinned name,
	pinned  residency.Jurisdiction // which is one jurisdiction's
	edges   [maxEdges]*steer.Edge  // best first, of one region; nil where there are fewer
	refused *dns.EDNS0_EDE         // set where there is none
}

// maxEdges is how many edges are kept for the case that some have no address of the
// family asked for.
const maxEdges = 4

// recall gives the choice for r's network, remembered or made now.
func (s *Server) recall(w *steer.World, r *ranking) *choice {
	m := s.memory.Load()
	if m == nil || m.world != w || m.table != r.table {
		m = &memory{world: w, table: r.table}
		s.memory.Store(m) // of two at once one is lost, and nothing with it
	}
	var pinned residency.Jurisdiction
	if !r.network.IsValid() {
		pinned = r.parts[0]
	}
	at := r.c.Key % memorySlots
	slot := &m.slots[at] // to be replaced, unless its neighbour is free
	for _, s := range [2]*atomic.Pointer[choice]{&m.slots[at^1], slot} {
		switch c := s.Load(); {
		case c == nil:
			slot = s
		case c.network == r.network && c.pinned == pinned:
			return c
		}
	}
	c := decide(w, r)
	c.network, c.pinned = r.network, pinned
	if r.parts[0] == "" && r.d.Code() == residency.PolicyMissing {
		c.refused = ede(c.refused.InfoCode, cut(fmt.Sprintf("%s: the place of %s is not known: ask CC.join.%s, CC being the patient's ISO 3166 code",
			residency.PolicyMissing, r.network, strings.TrimSuffix(s.apex, ".")), maxText))
	}
	slot.Store(c)
	return c
}

// decide ranks for who r holds.
func decide(w *steer.World, r *ranking) *choice {
	steer.Rank(w, &r.c, &r.d)
	c := &choice{}
	if r.d.Code() != residency.OK {
		c.refused = refusal(&r.d)
		return c
	}
	for i, cand := range r.d.Candidates {
		if i == maxEdges || cand.Region != r.d.Candidates[0].Region {
			break
		}
		c.edges[i] = &w.Regions[cand.Region].Edges[cand.Edge]
	}
	return c
}
