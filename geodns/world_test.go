package geodns

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/geo"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

const zone = "media.example"

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// papers asserts every fact of one scope but the DPF certifications.
func papers(scope string) residency.Facts {
	f := residency.Facts{}
	for name, r := range residency.Shipped().Facts() {
		switch name {
		case "importer_is_DPF_certified", "DPF_with_UK_extension", "Swiss_US_DPF_certified":
			continue
		}
		if r.Scope == scope {
			f[name] = residency.Record{ID: "test", Date: now.AddDate(-1, 0, 0)}
		}
	}
	return f
}

// demo is a world like the shipped map's, two healthy edges a region. Edge k of
// region i has 198.18.i.k and, but for fr-par's, 2001:db8:ffff:i::k. Munich's
// nearest, de-fra, has TLS, us-iad on a port of its own.
func demo() *steer.World {
	place := func(id string, j residency.Jurisdiction, lat, lon float64) region.Region {
		return region.Region{ID: region.ID(id), Provider: "p", Place: region.Place{Jurisdiction: j, Point: region.Point{Lat: lat, Lon: lon}, Located: true}}
	}
	m := &region.Map{Zone: zone, Regions: []region.Region{
		place("au-syd", "AU", -33.87, 151.21), place("br-gru", "BR", -23.55, -46.63),
		place("ca-yul", "CA-QC", 45.5, -73.57), place("de-ber", "DE", 52.52, 13.4), place("de-fra", "DE", 50.11, 8.68),
		place("fr-par", "FR", 48.86, 2.35), place("gb-lon", "GB", 51.51, -0.13), place("us-iad", "US-VA", 39.04, -77.49)},
		Providers: map[region.ProviderID]*region.Provider{"p": {ID: "p", Facts: papers("provider")}},
		Operator:  region.Operator{Facts: papers("operator")},
		Tenants:   map[string]*residency.Tenant{"default": {ID: "default", Facts: papers("tenant")}}}
	w := &steer.World{Generation: 812, At: now, Law: residency.Shipped(), Map: m}
	for i := range m.Regions {
		r := steer.Region{Region: &m.Regions[i], Hop: m.Hop(&m.Regions[i])}
		for k := 1; k <= 2; k++ {
			e := steer.Edge{ID: region.EdgeID(fmt.Sprintf("%s-%d", r.ID, k)), Health: steer.Up, Admits: 100, Load: steer.Load{Consults: 10 * k},
				Addr4: netip.AddrFrom4([4]byte{198, 18, byte(i), byte(k)})}
			e.Turn, e.Host = netip.AddrPortFrom(e.Addr4, 3478), "http://"+e.Addr4.String()+":8080"
			switch r.ID {
			case "de-fra":
				e.Turns = netip.AddrPortFrom(e.Addr4, 5349)
				e.Host = fmt.Sprintf("https://%s.edge.media.example", e.ID)
			case "us-iad":
				e.Turns = netip.AddrPortFrom(e.Addr4, 443)
				e.Host = fmt.Sprintf("https://%s.edge.media.example:8443", e.ID)
			}
			if r.ID != "fr-par" {
				e.Addr6 = netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff:%x::%x", i, k))
			}
			r.Edges = append(r.Edges, e)
		}
		w.Regions = append(w.Regions, r)
	}
	return w
}

// regionOf is the region that an address of the demo world belongs to.
func regionOf(w *steer.World, a netip.Addr) *steer.Region {
	for i := range w.Regions {
		for _, e := range w.Regions[i].Edges {
			if a == e.Addr4 || a == e.Addr6 {
				return &w.Regions[i]
			}
		}
	}
	return nil
}

func table(t testing.TB, overrides ...region.Override) *geo.Table {
	t.Helper()
	g, err := geo.Load("", append(geo.BuiltIn(), overrides...))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func over(prefix string, j residency.Jurisdiction) region.Override {
	at, ok := region.Locate(j)
	return region.Override{Prefix: netip.MustParsePrefix(prefix), Place: region.Place{Jurisdiction: j, Point: at, Located: ok}}
}

// listen opens a server of the demo world; change may alter the configuration.
func listen(t testing.TB, change ...func(*Config)) *Server {
	t.Helper()
	w := demo()
	c := Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Zone: zone, World: func() *steer.World { return w }, Geo: table(t)}
	for _, f := range change {
		f(&c)
	}
	s, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	s.viewing.Lock()
	s.serial = 3000000000 // in 2065: every serial is that then
	s.viewing.Unlock()
	t.Cleanup(func() { s.Close() })
	return s
}

// world makes the server serve w.
func world(w *steer.World) func(*Config) {
	return func(c *Config) { c.World = func() *steer.World { return w } }
}

// ask makes a query with EDNS; alter may change it.
func ask(name string, qtype uint16, alter ...func(*dns.Msg)) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.RecursionDesired = false
	m.SetEdns0(1232, false)
	for _, f := range alter {
		f(m)
	}
	return m
}

func noEDNS(m *dns.Msg) { m.Extra = nil }

// ecs adds an ECS option of a network.
func ecs(network string) func(*dns.Msg) {
	p := netip.MustParsePrefix(network)
	family := uint16(1)
	if p.Addr().Is6() {
		family = 2
	}
	raw := []byte{0, byte(family), byte(p.Bits()), 0}
	return option(dns.EDNS0SUBNET, append(raw, p.Masked().Addr().AsSlice()[:(p.Bits()+7)/8]...)...)
}

func option(code uint16, data ...byte) func(*dns.Msg) {
	return func(m *dns.Msg) {
		o := m.IsEdns0()
		o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: code, Data: data})
	}
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// exchange asks without a socket; nil where the packet was dropped.
func exchange(t testing.TB, s *Server, packet []byte, src string, via transport) *dns.Msg {
	t.Helper()
	b := s.respond(nil, packet, netip.MustParseAddr(src), via)
	if b == nil {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("answer % x: %v", b, err)
	}
	return m
}

// show is an answer's records without owner, class and TTL.
func show(rrs []dns.RR) (list []string) {
	for _, rr := range rrs {
		if u, ok := rr.(*dns.RFC3597); ok {
			list = append(list, fmt.Sprintf(`TYPE%d \# %d %s`, u.Hdr.Rrtype, len(u.Rdata)/2, u.Rdata))
			continue
		}
		list = append(list, dns.Type(rr.Header().Rrtype).String()+" "+rr.String()[len(rr.Header().String()):])
	}
	return list
}

func edeOf(m *dns.Msg) (code int, text string) {
	if o := m.IsEdns0(); o != nil {
		for _, e := range o.Option {
			if e, ok := e.(*dns.EDNS0_EDE); ok {
				return int(e.InfoCode), e.ExtraText
			}
		}
	}
	return -1, ""
}

// scopeOf is the ECS scope of an answer, -1 without the option.
func scopeOf(m *dns.Msg) int {
	if o := m.IsEdns0(); o != nil {
		for _, e := range o.Option {
			if e, ok := e.(*dns.EDNS0_SUBNET); ok {
				return int(e.SourceScope)
			}
		}
	}
	return -1
}

// addrsOf are the addresses in the answer section.
func addrsOf(m *dns.Msg) (list []netip.Addr) {
	for _, rr := range m.Answer {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		default:
			continue
		}
		a, _ := netip.AddrFromSlice(ip)
		list = append(list, a.Unmap())
	}
	return list
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// cookieOf is the COOKIE option of an answer in hexadecimal.
func cookieOf(m *dns.Msg) string {
	if o := m.IsEdns0(); o != nil {
		for _, e := range o.Option {
			if e, ok := e.(*dns.EDNS0_COOKIE); ok {
				return e.Cookie
			}
		}
	}
	return ""
}
