package dnssec

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

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

// Signable refuses a type whose canonical form cannot be made: those of RFC 4034
// section 6.2 that the library does not know the RDATA of, and signatures.
func Signable(rrtype uint16) error {
	const typeA6 = 38
	switch rrtype {
	case dns.TypeSIG, dns.TypeNXT, typeA6, dns.TypeRRSIG:
		return fmt.Errorf("type %s cannot be signed", dns.Type(rrtype))
	}
	return nil
}

// lowerRDATA lowers the names in the RDATA of the types that RFC 4034 section 6.2
// lists as RFC 6840 section 5.1 corrects it: not those of NSEC, nor of any newer type.
// HINFO is in that list and holds no name.
func lowerRDATA(rr dns.RR) error {
	for _, name := range names(rr) {
		var err error
		if *name, err = lowerName(*name); err != nil {
			return err
		}
	}
	return Signable(rr.Header().Rrtype)
}

// lowerName takes the way over the wire where an escape could hide a letter.
func lowerName(name string) (string, error) {
	if !strings.Contains(name, `\`) {
		return dns.CanonicalName(name), nil
	}
	wire := make([]byte, 256)
	n, err := dns.PackDomainName(name, wire, 0, nil, false)
	if err != nil {
		return "", err
	}
	lower(wire[:n]) // a length octet is no letter
	name, _, err = dns.UnpackDomainName(wire[:n], 0)
	return name, err
}

func names(rr dns.RR) []*string {
	switch x := rr.(type) {
	case *dns.NS:
		return []*string{&x.Ns}
	case *dns.MD:
		return []*string{&x.Md}
	case *dns.MF:
		return []*string{&x.Mf}
	case *dns.CNAME:
		return []*string{&x.Target}
	case *dns.SOA:
		return []*string{&x.Ns, &x.Mbox}
	case *dns.MB:
		return []*string{&x.Mb}
	case *dns.MG:
		return []*string{&x.Mg}
	case *dns.MR:
		return []*string{&x.Mr}
	case *dns.PTR:
		return []*string{&x.Ptr}
	case *dns.MINFO:
		return []*string{&x.Rmail, &x.Email}
	case *dns.MX:
		return []*string{&x.Mx}
	case *dns.RP:
		return []*string{&x.Mbox, &x.Txt}
	case *dns.AFSDB:
		return []*string{&x.Hostname}
	case *dns.RT:
		return []*string{&x.Host}
	case *dns.PX:
		return []*string{&x.Map822, &x.Mapx400}
	case *dns.NAPTR:
		return []*string{&x.Replacement}
	case *dns.KX:
		return []*string{&x.Exchanger}
	case *dns.SRV:
		return []*string{&x.Target}
	case *dns.DNAME:
		return []*string{&x.Target}
	}
	return nil
}

// sortRDATA orders records of one owner, type and class (RFC 4034 section 6.3).
func sortRDATA(records [][]byte, rdata int) {
	slices.SortFunc(records, func(a, b []byte) int { return bytes.Compare(a[rdata:], b[rdata:]) })
}
