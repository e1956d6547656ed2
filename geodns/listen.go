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

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	// maxUDPQuery is what is read of a datagram. One question and its EDNS options
	// take a few hundred bytes; what is cut off here is malformed.
	maxUDPQuery = 4096
	// maxFailures in a row end a loop: the socket is broken, and spinning on it helps
	// nobody.
	maxFailures = 1000
)

// serveUDP answers datagrams until the socket is closed. Any number of them may run.
func (s *Server) serveUDP() error {
	buf, oob, out := make([]byte, maxUDPQuery), make([]byte, 128), make([]byte, 0, maxUDP)
	failures := 0
	for {
		n, oobn, _, src, err := s.udp.ReadMsgUDPAddrPort(buf, oob)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			if failures++; failures == maxFailures {
				return fmt.Errorf("dns udp: %w", err)
			}
			continue
		}
		failures = 0
		if src.Port() == 0 {
			continue // nobody can be there
		}
		if out = s.respond(out[:0], buf[:n], src.Addr(), overUDP); len(out) == 0 {
			continue
		}
		var from []byte
		if s.wildcard {
			from = sourceFor(oob[:oobn])
		}
		// A client that cannot be reached is not this server's fault; the answer is lost.
		_, _, _ = s.udp.WriteMsgUDPAddrPort(out, from, src)
	}
}

// sourceFor is the control message that makes an answer leave from the address that
// the query, received with oob, was sent to.
func sourceFor(oob []byte) []byte {
	var m6 ipv6.ControlMessage
	if m6.Parse(oob) == nil && m6.Dst != nil && m6.Dst.To4() == nil {
		return (&ipv6.ControlMessage{Src: m6.Dst}).Marshal()
	}
	var m4 ipv4.ControlMessage
	if m4.Parse(oob) == nil && m4.Dst != nil {
		return (&ipv4.ControlMessage{Src: m4.Dst}).Marshal()
	}
	return nil
}

// serveTCP accepts until the listener is closed, and waits for its connections.
func (s *Server) serveTCP() error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.Close() // before waiting: it ends the connections
	failures := 0
	for {
		c, err := s.tcp.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // out of file descriptors, or the client has gone
			if failures++; failures == maxFailures {
				return fmt.Errorf("dns tcp: %w", err)
			}
			continue
		}
		failures = 0
		if !s.admit(c) {
			c.Close()
			s.metrics.dropped[overTCP].Inc()
			continue
		}
		wg.Go(func() {
			defer s.release(c)
			s.serveConn(c)
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

// serveConn answers one connection's queries in order (RFC 7766). No answer waits
// for anything, so order costs nothing.
func (s *Server) serveConn(c *net.TCPConn) {
	src := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
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
		out = s.respond(out[:2], in[:n], src, overTCP)
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
