package region

import (
	"fmt"
	"testing"

	"bailiwick/residency"
)

func TestDatacenterOfARegion(t *testing.T) {
	m := &Map{Regions: []Region{{ID: "de-fra", Place: Place{Jurisdiction: "DE"}}, {ID: "ca-yul", Place: Place{Jurisdiction: "CA-QC"}},
		{ID: "us-pdx", Place: Place{Jurisdiction: "US-OR"}}, {ID: "br-gru", Place: Place{Jurisdiction: "BR"}}}}
	if got := m.Datacenter("de-fra"); got != "" {
		t.Errorf("without datacenters: got %q, want none", got)
	}
	m.Consul = []Datacenter{{Name: "us", Jurisdiction: "US-VA"}, {Name: "on", Jurisdiction: "CA-ON"},
		{Name: "eu", Jurisdiction: "DE"}, {Name: "qc", Jurisdiction: "CA-QC"}, {Name: "eu-2", Jurisdiction: "DE"}}
	for _, row := range []struct {
		name string
		id   ID
		want string
	}{
		{"of its country, the first", "de-fra", "eu"},
		{"of its subdivision, not just its country", "ca-yul", "qc"},
		{"of another subdivision of its country", "us-pdx", "us"},
		{"of a country without one", "br-gru", "us"},
		{"not in the map", "xx-abc", "us"},
	} {
		if got := m.Datacenter(row.id); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
}

// A datacenter is in no region: an agreement on some regions is not on it.
func TestRecordsNeedAnAgreementOnEverything(t *testing.T) {
	m := mustParse(t, "testdata/good/full.yaml")
	m.Operator.Facts["risk_analysis_covers_location"] = paper("RA", "2026-01-15", "")
	s := &residency.Subject{Participants: []residency.Jurisdiction{"US"}, Operator: m.Operator.Facts, Tenant: m.Tenants["default"]}
	records := func() string {
		return fmt.Sprint(m.RecordsIn(residency.Shipped(), s, "US", day(today)))
	}
	if got := records(); got != "[eu]" { // nord's covers everything, rhein's two regions
		t.Errorf("with an agreement on two regions: got %s, want [eu]", got)
	}
	m.Providers["rhein"].BAA.Regions = nil
	if got := records(); got != "[us-1 eu]" {
		t.Errorf("with an agreement on everything: got %s, want [us-1 eu]", got)
	}
	m.Consul = nil
	if got := records(); got != "[]" || len(m.RecordsIn(residency.Shipped(), s, "US", day(today))) != 1 {
		t.Errorf("without datacenters: got %s, want the one without a name", got)
	}
}
