package geodns

import (
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/region"
)

const (
	// maxSigned bounds the signatures of answers that are remembered: names that steer
	// times the sets of edges that they have been steered to, some 8 MiB.
	maxSigned = 1 << 14
	// maxDenied bounds those of names that strangers make up.
	maxDenied = 1 << 13
)

// SetSigner swaps the keys that sign; nil: the zone is unsigned. The next query sees it.
func (s *Server) SetSigner(k *dnssec.Signer) {
	s.set(func(in *inputs) { in.signer = k })
}

// sign makes an answer of the zone what a client with DO gets (RFC 4035 section 3.1),
// and answers who asks for NSEC or RRSIG records, with or without it. What cannot be
// signed is SERVFAIL: unsigned it would be bogus.
//
// What steers has been signed ahead, and is remembered. Of names that strangers make up,
// the first query signs.
func (s *Server) sign(q *query, a *answer, now time.Time) {
	negative := len(a.rrs) == 0 || a.deadEnd
	explicit := negative && (q.qtype == dns.TypeNSEC || q.qtype == dns.TypeRRSIG)
	if !q.do && !explicit {
		return
	}
	exists := a.rcode != dns.RcodeNameError
	a.rcode = dnssec.Rcode(exists, q.do, q.co)
	if a.slipped {
		return
	}
	c := signing{s: s, k: q.view.signer, now: now}
	cache := s.signatures
	if a.wild {
		cache = s.denials
	}
	switch {
	case explicit: // the answer, at any name
		a.rcode, a.rrs = dns.RcodeSuccess, c.deny(q, exists, q.qtype)
	default:
		a.rrs = c.sets(cache, a.rrs)
		if negative {
			end := q
			if a.end != nil {
				end = a.end
			}
			soa := []dns.RR{s.soa(q.view.records, s.apex, a.serial)}
			a.authority = append(c.sets(s.signatures, soa), c.deny(end, exists, dns.TypeNone)...)
		}
		a.additional = c.sets(cache, a.additional)
	}
	if c.err != nil {
		s.unsigned(c.err)
		*a = answer{rcode: dns.RcodeServerFailure, foreign: true, ede: ede(dns.ExtendedErrorCodeRRSIGsMissing, "")}
	}
}

// unsigned counts; of many it logs the 1st, 2nd, 4th, 8th …
func (s *Server) unsigned(err error) {
	if n := s.failures.Add(1); n&(n-1) == 0 {
		s.log.Error("dns answer not signed: SERVFAIL in its place", "count", n, "err", err)
	}
}

// signing signs the parts of one answer; after an error it does nothing more.
type signing struct {
	s   *Server
	k   *dnssec.Signer
	now time.Time
	err error
}

// sets puts the signatures behind each set. A wildcard's records are signed for the
// name that was asked, as if it were in the zone: no denial of that name is needed
// then (RFC 9824 section 3.3), and none could be given that is not a lie.
func (c *signing) sets(cache *dnssec.Signatures, rrs []dns.RR) (list []dns.RR) {
	for len(rrs) > 0 && c.err == nil {
		h, n := rrs[0].Header(), 1
		for n < len(rrs) && rrs[n].Header().Rrtype == h.Rrtype && rrs[n].Header().Name == h.Name {
			n++
		}
		set := rrs[:n:n]
		rrs = rrs[n:]
		var sigs []dns.RR
		sigs, _, c.err = cache.Sign(c.k, set, c.now)
		list = append(append(list, set...), sigs...)
	}
	return list
}

// deny is the denial of what q asks; only is the type, NSEC or RRSIG, that was asked
// for itself, else TypeNone.
func (c *signing) deny(q *query, exists bool, only uint16) (list []dns.RR) {
	if c.err != nil {
		return nil
	}
	n := dnssec.Name{Owner: q.name, Exists: exists, Asked: q.qtype, TTL: ttl}
	if exists {
		n.Types = c.s.typesOf(q)
	}
	cache := c.s.denials
	if exists && !q.wild {
		cache = c.s.signatures
	}
	list, _, c.err = cache.Deny(c.k, n, c.now)
	if only == dns.TypeNSEC && q.do || only == dns.TypeNone {
		return list
	}
	var some []dns.RR
	for _, rr := range list {
		if rr.Header().Rrtype == only {
			some = append(some, rr)
		}
	}
	return some
}

// steered are the types of a name that steers. That it has them for some client is
// all that a denial says: who gets none is told of one type only.
var steered = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeNAPTR}

// typesOf are the types of which an existing name has records for any client,
// whatever q asks: it follows lookup.
func (s *Server) typesOf(q *query) (types []uint16) {
	k, rel := service(q.rel)
	join := len(rel) == 1 && rel[0] == "join" || len(rel) == 2 && rel[1] == "join" && rel[0] != "_why"
	switch {
	case s.challenges(q) != nil:
		return []uint16{dns.TypeTXT}
	case len(rel) == 0 && k == host:
		types = []uint16{dns.TypeSOA, dns.TypeNS, dns.TypeNAPTR}
		for t := range q.view.signer.Apex {
			types = append(types, t)
		}
		return append(types, q.view.records.Apex().Types()...)
	case join && k == host:
		return steered
	case (join || len(rel) == 0) && (k == relay || k == turns && anyTurns(q.view.world)):
		return []uint16{dns.TypeSRV}
	case join, len(rel) == 0: // empty
		return nil
	case k != host:
	case len(rel) == 1 && rel[0] == "ns1" && !q.view.records.HasNS():
		return present(addresses(q.name, ttlStatic, dns.TypeA, s.ns...), addresses(q.name, ttlStatic, dns.TypeAAAA, s.ns...))
	case len(rel) == 2 && rel[1] == "join":
		return []uint16{dns.TypeTXT}
	case len(rel) == 2 && rel[1] == "edge":
		return s.edgeTypes(q, region.EdgeID(rel[0]))
	}
	n, _ := s.find(q)
	return n.Types()
}

func (s *Server) edgeTypes(q *query, id region.EdgeID) []uint16 {
	_, e := q.view.world.Edge(id)
	if e == nil || id == none {
		return nil
	}
	var a answer
	for _, t := range steered {
		s.offer(&query{name: q.name, qtype: t}, e, &a)
	}
	return present(a.rrs)
}

// present are the types of records.
func present(sets ...[]dns.RR) (types []uint16) {
	for _, set := range sets {
		for _, rr := range set {
			types = append(types, rr.Header().Rrtype)
		}
	}
	return types
}
