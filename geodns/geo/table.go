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
	"time"

	"bailiwick/region"
	"bailiwick/residency"
)

// Place is where an address is; the zero Place is an address that nobody placed.
type Place = region.Place

// Table maps every address of both families to a place. It is immutable and safe
// for concurrent use. An IPv4 range costs 8 bytes, an IPv6 range 24.
type Table struct {
	// v4 and v6 hold the ranges in ascending order, from address zero on without a gap;
	// neighbours differ in place.
	v4 []range4
	v6 []range6
	// top4 has, for each /16, the range that its first address is in, and a last
	// entry for the end.
	top4 [1<<16 + 1]uint32
	// step6 has the high half of the first address of every stride-th range: a search
	// touches few lines of memory with it.
	step6  []uint64
	places []Place // places[0] is the unknown place
	built  time.Time
}

// range4 goes from first to before the next one's. at is an index into places.
type range4 struct{ first, at uint32 }

type range6 struct {
	first u128
	at    uint32
}

// Built is when the database was made, by its own word; zero without a database.
func (t *Table) Built() time.Time { return t.built }

// Ranges is how many ranges of one place the table has, both families together.
func (t *Table) Ranges() int { return len(t.v4) + len(t.v6) }

// Lookup is the place of addr and the coarsest prefix around it that has that place
// throughout: what RFC 7871 calls the scope. A mapped IPv4 address is looked up as
// IPv4; a zone is ignored. The zero Addr has the zero Place and no prefix.
// It allocates nothing.
func (t *Table) Lookup(addr netip.Addr) (Place, netip.Prefix) {
	f := t.Find(addr)
	return t.places[f.Place], f.Prefix
}

// Place is the place with that number, below [Table.Places].
func (t *Table) Place(at int) Place { return t.places[at] }

// Places is how many places the table knows; number 0 is the unknown one.
func (t *Table) Places() int { return len(t.places) }

// Found is where an address is, as [Table.Lookup] has it, with the place's number, by
// which a decision about the place can be remembered.
type Found struct {
	Place  int
	Prefix netip.Prefix
}

// Find is the place of one address.
func (t *Table) Find(addr netip.Addr) Found {
	var f [1]Found
	t.FindAll(f[:], []netip.Addr{addr})
	return f[0]
}

// Together is how many addresses [Table.FindAll] seeks side by side.
const Together = 32

// FindAll puts the place of each address into found, which must be as long. The table
// is larger than a processor's caches, so that a search alone waits for memory most of
// its time; of many at once the waits overlap. It allocates nothing.
func (t *Table) FindAll(found []Found, addrs []netip.Addr) {
	for len(addrs) > Together {
		t.FindAll(found[:Together], addrs[:Together])
		found, addrs = found[Together:], addrs[Together:]
	}
	var four [Together]search4
	var six [Together]search6
	n4, n6 := 0, 0
	for i, addr := range addrs {
		switch addr = addr.Unmap(); {
		case addr.Is4():
			four[n4] = search4{a: v4(addr), of: i}
			n4++
		case addr.Is6():
			six[n6] = search6{a: v6(addr), of: i}
			n6++
		default:
			found[i] = Found{}
		}
	}
	t.search4(four[:n4])
	t.search6(six[:n6])
	for k := range four[:n4] {
		s, n := &four[k], 0
		i := int(s.at)
		if i > 0 {
			n = bits.LeadingZeros32(s.a^(t.v4[i].first-1)) + 1
		}
		if i+1 < len(t.v4) {
			n = max(n, bits.LeadingZeros32(s.a^t.v4[i+1].first)+1)
		}
		found[s.of].Place = int(t.v4[i].at)
		found[s.of].Prefix, _ = addrs[s.of].Unmap().Prefix(n)
	}
	for k := range six[:n6] {
		s, n := &six[k], 0
		i := int(s.at)
		if i > 0 {
			n = s.a.common(t.v6[i].first.prev()) + 1
		}
		if i+1 < len(t.v6) {
			n = max(n, s.a.common(t.v6[i+1].first)+1)
		}
		found[s.of].Place = int(t.v6[i].at)
		found[s.of].Prefix, _ = addrs[s.of].Prefix(n)
	}
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
		for i := t.find4(uint32(s.first.lo)); i < len(t.v4) && uint64(t.v4[i].first) <= s.last.lo; i++ {
			if !t.note(t.v4[i].at, &dst) {
				return dst, false
			}
		}
		return dst, true
	}
	for i := t.find6(s.first); i < len(t.v6) && !s.last.less(t.v6[i].first); i++ {
		if !t.note(t.v6[i].at, &dst) {
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

// find4 is the index of the range that a is in.
func (t *Table) find4(a uint32) int {
	s := [1]search4{{a: a}}
	t.search4(s[:])
	return int(s[0].at)
}

// find6 is the index of the range that a is in.
func (t *Table) find6(a u128) int {
	s := [1]search6{{a: a}}
	t.search6(s[:])
	return int(s[0].at)
}

// search4 is the search for the last range that starts at or before a: it is among the
// n from at on.
type search4 struct {
	a     uint32
	at, n uint32
	of    int // whose it is
}

// search4 halves what is left of each search in turn. There is no branch on what was
// read, for the processor to guess wrong and wait at.
func (t *Table) search4(all []search4) {
	most := uint32(0)
	for i := range all {
		s := &all[i]
		s.at = t.top4[s.a>>16]
		s.n = t.top4[s.a>>16+1] - s.at + 1
		most = max(most, s.n)
	}
	for ; most > 1; most -= most / 2 {
		for i := range all {
			s := &all[i]
			half := s.n / 2
			_, after := bits.Sub32(s.a, t.v4[s.at+half].first, 0)
			s.at += half & (after - 1)
			s.n -= half
		}
	}
}

// stride of step6: the ranges of one are six lines of memory.
const stride = 16

// search6 is search4 for IPv6.
type search6 struct {
	a     u128
	at, n uint32
	of    int
}

func (t *Table) search6(all []search6) {
	if len(all) == 0 {
		return
	}
	for i := range all {
		all[i].n = uint32(len(t.step6))
	}
	for most := len(t.step6); most > 1; most -= most / 2 { // the last step that begins before a's half
		for i := range all {
			s := &all[i]
			half := s.n / 2
			_, before := bits.Sub64(t.step6[s.at+half], s.a.hi, 0)
			s.at += half & -uint32(before)
			s.n -= half
		}
	}
	most := uint32(0)
	for i := range all {
		s := &all[i]
		// Ranges that share their high half may go on over several steps.
		last := int(s.at) + 1
		for last < len(t.step6) && t.step6[last] <= s.a.hi {
			last++
		}
		s.at *= stride
		s.n = uint32(min(last*stride, len(t.v6))) - s.at
		most = max(most, s.n)
	}
	for ; most > 1; most -= most / 2 {
		for i := range all {
			s := &all[i]
			half := s.n / 2
			first := &t.v6[s.at+half].first
			_, after := bits.Sub64(s.a.lo, first.lo, 0)
			_, after = bits.Sub64(s.a.hi, first.hi, after)
			s.at += half & (uint32(after) - 1)
			s.n -= half
		}
	}
}

// index makes what is found by, of the ranges.
func (t *Table) index() {
	i := 0
	for h := range 1 << 16 {
		for i+1 < len(t.v4) && t.v4[i+1].first <= uint32(h)<<16 {
			i++
		}
		t.top4[h] = uint32(i)
	}
	t.top4[1<<16] = uint32(len(t.v4) - 1)
	for i := 0; i < len(t.v6); i += stride {
		t.step6 = append(t.step6, t.v6[i].first.hi)
	}
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
