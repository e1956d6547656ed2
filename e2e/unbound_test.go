package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"bailiwick/geodns/dnstest"
	"bailiwick/geodns/geo"
	"bailiwick/tools/nettest"
)

// resolver runs a real Unbound with an ECS cache in front of a deployment's zone and
// gives its address, port 8053. anchor is a DNSKEY or DS record to validate the zone by;
// empty: it is not validated.
func resolver(t *testing.T, authority, anchor string) string {
	t.Helper()
	trust := `domain-insecure: "media.example"`
	if anchor != "" {
		trust = fmt.Sprintf("trust-anchor: %q", anchor)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr(nettest.Net(t)+".0.53"), 8053)
	dnstest.Unbound(t, at, "media.example", fmt.Sprintf(`
  module-config: "subnetcache validator iterator"
  send-client-subnet: %s
  client-subnet-always-forward: yes
  max-client-subnet-ipv4: 32
  max-client-subnet-ipv6: 128
  do-not-query-localhost: no
  %s
  local-zone: "example." nodefault
  cache-min-ttl: 60
  num-threads: 2
`, authority, trust)+dnstest.Stub("media.example", netip.AddrPortFrom(netip.MustParseAddr(authority), 8053)))
	return at.Addr().String()
}

// Residency in the cache: a resolver's ECS cache between clients and this zone never
// gives a client an answer that was made for another place. Its minimum TTL is far
// above ours, so that nearly everything comes from the cache.
func TestUnboundsCacheKeepsPlacesApart(t *testing.T) {
	d := startDev(t)
	via := resolver(t, d.dns(), "")
	type client struct{ subnet, want string }
	var clients []client
	rnd := rand.New(rand.NewPCG(3, 7))
	for _, o := range geo.BuiltIn() {
		if !o.Prefix.Addr().Is4() || o.Prefix.Addr().IsLoopback() {
			continue
		}
		base := o.Prefix.Addr().As4()
		for range 4 { // four clients of each place
			a := base
			a[3] += byte(rnd.IntN(1 << (32 - o.Prefix.Bits())))
			ip := fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], a[3])
			clients = append(clients, client{ip, strings.Join(dig(t, d.dns(), "join.media.example", "A", "+subnet="+ip), " ")})
		}
	}
	places := map[string]bool{}
	before, asked := queries(t, d.api()), 0
	for round := range 3 {
		rnd.Shuffle(len(clients), func(i, k int) { clients[i], clients[k] = clients[k], clients[i] })
		for _, c := range clients {
			got := strings.Join(dig(t, via, "join.media.example", "A", "+subnet="+c.subnet), " ")
			if got != c.want {
				t.Fatalf("round %d: %s got %q from the resolver, the zone says %q", round, c.subnet, got, c.want)
			}
			places[got] = true
			asked++
		}
	}
	if reached := queries(t, d.api()) - before; reached > float64(asked)/2 {
		t.Errorf("%v of %d questions reached the zone: the cache was hardly tried", reached, asked)
	}
	if len(places) < 5 {
		t.Errorf("only %d different answers: the test tried little", len(places))
	}
}

// queries counts what the zone's server has answered.
func queries(t *testing.T, base string) float64 {
	t.Helper()
	_, text := get(t, base+"/metrics")
	sum := 0.0
	for _, m := range regexp.MustCompile(`(?m)^bailiwick_dns_queries_total\{.*?\} (\S+)$`).FindAllStringSubmatch(text, -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// A signed zone through a resolver that validates: every place gets the answer that
// the zone has for it, authenticated, and the denial for a place without a lawful edge
// denies nothing to the others (RFC 8198 is on by default).
func TestUnboundValidates(t *testing.T) {
	d := startDev(t, "--dnssec")
	key := dig(t, d.dns(), "media.example", "DNSKEY")
	if len(key) < 4 {
		t.Fatalf("keys: %q, want one", key)
	}
	via := resolver(t, d.dns(), "media.example. DNSKEY "+strings.Join(key, " "))
	ask := func(name, rrtype, subnet string) (text string, authentic bool) {
		t.Helper()
		out, err := output("dig", "@"+via, "-p", "8053", "+tries=2", "+time=30", "+dnssec", "+subnet="+subnet, name, rrtype)
		if err != nil {
			t.Fatalf("dig: %v\n%s", err, out)
		}
		return string(out), strings.Contains(string(out), "status: NOERROR") && regexp.MustCompile(`;; flags:[^;]* ad\b`).Match(out)
	}
	for round := range 2 { // the second one finds everything in the cache
		for _, c := range []struct{ name, owner, rrtype, subnet string }{
			{"no lawful edge", "join.media.example", "A", "203.0.113.193"},
			{"Berlin", "join.media.example", "A", "192.0.2.1"},
			{"New York", "join.media.example", "A", "198.51.100.1"},
			{"no IPv6", "join.media.example", "AAAA", "192.0.2.1"},
			{"pinned", "de.join.media.example", "A", "203.0.113.193"},
			{"SRV", "_turn._udp.join.media.example", "SRV", "192.0.2.1"},
			{"SOA", "media.example", "SOA", "192.0.2.1"},
			{"an empty non-terminal", "edge.media.example", "A", "192.0.2.1"},
			{"missing", "nope.media.example", "A", "192.0.2.1"},
		} {
			got, ok := ask(c.owner, c.rrtype, c.subnet)
			if !ok {
				t.Errorf("round %d, %s: not authenticated:\n%s", round, c.name, got)
			}
			for _, rdata := range dig(t, d.dns(), c.owner, c.rrtype, "+subnet="+c.subnet) {
				if c.rrtype != "SOA" && !strings.Contains(got, rdata) {
					t.Errorf("round %d, %s: want %s:\n%s", round, c.name, rdata, got)
				}
			}
		}
	}
}
