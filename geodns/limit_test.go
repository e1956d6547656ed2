package geodns

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

func TestLimiter(t *testing.T) {
	at := now
	l := newLimiter(10, now)
	send := func(addr string, class byte, n int) (passed, slips int) {
		for range n {
			switch l.take(netip.MustParseAddr(addr), class, at) {
			case pass:
				passed++
			case slip:
				slips++
			}
		}
		return passed, slips
	}
	for _, r := range []struct {
		name          string
		after         time.Duration // since the row before
		addr          string
		class         byte
		n             int
		passed, slips int
	}{
		{"a second's worth at once, and every other one of the rest slips", 0, "192.0.2.1", 0, 20, 10, 5},
		{"one /24 is one client", 0, "192.0.2.255", 0, 4, 0, 2},
		{"another /24 is another", 0, "192.0.3.1", 0, 12, 10, 1},
		{"another class of answer has a bucket of its own", 0, "192.0.2.1", 1, 10, 10, 0},
		{"a tenth of a second is one answer", 100 * time.Millisecond, "192.0.2.1", 0, 3, 1, 1},
		{"a second is all of them, and no more", time.Hour, "192.0.2.1", 0, 12, 10, 1},
		{"IPv6", 0, "2001:db8:1:200::1", 0, 11, 10, 1},
		{"one /56 is one client", 0, "2001:db8:1:2ff::1", 0, 2, 0, 1},
		{"another /56 is another", 0, "2001:db8:1:300::1", 0, 10, 10, 0},
		{"a clock that goes back gives nothing away", -time.Minute, "192.0.2.1", 0, 2, 0, 1},
	} {
		at = at.Add(r.after)
		if passed, slips := send(r.addr, r.class, r.n); passed != r.passed || slips != r.slips {
			t.Errorf("%s: got %d passed, %d slipped; want %d, %d", r.name, passed, slips, r.passed, r.slips)
		}
	}
}

// TestClasses: what is often invented, or long, takes nothing from the answers to the others.
func TestClasses(t *testing.T) {
	some := []dns.RR{&dns.A{}}
	for _, r := range []struct {
		name  string
		qtype uint16
		a     answer
		want  byte
	}{
		{"an answer", dns.TypeA, answer{rrs: some}, 0},
		{"no such name", dns.TypeA, answer{rcode: dns.RcodeNameError}, 1},
		{"an error", dns.TypeANY, answer{rcode: dns.RcodeRefused}, 2},
		{"ANY", dns.TypeANY, answer{rrs: some}, 3},
		{"no data", dns.TypeA, answer{}, 4},
	} {
		if got := class(&query{qtype: r.qtype}, &r.a); got != r.want {
			t.Errorf("%s: got class %d, want %d", r.name, got, r.want)
		}
	}
}

// TestLimiterIsBounded: inventing networks gets nobody out of a limit.
func TestLimiterIsBounded(t *testing.T) {
	l := newLimiter(10, now)
	victim := netip.MustParseAddr("192.0.2.1")
	for range 20 {
		l.take(victim, 0, now)
	}
	for i := range 1 << 20 {
		l.take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), byte(i), now)
	}
	if got := l.take(victim, 0, now); got == pass {
		t.Error("the limit was forgotten under a flood of other networks")
	}
}

// TestLimiterForgetsWholly: who is given another's bucket is told of TCP first, as everybody.
func TestLimiterForgetsWholly(t *testing.T) {
	l, silent := newLimiter(1, now), 0
	const networks = 3 * limitSets * limitWays
	for i := range networks {
		client := netip.AddrFrom4([4]byte{10 + byte(i>>16), byte(i >> 8), byte(i)})
		l.take(client, 0, now)
		if l.take(client, 0, now) == discard {
			silent++
		}
	}
	if silent > networks/100 { // some share a tag
		t.Errorf("%d of %d got silence before they were told", silent, networks)
	}
}

func TestLimiterAllocatesNothing(t *testing.T) {
	l, client := newLimiter(1000, now), netip.MustParseAddr("2001:db8::1")
	if n := testing.AllocsPerRun(1000, func() { l.take(client, 0, now) }); n != 0 {
		t.Errorf("%v allocations a query, want 0", n)
	}
}

// TestWithheld: what a client over its rate is told, and who never is.
func TestWithheld(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := listen(t, func(c *Config) { c.Rate, c.Registry = 1, reg })
	s.now = func() time.Time { return now }
	plain := pack(t, ask("join.media.example.", dns.TypeA, noEDNS))
	get := func(packet []byte, src string, via transport) *dns.Msg { return exchange(t, s, packet, src, via) }
	if m := get(plain, berlin, overUDP); len(m.Answer) != 2 {
		t.Fatalf("the first: got %v, want the answer", m)
	}
	if m := get(plain, berlin, overUDP); !m.Truncated || len(m.Answer)+len(m.Ns) != 0 || m.Rcode != noerror {
		t.Errorf("the second: got %v, want TC and nothing else", m)
	}
	if m := get(plain, berlin, overUDP); m != nil {
		t.Errorf("the third: got %v, want none", m)
	}
	baker := ask("join.media.example.", dns.TypeA, option(dns.EDNS0COOKIE, []byte("8 octets")...))
	m := get(pack(t, baker), berlin, overUDP)
	if m.Rcode != dns.RcodeBadCookie || m.Truncated || len(m.Answer) != 0 || len(cookieOf(m)) != 48 {
		t.Fatalf("with a client cookie: got %v, want BADCOOKIE with a server cookie (RFC 7873 section 5.2.3)", m)
	}
	baked := pack(t, ask("join.media.example.", dns.TypeA, option(dns.EDNS0COOKIE, unhex(t, cookieOf(m))...)))
	for range 5 {
		if m := get(baked, berlin, overUDP); len(m.Answer) != 2 {
			t.Errorf("with that cookie: got %v, want the answer", m)
		}
		if m := get(plain, berlin, overTCP); len(m.Answer) != 2 {
			t.Errorf("over TCP: got %v, want the answer", m)
		}
		if m := get(plain, "127.0.0.1", overUDP); len(m.Answer) != 2 {
			t.Errorf("from loopback: got %v, want the answer", m)
		}
	}
	if m := get(baked, "192.0.2.9", overUDP); m != nil && len(m.Answer) != 0 {
		t.Errorf("with a cookie of another address: got %v, want no answer", m)
	}
	for action, want := range map[string]float64{"slipped": 2, "dropped": 2} {
		if got := counter(t, reg, "bailiwick_dns_limited_total", map[string]string{"action": action}); got != want {
			t.Errorf("%s: counted %v, want %v", action, got, want)
		}
	}
	if got := counter(t, reg, "bailiwick_dns_queries_total", map[string]string{"type": "A", "rcode": "BADCOOKIE", "transport": "udp"}); got != 1 {
		t.Errorf("BADCOOKIE: counted %v, want 1", got)
	}
}

// What is withheld from one client is remembered for no other.
func TestWithheldIsForgotten(t *testing.T) {
	s := listen(t, func(c *Config) { c.Rate = 1 })
	s.now = func() time.Time { return now }
	for _, r := range []struct {
		src   string
		qtype uint16
		want  bool
	}{{berlin, dns.TypeA, true}, {berlin, dns.TypeAAAA, false}, {"203.0.113.1", dns.TypeAAAA, true}} {
		m := exchange(t, s, pack(t, ask("de-fra-1.edge.media.example.", r.qtype)), r.src, overUDP)
		if (len(m.Answer) > 0) != r.want || m.Truncated == r.want {
			t.Errorf("%s from %s: got %v, want an answer: %v", dns.Type(r.qtype), r.src, m, r.want)
		}
	}
}

// TestAmplification: a forged query makes this server send no more than a small
// multiple of itself, whatever it asks for; the address has to be proven first.
func TestAmplification(t *testing.T) {
	s := listen(t, func(c *Config) { c.Why = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	for _, r := range []struct {
		name, query string
		qtype       uint16
	}{
		{"_why", "_why.join.media.example.", dns.TypeTXT},
		{"ANY at the apex", "media.example.", dns.TypeANY},
		{"ANY at join", "join.media.example.", dns.TypeANY},
	} {
		for _, edns := range []func(*dns.Msg){noEDNS, func(m *dns.Msg) { m.IsEdns0().SetUDPSize(65535) }} {
			q := pack(t, ask(r.query, r.qtype, edns))
			if b := s.respond(nil, q, netip.MustParseAddr(berlin), overUDP); len(b) > amplification*len(q) {
				t.Errorf("%s: %d octets for %d", r.name, len(b), len(q))
			}
		}
	}
	padded := func(n int) []byte {
		return pack(t, ask("_why.join.media.example.", dns.TypeTXT, option(dns.EDNS0PADDING, make([]byte, n)...)))
	}
	full := len(s.respond(nil, padded(0), netip.MustParseAddr(berlin), overTCP))
	least := (full + 2) / 3 // octets of a query for all of it
	for length, cut := range map[int]bool{least - 1: true, least: false} {
		if m := exchange(t, s, padded(length-len(padded(0))), berlin, overUDP); m.Truncated != cut {
			t.Errorf("_why, %d octets for %d: TC %v, want %v", full, length, m.Truncated, cut)
		}
	}
	why := func(cookie []byte) *dns.Msg {
		return exchange(t, s, pack(t, ask("_why.join.media.example.", dns.TypeTXT, option(dns.EDNS0COOKIE, cookie...))), berlin, overUDP)
	}
	m := why([]byte("8 octets"))
	if !m.Truncated || len(m.Answer) != 0 {
		t.Fatalf("_why without a server cookie: got %v, want TC", m)
	}
	if m = why(unhex(t, cookieOf(m))); m.Truncated || len(m.Answer) != 1 {
		t.Errorf("_why with one: got %v, want it whole", m)
	}
}
