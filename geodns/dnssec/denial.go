package dnssec

import (
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Name is what is known of a name that has no record to answer with.
type Name struct {
	Owner  string // the QNAME, in the query's letter case
	Exists bool   // false: NXDOMAIN
	// Types are those that the name has records of, for anybody; none for an empty
	// non-terminal. At the apex those of [Signer.Apex] belong to it. NSEC and RRSIG
	// need not be in it.
	Types []uint16
	// Asked is the QTYPE, which is left out of the bitmap whatever Types has: a name
	// with addresses for others may have none for this client.
	Asked uint16
	// TTL is the lesser of the SOA's own TTL and its MINIMUM (RFC 9077).
	TTL uint32
}

// NSEC is the compact denial (RFC 9824 section 3): it is owned by the name itself and
// covers nothing but it. A missing name has the type NXNAME, which tells it from an
// empty non-terminal.
func NSEC(n Name) *dns.NSEC {
	types := []uint16{dns.TypeRRSIG, dns.TypeNSEC}
	if n.Exists {
		for _, t := range n.Types {
			if t != n.Asked && t != 0 && !meta(t) {
				types = append(types, t)
			}
		}
	} else {
		types = append(types, dns.TypeNXNAME)
	}
	slices.Sort(types)
	return &dns.NSEC{
		Hdr:        dns.RR_Header{Name: n.Owner, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: n.TTL},
		NextDomain: successor(n.Owner), TypeBitMap: slices.Compact(types),
	}
}

// meta types never have their bit set (RFC 4034 section 4.1.2).
func meta(t uint16) bool { return t == dns.TypeOPT || t >= 128 && t <= 255 }

// Deny returns the NSEC of a name and its signatures, and the time until which they
// may be remembered. It goes to the authority section, after the signed SOA; for the
// QTYPE NSEC it is the answer. Signing costs some 60 µs for each name that is not
// among the remembered ones, which is what a flood of random names costs.
func (c *Signatures) Deny(s *Signer, n Name, now time.Time) ([]dns.RR, time.Time, error) {
	nsec := NSEC(n)
	sigs, renew, err := c.Sign(s, []dns.RR{nsec}, now)
	if err != nil {
		return nil, time.Time{}, err
	}
	return append([]dns.RR{nsec}, sigs...), renew, nil
}

// Rcode is the response code of a denial. With DO a missing name is NOERROR, as its
// NSEC says that it exists, unless the client knows better (RFC 9824 section 5.1,
// signaled response code restoration): co is its compact-answers-OK flag, which the
// OPT record of every answer to it echoes. Without DO it is the old NXDOMAIN.
func Rcode(exists, do, co bool) int {
	if exists || do && !co {
		return dns.RcodeSuccess
	}
	return dns.RcodeNameError
}

// successor is the next name in canonical order (RFC 4471 section 3.1.2): \000 before
// it, or where no label fits any more, the shortest step that does.
func successor(name string) string {
	wire := make([]byte, 256)
	n, err := dns.PackDomainName(name, wire, 0, nil, false)
	if err != nil {
		return name // what is no name cannot be signed either
	}
	var labels [][]byte
	for off := 0; wire[off] != 0; off += 1 + int(wire[off]) {
		label := slices.Clone(wire[off+1 : off+1+int(wire[off])])
		lower(label)
		labels = append(labels, label)
	}
	switch {
	case n+2 <= 255:
		labels = append([][]byte{{0}}, labels...)
	case n+1 <= 255 && len(labels[0]) < 63:
		labels[0] = append(labels[0], 0)
	default:
		labels = increment(labels)
	}
	out := make([]byte, 0, 256)
	for _, l := range labels {
		out = append(append(out, byte(len(l))), l...)
	}
	next, _, err := dns.UnpackDomainName(append(out, 0), 0)
	if err != nil {
		return name
	}
	return next
}

// increment raises the last octet of the first label that can be, and drops what
// comes after it in order.
func increment(labels [][]byte) [][]byte {
	for ; len(labels) > 0; labels = labels[1:] {
		for l := labels[0]; len(l) > 0; l = l[:len(l)-1] {
			last := &l[len(l)-1]
			if *last == 0xff {
				continue
			}
			if *last++; *last == 'A' { // letters are compared in lower case
				*last = 'Z' + 1
			}
			labels[0] = l
			return labels
		}
	}
	return nil // after the last name comes the apex of all
}
