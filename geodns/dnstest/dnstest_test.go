package dnstest_test

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnstest"
)

// answer says by which transport it was asked.
func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	if q.Question[0].Qtype == dns.TypeTXT {
		m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 5}, Txt: []string{w.LocalAddr().Network()}}}
	}
	w.WriteMsg(m)
}

func ask(t *testing.T, network string, at netip.AddrPort) string {
	t.Helper()
	m, _, err := (&dns.Client{Net: network}).Exchange(new(dns.Msg).SetQuestion("example.", dns.TypeTXT), at.String())
	if err != nil || len(m.Answer) != 1 {
		t.Fatalf("over %s: %v, %v", network, m, err)
	}
	return m.Answer[0].(*dns.TXT).Txt[0]
}

func TestServe(t *testing.T) {
	at := dnstest.Serve(t, "127.0.0.1:0", answer)
	for _, network := range []string{"udp", "tcp"} {
		if got := ask(t, network, at); got != network {
			t.Errorf("over %s: the server says %s", network, got)
		}
	}
}

// TestUnbound: it resolves what its stub has, on a port of its own.
func TestUnbound(t *testing.T) {
	at := dnstest.Serve(t, "127.0.0.1:0", answer)
	resolver := dnstest.Unbound(t, netip.MustParseAddrPort("127.0.0.1:0"), "example", `
  do-not-query-localhost: no
  domain-insecure: "example"
  local-zone: "example." nodefault
`+dnstest.Stub("example", at))
	if got := ask(t, "udp", resolver); got != "udp" || resolver == at {
		t.Errorf("got %s from %s", got, resolver)
	}
}
