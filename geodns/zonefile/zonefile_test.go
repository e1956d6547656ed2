package zonefile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const zone = "media.example"

func TestFaults(t *testing.T) {
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
		{"too large", strings.Repeat(";", maxFile+1), []string{"zone.db:1: 1048577 octets: want at most 1048576"}},
		{"no more than 20", strings.Repeat("a A oops\n", 100), slices.Repeat([]string{"bad A A"}, 20)},
	} {
		z, err := Parse(zone, "zone.db", []byte(r.text))
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

// TestTaken: what is unusual, or as much as there may be, is no fault.
func TestTaken(t *testing.T) {
	for _, r := range []struct{ name, text string }{
		{"a mail exchanger without an address", "@ MX 10 later\n"},
		{"below a service that does not steer", "a._sip._udp TXT x\n"},
		{"as many records as there may be", "$GENERATE 1-10000 h$ A 198.18.0.1\n"},
	} {
		if _, err := Parse(zone, "zone.db", []byte(r.text)); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
	}
}

// TestSignable: what a signed zone serves lives no longer than its keys wait.
func TestSignable(t *testing.T) {
	const text = "@ 86400 SOA ns1 a 1 2 3 4 5\n@ 7200 MX 10 mail\nmail 3600 A 198.18.0.1\n\na 3601 TXT x\n"
	z, err := Parse(zone, "zone.db", []byte(text))
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

// TestFind: a name's own node, else the wildcard's of its closest encloser, and none below
// what steers.
func TestFind(t *testing.T) {
	z, err := Parse(zone, "zone.db", []byte("* A 198.18.0.1\n*.apps A 198.18.0.2\nsip.apps A 198.18.0.3\na.b TXT x\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		labels   string
		want     string // its address; empty: a node without one
		wild, ok bool
	}{
		{"", "", false, true},
		{"x", "198.18.0.1", true, true},
		{"x.y", "198.18.0.1", true, true},
		{"x.apps", "198.18.0.2", true, true},
		{"sip.apps", "198.18.0.3", false, true},
		{"x.sip.apps", "", false, false},
		{"b", "", false, true},
		{"join", "", false, true},
		{"x.join", "", false, false},
		{"x._turn._udp", "", false, false},
		{"ns1", "", false, true},
	} {
		n, wild, ok := z.Find([]byte(key(dns.SplitDomainName(r.labels))))
		got := ""
		if a := n[dns.TypeA]; a != nil {
			got = a[0].(*dns.A).A.String()
		}
		if got != r.want || wild != r.wild || ok != r.ok {
			t.Errorf("%s: got %q, wild %v, %v; want %q, %v, %v", r.labels, got, wild, ok, r.want, r.wild, r.ok)
		}
	}
}

// FuzzParse: of a file that is taken, every node has a name that can be found, and every
// record can be sent. What is not taken is told with its line.
func FuzzParse(f *testing.F) {
	f.Add("@ SOA ns1 a 1 2 3 4 5\n* A 198.18.0.1\n\\000 TXT ( \"a\"\n)\n")
	f.Add("$ORIGIN x\n$TTL 1\na CNAME b\nb CNAME a\n")
	f.Fuzz(func(t *testing.T, text string) {
		z, err := Parse(zone, "zone.db", []byte(text))
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "zone.db:") {
					t.Fatalf("a fault without its line: %q", line)
				}
			}
			return
		}
		var b [dns.MaxMsgSize]byte
		for rel, n := range z.All() {
			if _, _, err := dns.UnpackDomainName([]byte(rel+"\x05media\x07example\x00"), 0); err != nil {
				t.Fatalf("%q: %v", rel, err)
			}
			if found, wild, ok := z.Find([]byte(rel)); !ok || wild || len(found) != len(n) {
				t.Fatalf("%q: found %v, wild %v, %v", rel, found, wild, ok)
			}
			for _, set := range n {
				for _, rr := range set {
					if _, err := dns.PackRR(rr, b[:], 0, nil, false); err != nil {
						t.Fatalf("%v: %v", rr, err)
					}
				}
			}
		}
		z.Signable(time.Hour)
	})
}
