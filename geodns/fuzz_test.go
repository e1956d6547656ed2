package geodns

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

// FuzzQuery gives the server what strangers send. Every answer is well-formed, is
// the question's, and names no edge that is unlawful for whom it was asked.
func FuzzQuery(f *testing.F) {
	w := demo()
	s := listen(f, world(w), withRecords(f, zoneFile), func(c *Config) { c.Node, c.Rate = "dns-1", 1 })
	_, k := keys(f, false)
	s.SetSigner(k)
	src := netip.MustParseAddr("127.0.0.1")
	for _, q := range []*dns.Msg{
		ask("join.media.example.", dns.TypeA, ecs("192.0.2.64/26"), do), ask("Nope.media.example.", dns.TypeA, co), ask("dead.media.example.", dns.TypeNSEC, do),
		ask("join.media.example.", dns.TypeA, ecs("192.0.2.64/26")), ask("join.media.example.", dns.TypeAAAA, ecs("2001:db8:1000::/40")),
		ask("De.join.media.example.", dns.TypeA), ask("_why.join.media.example.", dns.TypeTXT, ecs("203.0.113.192/27")),
		ask("de-fra-1.edge.media.example.", dns.TypeAAAA, noEDNS), ask("media.example.", dns.TypeANY), ask("x.example.", dns.TypeSOA),
		ask("_turn._udp.join.media.example.", dns.TypeSRV, ecs("192.0.2.64/26")), ask("us.join.media.example.", dns.TypeHTTPS),
		ask("alias.media.example.", dns.TypeHTTPS, ecs("198.51.100.0/27")), ask("x.y.apps.media.example.", dns.TypeA),
		ask("join.media.example.", dns.TypeA, option(dns.EDNS0COOKIE, make([]byte, 24)...), option(dns.EDNS0NSID), option(dns.EDNS0TCPKEEPALIVE)),
		ask("media.example.", dns.TypeIXFR, func(m *dns.Msg) { m.Ns = []dns.RR{s.soa(s.current().records, "media.example.", 1)} }),
	} {
		f.Add(pack(f, q), false)
	}
	f.Add(pack(f, ask("join.media.example.", dns.TypeA, option(dns.EDNS0PADDING, 0, 0))), true)
	f.Add(raw(0, 1, 0, 0, 2, joinA, opt, opt), true)
	f.Add(raw(0, 1, 0, 0, 1, joinA, "c025 0010 0001 00000000 0000"), true)
	f.Fuzz(func(t *testing.T, packet []byte, tcp bool) {
		via, limit := overUDP, maxUDP
		if tcp {
			via, limit = overTCP, dns.MaxMsgSize
		}
		before := s.metrics.panicked.Load()
		b := s.respond(nil, packet, src, via)
		if s.metrics.panicked.Load() != before {
			t.Fatal("the query panicked")
		}
		if s.failures.Load() > 0 {
			t.Fatal("the answer was not signed")
		}
		if b == nil {
			if len(packet) >= headerLen && packet[2]&0x80 == 0 {
				t.Fatal("a query was dropped")
			}
			return
		}
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			t.Fatalf("answer % x: %v", b, err)
		}
		if len(b) > limit || !bytes.Equal(b[:2], packet[:2]) || !m.Response || m.RecursionAvailable {
			t.Fatalf("answer of %d octets: %v", len(b), m)
		}
		if len(m.Question) == 1 {
			end := headerLen + len(m.Question[0].Name) + 1 + 4
			if end <= len(packet) && !bytes.Contains([]byte(m.Question[0].Name), []byte(`\`)) && m.Question[0].Name != "." &&
				!bytes.Equal(b[headerLen:end], packet[headerLen:end]) {
				t.Fatalf("question % x, want % x", b[headerLen:end], packet[headerLen:end])
			}
		}
		lawful(t, s, w, packet, m)
		if !tcp {
			return
		}
		b = s.respond(nil, packet, src, overTLS)
		if err := m.Unpack(b); err != nil {
			t.Fatalf("answer over TLS % x: %v", b, err)
		}
		if o := m.IsEdns0(); o != nil && slices.ContainsFunc(o.Option, func(e dns.EDNS0) bool { return e.Option() == dns.EDNS0PADDING }) && len(b)%padBlock != 0 {
			t.Fatalf("padded to %d octets: %v", len(b), m)
		}
	})
}

// lawful checks a steered answer against the law, from what the library reads of
// the query.
func lawful(t *testing.T, s *Server, w *steer.World, packet []byte, m *dns.Msg) {
	addrs := edgesOf(w, m)
	if len(addrs) == 0 {
		return
	}
	name := dns.CanonicalName(m.Question[0].Name)
	for _, rr := range m.Answer { // of a chain the last name counts
		if c, ok := rr.(*dns.CNAME); ok {
			name = dns.CanonicalName(c.Target)
		}
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, "_turn._udp."), "_stun._udp.")
	var js []residency.Jurisdiction
	switch labels := dns.SplitDomainName(name); {
	case name == "join."+zone+".", name == zone+"." && m.Question[0].Qtype == dns.TypeSRV:
		p := askedFor(s, packet)
		var ok bool
		if js, ok = s.current().table.Jurisdictions(p, make([]residency.Jurisdiction, 0, 16)); !ok {
			t.Fatalf("%s has no one place, and was steered to %v", p, addrs)
		}
	case len(labels) == 4 && labels[1] == "join":
		j, err := residency.ParseJurisdiction(labels[0])
		if err != nil {
			t.Fatal(err)
		}
		js = []residency.Jurisdiction{j}
	case len(labels) == 4 && labels[1] == "edge":
		if _, e := w.Edge(region.EdgeID(labels[0])); e == nil || addrs[0] != e.Addr4 && addrs[0] != e.Addr6 {
			t.Fatalf("%s: %v", name, addrs)
		}
		return
	default: // the zone file's
		return
	}
	for _, a := range addrs {
		r := regionOf(w, a)
		if r == nil {
			t.Fatalf("%s: %s is no edge", name, a)
		}
		if v := steer.Permits(w, r, &steer.Client{Participants: js, Hint: true}); !v.Permitted() {
			t.Fatalf("%s for %v: %s is unlawful: %s", name, js, r.ID, v.Code)
		}
	}
}

// edgesOf are the addresses that an answer leads to: those it holds, hints, and its
// SRV targets'.
func edgesOf(w *steer.World, m *dns.Msg) []netip.Addr {
	list := addrsOf(m)
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.SRV:
			if _, e := w.Edge(region.EdgeID(dns.SplitDomainName(rr.Target)[0])); e != nil {
				list = append(list, e.Addr4)
			}
		case *dns.HTTPS:
			for _, p := range rr.Value {
				if p, ok := p.(*dns.SVCBIPv4Hint); ok {
					a, _ := netip.AddrFromSlice(p.Hint[0].To4())
					list = append(list, a)
				}
			}
		}
	}
	return list
}

// askedFor is the network of a query that was answered: its ECS option's, as the
// library reads it, or the source. The library refuses the data of some records
// that a server passes over; for those queries the server's own reading has to do.
func askedFor(s *Server, packet []byte) netip.Prefix {
	source := netip.MustParsePrefix("127.0.0.1/32")
	q := new(dns.Msg)
	if q.Unpack(packet) != nil {
		var own query
		s.parse(packet, &own)
		if own.ecs.network.IsValid() {
			return own.ecs.network
		}
		return source
	}
	if opt := q.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			e, ok := o.(*dns.EDNS0_SUBNET)
			if !ok || e.SourceNetmask == 0 {
				continue
			}
			a, _ := netip.AddrFromSlice(e.Address)
			switch {
			case e.Family == 1:
				return netip.PrefixFrom(a.Unmap(), int(e.SourceNetmask))
			case a.Is4In6():
				return netip.PrefixFrom(a.Unmap(), int(e.SourceNetmask)-96)
			}
			return netip.PrefixFrom(a, int(e.SourceNetmask))
		}
	}
	return source
}

// FuzzFast holds the fast answer and the slow one equal, byte for byte.
func FuzzFast(f *testing.F) {
	long := "long TXT" + strings.Repeat(` "`+strings.Repeat("x", 200)+`"`, 3)
	change := []func(*Config){withRecords(f, zoneFile+long+"\n"), func(c *Config) { c.Node = "dns-1" }}
	_, k := keys(f, false)
	servers := map[bool]*Server{}
	for _, signed := range []bool{false, true} {
		s := listen(f, change...)
		s.now = func() time.Time { return now }
		if signed {
			s.SetSigner(k)
		}
		servers[signed] = s
	}
	cookie := option(dns.EDNS0COOKIE, make([]byte, 8)...)
	for _, q := range []*dns.Msg{
		ask("join.media.example.", dns.TypeA), ask("join.media.example.", dns.TypeA, noEDNS), ask("jOiN.MeDia.example.", dns.TypeAAAA, ecs("2001:db8:1000::/40")),
		ask("join.media.example.", dns.TypeA, ecs("192.0.2.64/26"), cookie, option(dns.EDNS0NSID), option(dns.EDNS0TCPKEEPALIVE)),
		ask("fr.join.media.example.", dns.TypeA), ask("de-fra-1.edge.media.example.", dns.TypeAAAA, noEDNS), ask("x.y.apps.media.example.", dns.TypeA),
		ask("ae.join.media.example.", dns.TypeA, do), ask("JOIN.media.example.", dns.TypeHTTPS, do), ask("_turn._udp.media.example.", dns.TypeSRV, ecs("192.0.2.64/26")),
		ask("Media.Example.", dns.TypeNS), ask("media.example.", dns.TypeSOA, do), ask("join.media.example.", dns.TypeMX, do, cookie),
		ask("ae.join.media.example.", dns.TypeA, co), ask("long.media.example.", dns.TypeTXT), ask("long.media.example.", dns.TypeTXT, noEDNS),
	} {
		f.Add(pack(f, q), true, []byte{192, 0, 2, 1})
		f.Add(pack(f, q), false, netip.MustParseAddr("2001:db8:1000::1").AsSlice())
	}
	f.Fuzz(func(t *testing.T, packet []byte, signed bool, from []byte) {
		client, ok := netip.AddrFromSlice(from)
		if !ok {
			return
		}
		s, q := servers[signed], newQuery()
		s.open(q, packet, client, overUDP)
		if q.view == nil {
			return
		}
		want, _ := s.slow(nil, q)
		got, _, done := s.fast(nil, q)
		if done && !bytes.Equal(got, want) {
			t.Errorf("fast % x\nslow % x", got, want)
		}
	})
}

// What most ask is answered fast the second time, without an allocation.
func TestFast(t *testing.T) {
	s := listen(t, withRecords(t, zoneFile), func(c *Config) { c.Rate, c.Node = 1_000_000, "dns-1" })
	at := time.Now()
	s.now = func() time.Time { return at } // a cookie has the second
	_, k := keys(t, false)
	for _, signer := range []*dnssec.Signer{nil, k} {
		s.SetSigner(signer)
		for _, q := range []*dns.Msg{
			ask("join.media.example.", dns.TypeA), ask("JOIN.media.example.", dns.TypeA, do), ask("join.media.example.", dns.TypeAAAA, ecs("2001:db8:1000::/48"), do),
			ask("join.media.example.", dns.TypeA, ecs("192.0.2.128/27"), do, option(dns.EDNS0COOKIE, make([]byte, 8)...), option(dns.EDNS0NSID)),
			ask("de.join.media.example.", dns.TypeAAAA, ecs("192.0.2.64/26")), ask("ae.join.media.example.", dns.TypeA, do),
			ask("de-fra-1.edge.media.example.", dns.TypeA, noEDNS), ask("join.media.example.", dns.TypeHTTPS), ask("_turn._udp.join.media.example.", dns.TypeSRV, do),
			ask("media.example.", dns.TypeSOA, do), ask("media.example.", dns.TypeNS), ask("join.media.example.", dns.TypeMX, do),
			ask("join.media.example.", dns.TypeA, ecs("192.0.2.128/26")), ask("join.media.example.", dns.TypeA, ecs("192.0.0.0/20")),
		} {
			packet, client := pack(t, q), netip.MustParseAddr(berlin)
			packet[1] |= 1 // not timed
			first := s.respond(nil, packet, client, overUDP)
			parsed, out := newQuery(), make([]byte, 0, maxUDP)
			s.open(parsed, packet, client, overUDP)
			b, _, done := s.fast(out, parsed)
			if !done || !bytes.Equal(b, first) {
				t.Errorf("%v, signed %v: fast %v: % x, want % x", q.Question, signer != nil, done, b, first)
			}
			n := testing.AllocsPerRun(100, func() { // without the pool, which forgets things under the race detector
				s.open(parsed, packet, client, overUDP)
				s.fast(out, parsed)
			})
			if n != 0 {
				t.Errorf("%v, signed %v: %v allocations, want none", q.Question, signer != nil, n)
			}
		}
	}
}

// What is remembered for one query is never told to another that has the same slot.
func TestSlotsKeepQueriesApart(t *testing.T) {
	s := listen(t)
	open := func(m *dns.Msg) (*query, *atomic.Pointer[body]) {
		q, client := newQuery(), netip.MustParseAddr(berlin)
		s.respond(nil, pack(t, m), client, overUDP)
		s.open(q, pack(t, m), client, overUDP)
		n := q.within(q.found)
		return q, q.view.slot(q, s.choose(q.view, &n).outcome)
	}
	join, relay := ask("join.media.example.", dns.TypeA), ask("_turn._udp.join.media.example.", dns.TypeSRV)
	for _, r := range []struct {
		name        string
		kept, asked *dns.Msg
	}{
		{"another type", join, ask("join.media.example.", dns.TypeHTTPS)},
		{"signed", join, ask("join.media.example.", dns.TypeA, do)},
		{"another name", relay, ask("_stun._udp.join.media.example.", dns.TypeSRV)},
		{"another place", join, ask("join.media.example.", dns.TypeA, ecs("192.0.2.64/27"))},
	} {
		q, slot := open(r.kept)
		kept := slot.Load()
		if _, _, done := s.fast(nil, q); !done || kept == nil {
			t.Fatalf("%s: nothing is remembered", r.name)
		}
		q, slot = open(r.asked)
		slot.Store(kept)
		if b, _, done := s.fast(nil, q); done {
			t.Errorf("%s: got the answer to %v: % x", r.name, r.kept.Question, b)
		}
	}
}

// Names that strangers make up, and types that nobody asks for, fill nothing.
func TestWhatFastForgets(t *testing.T) {
	s := listen(t, withRecords(t, zoneFile), func(c *Config) { c.Why = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	for _, q := range []*dns.Msg{
		ask("x.apps.media.example.", dns.TypeA), ask("nope.media.example.", dns.TypeA), ask("join.media.example.", 4711), ask("www.media.example.", dns.TypeA),
		ask("_why.join.media.example.", dns.TypeTXT), ask("big.media.example.", dns.TypeTXT), ask("x.example.", dns.TypeA), ask("join.media.example.", dns.TypeA, co),
	} {
		exchange(t, s, pack(t, q), berlin, overUDP)
		for i := range s.current().bodies {
			if b := s.current().bodies[i].Swap(nil); b != nil {
				t.Errorf("%v is remembered", q.Question)
			}
		}
	}
}

func BenchmarkRespond(b *testing.B) {
	s := listen(b)
	_, k := keys(b, false)
	s.SetSigner(k)
	for _, r := range []struct {
		name string
		q    *dns.Msg
	}{
		{"join", ask("join.media.example.", dns.TypeA, ecs("192.0.2.0/27"))},
		{"pinned", ask("de.join.media.example.", dns.TypeA)},
		{"edge", ask("de-fra-1.edge.media.example.", dns.TypeA)},
		{"nxdomain", ask("www.media.example.", dns.TypeA)},
		{"join, signed", ask("join.media.example.", dns.TypeA, ecs("192.0.2.0/27"), do)},
		{"nxdomain, signed", ask("www.media.example.", dns.TypeA, do)},
	} {
		packet, src := pack(b, r.q), netip.MustParseAddr(berlin)
		b.Run(r.name, func(b *testing.B) {
			b.ReportAllocs()
			var out []byte
			for range b.N {
				out = s.respond(out[:0], packet, src, overUDP)
			}
		})
	}
}
