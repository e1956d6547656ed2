package geodns

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bailiwick/region"
	"bailiwick/residency"
)

// There is a name for every mapped country and every subdivision of it, and no other: what a
// consult may declare has a name, by one table.
func TestReading22PinnedNames(t *testing.T) {
	s := listen(t)
	law := residency.Shipped()
	var labels []string
	for _, c := range append(region.Countries(), "UK", "EU", "AP", "XX") {
		labels = append(labels, string(c))
		for _, sub := range residency.Subdivisions(c) {
			labels = append(labels, string(sub))
		}
		labels = append(labels, string(c)+"-ZZZ")
	}
	names := 0
	for _, l := range labels {
		_, err := residency.ParseJurisdiction(l)
		want := dns.RcodeNameError
		if country := residency.Jurisdiction(l[:2]); err == nil && law.Maps(country) {
			want, names = dns.RcodeSuccess, names+1
		}
		m := exchange(t, s, pack(t, ask(strings.ToLower(l)+".join.media.example.", dns.TypeA)), berlin, overUDP)
		if m.Rcode != want {
			t.Fatalf("%s.join: %s, want %s", strings.ToLower(l), dns.RcodeToString[m.Rcode], dns.RcodeToString[want])
		}
	}
	if names < 2000 {
		t.Errorf("%d names: want one for each subdivision of the countries on file", names)
	}
}
