package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bailiwick/consult/router"
	"bailiwick/geodns/geo"
	"bailiwick/steer"
)

func TestPrintWhy(t *testing.T) {
	const rule = " (SGB V s.393 (statutory care) + BSI C5; as of 2026-11-23, confidence high)"
	cite := []string{"SGB V s.393(2) (DE, EU, s.35(7) SGB I states, or Art. 45 GDPR adequacy, and establishment in DE)", "StGB s.203"}
	region := func(id string, km float64, code, reason string, citation ...string) steer.RegionWord {
		return steer.RegionWord{Region: id, Km: km, Code: code, Reason: reason, Citation: citation}
	}
	tests := []struct {
		name string
		x    router.Explanation
		db   *geo.Record
		want string
	}{
		{"reasons of one rule share its citations", router.Explanation{Prefix: "192.0.2.0/27", Explanation: steer.Explanation{
			Jurisdictions: []string{"DE"}, Generation: 7,
			Choice: &steer.Choice{Region: "de-fra", Edge: "de-fra-1", Km: 424, By: "home"}, Standby: &steer.Choice{Region: "fr-par", Edge: "fr-par-1", Km: 877, By: "distance"},
			Regions: []steer.RegionWord{region("de-fra", 424, "", ""), region("fr-par", 877, "", ""),
				region("de-ber", 2, "region_down", "the operator has taken the region down"),
				region("gb-lon", 932, "fact_missing", "DE: the fact c5 is not asserted"+rule, cite...),
				region("au-syd", 16095, "not_adequate", "DE: not on the adequacy list"+rule, cite...),
				region("au-mel", 16095, "not_adequate", "DE: not on the adequacy list"+rule, cite...)}}}, nil,
			`client   DE, by 192.0.2.0/27
edge     de-fra-1 in de-fra, 424 km (home)
standby  fr-par-1 in fr-par, 877 km (distance)

REGION         KM  VERDICT
de-fra        424  permitted
fr-par        877  permitted
de-ber          2  region_down [1]
gb-lon        932  fact_missing [2]
au-syd      16095  not_adequate [3]
au-mel      16095  not_adequate [3]

[1]  the operator has taken the region down

[2]  DE: the fact c5 is not asserted
[3]  DE: not on the adequacy list
     rule: SGB V s.393 (statutory care) + BSI C5; as of 2026-11-23, confidence
     high
     § SGB V s.393(2) (DE, EU, s.35(7) SGB I states, or Art. 45 GDPR adequacy,
       and establishment in DE)
     § StGB s.203

generation 7
`},
		{"refused, nowhere on the map", router.Explanation{Explanation: steer.Explanation{
			Jurisdictions: []string{"XX"}, Generation: 1, Refused: "policy_missing", Detail: "XX: no law is on file", Citation: []string{"law.yaml"},
			Regions: []steer.RegionWord{region("de-fra", 0, "policy_missing", "XX: no law is on file", "law.yaml")}}}, nil,
			`client   XX
refused  policy_missing [1]

REGION         KM  VERDICT
de-fra          ?  policy_missing [1]

[1]  XX: no law is on file
     § law.yaml

generation 1
`},
		{"panic", router.Explanation{Explanation: steer.Explanation{
			Jurisdictions: []string{"DE"}, Panic: true, Choice: &steer.Choice{Region: "de-fra", Edge: "de-fra-1", Km: 5, By: "home"},
			Regions: []steer.RegionWord{region("de-fra", 5, "", "")}}}, nil,
			`client   DE
edge     de-fra-1 in de-fra, 5 km (home)
Health is ignored: every permitted edge looks down.

REGION         KM  VERDICT
de-fra          5  permitted

generation 0
`},
		{"an override against the database", router.Explanation{Prefix: "192.0.2.0/27", Override: "192.0.2.0/27", Explanation: steer.Explanation{
			Jurisdictions: []string{"DE"}, Choice: &steer.Choice{Region: "de-fra", Edge: "de-fra-1", Km: 5, By: "home"},
			Regions: []steer.RegionWord{region("de-fra", 5, "", "")}}},
			&geo.Record{Network: netip.MustParsePrefix("192.0.2.0/24"), Country: "US", Subdivisions: []geo.Subdivision{{Code: "TX", Name: "Texas"}}, City: "Hou\x1bston",
				Accuracy: 20, Registered: "CH", Represented: "GB", As: "military", Type: "GeoLite2-City", Built: time.Date(2026, 6, 25, 4, 0, 0, 0, time.UTC)},
			`client   DE, by 192.0.2.0/27
override 192.0.2.0/27
database 192.0.2.0/24 is in US, Texas TX, Houston, within 20 km, registered in
         CH, representing GB military (GeoLite2-City of 2026-06-25)
edge     de-fra-1 in de-fra, 5 km (home)

REGION         KM  VERDICT
de-fra          5  permitted

generation 0
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			printWhy(&b, &explained{tt.x, tt.db})
			if got := b.String(); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// TestWhyCarriesTheRecord: what a node's database says reaches the operator through the API.
func TestWhyCarriesTheRecord(t *testing.T) {
	record := &geo.Record{Network: netip.MustParsePrefix("192.0.2.0/24"), Country: "US", Registered: "CH", Type: "GeoLite2-City", Built: time.Date(2026, 6, 25, 4, 0, 0, 0, time.UTC)}
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(router.Explanation{Prefix: "192.0.2.0/27", Override: "192.0.2.0/27", Database: record,
			Explanation: steer.Explanation{Choice: &steer.Choice{Region: "de-fra", Edge: "de-fra-1", By: "home"}}})
	}))
	defer node.Close()
	why := func(args ...string) string {
		t.Helper()
		var stdout, stderr strings.Builder
		if code := run(t.Context(), append([]string{"why", "--ip", "192.0.2.1", "--api", node.URL}, args...), strings.NewReader(""), &stdout, &stderr); code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr.String())
		}
		return stdout.String()
	}
	if got := why(); !strings.Contains(got, "override 192.0.2.0/27\ndatabase 192.0.2.0/24 is in US, registered in CH (GeoLite2-City of 2026-06-25)\n") {
		t.Errorf("got\n%s", got)
	}
	var x struct {
		Override string
		Database *geo.Record
	}
	if err := json.Unmarshal([]byte(why("--json")), &x); err != nil || x.Override != "192.0.2.0/27" || !reflect.DeepEqual(x.Database, record) {
		t.Errorf("got %+v, %v; want %+v", x, err, record)
	}
}

func TestCutSource(t *testing.T) {
	tests := []struct{ name, text, sentence, source string }{
		{"nested", "DE: no (LGPD (Art. 33); high)", "DE: no", "LGPD (Art. 33); high"},
		{"none", "the region is full", "the region is full", ""},
		{"earlier parentheses stay", "DE: no (really) way (GDPR)", "DE: no (really) way", "GDPR"},
		{"not at the end", "two (2) ways", "two (2) ways", ""},
		{"unbalanced", "a) b)", "a) b)", ""},
		{"all of it", "(GDPR)", "(GDPR)", ""},
		{"empty", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if sentence, source := cutSource(tt.text); sentence != tt.sentence || source != tt.source {
				t.Errorf("got %q and %q, want %q and %q", sentence, source, tt.sentence, tt.source)
			}
		})
	}
}

func TestWrap(t *testing.T) {
	long := strings.Repeat("ä", columns)
	var b strings.Builder
	wrap(&b, "[1] ", 4, strings.Repeat("word ", 40)+long+" end")
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for i, line := range lines {
		if n := utf8.RuneCountInString(line); n > columns && !strings.Contains(line, long) {
			t.Errorf("line %d has %d columns: %q", i+1, n, line)
		}
		if i > 0 && !strings.HasPrefix(line, "    ") {
			t.Errorf("line %d hangs at the margin: %q", i+1, line)
		}
	}
	if got := strings.Count(b.String(), "word"); got != 40 {
		t.Errorf("%d words of 40", got)
	}
}
