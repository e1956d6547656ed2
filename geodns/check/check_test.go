package check

import (
	"context"
	"crypto/x509"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns"
	"bailiwick/geodns/cookie"
	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/nodetest"
)

func TestRunOfGoodNodes(t *testing.T) {
	set, signer := zoneKeys(t, time.Now())
	config, roots := certificate(t, "ns1.media.example", time.Now().Add(90*24*time.Hour))
	shared := func(c *geodns.Config) {
		c.NS = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		c.DoT, c.TLS = netip.MustParseAddrPort("127.0.0.1:0"), config
	}
	a, b := nodetest.Start(t, shared), nodetest.Start(t, shared)
	a.SetSigner(signer)
	b.SetSigner(signer)
	ds, err := set.DS(set.Keys[0], dns.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	z := under(t, a, meddler(t, "", delegation([]string{"ns1.media.example."}, "127.0.0.1", ds)))
	z.Name, z.Servers = "Media.example.", append(z.Servers, b.Addr())
	rows := z.Run(t.Context())
	if len(rows) < 60 || failed(rows) != nil {
		t.Errorf("%d rows, failed %v: %v", len(rows), failed(rows), rows)
	}
	for _, want := range []string{"udp", "tcp", "ns", "glue ns1.media.example.", "ecs-scope", "served", "rfc8906 8.2.10", "cookies", "sizes", "dnssec", "cds", "agreement", "shared cookies", "delegation", "ds"} {
		if !slices.ContainsFunc(rows, func(r Row) bool { return r.Check == want }) {
			t.Errorf("no row %s", want)
		}
	}
	soon, soonRoots := certificate(t, "ns1.media.example", time.Now().Add(certificateLeast-time.Hour))
	ending := nodetest.Start(t, func(c *geodns.Config) { c.DoT, c.TLS = netip.MustParseAddrPort("127.0.0.1:0"), soon })
	for _, r := range []struct {
		name, tlsName string
		at            netip.AddrPort
		roots         *x509.CertPool
		want          []string
	}{
		{"as it should be", "", a.DoT(), roots, nil},
		{"another name", "ns2.media.example", a.DoT(), roots, []string{"tls"}},
		{"a stranger's certificate", "", a.DoT(), nil, []string{"tls"}},
		{"a certificate that ends soon", "", ending.DoT(), soonRoots, []string{"tls"}},
		{"no padding", "", unpadded(t, config), roots, []string{"tls"}},
	} {
		z := asked(t, a.Addr())
		z.DoT, z.TLSName, z.Roots = r.at.Port(), r.tlsName, r.roots
		rows := z.Run(t.Context())
		if got := failed(rows); !slices.Equal(got, r.want) || rows[len(rows)-1].Check != "tls" {
			t.Errorf("over TLS: %s: failed %v, want %v: %v", r.name, got, r.want, rows)
		}
	}
}

// TestRunOfExampleNetworks: that a guessed network has no edge is no fault if the node
// says why; that it says nothing is one.
func TestRunOfExampleNetworks(t *testing.T) {
	good := nodetest.Start(t).Addr().String()
	for _, r := range []struct {
		name    string
		options []dns.EDNS0 // of an answer without records, beside ECS
		want    []string
	}{
		{"a reason", []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeProhibited}}, nil},
		{"no reason", nil, []string{"join 192.0.2.0/27", "join 198.51.100.0/27"}},
	} {
		z := asked(t, meddler(t, good, func(_ string, q, m *dns.Msg) *dns.Msg {
			if o := m.IsEdns0(); o != nil && len(q.Question) == 1 && q.Question[0].Name == "join.media.example." {
				m.Answer, o.Option = nil, append(o.Option, r.options...)
			}
			return m
		}))
		z.Guessed = true
		if got := failed(z.Run(t.Context())); !slices.Equal(got, r.want) {
			t.Errorf("%s: failed %v, want %v", r.name, got, r.want)
		}
	}
}

// TestRunEndsWithItsContext: who stops waiting is told so, and is not asked to wait.
func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, want := failed(asked(t, nodetest.Start(t).Addr()).Run(ctx)), []string{"tcp", "udp"}; !slices.Equal(got, want) {
		t.Errorf("failed %v, want %v", got, want)
	}
}

func TestNameServers(t *testing.T) {
	for _, r := range []struct {
		name, text string
		want       map[string][]netip.Addr
		fault      string
	}{
		{"none", "www A 192.0.2.1\n", map[string][]netip.Addr{}, ""},
		{"in the zone and out of it", "@ NS NS.media.example.\n@ NS ns2.example.org.\nns A 127.0.0.1\nns AAAA ::1\n",
			map[string][]netip.Addr{"ns.media.example.": {netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}, "ns2.example.org.": nil}, ""},
		{"of a zone below", "sub NS ns.sub\nns.sub A 127.0.0.1\n", map[string][]netip.Addr{}, ""},
		{"no zone file", "@ A ns1\n", nil, "zone.db: dns: "},
	} {
		got, err := NameServers("Media.example", "zone.db", strings.NewReader(r.text))
		if r.fault != "" {
			if err == nil || !strings.Contains(err.Error(), r.fault) {
				t.Errorf("%s: got %v, want %s", r.name, err, r.fault)
			}
			continue
		}
		if err != nil || !maps.EqualFunc(got, r.want, slices.Equal) {
			t.Errorf("%s: got %v, %v; want %v", r.name, got, err, r.want)
		}
	}
}

func TestRunOfNodesThatDiffer(t *testing.T) {
	_, signer := zoneKeys(t, time.Now())
	_, other := zoneKeys(t, time.Now())
	a, b := nodetest.Start(t), nodetest.Start(t, func(c *geodns.Config) { c.Secrets = func() cookie.Secrets { return cookie.Secrets{{2}} } })
	a.SetSigner(signer)
	b.SetSigner(other)
	rows := asked(t, a.Addr(), b.Addr()).Run(t.Context())
	if want := []string{"agreement", "shared cookies"}; !slices.Equal(failed(rows), want) {
		t.Errorf("failed %v, want %v", failed(rows), want)
	}
	for _, r := range rows {
		if r.Check == "agreement" && (!strings.Contains(r.Detail, "DNSKEY: ") || strings.Contains(r.Detail, "join")) {
			t.Errorf("agreement: %s: want the keys, and nothing else", r.Detail)
		}
	}
}

// TestVerified: the signatures of a section hold as long as the first that ends.
func TestVerified(t *testing.T) {
	now := time.Now()
	set, signer := zoneKeys(t, now)
	strange, _ := zoneKeys(t, now)
	keysOf := func(set dnssec.Set) (keys []*dns.DNSKEY) {
		for _, rr := range set.DNSKEY(dnssec.DefaultPolicy()) {
			keys = append(keys, rr.(*dns.DNSKEY))
		}
		return keys
	}
	signed := func(name string, at time.Time) []dns.RR {
		rr, err := dns.NewRR(name + ".media.example. 5 IN A 192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		sigs, _, err := signer.Sign([]dns.RR{rr}, at)
		if err != nil {
			t.Fatal(err)
		}
		return append([]dns.RR{rr}, sigs...)
	}
	both := append(signed("a", now), signed("b", now)...)
	var first time.Time
	for _, i := range []int{1, 3} {
		if end := time.Unix(int64(both[i].(*dns.RRSIG).Expiration), 0); first.IsZero() || end.Before(first) {
			first = end
		}
	}
	for _, r := range []struct {
		name    string
		section []dns.RR
		keys    []*dns.DNSKEY
		want    string // of the fault; "": none
	}{
		{"two sets", both, keysOf(set), ""},
		{"nothing", nil, keysOf(set), "no records to verify"},
		{"one without a signature", both[:3], keysOf(set), "b.media.example. A has no signature"},
		{"over", signed("a", now.AddDate(0, -3, 0)), keysOf(set), "is not valid now"},
		{"not yet begun", signed("a", now.AddDate(0, 3, 0)), keysOf(set), "is not valid now"},
		{"of a key that is not served", both, keysOf(strange), "which is not served"},
		{"of another set", append(signed("c", now)[:1:1], func() dns.RR {
			sig := dns.Copy(both[1])
			sig.Header().Name = "c.media.example."
			return sig
		}()), keysOf(set), "does not verify"},
	} {
		until, err := verified(r.section, r.keys)
		switch {
		case r.want == "" && (err != nil || !until.Equal(first)):
			t.Errorf("%s: got %s, %v, want %s", r.name, until, err, first)
		case r.want != "" && (err == nil || !strings.Contains(err.Error(), r.want)):
			t.Errorf("%s: got %v, want %s", r.name, err, r.want)
		}
	}
}

func TestOfKeys(t *testing.T) {
	set, _ := zoneKeys(t, time.Now())
	key := set.DNSKEY(dnssec.DefaultPolicy())[0].(*dns.DNSKEY)
	for _, r := range []struct {
		name   string
		change func(*dns.DS)
		want   bool
	}{
		{"its digest", func(*dns.DS) {}, true},
		{"its digest in capitals", func(ds *dns.DS) { ds.Digest = strings.ToUpper(ds.Digest) }, true},
		{"another digest", func(ds *dns.DS) { ds.Digest = strings.Repeat("00", 32) }, false},
		{"another tag", func(ds *dns.DS) { ds.KeyTag++ }, false},
		{"another algorithm", func(ds *dns.DS) { ds.Algorithm++ }, false},
		{"a digest that nobody knows", func(ds *dns.DS) { ds.DigestType = 99 }, false},
	} {
		ds, err := set.DS(set.Keys[0], dns.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		r.change(ds)
		if got := ofKeys(ds, []*dns.DNSKEY{key}); got != r.want {
			t.Errorf("%s: got %v, want %v", r.name, got, r.want)
		}
	}
}

// under is the zone of a node at 127.0.0.1 whose parent is asked too.
func under(t testing.TB, s *geodns.Server, parent netip.AddrPort) Zone {
	z := asked(t, s.Addr())
	z.NS["ns1.media.example"] = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	z.Parents = []netip.AddrPort{parent}
	return z
}

func TestRunOfTheParent(t *testing.T) {
	t.Parallel()
	set, signer := zoneKeys(t, time.Now())
	strange, _ := zoneKeys(t, time.Now())
	s := nodetest.Start(t)
	s.SetSigner(signer)
	ds := func(set dnssec.Set) *dns.DS {
		d, err := set.DS(set.Keys[0], dns.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	const ns1 = "ns1.media.example."
	for _, r := range []struct {
		name   string
		parent func(string, *dns.Msg, *dns.Msg) *dns.Msg
		want   []string
	}{
		{"as it should be", delegation([]string{ns1}, "127.0.0.1", ds(set)), nil},
		{"the parent's own name servers too", func(network string, q, r *dns.Msg) *dns.Msg {
			r = delegation([]string{ns1}, "127.0.0.1", ds(set))(network, q, r)
			if q.Question[0].Qtype == dns.TypeNS {
				r.Ns = append(r.Ns, &dns.NS{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 60}, Ns: "a.nic.example."})
			}
			return r
		}, nil},
		{"no delegation", delegation(nil, "", ds(set)), []string{"delegation"}},
		{"another name server", delegation([]string{ns1, "ns2.media.example."}, "127.0.0.1", ds(set)), []string{"delegation"}},
		{"no glue", delegation([]string{ns1}, "", ds(set)), []string{"delegation"}},
		{"other glue", delegation([]string{ns1}, "127.0.0.2", ds(set)), []string{"delegation"}},
		{"no DS though the zone asks for one", delegation([]string{ns1}, "127.0.0.1"), []string{"ds"}},
		{"a DS of another key", delegation([]string{ns1}, "127.0.0.1", ds(strange)), []string{"ds"}},
		{"no answer", func(string, *dns.Msg, *dns.Msg) *dns.Msg { return nil }, []string{"delegation", "ds"}},
	} {
		if got := failed(under(t, s, meddler(t, "", r.parent)).Run(t.Context())); !slices.Equal(got, r.want) {
			t.Errorf("%s: failed %v, want %v", r.name, got, r.want)
		}
	}
	anywhere := under(t, s, meddler(t, "", delegation([]string{ns1}, "", ds(set))))
	anywhere.NS["ns1.media.example"] = nil
	if got := failed(anywhere.Run(t.Context())); !slices.Equal(got, []string{"delegation"}) {
		t.Errorf("no glue, and its address may be any: failed %v, want delegation", got)
	}
	unsigned := nodetest.Start(t)
	parent := meddler(t, "", delegation([]string{ns1}, "127.0.0.1", ds(set)))
	if got := failed(under(t, unsigned, parent).Run(t.Context())); !slices.Equal(got, []string{"ds"}) {
		t.Errorf("an unsigned zone under a DS: failed %v, want ds", got)
	}
}
