package residency

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite testdata/verdicts.golden")

var goldenPlaces = []Jurisdiction{"DE", "FR", "GB", "US-OR", "US-VA", "CA-QC", "AU", "BR", "CH", "AE"}

const goldenHead = `# Who may be processed where: the shipped catalogue, entry by entry, for a made-up
# operator. One line is: participant, plane, place, verdict, and the fact that it
# lacks or the row that refused where that is not the participant's own.
#
# The demo operator, tenant and consult:
#   all facts of the operator and the tenant are on file and in force;
#   every provider has a BAA; C5 and HDS only the providers in DE, FR and CH;
#   the provider in US-OR is certified for the EU, UK and Swiss frameworks, the one in US-VA is not;
#   the provider in CA-QC is a commercial organisation under PIPEDA;
#   no transfer instrument, no overlay, no record that lifts a default, no E2EE;
#   the flag dpf_valid is on.
#
# Rewrite with: go test ./residency -run Golden -update, and have the difference read by counsel.
`

// goldenHop is a place of the demo operator, with its provider's facts.
func goldenHop(at Jurisdiction) Hop {
	h := Hop{At: at, Provider: Facts{"baa": paper}}
	switch at {
	case "DE", "FR", "CH":
		h.Provider["c5_type2_or_equivalent"], h.Provider["hds_v2"] = paper, paper
	case "US-OR":
		h.Provider["importer_is_DPF_certified"], h.Provider["DPF_with_UK_extension"], h.Provider["Swiss_US_DPF_certified"] = paper, paper, paper
	case "CA-QC":
		h.Provider["commercial_orgs_under_PIPEDA_only"] = paper
	}
	return h
}

// entries are the names under jurisdictions, in the order of the file.
func entries(t *testing.T) []string {
	t.Helper()
	var f struct{ Jurisdictions yaml.Node }
	if err := yaml.Unmarshal(shipped, &f); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := 0; i < len(f.Jurisdictions.Content); i += 2 {
		names = append(names, f.Jurisdictions.Content[i].Value)
	}
	return names
}

func TestGoldenVerdicts(t *testing.T) {
	law := Shipped().With(map[string]bool{"dpf_valid": true})
	var b bytes.Buffer
	b.WriteString(goldenHead)
	for _, name := range entries(t) {
		s := Subject{Participants: []Jurisdiction{Jurisdiction(name)}, Operator: asserted("operator"),
			Tenant: &Tenant{ID: "demo", Facts: asserted("tenant")}}
		switch name {
		case "EU":
			s.Participants[0] = "AT" // a country that has the EU's default
		case "US-MEDICAID":
			s.Participants[0], s.Tenant.Overlays = "US", []string{"us_medicaid"}
		}
		b.WriteString("\n")
		for plane := Media; plane <= Stored; plane++ {
			for _, at := range goldenPlaces {
				h := goldenHop(at)
				fmt.Fprintln(&b, goldenLine(name, plane, at, law.Permits(plane, &h, &s, now)))
			}
		}
	}
	const path = "testdata/verdicts.golden"
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, strings.Split(b.String(), "\n"), strings.Split(string(want), "\n"))
}

func goldenLine(name string, p Plane, at Jurisdiction, v Verdict) string {
	word := string(v.Code)
	if v.Permitted() {
		word = "permitted"
	}
	line := fmt.Sprintf("%s %s %s %s", name, p, at, word)
	if v.Fact != "" {
		line += " " + string(v.Fact)
	}
	if v.Row != nil && v.Row.Name != name {
		line += " (by " + v.Row.Name + ")"
	}
	return line
}

func diff(t *testing.T, got, want []string) {
	t.Helper()
	shown := 0
	for i := range max(len(got), len(want)) {
		g, w := "end of file", "end of file"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("line %d:\n got %s\nwant %s", i+1, g, w)
			if shown++; shown == 20 {
				t.Fatal("and more; see -update")
			}
		}
	}
}

func TestShippedCatalogue(t *testing.T) {
	l, err := Parse(shipped)
	if err != nil {
		t.Fatal(err)
	}
	names := entries(t)
	if len(names) != 48 || len(l.rows) != 48 {
		t.Errorf("%d entries in the file, %d parsed, want 48", len(names), len(l.rows))
	}
	if l.AsOf() != "2026-11-23" {
		t.Errorf("as of %q, want 2026-11-23", l.AsOf())
	}
	for name, r := range l.rows {
		if len(r.Basis) == 0 || slices.Contains(r.Basis, "") || r.Regime == "" || r.AsOf != l.AsOf() {
			t.Errorf("%s: basis %q, regime %q, as of %q: every row cites", name, r.Basis, r.Regime, r.AsOf)
		}
		for plane := Media; plane <= Stored; plane++ {
			if r.planes[plane] == nil {
				t.Errorf("%s: %s has no rule", name, plane)
			}
		}
	}
	if got, want := l.Overlays(), []string{"de_statutory", "nhs_england", "ontario_hospital", "us_medicaid"}; !slices.Equal(got, want) {
		t.Errorf("overlays %q, want %q", got, want)
	}
	for name, o := range l.overlays {
		if o.Name != name || !o.Overlay || len(o.Basis) == 0 || o.applies == "" {
			t.Errorf("overlay %s: %+v: want a name, a basis and what it applies to", name, o)
		}
	}
	if !l.eea["NO"] || len(l.eea) != 30 {
		t.Errorf("EEA has %d countries, Norway %t: want 30 with Norway", len(l.eea), l.eea["NO"])
	}
	for f, r := range l.Facts() {
		if r.Scope == "" {
			t.Errorf("fact %s has no scope", f)
		}
	}
	if got := slices.Collect(maps.Keys(l.flags)); !slices.Equal(got, []string{"dpf_valid"}) || l.flags["dpf_valid"] {
		t.Errorf("flags %v, want dpf_valid alone, off", l.flags)
	}
}

func TestHomeOnly(t *testing.T) {
	for _, tt := range []struct {
		j     Jurisdiction
		plane Plane
		want  bool
	}{
		{"AE", Media, true}, {"KR", Media, true}, {"KR", Relay, true}, {"KR", Stored, true}, {"KZ", Media, false},
		{"KZ", Stored, true}, {"DE", Media, false}, {"BY", Media, false}, {"AT", Stored, false},
	} {
		if got := Shipped().HomeOnly(tt.j, tt.plane); got != tt.want {
			t.Errorf("HomeOnly(%s, %s) = %t, want %t", tt.j, tt.plane, got, tt.want)
		}
	}
}
