package geodns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// TestPipelining (RFC 7766 sections 6.2.1.1 and 8): queries that share a segment, and
// a query that comes in any two pieces, over TCP and TLS.
func TestPipelining(t *testing.T) {
	with, client := withTLS(t)
	s := listen(t, with)
	serve(t, s)
	var queries [][]byte
	for i, q := range []*dns.Msg{ask("join.media.example.", dns.TypeA), ask("de-fra-1.edge.media.example.", dns.TypeAAAA, noEDNS), ask("none.media.example.", dns.TypeTXT)} {
		q.Id = uint16(i + 1)
		queries = append(queries, pack(t, q))
	}
	whole := framed(queries...)
	for _, r := range []struct {
		name string
		dial func() net.Conn
	}{
		{"tcp", func() net.Conn { return dial(t, s, "tcp") }},
		{"tls", func() net.Conn { return dialTLS(t, s, client) }},
	} {
		c := r.dial()
		for cut := range len(whole) + 1 { // each twice in one segment at 0 and the end
			for _, part := range [][]byte{whole[:cut], whole[cut:]} {
				if len(part) == 0 {
					continue
				}
				if _, err := c.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			for i := range queries {
				m, err := readTCP(c)
				if err != nil || int(m.Id) != i+1 {
					t.Fatalf("%s, split at %d: answer %d: got %v, %v", r.name, cut, i+1, m, err)
				}
			}
		}
		for i := range whole { // octet by octet
			if _, err := c.Write(whole[i : i+1]); err != nil {
				t.Fatal(err)
			}
		}
		for i := range queries {
			if m, err := readTCP(c); err != nil || int(m.Id) != i+1 {
				t.Fatalf("%s, octet by octet: answer %d: got %v, %v", r.name, i+1, m, err)
			}
		}
	}
}

// TestHalfClose: a client that sends its queries and then its FIN gets every answer,
// and then the server's end.
func TestHalfClose(t *testing.T) {
	with, client := withTLS(t)
	s := listen(t, with)
	serve(t, s)
	const n = 200
	var queries [][]byte
	for i := range n {
		q := ask("join.media.example.", dns.TypeA)
		q.Id = uint16(i)
		queries = append(queries, pack(t, q))
	}
	for _, r := range []struct {
		name string
		dial func() net.Conn
	}{
		{"tcp", func() net.Conn { return dial(t, s, "tcp") }},
		{"tls", func() net.Conn { return dialTLS(t, s, client) }},
	} {
		c := r.dial()
		// Half a query behind them ends the connection too, and no answer less.
		if _, err := c.Write(append(framed(queries...), framed(queries[0])[:9]...)); err != nil {
			t.Fatal(err)
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if m, err := readTCP(c); err != nil || int(m.Id) != i {
				t.Fatalf("%s: answer %d: got %v, %v", r.name, i, m, err)
			}
		}
		if _, err := readTCP(c); !errors.Is(err, io.EOF) {
			t.Errorf("%s: after the last answer: got %v, want the end", r.name, err)
		}
	}
}

// TestOneWritePerAnswer (RFC 7766 section 8): length and message leave together, for
// clients that take a segment for a message.
func TestOneWritePerAnswer(t *testing.T) {
	s := listen(t)
	near, far := net.Pipe() // a read of it is at most one write
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serveStream(far, &stream{Conn: far}, netip.MustParseAddr(berlin), overTCP)
	}()
	q := pack(t, ask("join.media.example.", dns.TypeA))
	go near.Write(framed(q))
	b := make([]byte, 4096)
	n, err := near.Read(b)
	if err != nil || n < 2+headerLen || !bytes.Equal(b[2:4], q[:2]) || int(b[0])<<8|int(b[1]) != n-2 {
		t.Errorf("first read: %d octets % x, %v; want length and message", n, b[:n], err)
	}
	near.Close()
	<-done
}

// TestClientThatTakesNothing: who asks and does not read the answer is not waited for.
func TestClientThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := listen(t)
		near, far := net.Pipe()
		defer near.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.serveStream(far, &stream{Conn: far}, netip.MustParseAddr(berlin), overTCP)
		}()
		began := time.Now()
		if _, err := near.Write(framed(pack(t, ask("join.media.example.", dns.TypeA)))); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
		case <-time.After(time.Hour):
			t.Fatal("it is waited for")
		}
		if took := time.Since(began); took != tcpWrite {
			t.Errorf("given up after %s, want %s", took, tcpWrite)
		}
	})
}

// TestAdmit: each place that is given up is given up once, by who waited the longest.
func TestAdmit(t *testing.T) {
	s := listen(t)
	s.maxConns = 2
	var ends []net.Conn
	for i := range 4 {
		near, far := net.Pipe()
		ends = append(ends, near)
		c := &stream{Conn: far, client: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)}
		c.waits.Store(int64(i))
		if !s.admit(c, overTCP) {
			t.Fatalf("connection %d is not admitted", i)
		}
	}
	for i, c := range ends {
		c.SetReadDeadline(time.Unix(1, 0))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) != (i < 2) {
			t.Errorf("connection %d: got %v, want it closed: %v", i, err, i < 2)
		}
	}
	if len(s.conns) != 2 || len(s.clients) != 2 {
		t.Errorf("%d connections of %d clients are kept, want 2 of 2", len(s.conns), len(s.clients))
	}
	s.Close()
	if s.admit(&stream{}, overTCP) {
		t.Error("admitted after the end")
	}
}

// incoming is a listener of connections that come from anywhere.
type incoming struct {
	net.Listener
	conns chan net.Conn
}

func (l incoming) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

type remote struct {
	net.Conn
	addr netip.AddrPort
}

func (c remote) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.addr) }

// TestClientsOverIPv6: who has a /64 has one client's share of the connections.
func TestClientsOverIPv6(t *testing.T) {
	s := listen(t)
	l, done := incoming{conns: make(chan net.Conn)}, make(chan error)
	go func() { done <- s.serveStreams(l, overTCP) }()
	q := framed(pack(t, ask("join.media.example.", dns.TypeA)))
	served := func(client string) bool {
		near, far := net.Pipe()
		l.conns <- remote{far, netip.AddrPortFrom(netip.MustParseAddr(client), 53)}
		near.SetDeadline(time.Now().Add(5 * time.Minute))
		if _, err := near.Write(q); err != nil {
			return false
		}
		_, err := readTCP(near)
		return err == nil
	}
	for i := range maxPerClient + 1 {
		if got, want := served(fmt.Sprintf("2001:db8::%x", i+1)), i < maxPerClient; got != want {
			t.Errorf("connection %d of a /64: served %v, want %v", i+1, got, want)
		}
	}
	if !served("2001:db8:0:1::1") {
		t.Error("another /64 is not served")
	}
	close(l.conns)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// exhausted is a listener of a process that has no file descriptor left for a while.
type exhausted struct {
	net.Listener
	failures int
}

func (l *exhausted) Accept() (net.Conn, error) {
	if l.failures--; l.failures >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return nil, net.ErrClosed
}

// TestAcceptFails: the server lives through minutes without file descriptors, and does
// not spin.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := listen(t)
		began := time.Now()
		if err := s.serveStreams(&exhausted{failures: maxFailures - 1}, overTCP); err != nil {
			t.Errorf("got %v, want it to go on", err)
		}
		if took := time.Since(began); took < 10*time.Minute {
			t.Errorf("%d failures took %s: want more than ten minutes", maxFailures-1, took)
		}
		if err := s.serveStreams(&exhausted{failures: maxFailures}, overTCP); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("a socket that is broken: got %v, want its error", err)
		}
	})
}
