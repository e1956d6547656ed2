package turn

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"
)

// memory is a UDP listener in memory, with one client.
type memory struct {
	in, out chan []byte
	closed  chan struct{}
}

var memoryClient = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1000}

func (m *memory) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-m.in:
		return copy(b, p), memoryClient, nil
	case <-m.closed:
		return 0, nil, net.ErrClosed
	}
}

func (m *memory) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case m.out <- append([]byte{}, b...):
	case <-m.closed:
	}
	return len(b), nil
}

func (m *memory) Close() error                     { close(m.closed); return nil }
func (m *memory) LocalAddr() net.Addr              { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478} }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// memoryConn is the client's end.
type memoryConn struct {
	net.Conn // nil: what the client does not use
	m        *memory
}

func (c memoryConn) Write(b []byte) (int, error) {
	c.m.in <- append([]byte{}, b...)
	return len(b), nil
}
func (c memoryConn) Read(b []byte) (int, error) { return copy(b, <-c.m.out), nil }

// FuzzPacket gives the listener a stranger's packet, and again with the stranger's
// attributes signed by a participant who holds an allocation. Whatever it says, the
// next client is served, and nothing reaches a peer that is not permitted.
func FuzzPacket(f *testing.F) {
	lawful := netip.MustParseAddrPort("127.0.0.1:9")
	c := &client{t: f, user: "1764000000:p1", pass: "x", realm: realm}
	request := func(m stun.Method, attrs ...stun.Setter) []byte {
		return c.build(stun.NewType(m, stun.ClassRequest), attrs...).Raw
	}
	f.Add(false, request(stun.MethodAllocate, transportAttr(17)))
	f.Add(true, request(stun.MethodAllocate, transportAttr(17), raw(stun.AttrEvenPort, 0x80)))
	f.Add(true, request(stun.MethodAllocate, transportAttr(17), raw(attrAdditionalAddressFamily, familyIPv6, 0, 0, 0)))
	f.Add(true, request(stun.MethodAllocate, transportAttr(17), raw(attrAdditionalAddressFamily, familyIPv4)))
	f.Add(true, request(stun.MethodAllocate, transportAttr(6), raw(stun.AttrRequestedAddressFamily, familyIPv6, 0, 0, 0)))
	f.Add(true, request(stun.MethodRefresh, lifetime(0)))
	f.Add(true, request(stun.MethodCreatePermission, peerAttr(lawful), mappedPeer(lawful)))
	f.Add(true, request(stun.MethodChannelBind, channel(0x4000), peerAttr(lawful)))
	f.Add(true, request(stun.MethodConnect, peerAttr(lawful)))
	f.Add(false, c.build(stun.NewType(stun.MethodSend, stun.ClassIndication), peerAttr(lawful), raw(stun.AttrData, 1)).Raw)
	f.Add(false, []byte("\x40\x00\x00\x05hello"))
	f.Add(false, []byte("\x16\x03\x01"))

	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	m := &memory{in: make(chan []byte), out: make(chan []byte, 64), closed: make(chan struct{})}
	s, err := serve(Config{Relay: netip.MustParseAddr("127.0.0.1"), Realm: realm, Secret: secret,
		Permit: func(netip.AddrPort) bool { return false }}, m, l, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	user, pass := Credentials(secret, "p1", time.Now().Add(24*time.Hour))
	f.Fuzz(func(t *testing.T, signed bool, packet []byte) {
		c := &client{t: t, conn: memoryConn{m: m}, user: user, pass: pass, realm: realm}
		if signed {
			packet = sign(t, s, c, packet)
		}
		c.send(packet)
		b := c.build(stun.BindingRequest)
		c.send(b.Raw)
		for r := (&stun.Message{}); ; {
			r.Raw = c.read()
			if r.Decode() == nil && r.TransactionID == b.TransactionID {
				break
			}
		}
		if st := s.Stats(); st.ToPeers != 0 {
			t.Fatalf("%d bytes reached a peer", st.ToPeers)
		}
	})
}

// sign makes the packet's attributes a request of a participant with an allocation;
// what is no STUN message stays as it is.
func sign(t *testing.T, s *Server, c *client, packet []byte) []byte {
	m := &stun.Message{Raw: packet}
	if m.Decode() != nil {
		return packet
	}
	// A nonce, then an allocation: 437 tells that there is one.
	s.limit = newLimiter()
	c.challenge()
	if _, code := c.ask(stun.MethodAllocate, transportAttr(17)); code != 0 && code != stun.CodeAllocMismatch {
		t.Fatalf("Allocate: got %d", code)
	}
	signed := &stun.Message{TransactionID: m.TransactionID, Type: m.Type}
	signed.WriteHeader()
	for _, a := range m.Attributes {
		if a.Type != stun.AttrMessageIntegrity && a.Type != stun.AttrFingerprint && len(signed.Raw) < 1200 {
			signed.Add(a.Type, a.Value[:min(len(a.Value), 300)])
		}
	}
	for _, set := range []stun.Setter{stun.NewUsername(c.user), stun.NewRealm(realm), c.nonce,
		stun.MessageIntegrity(pion.GenerateAuthKey(c.user, realm, c.pass))} {
		if err := set.AddTo(signed); err != nil {
			t.Fatal(err)
		}
	}
	return signed.Raw
}

func FuzzUsername(f *testing.F) {
	for _, u := range []string{"1764000000:p7", ":", "9223372036854775808:p", "-1:p", strings.Repeat("1", 600)} {
		f.Add(u)
	}
	f.Fuzz(func(t *testing.T, username string) {
		expires, participant, err := parseUsername(username)
		if err != nil {
			return
		}
		if got, _ := Credentials(secret, participant, expires); got != username {
			t.Errorf("%q comes back as %q", username, got)
		}
	})
}
