package turn

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits of TCP connections.
const (
	// maxFrame is one more than the largest STUN message or ChannelData taken.
	maxFrame = 1600
	// grace is how long a connection may live without an allocation.
	grace = 30 * time.Second
	// writeTimeout ends a connection whose client stopped reading: media that old
	// is of no use.
	writeTimeout = 5 * time.Second
	// perSource is the part of the connections that one source may hold.
	perSource = 16
)

// streams is the TCP listener, guarded.
type streams struct {
	net.Listener
	s       *Server
	closing chan struct{}
	open    sync.WaitGroup

	mu      sync.Mutex
	conns   map[netip.AddrPort]*stream
	sources map[netip.Addr]int
	closed  bool
}

// Accept gives the next connection within the limits. pion stops listening at the
// first error, so those that pass, such as too many open files, are waited out.
func (l *streams) Accept() (net.Conn, error) {
	const first, most = 5 * time.Millisecond, time.Second
	pause := first
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, err
			}
			l.s.cfg.Log.Error("turn tcp connection not accepted", "err", err)
			select {
			case <-l.closing:
				return nil, net.ErrClosed
			case <-time.After(pause):
			}
			pause = min(2*pause, most)
			continue
		}
		pause = first
		if c := l.admit(conn); c != nil {
			return c, nil
		}
		l.s.refuse(Connection)
		conn.Close()
	}
}

// admit counts a connection in, or gives nil when there is no room for it.
func (l *streams) admit(conn net.Conn) *stream {
	remote := addrPort(conn.RemoteAddr())
	src := source(remote.Addr())
	l.mu.Lock()
	defer l.mu.Unlock()
	// pion knows a connection by its address: a client that reuses one too early waits.
	if l.conns[remote] != nil || l.closed || len(l.conns) >= l.s.cfg.Connections || l.sources[src] >= max(1, l.s.cfg.Connections/perSource) {
		return nil
	}
	c := &stream{Conn: conn, l: l, remote: remote, r: bufio.NewReaderSize(conn, 2*maxFrame), g: guard{s: l.s}}
	c.idle = time.AfterFunc(grace, func() { c.Close() })
	l.conns[remote] = c
	l.sources[src]++
	l.open.Add(1)
	return c
}

func (l *streams) forget(c *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.idle.Stop()
	delete(l.conns, c.remote)
	src := source(c.remote.Addr())
	if l.sources[src]--; l.sources[src] == 0 {
		delete(l.sources, src)
	}
}

func (l *streams) find(client net.Addr) *stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns[addrPort(client)]
}

func (l *streams) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// permits is pion's PermissionHandler for every TCP connection.
func (l *streams) permits(client net.Addr, peer net.IP) bool {
	c := l.find(client)
	return c != nil && c.g.permits(peer)
}

// allocated is told when a client's allocation begins and ends; those of UDP are
// none of its business.
func (l *streams) allocated(client net.Addr, begins bool) {
	if _, ok := client.(*net.TCPAddr); !ok {
		return
	}
	c := l.find(client)
	switch {
	case c == nil:
	case begins:
		c.idle.Stop()
	default:
		c.idle.Reset(grace)
	}
}

// closeAll ends every connection: pion closes the listener only.
func (l *streams) closeAll() {
	l.mu.Lock()
	var conns []*stream
	if !l.closed {
		l.closed = true
		close(l.closing)
	}
	for _, c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	l.open.Wait()
}

// stream is one TCP connection, guarded.
type stream struct {
	net.Conn
	l      *streams
	remote netip.AddrPort
	r      *bufio.Reader
	g      guard
	idle   *time.Timer
	once   sync.Once
}

// Read gives one whole frame that is admitted: pion reassembles by recursion, which
// a client could make deep one byte at a time. Only pion's read loop calls it, with
// room for maxFrame bytes.
func (c *stream) Read(b []byte) (int, error) {
	for {
		if answer := c.g.unanswered(); answer != nil {
			if _, err := c.write(answer); err != nil {
				return 0, err
			}
		}
		n, err := readFrame(c.r, b)
		if err != nil {
			return 0, err
		}
		if c.g.admit(b[:n], c.remote.Addr()) {
			return n, nil
		}
	}
}

// Write sends what the guard makes of a packet.
func (c *stream) Write(b []byte) (int, error) {
	out := c.g.outgoing(b)
	if out == nil {
		return len(b), nil
	}
	if _, err := c.write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// write sends a frame or ends the connection: part of a frame would garble the rest.
func (c *stream) write(b []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, err := c.Conn.Write(b)
	if err != nil {
		c.Close()
	}
	return n, err
}

func (c *stream) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		c.l.forget(c)
		err = c.Conn.Close()
		c.l.open.Done()
	})
	return err
}

var errFrame = errors.New("not a STUN message or ChannelData")

// readFrame reads one STUN message or padded ChannelData (RFC 8656 12.5) into b,
// which has room for maxFrame bytes.
func readFrame(r io.Reader, b []byte) (int, error) {
	const head = 4 // type or channel, and length
	if _, err := io.ReadFull(r, b[:head]); err != nil {
		return 0, err
	}
	size := int(binary.BigEndian.Uint16(b[2:4]))
	switch b[0] >> 6 {
	case 0: // STUN: 20 bytes of header; attributes are padded to 4
		if size%4 != 0 {
			return 0, errFrame
		}
		size += 20
	case 1: // ChannelData
		size = head + (size+3)&^3
	default:
		return 0, errFrame
	}
	if size >= min(maxFrame, len(b)) {
		return 0, fmt.Errorf("frame of %d bytes: at most %d are taken", size, maxFrame-1)
	}
	_, err := io.ReadFull(r, b[head:size])
	return size, err
}
