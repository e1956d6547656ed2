// Package zonefile is the static part of a steered zone: what its zone file (RFC 1035
// section 5) says beside the names that steer, which no file may take.
//
// A file that is taken is one that can be served: every fault is told at once, with its
// line and what to do. What is answered, and to whom, is the server's.
package zonefile

import (
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// MaxChain is how many CNAME records of one zone are followed for one answer.
const MaxChain = 8

// Records are the static records of a zone. They are immutable.
type Records struct {
	apex  string          // canonical, with the final dot
	nodes map[string]Node // by the labels before the apex's, as in a packet, in lower case
	soa   *dns.SOA        // the file's; may be nil
	file  string
	list  []record // as in the file
}

// Node is one name's records by type; an empty non-terminal has none.
type Node map[uint16][]dns.RR

// Types are those it has records of.
func (n Node) Types() []uint16 { return slices.Collect(maps.Keys(n)) }

const apexKey = ""

// steered are the names that the server answers for itself, by their labels; of the first
// of them also all that is below.
var (
	steered = [][]string{{"join"}, {"edge"}, {"_turn", "_udp"}, {"_stun", "_udp"}, {"_turns", "_tcp"}}
	between = [][]string{{"_udp"}, {"_tcp"}}
)

// Empty is a zone that is steered and nothing else. The names that steer are in it too,
// empty, so that no wildcard reaches below them (RFC 4592 section 3.3.1).
func Empty(apex string) *Records {
	z := newRecords(apex)
	z.seal()
	return z
}

func newRecords(apex string) *Records {
	z := &Records{apex: dns.CanonicalName(apex), nodes: map[string]Node{apexKey: {}}}
	for _, labels := range slices.Concat(steered, between) {
		z.nodes[key(labels)] = Node{}
	}
	return z
}

// seal makes ns1 exist where it is the server's.
func (z *Records) seal() {
	if !z.HasNS() {
		z.nodes[key([]string{"ns1"})] = Node{}
	}
}

// Apex are the records at the apex, but for the SOA.
func (z *Records) Apex() Node { return z.nodes[apexKey] }

// SOA is the file's; nil: it has none.
func (z *Records) SOA() *dns.SOA { return z.soa }

// HasNS tells whether the file names the name servers; else the one is ns1.
func (z *Records) HasNS() bool { return z.nodes[apexKey][dns.TypeNS] != nil }

// NameServers are the names of the zone's servers in the zone, without the final dot:
// the file's, or ns1. z may be nil.
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

// All are the nodes by their names, which are the labels before the apex's, as in a packet,
// in lower case.
func (z *Records) All() iter.Seq2[string, Node] { return maps.All(z.nodes) }

// Find is the node that answers for a name, given as All gives them: its own, else its
// wildcard's.
func (z *Records) Find(rel []byte) (n Node, wild, ok bool) {
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

// Addresses are the A and AAAA records of a name of this zone.
func (z *Records) Addresses(name string) []dns.RR {
	n := z.nodes[relative(z.apex, name)]
	return slices.Concat(n[dns.TypeA], n[dns.TypeAAAA])
}

// Signable says whether the records fit a zone that is signed, with file:line for each
// that does not: no answer may outlive longest, for which the signer waits when a key
// is rolled.
func (z *Records) Signable(longest time.Duration) error {
	r := reader{z: z, file: z.file}
	for _, rec := range z.list {
		h := rec.Header()
		if ttl := time.Duration(h.Ttl) * time.Second; ttl > longest && h.Rrtype != dns.TypeSOA { // the server's own
			r.fault(rec.line, "%.128s %s: TTL %d: want at most %d in a signed zone: keys are rolled by that time",
				h.Name, dns.Type(h.Rrtype), h.Ttl, longest/time.Second)
		}
	}
	return errors.Join(r.faults...)
}

// key is labels as in a packet.
func key(labels []string) string {
	var b []byte
	for _, l := range labels {
		b = append(append(b, byte(len(l))), l...)
	}
	return string(b)
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
