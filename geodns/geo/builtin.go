package geo

import (
	"net/netip"

	"bailiwick/region"
	"bailiwick/residency"
)

// cities are the places of the built-in table, one for each eighth of the three
// IPv4 documentation networks (RFC 5737): Europe, the United States, the rest.
var cities = [...]struct {
	name  string
	at    residency.Jurisdiction
	point region.Point
}{
	// 192.0.2.0/24
	{"Berlin", "DE", region.Point{Lat: 52.52, Lon: 13.405}},
	{"Munich", "DE", region.Point{Lat: 48.137, Lon: 11.575}},
	{"Paris", "FR", region.Point{Lat: 48.857, Lon: 2.352}},
	{"London", "GB", region.Point{Lat: 51.507, Lon: -0.128}},
	{"Zürich", "CH", region.Point{Lat: 47.377, Lon: 8.541}},
	{"Madrid", "ES", region.Point{Lat: 40.417, Lon: -3.704}},
	{"Warsaw", "PL", region.Point{Lat: 52.23, Lon: 21.011}},
	{"Oslo", "NO", region.Point{Lat: 59.913, Lon: 10.752}},
	// 198.51.100.0/24
	{"New York", "US-NY", region.Point{Lat: 40.713, Lon: -74.006}},
	{"San Francisco", "US-CA", region.Point{Lat: 37.775, Lon: -122.419}},
	{"Houston", "US-TX", region.Point{Lat: 29.76, Lon: -95.37}},
	{"Chicago", "US-IL", region.Point{Lat: 41.878, Lon: -87.63}},
	{"Seattle", "US-WA", region.Point{Lat: 47.606, Lon: -122.332}},
	{"Miami", "US-FL", region.Point{Lat: 25.762, Lon: -80.192}},
	{"Denver", "US-CO", region.Point{Lat: 39.739, Lon: -104.99}},
	{"Washington", "US-DC", region.Point{Lat: 38.907, Lon: -77.037}},
	// 203.0.113.0/24
	{"Montréal", "CA-QC", region.Point{Lat: 45.502, Lon: -73.567}},
	{"Toronto", "CA-ON", region.Point{Lat: 43.653, Lon: -79.383}},
	{"São Paulo", "BR", region.Point{Lat: -23.55, Lon: -46.633}},
	{"Sydney", "AU", region.Point{Lat: -33.869, Lon: 151.209}},
	{"Auckland", "NZ", region.Point{Lat: -36.85, Lon: 174.764}},
	{"Tokyo", "JP", region.Point{Lat: 35.682, Lon: 139.759}},
	{"Dubai", "AE", region.Point{Lat: 25.205, Lon: 55.271}},
	{"Quito", "EC", region.Point{Lat: -0.18, Lon: -78.468}}, // no law on file
}

// BuiltIn is the small table of `bailiwick dev`. City k of 24 has the k-th /27 of
// 192.0.2.0/24, 198.51.100.0/24 and 203.0.113.0/24, and 2001:db8:k00::/40 (k in
// hexadecimal): 192.0.2.0 and 2001:db8::1 are in Berlin, 192.0.2.64 and
// 2001:db8:200::1 in Paris. From 2001:db8:1800:: on nothing is placed, to show an
// unknown client. An ECS /24 of the first two networks spans eight places that have a
// lawful edge in common; of the third, it spans places that have none. Loopback is in Berlin, so that a developer's own browser is a
// patient with a lawful edge in the demonstration map.
func BuiltIn() []region.Override {
	nets := [...][4]byte{{192, 0, 2, 0}, {198, 51, 100, 0}, {203, 0, 113, 0}}
	var all []region.Override
	for k, c := range cities {
		p := Place{Jurisdiction: c.at, Point: c.point, Located: true}
		four := nets[k/8]
		four[3] = byte(k % 8 * 32)
		six := [16]byte{0x20, 0x01, 0x0d, 0xb8, byte(k)}
		all = append(all,
			region.Override{Prefix: netip.PrefixFrom(netip.AddrFrom4(four), 27), Place: p},
			region.Override{Prefix: netip.PrefixFrom(netip.AddrFrom16(six), 40), Place: p})
	}
	home := all[0].Place
	return append(all,
		region.Override{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Place: home},
		region.Override{Prefix: netip.MustParsePrefix("::1/128"), Place: home})
}
