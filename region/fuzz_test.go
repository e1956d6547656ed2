package region

import (
	"errors"
	"slices"
	"testing"

	"bailiwick/residency"
)

// A map that parses keeps its promises, whatever the text; one that does not has
// ordered faults; and whatever Parse reads, the schema accepts.
func FuzzParse(f *testing.F) {
	schema, err := compiled()
	if err != nil {
		f.Fatal(err)
	}
	for _, dir := range []string{"good", "bad", "lint"} {
		for _, path := range fixtures(f, "testdata/"+dir+"/*.yaml") {
			f.Add(fixture(f, path))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse("map.yaml", data)
		if err != nil {
			var faults Errors
			if m != nil || !errors.As(err, &faults) || len(faults) == 0 || len(faults) > maxProblems+1 {
				t.Fatalf("map %v beside error %T of %d faults", m, err, len(faults))
			}
			if !slices.IsSortedFunc(faults, func(a, b Problem) int { return a.Line - b.Line }) {
				t.Errorf("faults out of order:\n%v", err)
			}
			return
		}
		wellFormed(t, m)
		Lint(m, residency.Shipped(), day(today))
		if err := schema.Validate(document(t, data)); err != nil {
			t.Errorf("the schema refuses what Parse reads: %v", err)
		}
	})
}

func wellFormed(t *testing.T, m *Map) {
	t.Helper()
	if m.Zone == "" || len(m.Regions) == 0 || m.Tenants["default"] == nil {
		t.Errorf("zone %q, %d regions: none may be empty", m.Zone, len(m.Regions))
	}
	for i := range m.Regions {
		g := &m.Regions[i]
		if m.Region(g.ID) != g || !isLabel(string(g.ID)) || m.Providers[g.Provider] == nil {
			t.Errorf("region %q of provider %q is not what its ID and provider say", g.ID, g.Provider)
		}
		c, p := g.Capacity, g.Place.Point
		if c.EgressMbps < 1 || c.Admission < 1 || !(c.Headroom >= 0 && c.Headroom < 1) {
			t.Errorf("region %s: capacity %+v", g.ID, c)
		}
		if !(p.Lat >= -90 && p.Lat <= 90 && p.Lon >= -180 && p.Lon <= 180) || unknown(g.Place.Jurisdiction) != "" {
			t.Errorf("region %s: place %+v", g.ID, g.Place)
		}
		for _, n := range g.Neighbours {
			if n == g.ID || m.Region(n) == nil {
				t.Errorf("region %s: neighbour %q", g.ID, n)
			}
		}
		for _, e := range g.Edges {
			if len(e.Addrs) > 2 || len(e.Addrs) == 2 && e.Addrs[0].Is4() == e.Addrs[1].Is4() {
				t.Errorf("edge %s: addresses %v", e.ID, e.Addrs)
			}
		}
	}
	law := residency.Shipped().Facts()
	for f := range m.Operator.Facts {
		if law[f].Scope != "operator" {
			t.Errorf("operator asserts %q of scope %q", f, law[f].Scope)
		}
	}
}
