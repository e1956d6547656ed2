package steer

import (
	"slices"
	"strings"
	"testing"

	"bailiwick/region"
	"bailiwick/residency"
)

// The rules of residency/READING.md that a ranking keeps: see also the tests there.

// consulting is a consult that is not there yet, whose first participant is its patient.
func consulting(js ...residency.Jurisdiction) *Client {
	c := client(js...)
	c.Patients = []int{0}
	return c
}

func hint(js ...residency.Jurisdiction) *Client {
	c := client(js...)
	c.Hint = true
	return c
}

func TestReading17DNSIsAHint(t *testing.T) {
	for _, row := range []struct {
		name string
		who  *Client
		want string
	}{
		{"a consult names the province", consulting("CA", "CA-QC"), "[subdivision_needed]"},
		{"whoever it is of", consulting("CA-QC", "US"), "[subdivision_needed]"},
		{"a running one too", client("US"), "[subdivision_needed]"},
		{"named", consulting("CA-QC"), "ca-yul"},
		{"a territory needs none", consulting("PR"), "us-iad"},
		{"a country without such rows needs none", consulting("AU"), "au-syd"},
		{"DNS knows a country at best", hint("CA"), "ca-yul"},
		{"rule 8 before rule 17", consulting("ZZ", "US"), "[policy_missing]"},
		{"in request order", consulting("US", "ZZ"), "[subdivision_needed]"},
	} {
		if got := best(rank(demo(1), row.who)); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
	if x := Explain(rank(demo(1), hint("CA"))); !strings.Contains(x.Hint, "CA is judged by the country's row") {
		t.Errorf("hint %q", x.Hint)
	}
	if x := Explain(rank(demo(1), hint("DE"))); x.Hint != "" {
		t.Errorf("hint %q for Germany", x.Hint)
	}
	w := demo(1)
	if v := Permits(w, &w.Regions[0], client("CA")); v.Code != residency.SubdivisionNeeded {
		t.Errorf("at a join: got %q", v.Code)
	}
}

func TestReading19RefusedAndServed(t *testing.T) {
	with := func(refused, served string) *World {
		w := demo(1)
		w.Map.Refused = map[residency.Jurisdiction]string{}
		for _, j := range strings.Fields(refused) {
			w.Map.Refused[residency.Jurisdiction(j)] = "not before spring"
		}
		for _, j := range strings.Fields(served) {
			w.Map.Served = append(w.Map.Served, residency.Jurisdiction(j))
		}
		return w
	}
	for _, row := range []struct {
		name            string
		refused, served string
		who             *Client
		want            string
	}{
		{"neither is there", "", "", consulting("DE"), "de-ber"},
		{"a patient of a refused country", "DE", "", consulting("DE"), "[refused_by_operator]"},
		{"a clinician of it", "DE", "", consulting("FR", "DE"), "fr-par"},
		{"a running consult", "DE", "", client("DE"), "de-ber"},
		{"DNS", "DE", "", hint("DE"), "[refused_by_operator]"},
		{"its subdivisions", "US", "", consulting("US-NY"), "[refused_by_operator]"},
		{"those with a row of their own", "US", "", consulting("US-TX"), "[refused_by_operator]"},
		{"its territories", "US", "", consulting("PR"), "[refused_by_operator]"},
		{"UK is GB", "GB", "", consulting("UK"), "[refused_by_operator]"},
		{"a subdivision alone", "US-TX", "", consulting("US-NY"), "us-iad"},
		{"a territory alone", "PR", "", consulting("US-NY"), "us-iad"},
		{"served", "", "DE FR", consulting("DE"), "de-ber"},
		{"a patient who is not", "", "FR", consulting("DE"), "[not_served]"},
		{"a clinician who is not", "", "FR", consulting("FR", "DE"), "fr-par"},
		{"not DNS", "", "FR", hint("DE"), "de-ber"},
		{"not a running consult", "", "FR", client("DE"), "de-ber"},
		{"a served country reaches subdivisions without a row", "", "US", consulting("US-NY"), "us-iad"},
		{"not those with one", "", "US", consulting("US-TX"), "[not_served]"},
		{"and territories", "", "US", consulting("PR"), "us-iad"},
		{"and UK", "", "GB", consulting("UK"), "gb-lon"},
		{"refused before served", "DE", "FR", consulting("DE"), "[refused_by_operator]"},
		{"the law's own codes before", "AE", "", consulting("ZZ"), "[policy_missing]"},
		{"before planes", "AE", "", consulting("AE"), "[refused_by_operator]"},
		{"in request order, a clinician without law first", "DE", "", &Client{Participants: []residency.Jurisdiction{"ZZ", "DE"}, Patient: 1, Patients: []int{1}}, "[policy_missing]"},
		{"the first participant's law before the second's gate", "DE", "", &Client{Participants: []residency.Jurisdiction{"AE", "DE"}, Patient: 1, Patients: []int{1}}, "[home_only]"},
		{"before modes", "DE", "", consulting("DE"), "[refused_by_operator]"},
	} {
		if got := best(rank(with(row.refused, row.served), row.who)); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
	d := rank(with("DE", ""), consulting("DE"))
	if detail, _ := Refusal(d); !strings.Contains(detail, "not before spring") {
		t.Errorf("detail %q: want the map's reason", detail)
	}
	for _, r := range d.Rejections {
		if r.Verdict.Permitted() {
			t.Errorf("%s is not rejected", d.World.Regions[r.Region].ID)
		}
	}
}

func TestReading20Neighbours(t *testing.T) {
	world := func() *World { // home of a patient in Berlin names Paris before Frankfurt, and one that is not lawful
		w := demo(1)
		w.Map.Region("de-ber").Neighbours = []region.ID{"us-iad", "fr-par", "de-fra"}
		w.Map.Region("fr-par").Neighbours = []region.ID{"de-ber"}
		return w
	}
	inLondon := client("FR")
	inLondon.Places[0].Point = region.Point{Lat: 51.5, Lon: -0.1}
	for _, row := range []struct {
		name     string
		world    *World
		who      *Client
		want, by string
		standby  string
	}{
		{"home", world(), client("DE"), "de-ber", "home", "fr-par"},
		{"home is down: the first lawful neighbour, not the nearest", set(world(), "de-ber", down), client("DE"), "fr-par", "neighbour", "de-fra"},
		{"home drains", set(world(), "de-ber", drain), client("DE"), "fr-par", "neighbour", "de-fra"},
		{"home looks down", set(world(), "de-ber", sick), client("DE"), "fr-par", "neighbour", "de-fra"},
		{"home is full", set(world(), "de-ber", full), client("DE"), "fr-par", "neighbour", "de-fra"},
		{"the neighbour is out too", set(set(world(), "de-ber", down), "fr-par", down), client("DE"), "de-fra", "neighbour", ""},
		{"no neighbour: by distance", set(demo(1), "de-ber", down), client("DE"), "de-fra", "distance", "fr-par"},
		{"the neighbours are home's, not the next region's", set(world(), "fr-par", down), client("FR"), "de-ber", "neighbour", "de-fra"},
		{"a nearer region that is not lawful is no home", world(), inLondon, "fr-par", "home", "de-ber"},
		{"DNS by it too", set(world(), "de-ber", down), hint("DE"), "fr-par", "neighbour", "de-fra"},
	} {
		d := rank(row.world, row.who)
		x := Explain(d)
		got, by, standby := best(d), "", ""
		if x.Choice != nil {
			by = x.Choice.By
		}
		if x.Standby != nil {
			standby = x.Standby.Region
		}
		if got != row.want || by != row.by || standby != row.standby {
			t.Errorf("%s: got %s by %s, standby %s; want %s by %s, standby %s", row.name, got, by, standby, row.want, row.by, row.standby)
		}
	}
}

// Whether a key decides is what DNS remembers answers by.
func TestTied(t *testing.T) {
	here := func(ids ...string) *World {
		var all []region.Region
		for _, id := range ids {
			all = append(all, at(id, "DE", 50, 8, 1))
		}
		return newWorld(append(all, at("fr-par", "FR", 48.86, 2.35, 1))...)
	}
	for _, row := range []struct {
		name  string
		world *World
		want  bool
	}{
		{"one nearest region of one edge", demo(1), false},
		{"of two edges", demo(2), true},
		{"two regions in one place", here("de-a", "de-b"), true},
		{"of which one is down", set(here("de-a", "de-b"), "de-a", down), true}, // home may be the one or the other
		{"the only candidate", set(here("de-a"), "fr-par", down), false},
	} {
		d := rank(row.world, client("DE"))
		tied := d.Tied()
		if tied != row.want {
			t.Errorf("%s: tied %t, want %t", row.name, tied, row.want)
		}
		for key := range uint64(64) {
			c := client("DE")
			c.Key = key
			a, b := rank(row.world, c), d
			if _, e := a.Best(); !tied && e.ID != func() region.EdgeID { _, e := b.Best(); return e.ID }() {
				t.Errorf("%s: key %d leads elsewhere", row.name, key)
			}
		}
	}
}

func TestFinePointWhoIsNamed(t *testing.T) {
	noHDS := func(w *World) *World { // no provider may store for France
		for i := range w.Regions {
			f := residency.Facts{}
			for name, r := range w.Regions[i].Hop.Provider {
				if name != "hds_v2" {
					f[name] = r
				}
			}
			w.Regions[i].Hop.Provider = f
		}
		return w
	}
	for _, row := range []struct {
		name  string
		world *World
		who   *Client
		code  residency.Code
		named string // the participants cited, in order
		plane string
	}{
		{"stored_nowhere names who alone has none", noHDS(demo(1)), client("DE", "FR"), residency.StoredNowhere, "FR", ""},
		{"alone", noHDS(demo(1)), client("FR"), residency.StoredNowhere, "FR", ""},
		{"no common place names the plane", demo(1), client("FR", "IN", "CA-NS"), residency.NoCommonPlace, "FR CA-NS", "media"},
		{"by whoever refuses somewhere", demo(1), client("GB", "BR", "CA-NS"), residency.NoCommonPlace, "", "media"},
		{"who alone has no place goes before what they have in common", demo(1), client("AU", "DE", "AE"), residency.HomeOnly, "AE", ""},
		{"storage of the first before media of the second", noHDS(demo(1)), client("FR", "AE"), residency.StoredNowhere, "FR", ""},
		{"home's code where lawful regions are out for different reasons", set(set(set(demo(1), "de-ber", drain), "de-fra", down), "fr-par", empty), client("DE"), residency.RegionDraining, "", ""},
		{"the nearest region's code, whatever its mode", set(demo(1), "au-syd", down), client("AE"), residency.HomeOnly, "AE", ""},
	} {
		d := rank(row.world, row.who)
		var named []string
		for _, v := range d.Refused {
			if v.Participant != "" {
				named = append(named, string(v.Participant))
			}
		}
		if got := strings.Join(named, " "); d.Code() != row.code || row.named != "" && got != row.named || d.Plane != row.plane {
			t.Errorf("%s: got %s of %q on %q; want %s of %q on %q", row.name, d.Code(), got, d.Plane, row.code, row.named, row.plane)
		}
		if row.plane != "" {
			detail, citation := Refusal(d)
			if !strings.Contains(detail, "plane "+row.plane) || len(citation) == 0 {
				t.Errorf("%s: %q, %q", row.name, detail, citation)
			}
		}
	}
}

// Each alone may store somewhere, and no region may store for both; or each plane has a
// place for both, and no region both planes.
func TestFinePointNoCommonPlaceNamesThePlane(t *testing.T) {
	w := newWorld(at("au-syd", "AU", -33.87, 151.21, 1), at("nz-akl", "NZ", -36.85, 174.76, 1))
	c := client("AU", "NZ")
	c.Tags = []string{"my_health_record_data"} // Australia's record stays there, New Zealand's is adequate at home alone
	d := rank(w, c)
	if d.Code() != residency.NoCommonPlace || d.Plane != "stored" || len(d.Refused) != 2 {
		t.Errorf("got %s on %q by %d, want no_common_place on stored by both", d.Code(), d.Plane, len(d.Refused))
	}
	if v := Permits(w, &w.Regions[0], c); v.Code != residency.NoCommonPlace || !strings.Contains(Word(v), "plane stored") {
		t.Errorf("at a join: %s: %s", v.Code, Word(v))
	}
}

func TestUnknownTenantHasNoPlace(t *testing.T) {
	w := demo(1)
	c := client("DE")
	c.Tenant = w.Map.Tenant("clinc")
	if d := rank(w, c); d.Code() != residency.PolicyMissing || !strings.Contains(Explain(d).Detail, "tenant clinc") {
		t.Errorf("got %s: %s", d.Code(), Explain(d).Detail)
	}
	c.Tenant = w.Map.Tenant("")
	if d := rank(w, c); best(d) != "de-ber" {
		t.Errorf("no tenant: got %s, want the default's", best(d))
	}
	if names := RecordsIn(w, &Client{Participants: []residency.Jurisdiction{"DE"}, Tenant: w.Map.Tenant("clinc")}); !slices.Equal(names, []string{""}) {
		t.Errorf("records in %q", names) // a map without datacenters says nothing of where its store is
	}
}
