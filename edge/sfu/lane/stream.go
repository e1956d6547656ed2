package lane

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"bailiwick/crowd"
	"bailiwick/datagram"
)

const (
	// backlog is what waits for one connection at most, in bytes, beside what is being written
	// and the system's own: a key frame, or the second before the estimate sees that it is too
	// much. What finds no room is lost, as on UDP.
	backlog = 128 << 10
	// readAhead is what is read at once.
	readAhead = 4 << 10
	// piece is what is written at once.
	piece = 16 << 10
	// tries are the ports of the system's choice that are tried for UDP and TCP.
	tries = 32
)

// terms are what connections are held to.
type terms struct {
	most       int           // of all addresses together
	unanswered time.Duration // that it lives while nothing is sent to it
	piece      time.Duration // in which a piece must be through
}

// Browsers try TCP beside UDP for half a minute, each family's, and a full edge has 3,200 of them. Who
// is no participant is never answered, for their checks are not authentic. Who takes less than
// 13 kbit/s cannot have audio.
var usual = terms{most: 8192, unanswered: 30 * time.Second, piece: 10 * time.Second}

// streams are the TCP connections to one address: datagrams, each behind its length (RFC 4571),
// as ICE has them (RFC 6544).
type streams struct {
	*net.TCPListener
	conn  *Conn
	crowd *crowd.Crowd

	mu     sync.RWMutex
	all    map[netip.AddrPort]*stream
	closed bool
}

// openBoth opens an address for UDP and for TCP.
func (l *Lane) openBoth(at netip.AddrPort) error {
	for try := 1; ; try++ {
		udp, err := l.openUDP(at)
		if err != nil {
			return err
		}
		tcp, err := l.openTCP(udp.at)
		if err == nil {
			for _, c := range []*Conn{udp, tcp} {
				c.index = len(l.conns)
				l.conns = append(l.conns, c)
			}
			return nil
		}
		udp.shut()
		if at.Port() != 0 || try == tries || !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
}

func (l *Lane) openTCP(at netip.AddrPort) (*Conn, error) {
	network := "tcp6"
	if at.Addr().Is4() {
		network = "tcp4"
	}
	tcp, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	c := l.conn(at)
	c.out = &streams{TCPListener: tcp, conn: c, crowd: l.crowd, all: map[netip.AddrPort]*stream{}}
	return c, nil
}

func (s *streams) serve(c *Conn) { c.lane.workers.Go(s.accept) }

// accept takes connections until it is closed.
func (s *streams) accept() {
	const first, most = 5 * time.Millisecond, time.Second
	pause := first
	for {
		c, err := s.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // too many open files, which passes
			time.Sleep(pause)
			pause = min(2*pause, most)
			continue
		}
		pause = first
		if !s.admit(c) {
			c.Close()
		}
	}
}

// admit takes a connection, if there is room for it.
func (s *streams) admit(c *net.TCPConn) bool {
	a := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	a = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	s.mu.Lock()
	defer s.mu.Unlock()
	// Where there is one from that address its end is not known here yet.
	if s.closed || s.all[a] != nil || !s.crowd.Enter(a.Addr()) {
		return false
	}
	x := &stream{TCPConn: c, of: s, from: a, more: make(chan struct{}, 1), done: make(chan struct{})}
	x.now()
	s.all[a] = x
	_ = c.SetWriteBuffer(backlog) // else the system queues megabytes for who reads slowly
	_ = c.SetLinger(0)            // nor for who is gone
	s.conn.lane.workers.Go(x.read)
	s.conn.lane.workers.Go(x.write)
	return true
}

func (s *streams) find(at netip.AddrPort) *stream {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all[at]
}

// WriteTo queues one datagram, or loses it.
func (s *streams) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	x := s.find(to)
	if x == nil {
		return 0, net.ErrClosed
	}
	x.queue(b)
	return len(b), nil
}

// Append is a writer's: nothing waits for its Flush.
func (s *streams) Append(b []byte, to netip.AddrPort) { s.WriteTo(b, to) }
func (s *streams) Flush()                             {}

func (s *streams) writer(int) writer { return s }

// Close ends every connection.
func (s *streams) Close() error {
	err := s.TCPListener.Close()
	s.mu.Lock()
	s.closed = true
	var all []*stream
	for _, x := range s.all {
		all = append(all, x)
	}
	s.mu.Unlock()
	for _, x := range all {
		x.Close()
	}
	return err
}

// stream is one of the connections: one goroutine reads and one writes.
type stream struct {
	*net.TCPConn
	of       *streams
	from     netip.AddrPort
	answered atomic.Int64  // when something was sent last, in ns since the lane began
	more     chan struct{} // has one where something waits
	once     sync.Once
	done     chan struct{}

	mu  sync.Mutex
	out []byte // waits
}

func (x *stream) Close() error {
	x.once.Do(func() {
		close(x.done)
		x.TCPConn.Close()
		x.of.mu.Lock()
		delete(x.of.all, x.from)
		x.of.mu.Unlock()
		x.of.crowd.Leave(x.from.Addr())
	})
	return nil
}

func (x *stream) now() { x.answered.Store(int64(time.Since(x.of.conn.lane.began))) }

// until is how long the connection lives if nothing is sent to it any more.
func (x *stream) until() time.Time {
	return x.of.conn.lane.began.Add(time.Duration(x.answered.Load()) + x.of.conn.lane.terms.unanswered)
}

// queue has a datagram sent, if there is room for it.
func (x *stream) queue(b []byte) {
	x.now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.out)+2+len(b) > backlog {
		return
	}
	x.out = append(binary.BigEndian.AppendUint16(x.out, uint16(len(b))), b...)
	select {
	case x.more <- struct{}{}:
	default:
	}
}

// write sends what is queued until the connection ends, and ends that of who does not read.
func (x *stream) write() {
	defer x.Close()
	var out []byte
	for {
		select {
		case <-x.more:
		case <-x.done:
			return
		}
		x.mu.Lock()
		out, x.out = x.out, out[:0]
		x.mu.Unlock()
		for b := range slices.Chunk(out, piece) {
			x.SetWriteDeadline(time.Now().Add(x.of.conn.lane.terms.piece))
			if _, err := x.Write(b); err != nil {
				return
			}
		}
	}
}

// read hands on what comes until the connection ends, and ends that of who is not answered.
func (x *stream) read() {
	defer x.Close()
	conn := x.of.conn
	r := bufio.NewReaderSize(x, readAhead)
	for until := x.until(); ; {
		x.SetReadDeadline(until)
		first, err := frame(r)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if later := x.until(); later.After(until) {
				until = later
				continue
			}
		}
		if err != nil {
			return
		}
		conn.lane.Lend(func(b *Batch) {
			now := time.Now()
			for f := first; f != nil; f = whole(r) {
				conn.take(b, f, x.from, now)
				r.Discard(2 + len(f))
			}
		})
	}
}

var errFrame = errors.New("frame is longer than a datagram of ICE, DTLS or SRTP")

// frame waits for a whole one, and gives it without its length; it stays in r until it is discarded.
func frame(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(2)
	if err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head))
	if n > datagram.MaxIn {
		return nil, fmt.Errorf("%d bytes: %w", n, errFrame)
	}
	b, err := r.Peek(2 + n)
	if err != nil {
		return nil, err
	}
	return b[2 : 2+n : 2+n], nil
}

// whole is the next frame if all of it is here; else nil.
func whole(r *bufio.Reader) []byte {
	if r.Buffered() < 2 {
		return nil
	}
	head, _ := r.Peek(2)
	if r.Buffered() < 2+int(binary.BigEndian.Uint16(head)) {
		return nil
	}
	f, err := frame(r)
	if err != nil {
		return nil
	}
	return f
}
