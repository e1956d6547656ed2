package geodns

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/dnstest"
	"bailiwick/steer"
	"bailiwick/tools/exectest"
)

// keys are those of a zone that is old enough to ask for its DS.
func keys(t testing.TB, split bool) (dnssec.Set, *dnssec.Signer) {
	t.Helper()
	set, err := dnssec.NewSet(zone, dnssec.ECDSAP256, split, time.Now().Add(-3*time.Hour))
	if err == nil {
		set, _, err = dnssec.Next(set, time.Now(), dnssec.DefaultPolicy(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	k, err := dnssec.NewSigner(set, dnssec.DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	return set, k
}

// do asks for signatures, co for true response codes too (RFC 9824 section 5.1).
func do(m *dns.Msg) { m.IsEdns0().SetDo() }
func co(m *dns.Msg) { m.IsEdns0().SetDo(); m.IsEdns0().SetCo(true) }

// signedNames are one of each kind.
var signedNames = []string{
	"media.example.", "join.media.example.", "JoIn.media.example.", "de.join.media.example.", "ae.join.media.example.", "zz.join.media.example.",
	"edge.media.example.", "de-fra-1.edge.media.example.", "fr-par-1.edge.media.example.", "de-fra-9.edge.media.example.",
	"_udp.media.example.", "_turn._udp.media.example.", "_turn._udp.join.media.example.", "_stun._udp.de.join.media.example.", "_turns._tcp.join.media.example.",
	"_tcp.de.join.media.example.", "_why.join.media.example.", "ns1.media.example.", "ns.media.example.", "mail.media.example.", "www.media.example.",
	"alias.media.example.", "out.media.example.", "dead.media.example.", "de.media.example.", "x.apps.media.example.", "X.y.apps.media.example.",
	"*.apps.media.example.", "apps.media.example.", "b.c.media.example.", "a.b.c.media.example.", "_sip._udp.media.example.", "odd.media.example.",
	"nope.media.example.", "a.nope.media.example.", "www.media.example.", `de\.join.media.example.`,
}

var signedTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSRV, dns.TypeNAPTR, dns.TypeSOA, dns.TypeNS, dns.TypeCAA, dns.TypeMX, dns.TypeTXT,
	dns.TypeCNAME, dns.TypeDS, dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY, dns.TypeNSEC, dns.TypeRRSIG, dns.TypeANY, dns.TypeHINFO, 65280}

var places = []string{berlin, dubai, nowhere, "192.0.2.65", "203.0.113.1", "198.51.100.1", "127.0.0.1"}

// TestEveryAnswerIsSigned asks every name for every type from every place: each set
// has a signature that verifies, nothing is denied that another query is given, and
// who does not ask for signatures gets what an unsigned zone gives.
func TestEveryAnswerIsSigned(t *testing.T) {
	for _, records := range []func(*Config){func(*Config) {}, withRecords(t, zoneFile)} {
		plain, s := listen(t, records), listen(t, records)
		_, k := keys(t, true)
		s.SetSigner(k)
		given, denied := map[string]string{}, map[string]string{}
		for _, name := range signedNames {
			for _, qtype := range signedTypes {
				for _, src := range places {
					what := fmt.Sprintf("%s %s from %s", name, dns.Type(qtype), src)
					m := exchange(t, s, pack(t, ask(name, qtype, do)), src, overTCP)
					verify(t, k, m, what)
					old := exchange(t, plain, pack(t, ask(name, qtype)), src, overTCP)
					if m.Rcode == refused {
						continue
					}
					for _, rr := range m.Answer {
						if c, ok := rr.(*dns.CNAME); ok && c.Target == "none.edge.media.example." {
							continue // who asks for CNAME is given none, as others have addresses there
						}
						given[dns.CanonicalName(rr.Header().Name)+" "+dns.Type(rr.Header().Rrtype).String()] = what
					}
					for _, rr := range m.Ns {
						if n, ok := rr.(*dns.NSEC); ok && old.Rcode == noerror {
							for _, typ := range signedTypes {
								if !slices.Contains(n.TypeBitMap, typ) && typ != qtype {
									denied[dns.CanonicalName(n.Hdr.Name)+" "+dns.Type(typ).String()] = what
								}
							}
						}
					}
					unsigned := exchange(t, s, pack(t, ask(name, qtype)), src, overTCP)
					if _, ours := k.Apex[qtype]; !ours && qtype != dns.TypeNSEC && qtype != dns.TypeRRSIG && unsigned.String() != withID(old, unsigned.Id).String() {
						t.Errorf("%s, without DO: got %v, want %v", what, unsigned, old)
					}
				}
			}
		}
		for set, what := range denied {
			if by, ok := given[set]; ok && !strings.HasSuffix(set, " HINFO") { // ANY's is in no zone (RFC 8482)
				t.Errorf("%s: %s denies it, %s has it", set, what, by)
			}
		}
		if len(given) < 40 || len(denied) < 100 {
			t.Errorf("%d sets given, %d denied: the test tried little", len(given), len(denied))
		}
	}
}

func withID(m *dns.Msg, id uint16) *dns.Msg { m.Id = id; return m }

// verify checks every signature of an answer, and that no set is without one.
func verify(t *testing.T, k *dnssec.Signer, m *dns.Msg, what string) {
	t.Helper()
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		type set struct {
			name string
			typ  uint16
		}
		sets, sigs := map[set][]dns.RR{}, map[set][]*dns.RRSIG{}
		for _, rr := range section {
			h := rr.Header()
			switch rr := rr.(type) {
			case *dns.OPT:
			case *dns.RRSIG:
				sigs[set{h.Name, rr.TypeCovered}] = append(sigs[set{h.Name, rr.TypeCovered}], rr)
			default:
				sets[set{h.Name, h.Rrtype}] = append(sets[set{h.Name, h.Rrtype}], rr)
			}
		}
		for at, rrs := range sets {
			ok := false
			for _, sig := range sigs[at] {
				for _, key := range k.Apex[dns.TypeDNSKEY] {
					if key := key.(*dns.DNSKEY); key.KeyTag() == sig.KeyTag && sig.Verify(key, rrs) == nil && sig.ValidityPeriod(time.Now()) {
						ok = true
					}
				}
			}
			if !ok {
				t.Errorf("%s: %s %s has no signature that verifies: %v", what, at.name, dns.Type(at.typ), m)
			}
		}
	}
}

func TestDenial(t *testing.T) {
	s := listen(t, withRecords(t, zoneFile))
	_, k := keys(t, false)
	s.SetSigner(k)
	for _, r := range []struct {
		name, owner string
		qtype       uint16
		alter       func(*dns.Msg)
		rcode       int
		answer, ns  string // the types of the records
		denied      string // the name and types of the NSEC
	}{
		{"missing", "nope.media.example.", dns.TypeA, do, noerror, "", "SOA RRSIG NSEC RRSIG", "nope.media.example. RRSIG NSEC NXNAME"},
		{"missing, to who takes the true code", "nope.media.example.", dns.TypeA, co, nxdom, "", "SOA RRSIG NSEC RRSIG", "nope.media.example. RRSIG NSEC NXNAME"},
		{"missing, unsigned", "nope.media.example.", dns.TypeA, noEDNS, nxdom, "", "SOA", ""},
		{"none for this client", "join.media.example.", dns.TypeA, do, noerror, "CNAME RRSIG", "SOA RRSIG NSEC RRSIG", "none.edge.media.example. RRSIG NSEC"},
		{"an empty non-terminal", "edge.media.example.", dns.TypeA, co, noerror, "", "SOA RRSIG NSEC RRSIG", "edge.media.example. RRSIG NSEC"},
		{"the end of an alias", "www.media.example.", dns.TypeTXT, do, noerror, "CNAME RRSIG", "SOA RRSIG NSEC RRSIG", "join.media.example. A AAAA NAPTR RRSIG NSEC HTTPS"},
		{"an alias of nothing", "dead.media.example.", dns.TypeA, do, noerror, "CNAME RRSIG", "SOA RRSIG NSEC RRSIG", "gone.media.example. RRSIG NSEC NXNAME"},
		{"an alias of nothing, the true code", "dead.media.example.", dns.TypeA, co, nxdom, "CNAME RRSIG", "SOA RRSIG NSEC RRSIG", "gone.media.example. RRSIG NSEC NXNAME"},
		{"a wildcard without the type", "x.apps.media.example.", dns.TypeTXT, do, noerror, "", "SOA RRSIG NSEC RRSIG", "x.apps.media.example. A RRSIG NSEC"},
		{"NSEC itself", "join.media.example.", dns.TypeNSEC, do, noerror, "NSEC RRSIG", "", "join.media.example. A AAAA NAPTR RRSIG NSEC HTTPS"},
		{"NSEC itself, unsigned", "nope.media.example.", dns.TypeNSEC, noEDNS, noerror, "NSEC", "", "nope.media.example. RRSIG NSEC NXNAME"},
		{"NSEC of an alias", "www.media.example.", dns.TypeNSEC, do, noerror, "NSEC RRSIG", "", "www.media.example. CNAME RRSIG NSEC"},
		{"RRSIG", "join.media.example.", dns.TypeRRSIG, do, noerror, "RRSIG", "", ""},
		{"the keys, unsigned", "media.example.", dns.TypeDNSKEY, noEDNS, noerror, "DNSKEY", "", ""},
		{"NXNAME is not asked for", "nope.media.example.", dns.TypeNXNAME, do, formerr, "", "", ""},
	} {
		q := ask(r.owner, r.qtype)
		r.alter(q)
		m := exchange(t, s, pack(t, q), dubai, overUDP)
		kinds := func(rrs []dns.RR) string {
			var list []string
			for _, rr := range rrs {
				list = append(list, dns.Type(rr.Header().Rrtype).String())
			}
			return strings.Join(list, " ")
		}
		denied := ""
		for _, rr := range append(slices.Clone(m.Answer), m.Ns...) {
			if n, ok := rr.(*dns.NSEC); ok {
				denied = n.Hdr.Name
				for _, typ := range n.TypeBitMap {
					denied += " " + dns.Type(typ).String()
				}
			}
		}
		if m.Rcode != r.rcode || kinds(m.Answer) != r.answer || kinds(m.Ns) != r.ns || denied != r.denied || m.Truncated {
			t.Errorf("%s: got %v, want %s, %q, %q, %q", r.name, m, dns.RcodeToString[r.rcode], r.answer, r.ns, r.denied)
		}
		if code, _ := edeOf(m); r.qtype == dns.TypeNXNAME && code != int(dns.ExtendedErrorCodeInvalidQueryType) {
			t.Errorf("%s: EDE %d, want 30", r.name, code)
		}
		if opt := m.IsEdns0(); opt != nil && opt.Co() != q.IsEdns0().Co() && r.rcode != formerr {
			t.Errorf("%s: CO is %v in the answer", r.name, opt.Co())
		}
	}
}

// TestWhatIsRemembered: the names of strangers take no room from those that steer.
func TestWhatIsRemembered(t *testing.T) {
	s := listen(t, withRecords(t, zoneFile+"*.calls CNAME ns\n"))
	_, k := keys(t, false)
	s.SetSigner(k)
	for i := range 50 {
		for _, name := range []string{"nope%d.media.example.", "x%d.apps.media.example.", "x%d.calls.media.example."} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT} {
				exchange(t, s, pack(t, ask(fmt.Sprintf(name, i), qtype, do)), berlin, overUDP)
				exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA, do)), berlin, overUDP)
			}
		}
	}
	// Of answers: join's, the SOA's, and that ns has no TXT. Of strangers' names: nope's
	// denial, the wildcard's address and its denial, the alias; and beside it ns's address.
	if a, d := s.signatures.Len(), s.denials.Len(); a != 3 || d != 4*50+1 {
		t.Errorf("%d answers and %d of strangers' names are remembered, want 3 and %d", a, d, 4*50+1)
	}
}

// Who is over the rate costs no signature.
func TestSlippedIsNotSigned(t *testing.T) {
	s := listen(t, func(c *Config) { c.Rate = 1 })
	s.now = func() time.Time { return now }
	_, k := keys(t, false)
	s.SetSigner(k)
	slipped := 0
	for i := range 100 {
		before := s.denials.Len()
		m := exchange(t, s, pack(t, ask(fmt.Sprintf("nope%d.media.example.", i), dns.TypeA, do)), berlin, overUDP)
		if m == nil || !m.Truncated {
			continue
		}
		if slipped++; s.denials.Len() != before {
			t.Fatalf("number %d: signed for an answer that is withheld: %v", i, m)
		}
	}
	if slipped == 0 {
		t.Error("none of 100 was withheld: the test proves nothing")
	}
}

func TestUnsignable(t *testing.T) {
	s := listen(t, withRecords(t, "rp RP a b\n"))
	// No zone file can bring one in: it stands for a fault of the signer.
	rp, _, _ := s.current().records.Find([]byte("\x02rp"))
	rp[dns.TypeRP][0].Header().Class = dns.ClassCHAOS
	_, k := keys(t, false)
	s.SetSigner(k)
	m := exchange(t, s, pack(t, ask("rp.media.example.", dns.TypeRP, do)), berlin, overUDP)
	if code, _ := edeOf(m); m.Rcode != dns.RcodeServerFailure || code != int(dns.ExtendedErrorCodeRRSIGsMissing) || len(m.Answer) > 0 {
		t.Errorf("got %v, want SERVFAIL, EDE 10", m)
	}
}

// TestDelv has BIND's validator ask over a socket, from several places and before
// and after a change of the world and of the keys.
func TestDelv(t *testing.T) {
	exectest.Need(t, "delv", "bind9-dnsutils")
	var current atomic.Pointer[steer.World]
	current.Store(demo())
	s := listen(t, withRecords(t, zoneFile), func(c *Config) {
		c.World = current.Load
		c.Geo = table(t, over("127.0.1.0/24", "DE"), over("127.0.2.0/24", "FR"), over("127.0.3.0/24", "AE"), over("127.0.4.0/24", "CA-QC"))
	})
	set, k := keys(t, false)
	s.SetSigner(k)
	serve(t, s)
	anchor := trust(t, set)
	const yes, no = "; fully validated", "; negative response, fully validated"
	queries := []struct{ name, from, owner, rrtype, want, holds string }{
		{"join from Germany", "127.0.1.1", "join.media.example", "A", yes, "198.18."},
		{"join from Germany, AAAA", "127.0.1.1", "JOIN.media.example", "AAAA", yes, "2001:db8:ffff:"},
		{"join from Québec", "127.0.4.1", "join.media.example", "A", yes, "198.18.2."},
		{"join from France", "127.0.2.1", "join.media.example", "A", yes, "198.18.5."},
		{"join from France, which has no IPv6", "127.0.2.1", "join.media.example", "AAAA", no, ""},
		{"join from Dubai is refused", "127.0.3.1", "join.media.example", "A", yes, "ncache nxrrset"}, // of an alias: validated
		{"pinned", "127.0.3.1", "de.join.media.example", "A", yes, ""},
		{"pinned and refused", "127.0.1.1", "ae.join.media.example", "A", no, ""},
		{"an edge", "127.0.1.1", "de-fra-1.edge.media.example", "AAAA", yes, ""},
		{"an edge's HTTPS", "127.0.1.1", "de-fra-1.edge.media.example", "HTTPS", yes, ""},
		{"SRV", "127.0.1.1", "_turn._udp.join.media.example", "SRV", yes, ""},
		{"NAPTR", "127.0.1.1", "media.example", "NAPTR", yes, ""},
		{"SOA", "127.0.1.1", "media.example", "SOA", yes, ""},
		{"NS", "127.0.1.1", "media.example", "NS", yes, ""},
		{"DNSKEY", "127.0.1.1", "media.example", "DNSKEY", yes, ""},
		{"CDS", "127.0.1.1", "media.example", "CDS", yes, ""},
		{"ANY", "127.0.1.1", "join.media.example", "ANY", yes, ""},
		{"a set that UDP does not hold", "127.0.1.1", "big.media.example", "TXT", yes, ""},
		{"an explanation", "127.0.1.1", "_why.join.media.example", "TXT", yes, ""},
		{"missing", "127.0.1.1", "nope.media.example", "A", no, ""},
		{"an empty non-terminal", "127.0.1.1", "edge.media.example", "A", no, ""},
		{"an empty non-terminal of the file", "127.0.1.1", "b.c.media.example", "A", no, ""},
		{"a wildcard", "127.0.1.1", "x.y.apps.media.example", "A", yes, ""},
		{"a wildcard without the type", "127.0.1.1", "x.apps.media.example", "TXT", no, ""},
		{"a wildcard by its own name", "127.0.1.1", "*.apps.media.example", "A", yes, ""},
		{"an alias into the steered names", "127.0.1.1", "www.media.example", "A", yes, ""},
	}
	run := func(round string, anchor dnstest.Anchor, queries []struct{ name, from, owner, rrtype, want, holds string }) {
		for _, q := range queries {
			t.Run(round+", "+q.name, func(t *testing.T) {
				if out := anchor.Delv(t, s.Addr(), q.owner, q.rrtype, "-b", q.from); !strings.Contains(out, q.want) || !strings.Contains(out, q.holds) {
					t.Errorf("want %q and %q:\n%s", q.want, q.holds, out)
				}
			})
		}
	}
	run("at first", anchor, queries)

	w := demo()
	w.Generation++
	for i := range w.Regions {
		if w.Regions[i].ID == "fr-par" {
			w.Regions[i].Mode = steer.Down
		}
	}
	current.Store(w)
	after := slices.Clone(queries[:6])
	after[3].holds = "198.18." // of a neighbour
	after[4].want = yes        // which has IPv6
	run("a region down", anchor, after)

	set2, k2 := keys(t, true)
	s.SetSigner(k2)
	run("other keys", trust(t, set2), after)
	if out := anchor.Delv(t, s.Addr(), "join.media.example", "A", "-b", "127.0.1.1"); strings.Contains(out, "fully validated") {
		t.Errorf("validated from a key that is gone: the test proves nothing\n%s", out)
	}
}

// trust is delv's anchor of the set's first key.
func trust(t *testing.T, set dnssec.Set) dnstest.Anchor {
	t.Helper()
	ds, err := set.DS(set.Keys[0], dns.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return dnstest.Trust(t, ds)
}
