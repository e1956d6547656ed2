package check

import (
	"net/netip"
	"strings"
	"testing"
	"unicode"

	"github.com/miekg/dns"
)

// FuzzAnswer: no answer of a stranger's server stops the checks.
func FuzzAnswer(f *testing.F) {
	subnet := netip.MustParsePrefix("192.0.2.0/27")
	e := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 27, Address: subnet.Addr().AsSlice()}
	escape := new(dns.Msg).SetEdns0(1232, false)
	escape.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 18, ExtraText: "\x1b]0;owned\a"}}
	b, err := escape.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := new(dns.Msg)
		if len(b) > dns.MaxMsgSize || r.Unpack(b) != nil {
			return
		}
		for _, p := range probes8906() {
			p.judge(p.query("media.example."), r)
		}
		if network, err := scopeOf(r, e, subnet); err == nil && !network.IsValid() {
			t.Errorf("no fault, and no network: %v", r)
		}
		if len(cookieOf(r))%2 != 0 {
			t.Errorf("cookie %q is not hex", cookieOf(r))
		}
		if text := extended(r); strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("%q would steer a terminal", text)
		}
		records(r.Answer)
		var keys []*dns.DNSKEY
		for _, rr := range r.Answer {
			addressOf(rr)
			if k, ok := rr.(*dns.DNSKEY); ok {
				keys = append(keys, k)
			}
			if c, ok := rr.(*dns.CDS); ok {
				ofKeys(&c.DS, keys)
			}
		}
		if until, err := verified(r.Answer, keys); err == nil && until.IsZero() {
			t.Errorf("verified, and no end: %v", r.Answer)
		}
	})
}
