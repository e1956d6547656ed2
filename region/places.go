package region

import (
	"maps"
	"math"
	"slices"

	"bailiwick/residency"
)

//go:generate go run ../tools/places -out places_tz.go

// Locate is the principal place of a country, or of a subdivision of Australia,
// Canada or the United States: where a participant is taken to be when only the
// jurisdiction was declared. A subdivision that is not in the table is placed
// with its country; false means that nothing is known, and distance fails open.
//
// Good for choosing among regions, never for law.
func Locate(j residency.Jurisdiction) (Point, bool) {
	if j == "UK" {
		j = "GB" // reserved in ISO 3166, and the law takes one for the other
	}
	if p, ok := subdivisionPlaces[j]; ok {
		return p, true
	}
	if p := countryPlaces[j.Country()]; len(p) > 0 {
		return p[0], true
	}
	return Point{}, false
}

// Countries lists every ISO 3166-1 alpha-2 code, ordered.
func Countries() []residency.Jurisdiction {
	return slices.Sorted(maps.Keys(countryPlaces))
}

// Subdivisions are those of ISO 3166-2 that Locate knows, sorted.
func Subdivisions() []residency.Jurisdiction {
	return slices.Sorted(maps.Keys(subdivisionPlaces))
}

// kmOff is how far p lies from the nearest known place of j, and 0 where none is
// known: large for coordinates that are mistyped or swapped.
func kmOff(j residency.Jurisdiction, p Point) float64 {
	near := countryPlaces[j.Country()]
	if q, ok := subdivisionPlaces[j]; ok {
		near = []Point{q}
	}
	if len(near) == 0 {
		return 0
	}
	off := math.Inf(1)
	for _, q := range near {
		off = min(off, p.Km(q))
	}
	return off
}

// subdivisionPlaces has the most populous city of each subdivision, to a tenth of
// a degree. Kept by hand, from general knowledge: the tz database has no such
// table. The codes are ISO 3166-2.
var subdivisionPlaces = map[residency.Jurisdiction]Point{
	"AU-ACT": {-35.3, 149.1}, // Canberra
	"AU-NSW": {-33.9, 151.2}, // Sydney
	"AU-NT":  {-12.5, 130.8}, // Darwin
	"AU-QLD": {-27.5, 153.0}, // Brisbane
	"AU-SA":  {-34.9, 138.6}, // Adelaide
	"AU-TAS": {-42.9, 147.3}, // Hobart
	"AU-VIC": {-37.8, 145.0}, // Melbourne
	"AU-WA":  {-32.0, 115.9}, // Perth

	"CA-AB": {51.0, -114.1}, // Calgary
	"CA-BC": {49.3, -123.1}, // Vancouver
	"CA-MB": {49.9, -97.1},  // Winnipeg
	"CA-NB": {46.1, -64.8},  // Moncton
	"CA-NL": {47.6, -52.7},  // St. John's
	"CA-NS": {44.6, -63.6},  // Halifax
	"CA-NT": {62.5, -114.4}, // Yellowknife
	"CA-NU": {63.7, -68.5},  // Iqaluit
	"CA-ON": {43.7, -79.4},  // Toronto
	"CA-PE": {46.2, -63.1},  // Charlottetown
	"CA-QC": {45.5, -73.6},  // Montréal
	"CA-SK": {52.1, -106.7}, // Saskatoon
	"CA-YT": {60.7, -135.1}, // Whitehorse

	"US-AK": {61.2, -149.9},  // Anchorage
	"US-AL": {34.7, -86.6},   // Huntsville
	"US-AR": {34.7, -92.3},   // Little Rock
	"US-AS": {-14.3, -170.7}, // Pago Pago
	"US-AZ": {33.4, -112.1},  // Phoenix
	"US-CA": {34.1, -118.2},  // Los Angeles
	"US-CO": {39.7, -105.0},  // Denver
	"US-CT": {41.2, -73.2},   // Bridgeport
	"US-DC": {38.9, -77.0},   // Washington
	"US-DE": {39.7, -75.5},   // Wilmington
	"US-FL": {30.3, -81.7},   // Jacksonville
	"US-GA": {33.7, -84.4},   // Atlanta
	"US-GU": {13.5, 144.8},   // Dededo
	"US-HI": {21.3, -157.9},  // Honolulu
	"US-IA": {41.6, -93.6},   // Des Moines
	"US-ID": {43.6, -116.2},  // Boise
	"US-IL": {41.9, -87.6},   // Chicago
	"US-IN": {39.8, -86.2},   // Indianapolis
	"US-KS": {37.7, -97.3},   // Wichita
	"US-KY": {38.3, -85.8},   // Louisville
	"US-LA": {30.0, -90.1},   // New Orleans
	"US-MA": {42.4, -71.1},   // Boston
	"US-MD": {39.3, -76.6},   // Baltimore
	"US-ME": {43.7, -70.3},   // Portland
	"US-MI": {42.3, -83.0},   // Detroit
	"US-MN": {45.0, -93.3},   // Minneapolis
	"US-MO": {39.1, -94.6},   // Kansas City
	"US-MP": {15.2, 145.7},   // Saipan
	"US-MS": {32.3, -90.2},   // Jackson
	"US-MT": {45.8, -108.5},  // Billings
	"US-NC": {35.2, -80.8},   // Charlotte
	"US-ND": {46.9, -96.8},   // Fargo
	"US-NE": {41.3, -95.9},   // Omaha
	"US-NH": {43.0, -71.5},   // Manchester
	"US-NJ": {40.7, -74.2},   // Newark
	"US-NM": {35.1, -106.7},  // Albuquerque
	"US-NV": {36.2, -115.1},  // Las Vegas
	"US-NY": {40.7, -74.0},   // New York
	"US-OH": {40.0, -83.0},   // Columbus
	"US-OK": {35.5, -97.5},   // Oklahoma City
	"US-OR": {45.5, -122.7},  // Portland
	"US-PA": {40.0, -75.2},   // Philadelphia
	"US-PR": {18.5, -66.1},   // San Juan
	"US-RI": {41.8, -71.4},   // Providence
	"US-SC": {32.8, -79.9},   // Charleston
	"US-SD": {43.5, -96.7},   // Sioux Falls
	"US-TN": {36.2, -86.8},   // Nashville
	"US-TX": {29.8, -95.4},   // Houston
	"US-UM": {28.2, -177.4},  // Midway
	"US-UT": {40.8, -111.9},  // Salt Lake City
	"US-VA": {36.9, -76.0},   // Virginia Beach
	"US-VI": {18.3, -64.9},   // Charlotte Amalie
	"US-VT": {44.5, -73.2},   // Burlington
	"US-WA": {47.6, -122.3},  // Seattle
	"US-WI": {43.0, -87.9},   // Milwaukee
	"US-WV": {38.3, -81.6},   // Charleston
	"US-WY": {41.1, -104.8},  // Cheyenne
}
