package geodns

import (
	"net/netip"
	"strings"
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

// steers tells whether the answer to q depends on the client's place, were its name
// not an alias: it is lookup's word without the words.
func (s *Server) steers(q *query) bool {
	switch string(q.lower[:len(q.lower)-len(s.wire)]) {
	case "\x04join":
		return host.steers(q.qtype)
	case "\x05_turn\x04_udp", "\x05_turn\x04_udp\x04join", "\x05_stun\x04_udp", "\x05_stun\x04_udp\x04join":
		return relay.steers(q.qtype)
	case "\x06_turns\x04_tcp", "\x06_turns\x04_tcp\x04join":
		return turns.steers(q.qtype)
	}
	return false
}

// join is join.ZONE and what is below it or ZONE: steered by the client's place.
func (s *Server) join(q *query, k kind) answer {
	if !k.steers(q.qtype) {
		return unsteered(q, k)
	}
	n := q.view.locate(q)
	c := s.choose(q.view, &n)
	a := s.worded(q, c)
	a.choice, a.scope = c, n.scope
	return a
}

// pinned is CC.join.ZONE: one jurisdiction's answer whatever the source, so that an
// application which knows the patient's country need not trust an address. The name
// exists for every ISO 3166 country, and for the subdivisions that package region
// knows; what has no law on file is NODATA, policy_missing.
func (s *Server) pinned(q *query, k kind, label string) answer {
	j, err := residency.ParseJurisdiction(label)
	if err != nil || !s.countries[j.Country()] {
		return nxdomain
	}
	if j.IsSubdivision() {
		// Locate places a subdivision that it does not know with its country. A name
		// that is mistyped must not lose the subdivision's own law silently.
		at, _ := region.Locate(j)
		if country, _ := region.Locate(j.Country()); at == country {
			return nxdomain
		}
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
