package region

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"bailiwick/residency"
)

// fixture reads one file of the tree.
func fixture(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixtures lists files, and fails where there are none.
func fixtures(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("fixtures %s: found %d, error %v", pattern, len(paths), err)
	}
	return paths
}

func mustParse(t testing.TB, path string) *Map {
	t.Helper()
	m, err := Parse(filepath.Base(path), fixture(t, path))
	if err != nil {
		t.Fatalf("Parse:\n%v", err)
	}
	return m
}

func TestParseGood(t *testing.T) {
	for _, path := range append(fixtures(t, "testdata/good/*.yaml"), "../regions.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m := mustParse(t, path)
			if m.Tenants["default"] == nil {
				t.Error("no tenant default")
			}
			if !slices.IsSortedFunc(m.Regions, func(a, b Region) int { return strings.Compare(string(a.ID), string(b.ID)) }) {
				t.Error("regions not ordered by ID")
			}
		})
	}
}

// Every bad file has one kind of fault, and beside it the messages, in order.
func TestParseBad(t *testing.T) {
	for _, path := range fixtures(t, "testdata/bad/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m, err := Parse(filepath.Base(path), fixture(t, path))
			if m != nil {
				t.Error("Parse returned a map beside its error")
			}
			var faults Errors
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("Parse error is %T: want Errors with at least one fault", err)
			}
			want := string(fixture(t, strings.TrimSuffix(path, ".yaml")+".txt"))
			if got := err.Error() + "\n"; got != want {
				t.Errorf("messages\ngot:\n%swant:\n%s", got, want)
			}
		})
	}
}

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

func paper(id, from, to string) residency.Record {
	r := residency.Record{ID: id, Date: day(from)}
	if to != "" {
		r.Expires = day(to)
	}
	return r
}

func TestParseReadsEveryKey(t *testing.T) {
	m := mustParse(t, "testdata/good/full.yaml")
	type records = map[residency.Jurisdiction]residency.Record
	de, us := m.Region("de-fra"), m.Region("us-iad")
	for _, row := range []struct {
		name      string
		got, want any
	}{
		{"zone", m.Zone, "telehealth.media-2.example"},
		{"operator name", m.Operator.Name, "Operator: and a colon"},
		{"operator facts", m.Operator.Facts, residency.Facts{
			"art28_dpa": paper("DPA-1", "2026-01-15", "2027-12-31"), "establishment_in_DE": paper("4711", "2026-01-15", "")}},
		{"instruments", m.Operator.Instruments, []residency.Instrument{
			{ID: "SCC-1", From: "CA-QC", To: []residency.Jurisdiction{"US", "CA"}, Assessment: "TIA-1", Assessed: day("2026-02-01"), Expires: day("2027-02-01")},
			{ID: "SCC-2", From: "CA", To: []residency.Jurisdiction{"NO"}, Assessment: "TIA-2", Assessed: day("2026-02-01")}}},
		{"providers", len(m.Providers), 2},
		{"provider", m.Providers["rhein"], &Provider{ID: "rhein", Name: "Rhein",
			Facts: residency.Facts{"c5_type2_or_equivalent": paper("C5-1", "2026-01-15", "2027-12-31")},
			BAA:   &BAA{paper("BAA-1", "2026-01-15", "2027-12-31"), []ID{"us-iad", "de-fra"}}}},
		{"agreement for all", m.Providers["nord"].BAA, &BAA{paper("BAA-2", "2026-01-15", ""), nil}},
		{"region", *de, Region{ID: "de-fra", City: "Frankfurt am Main", Provider: "rhein", Neighbours: []ID{"no-osl"},
			Place:    Place{"DE", Point{50.1109, 8.6821}, true},
			Capacity: Capacity{10_000_000, 0.999, 100_000}, SingleRegionAccepted: true}},
		{"subdivision", us.Place.Jurisdiction, residency.Jurisdiction("US-VA")},
		{"edges", us.Edges, []Edge{{ID: "us-iad-0"}, {"us-iad-1", []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
			{"us-iad-2", []netip.Addr{netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("192.0.2.2")}}}},
		{"quoted country", m.Region("no-osl").Place.Jurisdiction, residency.Jurisdiction("NO")},
		{"exponent", m.Region("no-osl").Capacity.Headroom, 0.5},
		{"served", m.Served, []residency.Jurisdiction{"CA-QC", "DE", "NO", "US"}},
		{"refused", m.Refused, map[residency.Jurisdiction]string{"AE": "no region there", "CN": "no region there"}},
		{"tenant implied", m.Tenants["default"], &residency.Tenant{ID: "default", Facts: residency.Facts{}}},
		{"webhook", m.Webhooks, map[string]Webhook{"klinik": {"https://backend.example/hooks?k=v", "/etc/bailiwick/klinik.secret", 62}}},
		{"tenant", m.Tenants["klinik"], &residency.Tenant{ID: "klinik", Overlays: []string{"de_statutory"},
			Facts:             residency.Facts{"pia": paper("PIA-1", "2026-01-15", "2027-12-31")},
			ProductDefaultOff: records{"DE": paper("OFF-1", "2026-01-15", "")},
			NotPublicBody:     records{"CA-BC": paper("NPB-1", "2026-01-15", "2027-12-31")},
			DenyExceptions:    records{"HK": paper("DEN-1", "2026-01-15", "2027-12-31")}}},
		{"geo by country", m.Geo[0].Place, Place{"DE", Point{52.5, 13.3667}, true}},
		{"geo by point", m.Geo[1], Override{netip.MustParsePrefix("2001:db8::/32"), Place{"CA-QC", Point{46.81, -71.21}, true}}},
		{"geo unlocated", m.Geo[2].Place, Place{"BV", Point{}, false}},
		{"flags", m.Flags, map[string]bool{"dpf_valid": true}},
		{"withdrawal grace", m.WithdrawalGrace, 90 * time.Second},
		{"datacenters", m.Consul, []Datacenter{
			{"us-1", "US-VA", "rhein", []string{"192.0.2.30:8500", "consul.us.example:8501"}},
			{"eu", "DE", "nord", []string{"[2001:db8::30]:8500"}}}},
		{"line of a region", m.lines["regions/de-fra"], 36},
		{"line of a fact", m.lines["operator/facts/establishment_in_DE"], 8},
	} {
		if !reflect.DeepEqual(row.got, row.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", row.name, row.got, row.want)
		}
	}
}

func TestHopCarriesTheAgreementInItsScopeOnly(t *testing.T) {
	m := mustParse(t, "testdata/good/full.yaml")
	m.Providers["rhein"].BAA.Regions = []ID{"us-iad"}
	for _, row := range []struct {
		region ID
		baa    bool
	}{{"us-iad", true}, {"de-fra", false}, {"no-osl", true}} {
		h := m.Hop(m.Region(row.region))
		if got := h.Provider.Has("baa", day("2026-11-24")); got != row.baa {
			t.Errorf("%s: baa is %t, want %t", row.region, got, row.baa)
		}
	}
}

func TestParseLimits(t *testing.T) {
	base := string(fixture(t, "testdata/good/minimal.yaml"))
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for _, row := range []struct {
		name, text, want string
	}{
		{"bytes", base + strings.Repeat("#", maxBytes), "map.yaml:0: map of"},
		{"regions", strings.Replace(base, "regions:\n", "regions:\n"+many(maxRegions, "  x-%d: {}\n"), 1), "map.yaml:10: regions: 257 entries: want at most 256"},
		{"geo", base + "geo:\n" + many(maxOverrides+1, "- %d\n"), "map.yaml:18: geo: 10001 entries: want at most 10000"},
		{"name", strings.Replace(base, "Operator", strings.Repeat("o", maxText+1), 1), "map.yaml:5: operator: name: 513 octets: want at most 512"},
		{"served", strings.Replace(base, "[DE]", "["+strings.Repeat("DE,", maxPlaces+1)+"]", 1), "map.yaml:16: served: 513 entries: want at most 512"},
		{"faults", base + many(maxProblems+5, "x%d: 1\n"), "map.yaml:216: 5 more faults follow; mend these first"},
		{"name that turns text about", strings.Replace(base, "Operator", "Oper\u202eator", 1), "map.yaml:5: operator: name:"},
		{"nesting", strings.Repeat("[", 20_000), "map.yaml:1: not YAML"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Parse("map.yaml", []byte(row.text))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %.300v\nwant %s", err, row.want)
			}
			var faults Errors
			if errors.As(err, &faults) && len(faults) > maxProblems+1 {
				t.Errorf("%d faults: want at most %d", len(faults), maxProblems+1)
			}
		})
	}
}

// Faults go to terminals and logs: keys of the file must not drive them.
func TestFaultsHaveNoControlCharacters(t *testing.T) {
	key := `"\e[31m\u202e` + strings.Repeat("k", 5000) + `"`
	base := string(fixture(t, "testdata/good/minimal.yaml"))
	for _, row := range []struct{ name, text string }{
		{"top level", base + key + ": 1\n"},
		{"region", strings.Replace(base, "regions:\n", "regions:\n  "+key+": {}\n", 1)},
		{"fact", strings.Replace(base, "name: Operator", "name: Operator\n  facts: {"+key+": {}}", 1)},
		{"served", strings.Replace(base, "[DE]", "["+key+"]", 1)},
		{"tenant", base + "tenants: {" + key + ": {deny_exceptions: {" + key + ": {}}}}\n"},
	} {
		_, err := Parse("map.yaml", []byte(row.text))
		var faults Errors
		if !errors.As(err, &faults) {
			t.Fatalf("%s: error %v: want Errors", row.name, err)
		}
		for _, p := range faults {
			if strings.ContainsAny(p.Text, "\x1b\n\u202e") || len(p.Text) > maxFault+100 {
				t.Errorf("%s: text %.100q of %d octets", row.name, p.Text, len(p.Text))
			}
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"city", "country", "at", "egress_mbps", "headroom"}
	for s, want := range map[string]string{
		"citty": "city", "contry": "country", "egres_mbps": "egress_mbps", "head_room": "headroom",
		"at": "at", "colour": "", "": "", strings.Repeat("headroom", 100): "",
	} {
		if got := nearest(s, words); got != want {
			t.Errorf("nearest(%.20q) = %q, want %q", s, got, want)
		}
	}
}

func TestDeadlinesAreAllTheDatesOfTheMap(t *testing.T) {
	m := mustParse(t, "testdata/good/full.yaml")
	got := map[time.Time]bool{}
	for at := range m.Deadlines() {
		got[at] = true
	}
	for _, want := range []string{"2026-01-15", "2026-02-01", "2027-02-01", "2027-12-31"} {
		if !got[day(want)] {
			t.Errorf("%s is in the map, and not among its deadlines", want)
		}
	}
}

func TestDigest(t *testing.T) {
	b, err := os.ReadFile("../regions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var digests []string
	for _, text := range [][]byte{b, b, append([]byte("# moved\n"), b...)} {
		m, err := Parse("regions.yaml", text)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, m.Digest)
	}
	if len(digests[0]) != 16 || digests[0] != digests[1] || digests[0] == digests[2] {
		t.Errorf("digests %q of a map, the same and another", digests)
	}
}
