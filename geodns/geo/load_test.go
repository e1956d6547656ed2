package geo

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"bailiwick/region"
	"bailiwick/residency"
)

type row struct {
	prefix string
	record mmdbtype.DataType
}

var builtAt = time.Date(2026, 6, 25, 4, 33, 59, 0, time.UTC)

func database(t testing.TB, kind string, version int, rows ...row) []byte {
	t.Helper()
	return written(t, mmdbwriter.Options{DatabaseType: kind, IPVersion: version}, rows...)
}

func written(t testing.TB, options mmdbwriter.Options, rows ...row) []byte {
	t.Helper()
	options.BuildEpoch, options.IncludeReservedNetworks = builtAt.Unix(), true
	tree, err := mmdbwriter.New(options)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		_, n, err := net.ParseCIDR(r.prefix)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Insert(n, r.record); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "geo.mmdb")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func cc(code string) mmdbtype.Map {
	return mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code)}}
}

func city(code, sub string, lat, lon float64) mmdbtype.Map {
	m := cc(code)
	m["subdivisions"] = mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String(sub)}, mmdbtype.Map{"iso_code": mmdbtype.String("INNER")}}
	m["location"] = mmdbtype.Map{"latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lon), "accuracy_radius": mmdbtype.Uint16(20)}
	return m
}

func at(j residency.Jurisdiction, lat, lon float64) Place {
	return Place{Jurisdiction: j, Point: region.Point{Lat: lat, Lon: lon}, Located: true}
}

func principal(t *testing.T, j residency.Jurisdiction) Place {
	t.Helper()
	p, ok := region.Locate(j)
	if !ok {
		t.Fatalf("region.Locate(%s): not there", j)
	}
	return Place{Jurisdiction: j, Point: p, Located: true}
}

func TestLoadRecords(t *testing.T) {
	registered := mmdbtype.Map{"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String("FR")}}
	moved := cc("DE")
	moved["registered_country"] = registered["registered_country"]
	outside := city("CA", "QC", 95, 10)
	for _, r := range []struct {
		name   string
		record mmdbtype.DataType
		want   Place
	}{
		{"a country", cc("DE"), principal(t, "DE")},
		{"lower case", cc("de"), principal(t, "DE")},
		{"used in one country, registered in another", moved, principal(t, "DE")},
		{"registered only", registered, Place{}},
		{"a city", city("DE", "BE", 52.52, 13.405), at("DE", 52.52, 13.405)},
		{"a city in Québec", city("CA", "QC", 45.5, -73.6), at("CA-QC", 45.5, -73.6)},
		{"a city in Texas", city("US", "TX", 29.8, -95.4), at("US-TX", 29.8, -95.4)},
		{"a subdivision that is none", city("US", "X!", 29.8, -95.4), at("US", 29.8, -95.4)},
		{"a latitude that is none", outside, principal(t, "CA-QC")},
		{"a country without law or place on file", cc("XK"), Place{Jurisdiction: "XK"}},
		{"unknown", cc("??"), Place{}},
		{"Europe is no country", cc("EU"), Place{}},
		{"Asia/Pacific", cc("AP"), Place{}},
		{"Serbia and Montenegro", cc("CS"), Place{}},
		{"Netherlands Antilles", cc("AN"), Place{}},
		{"anonymous proxy", cc("A1"), Place{}},
		{"satellite", cc("A2"), Place{}},
		{"a subdivision as country", cc("CA-QC"), Place{}},
		{"nothing", mmdbtype.Map{}, Place{}},
	} {
		for _, version := range []int{4, 6} {
			data := database(t, "Test-City", version, row{"81.2.0.0/16", r.record}, row{"9.9.9.0/24", cc("CH")})
			table, err := Load(file(t, data), nil)
			if err != nil {
				t.Errorf("%s: IPv%d: %v", r.name, version, err)
				continue
			}
			if got, _ := table.Lookup(netip.MustParseAddr("81.2.69.1")); got != r.want {
				t.Errorf("%s: IPv%d: got %+v, want %+v", r.name, version, got, r.want)
			}
			if !table.Built().Equal(builtAt) {
				t.Errorf("%s: built: got %v, want %v", r.name, table.Built(), builtAt)
			}
		}
	}
}

func TestOverridesWinOverTheDatabase(t *testing.T) {
	data := database(t, "Test-Country", 6,
		row{"81.0.0.0/8", cc("DE")}, row{"82.0.0.0/8", cc("DE")}, row{"84.0.0.0/8", cc("FR")},
		row{"2a00::/16", cc("DE")}, row{"2a01::/16", cc("DE")})
	table, err := Load(file(t, data), []region.Override{
		over("81.2.0.0/16", "GB"), over("83.0.0.0/8", "CH"), over("84.0.0.0/7", "ES"), over("2a00:1::/32", "GB"), over("4.0.0.0/8", "US"), over("2c00::/16", "ZA"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		name, addr string
		at         residency.Jurisdiction
		scope      string
	}{
		{"before every network", "4.1.1.1", "US", "4.0.0.0/8"},
		{"inside a network", "81.2.3.4", "GB", "81.2.0.0/16"},
		{"around it", "81.3.0.0", "DE", "81.3.0.0/16"},
		{"the siblings 82 and 83 differ", "82.0.0.0", "DE", "82.0.0.0/8"},
		{"in a gap", "83.1.1.1", "CH", "83.0.0.0/8"},
		{"wider than a network", "84.1.1.1", "ES", "84.0.0.0/7"},
		{"wider, in the gap beside it", "85.1.1.1", "ES", "84.0.0.0/7"},
		{"IPv6 inside", "2a00:1::1", "GB", "2a00:1::/32"},
		{"IPv6 merged", "2a01:2::1", "DE", "2a01::/16"},
		{"after every network", "2c00::1", "ZA", "2c00::/16"},
	} {
		p, scope := table.Lookup(netip.MustParseAddr(r.addr))
		if p.Jurisdiction != r.at || scope.String() != r.scope {
			t.Errorf("%s: %s: got %q in %s, want %q in %s", r.name, r.addr, p.Jurisdiction, scope, r.at, r.scope)
		}
	}
}

// An override that ends with its network, or hides the networks after it, does so at the
// last address of all too: there the next address is none.
func TestOverridesAtTheLastAddress(t *testing.T) {
	data := database(t, "Test-Country", 6, row{"255.0.0.0/8", cc("DE")},
		row{"fe00::/8", cc("DE")}, row{"ff00::/9", cc("DE")}, row{"ff80::/9", cc("FR")})
	for _, r := range []struct {
		name, override, addr string
		at                   residency.Jurisdiction
		scope                string
	}{
		{"the end of a network", "255.255.0.0/16", "255.255.0.1", "GB", "255.255.0.0/16"},
		{"the rest of that network", "255.255.0.0/16", "255.254.0.1", "DE", "255.254.0.0/16"},
		{"IPv6, the end of a network", "ffff::/16", "ffff::1", "GB", "ffff::/16"},
		{"IPv6, the rest of that network", "ffff::/16", "fffe::1", "FR", "fffe::/16"},
		{"IPv6, two networks", "ff00::/8", "ff80::1", "GB", "ff00::/8"},
		{"IPv6, the network before", "ff00::/8", "fe00::1", "DE", "fe00::/8"},
	} {
		table, err := Load(file(t, data), []region.Override{over(r.override, "GB")})
		if err != nil {
			t.Fatal(err)
		}
		p, scope := table.Lookup(netip.MustParseAddr(r.addr))
		if p.Jurisdiction != r.at || scope.String() != r.scope {
			t.Errorf("%s: got %q in %s, want %q in %s", r.name, p.Jurisdiction, scope, r.at, r.scope)
		}
	}
}

// An IPv6 network around ::/96 is all of IPv4's too. The aliases of IPv4 in IPv6 would
// split it.
func TestNetworkAroundIPv4(t *testing.T) {
	data := written(t, mmdbwriter.Options{DatabaseType: "Test-Country", IPVersion: 6, DisableIPv4Aliasing: true}, row{"::/64", cc("DE")})
	table, err := Load(file(t, data), []region.Override{over("81.2.0.0/16", "GB")})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]residency.Jurisdiction{"9.9.9.9": "DE", "81.2.3.4": "GB", "255.255.255.255": "DE", "::1:0:0": "DE", "0:0:0:1::": ""} {
		if p, _ := table.Lookup(netip.MustParseAddr(addr)); p.Jurisdiction != want {
			t.Errorf("%s: got %q, want %q", addr, p.Jurisdiction, want)
		}
	}
}

// The reader's documentation promises no order: what is not in it is refused, not placed
// wrongly.
func TestNetworksOutOfOrder(t *testing.T) {
	for _, r := range []struct {
		name, second string
		ok           bool
	}{
		{"the next", "11.0.0.0/8", true},
		{"the same again", "10.0.0.0/8", false},
		{"a part of it", "10.255.255.255/32", false},
		{"one before", "9.0.0.0/8", false},
	} {
		b, err := newBuilder(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.add(netip.MustParsePrefix("10.0.0.0/8"), 0); err != nil {
			t.Fatal(err)
		}
		if err := b.add(netip.MustParsePrefix(r.second), 0); (err == nil) != r.ok {
			t.Errorf("%s: got %v, want an error: %v", r.name, err, !r.ok)
		}
	}
}

func TestLoadFaults(t *testing.T) {
	good := database(t, "Test-Country", 6, row{"81.0.0.0/8", cc("DE")}, row{"2a00::/16", cc("FR")})
	asn := database(t, "Test-ASN", 6, row{"81.0.0.0/8", mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64496)}})
	flat := database(t, "Flat", 6, row{"81.0.0.0/8", mmdbtype.Map{"country": mmdbtype.String("DE")}})
	dir := t.TempDir()
	for _, r := range []struct{ name, path, want string }{
		{"missing", filepath.Join(dir, "none.mmdb"), "no such file"},
		{"a directory", dir, "not a file"},
		{"empty", file(t, nil), "download it again"},
		{"text", file(t, []byte("16777216,16777471,AU\n")), "no MaxMind DB"},
		{"head only", file(t, good[:len(good)/2]), "download it again"},
		{"tail only", file(t, good[len(good)/2:]), "download it again"},
		{"a middle cut out", file(t, append(append([]byte{}, good[:200]...), good[300:]...)), "download it again"},
		{"wrong type", file(t, asn), `this is "Test-ASN"): want a country or city database`},
		{"another schema", file(t, flat), `this is "Flat"`},
	} {
		_, err := Load(r.path, nil)
		if err == nil || !strings.Contains(err.Error(), r.want) || !strings.Contains(err.Error(), r.path) {
			t.Errorf("%s: got %v, want an error with %q and the path", r.name, err, r.want)
		}
	}
}

// TestLoadRefusesAGraph: 32 nodes, each branching twice into the next, have four
// billion paths.
func TestLoadRefusesAGraph(t *testing.T) {
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-Country", IPVersion: 4, RecordSize: 24, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	_, n, _ := net.ParseCIDR("81.2.3.4/32")
	if err := tree.Insert(n, cc("DE")); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	data := b.Bytes()
	record := func(i int) []byte { return data[3*i : 3*i+3] }
	for i := range 64 { // node 32 of 32 is the empty leaf
		copy(record(i), []byte{0, 0, byte(i/2 + 1)})
	}
	if _, err := Load(file(t, data), nil); err == nil || !strings.Contains(err.Error(), "loops or shared branches: download it again") {
		t.Errorf("got %v, want an error that says so", err)
	}
}

// FuzzLoad reads databases that strangers made: never a panic, and what loads
// covers every address without a gap.
func FuzzLoad(f *testing.F) {
	f.Add(database(f, "Test-Country", 4, row{"81.0.0.0/8", cc("DE")}))
	f.Add(database(f, "Test-City", 6, row{"81.0.0.0/8", city("CA", "QC", 45.5, -73.6)}, row{"2a00::/16", cc("FR")}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 {
			t.Skip("larger than what a mutation needs")
		}
		d, err := parse("geo.mmdb", data)
		if err != nil {
			return
		}
		for _, s := range []string{"81.2.3.4", "255.255.255.255", "::", "2a00::1"} {
			d.Record(netip.MustParseAddr(s))
		}
		table, err := d.Compile(BuiltIn())
		if err != nil {
			return
		}
		for _, s := range []string{"0.0.0.0", "81.2.3.4", "192.0.2.1", "255.255.255.255", "::", "2a00::1", "2001:db8::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
			a := netip.MustParseAddr(s)
			if _, scope := table.Lookup(a); !scope.Contains(a) {
				t.Errorf("%s: scope %s does not contain it", a, scope)
			}
		}
		if p, _ := table.Lookup(netip.MustParseAddr("192.0.2.1")); p.Jurisdiction != "DE" {
			t.Errorf("override: got %q, want DE", p.Jurisdiction)
		}
	})
}
