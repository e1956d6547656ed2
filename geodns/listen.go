package geodns

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

// maxFailures in a row end a loop: the socket is broken, and spinning on it helps
// nobody.
const maxFailures = 1000

// serveStreams accepts until the listener is closed, and waits for its connections.
func (s *Server) serveStreams(l *net.TCPListener, via transport) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.Close() // before waiting: it ends the connections
	failures := 0
	for {
		c, err := l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // out of file descriptors, or the client has gone
			if failures++; failures == maxFailures {
				return fmt.Errorf("dns %s: %w", transports[via], err)
			}
			continue
		}
		failures = 0
		if !s.admit(c) {
			c.Close()
			s.metrics.dropped[via].Inc()
			continue
		}
		wg.Go(func() {
			defer s.release(c)
			src := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
			if via == overTLS {
				s.serveTLS(c, src)
				return
			}
			s.serveStream(c, src, via)
		})
	}
}

func (s *Server) admit(c net.Conn) bool {
	addr := clientAddr(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
	client := netip.PrefixFrom(addr, min(addr.BitLen(), 64)).Masked()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.maxConns || s.clients[client] >= maxPerClient {
		return false
	}
	s.conns[c] = client
	s.clients[client]++
	return true
}

func (s *Server) release(c net.Conn) {
	s.mu.Lock()
	client := s.conns[c]
	delete(s.conns, c)
	if s.clients[client]--; s.clients[client] == 0 {
		delete(s.clients, client)
	}
	s.mu.Unlock()
	c.Close()
}

// serveStream answers one connection's queries in order: RFC 7766 section 7 lets a
// server answer in any, and no answer here waits for anything. It ends with the
// client's half of the connection, once all that was asked is answered.
func (s *Server) serveStream(c net.Conn, src netip.Addr, via transport) {
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
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}
