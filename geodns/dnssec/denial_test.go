package dnssec

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestNSEC(t *testing.T) {
	for _, c := range []struct {
		name string
		of   Name
		want string
	}{
		{"missing", Name{Owner: "Nope.media.example.", Types: []uint16{dns.TypeA}, Asked: dns.TypeA, TTL: 5},
			`Nope.media.example. 5 IN NSEC \000.nope.media.example. RRSIG NSEC NXNAME`},
		{"empty non-terminal", Name{Owner: "edge.media.example.", Exists: true, Asked: dns.TypeA, TTL: 5},
			`edge.media.example. 5 IN NSEC \000.edge.media.example. RRSIG NSEC`},
		{"no such type", Name{Owner: "join.media.example.", Exists: true, Types: []uint16{dns.TypeAAAA, dns.TypeA}, Asked: dns.TypeTXT, TTL: 5},
			`join.media.example. 5 IN NSEC \000.join.media.example. A AAAA RRSIG NSEC`},
		{"none for this client", Name{Owner: "join.media.example.", Exists: true, Types: []uint16{dns.TypeAAAA, dns.TypeA}, Asked: dns.TypeA, TTL: 5},
			`join.media.example. 5 IN NSEC \000.join.media.example. AAAA RRSIG NSEC`},
		{"asked for nsec", Name{Owner: "join.media.example.", Exists: true, Types: []uint16{dns.TypeA}, Asked: dns.TypeNSEC, TTL: 5},
			`join.media.example. 5 IN NSEC \000.join.media.example. A RRSIG NSEC`},
		{"types twice, and meta types", Name{Owner: "media.example.", Exists: true, Types: []uint16{dns.TypeSOA, dns.TypeNSEC, dns.TypeSOA, dns.TypeANY, dns.TypeOPT, dns.TypeNXNAME, 0}, TTL: 5},
			`media.example. 5 IN NSEC \000.media.example. SOA RRSIG NSEC`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(strings.Fields(NSEC(c.of).String()), " "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestSuccessor: the next name is a name, comes after in canonical order (RFC 4034
// section 6.1), and nothing fits between where a shorter step is possible.
func TestSuccessor(t *testing.T) {
	long := strings.Repeat("a", 63) + "."
	base := strings.Repeat(long, 3) // 192 octets
	for _, c := range []struct{ name, of, want string }{
		{"short", "a.example.", `\000.a.example.`},
		{"253 octets still take a label", base + strings.Repeat("b", 59) + ".", `\000.` + base + strings.Repeat("b", 59) + "."},
		{"254 octets take one more", "c." + base + strings.Repeat("b", 58) + ".", `c\000.` + base + strings.Repeat("b", 58) + "."},
		{"254 octets, and no label takes one more", base + strings.Repeat("b", 60) + ".", strings.Repeat("a", 62) + "b." + strings.Repeat(long, 2) + strings.Repeat("b", 60) + "."},
		{"255 octets are raised", "c." + base + strings.Repeat("b", 59) + ".", "d." + base + strings.Repeat("b", 59) + "."},
		{"over the capitals", "@." + base + strings.Repeat("b", 59) + ".", "[." + base + strings.Repeat("b", 59) + "."},
		{"over the end of a label", `\255.` + base + strings.Repeat("b", 59) + ".", strings.Repeat("a", 62) + "b." + strings.Repeat(long, 2) + strings.Repeat("b", 59) + "."},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := successor(c.of)
			if got != c.want {
				t.Fatalf("got  %s\nwant %s", got, c.want)
			}
			if compareNames(t, c.of, got) >= 0 {
				t.Error("it does not come after")
			}
		})
	}
}

// compareNames is the canonical order of names.
func compareNames(t *testing.T, a, b string) int {
	t.Helper()
	la, lb := wireLabels(t, a), wireLabels(t, b)
	for i := 1; i <= min(len(la), len(lb)); i++ {
		if c := bytes.Compare(la[len(la)-i], lb[len(lb)-i]); c != 0 {
			return c
		}
	}
	return len(la) - len(lb)
}

func wireLabels(t *testing.T, name string) (labels [][]byte) {
	t.Helper()
	wire := make([]byte, 256)
	if _, err := dns.PackDomainName(name, wire, 0, nil, false); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for off := 0; wire[off] != 0; off += 1 + int(wire[off]) {
		labels = append(labels, bytes.ToLower(wire[off+1:off+1+int(wire[off])]))
	}
	return labels
}

func TestDenyVerifies(t *testing.T) {
	set, s := newSigner(t, ECDSAP256, false)
	c := NewSignatures(100)
	for _, owner := range []string{"media.example.", "*.media.example.", "*a.media.example.", `\000.media.example.`, `x\.y.media.example.`, "UPPER.media.example.",
		strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 47) + ".media.example."} {
		t.Run(owner[:min(len(owner), 20)], func(t *testing.T) {
			rrs, _, err := c.Deny(s, Name{Owner: owner, TTL: 5}, epoch)
			if err != nil {
				t.Fatal(err)
			}
			if rrs[0].Header().Name != owner || rrs[1].Header().Name != owner {
				t.Errorf("owners %q and %q, want %q", rrs[0].Header().Name, rrs[1].Header().Name, owner)
			}
			verify(t, set, rrs[1:], rrs[:1], epoch)
		})
	}
	if _, _, err := c.Deny(s, Name{Owner: "other.example.", TTL: 5}, epoch); err == nil {
		t.Error("a name of another zone was denied")
	}
}

func TestRcode(t *testing.T) {
	for _, c := range []struct {
		name           string
		exists, do, co bool
		want           int
	}{
		{"missing, plain", false, false, false, dns.RcodeNameError},
		{"missing, DO", false, true, false, dns.RcodeSuccess},
		{"missing, DO and CO", false, true, true, dns.RcodeNameError},
		{"missing, CO alone", false, false, true, dns.RcodeNameError},
		{"there, plain", true, false, false, dns.RcodeSuccess},
		{"there, DO and CO", true, true, true, dns.RcodeSuccess},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Rcode(c.exists, c.do, c.co); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}
