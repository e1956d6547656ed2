package turn

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	pion "github.com/pion/turn/v5"

	"bailiwick/tools/exectest"
	"bailiwick/tools/nettest"
)

// TestCoturnClient relays with the client and the peer of coturn, an independent
// implementation. -W has it make the REST credentials by itself.
func TestCoturnClient(t *testing.T) {
	exectest.Need(t, "turnutils_uclient", "coturn")
	exectest.Need(t, "turnutils_peer", "coturn")
	user, pass := Credentials(secret, "p1", time.Now().Add(time.Hour))
	tests := []struct {
		name, addr string
		args       []string
	}{
		{"channels", "127.0.0.1", []string{"-u", user, "-w", pass}},
		{"indications", "127.0.0.1", []string{"-u", user, "-w", pass, "-s"}},
		{"credentials of its own making", "127.0.0.1", []string{"-u", "p1", "-W", string(secret)}},
		{"TCP", "127.0.0.1", []string{"-u", user, "-w", pass, "-t"}},
		{"TLS", "127.0.0.1", []string{"-u", user, "-w", pass, "-t", "-S"}},
		{"TLS, indications", "127.0.0.1", []string{"-u", user, "-w", pass, "-t", "-S", "-s"}},
		{"TLS 1.2", "127.0.0.1", []string{"-u", user, "-w", pass, "-t", "-S", "-F", "ECDHE-ECDSA-AES128-GCM-SHA256"}},
		{"IPv6", "::1", []string{"-u", user, "-w", pass, "-x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it sleeps most of the time
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			peer := coturnPeer(t, tt.addr)
			// It binds a channel to the next port too, though it sends no RTCP.
			secure, pair := withTLS(t)
			root, _ := pair.Write(t, t.TempDir())
			s := start(t, tt.addr, []netip.AddrPort{peer, netip.AddrPortFrom(peer.Addr(), peer.Port()+1)}, secure)
			port := s.Addr().Port()
			if slices.Contains(tt.args, "-S") {
				port = s.TLSAddr().Port()
				tt.args = append(tt.args, "-E", root)
			}
			args := append([]string{"-n", "50", "-m", "3", "-l", "800", "-c", "-z", "5",
				"-e", tt.addr, "-r", strconv.Itoa(int(peer.Port())), "-p", strconv.Itoa(int(port))}, tt.args...)
			out, err := exec.CommandContext(ctx, "turnutils_uclient", append(args, tt.addr)...).CombinedOutput()
			if err != nil {
				t.Fatalf("turnutils_uclient: %v\n%s", err, out)
			}
			lost := regexp.MustCompile(`Total lost packets (\d+)`).FindSubmatch(out)
			if lost == nil || string(lost[1]) != "0" {
				t.Errorf("want 0 lost packets:\n%s", out)
			}
			if st := s.Stats(); st.ToPeers < 3*50*800 || st.FromPeers < 3*50*800 {
				t.Errorf("relayed %d bytes to peers and %d from them, want at least %d", st.ToPeers, st.FromPeers, 3*50*800)
			}
		})
	}
}

// TestClientsHearWhy: clients of other people are told that the family is not to be had, and
// not that they might try again later.
func TestClientsHearWhy(t *testing.T) {
	s := start(t, "127.0.0.1", nil)
	user, pass := Credentials(secret, "p1", time.Now().Add(time.Hour))
	conn, _ := udp(t, "127.0.0.1")
	c, err := pion.NewClient(&pion.ClientConfig{TURNServerAddr: s.Addr().String(), Conn: conn, Username: user, Password: pass, Realm: realm,
		RequestedAddressFamily: pion.RequestedAddressFamilyIPv6})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Allocate(); err == nil || !strings.Contains(err.Error(), "440") {
		t.Errorf("pion's client, asking for IPv6: %v, want 440", err)
	}
	exectest.Need(t, "turnutils_uclient", "coturn")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "turnutils_uclient", "-n", "1", "-c", "-x", "-y", "-u", user, "-w", pass, "-p", strconv.Itoa(int(s.Addr().Port())), "127.0.0.1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "440") {
		t.Errorf("coturn's client, asking for IPv6: %v, want 440\n%s", err, out)
	}
}

// coturnPeer runs turnutils_peer, which echoes, until the test ends.
func coturnPeer(t *testing.T, addr string) netip.AddrPort {
	t.Helper()
	at := nettest.Free(t, netip.MustParseAddr(addr)) // it cannot choose one by itself
	exectest.Start(t, exec.Command("turnutils_peer", "-L", addr, "-p", strconv.Itoa(int(at.Port()))))
	ask, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer ask.Close()
	for begin := time.Now(); time.Since(begin) < patience; {
		ask.Write([]byte("there?"))
		ask.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := ask.Read(make([]byte, 100)); err == nil && n > 0 {
			return at
		}
	}
	t.Fatal("turnutils_peer does not answer")
	return at
}
