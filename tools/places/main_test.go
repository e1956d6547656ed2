package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCoordinates(t *testing.T) {
	for _, row := range []struct {
		name, in string
		lat, lon float64
		bad      bool
	}{
		{"minutes", "+4230+00131", 42.5, 1.5167, false},
		{"seconds", "+404251-0740023", 40.7142, -74.0064, false},
		{"south and west", "-2332-04637", -23.5333, -46.6167, false},
		{"one number", "+4230", 0, 0, true},
		{"short", "+423+00131", 0, 0, true},
		{"letters", "+42x0+00131", 0, 0, true},
		{"empty", "", 0, 0, true},
	} {
		lat, lon, err := coordinates(row.in)
		if lat != row.lat && !row.bad || lon != row.lon && !row.bad || (err != nil) != row.bad {
			t.Errorf("%s: coordinates(%q) = %v, %v, %v: want %v, %v, error %t", row.name, row.in, lat, lon, err, row.lat, row.lon, row.bad)
		}
	}
}

func zoneinfo(t *testing.T, zones string) string {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"tzdata.zi":   "# version 2026z\n",
		"iso3166.tab": "#code\tname\nBR\tBrazil\nBV\tBouvet Island\n",
		"zone.tab":    zones,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const others = "AU\t-3352+15113\tAustralia/Sydney\nCA\t+4339-07923\tAmerica/Toronto\nRU\t+554521+0373704\tEurope/Moscow\n" +
	"UA\t+5026+03031\tEurope/Kyiv\nUZ\t+4120+06918\tAsia/Tashkent\n"

func TestSource(t *testing.T) {
	src, err := source(zoneinfo(t, "BR\t-0351-03225\tAmerica/Noronha\tislands\nBR\t-2332-04637\tAmerica/Sao_Paulo\n"+others))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"DO NOT EDIT", "tz database 2026z",
		"// Brazil: America/Sao_Paulo\n\t\"BR\": {{-23.5333, -46.6167}, {-3.85, -32.4167}},\n", // the principal place first
		"// Bouvet Island\n\t\"BV\": {},\n",                                                    // uninhabited
	} {
		if !strings.Contains(string(src), want) {
			t.Errorf("no %q in\n%s", want, src)
		}
	}
}

// A tz release that renames a principal zone must stop the generator.
func TestSourceMissesAPrincipalZone(t *testing.T) {
	_, err := source(zoneinfo(t, "BR\t-0351-03225\tAmerica/Noronha\n"+others))
	if err == nil || !strings.Contains(err.Error(), "BR has no zone America/Sao_Paulo") {
		t.Errorf("error %v: want the missing zone", err)
	}
}
