package turn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"

	"bailiwick/acme/certtest"
)

// certificate is a self-signed one of both loopback addresses.
func certificate(t testing.TB) *certtest.Pair {
	t.Helper()
	return certtest.SelfSigned(t, time.Time{}, time.Now().AddDate(1, 0, 0), "127.0.0.1", "::1")
}

// withTLS makes start serve TURN over TLS too, with a certificate that is its own root.
func withTLS(t testing.TB) (func(*Config), *certtest.Pair) {
	pair := certificate(t)
	return func(cfg *Config) {
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{pair.Certificate}}
		cfg.TLSAddr = netip.AddrPortFrom(cfg.Addr.Addr(), 0)
	}, pair
}

func TestALPN(t *testing.T) {
	secure, pair := withTLS(t)
	s := start(t, "127.0.0.1", nil, secure)
	for _, tt := range []struct {
		name   string
		offers []string
		want   string
	}{
		{"a browser, which offers nothing", nil, ""},
		{"RFC 7443", []string{"stun.turn"}, "stun.turn"},
		{"among others", []string{"stun.nat-discovery", "stun.turn"}, "stun.turn"},
		{"something else", []string{"webrtc"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", s.TLSAddr().String(), &tls.Config{RootCAs: pair.Roots(), NextProtos: tt.offers})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got := conn.ConnectionState().NegotiatedProtocol; got != tt.want {
				t.Errorf("negotiated %q, want %q", got, tt.want)
			}
		})
	}
	if _, err := tls.Dial("tcp", s.TLSAddr().String(), &tls.Config{RootCAs: pair.Roots(), MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 was taken")
	}
}

// A connection whose handshake another listener did has the relay's own limits.
func TestServeTakesOver(t *testing.T) {
	peer := echo(t, "127.0.0.1")
	secure, _ := withTLS(t)
	s := start(t, "127.0.0.1", []netip.AddrPort{peer}, secure)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(theirs)
	c := dial(t, s, "tcp", "p1")
	c.conn = ours
	c.conn.SetDeadline(time.Now().Add(patience))
	c.mustAllocate()
	_, code := c.ask(stun.MethodCreatePermission, peerAttr(peer))
	c.expect("CreatePermission", code, 0)
	c.sendTo(peer, "hello")
	if from, data := c.data(); data != "hello" || from != peer {
		t.Errorf("got %q from %s", data, from)
	}
	s.Close()
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after Close: got %v, want the end", err)
	}
	late, mine := net.Pipe()
	s.Serve(late)
	if _, err := mine.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("given to a closed relay: got %v, want the end", err)
	}
}

func TestHandshakeThatTakesTooLong(t *testing.T) {
	for _, tt := range []struct {
		name string
		send func(net.Conn)
	}{
		{"says nothing", func(net.Conn) {}},
		{"one byte a second", func(conn net.Conn) {
			for _, b := range []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaa") {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &pipes{conns: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
				plain := &pipes{conns: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
				s, err := serve(Config{Relay: netip.MustParseAddr("127.0.0.1"), Realm: realm, Secret: secret, Permit: func(netip.AddrPort) bool { return false },
					TLS: &tls.Config{Certificates: []tls.Certificate{certificate(t).Certificate}}},
					&memory{in: make(chan []byte), out: make(chan []byte, 16), closed: make(chan struct{})}, plain, l)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				conn := l.connect("192.0.2.1:1000")
				begin := time.Now()
				var sending sync.WaitGroup
				defer sending.Wait()
				sending.Go(func() { tt.send(conn) })
				// Nobody else waits for it.
				next := tls.Client(l.connect("192.0.2.2:1000"), &tls.Config{InsecureSkipVerify: true})
				if err := next.Handshake(); err != nil || time.Since(begin) != 0 {
					t.Errorf("another client: %v after %s, want none at once", err, time.Since(begin))
				}
				go io.Copy(io.Discard, next)
				io.Copy(io.Discard, conn)
				if got := time.Since(begin); got != handshakeTimeout {
					t.Errorf("ended after %s, want %s", got, handshakeTimeout)
				}
				synctest.Wait()
				refused(t, s, map[Reason]uint64{Handshake: 1})
				if got := s.Stats().Connections; got != 1 {
					t.Errorf("%d connections are counted, want the other one", got)
				}
				next.Close()
			})
		})
	}
}
