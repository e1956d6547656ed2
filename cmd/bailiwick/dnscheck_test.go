package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bailiwick/geodns"
	"bailiwick/geodns/check"
	"bailiwick/geodns/geo"
	"bailiwick/geodns/nodetest"
	"bailiwick/geodns/zonefile"
	"bailiwick/region"
	"bailiwick/residency"
)

// TestDNSCheckOfGoodNodes: every flag reaches its check. A node of an unsigned zone
// says what its parent should.
func TestDNSCheckOfGoodNodes(t *testing.T) {
	pair, roots := writeKeyPair(t, t.TempDir(), "ns1.media.example", time.Now().Add(90*24*time.Hour))
	shared := func(c *geodns.Config) {
		c.NS = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		c.DoT, c.TLS = netip.MustParseAddrPort("127.0.0.1:0"), pair.config()
	}
	a, b := nodetest.Start(t, shared), nodetest.Start(t, shared)
	code, rows, stderr := dnsCheck(t, "--server", a.Addr().String(), "--server", b.Addr().String(), "--ns", "127.0.0.1", "--parent", b.Addr().String(), "--subnet", "192.0.2.0/27")
	if code != 0 {
		t.Errorf("exit code %d, failed %v: %v\n%s", code, failed(rows), rows, stderr)
	}
	for _, want := range []string{"glue ns1.media.example.", "join 192.0.2.0/27", "served", "agreement", "delegation", "ds"} {
		if !slices.ContainsFunc(rows, func(r check.Row) bool { return r.Check == want }) {
			t.Errorf("no row %s", want)
		}
	}
	_, port, _ := net.SplitHostPort(a.DoT().String())
	code, rows, _ = dnsCheck(t, "--server", a.Addr().String(), "--ns", "127.0.0.1", "--dot", port, "--tls-ca", roots)
	if code != 0 || !slices.ContainsFunc(rows, func(r check.Row) bool { return r.Check == "tls" }) {
		t.Errorf("over TLS: exit code %d: %v", code, rows)
	}
	for _, r := range [][]string{{"--tls-ca", roots, "--tls-name", "ns2.media.example"}, {}} { // another name; a stranger's certificate
		if code, rows, _ := dnsCheck(t, append([]string{"--server", a.Addr().String(), "--ns", "127.0.0.1", "--dot", port}, r...)...); code != exitFinding || !slices.Equal(failed(rows), []string{"tls"}) {
			t.Errorf("%v: exit code %d, failed %v; want tls", r, code, failed(rows))
		}
	}
}

// TestDNSCheckReadsTheZoneFile: its NS records are what is wanted, and whom to ask.
func TestDNSCheckReadsTheZoneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "zone.db")
	text := "@ NS ns.media.example.\n@ NS ns2.example.org.\nns A 127.0.0.1\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	z, err := zonefile.Parse("media.example", path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s := nodetest.Start(t, func(c *geodns.Config) { c.Records = z })
	if code, rows, _ := dnsCheck(t, "--server", s.Addr().String(), "--zone-file", path); code != 0 {
		t.Errorf("exit code %d, failed %v: %v", code, failed(rows), rows)
	}
	if _, rows, _ := dnsCheck(t, "--server", s.Addr().String()); !slices.Equal(failed(rows), []string{"glue ns1.media.example.", "ns"}) {
		t.Errorf("without the file: failed %v", failed(rows))
	}
	c := dnsCheckCmd{Map: shippedMap, zoneFlags: zoneFlags{ZoneFile: path}}
	if z, err := c.zone(); err != nil || len(z.Servers) != 1 || z.Servers[0].String() != "127.0.0.1:53" {
		t.Errorf("servers: got %v, %v; want the zone file's", z.Servers, err)
	}
}

func TestDNSCheckPrintsATable(t *testing.T) {
	s := nodetest.Start(t)
	var stdout, stderr bytes.Buffer
	args := []string{"dns", "check", "--map", shippedMap, "--server", s.Addr().String(), "--ns", "192.0.2.9"}
	if code := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr); code != exitFinding {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	for _, want := range []string{"SERVER", "FAIL", "[127.0.0.1]: want [192.0.2.9]", "glue ns1.media.example.: let the zone file", " checks, 1 failed, no warnings\n"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, stdout.String())
		}
	}
}

// TestDNSCheckWarns: example networks that the node does not place prove nothing, and that is
// no failure; those that the operator named are.
func TestDNSCheckWarns(t *testing.T) {
	table, err := geo.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := nodetest.Start(t, func(c *geodns.Config) { c.Geo = table })
	check := func(args ...string) (int, string) {
		var stdout, stderr bytes.Buffer
		args = append([]string{"dns", "check", "--map", shippedMap, "--server", s.Addr().String()}, args...)
		return run(context.Background(), args, strings.NewReader(""), &stdout, &stderr), stdout.String() + stderr.String()
	}
	if code, out := check(); code != 0 || !strings.Contains(out, " checks, 0 failed, 2 warnings\n") || !strings.Contains(out, "--subnet") || strings.Count(out, "steering is not") != 1 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, out := check("--subnet", "192.0.2.0/27"); code != exitFinding || !strings.Contains(out, " checks, 1 failed, no warnings\n") {
		t.Errorf("named: exit code %d\n%s", code, out)
	}
}

// TestDNSCheckNetworks: the map's overrides must be placed, of countries that it serves;
// without any the built-in examples need not be.
func TestDNSCheckNetworks(t *testing.T) {
	place := func(network string, j residency.Jurisdiction) region.Override {
		return region.Override{Prefix: netip.MustParsePrefix(network), Place: region.Place{Jurisdiction: j}}
	}
	for _, r := range []struct {
		name    string
		geo     []region.Override
		want    string
		guessed bool
	}{
		{"no overrides", nil, "[192.0.2.0/27 192.0.2.64/27]", true},
		{"of two countries", []region.Override{place("10.1.0.0/16", "DE"), place("10.2.0.0/16", "DE"), place("10.3.0.0/16", "FR")}, "[10.1.0.0/16 10.3.0.0/16]", false},
		{"of a country that is not served", []region.Override{place("10.1.0.0/16", "EC"), place("10.3.0.0/16", "FR")}, "[10.3.0.0/16]", false},
		{"of no country that is served", []region.Override{place("10.1.0.0/16", "EC")}, "[192.0.2.0/27 192.0.2.64/27]", true},
	} {
		list, guessed := networks(&region.Map{Served: []residency.Jurisdiction{"DE", "FR"}, Geo: r.geo})
		if fmt.Sprint(list) != r.want || guessed != r.guessed {
			t.Errorf("%s: got %v, guessed %v; want %s, %v", r.name, list, guessed, r.want, r.guessed)
		}
	}
}

// TestDNSCheckAdvises: every cause has its advice, and each is told once.
func TestDNSCheckAdvises(t *testing.T) {
	var out bytes.Buffer
	advise(&out, []check.Row{{Check: "udp", Do: "start it"}, {Check: "tcp", OK: true}, {Check: "udp", Do: "another --map"}, {Check: "ds", Do: "start it"}, {Check: "udp", Do: "start it"}})
	if want := "udp, ds: start it\nudp: another --map\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestDNSCheckMisuse(t *testing.T) {
	for _, r := range []struct {
		name, want string
		args       []string
	}{
		{"nobody to ask", "name them with --server", nil},
		{"a name in place of an address", `--server: "ns1.example": want the IP address of a DNS server`, []string{"--server", "ns1.example"}},
		{"a parent that is none", `--parent: "x": want`, []string{"--server", "127.0.0.1", "--parent", "x"}},
		{"no zone file", "--zone-file", []string{"--server", "127.0.0.1", "--zone-file", "missing.db"}},
		{"no certificates", "--tls-ca", []string{"--server", "127.0.0.1", "--tls-ca", shippedMap}},
	} {
		if code, _, stderr := dnsCheck(t, r.args...); code != exitMisuse || !strings.Contains(stderr, r.want) {
			t.Errorf("%s: exit code %d, %q; want %s", r.name, code, stderr, r.want)
		}
	}
}
