package dnssec

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

// canonicalRR is one record in canonical form, and where its RDATA begins.
func canonicalRR(rr dns.RR) (wire []byte, rdata int, err error) {
	rr = dns.Copy(rr)
	if err := lowerRDATA(rr); err != nil {
		return nil, 0, err
	}
	wire = make([]byte, dns.Len(rr)+1)
	n, err := dns.PackRR(rr, wire, 0, nil, false)
	if err != nil {
		return nil, 0, err
	}
	wire = wire[:n]
	// The owner is lowered here and not in presentation form, where an escape could
	// hide a letter. A length octet is at most 63, below 'A'.
	end := 0
	for ; wire[end] != 0; end += 1 + int(wire[end]) {
	}
	lower(wire[:end])
	return wire, end + 1 + 10, nil // type, class, TTL, length
}

func lower(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// lowerRDATA lowers the names in the RDATA of the types that RFC 4034 section 6.2
// lists as RFC 6840 section 5.1 corrects it: not those of NSEC, nor of any newer type.
// Types of that list that a Bailiwick zone has no use for are refused.
func lowerRDATA(rr dns.RR) error {
	switch x := rr.(type) {
	case *dns.NS:
		x.Ns = dns.CanonicalName(x.Ns)
	case *dns.SOA:
		x.Ns, x.Mbox = dns.CanonicalName(x.Ns), dns.CanonicalName(x.Mbox)
	case *dns.CNAME:
		x.Target = dns.CanonicalName(x.Target)
	case *dns.DNAME:
		x.Target = dns.CanonicalName(x.Target)
	case *dns.PTR:
		x.Ptr = dns.CanonicalName(x.Ptr)
	case *dns.MX:
		x.Mx = dns.CanonicalName(x.Mx)
	case *dns.SRV:
		x.Target = dns.CanonicalName(x.Target)
	case *dns.NAPTR:
		x.Replacement = dns.CanonicalName(x.Replacement)
	case *dns.MD, *dns.MF, *dns.MB, *dns.MG, *dns.MR, *dns.MINFO, *dns.RP, *dns.AFSDB, *dns.RT, *dns.SIG, *dns.PX, *dns.KX:
		return fmt.Errorf("a type that is not signed here")
	}
	return nil
}

// sortRDATA orders records of one owner, type and class (RFC 4034 section 6.3).
func sortRDATA(records [][]byte, rdata int) {
	slices.SortFunc(records, func(a, b []byte) int { return bytes.Compare(a[rdata:], b[rdata:]) })
}
