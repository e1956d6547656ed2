package geodns

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/miekg/dns"

	"bailiwick/geodns/geo"
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
	// maxText bounds the text of an extended error (RFC 8914 section 2).
	maxText = 240
)

// ranking is the memory of one decision.
type ranking struct {
	d       steer.Decision
	c       steer.Client
	parts   [maxPlaces]residency.Jurisdiction
	places  [maxPlaces]region.Place
	network netip.Prefix // what the place was looked up for
	table   *geo.Table   // in this
}

// join is join.ZONE and what is below it or ZONE: steered by the client's place.
func (s *Server) join(q *query, w *steer.World, k kind, client netip.Addr) answer {
	if !k.steers(q.qtype) {
		return unsteered(q, k)
	}
	r := s.rankings.Get().(*ranking)
	defer s.rankings.Put(r)
	scope := s.place(q, client, r)
	a := s.worded(q, s.recall(w, r))
	a.scope = scope
	return a
}

// place puts into r who asks and returns the ECS scope of the answer.
//
// A network that is longer than the table's prefix has one place. A shorter one may
// span several: its answer is one that is lawful for all of them, and the scope says
// that a longer source would be answered better (RFC 7871 section 7.2.1). Where a
// part of it is unknown, or it spans more than maxPlaces jurisdictions, its place is
// unknown: residency fails closed.
func (s *Server) place(q *query, client netip.Addr, r *ranking) (scope int) {
	t := s.geo.Load()
	asked := q.ecs.network
	if !asked.IsValid() { // no ECS, or a client that wants to be left out of it
		asked = netip.PrefixFrom(client, client.BitLen())
	}
	place, prefix := t.Lookup(asked.Addr())
	r.parts[0], r.places[0], r.network, r.table = place.Jurisdiction, place, prefix, t
	n := 1
	if asked.Bits() < prefix.Bits() {
		r.network = asked
		parts, ok := t.Jurisdictions(asked, r.parts[:0])
		if n = len(parts); !ok {
			n, r.parts[0], r.places[0] = 1, "", region.Place{}
		}
		for i := 1; i < n; i++ { // its own point counts for ties only: the country's will do
			at, located := region.Locate(r.parts[i])
			r.places[i] = region.Place{Jurisdiction: r.parts[i], Point: at, Located: located}
		}
	}
	var name [64]byte
	r.c = steer.Client{Participants: r.parts[:n], Places: r.places[:n], Key: steer.Key(string(r.network.AppendTo(name[:0])))}

	if !q.ecs.network.IsValid() {
		return 0
	}
	switch scope = prefix.Bits(); {
	case q.ecs.mapped:
		return scope + 96
	case prefix.Addr().Is4():
		return max(scope, minScope4)
	}
	return max(scope, minScope6)
}

// pinned is CC.join.ZONE: one jurisdiction's answer whatever the source, so that an
// application which knows the patient's country need not trust an address. The name
// exists for every ISO 3166 country, and for the subdivisions that package region
// knows; what has no law on file is NODATA, policy_missing.
func (s *Server) pinned(q *query, w *steer.World, k kind, label string) answer {
	j, err := residency.ParseJurisdiction(label)
	if err != nil || !s.countries[j.Country()] {
		return nxdomain
	}
	at, located := region.Locate(j)
	if j.IsSubdivision() {
		// Locate places a subdivision that it does not know with its country. A name
		// that is mistyped must not lose the subdivision's own law silently.
		if country, _ := region.Locate(j.Country()); at == country {
			return nxdomain
		}
	}
	if !k.steers(q.qtype) {
		return unsteered(q, k)
	}
	r := s.rankings.Get().(*ranking)
	defer s.rankings.Put(r)
	r.parts[0], r.places[0] = j, region.Place{Jurisdiction: j, Point: at, Located: located}
	r.network, r.table = netip.Prefix{}, s.geo.Load()
	r.c = steer.Client{Participants: r.parts[:1], Places: r.places[:1], Key: steer.Key(string(j))}
	return s.worded(q, s.recall(w, r))
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
