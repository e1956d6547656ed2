// Package crowd counts the connections that each source holds, so that nobody holds them
// all: a source is let in while it holds fewer than are left. One alone comes to half of
// them, two to a third each, and who holds none is let in until there is none left, whatever
// others do. A clinic of hundreds behind one address needs no exception, and a flood from one
// address leaves room for everybody else.
//
// It opens nothing: Listener counts what another listener accepts.
package crowd

import (
	"net"
	"net/netip"
	"sync"
)

// Crowd is safe for concurrent use.
type Crowd struct {
	most int

	mu      sync.Mutex
	total   int
	sources map[netip.Addr]int
	refused uint64
}

// New makes an empty crowd with room for so many.
func New(most int) *Crowd { return &Crowd{most: most, sources: map[netip.Addr]int{}} }

// Source is what one party cannot change at will: an IPv4 address or an IPv6 /64.
func Source(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// Enter counts a connection in, if there is room for one more from there; Leave counts it
// out.
func (c *Crowd) Enter(from netip.Addr) bool {
	src := Source(from)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sources[src] >= c.most-c.total {
		c.refused++
		return false
	}
	c.total++
	c.sources[src]++
	return true
}

// Leave counts out a connection that entered.
func (c *Crowd) Leave(from netip.Addr) {
	src := Source(from)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.sources[src]--; c.sources[src] == 0 {
		delete(c.sources, src)
	}
}

// Count is how many are in, and of how many sources.
func (c *Crowd) Count() (connections, sources int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total, len(c.sources)
}

// Refused is how many there was no room for.
func (c *Crowd) Refused() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

// Listener accepts what the crowd has room for, and closes the rest at once.
func Listener(l net.Listener, c *Crowd) net.Listener { return &listener{l, c} }

type listener struct {
	net.Listener
	crowd *Crowd
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var from netip.Addr
		if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			from = a.AddrPort().Addr()
		}
		if l.crowd.Enter(from) {
			return &counted{Conn: conn, leave: sync.OnceFunc(func() { l.crowd.Leave(from) })}, nil
		}
		conn.Close()
	}
}

type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}
