package turn

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits of TCP connections, TLS or not.
const (
	// maxFrame is one more than the largest STUN message or ChannelData taken.
	maxFrame = 1600
	// grace is how long a connection may live without an allocation.
	grace = 30 * time.Second
	// writeTimeout ends a connection whose client stopped reading: media that old
	// is of no use.
	writeTimeout = 5 * time.Second
	// handshakeTimeout bounds a TLS handshake; net/http's is as long where the edge
	// gives a header ten seconds.
	handshakeTimeout = 10 * time.Second
)

// streams is one TCP listener, guarded. What it accepts becomes TLS where tls is set.
type streams struct {
	net.Listener
	s       *Server
	tls     *tls.Config
	closing chan struct{}
	open    sync.WaitGroup

	mu     sync.Mutex
	conns  map[netip.AddrPort]*stream
	closed bool
}

func newStreams(s *Server, l net.Listener, config *tls.Config) *streams {
	return &streams{Listener: l, s: s, tls: config, conns: map[netip.AddrPort]*stream{}, closing: make(chan struct{})}
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
	l.mu.Lock()
	defer l.mu.Unlock()
	// pion knows a connection by its address: a client that reuses one too early waits.
	if l.conns[remote] != nil || l.closed || !l.s.crowd.Enter(remote.Addr()) {
		return nil
	}
	c := &stream{Conn: conn, l: l, remote: remote, g: guard{s: l.s}}
	if l.tls != nil {
		c.greeting = tls.Server(conn, l.tls)
		c.Conn = c.greeting
	}
	c.r = bufio.NewReaderSize(c.Conn, 2*maxFrame)
	c.idle = time.AfterFunc(grace, func() { c.Close() })
	l.conns[remote] = c
	l.open.Add(1)
	return c
}

func (l *streams) forget(c *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.idle.Stop()
	delete(l.conns, c.remote)
	l.s.crowd.Leave(c.remote.Addr())
}

func (l *streams) find(client net.Addr) *stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns[addrPort(client)]
}

// permits is pion's PermissionHandler for every connection of the listener.
func (l *streams) permits(client net.Addr, peer net.IP) bool {
	c := l.find(client)
	return c != nil && c.g.permits(peer)
}

// allocated is told when an allocation of the client at the server's address begins
// and ends; those of UDP are none of its business.
func (s *Server) allocated(client, server net.Addr, begins bool) {
	if _, ok := client.(*net.TCPAddr); !ok {
		return
	}
	for _, l := range s.streams {
		c := l.find(client)
		switch {
		case c == nil || addrPort(c.LocalAddr()) != addrPort(server):
		case begins:
			c.idle.Stop()
		default:
			c.idle.Reset(grace)
		}
	}
}

// closeAll ends every connection: pion closes the listener only. TLS says goodbye,
// which a client that does not read can hold up; none waits for another's.
func (l *streams) closeAll() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.closing)
	}
	for _, c := range l.conns {
		go c.Close()
	}
	l.mu.Unlock()
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

	greeting *tls.Conn // until the handshake is done; only Read touches it
}

// Read gives one whole frame that is admitted: pion reassembles by recursion, which
// a client could make deep one byte at a time. Only pion's read loop calls it, with
// room for maxFrame bytes.
func (c *stream) Read(b []byte) (int, error) {
	if err := c.shake(); err != nil {
		return 0, err
	}
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

// shake does the TLS handshake where one is due. It is done here, in pion's goroutine
// for the connection, because Accept would hold up everybody else.
func (c *stream) shake() error {
	if c.greeting == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := c.greeting.HandshakeContext(ctx); err != nil {
		c.l.s.refuse(Handshake)
		return err
	}
	c.greeting = nil
	return nil
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
