package region

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bailiwick/residency"
)

const today = "2026-11-24"

// Each scenario is one map and, beside it, its findings: line, severity, rule.
func TestLint(t *testing.T) {
	for _, path := range fixtures(t, "testdata/lint/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m := mustParse(t, path)
			var got strings.Builder
			for _, f := range Lint(m, residency.Shipped(), day(today)) {
				fmt.Fprintf(&got, "%d: %s: %s\n", f.Line, f.Severity, f.Rule)
				if f.File != filepath.Base(path) || f.Text == "" {
					t.Errorf("finding %+v: want the file's name and a text", f)
				}
			}
			want := string(fixture(t, strings.TrimSuffix(path, ".yaml")+".txt"))
			if got.String() != want {
				t.Errorf("findings\ngot:\n%swant:\n%s", &got, want)
			}
		})
	}
}

// What an operator must be able to act on: the code, the region and the citation.
func TestLintTexts(t *testing.T) {
	for _, row := range []struct {
		name, rule string
		want       []string
	}{
		{"seed-d4-eu-on-us-cluster", "nowhere-lawful", []string{"served DE:", "us-iad in US-VA", "condition_unmet", "importer_is_DPF_certified", "SGB V s.393(2)"}},
		{"seed-d4-eu-on-us-cluster", "nowhere-lawful", []string{"served FR:", "outside_block", "CSP L.1111-8"}},
		{"baa-missing", "nowhere-lawful", []string{"served US:", "baa_missing", "45 CFR"}},
		{"home-only-abroad", "nowhere-lawful", []string{"served AE:", "home_only", "Federal Law 2/2019 Art. 13"}},
		{"stored-nowhere", "stored-nowhere", []string{"served FR:", "stored_nowhere", "hds_v2"}},
		{"records-nowhere", "records-nowhere", []string{"served DE:", "us in US-VA", "stored_nowhere"}},
		{"records-abroad", "records-abroad", []string{"served DE:", "de in DE", "go to fr", "c5_type2_or_equivalent"}},
		{"law-missing", "law-missing", []string{"served PE:", "policy_missing"}},
		{"home-only-one-region", "single-region", []string{"served AE:", "ae-dxb", "single_region_accepted"}},
		{"papers-expire", "paper-expired", []string{"provider p: hds_v2: GONE: expired on 2026-11-24"}},
	} {
		m := mustParse(t, "testdata/lint/"+row.name+".yaml")
		found := slices.ContainsFunc(Lint(m, residency.Shipped(), day(today)), func(f Finding) bool {
			return f.Rule == row.rule && !slices.ContainsFunc(row.want, func(w string) bool { return !strings.Contains(f.Text, w) })
		})
		if !found {
			t.Errorf("%s: no finding %s with %q", row.name, row.rule, row.want)
		}
	}
}

// A map made by hand has no lines and perhaps no regions; it must not panic.
func TestLintMapMadeByHand(t *testing.T) {
	m := &Map{Served: []residency.Jurisdiction{"DE"}}
	if got := Lint(m, residency.Shipped(), day(today)); len(got) != 0 {
		t.Errorf("findings %v: want none without regions", got)
	}
	m.Regions = []Region{{ID: "us-iad", Place: Place{Jurisdiction: "US-VA"}, Provider: "nobody"}}
	got := Lint(m, residency.Shipped(), day(today))
	if len(got) != 1 || got[0].Rule != "nowhere-lawful" || got[0].Line != 0 {
		t.Errorf("findings %v: want nowhere-lawful without a line", got)
	}
}

func shipped(t *testing.T) *Map { return mustParse(t, "../regions.yaml") }

func TestShippedMapLintsClean(t *testing.T) {
	for _, f := range Lint(shipped(t), residency.Shipped(), day(today)) {
		t.Errorf("%s:%d: %s: %s: %s", f.File, f.Line, f.Severity, f.Rule, f.Text)
	}
}

// The datacenters that the shipped map shows in a comment are ones that may be uncommented.
func TestShippedDatacentersLintClean(t *testing.T) {
	before, sample, found := strings.Cut(string(fixture(t, "../regions.yaml")), "\n# consul:\n")
	if !found {
		t.Fatal("no consul in a comment")
	}
	m, err := Parse("regions.yaml", []byte(before+"\nconsul:\n"+strings.ReplaceAll(sample, "# ", "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Lint(m, residency.Shipped(), day(today)) {
		t.Errorf("%s:%d: %s: %s: %s", f.File, f.Line, f.Severity, f.Rule, f.Text)
	}
	m.Consul = m.Consul[:1] // so that the clean bill is one
	if len(Lint(m, residency.Shipped(), day(today))) == 0 {
		t.Error("one datacenter for all: want findings")
	}
}

func TestShippedMapWarnsBeforeItsPapersExpire(t *testing.T) {
	m := shipped(t)
	for _, row := range []struct {
		now  string
		rule string
		s    Severity
	}{{"2027-12-05", "paper-expiring", Warning}, {"2027-12-31", "paper-expired", Error}, {"2027-12-31", "nowhere-lawful", Error}} {
		n := 0
		for _, f := range Lint(m, residency.Shipped(), day(row.now)) {
			if f.Rule == row.rule && f.Severity == row.s && f.Line > 0 {
				n++
			}
		}
		if n == 0 {
			t.Errorf("%s: no %s %s with a line", row.now, row.s, row.rule)
		}
	}
}

// Where patients of the shipped map may be served, as an operator would expect.
func TestShippedMapPlaces(t *testing.T) {
	m := shipped(t)
	l := &linter{m: m, law: residency.Shipped().With(m.Flags), now: day(today)}
	for _, row := range []struct {
		of   residency.Jurisdiction
		want string // nearest first
	}{
		{"DE", "de-ber de-fra fr-par"},
		{"FR", "fr-par de-fra de-ber"},
		{"PL", "de-ber de-fra fr-par"},
		{"NO", "de-ber de-fra fr-par"},
		{"GB", "gb-lon fr-par de-fra de-ber"},
		{"US", "us-iad ca-yul us-pdx"},
		{"CA-QC", "ca-yul"},
		{"AU", "au-syd au-mel"},
		{"BR", "br-gru fr-par de-fra de-ber"},
		{"AE", ""},
	} {
		var got []string
		for _, g := range l.reach(row.of, m.Tenants["default"], false).places {
			got = append(got, string(g.ID))
		}
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s: %s, want %s", row.of, strings.Join(got, " "), row.want)
		}
	}
	if m.Refused["AE"] == "" {
		t.Error("AE is not under refused")
	}
}

// Demonstration papers must never be taken for the reader's own.
func TestShippedMapMarksEveryFact(t *testing.T) {
	lines := strings.Split(string(fixture(t, "../regions.yaml")), "\n")
	if want := "# yaml-language-server: $schema=region/regions.schema.json"; lines[0] != want {
		t.Errorf("line 1 is %q, want %q", lines[0], want)
	}
	marked := 0
	for path, line := range shipped(t).lines {
		fact := strings.Contains(path, "/facts/") || strings.HasSuffix(path, "/baa")
		if !fact {
			continue
		}
		marked++
		// The mark stands on the key's line; an agreement's line is its value's.
		if !strings.Contains(lines[line-1]+lines[line-2], "ASSERT FROM YOUR OWN PAPERS") {
			t.Errorf("line %d: %s: no comment that the operator must assert it", line, path)
		}
	}
	if marked < 10 {
		t.Errorf("%d facts found: want all of them", marked)
	}
}
