package region

import (
	"math"
	"slices"
	"testing"

	"bailiwick/residency"
)

func TestKm(t *testing.T) {
	sydney, ashburn := Point{-33.8688, 151.2093}, Point{39.0438, -77.4874}
	for _, row := range []struct {
		name string
		a, b Point
		km   float64
		off  float64 // share
	}{
		{"seed C2: Sydney to Virginia", sydney, ashburn, 15674, 0.005},
		{"seed C3: Berlin to Frankfurt", Point{52.5200, 13.4050}, Point{50.1109, 8.6821}, 424, 0.005},
		{"nowhere to go", sydney, sydney, 0, 0},
		{"antipodes: half the meridian circle", Point{90, 0}, Point{-90, 0}, math.Pi * earthKm, 1e-9},
		{"across the date line", Point{0, 179.5}, Point{0, -179.5}, math.Pi * earthKm / 180, 1e-9},
	} {
		for _, got := range []float64{row.a.Km(row.b), row.b.Km(row.a)} {
			if math.Abs(got-row.km) > row.km*row.off {
				t.Errorf("%s: got %.1f km, want %.1f within %.1f %%", row.name, got, row.km, row.off*100)
			}
		}
	}
}

func TestLocate(t *testing.T) {
	for _, row := range []struct {
		name string
		of   residency.Jurisdiction
		near Point
		km   float64
	}{
		{"country", "DE", Point{52.52, 13.405}, 10},
		{"country whose first zone is an island", "BR", Point{-23.55, -46.63}, 10},
		{"the same", "AU", Point{-33.87, 151.21}, 10},
		{"country whose first zone is its east end", "CA", Point{43.7, -79.4}, 10},
		{"country whose first zone is an exclave", "RU", Point{55.75, 37.62}, 10},
		{"territory", "PR", Point{18.47, -66.1}, 10},
		{"territory of France", "RE", Point{-20.9, 55.5}, 10},
		{"state", "US-CA", Point{34.05, -118.24}, 10},
		{"province", "CA-QC", Point{45.5, -73.57}, 10},
		{"Australian state", "AU-WA", Point{-31.95, 115.86}, 10},
		{"subdivision without a row: its country", "DE-BY", Point{52.52, 13.405}, 10},
		{"reserved code that the law takes for GB", "UK", Point{51.51, -0.13}, 10},
	} {
		got, ok := Locate(row.of)
		if !ok || got.Km(row.near) > row.km {
			t.Errorf("%s: Locate(%s) = %v, %t: want within %v km of %v", row.name, row.of, got, ok, row.km, row.near)
		}
	}
	for _, j := range []residency.Jurisdiction{"", "ZZ", "EU", "AP", "BV"} {
		if got, ok := Locate(j); ok {
			t.Errorf("Locate(%q) = %v: want nothing known", j, got)
		}
	}
}

func TestCountries(t *testing.T) {
	all := Countries()
	if len(all) != 249 || !slices.IsSorted(all) {
		t.Errorf("%d countries, ordered %t: want the 249 of ISO 3166-1, ordered", len(all), slices.IsSorted(all))
	}
	for _, j := range []residency.Jurisdiction{"DE", "NO", "GB", "AX", "XK", "UK", "EU"} {
		want := j != "XK" && j != "UK" && j != "EU" // user-assigned and reserved
		if got := slices.Contains(all, j); got != want {
			t.Errorf("%s: listed %t, want %t", j, got, want)
		}
	}
}

// A row of the hand-kept table that lies far from its country is a slip.
func TestSubdivisionPlaces(t *testing.T) {
	count := map[residency.Jurisdiction]int{}
	for j, p := range subdivisionPlaces {
		count[j.Country()]++
		country := j.Country()
		if own := j[3:]; country == "US" && len(countryPlaces[own]) > 0 && slices.Contains([]residency.Jurisdiction{"AS", "GU", "MP", "PR", "UM", "VI"}, own) {
			country = own // a territory, a country of its own in ISO 3166-1
		}
		if km := kmOff(country, p); km > 1300 {
			t.Errorf("%s at %v is %.0f km from any time zone of %s", j, p, km, country)
		}
	}
	for country, want := range map[residency.Jurisdiction]int{"US": 57, "CA": 13, "AU": 8} {
		if count[country] != want {
			t.Errorf("%s: %d subdivisions, want %d", country, count[country], want)
		}
	}
}

// The law speaks of places that exist, so each can be written in a map.
func TestEveryJurisdictionOfTheLawIsACode(t *testing.T) {
	for _, j := range residency.Shipped().Jurisdictions() {
		if why := unknown(j); why != "" && j != "UK" {
			t.Errorf("%s", why)
		}
	}
}
