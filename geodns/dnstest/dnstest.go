// Package dnstest has the peers of a DNS server under test: stand-in servers on sockets,
// the resolvers Unbound, PowerDNS, BIND and Knot, and delv, BIND's validator. For tests only.
//
// Where a program is not installed the test is skipped, except under CI=true, where it
// fails.
package dnstest

import (
	"context"
	"fmt"
	"net"
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

// Serve answers at an address, host:port, over UDP and TCP until the test ends; port 0 is
// one that is free. It gives the handler whatever looks like a message.
func Serve(t testing.TB, at string, handler dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: l}, {PacketConn: pc, UDPSize: dns.MaxMsgSize}} {
		s.Handler = handler
		s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
		ready, done := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(ready) }
		go func() { done <- s.ActivateAndServe() }()
		select {
		case <-ready:
		case err := <-done:
			t.Fatalf("serve DNS at %s: %v", at, err)
		}
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			<-done
		})
	}
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// Unbound runs a resolver at an address, where port 0 is one that is free, until the test
// ends, and returns once it resolves zone. It is open to everybody; what it validates and
// whom it asks is for config to say, in the words of unbound.conf(5), beginning with those
// of its server clause. See Stub.
func Unbound(t testing.TB, at netip.AddrPort, zone, config string) netip.AddrPort {
	t.Helper()
	path, dir := exectest.Need(t, "unbound", "unbound"), t.TempDir()
	if at.Port() == 0 {
		at = nettest.Free(t, at.Addr())
	}
	file := filepath.Join(dir, "unbound.conf")
	text := fmt.Sprintf(`server:
  interface: %s@%d
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  use-syslog: no
  logfile: ""
%s
remote-control:
  control-enable: no
`, at.Addr(), at.Port(), dir, config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := exectest.Start(t, exec.Command(path, "-d", "-c", file))
	p.Await(t, func() error {
		m, err := dns.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(zone), dns.TypeDNSKEY), at.String())
		if err == nil && m.Rcode != dns.RcodeSuccess {
			err = fmt.Errorf("%s DNSKEY: %s", zone, dns.RcodeToString[m.Rcode])
		}
		return err
	})
	return at
}

// Stub is the clause of unbound.conf by which servers, and nobody else, are asked for a
// zone. Those on a loopback address want do-not-query-localhost: no, too.
func Stub(zone string, servers ...netip.AddrPort) string {
	text := fmt.Sprintf("stub-zone:\n  name: %q\n  stub-prime: no\n", zone)
	for _, s := range servers {
		text += fmt.Sprintf("  stub-addr: %s@%d\n", s.Addr(), s.Port())
	}
	return text
}

// What delv says of an answer and of a denial that it has validated.
const (
	Validated       = "; fully validated"
	DenialValidated = "; negative response, fully validated"
)

// Anchor is what delv trusts: a DS of a zone's key, in a file.
type Anchor struct{ zone, path string }

// Trust makes an anchor. It ends the test where delv is not installed.
func Trust(t testing.TB, ds *dns.DS) Anchor {
	t.Helper()
	exectest.Need(t, "delv", "bind9-dnsutils")
	a := Anchor{ds.Hdr.Name, filepath.Join(t.TempDir(), "anchor")}
	text := fmt.Sprintf("trust-anchors { %s static-ds %d %d %d %q; };\n", a.zone, ds.KeyTag, ds.Algorithm, ds.DigestType, ds.Digest)
	if err := os.WriteFile(a.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// Delv asks a server and validates its answer from the anchor down; it gives what delv
// prints. more are further arguments. It is safe for concurrent use.
func (a Anchor) Delv(t testing.TB, server netip.AddrPort, name, rrtype string, more ...string) string {
	args := append([]string{"@" + server.Addr().String(), "-p", fmt.Sprint(server.Port()), "-a", a.path, "+root=" + strings.TrimSuffix(a.zone, "."), "-q", name, "-t", rrtype}, more...)
	ctx, cancel := context.WithTimeout(t.Context(), exectest.Patience)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "delv", args...).CombinedOutput() // its exit status says little; the words are judged
	return string(out)
}
