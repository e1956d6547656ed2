// Package geo places addresses: a MaxMind DB and the map's overrides, compiled into
// one immutable longest-prefix table. Nothing is looked up in a database while a
// query waits.
//
// It answers where an address is, never what may be done there: that is package
// residency. It does not watch files; for new data the caller loads a new [Table]
// and swaps it in.
//
// Invariants: every address inside a prefix that [Table.Lookup] returns has the same
// place, and no prefix twice as large with that property contains the address. A
// place that is not known is the zero [Place], never a guess.
package geo

import (
	"math/bits"
	"net/netip"
	"slices"
	"sort"
	"time"

	"bailiwick/region"
	"bailiwick/residency"
)

// Place is where an address is; the zero Place is an address that nobody placed.
type Place = region.Place

// Table maps every address of both families to a place. It is immutable and safe
// for concurrent use. An IPv4 range costs 8 bytes, an IPv6 range 20.
type Table struct {
	// first4 and first6 hold the first address of each range in ascending order,
	// from address zero on without a gap; neighbours differ in place. at4 and at6
	// are parallel, indices into places.
	first4 []uint32
	at4    []uint32
	first6 []u128
	at6    []uint32
	// top4 has, for each /16, the range that its first address is in, and a last
	// entry for the end.
	top4   [1<<16 + 1]uint32
	places []Place // places[0] is the unknown place
	built  time.Time
}

// Built is when the database was made, by its own word; zero without a database.
func (t *Table) Built() time.Time { return t.built }

// Ranges is how many ranges of one place the table has, both families together.
func (t *Table) Ranges() int { return len(t.first4) + len(t.first6) }

// Lookup is the place of addr and the coarsest prefix around it that has that place
// throughout: what RFC 7871 calls the scope. A mapped IPv4 address is looked up as
// IPv4; a zone is ignored. The zero Addr has the zero Place and no prefix.
// It allocates nothing.
func (t *Table) Lookup(addr netip.Addr) (Place, netip.Prefix) {
	addr = addr.Unmap()
	switch {
	case addr.Is4():
		a := v4(addr)
		i := t.range4(a)
		n := 0
		if i > 0 {
			n = bits.LeadingZeros32(a^(t.first4[i]-1)) + 1
		}
		if i+1 < len(t.first4) {
			n = max(n, bits.LeadingZeros32(a^t.first4[i+1])+1)
		}
		p, _ := addr.Prefix(n)
		return t.places[t.at4[i]], p
	case addr.Is6():
		a := v6(addr)
		i := t.range6(a)
		n := 0
		if i > 0 {
			n = a.common(t.first6[i].prev()) + 1
		}
		if i+1 < len(t.first6) {
			n = max(n, a.common(t.first6[i+1])+1)
		}
		p, _ := addr.Prefix(n)
		return t.places[t.at6[i]], p
	}
	return Place{}, netip.Prefix{}
}

// Jurisdictions appends to dst the jurisdictions of all addresses in p, each once,
// in the order of their first address. It is for a network that is wider than the
// place of any one address in it. False: a part of p has no known place, or there
// are more jurisdictions than dst has room for. It allocates nothing.
func (t *Table) Jurisdictions(p netip.Prefix, dst []residency.Jurisdiction) ([]residency.Jurisdiction, bool) {
	if p.Addr().Is4In6() {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if !p.IsValid() {
		return dst, false
	}
	s := spanOf(p)
	if p.Addr().Is4() {
		for i := t.range4(uint32(s.first.lo)); i < len(t.first4) && uint64(t.first4[i]) <= s.last.lo; i++ {
			if !t.note(t.at4[i], &dst) {
				return dst, false
			}
		}
		return dst, true
	}
	for i := t.range6(s.first); i < len(t.first6) && !s.last.less(t.first6[i]); i++ {
		if !t.note(t.at6[i], &dst) {
			return dst, false
		}
	}
	return dst, true
}

func (t *Table) note(place uint32, dst *[]residency.Jurisdiction) bool {
	j := t.places[place].Jurisdiction
	if j == "" {
		return false
	}
	if slices.Contains(*dst, j) {
		return true
	}
	if len(*dst) == cap(*dst) {
		return false
	}
	*dst = append(*dst, j)
	return true
}

// range4 is the index of the range that a is in.
func (t *Table) range4(a uint32) int {
	lo, hi := int(t.top4[a>>16]), int(t.top4[a>>16+1])
	for lo < hi { // the last range that starts at or before a
		mid := int(uint(lo+hi+1) >> 1)
		if t.first4[mid] <= a {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// range6 is the index of the range that a is in.
func (t *Table) range6(a u128) int {
	return sort.Search(len(t.first6), func(i int) bool { return a.less(t.first6[i]) }) - 1
}

// u128 is an IPv6 address as a number.
type u128 struct{ hi, lo uint64 }

func (a u128) less(b u128) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

func (a u128) next() u128 {
	lo, carry := bits.Add64(a.lo, 1, 0)
	return u128{a.hi + carry, lo}
}

func (a u128) prev() u128 {
	lo, borrow := bits.Sub64(a.lo, 1, 0)
	return u128{a.hi - borrow, lo}
}

// common is the number of leading bits that a and b share.
func (a u128) common(b u128) int {
	if a.hi != b.hi {
		return bits.LeadingZeros64(a.hi ^ b.hi)
	}
	return 64 + bits.LeadingZeros64(a.lo^b.lo)
}

func v4(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func v6(a netip.Addr) u128 {
	b := a.As16()
	var n u128
	for i := range 8 {
		n.hi = n.hi<<8 | uint64(b[i])
		n.lo = n.lo<<8 | uint64(b[i+8])
	}
	return n
}
