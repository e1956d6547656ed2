package sfu

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pion/stun/v4"
	pionnet "github.com/pion/transport/v5"
	"github.com/pion/transport/v5/stdnet"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/rtp"
)

// tcpMux is the lane's TCP addresses as pion's ICE takes them (RFC 6544). What comes over a TCP
// connection is for whom a check over it named last; of who names nobody that is here nothing is
// kept. pion's own keeps each name for half a minute, and has connections that are not the lane's.
type tcpMux struct {
	conns   []*lane.Conn
	reading sync.WaitGroup

	mu   sync.Mutex
	ends map[tcpName]*tcpEnd
	from map[tcpFrom]*tcpEnd // of those in ends
}

// tcpName is what checks call somebody, at one address of ours.
type tcpName struct {
	conn  *lane.Conn
	ufrag string
}

// tcpFrom is where a TCP connection to one address of ours comes from.
type tcpFrom struct {
	conn *lane.Conn
	at   netip.AddrPort
}

func newTCPMux(conns []*lane.Conn) *tcpMux {
	m := &tcpMux{conns: conns, ends: map[tcpName]*tcpEnd{}, from: map[tcpFrom]*tcpEnd{}}
	for _, c := range conns {
		m.reading.Go(func() { m.read(c) })
	}
	return m
}

// tcpPacket is one on its way to pion.
type tcpPacket struct {
	n    int
	from netip.AddrPort
	b    [rtp.MaxPacket]byte
}

var tcpPackets = sync.Pool{New: func() any { return new(tcpPacket) }}

func (m *tcpMux) read(c *lane.Conn) {
	for {
		p := tcpPackets.Get().(*tcpPacket)
		var err error
		if p.n, p.from, err = c.ReadFromAddrPort(p.b[:]); err != nil {
			return
		}
		if e := m.whose(tcpFrom{c, p.from}, checked(p.b[:p.n])); e == nil || !e.put(p) {
			tcpPackets.Put(p)
		}
	}
}

// whose is the end that a connection's packets are for, one of which may have named it.
func (m *tcpMux) whose(from tcpFrom, ufrag string) *tcpEnd {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.ends[tcpName{from.conn, ufrag}]; e != nil {
		m.from[from] = e
	}
	return m.from[from]
}

// checked is whom a connectivity check names; empty: it is none.
func checked(b []byte) string {
	m := &stun.Message{Raw: b}
	if !stun.IsMessage(b) || m.Decode() != nil || m.Type != stun.BindingRequest {
		return ""
	}
	name, _ := m.Get(stun.AttrUsername)
	ufrag, _, _ := strings.Cut(string(name), ":")
	return ufrag
}

// GetConnByUfrag is asked for each of the addresses.
func (m *tcpMux) GetConnByUfrag(ufrag string, _ bool, local net.IP) (net.PacketConn, error) {
	for _, c := range m.conns {
		if !local.Equal(c.At().Addr().AsSlice()) {
			continue
		}
		e := &tcpEnd{mux: m, tcpName: tcpName{c, ufrag}, in: make(chan *tcpPacket, tcpWaiting), done: make(chan struct{})}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ends[e.tcpName] = e
		return e, nil
	}
	return nil, fmt.Errorf("%s: not an address of the media's", local)
}

func (m *tcpMux) RemoveConnByUfrag(ufrag string) {
	for _, c := range m.conns {
		m.mu.Lock()
		e := m.ends[tcpName{c, ufrag}]
		m.mu.Unlock()
		if e != nil {
			e.Close()
		}
	}
}

// Close is the lane's business: who reads here reads of its connections.
func (m *tcpMux) Close() error {
	for _, c := range m.conns {
		c.Close()
	}
	m.reading.Wait()
	return nil
}

// tcpWaiting is how many packets wait for one connection's ICE at most. They are checks, handshakes and
// data, which are repeated.
const tcpWaiting = 128

// tcpEnd is what one connection's ICE has of the mux, under one name.
type tcpEnd struct {
	mux *tcpMux
	tcpName
	in   chan *tcpPacket
	once sync.Once
	done chan struct{}
}

func (e *tcpEnd) put(p *tcpPacket) bool {
	select {
	case e.in <- p:
		return true
	default:
		return false
	}
}

func (e *tcpEnd) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case p := <-e.in:
		defer tcpPackets.Put(p)
		return copy(b, p.b[:p.n]), p.from, nil
	case <-e.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (e *tcpEnd) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := e.ReadFromAddrPort(b)
	return n, net.TCPAddrFromAddrPort(from), err
}

func (e *tcpEnd) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return e.conn.WriteToAddrPort(b, to)
}

func (e *tcpEnd) WriteTo(b []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.TCPAddr)
	if !ok {
		return 0, net.InvalidAddrError("no TCP address")
	}
	return e.WriteToAddrPort(b, a.AddrPort())
}

func (e *tcpEnd) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(e.conn.At()) }

// Close forgets the name and who used it.
func (e *tcpEnd) Close() error {
	e.once.Do(func() {
		close(e.done)
		m := e.mux
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.ends[e.tcpName] == e {
			delete(m.ends, e.tcpName)
		}
		for from, of := range m.from {
			if of == e {
				delete(m.from, from)
			}
		}
	})
	return nil
}

// Deadlines are not kept: pion sets none but before it closes.
func (e *tcpEnd) SetDeadline(time.Time) error      { return nil }
func (e *tcpEnd) SetReadDeadline(time.Time) error  { return nil }
func (e *tcpEnd) SetWriteDeadline(time.Time) error { return nil }

// addresses has pion know the media's addresses and no others: it would look through the
// machine's interfaces at each connection, where not even all of these need be found.
type addresses struct {
	*stdnet.Net
	list []*pionnet.Interface
}

func newAddresses(sockets []Socket) *addresses {
	all := pionnet.NewInterface(net.Interface{Name: "media", Flags: net.FlagUp})
	for _, s := range sockets {
		bits := s.Bound.Addr().BitLen()
		all.AddAddress(&net.IPNet{IP: s.Bound.Addr().AsSlice(), Mask: net.CIDRMask(bits, bits)})
	}
	return &addresses{&stdnet.Net{}, []*pionnet.Interface{all}}
}

func (a *addresses) Interfaces() ([]*pionnet.Interface, error) { return a.list, nil }
