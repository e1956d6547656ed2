package dnssec

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func rr(t *testing.T, text string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(text)
	if err != nil || r == nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

func rrs(t *testing.T, texts ...string) (set []dns.RR) {
	t.Helper()
	for _, text := range texts {
		set = append(set, rr(t, text))
	}
	return set
}

func newSigner(t testing.TB, a Algorithm, split bool) (Set, *Signer) {
	t.Helper()
	set, err := NewSet("media.example", a, split, epoch)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(set, DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	return set, s
}

// verify checks each signature with miekg/dns, which has its own canonical form.
func verify(t *testing.T, set Set, sigs, rrset []dns.RR, now time.Time) {
	t.Helper()
	if len(sigs) == 0 {
		t.Error("no signature")
	}
	for _, r := range sigs {
		sig := r.(*dns.RRSIG)
		i := slices.IndexFunc(set.Keys, func(k Key) bool { return k.Tag == sig.KeyTag })
		if i < 0 {
			t.Errorf("signed by key %d, which is not of the set", sig.KeyTag)
			continue
		}
		if err := sig.Verify(set.Keys[i].dnskey(set.Zone, 0), rrset); err != nil {
			t.Errorf("%s: %v", sig, err)
		}
		// Serial arithmetic (RFC 4034 section 3.1.5); miekg/dns's own fails after 2106.
		if at := uint32(now.Unix()); int32(at-sig.Inception) < 0 || int32(sig.Expiration-at) < 0 {
			t.Errorf("%s: not valid at %s", sig, now)
		}
	}
}

func TestSignatureVerifies(t *testing.T) {
	for _, a := range []Algorithm{ECDSAP256, Ed25519} {
		set, s := newSigner(t, a, false)
		for _, c := range []struct {
			name  string
			rrset []dns.RR
		}{
			{"one address", rrs(t, "join.media.example. 5 IN A 192.0.2.1")},
			{"order of RDATA", rrs(t, "join.media.example. 5 IN A 192.0.2.200", "join.media.example. 5 IN A 192.0.2.3", "join.media.example. 5 IN A 10.0.0.1")},
			{"duplicate", rrs(t, "join.media.example. 5 IN A 192.0.2.1", "join.media.example. 5 IN A 192.0.2.1")},
			{"letter case of the owner", rrs(t, "JoIn.MEDIA.example. 5 IN A 192.0.2.1")},
			{"soa with capitals", rrs(t, "media.example. 5 IN SOA NS1.media.example. Hostmaster.media.example. 1 2 3 4 5")},
			{"ns", rrs(t, "media.example. 3600 IN NS NS1.Media.Example.")},
			{"srv", rrs(t, "_turns._tcp.media.example. 5 IN SRV 0 0 443 Edge.media.example.")},
			{"naptr", rrs(t, `media.example. 5 IN NAPTR 10 10 "s" "RELAY:turn.tls" "" _turns._tcp.Media.example.`)},
			{"https", rrs(t, `join.media.example. 5 IN HTTPS 1 Edge.media.example. alpn="h2" ipv4hint=192.0.2.1`)},
			{"txt", rrs(t, `_why.join.media.example. 5 IN TXT "Keep CASE"`)},
			{"hinfo", rrs(t, `join.media.example. 5 IN HINFO "RFC8482" ""`)},
			{"caa", rrs(t, `media.example. 5 IN CAA 0 issue "Ca.example"`)},
			{"wildcard", rrs(t, "*.edge.media.example. 5 IN A 192.0.2.1")},
			{"escaped dot", rrs(t, `a\.B.media.example. 5 IN A 192.0.2.1`)},
			{"dnskey", set.DNSKEY(DefaultPolicy())},
			{"md", rrs(t, "a.media.example. 5 IN MD Mail.media.example.")},
			{"mf", rrs(t, "a.media.example. 5 IN MF Mail.media.example.")},
			{"mb", rrs(t, "a.media.example. 5 IN MB Mail.media.example.")},
			{"mg", rrs(t, "a.media.example. 5 IN MG Mail.media.example.")},
			{"mr", rrs(t, "a.media.example. 5 IN MR Mail.media.example.")},
			{"minfo", rrs(t, "a.media.example. 5 IN MINFO Who.media.example. Errors.media.example.")},
			{"mx", rrs(t, "a.media.example. 5 IN MX 10 Mail.media.example.", "a.media.example. 5 IN MX 10 lail.media.example.")},
			{"rp", rrs(t, "a.media.example. 5 IN RP Who.media.example. Text.media.example.")},
			{"afsdb", rrs(t, "a.media.example. 5 IN AFSDB 1 Cell.media.example.")},
			{"rt", rrs(t, "a.media.example. 5 IN RT 10 Relay.media.example.")},
			{"px", rrs(t, "a.media.example. 5 IN PX 10 Who.media.example. X400.media.example.")},
			{"kx", rrs(t, "a.media.example. 5 IN KX 10 Keys.media.example.")},
			{"ptr", rrs(t, "a.media.example. 5 IN PTR Name.media.example.")},
			{"dname", rrs(t, "a.media.example. 5 IN DNAME Name.media.example.")},
			{"a newer type keeps its letters", rrs(t, "a.media.example. 5 IN LP 10 Name.media.example.")},
		} {
			t.Run(fmt.Sprintf("%d %s", a, c.name), func(t *testing.T) {
				sigs, _, err := s.Sign(c.rrset, epoch)
				if err != nil {
					t.Fatal(err)
				}
				verify(t, set, sigs, c.rrset, epoch)
				again, _, err := s.Sign(c.rrset, epoch)
				if err != nil || again[0].String() != sigs[0].String() {
					t.Errorf("not deterministic: %v, %v, %v", sigs, again, err)
				}
			})
		}
	}
}

// TestSameSignature: two ways to write one record have one canonical form.
func TestSameSignature(t *testing.T) {
	set, s := newSigner(t, Ed25519, false)
	for _, c := range []struct{ name, a, b string }{
		{"an escaped letter", `a.media.example. 5 IN RP \065b.media.example. T.media.example.`, "a.media.example. 5 IN RP Ab.media.example. t.media.example."},
		{"an escaped dot", `a.media.example. 5 IN RP A\.b.media.example. T.media.example.`, `a.media.example. 5 IN RP a\.b.media.example. t.media.example.`},
		{"a type by its number", `a.media.example. 5 IN TYPE18 \# 11 0001 0143 054D65646961 00`, "a.media.example. 5 IN AFSDB 1 c.media."},
	} {
		one, _, err := s.Sign(rrs(t, c.a), epoch)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		two, _, err := s.Sign(rrs(t, c.b), epoch)
		if err != nil || one[0].String() != two[0].String() {
			t.Errorf("%s: got %v and %v, %v", c.name, one, two, err)
		}
		verify(t, set, one, rrs(t, c.b), epoch)
	}
}

func TestWildcardLabels(t *testing.T) {
	set, s := newSigner(t, Ed25519, false)
	for _, c := range []struct {
		name, owner string
		want        uint8
	}{
		{"apex", "media.example.", 2},
		{"name", "a.media.example.", 3},
		{"wildcard", "*.media.example.", 2},
		{"asterisk within", "a.*.media.example.", 4},
		{"starts with an asterisk", "*a.media.example.", 3},
		{"escaped dot", `a\.b.media.example.`, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			rrset := rrs(t, c.owner+" 5 IN A 192.0.2.1")
			sigs, _, err := s.Sign(rrset, epoch)
			if err != nil {
				t.Fatal(err)
			}
			if got := sigs[0].(*dns.RRSIG).Labels; got != c.want {
				t.Errorf("got %d labels, want %d", got, c.want)
			}
			verify(t, set, sigs, rrset, epoch)
		})
	}
	// RFC 4035 section 5.3.2: what a wildcard's signature covers verifies expanded.
	sigs, _, err := s.Sign(rrs(t, "*.edge.media.example. 5 IN A 192.0.2.1"), epoch)
	if err != nil {
		t.Fatal(err)
	}
	sigs[0].Header().Name = "x.y.edge.media.example."
	verify(t, set, sigs, rrs(t, "x.y.edge.media.example. 5 IN A 192.0.2.1"), epoch)
}

func TestSignRefuses(t *testing.T) {
	_, s := newSigner(t, Ed25519, false)
	for _, c := range []struct {
		name, want string
		rrset      []dns.RR
	}{
		{"nothing", "not an RRset", nil},
		{"two names", "not an RRset", rrs(t, "a.media.example. 5 IN A 192.0.2.1", "b.media.example. 5 IN A 192.0.2.1")},
		{"two types", "not an RRset", rrs(t, "a.media.example. 5 IN A 192.0.2.1", "a.media.example. 5 IN AAAA ::1")},
		{"two TTLs", "TTLs differ", rrs(t, "a.media.example. 5 IN A 192.0.2.1", "a.media.example. 6 IN A 192.0.2.2")},
		{"another zone", "not for this zone", rrs(t, "a.notmedia.example. 5 IN A 192.0.2.1")},
		{"another class", "not for this zone", rrs(t, "a.media.example. 5 CH A 192.0.2.1")},
		{"an obsolete type", "type NXT cannot be signed", rrs(t, "a.media.example. 5 IN NXT B.media.example. A")},
		{"a type that the library does not know", "type TYPE38 cannot be signed", rrs(t, `a.media.example. 5 IN TYPE38 \# 1 00`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := s.Sign(c.rrset, epoch); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestWindow: at every moment the signature was valid an hour ago, will be for Refresh,
// and is the same until it must be renewed; a clock that jumps changes none of it.
func TestWindow(t *testing.T) {
	set, s := newSigner(t, Ed25519, false)
	p := DefaultPolicy()
	chance := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		rrset := rrs(t, fmt.Sprintf("n%d.media.example. 5 IN A 192.0.2.1", chance.IntN(50)))
		now := time.Unix(chance.Int64N(1<<33)-1<<31, 0) // 1902 to 2174
		sigs, renew, err := s.Sign(rrset, now)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, set, sigs, rrset, now)
		verify(t, set, sigs, rrset, now.Add(-time.Hour))
		verify(t, set, sigs, rrset, renew.Add(p.Refresh-time.Second))
		if !renew.After(now) || renew.Sub(now) > p.Validity-p.Refresh {
			t.Fatalf("%d: renew %s at %s", i, renew, now)
		}
		for _, at := range []time.Time{now.Add(renew.Sub(now) / 2), renew.Add(-time.Second)} {
			if again, _, _ := s.Sign(rrset, at); again[0].String() != sigs[0].String() {
				t.Fatalf("%d: another signature at %s, before %s", i, at, renew)
			}
		}
		next, _, _ := s.Sign(rrset, renew)
		if next[0].String() == sigs[0].String() {
			t.Fatalf("%d: the same signature at %s", i, renew)
		}
		verify(t, set, next, rrset, renew)
		if got, err := s.Renew(rrset, now); err != nil || !got.Equal(renew) {
			t.Fatalf("%d: Renew %s, %v, Sign said %s", i, got, err, renew)
		}
	}
}

// TestRenewalsAreSpread: of 900 RRsets no day of the nine has twice its share.
func TestRenewalsAreSpread(t *testing.T) {
	_, s := newSigner(t, Ed25519, false)
	var days [9]int
	for i := range 900 {
		renew, err := s.Renew(rrs(t, fmt.Sprintf("n%d.media.example. 5 IN A 192.0.2.1", i)), epoch)
		if err != nil {
			t.Fatal(err)
		}
		days[int(renew.Sub(epoch)/(24*time.Hour))%9]++
	}
	for day, n := range days {
		if n > 200 || n < 30 {
			t.Errorf("day %d: %d renewals of 900", day, n)
		}
	}
}

// TestWhoSigns: RFC 7344 section 4.1 wants CDS signed by a key that the DS names.
func TestWhoSigns(t *testing.T) {
	set, err := NewSet("media.example", ECDSAP256, true, epoch)
	if err != nil {
		t.Fatal(err)
	}
	set, _, err = Next(set, epoch.Add(2*time.Hour), DefaultPolicy(), nil) // the KSK is ready
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(set, DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	ksk, zsk := set.Keys[0], set.Keys[1]
	for _, c := range []struct {
		name  string
		rrset []dns.RR
		want  Key
	}{
		{"dnskey", s.Apex[dns.TypeDNSKEY], ksk},
		{"cds", s.Apex[dns.TypeCDS], ksk},
		{"cdnskey", s.Apex[dns.TypeCDNSKEY], ksk},
		{"data", rrs(t, "join.media.example. 5 IN A 192.0.2.1"), zsk},
	} {
		t.Run(c.name, func(t *testing.T) {
			sigs, _, err := s.Sign(c.rrset, epoch)
			if err != nil || len(sigs) != 1 || sigs[0].(*dns.RRSIG).KeyTag != c.want.Tag {
				t.Errorf("got %v, %v, want one of key %d", sigs, err, c.want.Tag)
			}
		})
	}
	if flags := s.Apex[dns.TypeDNSKEY][1].(*dns.DNSKEY).Flags; flags != 256 {
		t.Errorf("flags of the ZSK: got %d, want 256", flags)
	}
	cds, err := set.DS(ksk, dns.SHA256)
	if err != nil || s.Apex[dns.TypeCDS][0].(*dns.CDS).Digest != cds.Digest {
		t.Errorf("CDS %v, DS %v, %v", s.Apex[dns.TypeCDS], cds, err)
	}
	if ds, err := set.DS(ksk, dns.SHA384); err != nil || len(ds.Digest) != 96 {
		t.Errorf("DS by SHA-384: %v, %v", ds, err)
	}
	if _, err := set.DS(ksk, dns.SHA1); err == nil {
		t.Error("a DS by SHA-1 was made")
	}
}

// TestKnownKey: the vectors of RFC 8080 section 6.1 and RFC 6605 section 6.1.
func TestKnownKey(t *testing.T) {
	for _, c := range []struct {
		name, zone      string
		role            Role
		a               Algorithm
		private, public string
		tag             uint16
		ds              string
	}{
		{"rfc 8080", "example.com.", CSK, Ed25519, "ODIyNjAzODQ2MjgwODAxMjI2NDUxOTAyMDQxNDIyNjI=",
			"l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=", 3613, "3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b"},
		{"rfc 6605", "example.net.", CSK, ECDSAP256, "GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=",
			"GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==", 55648, "b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := fmt.Sprintf(`{"version":1,"zone":%q,"keys":[{"tag":%d,"role":%q,"algorithm":%d,"state":"published","published":"2026-11-01T00:00:00Z","public":%q,"private":%q}]}`,
				c.zone, c.tag, c.role, c.a, c.public, c.private)
			s, err := Parse([]byte(b))
			if err != nil {
				t.Fatal(err)
			}
			ds, err := s.DS(s.Keys[0], dns.SHA256)
			if err != nil || ds.Digest != c.ds {
				t.Errorf("got %v, %v, want %s", ds, err, c.ds)
			}
		})
	}
}

// TestKnownSignature: the one of RFC 8080 section 6.1; Ed25519 has no other.
func TestKnownSignature(t *testing.T) {
	k := Key{Algorithm: Ed25519}
	if err := k.setPrivate([]byte("82260384628080122645190204142262")); err != nil {
		t.Fatal(err)
	}
	want := rr(t, "example.com. 3600 IN RRSIG MX 15 2 3600 1440021600 1438207200 3613 example.com. "+
		"oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg==").(*dns.RRSIG)
	got := *want
	got.Signature = ""
	mx, _, err := canonicalRR(rr(t, "Example.com. 3600 IN MX 10 Mail.example.com."))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.sign(&got, mx); err != nil || got.Signature != want.Signature {
		t.Errorf("got %s, %v\nwant %s", got.Signature, err, want.Signature)
	}
}

func TestPolicyCheck(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(*Policy)
	}{
		{"default", "", func(*Policy) {}},
		{"refresh within a TTL", "could expire in caches", func(p *Policy) { p.Refresh = time.Hour }},
		{"validity within the refresh", "validity", func(p *Policy) { p.Validity = p.Refresh }},
		{"no TTL", "TTLs of a second", func(p *Policy) { p.KeyTTL = 0 }},
		{"for ever", "at most a year", func(p *Policy) { p.Validity = 400 * 24 * time.Hour }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := DefaultPolicy()
			c.change(&p)
			if err := p.Check(); (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
