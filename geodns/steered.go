package geodns

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/miekg/dns"

	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

const (
	// maxAnswers is how many edges an answer names.
	maxAnswers = 2
	// maxPlaces is how many jurisdictions one ECS network may span and still be
	// steered, to where the law of each of them permits.
	maxPlaces = 8
	// A scope is at least this long, so that an unplaced half of the address space
	// is not told to a cache as one network.
	minScope4, minScope6 = 8, 16
	// none is the edge that is none: NONE.edge.ZONE has no records.
	none = "none"
	// maxText bounds the text of an extended error (RFC 8914 section 2).
	maxText = 240
)

// ranking is the memory of one decision.
type ranking struct {
	d       steer.Decision
	c       steer.Client
	parts   [maxPlaces]residency.Jurisdiction
	places  [maxPlaces]region.Place
	network netip.Prefix // the client's; invalid for a pinned name
}

// join is join.ZONE and what is below it or ZONE: steered by the client's place.
func (s *Server) join(q *query, k kind) answer {
	if !k.steers(q.qtype) {
		return unsteered(q, k)
	}
	n := q.view.locate(q)
	a := s.placed(q, s.choose(q.view, &n))
	a.scope = n.scope
	return a
}

// placed is worded for clients of one place. Caches take what is denied to one of them as
// denied to all, whatever its scope (RFC 7871 section 7.4): one whom the law refuses would
// refuse everybody behind its resolver. An alias is an answer, kept by scope, so who is
// denied all that a name has is led to one that has nothing for anybody. Who is denied one
// type of several is not, for an alias takes them all: that denial is for no cache to keep.
// See docs/adr/0017.
func (s *Server) placed(q *query, c *choice) answer {
	a := s.worded(q, c)
	k, _ := service(q.rel)
	switch {
	case len(a.rrs) > 0:
	case c.edges[0] != nil && !anyOffers(q.view.world, k.needs(q.qtype)): // denied to everybody
	case c.edges[0] == nil, k != host:
		a = s.follow(q, []dns.RR{&dns.CNAME{Hdr: header(q.name, dns.TypeCNAME, ttl), Target: none + ".edge." + s.apex}})
		a.ede = c.refused
	default:
		a.fleeting = true
	}
	a.choice = c
	return a
}

// pinned is CC.join.ZONE: one jurisdiction's answer whatever the source, so that an
// application which knows the patient's country need not trust an address. The name
// exists for every country whose law is on file, and for every subdivision of it (READING,
// rule 22): what the router takes, and by the same table.
func (s *Server) pinned(q *query, k kind, label string) answer {
	j, err := residency.ParseJurisdiction(label)
	if err != nil || !q.view.world.Law.Maps(residency.Jurisdiction(strings.ToUpper(label[:2]))) {
		return nxdomain
	}
	if !k.steers(q.qtype) {
		return unsteered(q, k)
	}
	return s.worded(q, s.chooseFor(q.view, j))
}

// worded is a choice as records: the best edge, and beside it the next one of the
// same region only. A resolver shuffles an answer, so an edge of the next region
// would draw half of the clients farther away, and away from where _why says they are.
func (s *Server) worded(q *query, c *choice) answer {
	if c.refused != nil {
		return answer{ede: c.refused}
	}
	var a answer
	for _, e := range c.edges {
		if e == nil || len(a.rrs) == maxAnswers {
			break
		}
		s.offer(q, e, &a)
	}
	if len(a.rrs) > 0 {
		a.region = c.region
	}
	return a
}

// refusal is the extended error of a decision without a candidate.
func refusal(d *steer.Decision) *dns.EDNS0_EDE {
	code := uint16(dns.ExtendedErrorCodeProhibited)
	switch d.Code() {
	case residency.RegionDown, residency.RegionDraining, residency.RegionUnhealthy, residency.RegionFull, residency.NoRegion:
		code = dns.ExtendedErrorCodeNoReachableAuthority
	}
	text := string(d.Code())
	if _, citation := steer.Refusal(d); len(citation) > 0 {
		text += ": " + strings.Join(citation, "; ")
	}
	return ede(code, cut(text, maxText))
}

// cut is at most n bytes of s, whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// choose is recall, or a decision.
func (s *Server) choose(v *view, n *network) *choice {
	if c := v.recall(n); c != nil {
		return c
	}
	r := s.rankings.Get().(*ranking)
	defer s.rankings.Put(r)
	r.from(v, n)
	key := r.c.Key
	if !n.several {
		slot := &v.places[n.place%placeSlots]
		d := slot.Load()
		if d == nil || d.place != n.place {
			r.c.Key = 0
			d = &decided{place: n.place, first: s.decide(v, r)}
			slot.Store(d)
			r.c.Key = key
		}
		switch {
		case d.first.own:
		case d.first.sole:
			return d.first
		default:
			c := s.decide(v, r)
			if d.byKey.Load() == nil {
				d.byKey.CompareAndSwap(nil, new([256]atomic.Pointer[choice]))
			}
			d.byKey.Load()[key].Store(c)
			return c
		}
	}
	c := s.decide(v, r)
	v.slotOf(n).Store(&named{c, n.prefix})
	return c
}

// chooseFor decides for a jurisdiction.
func (s *Server) chooseFor(v *view, j residency.Jurisdiction) *choice {
	r := s.rankings.Get().(*ranking)
	defer s.rankings.Put(r)
	at, located := region.Locate(j)
	r.parts[0], r.places[0], r.network = j, region.Place{Jurisdiction: j, Point: at, Located: located}, netip.Prefix{}
	r.c = steer.Client{Participants: r.parts[:1], Places: r.places[:1], Hint: true, Key: steer.Key(string(j))}
	return s.decide(v, r)
}

// from makes the client of a network.
//
// A network that is longer than the table's prefix has one place. A shorter one may
// span several: its answer is one that is lawful for all of them, and the scope says
// that a longer source would be answered better (RFC 7871 section 7.2.1). Where a
// part of it is unknown, or it spans more than maxPlaces jurisdictions, its place is
// unknown: residency fails closed.
func (r *ranking) from(v *view, n *network) {
	place := v.table.Place(n.place)
	r.network = n.prefix
	r.parts[0], r.places[0] = place.Jurisdiction, place
	count := 1
	if n.several {
		parts, ok := v.table.Jurisdictions(n.prefix, r.parts[:0])
		if count = len(parts); !ok {
			count, r.parts[0], r.places[0] = 1, "", region.Place{}
		}
		for i := 1; i < count; i++ { // its own point counts for ties only: the country's will do
			at, located := region.Locate(r.parts[i])
			r.places[i] = region.Place{Jurisdiction: r.parts[i], Point: at, Located: located}
		}
	}
	r.c = steer.Client{Participants: r.parts[:count], Places: r.places[:count], Hint: true, Key: steer.PrefixKey(n.prefix)}
}

// decide ranks for the client that r holds.
func (s *Server) decide(v *view, r *ranking) *choice {
	steer.Rank(v.world, &r.c, &r.d)
	all := r.d.Candidates
	c := &choice{sole: !r.d.Tied()} // a key breaks ties
	var edges [maxEdges]*steer.Edge
	if code := r.d.Code(); code != residency.OK {
		c.refused = refusal(&r.d)
		if c.own = r.parts[0] == "" && code == residency.PolicyMissing; c.own {
			c.refused = ede(c.refused.InfoCode, cut(fmt.Sprintf("%s: the place of %s is not known: ask CC.join.%s, CC being the patient's ISO 3166 code",
				residency.PolicyMissing, r.network, strings.TrimSuffix(s.apex, ".")), maxText))
		}
		c.ede = appendEDE(nil, c.refused)
	}
	n, named := 0, [needs]int{}
	for _, cand := range all {
		if cand.Region != all[0].Region || n == maxEdges {
			break
		}
		// An edge that no answer would name must not make an outcome of its own.
		e, wanted := &v.world.Regions[cand.Region].Edges[cand.Edge], false
		for i, has := range offers(e) {
			if has {
				wanted = wanted || named[i] < maxAnswers
				named[i]++
			}
		}
		if wanted {
			c.region = cand.Region + 1
			edges[n] = e
			n++
		}
	}
	c.outcome = v.outcome(edges)
	return c
}

func (v *view) outcome(edges [maxEdges]*steer.Edge) *outcome {
	v.mu.Lock()
	defer v.mu.Unlock()
	o := v.outcomes[edges]
	if o == nil {
		o = &outcome{id: uint64(len(v.outcomes) + 1), edges: edges}
		v.outcomes[edges] = o
	}
	return o
}
