package e2e

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bailiwick/acme/pebbletest"
	"bailiwick/geodns/dnstest"
	"bailiwick/store/consultest"
	"bailiwick/tools/exectest"
	"bailiwick/tools/pathtest"
)

// Addresses of the little internet that a test has to itself in a network namespace.
// All of them stand on its loopback interface, so that whoever connects to one has it
// as source, too: the client of a resolver is in the resolver's network.
const (
	rootServer = "192.0.2.4"
	upstream   = "192.0.2.5" // what an authority sees of the resolver: in Ashburn
	authority  = "192.0.2.53"
	acmeServer = "192.0.2.80"
	berlin     = "198.51.100.53" // the resolver of an access network in Berlin
	paris      = "203.0.113.53"  // and of one in Paris
)

// place of those addresses: what a geo database would say.
const places = `
  - {prefix: 192.0.2.0/24, country: US, subdivision: US-VA, at: [39.04, -77.49]}
  - {prefix: 198.51.100.0/24, country: DE, at: [52.52, 13.405]}
  - {prefix: 203.0.113.0/24, country: FR, at: [48.86, 2.35]}
`

// edgeAddr is where the edges of that internet stand; all the edges that there are.
var edgeAddr = map[string]string{"de-ber-1": "192.0.2.11", "de-fra-1": "192.0.2.12", "fr-par-1": "192.0.2.13"}

// insideWith is the environment variable that names the program under test inside a namespace.
const insideWith = "BAILIWICK_TEST_BINARY"

// alone says whether the test runs in namespaces of its own, with the program under test that
// was built outside of them.
func alone(t *testing.T) bool {
	t.Helper()
	return pathtest.Alone(t, insideWith+"="+binary)
}

// internet brings the namespace up: addresses, a signed root that delegates
// media.example to authority, and a real Unbound that starts from that root, validates,
// and serves the access networks, telling the authority the client's network (ECS). The
// machine is in Berlin.
func internet(t *testing.T) *rootZone {
	t.Helper()
	home := t.TempDir()
	t.Setenv("BAILIWICK_CONSUL", consultest.Binary(t)) // found by the HOME of the person
	t.Setenv("BAILIWICK_PEBBLE", pebbletest.Binary(t))
	t.Setenv("HOME", home)
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("XDG_DATA_HOME", "")
	up := []string{"link set lo up"}
	for _, a := range []string{rootServer, upstream, authority, acmeServer, berlin, paris} {
		up = append(up, "addr add "+a+"/32 dev lo")
	}
	for _, a := range edgeAddr {
		up = append(up, "addr add "+a+"/32 dev lo")
	}
	ip := exectest.Need(t, "ip", "iproute2")
	for _, args := range up {
		if out, err := output(ip, strings.Fields(args)...); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	conf := filepath.Join(home, "resolv.conf")
	write(t, conf, "nameserver "+berlin+"\n")
	if err := cmp.Or(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount(conf, "/etc/resolv.conf", "", syscall.MS_BIND, "")); err != nil {
		t.Fatalf("/etc/resolv.conf of the namespace: %v", err)
	}
	root := serveRoot(t)
	unbound(t, home, strings.ReplaceAll(root.key.String(), "\t", " "))
	return root
}

// unbound runs the resolver; anchor is the root's key.
func unbound(t *testing.T, dir, anchor string) {
	t.Helper()
	hints := filepath.Join(dir, "root.hints")
	write(t, hints, ". 3600000 NS ns.root.\nns.root. 3600000 A "+rootServer+"\n")
	dnstest.Unbound(t, netip.AddrPortFrom(netip.MustParseAddr(berlin), 53), ".", fmt.Sprintf(`
  interface: %s
  outgoing-interface: %s
  do-ip6: no
  root-hints: %q
  trust-anchor: %q
  module-config: "subnetcache validator iterator"
  send-client-subnet: %s
`, paris, upstream, hints, anchor, authority))
}

// webOnly closes the ports of TURN over TCP and TLS, to everybody: TCP is left with the
// HTTPS port. Health probes ask STUN over UDP, which stays open.
func webOnly(t *testing.T) {
	t.Helper()
	ip := exectest.Need(t, "ip", "iproute2")
	for _, args := range []string{"pref 1 lookup local", "pref 0 ipproto tcp dport 3478 prohibit", "pref 0 ipproto tcp dport 5349 prohibit"} {
		if out, err := output(ip, append([]string{"rule", "add"}, strings.Fields(args)...)...); err != nil {
			t.Fatalf("ip rule add %s: %v\n%s", args, err, out)
		}
	}
	if out, err := output(ip, "rule", "del", "pref", "0", "lookup", "local"); err != nil {
		t.Fatalf("ip rule del: %v\n%s", err, out)
	}
}

// resolve asks as the machines of an access network do: its resolver, and nobody else.
func resolve(from, name string) (string, error) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, from+":53")
	}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	addrs, err := r.LookupNetIP(ctx, "ip4", name)
	if err != nil {
		return "", err
	}
	all := make([]string, len(addrs))
	for i, a := range addrs {
		all[i] = netip.Addr.String(a)
	}
	return strings.Join(all, " "), nil
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
