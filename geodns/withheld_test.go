package geodns

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

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
