package main

import (
	"net/netip"
	"testing"

	"bailiwick/health/probe"
	"bailiwick/region"
	"bailiwick/steer"
)

// TestTargets: an edge is probed where DNS answers it; this process's own, behind a NAT that
// need not lead back in, where it is bound.
func TestTargets(t *testing.T) {
	addr, at := netip.MustParseAddr, netip.MustParseAddrPort
	w := &steer.World{Regions: []steer.Region{{Edges: []steer.Edge{
		{ID: "de-fra-1", Host: "https://a:443", Addr4: addr("192.0.2.1"), Addr6: addr("2001:db8::1"), Turn: at("192.0.2.1:3478")},
		{ID: "de-fra-2", Host: "https://b:443", Addr6: addr("2001:db8::2"), Turn: at("[2001:db8::2]:3478")},
	}}}}
	inside := probe.Target{Edge: "de-fra-1", HTTP: probe.HTTP{At: addr("10.0.0.5")}, STUN: at("10.0.0.5:3478")}
	for _, c := range []struct {
		name string
		own  probe.Target
		want [2]string
	}{
		{"a DNS node", probe.Target{}, [2]string{"192.0.2.1", "2001:db8::2"}},
		{"an edge with public addresses", probe.Target{Edge: "de-fra-1"}, [2]string{"192.0.2.1", "2001:db8::2"}},
		{"an edge behind NAT", inside, [2]string{"10.0.0.5", "2001:db8::2"}},
		{"another behind NAT", probe.Target{Edge: region.EdgeID("de-fra-3"), HTTP: inside.HTTP, STUN: inside.STUN}, [2]string{"192.0.2.1", "2001:db8::2"}},
	} {
		for i, got := range targets(w, nil, &c.own) {
			want := addr(c.want[i])
			if got.Edge != w.Regions[0].Edges[i].ID || got.HTTP.URL != w.Regions[0].Edges[i].Host || got.HTTP.At != want || got.STUN != netip.AddrPortFrom(want, 3478) {
				t.Errorf("%s: edge %d is probed as %+v, want at %s", c.name, i, got, want)
			}
		}
	}
}
