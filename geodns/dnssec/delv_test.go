package dnssec

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnstest"
	"bailiwick/tools/exectest"
)

// served is a small zone, answered as package geodns should answer: a Set, and how it
// is signed. It stands for the server only in this test.
type served struct {
	signer  *Signer
	answers *Signatures
	denials *Signatures
	corrupt bool // one bit of each signature is wrong
}

const testTTL = 5

// records are the zone's data; an empty type map is an empty non-terminal.
func (z *served) records(t *testing.T) map[string]map[uint16][]dns.RR {
	apex := map[uint16][]dns.RR{
		dns.TypeSOA: rrs(t, "media.example. 5 IN SOA ns1.media.example. hostmaster.media.example. 7 3600 600 604800 5"),
		dns.TypeNS:  rrs(t, "media.example. 3600 IN NS ns1.media.example."),
	}
	for rrtype, set := range z.signer.Apex {
		apex[rrtype] = set
	}
	return map[string]map[uint16][]dns.RR{
		"media.example.":     apex,
		"ns1.media.example.": {dns.TypeA: rrs(t, "ns1.media.example. 3600 IN A 127.0.0.1")},
		"join.media.example.": {
			dns.TypeA:     rrs(t, "join.media.example. 5 IN A 192.0.2.7", "join.media.example. 5 IN A 192.0.2.3"),
			dns.TypeHTTPS: rrs(t, `join.media.example. 5 IN HTTPS 1 . alpn="h2"`),
			dns.TypeAAAA:  nil, // the type exists for other clients
		},
		"edge.media.example.":          {},
		"de-fra-1.edge.media.example.": {dns.TypeAAAA: rrs(t, "de-fra-1.edge.media.example. 5 IN AAAA 2001:db8::1")},
	}
}

// answer does what a server must do for each kind of answer.
func (z *served) answer(t *testing.T, q *dns.Msg) (*dns.Msg, error) {
	now := time.Now()
	m := new(dns.Msg).SetReply(q)
	m.Authoritative, m.Compress = true, true
	var do, co bool
	if opt := q.IsEdns0(); opt != nil {
		do, co = opt.Do(), opt.Co()
		m.SetEdns0(1232, do)
		m.IsEdns0().SetCo(co)
	}
	name, asked := q.Question[0].Name, q.Question[0].Qtype
	zone := z.records(t)
	types, exists := zone[dns.CanonicalName(name)]
	signed := func(section, rrset []dns.RR) ([]dns.RR, error) {
		section = append(section, rrset...)
		if !do {
			return section, nil
		}
		sigs, _, err := z.answers.Sign(z.signer, rrset, now)
		return append(section, sigs...), err
	}
	var err error
	if set := types[asked]; set != nil {
		m.Answer, err = signed(nil, set)
		return m, err
	}
	var denial []dns.RR
	if do {
		n := Name{Owner: name, Exists: exists, Asked: asked, TTL: testTTL}
		for rrtype := range types {
			n.Types = append(n.Types, rrtype)
		}
		if denial, _, err = z.denials.Deny(z.signer, n, now); err != nil {
			return nil, err
		}
		if asked == dns.TypeNSEC {
			m.Answer = denial
			return m, nil
		}
	}
	m.Rcode = Rcode(exists, do, co)
	if m.Ns, err = signed(nil, zone["media.example."][dns.TypeSOA]); err != nil {
		return nil, err
	}
	m.Ns = append(m.Ns, denial...)
	return m, nil
}

func (z *served) spoil(m *dns.Msg) {
	for _, r := range append(slices.Clone(m.Answer), m.Ns...) {
		if sig, ok := r.(*dns.RRSIG); ok && z.corrupt {
			c := byte('A')
			if sig.Signature[0] == c {
				c = 'B'
			}
			sig.Signature = string(c) + sig.Signature[1:]
		}
	}
}

// serve answers on a port of 127.0.0.1 from whatever is current.
func serve(t *testing.T, current *atomic.Pointer[served]) netip.AddrPort {
	t.Helper()
	return dnstest.Serve(t, "127.0.0.1:0", func(w dns.ResponseWriter, q *dns.Msg) {
		z := current.Load()
		m, err := z.answer(t, q)
		if err != nil {
			t.Errorf("%v: %v", q.Question, err)
			m = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		}
		z.spoil(m)
		if w.LocalAddr().Network() == "udp" {
			size := dns.MinMsgSize
			if opt := q.IsEdns0(); opt != nil {
				size = int(opt.UDPSize())
			}
			m.Truncate(size)
		}
		if err := w.WriteMsg(m); err != nil {
			t.Logf("answer %v: %v", q.Question, err)
		}
	})
}

// trust is delv's anchor of a key.
func trust(t *testing.T, s Set, digest uint8, k Key) dnstest.Anchor {
	t.Helper()
	ds, err := s.DS(k, digest)
	if err != nil {
		t.Fatal(err)
	}
	return dnstest.Trust(t, ds)
}

const (
	valid   = dnstest.Validated
	validNo = dnstest.DenialValidated
)

var delvQueries = []struct{ name, owner, rrtype, want string }{
	{"addresses", "join.media.example", "A", valid},
	{"letter case", "JoIn.mEdia.example", "A", valid},
	{"https", "join.media.example", "HTTPS", valid},
	{"below an empty non-terminal", "de-fra-1.edge.media.example", "AAAA", valid},
	{"soa", "media.example", "SOA", valid},
	{"ns", "media.example", "NS", valid},
	{"dnskey", "media.example", "DNSKEY", valid},
	{"cds", "media.example", "CDS", valid},
	{"cdnskey", "media.example", "CDNSKEY", valid},
	{"nsec", "join.media.example", "NSEC", valid},
	{"nsec of a missing name", "nope.media.example", "NSEC", valid},
	{"no such type", "join.media.example", "MX", validNo},
	{"no such type at the apex", "media.example", "TXT", validNo},
	{"none for this client", "join.media.example", "AAAA", validNo},
	{"empty non-terminal", "edge.media.example", "A", validNo},
	{"missing", "nope.media.example", "A", validNo},
	{"missing below a missing one", "a.b.nope.media.example", "A", validNo},
	{"missing, capitals", "NOPE.media.example", "A", validNo},
	{"missing, starts with an asterisk", "*a.media.example", "A", validNo},
	{"missing, an asterisk", "*.media.example", "A", validNo},
	{"missing, a zero octet", `\000.media.example`, "A", validNo},
	{"missing, as long as can be", strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 47) + ".media.example", "A", validNo},
}

func TestDelvValidates(t *testing.T) {
	exectest.Need(t, "delv", "bind9-dnsutils")
	for _, a := range []Algorithm{ECDSAP256, Ed25519} {
		for _, split := range []bool{false, true} {
			set, err := NewSet("media.example", a, split, time.Now().Add(-3*time.Hour))
			if err == nil {
				set, _, err = Next(set, time.Now(), DefaultPolicy(), nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			var current atomic.Pointer[served]
			current.Store(newServed(t, set))
			at := serve(t, &current)
			for _, digest := range []uint8{dns.SHA256, dns.SHA384} {
				anchor := trust(t, set, digest, set.Keys[0])
				for i, q := range delvQueries {
					if (digest == dns.SHA384 || split) && i%10 != 0 { // each run of delv takes 0.1 s
						continue
					}
					t.Run(fmt.Sprintf("algorithm %d split %t digest %d %s", a, split, digest, q.name), func(t *testing.T) {
						if out := anchor.Delv(t, at, q.owner, q.rrtype); !strings.Contains(out, q.want) {
							t.Errorf("want %q:\n%s", q.want, out)
						}
					})
				}
			}
		}
	}
}

func newServed(t *testing.T, set Set) *served {
	t.Helper()
	s, err := NewSigner(set, DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	return &served{signer: s, answers: NewSignatures(100), denials: NewSignatures(100)}
}

// TestDelvRefuses proves that the test above can fail.
func TestDelvRefuses(t *testing.T) {
	exectest.Need(t, "delv", "bind9-dnsutils")
	set, _ := newSigner(t, ECDSAP256, false)
	other, _ := newSigner(t, ECDSAP256, false)
	var current atomic.Pointer[served]
	current.Store(newServed(t, set))
	at := serve(t, &current)
	for _, name := range []string{"another key's anchor", "corrupt signatures"} {
		t.Run(name, func(t *testing.T) {
			anchor := trust(t, other, dns.SHA256, other.Keys[0])
			if name == "corrupt signatures" {
				anchor = trust(t, set, dns.SHA256, set.Keys[0])
				z := newServed(t, set)
				z.corrupt = true
				current.Store(z)
			}
			for _, owner := range []string{"join.media.example", "nope.media.example"} {
				if out := anchor.Delv(t, at, owner, "A"); strings.Contains(out, "fully validated") {
					t.Errorf("%s: validated:\n%s", owner, out)
				}
			}
		})
	}
}

// TestDelvDuringRoll rolls a CSK, and a KSK and its ZSK, and validates at each step
// from the DS that a parent has then: the old one until the new one was seen, either
// one while both may be in caches, and the new one after.
func TestDelvDuringRoll(t *testing.T) {
	exectest.Need(t, "delv", "bind9-dnsutils")
	p := DefaultPolicy()
	for _, a := range []Algorithm{ECDSAP256, Ed25519} {
		for _, split := range []bool{false, true} {
			t.Run(fmt.Sprintf("algorithm %d split %t", a, split), func(t *testing.T) {
				// The key set lives in its own time; signatures in that of delv.
				set, err := NewSet("media.example", a, split, epoch)
				if err != nil {
					t.Fatal(err)
				}
				var current atomic.Pointer[served]
				current.Store(newServed(t, set))
				at := serve(t, &current)
				now := epoch
				step := func(after time.Duration, trusted ...Key) {
					t.Helper()
					now = now.Add(after)
					// The parent has the last, a cache may have the others.
					ds, err := set.DS(trusted[len(trusted)-1], dns.SHA256)
					if err != nil {
						t.Fatal(err)
					}
					parent := &Parent{DS: []*dns.DS{ds}}
					if set, _, err = Next(set, now, p, parent); err != nil {
						t.Fatal(err)
					}
					current.Store(newServed(t, set))
					for _, k := range trusted {
						anchor := trust(t, set, dns.SHA256, k)
						for _, q := range []struct{ owner, want string }{{"join.media.example", valid}, {"nope.media.example", validNo}} {
							if out := anchor.Delv(t, at, q.owner, "A"); !strings.Contains(out, q.want) {
								t.Errorf("%v, trusting %v: want %q:\n%s", set.Keys, k, q.want, out)
							}
						}
					}
				}
				old := set.Keys[0]
				step(2*time.Hour, old)  // ready
				step(time.Hour, old)    // seen
				step(25*time.Hour, old) // active
				for _, k := range set.Keys {
					if set, _, err = Roll(set, now, k.Role, 0); err != nil {
						t.Fatal(err)
					}
				}
				fresh := set.Keys[len(set.Keys)-1]
				if split {
					fresh = set.Keys[len(set.Keys)-2] // the KSK's, before the ZSK's
				}
				step(0, old)
				step(2*time.Hour, old)         // ready; the new ZSK signs
				step(2*time.Hour, old, fresh)  // seen; the old ZSK is gone
				step(24*time.Hour, old, fresh) // both may be in caches
				step(time.Hour, fresh)         // the old one is gone
				if i := slices.IndexFunc(set.Keys, func(k Key) bool { return k.Tag == old.Tag }); set.Keys[i].State != Removed {
					t.Errorf("the old key is %s after the roll", set.Keys[i].State)
				}
			})
		}
	}
}

// TestCompactAnswersOK asks as resolvers with and without the flag do.
func TestCompactAnswersOK(t *testing.T) {
	set, _ := newSigner(t, Ed25519, false)
	z := newServed(t, set)
	for _, c := range []struct {
		name, owner string
		do, co      bool
		rcode, ns   int
	}{
		{"missing, plain", "nope.media.example.", false, false, dns.RcodeNameError, 1},
		{"missing, DO", "nope.media.example.", true, false, dns.RcodeSuccess, 4},
		{"missing, DO and CO", "nope.media.example.", true, true, dns.RcodeNameError, 4},
		{"empty non-terminal, DO and CO", "edge.media.example.", true, true, dns.RcodeSuccess, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := new(dns.Msg).SetQuestion(c.owner, dns.TypeA).SetEdns0(1232, c.do)
			q.IsEdns0().SetCo(c.co)
			m, err := z.answer(t, q)
			if err != nil {
				t.Fatal(err)
			}
			if m.Rcode != c.rcode || len(m.Ns) != c.ns || m.IsEdns0().Co() != c.co {
				t.Errorf("got rcode %d, %d records, CO %t; want %d, %d, %t", m.Rcode, len(m.Ns), m.IsEdns0().Co(), c.rcode, c.ns, c.co)
			}
		})
	}
}
