// Package lane carries media between participants' addresses and the SFU on workers of its
// own: recvmmsg, decrypt, hand on; encrypt, sendmmsg. Each address is there in UDP and, for who
// has no UDP, in TCP. WebRTC's other traffic on the same sockets (STUN, DTLS) goes to and comes from
// pion through [Lane.Conns].
//
// One worker a socket, or a TCP connection, reads a burst, calls the [Receiver] of each packet's [Peer], and then
// sends what that put into the worker's [Batch]. Nothing waits and nothing is allocated on a
// packet's way.
//
// Two SRTP contexts must never use one nonce: under AES-GCM that gives the key away (RFC 7714
// section 8.1). A peer's keys are known to pion too, which would number SRTCP from the same
// zero. Hence pion's registry of interceptors is empty, and what looks like SRTP is not let out
// of Conns to where a peer is: [Lane.Blocked] counts that, and must stay zero.
package lane

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"bailiwick/crowd"
	"bailiwick/datagram"
)

const (
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
	terms   terms
	crowd   *crowd.Crowd // of TCP connections

	mu    sync.Mutex // to change the map
	peers atomic.Pointer[map[place]*Peer]

	workers sync.WaitGroup
	batches sync.Pool // for who is no worker
}

// place is an address beyond one of ours: what is there in UDP and in TCP are two.
type place struct {
	conn int // index of a Conn
	at   netip.AddrPort
}

// Listen opens the addresses, each of one interface, never unspecified, for UDP and TCP, and
// starts to work. Port 0 picks one.
func Listen(at []netip.AddrPort) (*Lane, error) { return listen(at, usual) }

func listen(at []netip.AddrPort, t terms) (*Lane, error) {
	l := &Lane{began: time.Now(), terms: t, crowd: crowd.New(t.most)}
	l.peers.Store(&map[place]*Peer{})
	for _, a := range at {
		if err := l.openBoth(a); err != nil {
			l.Close()
			return nil, fmt.Errorf("media address %s: %w", a, err)
		}
	}
	for _, c := range l.conns {
		c.out.serve(c)
	}
	return l, nil
}

// conn makes a Conn; who puts it into l.conns gives it its index.
func (l *Lane) conn(at netip.AddrPort) *Conn {
	return &Conn{lane: l, at: at, in: make(chan *stray, waiting), done: make(chan struct{})}
}

// Conns are the addresses for pion: of each of Listen's that in UDP, then that in TCP.
func (l *Lane) Conns() []*Conn { return l.conns }

// Blocked is how many packets pion tried to send under a peer's keys. None may be.
func (l *Lane) Blocked() uint64 { return l.blocked.Load() }

// Failed is how many packets came from a peer's address and were not authentic, or replayed.
func (l *Lane) Failed() uint64 { return l.failed.Load() }

// Streams counts the TCP connections that are open, and those that were turned away.
func (l *Lane) Streams() (open int, refused uint64) {
	open, _ = l.crowd.Count()
	return open, l.crowd.Refused()
}

// Sent is how many bytes were sent, with the headers of IP and UDP: media, handshakes and checks.
// What goes by TCP is counted alike.
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

func (l *Lane) peer(at place) *Peer { return (*l.peers.Load())[at] }

// change replaces the map.
func (l *Lane) change(do func(map[place]*Peer)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := maps.Clone(*l.peers.Load())
	do(next)
	l.peers.Store(&next)
}

// take is what becomes of a datagram that came.
func (c *Conn) take(b *Batch, packet []byte, from netip.AddrPort, now time.Time) {
	if isMedia(packet) {
		if p := c.lane.peer(place{c.index, from}); p != nil {
			p.receive(b, packet, now)
			return
		}
		c.early.keep(packet, from, now)
	}
	c.stray(packet, from)
}

// isMedia tells SRTP and SRTCP from STUN, DTLS and TURN channels (RFC 7983 section 7).
func isMedia(b []byte) bool { return len(b) > 0 && b[0] >= 128 && b[0] < 192 }

// Conn is one address of a lane as pion's ICE wants it, whether by UDP or by TCP: it reads what is
// no peer's media.
type Conn struct {
	lane  *Lane
	index int
	at    netip.AddrPort
	out   carrier
	in    chan *stray
	early early

	once sync.Once
	done chan struct{}
}

// carrier is what is below a Conn.
type carrier interface {
	// serve starts to take what comes.
	serve(*Conn)
	// writer is one for a worker's batch.
	writer(worker int) writer
	// WriteTo sends one datagram.
	WriteTo(b []byte, to netip.AddrPort) (int, error)
	// Close ends what serve started; the lane waits for its workers.
	Close() error
}

// writer sends datagrams together. What cannot be sent is lost.
type writer interface {
	Append(b []byte, to netip.AddrPort)
	Flush()
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
	if isMedia(b) && c.lane.peer(place{c.index, to}) != nil {
		c.lane.blocked.Add(1)
		return 0, os.ErrPermission
	}
	c.lane.sent.Add(wire(len(b), to.Addr()))
	return c.out.WriteTo(b, to)
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
	c.out.Close()
}

// Deadlines are not kept: pion sets none on a mux's socket.
func (c *Conn) SetDeadline(time.Time) error      { return nil }
func (c *Conn) SetReadDeadline(time.Time) error  { return nil }
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }
