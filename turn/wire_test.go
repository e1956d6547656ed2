package turn

import (
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"
)

const realm = "media.example"

var secret = []byte("not a secret")

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// start runs a relay on the loopback address a, which permits the peers.
func start(t testing.TB, a string, peers []netip.AddrPort, limits ...func(*Config)) *Server {
	t.Helper()
	cfg := Config{Addr: netip.AddrPortFrom(netip.MustParseAddr(a), 0), Relay: netip.MustParseAddr(a), Realm: realm, Secret: secret,
		Permit: func(peer netip.AddrPort) bool {
			for _, p := range peers {
				if p == peer {
					return true
				}
			}
			return false
		}}
	for _, f := range limits {
		f(&cfg)
	}
	s, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// udp opens a socket on a loopback address.
func udp(t testing.TB, a string) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(a), 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn, addrPort(conn.LocalAddr())
}

// echo is a peer that sends back what it gets.
func echo(t testing.TB, a string) netip.AddrPort {
	conn, addr := udp(t, a)
	conn.SetDeadline(time.Time{})
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			conn.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return addr
}

// client speaks TURN by hand, over UDP or TCP.
type client struct {
	t                 testing.TB
	conn              net.Conn
	user, pass, realm string
	nonce             stun.Nonce
}

// dial makes a client with credentials that hold for an hour.
func dial(t testing.TB, s *Server, transport, participant string) *client {
	t.Helper()
	conn, err := net.Dial(transport, s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	user, pass := Credentials(secret, participant, time.Now().Add(time.Hour))
	return &client{t: t, conn: conn, user: user, pass: pass, realm: realm}
}

// setter is an attribute made in place.
type setter func(*stun.Message) error

func (f setter) AddTo(m *stun.Message) error { return f(m) }

func raw(t stun.AttrType, v ...byte) setter {
	return func(m *stun.Message) error { m.Add(t, v); return nil }
}

func transportAttr(protocol byte) setter {
	return raw(stun.AttrRequestedTransport, protocol, 0, 0, 0)
}

func lifetime(seconds uint32) setter {
	return raw(stun.AttrLifetime, binary.BigEndian.AppendUint32(nil, seconds)...)
}

func channel(n uint16) setter { return raw(stun.AttrChannelNumber, byte(n>>8), byte(n), 0, 0) }

func peerAttr(p netip.AddrPort) setter {
	return func(m *stun.Message) error {
		return stun.XORMappedAddress{IP: p.Addr().AsSlice(), Port: int(p.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
	}
}

// mappedPeer is peerAttr of an IPv4 address in IPv6 form, which no library makes.
func mappedPeer(p netip.AddrPort) setter {
	return func(m *stun.Message) error {
		a := p.Addr().As16()
		key := binary.BigEndian.AppendUint32(nil, 0x2112A442)
		key = append(key, m.TransactionID[:]...)
		v := binary.BigEndian.AppendUint16([]byte{0, 2}, p.Port()^0x2112)
		for i := range a {
			v = append(v, a[i]^key[i])
		}
		m.Add(stun.AttrXORPeerAddress, v)
		return nil
	}
}

// build makes a message, signed when there is a nonce.
func (c *client) build(typ stun.MessageType, attrs ...stun.Setter) *stun.Message {
	c.t.Helper()
	var id [stun.TransactionIDSize]byte
	rand.Read(id[:])
	setters := append([]stun.Setter{&stun.Message{TransactionID: id}, typ}, attrs...)
	if c.nonce != nil && typ.Class == stun.ClassRequest {
		setters = append(setters, stun.NewUsername(c.user), stun.NewRealm(c.realm), c.nonce,
			stun.MessageIntegrity(pion.GenerateAuthKey(c.user, c.realm, c.pass)))
	}
	m, err := stun.Build(setters...)
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// read gives the next frame, without the padding of ChannelData.
func (c *client) read() []byte {
	c.t.Helper()
	buf := make([]byte, maxFrame)
	var n int
	var err error
	if _, isTCP := c.conn.(*net.TCPConn); isTCP {
		n, err = readFrame(c.conn, buf)
	} else {
		n, err = c.conn.Read(buf)
	}
	if err != nil {
		c.t.Fatalf("no frame came: %v", err)
	}
	return buf[:n]
}

// answer reads the response to m.
func (c *client) answer(m *stun.Message) *stun.Message {
	c.t.Helper()
	r := &stun.Message{Raw: c.read()}
	if err := r.Decode(); err != nil {
		c.t.Fatal(err)
	}
	if r.TransactionID != m.TransactionID || r.Type.Method != m.Type.Method {
		c.t.Fatalf("got %s, want the response to %s", r, m)
	}
	return r
}

// ask sends a request and gives its response, and the code when that is an error.
func (c *client) ask(method stun.Method, attrs ...stun.Setter) (*stun.Message, stun.ErrorCode) {
	c.t.Helper()
	m := c.build(stun.NewType(method, stun.ClassRequest), attrs...)
	c.send(m.Raw)
	r := c.answer(m)
	var code stun.ErrorCodeAttribute
	if r.Type.Class == stun.ClassErrorResponse {
		if err := code.GetFrom(r); err != nil {
			c.t.Fatalf("error response without a code: %s", r)
		}
	}
	return r, code.Code
}

// challenge gets a nonce.
func (c *client) challenge() {
	c.t.Helper()
	c.nonce = nil
	r, code := c.ask(stun.MethodAllocate, transportAttr(17))
	if code != stun.CodeUnauthorized {
		c.t.Fatalf("unsigned Allocate: got %d, want 401", code)
	}
	var nonce stun.Nonce
	if err := nonce.GetFrom(r); err != nil {
		c.t.Fatal(err)
	}
	c.nonce = nonce
}

// allocate gets a nonce and asks for a relayed address of the server's family.
func (c *client) allocate(attrs ...stun.Setter) (netip.AddrPort, stun.ErrorCode) {
	c.t.Helper()
	c.challenge()
	if len(attrs) == 0 {
		attrs = []stun.Setter{transportAttr(17)}
	}
	r, code := c.ask(stun.MethodAllocate, attrs...)
	if code != 0 {
		return netip.AddrPort{}, code
	}
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(r, stun.AttrXORRelayedAddress); err != nil {
		c.t.Fatal(err)
	}
	a, _ := netip.AddrFromSlice(relayed.IP)
	return netip.AddrPortFrom(a.Unmap(), uint16(relayed.Port)), 0
}

// mustAllocate is allocate that has to succeed.
func (c *client) mustAllocate() netip.AddrPort {
	c.t.Helper()
	relayed, code := c.allocate()
	if code != 0 {
		c.t.Fatalf("Allocate: got %d", code)
	}
	return relayed
}

func (c *client) expect(what string, code, want stun.ErrorCode) {
	c.t.Helper()
	if code != want {
		c.t.Errorf("%s: got %d, want %d", what, code, want)
	}
}

// sendTo sends a Send indication.
func (c *client) sendTo(peer netip.AddrPort, data string) {
	c.t.Helper()
	c.send(c.build(stun.NewType(stun.MethodSend, stun.ClassIndication), peerAttr(peer), raw(stun.AttrData, []byte(data)...)).Raw)
}

// data reads a Data indication.
func (c *client) data() (from netip.AddrPort, data string) {
	c.t.Helper()
	m := &stun.Message{Raw: c.read()}
	if err := m.Decode(); err != nil || m.Type != stun.NewType(stun.MethodData, stun.ClassIndication) {
		c.t.Fatalf("got %s (%v), want a Data indication", m, err)
	}
	var peer stun.XORMappedAddress
	if err := peer.GetFromAs(m, stun.AttrXORPeerAddress); err != nil {
		c.t.Fatal(err)
	}
	b, err := m.Get(stun.AttrData)
	if err != nil {
		c.t.Fatal(err)
	}
	a, _ := netip.AddrFromSlice(peer.IP)
	return netip.AddrPortFrom(a.Unmap(), uint16(peer.Port)), string(b)
}

// refused compares the counters of refusals; those not named must be zero.
func refused(t testing.TB, s *Server, want map[Reason]uint64) {
	t.Helper()
	for r, got := range s.Stats().Refused {
		if got != want[Reason(r)] {
			t.Errorf("refused %s: got %d, want %d", Reason(r), got, want[Reason(r)])
		}
	}
}
