package geodns

import (
	"net/netip"

	"github.com/miekg/dns"

	"bailiwick/geodns/zonefile"
	"bailiwick/region"
)

const (
	// ttl of everything that the World decides, and of what does not exist.
	ttl = 5
	// ttlStatic of what only a change of the configuration changes.
	ttlStatic = 3600
)

// answer finds the name (docs/protocol.md, section 1). client is the source address.
func (s *Server) answer(q *query) answer {
	w := q.view.world
	switch {
	case !q.inZone || q.class != dns.ClassINET:
		return refuse(dns.ExtendedErrorCodeNotAuthoritative, "")
	case w == nil:
		return answer{rcode: dns.RcodeServerFailure, foreign: true, ede: ede(dns.ExtendedErrorCodeNotReady, "")}
	}
	switch q.qtype {
	case dns.TypeOPT: // a pseudo-record can only be carried (RFC 6891 section 6.1.1)
		return answer{rcode: dns.RcodeFormatError, foreign: true}
	case dns.TypeAXFR, dns.TypeIXFR:
		return refuse(dns.ExtendedErrorCodeProhibited, "no zone transfer")
	case dns.TypeMAILA, dns.TypeMAILB, dns.TypeTKEY, dns.TypeTSIG:
		return answer{rcode: dns.RcodeNotImplemented, foreign: true}
	case dns.TypeNXNAME: // it is never asked for (RFC 9824 section 3.5)
		return answer{rcode: dns.RcodeFormatError, foreign: true, ede: ede(dns.ExtendedErrorCodeInvalidQueryType, "")}
	}
	a := s.lookup(q)
	a.serial = q.view.serial
	return a
}

func refuse(code uint16, text string) answer {
	return answer{rcode: dns.RcodeRefused, foreign: true, ede: ede(code, text)}
}

func ede(code uint16, text string) *dns.EDNS0_EDE {
	return &dns.EDNS0_EDE{InfoCode: code, ExtraText: text}
}

var nxdomain = answer{rcode: dns.RcodeNameError}

func (s *Server) lookup(q *query) answer {
	if values := s.challenges(q); values != nil {
		return challenge(q, values)
	}
	a := s.named(q)
	a.brief = a.brief || s.acme != nil && q.challenged() // one may come
	return a
}

func (s *Server) named(q *query) answer {
	k, rel := service(q.rel)
	switch {
	case len(rel) == 0 && k == host:
		return s.atApex(q)
	case len(rel) == 0, len(rel) == 1 && rel[0] == "join":
		return s.join(q, k)
	case len(rel) == 2 && rel[1] == "join" && rel[0] != "_why":
		return s.pinned(q, k, rel[0])
	case k != host:
		return s.listed(q)
	case len(rel) == 1 && rel[0] == "ns1" && !q.view.records.HasNS():
		return static(q, addresses(q.name, ttlStatic, q.qtype, s.ns...))
	case len(rel) == 2 && rel[1] == "join":
		return s.whyJoin(q)
	case len(rel) == 2 && rel[1] == "edge":
		return s.oneEdge(q, region.EdgeID(rel[0]))
	}
	return s.listed(q)
}

// oneEdge is EDGE.edge.ZONE, whatever its health: who asks has been sent there.
func (s *Server) oneEdge(q *query, id region.EdgeID) answer {
	w := q.view.world
	r, e := w.Edge(id)
	switch {
	case id == none:
		return static(q, nil)
	case e == nil && w.RegionIndex(region.ID(id)) >= 0: // challenges may be below it (RFC 8020)
		return answer{}
	case e == nil:
		return nxdomain
	case !host.steers(q.qtype):
		return static(q, nil)
	}
	var a answer
	if s.offer(q, e, &a); len(a.rrs) > 0 {
		a.region = w.RegionIndex(r.ID) + 1
	}
	return a
}

// challenges are what a CA looks for to see who has the zone; nil: the name is none.
func (s *Server) challenges(q *query) []string {
	if s.acme == nil || !q.challenged() {
		return nil
	}
	return s.acme(q.name)
}

func (q *query) challenged() bool { return len(q.rel) > 0 && q.rel[0] == "_acme-challenge" }

// challenge is the same for everybody, and gone soon.
func challenge(q *query, values []string) answer {
	a := answer{brief: true}
	if q.qtype != dns.TypeTXT {
		return a
	}
	for _, v := range values {
		a.rrs = append(a.rrs, &dns.TXT{Hdr: header(q.name, dns.TypeTXT, ttl), Txt: []string{escape(cut(v, maxString))}})
	}
	return a
}

func (s *Server) atApex(q *query) answer {
	switch t := q.qtype; {
	case t == dns.TypeSOA:
		return answer{rrs: []dns.RR{s.soa(q.view.records, q.name, q.view.serial)}}
	case q.view.signer != nil && q.view.signer.Apex[t] != nil:
		return static(q, owned(q.name, q.view.signer.Apex[t]))
	case q.view.records.Apex()[t] != nil:
		return s.listed(q)
	case t == dns.TypeNS:
		ns1 := "ns1." + q.name
		return answer{
			rrs: []dns.RR{&dns.NS{Hdr: header(q.name, dns.TypeNS, ttlStatic), Ns: ns1}},
			additional: append(addresses(ns1, ttlStatic, dns.TypeA, s.ns...),
				addresses(ns1, ttlStatic, dns.TypeAAAA, s.ns...)...),
		}
	}
	return unsteered(q, host)
}

// static is an answer that is the same for everybody: scope 0. rrs are of the type
// asked for; none is NODATA.
func static(q *query, rrs []dns.RR) answer {
	if q.qtype == dns.TypeANY { // RFC 8482 section 4.2
		return answer{rrs: []dns.RR{&dns.HINFO{Hdr: header(q.name, dns.TypeHINFO, ttlStatic), Cpu: "RFC8482"}}}
	}
	return answer{rrs: rrs}
}

// soa has the negative TTL as its own (RFC 2308 section 5).
func (s *Server) soa(z *zonefile.Records, owner string, serial uint32) dns.RR {
	soa := dns.SOA{Ns: "ns1." + s.apex, Mbox: "hostmaster." + s.apex, Refresh: 3600, Retry: 600, Expire: 604800}
	if own := z.SOA(); own != nil {
		soa = *own
	} else if ns := z.Apex()[dns.TypeNS]; ns != nil {
		soa.Ns = ns[0].(*dns.NS).Ns
	}
	soa.Hdr, soa.Serial, soa.Minttl = header(owner, dns.TypeSOA, ttl), serial, ttl
	return &soa
}

func header(owner string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// addresses are the records of the one type; addresses of the other family, and
// invalid ones, are left out.
func addresses(owner string, ttl uint32, rrtype uint16, addrs ...netip.Addr) (rrs []dns.RR) {
	for _, a := range addrs {
		switch {
		case rrtype == dns.TypeA && a.Is4():
			rrs = append(rrs, &dns.A{Hdr: header(owner, rrtype, ttl), A: a.AsSlice()})
		case rrtype == dns.TypeAAAA && a.Is6():
			rrs = append(rrs, &dns.AAAA{Hdr: header(owner, rrtype, ttl), AAAA: a.AsSlice()})
		}
	}
	return rrs
}
