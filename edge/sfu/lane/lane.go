// Package lane carries media between participants' addresses and the SFU on workers of its
// own: recvmmsg, decrypt, hand on; encrypt, sendmmsg. WebRTC's other traffic on the same
// sockets (STUN, DTLS) goes to and comes from pion through [Lane.Conns].
//
// One worker a socket reads a burst, calls the [Receiver] of each packet's [Peer], and then
// sends what that put into the worker's [Batch]. Nothing waits and nothing is allocated on a
// packet's way.
//
// Two SRTP contexts must never use one nonce: under AES-GCM that gives the key away (RFC 7714
// section 8.1). A peer's keys are known to pion too, which would number SRTCP from the same
// zero. Hence pion's registry of interceptors is empty, and what looks like SRTP is not let out
// of Conns to where a peer is: [Lane.Blocked] counts that, and must stay zero.
package lane

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"bailiwick/datagram"
)

const (
	socketBuffer = 4 << 20 // bytes; the system may grant less
	// maxWorkers of an address: more than this share one map of peers badly. There is one for
	// two processors: two on two woke more and did no more.
	maxWorkers = 16
	// waiting is how many datagrams wait for pion at most. They are handshakes and checks,
	// which their senders repeat.
	waiting = 512
	// A participant's first packets may overtake the last of the handshake: so many of all
	// are kept for so long.
	earliest  = 64
	earlyTime = time.Second
)

// Lane is safe for concurrent use.
type Lane struct {
	began   time.Time
	conns   []*Conn
	places  atomic.Uint64 // destinations made so far
	blocked atomic.Uint64
	failed  atomic.Uint64
	sent    atomic.Uint64

	mu    sync.Mutex // to change the map
	peers atomic.Pointer[map[netip.AddrPort]*Peer]

	workers sync.WaitGroup
	batches sync.Pool // for who is no worker
}

// Listen opens the addresses, each of one interface, never unspecified, and starts to work.
// Port 0 picks one.
func Listen(at []netip.AddrPort) (*Lane, error) {
	l := &Lane{began: time.Now()}
	l.peers.Store(&map[netip.AddrPort]*Peer{})
	for _, a := range at {
		c, err := l.open(a)
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("media address %s: %w", a, err)
		}
		l.conns = append(l.conns, c)
	}
	for _, c := range l.conns {
		for i, s := range c.sockets {
			b := l.batch(i)
			l.workers.Go(func() { c.work(s, b) })
		}
	}
	return l, nil
}

func (l *Lane) open(at netip.AddrPort) (*Conn, error) {
	if at.Addr().IsUnspecified() {
		return nil, errors.New("unspecified: name the interface's")
	}
	sockets, err := datagram.ListenPolled(at, min(max(runtime.GOMAXPROCS(0)/2, 1), maxWorkers))
	if err != nil {
		return nil, err
	}
	for _, s := range sockets {
		s.SetBuffers(socketBuffer)
	}
	return &Conn{lane: l, at: sockets[0].LocalAddr(), sockets: sockets, in: make(chan *stray, waiting), done: make(chan struct{})}, nil
}

// Conns are the addresses for pion, in the order of Listen.
func (l *Lane) Conns() []*Conn { return l.conns }

// Blocked is how many packets pion tried to send under a peer's keys. None may be.
func (l *Lane) Blocked() uint64 { return l.blocked.Load() }

// Failed is how many packets came from a peer's address and were not authentic, or replayed.
func (l *Lane) Failed() uint64 { return l.failed.Load() }

// Sent is how many bytes were sent, with the headers of IP and UDP: media, handshakes and checks.
func (l *Lane) Sent() uint64 { return l.sent.Load() }

// wire is what a datagram of so many bytes to an address is on the wire.
func wire(n int, to netip.Addr) uint64 {
	if to.Is4() {
		return uint64(20 + 8 + n)
	}
	return uint64(40 + 8 + n)
}

// Close ends the workers and waits for them.
func (l *Lane) Close() error {
	for _, c := range l.conns {
		c.shut()
	}
	l.workers.Wait()
	return nil
}

func (l *Lane) peer(at netip.AddrPort) *Peer { return (*l.peers.Load())[at] }

// change replaces the map.
func (l *Lane) change(do func(map[netip.AddrPort]*Peer)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := maps.Clone(*l.peers.Load())
	do(next)
	l.peers.Store(&next)
}

// work serves one socket until it is closed.
func (c *Conn) work(s *datagram.Socket, b *Batch) {
	r := s.Reader()
	defer r.Close()
	for {
		burst, err := r.Read()
		if err != nil {
			return
		}
		now := time.Now()
		for i := range burst {
			d := &burst[i]
			if isMedia(d.In) {
				if p := c.lane.peer(d.From); p != nil {
					p.receive(b, d.In, now)
					continue
				}
				c.early.keep(d.In, d.From, now)
			}
			c.stray(d.In, d.From)
		}
		b.Flush()
	}
}

// isMedia tells SRTP and SRTCP from STUN, DTLS and TURN channels (RFC 7983 section 7).
func isMedia(b []byte) bool { return len(b) > 0 && b[0] >= 128 && b[0] < 192 }

// Conn is one address of a lane as pion's ICE wants it: it reads what is no peer's media.
type Conn struct {
	lane    *Lane
	at      netip.AddrPort
	sockets []*datagram.Socket
	in      chan *stray
	early   early

	once sync.Once
	done chan struct{}
}

// stray is a datagram on its way to pion.
type stray struct {
	n    int
	from netip.AddrPort
	b    [datagram.MaxIn]byte
}

// early is the newest media of addresses where no peer is yet. Its zero value is ready.
type early struct {
	mu   sync.Mutex
	next int
	ring [earliest]struct {
		stray
		came time.Time
	}
}

func (e *early) keep(b []byte, from netip.AddrPort, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.ring[e.next%earliest]
	s.n, s.from, s.came = copy(s.b[:], b), from, now
	e.next++
}

// take gives what came from an address, and forgets it.
func (e *early) take(from netip.AddrPort, now time.Time) (packets [][]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.ring {
		s := &e.ring[(e.next+i)%earliest]
		if s.from == from && now.Sub(s.came) < earlyTime {
			packets = append(packets, append([]byte(nil), s.b[:s.n]...))
		}
		if s.from == from {
			s.from = netip.AddrPort{}
		}
	}
	return packets
}

var strays = sync.Pool{New: func() any { return new(stray) }}

// stray hands a datagram to pion, unless that is too slow.
func (c *Conn) stray(b []byte, from netip.AddrPort) {
	s := strays.Get().(*stray)
	s.n, s.from = copy(s.b[:], b), from
	select {
	case c.in <- s:
	default:
		strays.Put(s)
	}
}

// ReadFromAddrPort waits for the next datagram.
func (c *Conn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case s := <-c.in:
		defer strays.Put(s)
		return copy(b, s.b[:s.n]), s.from, nil
	case <-c.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

// WriteToAddrPort sends one datagram, unless it would go out under a peer's keys.
func (c *Conn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if isMedia(b) && c.lane.peer(to) != nil {
		c.lane.blocked.Add(1)
		return 0, os.ErrPermission
	}
	c.lane.sent.Add(wire(len(b), to.Addr()))
	return c.sockets[0].WriteTo(b, to)
}

// ReadFrom is ReadFromAddrPort.
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo is WriteToAddrPort.
func (c *Conn) WriteTo(b []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("no UDP address")
	}
	return c.WriteToAddrPort(b, a.AddrPort())
}

// At is the address, with the port that was picked.
func (c *Conn) At() netip.AddrPort { return c.at }

// LocalAddr is a *net.UDPAddr.
func (c *Conn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.at) }

// Close is pion's: the lane goes on until its own Close.
func (c *Conn) Close() error {
	c.once.Do(func() { close(c.done) })
	return nil
}

func (c *Conn) shut() {
	c.Close()
	for _, s := range c.sockets {
		s.Close()
	}
}

// Deadlines are not kept: pion sets none on a mux's socket.
func (c *Conn) SetDeadline(time.Time) error      { return nil }
func (c *Conn) SetReadDeadline(time.Time) error  { return nil }
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }
