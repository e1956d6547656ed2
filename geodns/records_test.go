package geodns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
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
	z, err := ParseRecords(zone, "zone.db", []byte(text))
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
	if m := exchange(t, s, pack(t, ask("www.media.example.", dns.TypeA)), dubai, overUDP); len(m.Answer) != 1 || len(m.Ns) != 1 {
		t.Errorf("a CNAME to a steered name without a lawful edge: got %v, want the CNAME alone, and the SOA", m)
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

func TestRecordFaults(t *testing.T) {
	for _, r := range []struct {
		name, text string
		want       []string // one a fault, in order; a part of each
	}{
		{"all syntax at once", "a A 1.2.3\nb A 198.18.0.1\nc BLA 1\n\nd MX\ne A oops\n", []string{"zone.db:1: bad A A", "zone.db:3: ", "zone.db:5: bad MX", "zone.db:6: "}},
		{"no data", "a TXT\nb DS\n", []string{"zone.db:1: ", "zone.db:2: "}},
		{"a directive survives the line before", "x A oops\n$ORIGIN sub\ny A oops\nz.media.example. A 198.18.0.1\n", []string{"zone.db:1: ", "zone.db:3: "}},
		{"a fault in parentheses is one", "a A ( oops\n 1 2\n )\nb A oops\n", []string{"zone.db:1: bad A A", "zone.db:4: bad A A"}},
		{"an unknown type", "a BLA 1\n", []string{`zone.db:1: not a TTL: "BLA": want NAME [TTL] [IN] TYPE DATA; a type without a name is written TYPE123 \# LENGTH HEX`}},
		{"$INCLUDE", "$INCLUDE /etc/passwd\n", []string{"zone.db:1: $INCLUDE directive not allowed: \"/etc/passwd\": put its records into this file"}},
		{"another zone", "a.example. A 198.18.0.1\n", []string{"zone.db:1: a.example. A: outside of media.example."}},
		{"another class", "a CH A 198.18.0.1\n", []string{"zone.db:1: "}},
		{"two SOA", strings.Repeat("@ SOA ns1 a 1 2 3 4 5\n", 2), []string{"zone.db:2: media.example. SOA: a second SOA: keep one"}},
		{"SOA below", "a SOA ns1 a 1 2 3 4 5\n", []string{"zone.db:1: a.media.example. SOA: want SOA at media.example. only"}},
		{"steered names", "join A 198.18.0.1\nde.join TXT x\nx.y.edge A 198.18.0.1\n_turn._udp SRV 0 0 1 a\nx._stun._udp TXT x\n_udp TXT x\n@ NAPTR 1 1 \"s\" \"\" \"\" a\n",
			[]string{"zone.db:1: join.media.example. A: the server answers", "zone.db:2: ", "zone.db:3: ", "zone.db:4: ", "zone.db:5: ", "zone.db:6: ", "zone.db:7: "}},
		{"ns1 without NS", "ns1 A 198.18.0.1\n", []string{"zone.db:1: ns1.media.example.: the server answers for this name itself"}},
		{"a CNAME beside others", "a A 198.18.0.1\n\n; here\na CNAME b\nb A 198.18.0.1\n", []string{"zone.db:1: a.media.example.: a CNAME beside other records"}},
		{"a wildcard that is its own target", "a CNAME x.w\n*.w CNAME y.w\n", []string{"zone.db:1: a.media.example. CNAME: a loop", "zone.db:2: *.w.media.example. CNAME: a loop"}},
		{"a type that is only asked for", "b TYPE200 \\# 1 00\n", []string{"zone.db:1: b.media.example. TYPE200: a type that no zone holds"}},
		{"two CNAMEs", "a CNAME b\na CNAME c\n", []string{"zone.db:1: a.media.example.: a CNAME beside"}},
		{"a CNAME at the apex", "@ CNAME b\n", []string{"zone.db:1: media.example.: a CNAME beside"}},
		{"a CNAME loop", "a CNAME b\nb CNAME a\n", []string{"zone.db:1: a.media.example. CNAME: a loop", "zone.db:2: "}},
		{"an escape for a steered name, and for the apex", "\\106oin A 198.18.0.1\nx.\\109edia.example. TXT x\njoin TXT x\n", []string{"zone.db:1: join.media.example. A: the server answers", "zone.db:3: "}},
		{"a loop of escapes", "a CNAME \\065\nb CNAME b.\\109edia.example.\n", []string{"zone.db:1: a.media.example. CNAME: a loop", "zone.db:2: b.media.example. CNAME: a loop"}},
		{"an escape beside what it stands for", "\\065 A 198.18.0.1\na CNAME b\n", []string{"zone.db:1: A.media.example.: a CNAME beside"}},
		{"a delegation", "sub NS ns.sub\nns.sub A 198.18.0.1\n", []string{"zone.db:1: sub.media.example. NS: a delegation, which this server does not serve"}},
		{"DNSSEC", "@ DNSKEY 256 3 13 aaaa\na DS 1 13 2 00\n", []string{"zone.db:1: media.example. DNSKEY: the signer makes it", "zone.db:2: a.media.example. DS: this zone delegates nothing"}},
		{"types that nobody can sign", "a SIG A 13 2 5 20261201000000 20261101000000 1 example. AAAA\na TYPE38 \\# 1 00\na NXT b A\n",
			[]string{"zone.db:1: a.media.example. SIG: obsolete, and no signer makes its canonical form", "zone.db:2: ", "zone.db:3: "}},
		{"DNAME", "a DNAME b\n", []string{"zone.db:1: a.media.example. DNAME: not served"}},
		{"a name server without an address", "@ NS ns2\n", []string{"zone.db:1: media.example. NS: ns2.media.example. has no address"}},
		{"a mail exchanger that is an alias", "@ MX 1 m\nm CNAME a\na A 198.18.0.1\n", []string{"zone.db:1: media.example. MX: m.media.example. is a CNAME"}},
		{"two TTLs in a set", "a 60 A 198.18.0.1\na 61 A 198.18.0.2\n", []string{"zone.db:2: a.media.example. A: TTL 61, and 60 before"}},
		{"a TTL without end", "a 2147483648 A 198.18.0.1\n", []string{"zone.db:1: "}},
		{"a record over lines", "@ SOA ns1 a (\n1 2 3\n4 5)\n\nb.example. A 198.18.0.1\n", []string{"zone.db:5: b.example. A: outside"}},
		{"a set too large", strings.Repeat("a TXT \""+strings.Repeat("x", 250)+"\" \"$\"\n", 1) + "$GENERATE 1-200 a TXT \"" + strings.Repeat("x", 250) + "$\"\n", []string{"more than 16384 octets in one set"}},
		{"too many records", "$GENERATE 1-10001 h$ A 198.18.0.1\n", []string{"more than 10000 records"}},
		{"records too long", "$GENERATE 1-9000 h$ TXT" + strings.Repeat(" "+strings.Repeat("x", 250), 20) + "\n", []string{"more than 4194304 octets of records"}},
		{"too many names above records", "$GENERATE 1-9000 " + strings.Repeat("a.", 100) + "h$ A 198.18.0.1\n", slices.Repeat([]string{"more than 40000 names"}, 20)},
		{"too large", strings.Repeat(";", maxZoneFile+1), []string{"zone.db:1: 1048577 octets: want at most 1048576"}},
		{"no more than 20", strings.Repeat("a A oops\n", 100), slices.Repeat([]string{"bad A A"}, 20)},
	} {
		z, err := ParseRecords(zone, "zone.db", []byte(r.text))
		if err == nil || z != nil {
			t.Errorf("%s: got no error", r.name)
			continue
		}
		got := strings.Split(err.Error(), "\n")
		bad := len(got) != len(r.want) && r.name != "a set too large"
		for i := range min(len(got), len(r.want)) {
			bad = bad || !strings.Contains(got[i], r.want[i])
		}
		if bad {
			t.Errorf("%s: got\n%s\nwant\n%s", r.name, err, strings.Join(r.want, "\n"))
		}
	}
}

// TestRecordsTaken: what is unusual, or as much as there may be, is no fault.
func TestRecordsTaken(t *testing.T) {
	for _, r := range []struct{ name, text string }{
		{"a mail exchanger without an address", "@ MX 10 later\n"},
		{"below a service that does not steer", "a._sip._udp TXT x\n"},
		{"as many records as there may be", "$GENERATE 1-10000 h$ A 198.18.0.1\n"},
	} {
		if _, err := ParseRecords(zone, "zone.db", []byte(r.text)); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
	}
}

// No zone file brings in a loop: if one is there, an answer still ends.
func TestLoopIsBounded(t *testing.T) {
	s := listen(t, withRecords(t, "a CNAME b\n"))
	s.current().records.nodes[key([]string{"a"})][dns.TypeCNAME][0].(*dns.CNAME).Target = "a.media.example."
	m := exchange(t, s, pack(t, ask("a.media.example.", dns.TypeA)), berlin, overTCP)
	if len(m.Answer) != 1+maxChain || m.Rcode != noerror {
		t.Errorf("got %v, want the alias %d times", m, 1+maxChain)
	}
}

// TestSignable: what a signed zone serves lives no longer than its keys wait.
func TestSignable(t *testing.T) {
	const text = "@ 86400 SOA ns1 a 1 2 3 4 5\n@ 7200 MX 10 mail\nmail 3600 A 198.18.0.1\n\na 3601 TXT x\n"
	z, err := ParseRecords(zone, "zone.db", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"zone.db:2: media.example. MX: TTL 7200: want at most 3600 in a signed zone", "zone.db:5: a.media.example. TXT: TTL 3601: "}
	err = z.Signable(time.Hour)
	if err == nil {
		t.Fatal("got no error")
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) || !strings.HasPrefix(got[0], want[0]) || !strings.HasPrefix(got[1], want[1]) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := z.Signable(2*time.Hour + time.Second); err != nil {
		t.Errorf("with a longer wait: %v", err)
	}
}

func TestSetRecords(t *testing.T) {
	ns := func(c *Config) { c.Addr = netip.MustParseAddrPort("0.0.0.0:0") }
	s := listen(t, withRecords(t, zoneFile), ns)
	none, err := ParseRecords(zone, "zone.db", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, z := range []*Records{none, nil} {
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
	next, err := ParseRecords(zone, "zone.db", []byte(strings.Replace(zoneFile, "198.18.200.2", "198.18.200.7", 1)))
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

// FuzzParseRecords: a zone file that is taken is one that can be served.
func FuzzParseRecords(f *testing.F) {
	f.Add(zoneFile)
	f.Add("* A 198.18.0.1\n\\000 TXT ( \"a\"\n)\n")
	f.Add("$ORIGIN x\n$TTL 1\na CNAME b\nb CNAME a\n")
	f.Fuzz(func(t *testing.T, text string) {
		z, err := ParseRecords(zone, "zone.db", []byte(text))
		if err != nil {
			return
		}
		s := listen(t, func(c *Config) { c.Records = z })
		defer s.Close()
		for at, n := range z.nodes {
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
