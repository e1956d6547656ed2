package nameserver

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnstest"
	"bailiwick/tools/nettest"
)

// answering runs a server that gives these records, over UDP and TCP.
func answering(t *testing.T, change func(m *dns.Msg, udp bool)) netip.AddrPort {
	t.Helper()
	return dnstest.Serve(t, "127.0.0.1:0", func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		if q.RecursionDesired || q.IsEdns0() == nil || !q.IsEdns0().Do() || q.Question[0].Qtype != dns.TypeDS {
			m.Rcode = dns.RcodeFormatError
		} else {
			change(m, w.LocalAddr().Network() == "udp")
		}
		w.WriteMsg(m)
	})
}

// TestAskParent: only authoritative servers of the parent that agree, at the right time,
// are a word of the parent.
func TestAskParent(t *testing.T) {
	const (
		one  = "media.example. 3600 DS 4711 13 2 AA55"
		two  = "media.example. 7200 DS 4712 13 2 BB66"
		soa  = "example. 3600 SOA ns.example. a.example. 1 2 3 4 5"
		own  = "media.example. 3600 SOA ns.media.example. a.example. 1 2 3 4 5"
		far  = "elsewhere. 3600 SOA ns.example. a.example. 1 2 3 4 5"
		sig  = "media.example. 3600 RRSIG DS 13 2 3600 20261201000000 20261101000000 1 example. AAAA"
		late = "media.example. 3600 RRSIG DS 13 2 3600 20261101000000 20261001000000 1 example. AAAA"
	)
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	answer := func(texts ...string) func(*dns.Msg, bool) {
		return func(m *dns.Msg, _ bool) {
			for _, text := range texts {
				if rr := testRR(text); rr.Header().Rrtype == dns.TypeSOA {
					m.Ns = append(m.Ns, rr)
				} else {
					m.Answer = append(m.Answer, rr)
				}
			}
		}
	}
	for _, c := range []struct {
		name    string
		servers []func(*dns.Msg, bool)
		ds      int
		ttl     time.Duration
		want    string // of the error
	}{
		{"one server", []func(*dns.Msg, bool){answer(one, sig)}, 1, time.Hour, ""},
		{"two that agree in another order", []func(*dns.Msg, bool){answer(one, two), answer(two, one)}, 2, 2 * time.Hour, ""},
		{"none, positively", []func(*dns.Msg, bool){answer(soa)}, 0, 0, ""},
		{"two that differ", []func(*dns.Msg, bool){answer(one), answer(two)}, 0, 0, "another DS each"},
		{"one has it not yet", []func(*dns.Msg, bool){answer(one), answer(soa)}, 0, 0, "another DS each"},
		{"truncated over UDP", []func(*dns.Msg, bool){func(m *dns.Msg, udp bool) {
			if m.Truncated = udp; !udp {
				answer(one)(m, udp)
			}
		}}, 1, time.Hour, ""},
		{"a resolver", []func(*dns.Msg, bool){func(m *dns.Msg, udp bool) { answer(one)(m, udp); m.Authoritative = false }}, 0, 0, "not authoritative"},
		{"a referral", []func(*dns.Msg, bool){func(m *dns.Msg, _ bool) { m.Authoritative = false }}, 0, 0, "not authoritative"},
		{"the zone's own server", []func(*dns.Msg, bool){answer(own)}, 0, 0, "it serves media.example.: name a server of the parent"},
		{"a server of another zone", []func(*dns.Msg, bool){answer(far)}, 0, 0, "it serves elsewhere."},
		{"refused", []func(*dns.Msg, bool){func(m *dns.Msg, _ bool) { m.Rcode = dns.RcodeRefused }}, 0, 0, "REFUSED: is it a name server of the parent"},
		{"nothing at all", []func(*dns.Msg, bool){answer()}, 0, 0, "neither a DS nor the SOA"},
		{"the clock, or the parent, is wrong", []func(*dns.Msg, bool){answer(one, late)}, 0, 0, "is this node's clock right?"},
		{"DS of another name", []func(*dns.Msg, bool){answer("other.example. 3600 DS 1 13 2 AA55", soa)}, 0, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var servers []netip.AddrPort
			for _, f := range c.servers {
				servers = append(servers, answering(t, f))
			}
			p, err := askParent(context.Background(), "media.example", servers, now)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), servers[0].String()) && !strings.Contains(err.Error(), servers[len(servers)-1].String()) {
					t.Errorf("got %v, %v, want %q and the server", p, err, c.want)
				}
				if clock := strings.Contains(c.want, "clock"); errors.Is(err, errWrongClock) != clock {
					t.Errorf("got %v, want a word of the clock: %v", err, clock)
				}
				return
			}
			if err != nil || len(p.DS) != c.ds || p.TTL != c.ttl || p.By != "parent" {
				t.Errorf("got %v, %v, want %d DS and TTL %s", p, err, c.ds, c.ttl)
			}
		})
	}
	t.Run("silent", func(t *testing.T) {
		at := nettest.Closed(t)
		if p, err := askParent(context.Background(), "media.example", []netip.AddrPort{at}, now); err == nil || !strings.Contains(err.Error(), at.String()) {
			t.Errorf("got %v, %v", p, err)
		}
	})
}

// FuzzParentSays: no bytes from a server make it panic, and what it takes as the
// parent's DS is of the zone.
func FuzzParentSays(f *testing.F) {
	q := new(dns.Msg).SetQuestion("media.example.", dns.TypeDS)
	for _, texts := range [][]string{{"media.example. 3600 DS 4711 13 2 AA55"}, {"example. 3600 SOA ns.example. a.example. 1 2 3 4 5"},
		{"media.example. 3600 RRSIG DS 13 2 3600 20261201000000 20261101000000 1 example. AAAA"}} {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		for _, text := range texts {
			m.Answer, m.Ns = append(m.Answer, testRR(text)), append(m.Ns, testRR(text))
		}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		ds, ttl, err := parentSays(m, "media.example", time.Unix(1795000000, 0))
		if err != nil && ds != nil || ttl < 0 {
			t.Fatalf("%v, %s, %v", ds, ttl, err)
		}
		for _, d := range ds {
			if !strings.EqualFold(dns.CanonicalName(d.Hdr.Name), "media.example.") {
				t.Fatalf("of another name: %v", d)
			}
		}
	})
}
