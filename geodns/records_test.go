package geodns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bailiwick/geodns/zonefile"
)

const zoneFile = `; beside the steered names
$TTL 600
@		IN SOA	ns.media.example. dns-admin.media.example. (
			2026112401 7200 900 1209600 300 )
@		NS	ns
@		NS	ns.elsewhere.example.
@	300	A	198.18.200.1
@		MX	10 mail
@		TXT	"v=spf1 -all"
@		CAA	0 issue "ca.example"
ns		A	198.18.200.53
		AAAA	2001:db8:ffff::53
Mail		A	198.18.200.2
www		CNAME	join
alias		CNAME	www
out		CNAME	host.elsewhere.example.
dead		CNAME	gone
de		CNAME	de.join
*.apps		A	198.18.200.3
sip.apps	A	198.18.200.4
a.b.c		TXT	"deep"
_sip._udp	SRV	0 0 5060 mail
odd		TYPE65280 \# 4 0A000001
n$		A	198.18.200.9
$GENERATE 1-3 host$ A 198.18.201.$
$GENERATE 1-40 big TXT "number $ of a set that no datagram holds"
`

func withRecords(t testing.TB, text string) func(*Config) {
	t.Helper()
	z, err := zonefile.Parse(zone, "zone.db", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.Records = z }
}

func TestRecords(t *testing.T) {
	s := listen(t, withRecords(t, zoneFile))
	soa := "SOA ns.media.example. dns-admin.media.example. 3000000000 7200 900 1209600 5"
	for _, r := range []struct {
		name  string
		query string
		qtype uint16
		rcode int
		want  []string
		soa   bool
	}{
		{"the file's SOA, with this server's serial and negative TTL", "media.example.", dns.TypeSOA, noerror, []string{soa}, false},
		{"the file's name servers", "media.example.", dns.TypeNS, noerror, []string{"NS ns.media.example.", "NS ns.elsewhere.example."}, false},
		{"apex A", "media.example.", dns.TypeA, noerror, []string{"A 198.18.200.1"}, false},
		{"apex MX", "media.example.", dns.TypeMX, noerror, []string{"MX 10 mail.media.example."}, false},
		{"apex CAA (RFC 8659)", "media.example.", dns.TypeCAA, noerror, []string{`CAA 0 issue "ca.example"`}, false},
		{"apex AAAA is NODATA", "media.example.", dns.TypeAAAA, noerror, nil, true},
		{"an owner in capitals", "mail.media.example.", dns.TypeA, noerror, []string{"A 198.18.200.2"}, false},
		{"ns1 is not the file's", "ns1.media.example.", dns.TypeA, nxdom, nil, true},
		{"a CNAME to a steered name", "www.media.example.", dns.TypeA, noerror, []string{"CNAME join.media.example.", "A 198.18.3.1", "A 198.18.3.2"}, false},
		{"a CNAME to that", "Alias.media.example.", dns.TypeA, noerror, []string{"CNAME www.media.example.", "CNAME join.media.example.", "A 198.18.3.1", "A 198.18.3.2"}, false},
		{"a CNAME to a pinned name", "de.media.example.", dns.TypeA, noerror, []string{"CNAME de.join.media.example.", "A 198.18.3.1", "A 198.18.3.2"}, false},
		{"a CNAME to no such type (RFC 2308 section 2.2)", "www.media.example.", dns.TypeTXT, noerror, []string{"CNAME join.media.example."}, true},
		{"a CNAME to no such name (RFC 6604)", "dead.media.example.", dns.TypeA, nxdom, []string{"CNAME gone.media.example."}, true},
		{"a CNAME out of the zone", "out.media.example.", dns.TypeA, noerror, []string{"CNAME host.elsewhere.example."}, false},
		{"the CNAME itself", "www.media.example.", dns.TypeCNAME, noerror, []string{"CNAME join.media.example."}, false},
		{"a wildcard (RFC 4592)", "x.apps.media.example.", dns.TypeA, noerror, []string{"A 198.18.200.3"}, false},
		{"a wildcard stands for several labels", "X.y.apps.media.example.", dns.TypeA, noerror, []string{"A 198.18.200.3"}, false},
		{"a wildcard without the type", "x.apps.media.example.", dns.TypeTXT, noerror, nil, true},
		{"a wildcard by its own name", "*.apps.media.example.", dns.TypeA, noerror, []string{"A 198.18.200.3"}, false},
		{"a name beside a wildcard", "sip.apps.media.example.", dns.TypeA, noerror, []string{"A 198.18.200.4"}, false},
		{"below a name beside a wildcard (RFC 4592 section 3.3.1)", "x.sip.apps.media.example.", dns.TypeA, nxdom, nil, true},
		{"the wildcard's parent is an empty non-terminal", "apps.media.example.", dns.TypeA, noerror, nil, true},
		{"empty non-terminals (RFC 9156)", "b.c.media.example.", dns.TypeA, noerror, nil, true},
		{"and above that", "c.media.example.", dns.TypeA, noerror, nil, true},
		{"below the last name (RFC 8020)", "x.a.b.c.media.example.", dns.TypeA, nxdom, nil, true},
		{"beside the steered services", "_sip._udp.media.example.", dns.TypeSRV, noerror, []string{"SRV 0 0 5060 mail.media.example."}, false},
		{"a type without a name (RFC 3597)", "odd.media.example.", 65280, noerror, []string{`TYPE65280 \# 4 0a000001`}, false},
		{"$GENERATE", "host2.media.example.", dns.TypeA, noerror, []string{"A 198.18.201.2"}, false},
		{"ANY (RFC 8482)", "mail.media.example.", dns.TypeANY, noerror, []string{`HINFO "RFC8482" ""`}, false},
		{"ANY at a CNAME (RFC 8482 section 4.2)", "www.media.example.", dns.TypeANY, noerror, []string{"CNAME join.media.example."}, false},
		{"steering goes on", "join.media.example.", dns.TypeA, noerror, []string{"A 198.18.3.1", "A 198.18.3.2"}, false},
	} {
		m := exchange(t, s, pack(t, ask(r.query, r.qtype)), berlin, overUDP)
		if got := show(m.Answer); m.Rcode != r.rcode || !slices.Equal(got, r.want) || !m.Authoritative {
			t.Errorf("%s: got %s %q, AA %v; want %s %q", r.name, dns.RcodeToString[m.Rcode], got, m.Authoritative, dns.RcodeToString[r.rcode], r.want)
		}
		if got := show(m.Ns); slices.Equal(got, []string{soa}) != r.soa {
			t.Errorf("%s: authority %q, want the SOA: %v", r.name, got, r.soa)
		}
		if len(m.Answer) > 0 && m.Answer[0].Header().Name != r.query {
			t.Errorf("%s: owner %s, want %s", r.name, m.Answer[0].Header().Name, r.query)
		}
	}
	m := exchange(t, s, pack(t, ask("media.example.", dns.TypeNS)), berlin, overUDP)
	if got := show(m.Extra); !slices.Equal(got[:2], []string{"A 198.18.200.53", "AAAA 2001:db8:ffff::53"}) || m.Answer[0].Header().Ttl != 600 {
		t.Errorf("NS: additional %q, answer %v", got, m.Answer)
	}
	if m := exchange(t, s, pack(t, ask("www.media.example.", dns.TypeA, ecs("192.0.2.64/32"))), berlin, overUDP); scopeOf(m) != 27 || len(m.Answer) != 3 || show(m.Answer)[1] != "A 198.18.5.1" {
		t.Errorf("a CNAME to a steered name with ECS: got %v, want Paris, scope 27", m)
	}
	if m := exchange(t, s, pack(t, ask("www.media.example.", dns.TypeA)), dubai, overUDP); len(m.Answer) != 2 || len(m.Ns) != 1 {
		t.Errorf("a CNAME to a steered name without a lawful edge: got %v, want two CNAMEs and the SOA", m)
	}
	if m := exchange(t, s, pack(t, ask("www.media.example.", dns.TypeA, func(m *dns.Msg) { m.Question[0].Name = "_why.join.media.example." })), berlin, overUDP); m.Rcode != refused {
		t.Errorf("_why: got %v, want REFUSED", m)
	}
}

// TestApexWildcard: a wildcard at the apex takes no name from below those that steer.
func TestApexWildcard(t *testing.T) {
	s := listen(t, withRecords(t, "* 60 A 198.18.200.3\nwhy CNAME _why.join\n"))
	for name, want := range map[string]int{
		"x.media.example.": 1, "x.y.media.example.": 1, "x.join.media.example.": -1, "x.edge.media.example.": -1, "x.y.edge.media.example.": -1,
		"x.de.join.media.example.": -1, "x.ns1.media.example.": -1, "x._turn._udp.media.example.": -1, "x._udp.media.example.": -1,
		"_udp.media.example.": 0, "_turns._tcp.media.example.": 0, "edge.media.example.": 0,
	} {
		m := exchange(t, s, pack(t, ask(name, dns.TypeA)), berlin, overUDP)
		got := len(m.Answer)
		if m.Rcode == nxdom {
			got = -1
		}
		if got != want {
			t.Errorf("%s: got %d, want %d (records; -1: NXDOMAIN)", name, got, want)
		}
	}
	if m := exchange(t, s, pack(t, ask("why.media.example.", dns.TypeTXT)), berlin, overUDP); len(m.Answer) != 1 || m.Rcode != noerror || !m.Authoritative {
		t.Errorf("a CNAME to _why: got %v, want the CNAME alone", m)
	}
}

// No zone file brings in a loop: if one is there, an answer still ends.
func TestLoopIsBounded(t *testing.T) {
	s := listen(t, withRecords(t, "a CNAME b\n"))
	alias, _, _ := s.current().records.Find([]byte("\x01a"))
	alias[dns.TypeCNAME][0].(*dns.CNAME).Target = "a.media.example."
	m := exchange(t, s, pack(t, ask("a.media.example.", dns.TypeA)), berlin, overTCP)
	if len(m.Answer) != 1+zonefile.MaxChain || m.Rcode != noerror {
		t.Errorf("got %v, want the alias %d times", m, 1+zonefile.MaxChain)
	}
}

func TestSetRecords(t *testing.T) {
	ns := func(c *Config) { c.Addr = netip.MustParseAddrPort("0.0.0.0:0") }
	s := listen(t, withRecords(t, zoneFile), ns)
	none, err := zonefile.Parse(zone, "zone.db", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, z := range []*zonefile.Records{none, nil} {
		if err := s.SetRecords(z); err == nil || !strings.Contains(err.Error(), "the address of ns1.media.example is not known") {
			t.Errorf("without name servers: got %v, want an error", err)
		}
	}
	get := func() string {
		return fmt.Sprint(show(exchange(t, s, pack(t, ask("mail.media.example.", dns.TypeA)), berlin, overUDP).Answer))
	}
	if got := get(); got != "[A 198.18.200.2]" {
		t.Errorf("after a refused reload: got %s, want the records before", got)
	}
	next, err := zonefile.Parse(zone, "zone.db", []byte(strings.Replace(zoneFile, "198.18.200.2", "198.18.200.7", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetRecords(next); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != "[A 198.18.200.7]" {
		t.Errorf("after a reload: got %s", got)
	}
}

// FuzzZoneFile: a zone file that is taken is one that can be served.
func FuzzZoneFile(f *testing.F) {
	f.Add(zoneFile)
	f.Add("* A 198.18.0.1\n\\000 TXT ( \"a\"\n)\n")
	f.Add("$ORIGIN x\n$TTL 1\na CNAME b\nb CNAME a\n")
	f.Fuzz(func(t *testing.T, text string) {
		z, err := zonefile.Parse(zone, "zone.db", []byte(text))
		if err != nil {
			return
		}
		s := listen(t, func(c *Config) { c.Records = z })
		defer s.Close()
		for at, n := range z.All() {
			name, _, err := dns.UnpackDomainName([]byte(at+string(s.wire)), 0)
			if err != nil {
				t.Fatalf("%q: %v", at, err)
			}
			for qtype := range n {
				q := ask(name, qtype)
				if m := exchange(t, s, pack(t, q), berlin, overTCP); m == nil || m.Rcode == dns.RcodeServerFailure {
					t.Fatalf("%s %d: got %v", name, qtype, m)
				}
			}
		}
	})
}
