package main

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns"
	"bailiwick/geodns/dnssec"
)

func TestDNSCheckOfGoodNodes(t *testing.T) {
	set, signer := zoneKeys(t, time.Now())
	pair, roots := writeKeyPair(t, t.TempDir(), "ns1.media.example", time.Now().Add(90*24*time.Hour))
	shared := func(c *geodns.Config) {
		c.NS = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		c.DoT, c.TLS = netip.MustParseAddrPort("127.0.0.1:0"), pair.config()
	}
	a, b := dnsNode(t, shared), dnsNode(t, shared)
	a.SetSigner(signer)
	b.SetSigner(signer)
	ds, err := set.DS(set.Keys[0], dns.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	parent := meddler(t, "", delegation([]string{"ns1.media.example."}, "127.0.0.1", ds))
	args := []string{"--server", a.Addr().String(), "--server", b.Addr().String(), "--ns", "127.0.0.1", "--parent", parent}
	code, rows, stderr := dnsCheck(t, args...)
	if code != 0 || len(rows) < 60 {
		t.Errorf("exit code %d, %d rows, failed %v: %v\n%s", code, len(rows), failed(rows), rows, stderr)
	}
	for _, want := range []string{"udp", "tcp", "ns", "glue ns1.media.example.", "ecs-scope", "served", "rfc8906 8.2.10", "cookies", "sizes", "dnssec", "cds", "agreement", "shared cookies", "delegation", "ds"} {
		if !slices.ContainsFunc(rows, func(r checked) bool { return r.Check == want }) {
			t.Errorf("no row %s", want)
		}
	}
	_, port, _ := net.SplitHostPort(a.DoT().String())
	code, rows, _ = dnsCheck(t, "--server", a.Addr().String(), "--ns", "127.0.0.1", "--dot", port, "--tls-ca", roots)
	if code != 0 || !slices.ContainsFunc(rows, func(r checked) bool { return r.Check == "tls" }) {
		t.Errorf("over TLS: exit code %d: %v", code, rows)
	}
	for _, r := range [][]string{{"--tls-ca", roots, "--tls-name", "ns2.media.example"}, {}} { // another name; a stranger's certificate
		if code, rows, _ := dnsCheck(t, append([]string{"--server", a.Addr().String(), "--ns", "127.0.0.1", "--dot", port}, r...)...); code != exitFinding || !slices.Equal(failed(rows), []string{"tls"}) {
			t.Errorf("%v: exit code %d, failed %v; want tls", r, code, failed(rows))
		}
	}
}

// delegation answers for the parent zone as a server without recursion does.
func delegation(ns []string, glue string, ds ...*dns.DS) func(string, *dns.Msg, *dns.Msg) *dns.Msg {
	return func(_ string, q, r *dns.Msg) *dns.Msg {
		if q.Question[0].Qtype == dns.TypeDS {
			for _, d := range ds {
				r.Answer = append(r.Answer, d)
			}
			return r
		}
		for _, name := range ns {
			r.Ns = append(r.Ns, &dns.NS{Hdr: dns.RR_Header{Name: "media.example.", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 60}, Ns: name})
			if glue != "" {
				r.Extra = append(r.Extra, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(glue)})
			}
		}
		return r
	}
}

// TestDNSCheckFinds: each thing that goes wrong is told by its check, and by no other.
func TestDNSCheckFinds(t *testing.T) {
	_, signer := zoneKeys(t, time.Now())
	good := dnsNode(t)
	good.SetSigner(signer)
	soa := func(q *dns.Msg) bool { return len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeSOA }
	is := func(q *dns.Msg, name string, t uint16) bool {
		return len(q.Question) == 1 && q.Question[0].Name == name && q.Question[0].Qtype == t
	}
	options := func(r *dns.Msg, f func(dns.EDNS0) dns.EDNS0) {
		o := r.IsEdns0()
		if o == nil {
			return
		}
		var kept []dns.EDNS0
		for _, e := range o.Option {
			if e = f(e); e != nil {
				kept = append(kept, e)
			}
		}
		o.Option = kept
	}
	for _, r := range []struct {
		name   string
		meddle func(network string, q, r *dns.Msg) *dns.Msg
		want   []string
	}{
		{"nothing wrong", func(_ string, q, r *dns.Msg) *dns.Msg { return r }, nil},
		{"no UDP", func(n string, q, r *dns.Msg) *dns.Msg {
			if n == "udp" {
				return nil
			}
			return r
		}, []string{"udp"}},
		{"no TCP", func(n string, q, r *dns.Msg) *dns.Msg {
			if n == "tcp" {
				return nil
			}
			return r
		}, []string{"tcp"}},
		{"a resolver's answers", func(_ string, q, r *dns.Msg) *dns.Msg {
			r.RecursionAvailable = true
			return r
		}, []string{"rfc8906 8.1.1", "rfc8906 8.1.2", "rfc8906 8.1.3.1", "rfc8906 8.1.3.2", "rfc8906 8.1.3.3", "rfc8906 8.1.3.4", "rfc8906 8.1.4", "rfc8906 8.1.5",
			"rfc8906 8.2.1", "rfc8906 8.2.10", "rfc8906 8.2.2", "rfc8906 8.2.3", "rfc8906 8.2.4", "rfc8906 8.2.5", "rfc8906 8.2.6", "rfc8906 8.2.7", "rfc8906 8.2.8", "rfc8906 8.2.9"}},
		{"unknown opcodes dropped", func(_ string, q, r *dns.Msg) *dns.Msg {
			if q.Opcode != 0 {
				return nil
			}
			return r
		}, []string{"rfc8906 8.1.4"}},
		{"EDNS version 1 answered as version 0", func(_ string, q, r *dns.Msg) *dns.Msg {
			if r.Rcode == dns.RcodeBadVers {
				r.Rcode = 0
				r.IsEdns0().SetExtendedRcode(0)
			}
			return r
		}, []string{"rfc8906 8.2.2", "rfc8906 8.2.5", "rfc8906 8.2.6", "rfc8906 8.2.9"}},
		{"unknown options echoed", func(_ string, q, r *dns.Msg) *dns.Msg {
			if o := q.IsEdns0(); o != nil && r.Rcode == 0 {
				for _, e := range o.Option {
					if e.Option() == 100 {
						r.IsEdns0().Option = append(r.IsEdns0().Option, e)
					}
				}
			}
			return r
		}, []string{"rfc8906 8.2.3"}},
		{"unknown flags copied", func(_ string, q, r *dns.Msg) *dns.Msg {
			if o := q.IsEdns0(); o != nil && r.Rcode == 0 {
				r.IsEdns0().SetZ(o.Z())
			}
			return r
		}, []string{"rfc8906 8.2.4"}},
		{"the reserved header bit copied", func(_ string, q, r *dns.Msg) *dns.Msg {
			r.Zero = q.Zero
			return r
		}, []string{"rfc8906 8.1.3.3"}},
		{"unknown types dropped", func(_ string, q, r *dns.Msg) *dns.Msg {
			if len(q.Question) == 1 && q.Question[0].Qtype == 1000 {
				return nil
			}
			return r
		}, []string{"rfc8906 8.1.2"}},
		{"ECS scope 0", func(_ string, q, r *dns.Msg) *dns.Msg {
			options(r, func(e dns.EDNS0) dns.EDNS0 {
				if e, ok := e.(*dns.EDNS0_SUBNET); ok {
					e.SourceScope = 0
				}
				return e
			})
			return r
		}, []string{"join 192.0.2.0/27", "join 198.51.100.0/27"}},
		{"ECS scope over two countries", func(_ string, q, r *dns.Msg) *dns.Msg {
			options(r, func(e dns.EDNS0) dns.EDNS0 {
				if e, ok := e.(*dns.EDNS0_SUBNET); ok && e.SourceNetmask > 0 {
					e.SourceScope = 4
				}
				return e
			})
			return r
		}, []string{"ecs-scope"}},
		{"ECS not answered", func(_ string, q, r *dns.Msg) *dns.Msg {
			options(r, func(e dns.EDNS0) dns.EDNS0 {
				if e.Option() == dns.EDNS0SUBNET {
					return nil
				}
				return e
			})
			return r
		}, []string{"join 192.0.2.0/27", "join 198.51.100.0/27"}},
		{"a jurisdiction without an edge", func(_ string, q, r *dns.Msg) *dns.Msg {
			if is(q, "de.join.media.example.", dns.TypeA) {
				r.Answer = nil
			}
			return r
		}, []string{"served"}},
		{"cookies dropped", func(_ string, q, r *dns.Msg) *dns.Msg {
			options(r, func(e dns.EDNS0) dns.EDNS0 {
				if e.Option() == dns.EDNS0COOKIE {
					return nil
				}
				return e
			})
			return r
		}, []string{"cookies"}},
		{"other name servers", func(_ string, q, r *dns.Msg) *dns.Msg {
			if is(q, "media.example.", dns.TypeNS) && q.IsEdns0() != nil && !q.IsEdns0().Do() {
				r.Answer[0].(*dns.NS).Ns = "ns9.media.example."
			}
			return r
		}, []string{"ns"}},
		{"a name server without an address", func(_ string, q, r *dns.Msg) *dns.Msg {
			if is(q, "ns1.media.example.", dns.TypeA) {
				r.Answer = nil
			}
			return r
		}, []string{"glue ns1.media.example."}},
		{"fragments", func(n string, q, r *dns.Msg) *dns.Msg {
			if n == "udp" && is(q, "join.media.example.", dns.TypeHTTPS) {
				r.Ns = append(r.Ns, &dns.TXT{Hdr: dns.RR_Header{Name: "media.example.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: slices.Repeat([]string{strings.Repeat("x", 250)}, 6)})
			}
			return r
		}, []string{"sizes"}},
		{"a signature of something else", func(_ string, q, r *dns.Msg) *dns.Msg {
			if soa(q) && len(r.Answer) > 1 { // with its RRSIG
				r.Answer[0].(*dns.SOA).Serial++
			}
			return r
		}, []string{"dnssec"}},
		{"signatures taken out", func(_ string, q, r *dns.Msg) *dns.Msg {
			if is(q, "bailiwick-check.media.example.", dns.TypeA) {
				r.Ns = slices.DeleteFunc(r.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG })
			}
			return r
		}, []string{"dnssec"}},
		{"a CDS of another key", func(_ string, q, r *dns.Msg) *dns.Msg {
			if is(q, "media.example.", dns.TypeCDS) {
				r.Answer[0].(*dns.CDS).KeyTag++
			}
			return r
		}, []string{"cds"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			code, rows, _ := dnsCheck(t, "--server", meddler(t, good.Addr().String(), r.meddle), "--subnet", "192.0.2.0/27", "--subnet", "198.51.100.0/27")
			slices.Sort(r.want)
			if got := failed(rows); !slices.Equal(got, r.want) {
				t.Errorf("failed %v, want %v: %v", got, r.want, rows)
			}
			if (code == exitFinding) != (r.want != nil) {
				t.Errorf("exit code %d", code)
			}
			for _, row := range rows {
				if row.OK == (row.Do != "") {
					t.Errorf("%s: ok %v, do %q", row.Check, row.OK, row.Do)
				}
			}
		})
	}
}

func TestDNSCheckOfNodesThatDiffer(t *testing.T) {
	_, signer := zoneKeys(t, time.Now())
	_, other := zoneKeys(t, time.Now())
	a, b := dnsNode(t), dnsNode(t, func(c *geodns.Config) { c.Secrets = func() geodns.Secrets { return geodns.Secrets{{2}} } })
	a.SetSigner(signer)
	b.SetSigner(other)
	code, rows, _ := dnsCheck(t, "--server", a.Addr().String(), "--server", b.Addr().String())
	if want := []string{"agreement", "shared cookies"}; code != exitFinding || !slices.Equal(failed(rows), want) {
		t.Errorf("exit code %d, failed %v, want %v", code, failed(rows), want)
	}
	for _, r := range rows {
		if r.Check == "agreement" && (!strings.Contains(r.Detail, "DNSKEY: ") || strings.Contains(r.Detail, "join")) {
			t.Errorf("agreement: %s: want the keys, and nothing else", r.Detail)
		}
	}
}

func TestDNSCheckOfTheParent(t *testing.T) {
	set, signer := zoneKeys(t, time.Now())
	strange, _ := zoneKeys(t, time.Now())
	s := dnsNode(t)
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
		{"no delegation", delegation(nil, "", ds(set)), []string{"delegation"}},
		{"another name server", delegation([]string{ns1, "ns2.media.example."}, "127.0.0.1", ds(set)), []string{"delegation"}},
		{"no glue", delegation([]string{ns1}, "", ds(set)), []string{"delegation"}},
		{"other glue", delegation([]string{ns1}, "127.0.0.2", ds(set)), []string{"delegation"}},
		{"no DS though the zone asks for one", delegation([]string{ns1}, "127.0.0.1"), []string{"ds"}},
		{"a DS of another key", delegation([]string{ns1}, "127.0.0.1", ds(strange)), []string{"ds"}},
		{"no answer", func(string, *dns.Msg, *dns.Msg) *dns.Msg { return nil }, []string{"delegation", "ds"}},
	} {
		_, rows, _ := dnsCheck(t, "--server", s.Addr().String(), "--ns", "127.0.0.1", "--parent", meddler(t, "", r.parent))
		if got := failed(rows); !slices.Equal(got, r.want) {
			t.Errorf("%s: failed %v, want %v", r.name, got, r.want)
		}
	}
	unsigned := dnsNode(t)
	_, rows, _ := dnsCheck(t, "--server", unsigned.Addr().String(), "--ns", "127.0.0.1", "--parent", meddler(t, "", delegation([]string{ns1}, "127.0.0.1", ds(set))))
	if got := failed(rows); !slices.Equal(got, []string{"ds"}) {
		t.Errorf("an unsigned zone under a DS: failed %v, want ds", got)
	}
}

// TestDNSCheckReadsTheZoneFile: its NS records are what is wanted, and whom to ask.
func TestDNSCheckReadsTheZoneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "zone.db")
	text := "@ NS ns.media.example.\n@ NS ns2.example.org.\nns A 127.0.0.1\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	z, err := geodns.ParseRecords("media.example", path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s := dnsNode(t, func(c *geodns.Config) { c.Records = z })
	if code, rows, _ := dnsCheck(t, "--server", s.Addr().String(), "--zone-file", path); code != 0 {
		t.Errorf("exit code %d, failed %v: %v", code, failed(rows), rows)
	}
	if _, rows, _ := dnsCheck(t, "--server", s.Addr().String()); !slices.Equal(failed(rows), []string{"glue ns1.media.example.", "ns"}) {
		t.Errorf("without the file: failed %v", failed(rows))
	}
	c := dnsCheckCmd{Map: shippedMap, zoneFlags: zoneFlags{ZoneFile: path}}
	if _, servers, err := c.plan(&env{}); err != nil || len(servers) != 1 || servers[0].String() != "127.0.0.1:53" {
		t.Errorf("servers: got %v, %v; want the zone file's", servers, err)
	}
}

func TestDNSCheckPrintsATable(t *testing.T) {
	s := dnsNode(t)
	var stdout, stderr bytes.Buffer
	args := []string{"dns", "check", "--map", shippedMap, "--server", s.Addr().String(), "--ns", "192.0.2.9"}
	if code := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr); code != exitFinding {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	for _, want := range []string{"SERVER", "FAIL", "[127.0.0.1]: want [192.0.2.9]", "glue ns1.media.example.: let the zone file", " checks, 1 failed\n"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, stdout.String())
		}
	}
}

func TestDNSCheckMisuse(t *testing.T) {
	for _, r := range []struct {
		name, want string
		args       []string
	}{
		{"nobody to ask", "name them with --server", nil},
		{"a name in place of an address", `--server "ns1.example": want an IP address`, []string{"--server", "ns1.example"}},
		{"a parent that is none", `--parent "x"`, []string{"--server", "127.0.0.1", "--parent", "x"}},
		{"no zone file", "--zone-file", []string{"--server", "127.0.0.1", "--zone-file", "missing.db"}},
		{"no certificates", "--tls-ca", []string{"--server", "127.0.0.1", "--tls-ca", shippedMap}},
	} {
		if code, _, stderr := dnsCheck(t, r.args...); code != exitMisuse || !strings.Contains(stderr, r.want) {
			t.Errorf("%s: exit code %d, %q; want %s", r.name, code, stderr, r.want)
		}
	}
}
