package geo

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"bailiwick/region"
)

// span is a run of addresses with one place; an IPv4 address is its number.
type span struct {
	first, last u128
	place       uint32
}

// spanOf is the run of p, without a place.
func spanOf(p netip.Prefix) span {
	a := p.Addr()
	n, width := u128{}, 128
	if a.Is4() {
		n, width = u128{lo: uint64(v4(a))}, 32
	} else {
		n = v6(a)
	}
	host := width - p.Bits()
	mask := u128{hi: ^uint64(0), lo: ^uint64(0)}
	if host < 64 {
		mask = u128{lo: 1<<host - 1}
	} else if host < 128 {
		mask.hi = 1<<(host-64) - 1
	}
	return span{
		first: u128{n.hi &^ mask.hi, n.lo &^ mask.lo},
		last:  u128{n.hi | mask.hi, n.lo | mask.lo},
	}
}

// family folds the spans of one address family, in ascending order, under its
// overrides. Adjacent spans of equal place become one, whatever prefixes they were.
type family struct {
	end    u128 // the last address there is
	over   []span
	firsts []u128
	at     []uint32
	next   u128 // the first address not yet covered
	full   bool // next has passed end
	base   u128 // one past the last database network
	any    bool // there was one
}

// add takes the next network of the database and covers what no override claims.
func (f *family) add(s span) error {
	if f.any && s.first.less(f.base) {
		return fmt.Errorf("networks overlap or are out of order")
	}
	f.base, f.any = s.last.next(), true
	if f.full || s.last.less(f.next) { // all of it is an override's; prefixes nest, so never a part
		return nil
	}
	for len(f.over) > 0 && !s.last.less(f.over[0].first) {
		o := f.over[0]
		f.over = f.over[1:]
		if s.first.less(o.first) {
			f.put(span{s.first, o.first.prev(), s.place})
		}
		f.put(o)
		if !o.last.less(s.last) {
			return nil
		}
		if !o.last.less(s.first) {
			s.first = o.last.next()
		}
	}
	f.put(s)
	return nil
}

// put covers s, which starts at or after f.next; a gap before it is unknown.
func (f *family) put(s span) {
	if f.next.less(s.first) {
		f.start(f.next, 0)
	}
	f.start(s.first, s.place)
	f.next, f.full = s.last.next(), s.last == f.end
}

func (f *family) start(first u128, place uint32) {
	if n := len(f.at); n > 0 && f.at[n-1] == place {
		return
	}
	f.firsts = append(f.firsts, first)
	f.at = append(f.at, place)
}

func (f *family) finish() {
	for _, o := range f.over {
		f.put(o)
	}
	f.over = nil
	if !f.full {
		f.start(f.next, 0)
	}
	f.firsts, f.at = slices.Clip(f.firsts), slices.Clip(f.at)
}

// tunnels are networks whose addresses are made of other addresses, 6to4 (RFC 3056) and
// Teredo (RFC 4380): a database's row of one is where somebody registered it, and would place
// everybody behind a tunnel in that one country. They are nobody's place, but where an
// override names a network within.
var tunnels = []netip.Prefix{netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32")}

// builder makes one Table.
type builder struct {
	v4, v6 family
	places []Place
	index  map[Place]uint32
}

func newBuilder(overrides []region.Override) (*builder, error) {
	b := &builder{places: []Place{{}}, index: map[Place]uint32{{}: 0}}
	b.v4.end = u128{lo: 1<<32 - 1}
	b.v6.end = u128{^uint64(0), ^uint64(0)}

	var v4, v6 []span
	seen := map[netip.Prefix]bool{}
	for _, o := range overrides {
		p := o.Prefix.Masked()
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("override %s: want a network such as 192.0.2.0/24 or 2001:db8::/32", o.Prefix)
		}
		if seen[p] {
			return nil, fmt.Errorf("override %s: listed twice: keep one", p)
		}
		seen[p] = true
		s := spanOf(p)
		s.place = b.intern(o.Place)
		if p.Addr().Is4() {
			v4 = append(v4, s)
		} else {
			v6 = append(v6, s)
		}
	}
	for _, p := range tunnels {
		if !seen[p] {
			v6 = append(v6, spanOf(p))
		}
	}
	b.v4.over, b.v6.over = flatten(v4), flatten(v6)
	return b, nil
}

func (b *builder) intern(p Place) uint32 {
	i, ok := b.index[p]
	if !ok {
		i = uint32(len(b.places))
		b.index[p] = i
		b.places = append(b.places, p)
	}
	return i
}

func (b *builder) add(p netip.Prefix, place uint32) error {
	s := spanOf(p)
	s.place = place
	if p.Addr().Is4() {
		return b.v4.add(s)
	}
	if s.first == (u128{}) {
		// IPv4 is at ::/96 of a MaxMind DB, and what is in there came above: this network
		// has all of it.
		if err := b.v4.add(span{last: b.v4.end, place: place}); err != nil {
			return err
		}
	}
	return b.v6.add(s)
}

func (b *builder) table() *Table {
	b.v4.finish()
	b.v6.finish()
	t := &Table{v4: make([]range4, len(b.v4.firsts)), v6: make([]range6, len(b.v6.firsts)), places: slices.Clip(b.places)}
	for i, a := range b.v4.firsts {
		t.v4[i] = range4{uint32(a.lo), b.v4.at[i]}
	}
	for i, a := range b.v6.firsts {
		t.v6[i] = range6{a, b.v6.at[i]}
	}
	t.index()
	return t
}

// flatten turns prefixes, which nest but never cross, into disjoint spans in
// ascending order: the longest prefix wins.
func flatten(all []span) []span {
	slices.SortFunc(all, func(a, b span) int { // an outer prefix before what it contains
		return cmp.Or(compare(a.first, b.first), compare(b.last, a.last))
	})
	var flat, open []span
	var from u128 // where the innermost open prefix goes on
	emit := func(last u128, place uint32) {
		if !last.less(from) {
			flat = append(flat, span{from, last, place})
		}
	}
	// closeBefore ends the open prefixes that stop before limit.
	closeBefore := func(limit u128) {
		for len(open) > 0 && open[len(open)-1].last.less(limit) {
			top := open[len(open)-1]
			open = open[:len(open)-1]
			emit(top.last, top.place)
			from = top.last.next()
		}
	}
	for _, s := range all {
		closeBefore(s.first)
		if len(open) > 0 && from.less(s.first) {
			emit(s.first.prev(), open[len(open)-1].place)
		}
		open = append(open, s)
		from = s.first
	}
	for i := len(open) - 1; i >= 0; i-- {
		emit(open[i].last, open[i].place)
		from = open[i].last.next()
		if from == (u128{}) { // the last address of all: every outer prefix ends here too
			break
		}
	}
	return flat
}

func compare(a, b u128) int { return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo)) }
