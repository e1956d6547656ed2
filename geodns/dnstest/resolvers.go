package dnstest

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bailiwick/tools/exectest"
	"bailiwick/tools/nettest"
)

// Zone is what a resolver is to know: of whom it asks about the zone, and what it
// validates it by. Without DS it does not validate.
type Zone struct {
	Name   string // without the final dot
	Server netip.AddrPort
	DS     *dns.DS
}

// anchor is the DS record without its owner.
func (z Zone) anchor() string {
	return fmt.Sprintf("%d %d %d %s", z.DS.KeyTag, z.DS.Algorithm, z.DS.DigestType, z.DS.Digest)
}

// UnboundECS runs an Unbound that tells its clients' networks and caches by scope. config
// is as of [Unbound].
func UnboundECS(t testing.TB, z Zone, config string) netip.AddrPort {
	t.Helper()
	trust := fmt.Sprintf("domain-insecure: %q", z.Name)
	if z.DS != nil {
		trust = fmt.Sprintf("trust-anchor: \"%s. DS %s\"", z.Name, z.anchor())
	}
	return Unbound(t, netip.MustParseAddrPort("127.0.0.1:0"), z.Name, fmt.Sprintf(`
  module-config: "subnetcache validator iterator"
  send-client-subnet: %s
  client-subnet-always-forward: yes
  do-not-query-localhost: no
  local-zone: "example." nodefault
  %s
  %s
`, z.Server.Addr(), trust, config)+Stub(z.Name, z.Server))
}

// PowerDNS runs a Recursor that tells its clients' networks, and believes those that they
// tell. config is further lines of recursor.conf; a setting of ours may be said again.
func PowerDNS(t testing.TB, z Zone, config string) netip.AddrPort {
	t.Helper()
	path, dir := exectest.Need(t, "pdns_recursor", "pdns-recursor"), t.TempDir()
	at := nettest.Free(t, netip.MustParseAddr("127.0.0.1"))
	trust := fmt.Sprintf("addNTA(%q, 'unsigned')", z.Name) // it has the root's key
	if z.DS != nil {
		trust = fmt.Sprintf("addTA(%q, %q)", z.Name, z.anchor())
	}
	write(t, dir, "recursor.conf", fmt.Sprintf(`local-address=%s
local-port=%d
threads=1
daemon=no
setuid=
setgid=
socket-dir=%s
hint-file=no
security-poll-suffix=
dont-query=
forward-zones=%s=%s
use-incoming-edns-subnet=yes
edns-subnet-allow-list=%[4]s
ecs-add-for=0.0.0.0/0,::/0
lua-config-file=%[6]s
%[7]s
`, at.Addr(), at.Port(), dir, z.Name, z.Server, write(t, dir, "trust.lua", trust), config))
	z.await(t, exec.Command(path, "--config-dir="+dir), at)
	return at
}

// BIND runs a named that asks from an address; it tells nobody's network.
func BIND(t testing.TB, z Zone, from netip.Addr) netip.AddrPort {
	t.Helper()
	path, dir := exectest.Need(t, "named", "bind9"), t.TempDir()
	at := nettest.Free(t, netip.MustParseAddr("127.0.0.1"))
	validation, trust := "no", ""
	if z.DS != nil {
		validation = "yes"
		trust = fmt.Sprintf("trust-anchors { %s static-ds %d %d %d %q; };", z.Name, z.DS.KeyTag, z.DS.Algorithm, z.DS.DigestType, z.DS.Digest)
	}
	// port is where it asks; where it listens is said apart.
	file := write(t, dir, "named.conf", fmt.Sprintf(`options {
	directory %q;
	managed-keys-directory %[1]q;
	pid-file none;
	session-keyfile none;
	lock-file none;
	listen-on port %d { %s; };
	listen-on-v6 { none; };
	port %d;
	query-source address %s;
	empty-zones-enable no;
	dnssec-validation %s;
};
controls {};
zone %q { type static-stub; server-addresses { %s; }; };
%s
`, dir, at.Port(), at.Addr(), z.Server.Port(), from, validation, z.Name, z.Server.Addr(), trust))
	z.await(t, exec.Command(path, "-g", "-n", "1", "-c", file), at)
	return at
}

// Knot runs a Knot Resolver that asks from an address; it tells nobody's network.
func Knot(t testing.TB, z Zone, from netip.Addr) netip.AddrPort {
	t.Helper()
	path, dir := exectest.Need(t, "kresd", "knot-resolver"), t.TempDir()
	at := nettest.Free(t, netip.MustParseAddr("127.0.0.1"))
	how, trust := "STUB", ""
	if z.DS != nil {
		how, trust = "FORWARD", fmt.Sprintf("trust_anchors.add('%s. DS %s')", z.Name, z.anchor())
	}
	// What it does unasked asks the root.
	file := write(t, dir, "kresd.conf", fmt.Sprintf(`net.listen('%s', %d, { kind = 'dns' })
net.outgoing_v4('%s')
for _, name in ipairs({'ta_update', 'ta_signal_query', 'priming', 'detect_time_skew'}) do modules.unload(name) end
trust_anchors.remove('.')
cache.size = 10 * MB
policy.add(policy.suffix(policy.%s({'%s@%d'}), {todname('%s')}))
%s
`, at.Addr(), at.Port(), from, how, z.Server.Addr(), z.Server.Port(), z.Name, trust))
	z.await(t, exec.Command(path, "-n", "-c", file, dir), at)
	return at
}

// await starts a resolver, until the test ends, and returns once it resolves the zone.
func (z Zone) await(t testing.TB, cmd *exec.Cmd, at netip.AddrPort) {
	t.Helper()
	exectest.Start(t, cmd).Await(t, func() error {
		m, err := dns.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(z.Name), dns.TypeNS), at.String())
		if err == nil && m.Rcode != dns.RcodeSuccess {
			err = fmt.Errorf("%s NS: %s", z.Name, dns.RcodeToString[m.Rcode])
		}
		return err
	})
}

// write makes a file and gives its path.
func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(strings.TrimSpace(text)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
