package geodns

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxChain is how many CNAME records of this zone are followed for one answer.
const maxChain = 8

// Records are the static part of a zone: what its zone file says beside the names
// that steer. They are immutable.
type Records struct {
	nodes map[string]node // by the labels before the apex's, as in a packet, in lower case
	soa   *dns.SOA        // the file's; may be nil
	file  string
	list  []zoneRecord // as in the file
}

// Signable says whether the records fit a zone that is signed, with file:line for each
// that does not: no answer may outlive longest, for which the signer waits when a key
// is rolled.
func (z *Records) Signable(longest time.Duration) error {
	r := zoneReader{file: z.file}
	for _, rec := range z.list {
		h := rec.Header()
		if ttl := time.Duration(h.Ttl) * time.Second; ttl > longest && h.Rrtype != dns.TypeSOA { // the server's own
			r.fault(rec.line, "%.128s %s: TTL %d: want at most %d in a signed zone: keys are rolled by that time",
				h.Name, dns.Type(h.Rrtype), h.Ttl, longest/time.Second)
		}
	}
	return errors.Join(r.faults...)
}

// node is one name's records by type; an empty non-terminal has none.
type node map[uint16][]dns.RR

const apexKey = ""

// newRecords is a zone that is steered and nothing else. The names that steer are in
// it too, empty, so that no wildcard reaches below them (RFC 4592 section 3.3.1).
func newRecords() *Records {
	z := &Records{nodes: map[string]node{}}
	for _, labels := range [][]string{{}, {"join"}, {"edge"}, {"_udp"}, {"_tcp"}, {"_turn", "_udp"}, {"_stun", "_udp"}, {"_turns", "_tcp"}} {
		z.nodes[key(labels)] = node{}
	}
	return z
}

// seal makes ns1 exist where it is the server's.
func (z *Records) seal() {
	if !z.servers() {
		z.nodes[key([]string{"ns1"})] = node{}
	}
}

// servers tells whether the zone file names the name servers.
func (z *Records) servers() bool { return z.nodes[apexKey][dns.TypeNS] != nil }

// NameServers are the names of the zone's servers in the zone, without the final dot:
// the zone file's, or ns1.
func (z *Records) NameServers(zone string) (names []string) {
	if z != nil {
		for _, rr := range z.nodes[apexKey][dns.TypeNS] {
			if ns := dns.CanonicalName(rr.(*dns.NS).Ns); dns.IsSubDomain(dns.CanonicalName(zone), ns) {
				names = append(names, strings.TrimSuffix(ns, "."))
			}
		}
	}
	if names == nil {
		names = []string{"ns1." + strings.TrimSuffix(dns.CanonicalName(zone), ".")}
	}
	return names
}

// key is labels as in a packet.
func key(labels []string) string {
	var b []byte
	for _, l := range labels {
		b = append(append(b, byte(len(l))), l...)
	}
	return string(b)
}

// find is the node that answers for a name: its own, else its wildcard's.
func (z *Records) find(q *query, apexLen int) (n node, ok bool) {
	n, q.wild, ok = z.at(q.lower[:len(q.lower)-apexLen])
	return n, ok
}

// at is find of the labels before the apex's.
func (z *Records) at(rel []byte) (n node, wild, ok bool) {
	if n, ok := z.nodes[string(rel)]; ok {
		return n, false, true
	}
	for len(rel) > 0 { // up to the closest encloser (RFC 4592 section 3.3.1)
		rel = rel[1+int(rel[0]):]
		if _, ok := z.nodes[string(rel)]; ok {
			n, ok := z.nodes["\x01*"+string(rel)]
			return n, ok, ok
		}
	}
	return nil, false, false
}

// SetRecords swaps the static records; nil: none. The next query sees them. The error is that
// of a zone without name servers; the records before stay in force.
func (s *Server) SetRecords(z *Records) error {
	if z == nil {
		z = newRecords()
		z.seal()
	}
	if len(s.ns) == 0 && !z.servers() {
		return fmt.Errorf("dns: the address of ns1.%s is not known: listen on one address, state the name server's addresses, or have NS records in the zone file",
			strings.TrimSuffix(s.apex, "."))
	}
	s.set(func(in *inputs) { in.records = z })
	return nil
}

// listed answers from the zone file.
func (s *Server) listed(q *query) answer {
	n, ok := q.view.records.find(q, len(s.wire))
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
			a.additional = append(a.additional, q.view.records.addresses(s.apex, rr.(*dns.NS).Ns)...)
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
	if err != nil || t.chain > maxChain {
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

// addresses are the A and AAAA records of a name of this zone.
func (z *Records) addresses(apex, name string) []dns.RR {
	n := z.nodes[relative(apex, name)]
	return slices.Concat(n[dns.TypeA], n[dns.TypeAAAA])
}

// relative is the key of a name in the zone.
func relative(apex, name string) string {
	wire := make([]byte, 256)
	n, err := dns.PackDomainName(dns.CanonicalName(name), wire, 0, nil, false)
	m, err2 := dns.PackDomainName(apex, make([]byte, 256), 0, nil, false)
	if err != nil || err2 != nil || n < m {
		return "\x00" // no name's
	}
	return string(wire[:n-m])
}
