package geodns

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// maxFailures in a row end a loop: the socket is broken. A process that is out of file
// descriptors gets over it, so each failure is waited upon, from failurePause to
// longestPause: a quarter of an hour in all.
const (
	maxFailures  = 1000
	failurePause = 10 * time.Millisecond
	longestPause = time.Second
)

// stream is an open TCP connection, TLS or not.
type stream struct {
	net.Conn
	client netip.Prefix // whose it is
	waits  atomic.Int64 // for a query, since when: Unix time, ns
}

// answered: it waits for its next query.
func (c *stream) answered() { c.waits.Store(time.Now().UnixNano()) }

// serveStreams accepts until the listener is closed, and waits for its connections.
func (s *Server) serveStreams(l net.Listener, via transport) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.Close() // before waiting: it ends the connections
	failures := 0
	for {
		raw, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // out of file descriptors, or the client has gone
			if failures++; failures == maxFailures {
				return fmt.Errorf("dns %s: %w", transports[via], err)
			}
			time.Sleep(min(time.Duration(failures)*failurePause, longestPause))
			continue
		}
		failures = 0
		src := clientAddr(raw.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
		c := &stream{Conn: raw, client: netip.PrefixFrom(src, min(src.BitLen(), 64)).Masked()}
		c.answered()
		if !s.admit(c, via) {
			c.Close()
			s.metrics.dropped[via].Inc()
			continue
		}
		wg.Go(func() {
			defer s.release(c)
			if via == overTLS {
				s.serveTLS(c, src)
				return
			}
			s.serveStream(c, c, src, via)
		})
	}
}

// admit takes a connection, unless its client has too many. Where all places are taken,
// the one that has waited for its query the longest gives up its own (RFC 7766 section
// 6.2.3): who only holds connections open keeps nobody out.
func (s *Server) admit(c *stream, via transport) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.clients[c.client] >= maxPerClient {
		return false
	}
	if len(s.conns) >= s.maxConns {
		var longest *stream
		for other := range s.conns {
			if longest == nil || other.waits.Load() < longest.waits.Load() {
				longest = other
			}
		}
		s.forgetLocked(longest)
		longest.Close()
		s.metrics.dropped[via].Inc()
	}
	s.conns[c] = true
	s.clients[c.client]++
	return true
}

func (s *Server) release(c *stream) {
	s.mu.Lock()
	s.forgetLocked(c)
	s.mu.Unlock()
	c.Close()
}

func (s *Server) forgetLocked(c *stream) {
	if !s.conns[c] {
		return
	}
	delete(s.conns, c)
	if s.clients[c.client]--; s.clients[c.client] == 0 {
		delete(s.clients, c.client)
	}
}

// serveStream answers one connection's queries in order: RFC 7766 section 7 lets a
// server answer in any, and no answer here waits for anything. It ends with the
// client's half of the connection, once all that was asked is answered. c is over itself, or
// TLS upon it.
func (s *Server) serveStream(c net.Conn, over *stream, src netip.Addr, via transport) {
	r := bufio.NewReader(c)
	var length [2]byte
	var in []byte
	out := make([]byte, 2, 1024)
	for {
		// The deadline holds for the whole query: a byte now and then keeps nothing open.
		c.SetReadDeadline(time.Now().Add(s.idle))
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if cap(in) < n {
			in = make([]byte, n)
		}
		if _, err := io.ReadFull(r, in[:n]); err != nil {
			return
		}
		out = s.respond(out[:2], in[:n], src, via)
		if len(out) <= 2 {
			return // not a query: whoever speaks here does not speak DNS
		}
		binary.BigEndian.PutUint16(out, uint16(len(out)-2))
		c.SetWriteDeadline(time.Now().Add(tcpWrite))
		over.answered() // as far as its client may see
		if _, err := c.Write(out); err != nil {
			return
		}
		// One answer is a turn. Who pipelines without end would have 10 ms of a processor at
		// once, on each of his connections, and UDP a turn after all of them.
		runtime.Gosched()
	}
}
