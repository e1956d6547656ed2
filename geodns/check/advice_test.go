package check

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns"
	"bailiwick/geodns/geo"
	"bailiwick/geodns/nodetest"
	"bailiwick/geodns/zonefile"
	"bailiwick/tools/nettest"
)

// row is the first of a check.
func row(t *testing.T, rows []Row, check string) Row {
	t.Helper()
	i := slices.IndexFunc(rows, func(r Row) bool { return r.Check == check })
	if i < 0 {
		t.Fatalf("no row %s: %v", check, rows)
	}
	return rows[i]
}

// TestAdviceFitsTheCause: who is not heard is to be reached, and who answers something
// else is to be changed.
func TestAdviceFitsTheCause(t *testing.T) {
	set, signer := zoneKeys(t, time.Now())
	strange, _ := zoneKeys(t, time.Now())
	s := nodetest.Start(t)
	s.SetSigner(signer)
	ds, err := set.DS(set.Keys[0], dns.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	other, err := strange.DS(strange.Keys[0], dns.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	const ns1 = "ns1.media.example."
	refused := meddler(t, "", func(_ string, _, r *dns.Msg) *dns.Msg {
		r.Rcode = dns.RcodeRefused
		return r
	})
	mute := meddler(t, "", func(string, *dns.Msg, *dns.Msg) *dns.Msg { return nil })
	parent := func(ns string, ds ...*dns.DS) netip.AddrPort {
		return meddler(t, "", delegation([]string{ns}, "127.0.0.1", ds...))
	}
	for _, r := range []struct {
		name  string
		zone  Zone
		check string
		want  string
	}{
		{"a node that does not listen, UDP", asked(t, nettest.Closed(t)), "udp", "start the node"},
		{"a node that does not listen, TCP", asked(t, nettest.Closed(t)), "tcp", "start the node"},
		{"a node that is silent", asked(t, mute), "udp", "start the node"},
		{"a node that is silent, TCP", asked(t, mute), "tcp", "start the node"},
		{"a node of another zone, UDP", asked(t, refused), "udp", "give the node and bailiwick dns check the same --map"},
		{"a node of another zone, TCP", asked(t, refused), "tcp", "give the node and bailiwick dns check the same --map"},
		{"a parent that does not listen", under(t, s, nettest.Closed(t)), "delegation", "the parent was not heard"},
		{"a parent that does not listen, DS", under(t, s, nettest.Closed(t)), "ds", "the parent was not heard"},
		{"a parent that is silent", under(t, s, mute), "delegation", "the parent was not heard"},
		{"a parent that is silent, DS", under(t, s, mute), "ds", "the parent was not heard"},
		{"no server of the parent", under(t, s, refused), "delegation", "is --parent an authoritative server of the parent zone?"},
		{"no server of the parent, DS", under(t, s, refused), "ds", "is --parent an authoritative server of the parent zone?"},
		{"another delegation", under(t, s, parent("ns9.media.example.", ds)), "delegation", "give the registrar"},
		{"no DS", under(t, s, parent(ns1)), "ds", "give the parent the DS records"},
		{"a DS of another key", under(t, s, parent(ns1, other)), "ds", "take these DS records out of the parent"},
	} {
		t.Run(r.name, func(t *testing.T) {
			if strings.Contains(r.name, "silent") { // nothing is lost by hurry
				r.zone.Timeout = 200 * time.Millisecond
			}
			got := row(t, r.zone.Run(t.Context()), r.check)
			if got.OK || !strings.Contains(got.Do, r.want) {
				t.Errorf("%s: ok %v, %q; do %q, want %q", r.check, got.OK, got.Detail, got.Do, r.want)
			}
			if strings.Contains(got.Do, "--zone ") {
				t.Errorf("%q names a flag that there is not", got.Do)
			}
		})
	}
}

// TestParentBesideDeadNodes: a DS that was compared with nothing is not called right.
func TestParentBesideDeadNodes(t *testing.T) {
	z := asked(t, nettest.Closed(t))
	z.Parents = []netip.AddrPort{meddler(t, "", delegation([]string{"ns1.media.example."}, "127.0.0.1"))}
	if got := row(t, z.Run(t.Context()), "ds"); got.Detail != "no records, compared with no node" {
		t.Errorf("ds: %q", got.Detail)
	}
}

// TestUnreadZoneFile: a zone whose name servers stand in its zone file is right, and whoever
// checks it without that file is told what is missing.
func TestUnreadZoneFile(t *testing.T) {
	text := "@ NS ns.media.example.\nns A 127.0.0.1\n"
	records, err := zonefile.Parse("media.example", "zone.db", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s := nodetest.Start(t, func(c *geodns.Config) { c.Records = records })
	z := under(t, s, meddler(t, "", delegation([]string{"ns.media.example."}, "127.0.0.1")))
	rows := z.Run(t.Context())
	for _, check := range []string{"ns", "glue ns1.media.example.", "delegation"} {
		if got := row(t, rows, check); got.OK || got.Do != giveFile {
			t.Errorf("%s: ok %v, do %q; want %q", check, got.OK, got.Do, giveFile)
		}
	}
	if z.NS, err = NameServers(z.Name, "zone.db", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if got := failed(z.Run(t.Context())); got != nil {
		t.Errorf("with the file: failed %v", got)
	}
	z.NS = map[string][]netip.Addr{"ns2.media.example": nil} // of another file
	if got := row(t, z.Run(t.Context()), "ns"); got.OK || got.Do == giveFile {
		t.Errorf("with another file: ok %v, do %q", got.OK, got.Do)
	}
}

// TestJoinWithoutAnEdge: a client network that gets no edge fails the check, or, where it is
// but an example, is said to prove nothing.
func TestJoinWithoutAnEdge(t *testing.T) {
	table, err := geo.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	unplaced := nodetest.Start(t, func(c *geodns.Config) { c.Geo = table })
	placed := nodetest.Start(t)
	for _, r := range []struct {
		name    string
		server  *geodns.Server
		guessed bool
		want    []string // that failed
		do      string   // of the first network
	}{
		{"placed", placed, false, nil, ""},
		{"placed, an example", placed, true, nil, ""},
		{"not placed", unplaced, false, []string{"join 192.0.2.0/27", "join 198.51.100.0/27"}, "bailiwick why"},
		{"not placed, an example", unplaced, true, nil, "--subnet"},
	} {
		z := asked(t, r.server.Addr())
		z.Guessed = r.guessed
		rows := z.Run(t.Context())
		got := row(t, rows, "join 192.0.2.0/27")
		if !slices.Equal(failed(rows), r.want) || (got.Do == "") != (r.do == "") || !strings.Contains(got.Do, r.do) {
			t.Errorf("%s: failed %v, want %v; do %q, want %q", r.name, failed(rows), r.want, got.Do, r.do)
		}
	}
}

// TestScopesOfOneAnswer: scopes that overlap are right where their answers are the same.
func TestScopesOfOneAnswer(t *testing.T) {
	z := asked(t, nodetest.Start(t).Addr())
	z.Subnets = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("192.0.2.16/28")}
	if got := row(t, z.Run(t.Context()), "ecs-scope"); !got.OK || got.Detail != "192.0.2.0/27 192.0.2.0/27" {
		t.Errorf("ecs-scope: ok %v, %q", got.OK, got.Detail)
	}
}

// TestCertificateOfTheZoneFile: over TLS a node is called as the zone calls its name server.
func TestCertificateOfTheZoneFile(t *testing.T) {
	config, roots := certificate(t, "ns.media.example", time.Now().Add(90*24*time.Hour))
	s := nodetest.Start(t, func(c *geodns.Config) { c.DoT, c.TLS = netip.MustParseAddrPort("127.0.0.1:0"), config })
	for _, r := range []struct {
		name string
		ns   []string
		ok   bool
	}{
		{"its name server", []string{"ns.media.example"}, true},
		{"beside one of another zone", []string{"a.example.org", "ns.media.example."}, true},
		{"none in the zone", []string{"a.example.org"}, false}, // ns1 is asked for
	} {
		z := asked(t, s.Addr())
		z.DoT, z.Roots, z.NS = s.DoT().Port(), roots, map[string][]netip.Addr{}
		for _, ns := range r.ns {
			z.NS[ns] = nil
		}
		if got := row(t, z.Run(t.Context()), "tls"); got.OK != r.ok {
			t.Errorf("%s: ok %v, %s", r.name, got.OK, got.Detail)
		}
	}
}
