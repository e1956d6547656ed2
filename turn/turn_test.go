package turn

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"
)

func TestListenRefuses(t *testing.T) {
	taken, addr := udp(t, "127.0.0.1")
	defer taken.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	takenTCP := addrPort(l.Addr())
	good := Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Relay: netip.MustParseAddr("127.0.0.1"), Realm: realm,
		Secret: secret, Permit: func(netip.AddrPort) bool { return false }}
	tests := []struct {
		name  string
		spoil func(*Config)
		want  string
	}{
		{"no address", func(c *Config) { c.Addr = netip.AddrPort{} }, "no address to listen on"},
		{"no relay", func(c *Config) { c.Relay = netip.Addr{} }, "no relay address"},
		{"relay unspecified", func(c *Config) { c.Relay = netip.IPv4Unspecified() }, "no relay address"},
		{"relay elsewhere", func(c *Config) { c.Relay = netip.MustParseAddr("192.0.2.1") }, "must be one of this machine's"},
		{"no realm", func(c *Config) { c.Realm = "" }, "no realm"},
		{"no secret", func(c *Config) { c.Secret = nil }, "no secret"},
		{"no address for TLS", func(c *Config) { c.TLS = &tls.Config{} }, "no address to listen on with TLS"},
		{"port for TLS taken", func(c *Config) { c.TLS, c.TLSAddr = &tls.Config{}, takenTCP }, takenTCP.String()},
		{"no permit", func(c *Config) { c.Permit = nil }, "no permitted peers"},
		{"port taken", func(c *Config) { c.Addr = addr }, addr.String()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.spoil(&cfg)
			s, err := Listen(cfg)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// TestPionClient relays with a client that other people wrote.
func TestPionClient(t *testing.T) {
	tests := []struct{ name, transport, addr string }{
		{"udp over IPv4", "udp", "127.0.0.1"},
		{"udp over IPv6", "udp", "::1"},
		{"tcp over IPv4", "tcp", "127.0.0.1"},
		{"tcp over IPv6", "tcp", "::1"},
		{"tls over IPv4", "tls", "127.0.0.1"},
		{"tls over IPv6", "tls", "::1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			peer := echo(t, tt.addr)
			secure, pair := withTLS(t)
			s := start(t, tt.addr, []netip.AddrPort{peer}, secure)
			var conn net.PacketConn
			switch tt.transport {
			case "tcp":
				c, err := net.Dial("tcp", s.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				conn = pion.NewSTUNConn(c)
			case "tls":
				c, err := tls.Dial("tcp", s.TLSAddr().String(), &tls.Config{RootCAs: pair.Roots()})
				if err != nil {
					t.Fatal(err)
				}
				conn = pion.NewSTUNConn(c)
			default:
				conn, _ = udp(t, tt.addr)
				conn.SetDeadline(time.Time{})
			}
			defer conn.Close()
			user, pass := Credentials(secret, "p1", time.Now().Add(time.Hour))
			c, err := pion.NewClient(&pion.ClientConfig{TURNServerAddr: s.Addr().String(), STUNServerAddr: s.Addr().String(), Conn: conn,
				Username: user, Password: pass, Realm: realm, LoggerFactory: logging.NewDefaultLoggerFactory()})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.Listen(); err != nil {
				t.Fatal(err)
			}
			relay, err := c.Allocate()
			if err != nil {
				t.Fatal(err)
			}
			if got := addrPort(relay.LocalAddr()).Addr().String(); got != tt.addr {
				t.Errorf("relayed address: got %s, want one of %s", got, tt.addr)
			}
			relay.SetDeadline(time.Now().Add(patience))
			buf := make([]byte, 1500)
			for _, msg := range []string{"hello", "hello again", strings.Repeat("x", 1200)} {
				if _, err := relay.WriteTo([]byte(msg), net.UDPAddrFromAddrPort(peer)); err != nil {
					t.Fatal(err)
				}
				n, from, err := relay.ReadFrom(buf)
				if err != nil {
					t.Fatalf("message of %d bytes: %v", len(msg), err)
				}
				if string(buf[:n]) != msg || addrPort(from) != peer {
					t.Errorf("got %d bytes from %s, want %d from %s", n, from, len(msg), peer)
				}
			}
			st := s.Stats()
			if want := uint64(5 + 11 + 1200); st.ToPeers != want || st.FromPeers != want || st.Allocations != 1 {
				t.Errorf("got %+v, want %d bytes each way and one allocation", st, want)
			}
			refused(t, s, nil)
			if err := relay.Close(); err != nil {
				t.Fatal(err)
			}
			drained(s)
			if got := s.Stats().Allocations; got != 0 {
				t.Errorf("after the client closed: %d allocations", got)
			}
		})
	}
}

func TestClosedRelay(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			peer, lawful := udp(t, "127.0.0.1")
			other, wrongPort := udp(t, "127.0.0.1") // the right address, another port
			elsewhere := netip.MustParseAddrPort("192.0.2.7:3478")
			s := start(t, "127.0.0.1", []netip.AddrPort{lawful})
			c := dial(t, s, transport, "p1")
			relayed := c.mustAllocate()

			permission := func(name string, want stun.ErrorCode, peers ...stun.Setter) {
				t.Helper()
				r, code := c.ask(stun.MethodCreatePermission, peers...)
				c.expect("CreatePermission: "+name, code, want)
				checkSigned(t, c, r)
			}
			permission("another address", 403, peerAttr(elsewhere))
			permission("another port", 403, peerAttr(wrongPort))
			permission("a refused peer first", 403, peerAttr(elsewhere), peerAttr(lawful))
			permission("4-in-6 of another address", 403, mappedPeer(elsewhere))
			permission("no peer", 400)
			r, code := c.ask(stun.MethodChannelBind, channel(0x4000), peerAttr(elsewhere))
			c.expect("ChannelBind: another address", code, 403)
			checkSigned(t, c, r)
			_, code = c.ask(stun.MethodChannelBind, channel(0x4000), peerAttr(wrongPort))
			c.expect("ChannelBind: another port", code, 403)

			// No permission yet: pion drops it, and the port was never asked.
			c.sendTo(lawful, "too early")
			permission("the lawful peer", 0, mappedPeer(lawful))
			_, code = c.ask(stun.MethodChannelBind, channel(0x4001), peerAttr(lawful))
			c.expect("ChannelBind: the lawful peer", code, 0)

			// The permission is for the address; each packet is judged by its port.
			c.sendTo(wrongPort, "leak")
			c.sendTo(lawful, "hello")
			c.send([]byte("\x40\x01\x00\x07channel\x00"))
			if got := read(t, peer); got != "hello" {
				t.Errorf("peer got %q, want hello", got)
			}
			if got := read(t, peer); got != "channel" {
				t.Errorf("peer got %q, want channel", got)
			}
			peer.WriteToUDPAddrPort([]byte("marker"), wrongPort)
			if got := read(t, other); got != "marker" {
				t.Errorf("another port of the peer's address got %q", got)
			}

			other.WriteToUDPAddrPort([]byte("intruder"), relayed)
			peer.WriteToUDPAddrPort([]byte("answer"), relayed)
			frame := c.read()
			if want := "\x40\x01\x00\x06answer"; !strings.HasPrefix(string(frame), want) {
				t.Errorf("client got %q, want %q", frame, want)
			}
			refused(t, s, map[Reason]uint64{Peer: 6, Packet: 2})
		})
	}
}

// TestPermitIsAskedAgain: what ceases to be lawful ceases at once.
func TestPermitIsAskedAgain(t *testing.T) {
	peer, lawful := udp(t, "127.0.0.1")
	var ended = make(chan struct{})
	s := start(t, "127.0.0.1", nil, func(c *Config) {
		c.Permit = func(p netip.AddrPort) bool {
			select {
			case <-ended:
				return false
			default:
				return p == lawful
			}
		}
	})
	c := dial(t, s, "udp", "p1")
	relayed := c.mustAllocate()
	_, code := c.ask(stun.MethodCreatePermission, peerAttr(lawful))
	c.expect("CreatePermission", code, 0)
	peer.WriteToUDPAddrPort([]byte("before"), relayed)
	if from, got := c.data(); got != "before" || from != lawful {
		t.Errorf("got %q from %s, want before from %s", got, from, lawful)
	}
	close(ended)
	c.sendTo(lawful, "after")
	_, code = c.ask(stun.MethodCreatePermission, peerAttr(lawful))
	c.expect("CreatePermission after the end", code, 403)
	refused(t, s, map[Reason]uint64{Packet: 1, Peer: 1})
}

// TestPeerBehindNAT: a peer that clients know by its public address is reached where it is,
// and by no other name; who sends from its public address is not it.
func TestPeerBehindNAT(t *testing.T) {
	inside, own := udp(t, "127.0.0.1")
	outside, public := udp(t, "127.0.0.1")
	s := start(t, "127.0.0.1", []netip.AddrPort{public}, func(c *Config) { c.Local = map[netip.AddrPort]netip.AddrPort{public: own} })
	c := dial(t, s, "udp", "p1")
	relayed := c.mustAllocate()
	_, code := c.ask(stun.MethodCreatePermission, peerAttr(own))
	c.expect("CreatePermission for where it is", code, 403)
	_, code = c.ask(stun.MethodCreatePermission, peerAttr(public))
	c.expect("CreatePermission", code, 0)
	c.sendTo(public, "hello")
	if got := read(t, inside); got != "hello" {
		t.Errorf("the peer got %q, want hello", got)
	}
	outside.WriteToUDPAddrPort([]byte("forged"), relayed)
	inside.WriteToUDPAddrPort([]byte("answer"), relayed)
	if from, got := c.data(); got != "answer" || from != public {
		t.Errorf("got %q from %s, want answer from %s", got, from, public)
	}
	refused(t, s, map[Reason]uint64{Peer: 1, Packet: 1})
}

// checkSigned verifies that a response carries the client's integrity.
func checkSigned(t *testing.T, c *client, r *stun.Message) {
	t.Helper()
	if err := stun.MessageIntegrity(pion.GenerateAuthKey(c.user, realm, c.pass)).Check(r); err != nil {
		t.Errorf("%s: %v", r, err)
	}
}

func read(t *testing.T, conn *net.UDPConn) string {
	t.Helper()
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestUnsupportedAllocations(t *testing.T) {
	s := start(t, "127.0.0.1", nil)
	tests := []struct {
		name   string
		attrs  []stun.Setter
		want   stun.ErrorCode
		counts bool
	}{
		{"RFC 6062 TCP relay", []stun.Setter{transportAttr(6)}, 442, true},
		{"another transport", []stun.Setter{transportAttr(132)}, 442, false},
		{"unknown reservation", []stun.Setter{transportAttr(17), raw(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)}, 508, false},
		{"IPv6 where there is IPv4", []stun.Setter{transportAttr(17), raw(stun.AttrRequestedAddressFamily, 2, 0, 0, 0)}, 440, true},
		{"a family that nobody has", []stun.Setter{transportAttr(17), raw(stun.AttrRequestedAddressFamily, 3, 0, 0, 0)}, 440, false},
		{"both families, by the wrong one", []stun.Setter{transportAttr(17), raw(attrAdditionalAddressFamily, 1, 0, 0, 0)}, 400, true},
		{"both families and one", []stun.Setter{transportAttr(17), raw(attrAdditionalAddressFamily, 2, 0, 0, 0), raw(stun.AttrRequestedAddressFamily, 1, 0, 0, 0)}, 400, true},
		{"both families and a reservation", []stun.Setter{transportAttr(17), raw(attrAdditionalAddressFamily, 2, 0, 0, 0), raw(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)}, 400, true},
		{"both families and a pair of ports", []stun.Setter{transportAttr(17), raw(attrAdditionalAddressFamily, 2, 0, 0, 0), raw(stun.AttrEvenPort, 0x80)}, 400, true},
		{"both families, cut short", []stun.Setter{transportAttr(17), raw(attrAdditionalAddressFamily, 2)}, 400, true},
		{"lifetime 0", []stun.Setter{transportAttr(17), lifetime(0)}, 508, false},
	}
	var want uint64
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, transport := range []string{"udp", "tcp"} {
				c := dial(t, s, transport, "p1")
				_, code := c.allocate(tt.attrs...)
				c.expect("Allocate over "+transport, code, tt.want)
				if tt.counts {
					want++
				}
			}
			refused(t, s, map[Reason]uint64{Unsupported: want})
		})
	}
	if got := s.Stats().Allocations; got != 0 {
		t.Errorf("%d allocations are left", got)
	}
}

// Who asks for both families gets the one that there is, and the word of the other (RFC 8656
// 7.2); who is not known gets no verdict on what they ask for.
func TestBothFamilies(t *testing.T) {
	for _, r := range []struct {
		addr    string
		lacking byte
	}{{"127.0.0.1", familyIPv6}, {"::1", familyIPv4}} {
		s := start(t, r.addr, nil)
		for _, transport := range []string{"udp", "tcp"} {
			c := dial(t, s, transport, "p1")
			c.challenge()
			both := []stun.Setter{transportAttr(17), raw(attrAdditionalAddressFamily, familyIPv6, 0, 0, 0)}
			m := c.build(stun.NewType(stun.MethodAllocate, stun.ClassRequest), both...)
			for _, what := range []string{"the first time", "sent again"} {
				c.send(m.Raw)
				got := c.answer(m)
				var relayed stun.XORMappedAddress
				if err := relayed.GetFromAs(got, stun.AttrXORRelayedAddress); err != nil || relayed.IP.String() != r.addr {
					t.Errorf("%s over %s, %s: relayed %v, %v", r.addr, transport, what, relayed, err)
				}
				v, err := got.Get(attrAddressErrorCode)
				if err != nil || !bytes.HasPrefix(v, []byte{r.lacking, 0, 4, 40}) {
					t.Errorf("%s over %s, %s: address error %v, %v", r.addr, transport, what, v, err)
				}
				checkSigned(t, c, got)
			}
			c.send(c.build(stun.NewType(stun.MethodRefresh, stun.ClassRequest), lifetime(0)).Raw)
			c.read()
			c.pass = "guess"
			_, code := c.ask(stun.MethodAllocate, transportAttr(17), raw(attrAdditionalAddressFamily, 1, 0, 0, 0))
			c.expect("a forged request for both", code, 401)
		}
	}
}

func TestEvenPort(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		s := start(t, addr, nil)
		relayed, code := dial(t, s, "udp", "p1").allocate(transportAttr(17), raw(stun.AttrEvenPort, 0x80))
		if code != 0 || relayed.Port()%2 != 0 {
			t.Errorf("%s: got %s, %d; want an even port", addr, relayed, code)
		}
		if got := s.Stats().Allocations; got != 1 {
			t.Errorf("%s: %d allocations, want 1", addr, got)
		}
	}
}

func TestLostAllocationIsAnswered(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			s := start(t, "127.0.0.1", nil)
			c := dial(t, s, transport, "p1")
			c.challenge()
			asks := []struct {
				method stun.Method
				attrs  []stun.Setter
			}{
				{stun.MethodRefresh, []stun.Setter{lifetime(600)}},
				{stun.MethodCreatePermission, []stun.Setter{peerAttr(s.Addr())}},
				{stun.MethodChannelBind, []stun.Setter{channel(0x4000), peerAttr(s.Addr())}},
			}
			for _, a := range asks {
				r, code := c.ask(a.method, a.attrs...)
				c.expect(a.method.String(), code, stun.CodeAllocMismatch)
				checkSigned(t, c, r)
			}
			// Somebody else's allocation is none of ours.
			c.mustAllocate()
			c.user, c.pass = Credentials(secret, "p2", time.Now().Add(time.Hour))
			_, code := c.ask(stun.MethodRefresh, lifetime(0))
			c.expect("Refresh by another participant", code, stun.CodeAllocMismatch)
			if got := s.Stats().Allocations; got != 1 {
				t.Errorf("%d allocations, want the one left alone", got)
			}
			refused(t, s, map[Reason]uint64{NoAllocation: 4})
		})
	}
}

// drained waits until every allocation that the client knows of has ended.
func TestConnectionKnowsItsAllocation(t *testing.T) {
	s := start(t, "127.0.0.1", nil)
	c := dial(t, s, "tcp", "p1")
	c.mustAllocate()
	conn := s.streams[0].find(c.conn.LocalAddr())
	if conn == nil {
		t.Fatal("the connection is not known")
	}
	if conn.idle.Stop() {
		t.Error("its end is still set while it holds an allocation")
	}
	_, code := c.ask(stun.MethodRefresh, lifetime(0))
	c.expect("Refresh with lifetime 0", code, 0)
	if !conn.idle.Stop() {
		t.Error("its end is not set after it gave its allocation up")
	}
}

func TestCloseEndsEverything(t *testing.T) {
	s := start(t, "127.0.0.1", nil)
	relayed := dial(t, s, "udp", "p1").mustAllocate()
	c := dial(t, s, "tcp", "p2")
	c.mustAllocate()
	idle := dial(t, s, "tcp", "p3")
	if _, code := idle.ask(stun.MethodBinding); code != 0 {
		t.Fatalf("Binding over TCP: got %d", code)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if st := s.Stats(); st.Allocations != 0 || st.Connections != 0 {
		t.Errorf("after Close: %+v", st)
	}
	for _, conn := range []net.Conn{c.conn, idle.conn} {
		if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a TCP connection outlived Close: %v", err)
		}
	}
	again, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(relayed))
	if err != nil {
		t.Fatalf("the relayed address is still in use: %v", err)
	}
	again.Close()
}
