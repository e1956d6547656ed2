// Package nodetest runs a DNS node of the shipped map for the tests of those who ask it.
// For tests only, of packages that are two folders below the module's root.
package nodetest

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"bailiwick/geodns"
	"bailiwick/geodns/cookie"
	"bailiwick/geodns/geo"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

// Map is the path of the shipped map.
const Map = "../../regions.yaml"

// World is the shipped map with one healthy edge a region: 198.18.N.1 in the Nth.
func World(t testing.TB) *steer.World {
	t.Helper()
	b, err := os.ReadFile(Map)
	if err != nil {
		t.Fatal(err)
	}
	m, err := region.Parse(Map, b)
	if err != nil {
		t.Fatal(err)
	}
	w := &steer.World{Generation: 7, At: time.Now(), Law: residency.Shipped(), Map: m}
	for i := range m.Regions {
		r := &m.Regions[i]
		a := netip.AddrFrom4([4]byte{198, 18, byte(i), 1})
		w.Regions = append(w.Regions, steer.Region{Region: r, Hop: m.Hop(r), Edges: []steer.Edge{{ID: region.EdgeID(string(r.ID) + "-1"), Addr4: a, Health: steer.Up, Admits: 100}}})
	}
	return w
}

// Start runs a node of that World until the test ends, on a free port of 127.0.0.1 and
// with the built-in places; change may alter its configuration.
func Start(t testing.TB, change ...func(*geodns.Config)) *geodns.Server {
	t.Helper()
	w := World(t)
	table, err := geo.Load("", geo.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	c := geodns.Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Zone: w.Map.Zone, World: func() *steer.World { return w }, Geo: table,
		Secrets: func() cookie.Secrets { return cookie.Secrets{{1}} }}
	for _, f := range change {
		f(&c)
	}
	s, err := geodns.Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}
