package geodns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

const (
	noerror  = dns.RcodeSuccess
	formerr  = dns.RcodeFormatError
	nxdom    = dns.RcodeNameError
	notimp   = dns.RcodeNotImplemented
	refused  = dns.RcodeRefused
	berlin   = "192.0.2.1"
	dubai    = "203.0.113.193"
	quito    = "203.0.113.225"
	nowhere  = "9.9.9.9"
	soaWords = "SOA ns1.media.example. hostmaster.media.example. 3000000000 3600 600 604800 5"
)

func TestNames(t *testing.T) {
	s := listen(t, func(c *Config) {
		c.NS = []netip.Addr{netip.MustParseAddr("198.18.99.1"), netip.MustParseAddr("2001:db8:ffff::53")}
	})
	hinfo := []string{`HINFO "RFC8482" ""`}
	for _, r := range []struct {
		name  string
		query string
		qtype uint16
		src   string
		rcode int
		want  []string // empty: none, with the SOA
	}{
		{"apex SOA (RFC 1035)", "media.example.", dns.TypeSOA, berlin, noerror, []string{soaWords}},
		{"apex NS", "media.example.", dns.TypeNS, berlin, noerror, []string{"NS ns1.media.example."}},
		{"apex A is NODATA (RFC 2308)", "media.example.", dns.TypeA, berlin, noerror, nil},
		{"ns1 A", "ns1.media.example.", dns.TypeA, berlin, noerror, []string{"A 198.18.99.1"}},
		{"ns1 AAAA", "ns1.media.example.", dns.TypeAAAA, berlin, noerror, []string{"AAAA 2001:db8:ffff::53"}},
		{"join from Berlin: both edges of de-ber, the emptier first", "join.media.example.", dns.TypeA, berlin, noerror, []string{"A 198.18.3.1", "A 198.18.3.2"}},
		{"join from Berlin, AAAA", "join.media.example.", dns.TypeAAAA, berlin, noerror, []string{"AAAA 2001:db8:ffff:3::1", "AAAA 2001:db8:ffff:3::2"}},
		{"join from Munich", "join.media.example.", dns.TypeA, "192.0.2.33", noerror, []string{"A 198.18.4.1", "A 198.18.4.2"}},
		{"join from Paris", "join.media.example.", dns.TypeA, "192.0.2.65", noerror, []string{"A 198.18.5.1", "A 198.18.5.2"}},
		{"join from Paris, whose edges have no IPv6", "join.media.example.", dns.TypeAAAA, "192.0.2.65", noerror, nil},
		{"join from New York", "join.media.example.", dns.TypeA, "198.51.100.1", noerror, []string{"A 198.18.7.1", "A 198.18.7.2"}},
		{"join from Montréal", "join.media.example.", dns.TypeA, "203.0.113.1", noerror, []string{"A 198.18.2.1", "A 198.18.2.2"}},
		{"join over IPv6 from Sydney", "join.media.example.", dns.TypeA, "2001:db8:1300::1", noerror, []string{"A 198.18.0.1", "A 198.18.0.2"}},
		{"join from a mapped address", "join.media.example.", dns.TypeA, "::ffff:192.0.2.1", noerror, []string{"A 198.18.3.1", "A 198.18.3.2"}},
		{"join from Dubai: no lawful edge", "join.media.example.", dns.TypeA, dubai, noerror, []string{"CNAME none.edge.media.example."}},
		{"join from nowhere", "join.media.example.", dns.TypeA, nowhere, noerror, []string{"CNAME none.edge.media.example."}},
		{"which leads to nothing", "none.edge.media.example.", dns.TypeA, berlin, noerror, nil},
		{"join TXT is NODATA", "join.media.example.", dns.TypeTXT, berlin, noerror, nil},
		{"join HTTPS where the edges have no TLS is NODATA (RFC 9460 section 9.5)", "join.media.example.", dns.TypeHTTPS, berlin, noerror, nil},
		{"an unknown type is NODATA (RFC 3597)", "join.media.example.", 65280, berlin, noerror, nil},
		{"DS of a name in the zone is NODATA", "join.media.example.", dns.TypeDS, berlin, noerror, nil},
		{"pinned to Germany, from Dubai", "de.join.media.example.", dns.TypeA, dubai, noerror, []string{"A 198.18.3.1", "A 198.18.3.2"}},
		{"pinned to Québec, from nowhere", "ca-qc.join.media.example.", dns.TypeA, nowhere, noerror, []string{"A 198.18.2.1", "A 198.18.2.2"}},
		{"pinned in any letter case (RFC 4343)", "CA-Qc.JOIN.Media.Example.", dns.TypeA, nowhere, noerror, []string{"A 198.18.2.1", "A 198.18.2.2"}},
		{"pinned to a state without law of its own", "us-nv.join.media.example.", dns.TypeA, nowhere, noerror, []string{"A 198.18.7.1", "A 198.18.7.2"}},
		{"pinned to the Emirates: NODATA", "ae.join.media.example.", dns.TypeA, berlin, noerror, nil},
		{"pinned to a country without law on file (READING, rule 22)", "ec.join.media.example.", dns.TypeA, berlin, nxdom, nil},
		{"pinned TXT is NODATA", "de.join.media.example.", dns.TypeTXT, berlin, noerror, nil},
		{"EU is no participant", "eu.join.media.example.", dns.TypeA, berlin, nxdom, nil},
		{"US-MEDICAID is none", "us-medicaid.join.media.example.", dns.TypeA, berlin, nxdom, nil},
		{"UK, which people write for GB", "uk.join.media.example.", dns.TypeA, berlin, noerror, []string{"A 198.18.6.1", "A 198.18.6.2"}},
		{"a nation of it", "gb-sct.join.media.example.", dns.TypeA, berlin, noerror, []string{"A 198.18.6.1", "A 198.18.6.2"}},
		{"and not of UK", "uk-sct.join.media.example.", dns.TypeA, berlin, nxdom, nil},
		{"a state that is mistyped", "us-tz.join.media.example.", dns.TypeA, berlin, nxdom, nil},
		{"a subdivision without a place of its own: its country's", "de-by.join.media.example.", dns.TypeA, berlin, noerror, []string{"A 198.18.3.1", "A 198.18.3.2"}},
		{"a subdivision that ISO 3166-2 does not have", "de-xy.join.media.example.", dns.TypeA, berlin, nxdom, nil},
		{"of a country without law on file", "ec-a.join.media.example.", dns.TypeA, berlin, nxdom, nil},
		{"a subdivision that is a country of its own", "fr-971.join.media.example.", dns.TypeA, berlin, noerror, []string{"A 198.18.5.1", "A 198.18.5.2"}},
		{"one whose country has no law on file: NODATA", "nl-aw.join.media.example.", dns.TypeA, berlin, noerror, nil},
		{"the country alone, where provinces have law of their own: a hint", "ca.join.media.example.", dns.TypeA, berlin, noerror, []string{"A 198.18.2.1", "A 198.18.2.2"}},
		{"below a pinned name (RFC 8020)", "www.de.join.media.example.", dns.TypeA, berlin, nxdom, nil},
		{"an escaped dot is no label's end (RFC 1035 section 5.1)", `de\.join.media.example.`, dns.TypeA, berlin, nxdom, nil},
		{"a name that only looks like the zone's", `x\.media.example.`, dns.TypeA, berlin, refused, nil},
		{"edge is an empty non-terminal (RFC 4592)", "edge.media.example.", dns.TypeA, berlin, noerror, nil},
		{"one edge", "de-fra-2.edge.media.example.", dns.TypeA, dubai, noerror, []string{"A 198.18.4.2"}},
		{"one edge, AAAA", "de-fra-2.edge.media.example.", dns.TypeAAAA, dubai, noerror, []string{"AAAA 2001:db8:ffff:4::2"}},
		{"one edge without IPv6", "fr-par-1.edge.media.example.", dns.TypeAAAA, dubai, noerror, nil},
		{"an edge in capitals", "DE-FRA-2.EDGE.media.example.", dns.TypeA, dubai, noerror, []string{"A 198.18.4.2"}},
		{"no such edge", "de-fra-9.edge.media.example.", dns.TypeA, berlin, nxdom, nil},
		{"no such name", "www.media.example.", dns.TypeA, berlin, nxdom, nil},
		{"no such name, whatever the type", "www.media.example.", dns.TypeANY, berlin, nxdom, nil},
		{"below ns1", "a.ns1.media.example.", dns.TypeA, berlin, nxdom, nil},
		{"ANY at the apex (RFC 8482)", "media.example.", dns.TypeANY, berlin, noerror, hinfo},
		{"ANY at join", "join.media.example.", dns.TypeANY, berlin, noerror, hinfo},
		{"ANY at a pinned name", "de.join.media.example.", dns.TypeANY, berlin, noerror, hinfo},
		{"ANY at an empty non-terminal", "edge.media.example.", dns.TypeANY, berlin, noerror, nil},
		{"another zone", "example.", dns.TypeSOA, berlin, refused, nil},
		{"the root", ".", dns.TypeNS, berlin, refused, nil},
		{"a zone with our letters", "xmedia.example.", dns.TypeA, berlin, refused, nil},
		{"AXFR (RFC 5936)", "media.example.", dns.TypeAXFR, berlin, refused, nil},
		{"IXFR (RFC 1995)", "media.example.", dns.TypeIXFR, berlin, refused, nil},
		{"MAILB is obsolete", "media.example.", dns.TypeMAILB, berlin, notimp, nil},
		{"OPT is no type to ask for (RFC 6891)", "media.example.", dns.TypeOPT, berlin, formerr, nil},
	} {
		q := ask(r.query, r.qtype)
		m := exchange(t, s, pack(t, q), r.src, overUDP)
		if got := show(m.Answer); m.Rcode != r.rcode || !slices.Equal(got, r.want) {
			t.Errorf("%s: %s: got %s %q, want %s %q", r.name, r.query, dns.RcodeToString[m.Rcode], got, dns.RcodeToString[r.rcode], r.want)
		}
		ours := r.rcode == noerror || r.rcode == nxdom
		if m.Authoritative != ours {
			t.Errorf("%s: AA is %v, want %v", r.name, m.Authoritative, ours)
		}
		if got := show(m.Ns); ours && r.want == nil && !slices.Equal(got, []string{soaWords}) {
			t.Errorf("%s: authority %q, want the SOA (RFC 2308)", r.name, got)
		}
		if len(m.Question) != 1 || m.Question[0].Name != r.query {
			t.Errorf("%s: question %v, want it byte for byte (0x20)", r.name, m.Question)
		}
		if m.Id != q.Id || !m.Response || m.RecursionAvailable || m.AuthenticatedData {
			t.Errorf("%s: header %+v", r.name, m.MsgHdr)
		}
		for _, rr := range m.Answer {
			if h := rr.Header(); h.Name != r.query {
				t.Errorf("%s: owner %s, want the question's %s", r.name, h.Name, r.query)
			}
		}
	}
}

func TestTTLs(t *testing.T) {
	s := listen(t)
	for _, r := range []struct {
		name  string
		qtype uint16
		want  uint32
	}{
		{"join.media.example.", dns.TypeA, 5}, {"de.join.media.example.", dns.TypeA, 5}, {"de-fra-1.edge.media.example.", dns.TypeA, 5},
		{"media.example.", dns.TypeSOA, 5}, {"media.example.", dns.TypeNS, 3600}, {"_why.join.media.example.", dns.TypeTXT, 0},
		{"www.media.example.", dns.TypeA, 5}, {"edge.media.example.", dns.TypeA, 5},
	} {
		m := exchange(t, s, pack(t, ask(r.name, r.qtype)), "127.0.0.1", overTCP)
		all := append(m.Answer, m.Ns...)
		if len(all) == 0 || all[0].Header().Ttl != r.want {
			t.Errorf("%s: got %v, want TTL %d", r.name, all, r.want)
		}
	}
	m := exchange(t, s, pack(t, ask("media.example.", dns.TypeNS)), berlin, overUDP)
	if got := show(m.Extra); got[0] != "A 127.0.0.1" {
		t.Errorf("glue: got %q, want the listen address", got)
	}
}

// refusing is a world whose map refuses patients from there.
func refusing(w *steer.World, j residency.Jurisdiction) *steer.World {
	w.Map.Refused = map[residency.Jurisdiction]string{j: "not before spring"}
	return w
}

// denies tells whether an answer is NODATA with the SOA (RFC 2308 section 2.2): of
// join.ZONE, at the end of its alias.
func denies(m *dns.Msg, name string) bool {
	var want []string
	if name == "join.media.example." {
		want = []string{"CNAME none.edge.media.example."}
	}
	return slices.Equal(show(m.Answer), want) && slices.Equal(show(m.Ns), []string{soaWords})
}

func TestRefusals(t *testing.T) {
	all := func(w *steer.World, f func(*steer.Region)) *steer.World {
		for i := range w.Regions {
			f(&w.Regions[i])
		}
		return w
	}
	empty := demo()
	empty.Regions, empty.Map.Regions = nil, nil
	for _, r := range []struct {
		name, query, src string
		world            *steer.World
		ede              uint16
		text             []string // all in it
	}{
		{"home only, and no home", "join.media.example.", dubai, demo(), 18, []string{"home_only: ", "Law"}},
		{"the same, pinned", "ae.join.media.example.", berlin, demo(), 18, []string{"home_only: "}},
		{"no law on file", "join.media.example.", quito, demo(), 18, []string{"policy_missing: ", "default_for_unknown"}},
		{"no law on file, pinned", "nl-aw.join.media.example.", berlin, demo(), 18, []string{"policy_missing: "}},
		{"refused by the operator", "join.media.example.", berlin, refusing(demo(), "DE"), 18, []string{"refused_by_operator: ", "not before spring"}},
		{"refused by the operator, pinned to a state of it", "de-by.join.media.example.", quito, refusing(demo(), "DE"), 18, []string{"refused_by_operator: ", "not before spring"}},
		{"unknown place", "join.media.example.", nowhere, demo(), 18, []string{"policy_missing: the place of 0.0.0.0/2 is not known: ", "ask CC.join.media.example"}},
		{"all down", "join.media.example.", berlin, all(demo(), func(r *steer.Region) { r.Mode = steer.Down }), 22, []string{"region_down"}},
		{"all draining", "join.media.example.", berlin, all(demo(), func(r *steer.Region) { r.Mode = steer.Draining }), 22, []string{"region_draining"}},
		{"no edge registered", "join.media.example.", berlin, all(demo(), func(r *steer.Region) { r.Edges = nil }), 22, []string{"region_unhealthy"}},
		{"all full", "join.media.example.", berlin, all(demo(), func(r *steer.Region) {
			for k := range r.Edges {
				r.Edges[k].Load.Consults = r.Edges[k].Admits
			}
		}), 22, []string{"region_full"}},
		{"no region", "join.media.example.", berlin, empty, 22, []string{"no_region"}},
		{"no region, unknown place", "join.media.example.", nowhere, empty, 22, []string{"no_region"}},
	} {
		s := listen(t, world(r.world))
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			m := exchange(t, s, pack(t, ask(r.query, qtype)), r.src, overUDP)
			code, text := edeOf(m)
			if m.Rcode != noerror || !denies(m, r.query) || code != int(r.ede) {
				t.Errorf("%s: got %s, answer %v, EDE %d %q; want NODATA with the SOA and EDE %d", r.name, dns.RcodeToString[m.Rcode], m.Answer, code, text, r.ede)
			}
			for _, want := range r.text {
				if !strings.Contains(text, want) {
					t.Errorf("%s: EDE text %q, want %q in it", r.name, text, want)
				}
			}
			if len(text) > maxText {
				t.Errorf("%s: EDE text of %d bytes, want at most %d", r.name, len(text), maxText)
			}
		}
		if m := exchange(t, s, pack(t, ask(r.query, dns.TypeA, noEDNS)), r.src, overUDP); m.IsEdns0() != nil || !denies(m, r.query) {
			t.Errorf("%s: without EDNS: got %v, want NODATA without OPT", r.name, m)
		}
	}
}

// TestStandbyIsOfTheSameRegion: an answer never mixes regions.
func TestStandbyIsOfTheSameRegion(t *testing.T) {
	make := func(mode steer.Mode) *steer.World {
		w := demo()
		ber := &w.Regions[w.RegionIndex("de-ber")]
		ber.Edges, ber.Mode = ber.Edges[:1], mode
		return w
	}
	var now atomic.Pointer[steer.World]
	now.Store(make(steer.Serving))
	s := listen(t, func(c *Config) { c.World = now.Load })
	for range 2 { // decided, then remembered
		got := show(exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA)), berlin, overUDP).Answer)
		if want := []string{"A 198.18.3.1"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q alone", got, want)
		}
	}
	now.Store(make(steer.Draining))
	got := show(exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA)), berlin, overUDP).Answer)
	if want := []string{"A 198.18.4.1", "A 198.18.4.2"}; !slices.Equal(got, want) {
		t.Errorf("draining: got %q, want the next lawful region's %q", got, want)
	}
}

// What is remembered for one place is never told to another that has the same slot.
func TestChoicesKeepPlacesApart(t *testing.T) {
	js := []residency.Jurisdiction{"DE", "FR", "US", "AE", "GB", "CH"}
	var places []region.Override
	for i := range 5000 { // more than there are slots for
		o := over(fmt.Sprintf("9.9.%d.%d/32", i>>8, i&255), js[i%len(js)])
		o.Place.Point.Lat += float64(i) / 1e6 // no two alike
		places = append(places, o)
	}
	s := listen(t, func(c *Config) { c.Geo = table(t, places...) })
	v := s.current()
	outcomes := map[[maxEdges]*steer.Edge]bool{}
	for range 2 {
		for i := range places {
			n := v.locate(&query{client: places[i].Prefix.Addr()})
			got, again := s.choose(v, &n), s.choose(v, &n)
			r := new(ranking)
			r.from(v, &n)
			want := s.decide(v, r)
			if got != again {
				t.Fatalf("%s: decided twice", n.prefix)
			}
			if got.outcome != want.outcome || string(got.ede) != string(want.ede) {
				t.Fatalf("%s in %s: remembered %v, decided %v", n.prefix, r.parts[0], got, want)
			}
			outcomes[got.edges] = true
		}
	}
	if len(outcomes) < 5 {
		t.Errorf("only %d different outcomes: the test tried little", len(outcomes))
	}
}

// Nor is what is remembered for one network told to another.
func TestChoicesKeepNetworksApart(t *testing.T) {
	s := listen(t)
	v := s.current()
	for _, several := range []bool{false, true} {
		for range 2 { // decided, then remembered
			for i := range 2000 { // of which hundreds share a slot
				n := network{prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{9, byte(i >> 8), byte(i)}), 24), several: several}
				if c := s.choose(v, &n); c.refused == nil || !strings.Contains(c.refused.ExtraText, n.prefix.String()+" ") {
					t.Fatalf("%s, several %v: got %v, want a refusal that names it", n.prefix, several, c.refused)
				}
			}
		}
	}
}

// Clients of one place are spread over edges that are as good as each other.
func TestEqualEdgesShareAPlace(t *testing.T) {
	w := demo()
	ber := &w.Regions[w.RegionIndex("de-ber")]
	third := ber.Edges[0]
	third.ID, third.Addr4 = "de-ber-3", netip.MustParseAddr("198.18.3.3")
	ber.Edges = append(ber.Edges, third)
	ber.Edges[1].Load.Consults = ber.Edges[0].Load.Consults
	ber.Edges[0].Addr6, ber.Edges[1].Addr6 = netip.Addr{}, netip.Addr{} // for AAAA the third is kept beside them
	var networks []region.Override
	for i := range 64 { // of one place, and never beside each other
		networks = append(networks, over(fmt.Sprintf("9.9.%d.0/24", 2*i), "DE"))
	}
	s := listen(t, world(w), func(c *Config) { c.Geo = table(t, networks...) })
	first := map[string]int{}
	for _, o := range networks {
		m := exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA, ecs(o.Prefix.String()))), berlin, overUDP)
		if len(m.Answer) != maxAnswers {
			t.Fatalf("%s: got %v, want %d of three", o.Prefix, m.Answer, maxAnswers)
		}
		first[show(m.Answer)[0]]++
	}
	for i := range 3 {
		if a := fmt.Sprintf("A 198.18.3.%d", i+1); first[a] < len(networks)/6 {
			t.Errorf("%s is first for %d of %d, want about a third", a, first[a], len(networks))
		}
	}
}

func TestSetGeo(t *testing.T) {
	s := listen(t)
	q := pack(t, ask("join.media.example.", dns.TypeA))
	if m := exchange(t, s, q, nowhere, overUDP); len(addrsOf(m)) != 0 {
		t.Errorf("before: got %v, want none", m.Answer)
	}
	s.SetGeo(table(t, over("9.9.9.0/24", "CH")))
	if m := exchange(t, s, q, nowhere, overUDP); len(addrsOf(m)) == 0 {
		t.Error("after: got none, want an edge")
	}
}

func TestWhy(t *testing.T) {
	s := listen(t, func(c *Config) { c.Why = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")} })
	why := func(src string, alter ...func(*dns.Msg)) *dns.Msg {
		return exchange(t, s, pack(t, ask("_why.join.media.example.", dns.TypeTXT, alter...)), src, overTCP)
	}
	text := func(m *dns.Msg) []string {
		if len(m.Answer) != 1 {
			return nil
		}
		return m.Answer[0].(*dns.TXT).Txt
	}
	for _, r := range []struct {
		name, src string
		alter     []func(*dns.Msg)
		want      []string // all of them, in this order
		scope     int
	}{
		{"loopback", "127.0.0.1", nil, []string{"generation=812", "prefix=127.0.0.0/8", "jurisdiction=DE", "choice=de-ber/de-ber-1", "by=home", "reject=us-iad condition_unmet", "reject=au-syd not_adequate"}, -1},
		{"loopback, IPv6", "::1", nil, []string{"prefix=::1/128", "choice=de-ber/de-ber-1"}, -1},
		{"for another network", "127.0.0.1", []func(*dns.Msg){ecs("192.0.2.64/32")}, []string{"prefix=192.0.2.64/27", "jurisdiction=FR", "choice=fr-par/fr-par-1"}, 27},
		{"an allowed network", "10.1.2.3", []func(*dns.Msg){ecs("198.51.100.0/27")}, []string{"prefix=198.51.100.0/27", "jurisdiction=US-NY", "choice=us-iad/us-iad-1"}, 27},
		{"a refusal", "127.0.0.1", []func(*dns.Msg){ecs("203.0.113.192/27")}, []string{"jurisdiction=AE", "refused=home_only", "citation=", "reject="}, 27},
		{"an unknown place", "127.0.0.1", []func(*dns.Msg){ecs("9.9.9.0/24")}, []string{"prefix=0.0.0.0/2", "jurisdiction=unknown", "refused=policy_missing"}, 8},
		{"a network of two places", "127.0.0.1", []func(*dns.Msg){ecs("192.0.2.0/25")}, []string{"prefix=192.0.2.0/25", "jurisdiction=DE", "jurisdiction=FR", "jurisdiction=GB"}, 27},
	} {
		m := why(r.src, r.alter...)
		got := text(m)
		rest := got
		for _, want := range r.want {
			i := slices.IndexFunc(rest, func(s string) bool { return s == want || strings.HasSuffix(want, "=") && strings.HasPrefix(s, want) })
			if i < 0 {
				t.Fatalf("%s: got %q, want %q in this order", r.name, got, r.want)
			}
			rest = rest[i+1:]
		}
		if scopeOf(m) != r.scope {
			t.Errorf("%s: scope %d, want %d", r.name, scopeOf(m), r.scope)
		}
		for _, s := range got {
			if len(s) > 255 {
				t.Errorf("%s: string of %d bytes", r.name, len(s))
			}
		}
	}
	for _, src := range []string{berlin, "10.2.0.1", "2001:db8::1", "::ffff:192.0.2.1"} {
		m := why(src, ecs("127.0.0.0/8"))
		if code, _ := edeOf(m); m.Rcode != refused || m.Authoritative || len(m.Answer) != 0 || code != int(dns.ExtendedErrorCodeProhibited) {
			t.Errorf("from %s: got %s, %v, want REFUSED, EDE 18", src, dns.RcodeToString[m.Rcode], m.Answer)
		}
	}
	if m := exchange(t, s, pack(t, ask("_why.join.media.example.", dns.TypeA)), "127.0.0.1", overUDP); m.Rcode != noerror || len(m.Ns) != 1 {
		t.Errorf("type A: got %v, want NODATA", m)
	}
	short := exchange(t, s, pack(t, ask("_why.join.media.example.", dns.TypeTXT, noEDNS, func(m *dns.Msg) {})), "127.0.0.1", overUDP)
	if short.Truncated || len(short.Answer) != 1 {
		t.Errorf("512 octets: got %v, want it whole", short)
	}
}

func TestWordsAreBounded(t *testing.T) {
	x := steer.Explanation{Generation: 1, Refused: string(residency.HomeOnly), Citation: []string{strings.Repeat("§", 200), `a \ backslash`}}
	for range 5000 {
		x.Regions = append(x.Regions, steer.RegionWord{Region: "a-region", Code: "not_adequate"})
	}
	list := words(netip.MustParsePrefix("2001:db8::/32"), x)
	rr := &dns.TXT{Hdr: header("_why.join.media.example.", dns.TypeTXT, 0), Txt: list}
	b := make([]byte, 1<<17)
	n, err := dns.PackRR(rr, b, 0, nil, false)
	if err != nil || n > maxWhy+256 {
		t.Fatalf("packed: %d bytes, %v; want at most %d", n, err, maxWhy+256)
	}
	back, _, err := dns.UnpackRR(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := back.(*dns.TXT).Txt
	if !slices.Contains(got, `citation=a \\ backslash`) {
		t.Errorf("got %q, want the backslash once (shown escaped)", got[:6])
	}
}

// A serial follows the clock when the answers change, and never goes back: neither with
// more changes than seconds, nor at a restart after them, nor with the clock.
func TestSerialNeverGoesBack(t *testing.T) {
	at := now
	var newest *steer.World
	open := func() *Server {
		s, err := Listen(Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Zone: zone, World: func() *steer.World { return newest }, Geo: table(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		s.now = func() time.Time { return at }
		s.serial = uint32(at.Unix())
		return s
	}
	s := open()
	answers := uint64(0)
	change := func() {
		answers++
		newest = demo()
		newest.Answers, newest.Generation = answers, answers
	}
	last := uint32(0)
	serial := func() uint32 {
		t.Helper()
		is := exchange(t, s, pack(t, ask("media.example.", dns.TypeSOA)), berlin, overUDP).Answer[0].(*dns.SOA).Serial
		if last != 0 && int32(is-last) < 0 {
			t.Fatalf("serial %d after %d", is, last)
		}
		last = is
		return is
	}
	for range 1000 { // a hundred changes a second
		change()
		serial()
		at = at.Add(10 * time.Millisecond)
	}
	if got, want := last, uint32(at.Unix()); int32(got-want) > 0 || want-got > 1 {
		t.Errorf("serial %d at %d", got, want)
	}
	before := last
	at = at.Add(time.Hour)
	newest = demo()
	newest.Answers, newest.Generation = answers, answers+100
	if serial() != before {
		t.Errorf("serial %d, though nothing else is answered than at %d", last, before)
	}
	change()
	if serial() != uint32(at.Unix()) {
		t.Errorf("serial %d, want that of the change, %d", last, at.Unix())
	}
	s = open() // a restart within the second
	serial()
	at = at.Add(-time.Hour)
	change()
	serial()
	for _, t := range []int64{3 << 30, 1<<32 - 1} { // 2072, 2106
		at = time.Unix(t, 0)
		change()
		serial()
	}
	at = at.Add(2 * time.Second)
	change()
	if serial() != 1 {
		t.Errorf("serial %d a second after it wrapped", last)
	}
}

// A World that answers as the last one did empties no view: not the next query is ranked
// or signed anew. One that answers otherwise does at once.
func TestViewOutlivesItsWorld(t *testing.T) {
	newest := demo()
	newest.Answers = 7
	s := listen(t, func(c *Config) { c.World = func() *steer.World { return newest } })
	exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA)), berlin, overUDP)
	was := s.view.Load()
	next := func(answers uint64) {
		w := demo()
		w.Generation, w.At, w.Answers = newest.Generation+1, newest.At.Add(time.Minute), answers
		newest = w
		exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA)), berlin, overUDP)
	}
	if next(7); s.view.Load() != was {
		t.Error("a generation alone emptied the view")
	}
	if next(8); s.view.Load() == was {
		t.Error("other answers, and the view stays")
	}
	was = s.view.Load()
	if next(0); s.view.Load() == was {
		t.Error("a World of unknown answers, and the view stays")
	}
}

// The same of a preparer's.
func TestPreparedViewOutlivesItsWorld(t *testing.T) {
	var newest atomic.Pointer[steer.World]
	world := func(answers uint64) *steer.World {
		w := demo()
		w.Generation, w.Answers = answers, answers
		return w
	}
	newest.Store(world(7))
	changed := make(chan struct{}, 1)
	s := listen(t, func(c *Config) {
		c.World = newest.Load
		c.Changes = func() (<-chan struct{}, func()) { return changed, func() {} }
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.prepare(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	comes(t, s, func(v *view) bool { return s.preparing.Load() && v.world == newest.Load() })
	was := s.view.Load()
	for range 3 { // the third is taken once the second was looked at
		newest.Store(world(7))
		changed <- struct{}{}
	}
	if s.view.Load() != was {
		t.Error("a generation alone emptied the view")
	}
	newest.Store(world(8))
	changed <- struct{}{}
	comes(t, s, func(v *view) bool { return v.world == newest.Load() })
}

// TestDenialsOfOnePlace: who is denied what others are given is led elsewhere, or told to
// keep nothing; all other denials are kept as long as any (RFC 2308 section 5).
func TestDenialsOfOnePlace(t *testing.T) {
	plain := demo()
	for i := range plain.Regions { // no edge has IPv6, or speaks TURN over TLS
		for k := range plain.Regions[i].Edges {
			e := &plain.Regions[i].Edges[k]
			e.Addr6, e.Turns = netip.Addr{}, netip.AddrPort{}
		}
	}
	const paris, alias = "192.0.2.65", "CNAME none.edge.media.example."
	_, k := keys(t, false)
	for _, r := range []struct {
		name, query string
		qtype       uint16
		src         string
		world       *steer.World
		alias       string
		ttl         uint32
	}{
		{"no lawful edge", "join.media.example.", dns.TypeA, dubai, demo(), alias, 5},
		{"no lawful edge, HTTPS", "join.media.example.", dns.TypeHTTPS, dubai, demo(), alias, 5},
		{"no lawful edge, for any type", "join.media.example.", dns.TypeAAAA, dubai, plain, alias, 5},
		{"no lawful edge, SRV", "_turn._udp.media.example.", dns.TypeSRV, dubai, demo(), alias, 5},
		{"edges without TURN over TLS", "_turns._tcp.join.media.example.", dns.TypeSRV, paris, demo(), alias, 5},
		{"edges without IPv6", "join.media.example.", dns.TypeAAAA, paris, demo(), "", 0},
		{"edges without TLS", "join.media.example.", dns.TypeHTTPS, paris, demo(), "", 0},
		{"edges without IPv6, as all", "join.media.example.", dns.TypeAAAA, paris, plain, "", 5},
		{"edges without TURN over TLS, as all", "_turns._tcp.join.media.example.", dns.TypeSRV, paris, plain, "", 5},
		{"pinned, no lawful edge", "ae.join.media.example.", dns.TypeA, berlin, demo(), "", 5},
		{"pinned, edges without IPv6", "fr.join.media.example.", dns.TypeAAAA, berlin, demo(), "", 5},
		{"a type that no place has", "join.media.example.", dns.TypeTXT, dubai, demo(), "", 5},
		{"what the alias leads to", "none.edge.media.example.", dns.TypeA, dubai, demo(), "", 5},
	} {
		s := listen(t, world(r.world))
		for _, signed := range []bool{false, true} {
			if signed {
				s.SetSigner(k)
			}
			for range 2 { // the second time it is remembered
				m := exchange(t, s, pack(t, ask(r.query, r.qtype, do)), r.src, overUDP)
				if got := show(m.Answer); r.alias == "" && len(got) > 0 || r.alias != "" && (len(got) == 0 || got[0] != r.alias) {
					t.Errorf("%s: answer %q, want %q", r.name, got, r.alias)
				}
				if want := map[bool]int{false: 1, true: 4}[signed]; len(m.Ns) != want {
					t.Errorf("%s: authority %v, want %d records", r.name, m.Ns, want)
				}
				for _, rr := range m.Ns {
					if rr.Header().Ttl != r.ttl {
						t.Errorf("%s: %v, want TTL %d", r.name, rr, r.ttl)
					}
				}
				if signed {
					verify(t, k, m, r.name)
				}
			}
		}
	}
}
