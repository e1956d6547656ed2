package geodns

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnstest"
	"bailiwick/region"
	"bailiwick/tools/exectest"
)

const (
	// The networks of clients, as a resolver tells them.
	german, dubaian, french, bavarian = "198.19.1.0/24", "198.19.2.0/24", "198.19.3.0/24", "198.19.4.0/24"
	// mover is a resolver that tells nobody's network: its own place is its clients'.
	mover = "127.64.0.1"
)

// resolved is a zone with resolvers before it.
type resolved struct {
	*testing.T
	server *Server
	zone   dnstest.Zone
	at     netip.AddrPort // of the resolver that is asked
}

// ask has a client of that network, or one of an unknown network, ask the resolver.
func (r *resolved) ask(network, name string, qtype uint16) *dns.Msg {
	r.Helper()
	q := ask(name, qtype, do)
	q.RecursionDesired = true
	if network != "" {
		ecs(network)(q)
	}
	c := dns.Client{Timeout: exectest.Patience}
	m, _, err := c.Exchange(q, r.at.String())
	if err != nil {
		r.Fatalf("%s %s from %s: %v", name, dns.Type(qtype), network, err)
	}
	if m.Rcode != noerror || m.AuthenticatedData != (r.zone.DS != nil) {
		r.Errorf("%s %s from %s: got %v, want NOERROR, and AD where the zone is signed", name, dns.Type(qtype), network, m)
	}
	return m
}

// given is what a client is given of the type, in one order, and what the zone has for it.
func (r *resolved) given(network, name string, qtype uint16) (got, want []string) {
	r.Helper()
	q := ask(name, qtype)
	if network != "" {
		ecs(network)(q)
	}
	return data(r.ask(network, name, qtype)), data(exchange(r, r.server, pack(r, q), mover, overTCP))
}

func (r *resolved) gets(network, name string, qtype uint16) {
	r.Helper()
	if got, want := r.given(network, name, qtype); !slices.Equal(got, want) {
		r.Errorf("%s %s from %s: got %q, the zone has %q", name, dns.Type(qtype), network, got, want)
	}
}

// data are the records of the type that was asked for.
func data(m *dns.Msg) (list []string) {
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == m.Question[0].Qtype {
			list = append(list, show([]dns.RR{rr})...)
		}
	}
	slices.Sort(list)
	return list
}

// TestOneRefusedClient: whom the law refuses takes nothing from the others behind the same
// resolver, whoever asks first, signed or not. docs/adr/0017 has what these resolvers did
// with a plain denial.
func TestOneRefusedClient(t *testing.T) {
	for _, signed := range []bool{false, true} {
		t.Run(fmt.Sprintf("signed %v", signed), func(t *testing.T) {
			munich := over(bavarian, "DE")
			munich.Place.Point = region.Point{Lat: 48.14, Lon: 11.58}
			places := []region.Override{over(german, "DE"), over(dubaian, "AE"), over(french, "FR"), munich}
			r := resolved{T: t, server: listen(t, withRecords(t, "www CNAME join\n"))}
			moveTo := func(o region.Override) { r.server.SetGeo(table(t, append(places, o)...)) }
			moveTo(over(mover+"/32", "AE"))
			if signed {
				set, k := keys(t, false)
				r.server.SetSigner(k)
				var err error
				if r.zone.DS, err = set.DS(set.Keys[0], dns.SHA256); err != nil {
					t.Fatal(err)
				}
			}
			serve(t, r.server)
			r.zone.Name, r.zone.Server = zone, r.server.Addr()
			t.Run("PowerDNS", func(t *testing.T) { r.on(t, dnstest.PowerDNS(t, r.zone, "")).apart() })
			t.Run("PowerDNS that keeps TTLs", func(t *testing.T) { r.on(t, dnstest.PowerDNS(t, r.zone, "minimum-ttl-override=0")).apart() })
			t.Run("Unbound", func(t *testing.T) { r.on(t, dnstest.UnboundECS(t, r.zone, "")).apart() })

			// Those that tell no network: a refusal lasts for no longer than it is true.
			source := netip.MustParseAddr(mover)
			both := []*resolved{r.on(t, dnstest.BIND(t, r.zone, source)), r.on(t, dnstest.Knot(t, r.zone, source))}
			for _, r := range both {
				for range 2 {
					for _, q := range each {
						r.gets("", q.name, q.qtype)
					}
				}
			}
			moveTo(over(mover+"/32", "DE"))
			for _, r := range both {
				r.moved()
			}
		})
	}
}

// on is r with that resolver.
func (r resolved) on(t *testing.T, at netip.AddrPort) *resolved {
	r.T, r.at = t, at
	return &r
}

const joinName = "join." + zone + "."

// each is one of each that the place decides, and what it does not.
var each = []struct {
	name  string
	qtype uint16
}{
	{joinName, dns.TypeA}, {joinName, dns.TypeAAAA}, {joinName, dns.TypeHTTPS}, {"_turn._udp." + joinName, dns.TypeSRV},
	{"de." + joinName, dns.TypeA}, {"ae." + joinName, dns.TypeA},
}

// apart has clients of several places ask in each order, twice: the second time much is
// in the cache.
func (r *resolved) apart() {
	r.ask(dubaian, joinName, dns.TypeTXT) // the NSEC may be used for more (RFC 8198)
	for _, q := range []struct {
		name  string
		qtype uint16
		order []string
	}{
		{joinName, dns.TypeA, []string{dubaian, german}},
		{joinName, dns.TypeAAAA, []string{german, dubaian}},
		{joinName, dns.TypeHTTPS, []string{dubaian, german}},
		{"www." + zone + ".", dns.TypeA, []string{dubaian, german}},
		{"_turn._udp." + joinName, dns.TypeSRV, []string{dubaian, german}},
		{"_stun._udp." + zone + ".", dns.TypeSRV, []string{german, dubaian}},
		{"_turns._tcp." + zone + ".", dns.TypeSRV, []string{german, dubaian, bavarian}}, // the edges of Munich's region alone have it
		{"de." + joinName, dns.TypeA, []string{dubaian, german}},
		{"ae." + joinName, dns.TypeA, []string{german, dubaian}},
	} {
		for range 2 {
			for _, network := range q.order {
				r.gets(network, q.name, q.qtype)
			}
		}
	}
	r.gets(french, joinName, dns.TypeA)
	for range 2 { // the edges of France have no IPv6
		m := r.ask(french, joinName, dns.TypeAAAA)
		if len(m.Answer) > 0 || len(m.Ns) == 0 || m.Ns[0].Header().Ttl > 1 {
			r.Fatalf("AAAA from France: got %v, want a denial that is kept for a second at most", m)
		}
		if m.Ns[0].Header().Ttl == 0 { // PowerDNS makes it 1
			r.gets(german, joinName, dns.TypeAAAA)
		}
	}
}

// moved waits until the resolver has forgotten where it was.
func (r *resolved) moved() {
	r.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		left := 0
		for _, q := range each {
			if got, want := r.given("", q.name, q.qtype); !slices.Equal(got, want) {
				left++
			}
		}
		if left == 0 {
			return
		}
		if time.Since(began) > exectest.Patience {
			r.Fatalf("%d of %d answers are still those of a place that is refused", left, len(each))
		}
	}
}
