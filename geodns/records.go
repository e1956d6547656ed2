package geodns

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"bailiwick/geodns/zonefile"
)

// SetRecords swaps the static records; nil: none. The next query sees them. The error is that
// of a zone without name servers; the records before stay in force.
func (s *Server) SetRecords(z *zonefile.Records) error {
	if z == nil {
		z = zonefile.Empty(s.apex)
	}
	if len(s.ns) == 0 && !z.HasNS() {
		return fmt.Errorf("dns: the address of ns1.%s is not known: listen on one address, give the name server's with --ns, or have NS records in the zone file",
			strings.TrimSuffix(s.apex, "."))
	}
	s.set(func(in *inputs) { in.records = z })
	return nil
}

// find is the node that answers for the name of q.
func (s *Server) find(q *query) (n zonefile.Node, ok bool) {
	n, q.wild, ok = q.view.records.Find(q.lower[:len(q.lower)-len(s.wire)])
	return n, ok
}

// listed answers from the zone file.
func (s *Server) listed(q *query) answer {
	n, ok := s.find(q)
	if !ok {
		return nxdomain
	}
	alias := n[dns.TypeCNAME]
	if alias != nil && !q.besideAlias() {
		return s.follow(q, alias)
	}
	a := answer{rrs: owned(q.name, n[q.qtype])}
	if q.qtype == dns.TypeANY && alias != nil { // nothing may be made up beside it (RFC 8482 section 4.2)
		a.rrs = owned(q.name, alias)
	} else if len(n) > 0 {
		a = static(q, a.rrs)
	}
	a.wild = q.wild
	if q.qtype == dns.TypeNS {
		for _, rr := range a.rrs {
			a.additional = append(a.additional, q.view.records.Addresses(rr.(*dns.NS).Ns)...)
		}
	}
	return a
}

// besideAlias tells whether the type is the name's own though it is an alias (RFC 4035
// section 2.5).
func (q *query) besideAlias() bool {
	switch q.qtype {
	case dns.TypeCNAME, dns.TypeANY:
		return true
	case dns.TypeNSEC, dns.TypeRRSIG:
		return q.view.signer != nil
	}
	return false
}

// follow answers with a CNAME and, where its target is in this zone, with the
// target's answer (RFC 1034 section 4.3.2): the last of the chain decides the rcode
// (RFC 6604 section 3).
func (s *Server) follow(q *query, alias []dns.RR) answer {
	a := answer{rrs: owned(q.name, alias), wild: q.wild}
	t := query{qtype: q.qtype, class: q.class, ecs: q.ecs, client: q.client, view: q.view, chain: q.chain + 1}
	wire := make([]byte, 256)
	n, err := dns.PackDomainName(alias[0].(*dns.CNAME).Target, wire, 0, nil, false)
	if err != nil || t.chain > zonefile.MaxChain {
		return a
	}
	if _, ok := s.readName(wire[:n], 0, &t); !ok || !t.inZone {
		return a
	}
	t.spell(s)
	end := s.lookup(&t)
	if end.foreign { // a name that is not for this client
		return a
	}
	if end.end == nil {
		end.end = &t
	}
	end.wild = end.wild || q.wild
	end.deadEnd = end.deadEnd || len(end.rrs) == 0
	end.rrs = append(a.rrs, end.rrs...)
	return end
}

// owned are copies of a set with the name that was asked: with its letter case, and
// a wildcard's with the name it stands for.
func owned(name string, set []dns.RR) []dns.RR {
	list := make([]dns.RR, 0, len(set))
	for _, rr := range set {
		rr = dns.Copy(rr)
		rr.Header().Name = name
		list = append(list, rr)
	}
	return list
}
