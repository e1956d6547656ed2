package steer

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"bailiwick/region"
	"bailiwick/residency"
)

func TestRecordsIn(t *testing.T) {
	w := demo(1)
	if got := RecordsIn(w, &Client{Participants: []residency.Jurisdiction{"DE"}}); len(got) != 1 || got[0] != "" {
		t.Errorf("without datacenters: got %q, want the one without a name", got)
	}
	for _, d := range []struct {
		name string
		at   residency.Jurisdiction
	}{{"us", "US-VA"}, {"qc", "CA-QC"}, {"eu", "DE"}, {"fr", "FR"}, {"au", "AU"}} {
		w.Map.Consul = append(w.Map.Consul, region.Datacenter{Name: d.name, Jurisdiction: d.at, Provider: "p"})
	}
	w.Map.Providers["p"].BAA = &region.BAA{Record: residency.Record{ID: "test", Date: now.AddDate(-1, 0, 0)}}
	for _, row := range []struct {
		name         string
		participants []residency.Jurisdiction
		patient      int
		want         string
	}{
		{"at home, then in the order of the map", []residency.Jurisdiction{"FR"}, 0, "[fr eu]"},
		{"home's first, whoever was named first", []residency.Jurisdiction{"DE", "FR"}, 1, "[fr eu]"},
		{"where everybody's may lie", []residency.Jurisdiction{"DE", "US"}, 0, "[eu qc fr]"},
		{"nobody", nil, 0, "[]"},
		{"no law on file", []residency.Jurisdiction{"PE"}, 0, "[]"},
		{"nowhere together", []residency.Jurisdiction{"DE", "AE"}, 0, "[]"},
	} {
		if got := fmt.Sprint(RecordsIn(w, &Client{Participants: row.participants, Patient: row.patient})); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}

	// Whatever is answered, the law permits for everybody; and whatever it permits is answered.
	rnd := rand.New(rand.NewPCG(1, 2))
	all := []residency.Jurisdiction{"DE", "FR", "CH", "GB", "US", "US-TX", "CA-QC", "CA-ON", "AU", "NZ", "BR", "JP", "AE", "PE"}
	for range 2000 {
		c := &Client{E2EE: rnd.IntN(2) == 0}
		for range 1 + rnd.IntN(3) {
			c.Participants = append(c.Participants, all[rnd.IntN(len(all))])
		}
		c.Patient = rnd.IntN(len(c.Participants))
		got := map[string]bool{}
		for _, name := range RecordsIn(w, c) {
			got[name] = true
		}
		for _, d := range w.Map.Consul {
			hop := residency.Hop{At: d.Jurisdiction, Provider: residency.Facts{"baa": w.Map.Providers["p"].BAA.Record}}
			for f, r := range w.Map.Providers["p"].Facts {
				hop.Provider[f] = r
			}
			s := subject(w, c)
			if want := w.Law.Permits(residency.Stored, &hop, &s, w.At).Permitted(); got[d.Name] != want {
				t.Fatalf("%v in %s: got %t, want %t", c.Participants, d.Name, got[d.Name], want)
			}
		}
	}
}
