package geo

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// whole is the table of the real country database.
func whole(t testing.TB) *Table {
	t.Helper()
	table, err := Load(importTor(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := table.Ranges(); n < 100_000 {
		t.Fatalf("%d ranges: the database is not whole", n)
	}
	return table
}

// TestScopesOfTheWholeTable: in the real country database, no scope reaches over the
// range that its address is in, so every address inside a scope has the same place and
// no scope spans a jurisdiction; and no scope could be coarser.
func TestScopesOfTheWholeTable(t *testing.T) {
	table := whole(t)
	check := func(a netip.Addr, at uint32, first, last u128) {
		f := table.Find(a)
		place, p := f.Place, f.Prefix
		s := spanOf(p)
		if place != int(at) || s.first.less(first) || last.less(s.last) {
			t.Fatalf("%s: place %d and scope %s, want place %d and a scope within its range", a, place, p, at)
		}
		if p.Bits() == 0 {
			return
		}
		parent := spanOf(netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked())
		if !parent.first.less(first) && !last.less(parent.last) {
			t.Fatalf("%s: scope %s, but its parent is in the range too", a, p)
		}
	}
	for i, r := range table.v4 {
		last := u128{lo: 1<<32 - 1}
		if i+1 < len(table.v4) {
			last = u128{lo: uint64(table.v4[i+1].first) - 1}
		}
		first := u128{lo: uint64(r.first)}
		for _, a := range []u128{first, last, {lo: first.lo + (last.lo-first.lo)/2}} {
			check(addr(a, true), r.at, first, last)
		}
	}
	for i, r := range table.v6 {
		last := u128{^uint64(0), ^uint64(0)}
		if i+1 < len(table.v6) {
			last = table.v6[i+1].first.prev()
		}
		for _, a := range []u128{r.first, last} {
			check(addr(a, false), r.at, r.first, last)
		}
	}
}

// BenchmarkFind seeks more addresses than any cache has room for, one by one and side
// by side.
func BenchmarkFind(b *testing.B) {
	table := whole(b)
	rnd := rand.New(rand.NewPCG(7871, 0))
	addrs := make([]netip.Addr, 1<<17)
	for i := range addrs {
		if i%4 == 0 {
			addrs[i] = addr(table.v6[rnd.IntN(len(table.v6))].first, false)
		} else {
			addrs[i] = addr(u128{lo: uint64(table.v4[rnd.IntN(len(table.v4))].first)}, true)
		}
	}
	for _, n := range []int{1, 4, 16, Together} {
		b.Run(fmt.Sprint("together=", n), func(b *testing.B) {
			b.ReportAllocs()
			found := make([]Found, n)
			for i := 0; i < b.N; i += n {
				at := i % len(addrs)
				table.FindAll(found, addrs[at:at+n])
			}
		})
	}
}
