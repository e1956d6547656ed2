package geo

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bailiwick/region"
	"bailiwick/residency"
)

func must(t testing.TB, overrides []region.Override) *Table {
	t.Helper()
	table, err := Load("", overrides)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func in(j residency.Jurisdiction) Place { return Place{Jurisdiction: j} }

func over(prefix string, j residency.Jurisdiction) region.Override {
	return region.Override{Prefix: netip.MustParsePrefix(prefix), Place: in(j)}
}

func TestBuiltIn(t *testing.T) {
	table := must(t, BuiltIn())
	for _, row := range []struct {
		name, addr string
		at         residency.Jurisdiction
		scope      string
	}{
		{"Berlin", "192.0.2.1", "DE", "192.0.2.0/27"},
		{"Munich is another place than Berlin", "192.0.2.63", "DE", "192.0.2.32/27"},
		{"Paris", "192.0.2.65", "FR", "192.0.2.64/27"},
		{"San Francisco", "198.51.100.33", "US-CA", "198.51.100.32/27"},
		{"Montréal", "203.0.113.1", "CA-QC", "203.0.113.0/27"},
		{"Dubai", "203.0.113.200", "AE", "203.0.113.192/27"},
		{"Berlin, IPv6", "2001:db8::1", "DE", "2001:db8::/40"},
		{"Tokyo, IPv6", "2001:db8:1500::7", "JP", "2001:db8:1500::/40"},
		{"mapped IPv4 is IPv4", "::ffff:192.0.2.65", "FR", "192.0.2.64/27"},
		{"loopback", "127.0.0.1", "DE", "127.0.0.0/8"},
		{"loopback, IPv6", "::1", "DE", "::1/128"},
		{"a zone is ignored", "2001:db8::1%eth0", "DE", "2001:db8::/40"},
		{"beside a documentation network", "192.0.3.0", "", "192.0.3.0/24"},
		{"not placed", "9.9.9.9", "", "0.0.0.0/2"},
		{"documentation, not placed", "2001:db8:1800::1", "", "2001:db8:1800::/37"},
	} {
		place, scope := table.Lookup(netip.MustParseAddr(row.addr))
		if place.Jurisdiction != row.at || scope.String() != row.scope {
			t.Errorf("%s: %s: got %q in %s, want %q in %s", row.name, row.addr, place.Jurisdiction, scope, row.at, row.scope)
		}
	}
	if p, scope := table.Lookup(netip.Addr{}); p != (Place{}) || scope.IsValid() {
		t.Errorf("zero address: got %v in %s, want nothing", p, scope)
	}
	for _, o := range BuiltIn() {
		if q, ok := region.Locate(o.Place.Jurisdiction); !ok || q.Km(o.Place.Point) > 4200 {
			t.Errorf("%s: %s is %.0f km from the country's principal place", o.Prefix, o.Place.Jurisdiction, q.Km(o.Place.Point))
		}
	}
}

func TestLongestOverrideWins(t *testing.T) {
	list := []region.Override{
		over("10.0.0.0/8", "DE"), over("10.0.0.0/24", "FR"), over("10.0.0.7/32", "GB"),
		over("10.0.0.128/25", "DE"), over("10.255.255.255/32", "CH"),
		over("255.0.0.0/8", "US"), over("255.255.0.0/16", "CA"), over("255.255.255.255/32", "MX"),
		over("::/0", "BR"), over("ff00::/8", "AU"), over("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "NZ"),
	}
	for range 20 { // whatever their order
		rand.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
		table := must(t, list)
		for _, row := range []struct {
			addr  string
			at    residency.Jurisdiction
			scope string
		}{
			{"10.0.0.6", "FR", "10.0.0.6/32"},
			{"10.0.0.7", "GB", "10.0.0.7/32"},
			{"10.0.0.9", "FR", "10.0.0.8/29"},
			{"10.0.0.200", "DE", "10.0.0.128/25"},
			{"10.1.0.0", "DE", "10.1.0.0/16"},
			{"10.255.255.254", "DE", "10.255.255.254/32"},
			{"10.255.255.255", "CH", "10.255.255.255/32"},
			{"11.0.0.0", "", "11.0.0.0/8"},
			{"255.0.0.1", "US", "255.0.0.0/9"},
			{"255.255.0.1", "CA", "255.255.0.0/17"},
			{"255.255.255.255", "MX", "255.255.255.255/32"},
			{"3000::", "BR", "3000::/4"},
			{"2002:c000:204::1", "", "2002::/16"}, // no row of ::/0 places a tunnel,
			{"ff02::1", "AU", "ff00::/9"},
			{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "NZ", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"},
		} {
			place, scope := table.Lookup(netip.MustParseAddr(row.addr))
			if place.Jurisdiction != row.at || scope.String() != row.scope {
				t.Fatalf("%s: got %q in %s, want %q in %s", row.addr, place.Jurisdiction, scope, row.at, row.scope)
			}
		}
	}
}

// A tunnel's addresses are nobody's place, whatever a row above or below them says.
func TestTunnelsAreNobodysPlace(t *testing.T) {
	for _, row := range []struct {
		name string
		over []region.Override
		addr string
		want residency.Jurisdiction
	}{
		{"6to4", []region.Override{over("2000::/3", "DE")}, "2002:c000:204::1", ""},
		{"Teredo", []region.Override{over("2000::/3", "DE")}, "2001:0:53aa:64c::1", ""},
		{"beside Teredo", []region.Override{over("2000::/3", "DE")}, "2001:1::1", "DE"},
		{"after 6to4", []region.Override{over("2000::/3", "DE")}, "2003::1", "DE"},
		{"an operator's own network within", []region.Override{over("2002:c000:200::/40", "DE")}, "2002:c000:204::1", "DE"},
		{"all of it, by an operator's word", []region.Override{over("2002::/16", "DE")}, "2002:c000:204::1", "DE"},
	} {
		if got, _ := must(t, row.over).Lookup(netip.MustParseAddr(row.addr)); got.Jurisdiction != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got.Jurisdiction, row.want)
		}
	}
	path := filepath.Join(t.TempDir(), "x.mmdb")
	text := "2001::,2001:0:ffff:ffff:ffff:ffff:ffff:ffff,US\n2001:200::,2001:200:ffff:ffff:ffff:ffff:ffff:ffff,JP\n2002::,2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff,US\n2003::,2003:ffff:ffff:ffff:ffff:ffff:ffff:ffff,DE\n"
	s, err := Import(path, nil, strings.NewReader(text), nil)
	if err != nil || s.Unknown != 2 || s.Countries != 2 {
		t.Fatalf("got %+v, %v: want the rows of both tunnels left out", s, err)
	}
	table, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]residency.Jurisdiction{"2001:0:1::1": "", "2002:1::1": "", "2001:200::1": "JP", "2003::1": "DE"} {
		if got, _ := table.Lookup(netip.MustParseAddr(addr)); got.Jurisdiction != want {
			t.Errorf("%s: got %q, want %q", addr, got.Jurisdiction, want)
		}
	}
}

func TestSiblingsMerge(t *testing.T) {
	var list []region.Override
	for i := range 256 {
		list = append(list, over(fmt.Sprintf("100.0.%d.0/24", i), "DE"))
	}
	table := must(t, list)
	if _, scope := table.Lookup(netip.MustParseAddr("100.0.77.1")); scope.String() != "100.0.0.0/16" {
		t.Errorf("scope of 256 equal siblings: got %s, want 100.0.0.0/16", scope)
	}
	if got := table.Ranges(); got != 4 { // before, them, after; all of IPv6
		t.Errorf("ranges: got %d, want 4", got)
	}
}

func TestOverrideFaults(t *testing.T) {
	for _, row := range []struct {
		name string
		list []region.Override
		want string
	}{
		{"no prefix", []region.Override{{}}, "override invalid Prefix: want a network such as 192.0.2.0/24 or 2001:db8::/32"},
		{"mapped", []region.Override{over("::ffff:1.2.3.0/120", "DE")}, "override ::ffff:1.2.3.0/120: want a network such as 192.0.2.0/24 or 2001:db8::/32"},
		{"twice", []region.Override{over("10.0.0.0/8", "DE"), over("10.1.0.0/8", "FR")}, "override 10.0.0.0/8: listed twice: keep one"},
	} {
		if _, err := Load("", row.list); err == nil || err.Error() != row.want {
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		}
	}
}

// longest is the table's meaning, written the slow way.
func longest(list []region.Override, a netip.Addr) Place {
	best, p := -1, Place{}
	for _, o := range list {
		if o.Prefix.Contains(a) && o.Prefix.Bits() > best {
			best, p = o.Prefix.Bits(), o.Place
		}
	}
	return p
}

// ends are the first and last address of p.
func ends(p netip.Prefix) (netip.Addr, netip.Addr) {
	s := spanOf(p)
	return addr(s.first, p.Addr().Is4()), addr(s.last, p.Addr().Is4())
}

func addr(a u128, four bool) netip.Addr {
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(a.hi>>(56-8*i)), byte(a.lo>>(56-8*i))
	}
	if four {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16(b)
}

// TestScopeIsExact is the property that makes ECS lawful (RFC 7871): all addresses
// of a returned prefix have one place, and its parent has not.
func TestScopeIsExact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	countries := []residency.Jurisdiction{"DE", "FR", "US"}
	for range 300 {
		var list []region.Override
		seen := map[netip.Prefix]bool{}
		four := rnd.IntN(2) == 0
		width, base := 128, u128{0x20010db8 << 32, 0}
		if four {
			width, base = 32, u128{lo: 10 << 24}
		}
		random := func() netip.Addr { // clustered, so that prefixes nest and touch
			return addr(u128{base.hi, base.lo | uint64(rnd.IntN(256))}, four)
		}
		for range rnd.IntN(12) {
			p := netip.PrefixFrom(random(), width-rnd.IntN(10)).Masked()
			if !seen[p] {
				seen[p] = true
				list = append(list, region.Override{Prefix: p, Place: in(countries[rnd.IntN(3)])})
			}
		}
		table := must(t, list)
		for range 64 {
			a := random()
			place, scope := table.Lookup(a)
			if want := longest(list, a); place != want {
				t.Fatalf("%v: %s: got %v, want %v", list, a, place, want)
			}
			if !scope.Contains(a) {
				t.Fatalf("%v: %s: scope %s does not contain it", list, a, scope)
			}
			if !uniform(list, scope, place) {
				t.Fatalf("%v: %s: scope %s has more than the place %v", list, a, scope, place)
			}
			if parent := netip.PrefixFrom(a, scope.Bits()-1).Masked(); scope.Bits() > 0 && uniform(list, parent, place) {
				t.Fatalf("%v: %s: scope %s, but %s has one place too", list, a, scope, parent)
			}
		}
	}
}

// uniform tries the ends of every override within p, where a place can change.
func uniform(list []region.Override, p netip.Prefix, want Place) bool {
	first, last := ends(p)
	try := []netip.Addr{first, last}
	for _, o := range list {
		if p.Overlaps(o.Prefix) && o.Prefix.Bits() >= p.Bits() {
			a, b := ends(o.Prefix)
			try = append(try, a, b, a.Prev(), b.Next())
		}
	}
	return !slices.ContainsFunc(try, func(a netip.Addr) bool { return p.Contains(a) && longest(list, a) != want })
}

func TestJurisdictions(t *testing.T) {
	table := must(t, []region.Override{over("10.0.0.0/26", "DE"), over("10.0.0.64/26", "FR"), over("10.0.0.128/26", "DE"), over("10.0.0.192/26", "CH"),
		over("2001:db8::/33", "DE"), over("2001:db8:8000::/33", "FR"), over("255.255.255.0/24", "GB"),
		over("20.0.0.0/24", "DE"), over("20.0.0.255/32", "FR"), over("2001:dbc::/32", "DE"), over("2001:dbc:ffff:ffff:ffff:ffff:ffff:ffff/128", "FR")})
	for _, row := range []struct {
		name, prefix string
		want         []residency.Jurisdiction
		ok           bool
	}{
		{"one place", "10.0.0.0/27", []residency.Jurisdiction{"DE"}, true},
		{"two", "10.0.0.0/25", []residency.Jurisdiction{"DE", "FR"}, true},
		{"each once", "10.0.0.0/24", []residency.Jurisdiction{"DE", "FR", "CH"}, true},
		{"an unknown part", "10.0.0.0/23", nil, false},
		{"unknown", "11.0.0.0/24", nil, false},
		{"mapped", "::ffff:10.0.0.0/121", []residency.Jurisdiction{"DE", "FR"}, true},
		{"two, the other the last address", "20.0.0.0/24", []residency.Jurisdiction{"DE", "FR"}, true},
		{"IPv6, two, the other the last address", "2001:dbc::/32", []residency.Jurisdiction{"DE", "FR"}, true},
		{"IPv6", "2001:db8::/32", []residency.Jurisdiction{"DE", "FR"}, true},
		{"IPv6, unknown part", "2001:db8::/31", nil, false},
		{"the last addresses", "255.255.255.0/24", []residency.Jurisdiction{"GB"}, true},
	} {
		got, ok := table.Jurisdictions(netip.MustParsePrefix(row.prefix), make([]residency.Jurisdiction, 0, 3))
		if ok != row.ok || ok && !slices.Equal(got, row.want) {
			t.Errorf("%s: got %v %v, want %v %v", row.name, got, ok, row.want, row.ok)
		}
	}
	if got, ok := table.Jurisdictions(netip.MustParsePrefix("10.0.0.0/24"), make([]residency.Jurisdiction, 0, 2)); ok {
		t.Errorf("no room: got %v, want false", got)
	}
	if _, ok := table.Jurisdictions(netip.Prefix{}, nil); ok {
		t.Error("no prefix: got true, want false")
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	table := must(t, BuiltIn())
	four, six := netip.MustParseAddr("192.0.2.65"), netip.MustParseAddr("2001:db8:200::1")
	into := make([]residency.Jurisdiction, 0, 4)
	if n := testing.AllocsPerRun(100, func() {
		table.Lookup(four)
		table.Lookup(six)
		table.Jurisdictions(netip.PrefixFrom(four, 25), into)
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// An address is found in any company as it is alone.
func TestFindAll(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 9))
	var list []region.Override
	seen := map[netip.Prefix]bool{}
	random := func() netip.Addr {
		switch rnd.IntN(8) {
		case 0:
			return netip.Addr{}
		case 1:
			return netip.AddrFrom16(netip.AddrFrom4([4]byte{10, 0, byte(rnd.IntN(4)), byte(rnd.IntN(256))}).As16()) // mapped
		case 2, 3, 4:
			return addr(u128{0x20010db8 << 32, uint64(rnd.IntN(1 << 12))}, false) // one high half, many steps
		}
		return netip.AddrFrom4([4]byte{10, 0, byte(rnd.IntN(4)), byte(rnd.IntN(256))})
	}
	for len(list) < 1500 {
		a := random().Unmap()
		if !a.IsValid() {
			continue
		}
		p := netip.PrefixFrom(a, a.BitLen()-rnd.IntN(6)).Masked()
		if !seen[p] {
			seen[p] = true
			list = append(list, region.Override{Prefix: p, Place: Place{Jurisdiction: "DE", Point: region.Point{Lat: float64(rnd.IntN(90))}}})
		}
	}
	table := must(t, list)
	for n := range 3*Together + 1 {
		addrs, found := make([]netip.Addr, n), make([]Found, n)
		for i := range addrs {
			addrs[i], found[i] = random(), Found{Place: 99}
		}
		table.FindAll(found, addrs)
		for i, a := range addrs {
			if want := longest(list, a.Unmap()); table.Place(found[i].Place) != want && a.IsValid() {
				t.Fatalf("%s, number %d of %d: got %v, want %v", a, i, n, table.Place(found[i].Place), want)
			}
			if alone := table.Find(a); found[i] != alone {
				t.Fatalf("%s, number %d of %d: got %v, alone %v", a, i, n, found[i], alone)
			}
		}
	}
}
