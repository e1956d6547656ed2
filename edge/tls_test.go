package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pion "github.com/pion/turn/v5"

	"bailiwick/acme/certtest"
	"bailiwick/edge/signal"
	"bailiwick/steer"
	"bailiwick/store"
)

// issued is a new self-signed certificate of an edge's name.
func issued(t testing.TB) tls.Certificate {
	t.Helper()
	return certtest.SelfSigned(t, time.Time{}, time.Now().AddDate(50, 0, 0), "de-ber-1.edge.media.example").Certificate
}

// secure is a fixture whose one edge has TLS, and a client that trusts it and knows
// where its name leads.
type secure struct {
	*fixture
	current atomic.Pointer[tls.Certificate]
	roots   *x509.CertPool
}

func startTLS(t *testing.T) *secure {
	t.Helper()
	s := &secure{roots: x509.NewCertPool()}
	s.issue(t)
	s.fixture = startWith(t, 10, func(c *Config) {
		c.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load(), nil }}
		c.Turns = netip.MustParseAddrPort("127.0.0.1:0")
	}, "de-ber")
	http1 := s.transport() // a WebSocket's
	http1.ForceAttemptHTTP2, http1.TLSClientConfig.NextProtos = false, []string{"http/1.1"}
	s.http = &http.Client{Transport: http1}
	return s
}

// issue puts a new certificate in force.
func (s *secure) issue(t *testing.T) {
	c := issued(t)
	s.roots.AddCert(c.Leaf)
	s.current.Store(&c)
}

func (s *secure) at() string { return s.edges["de-ber"].cfg.HTTP.String() }

func (s *secure) transport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, s.at())
		}}
}

func TestHTTPS(t *testing.T) {
	s := startTLS(t)
	host := s.edges["de-ber"].Self().Host
	if want := "https://de-ber-1.edge.media.example:" + s.at()[strings.LastIndex(s.at(), ":")+1:]; host != want {
		t.Errorf("host %s, want %s", host, want)
	}
	http1 := s.transport()
	http1.ForceAttemptHTTP2, http1.TLSClientConfig.NextProtos = false, []string{"http/1.1"}
	silent := s.transport()
	silent.ForceAttemptHTTP2 = false
	silent.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	for _, tt := range []struct {
		name      string
		transport *http.Transport
		proto     string
	}{{"h2", s.transport(), "HTTP/2.0"}, {"http/1.1", http1, "HTTP/1.1"}, {"no ALPN", silent, "HTTP/1.1"}} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := (&http.Client{Transport: tt.transport}).Get(host + "/livez")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			body, _ := io.ReadAll(r.Body)
			if r.Proto != tt.proto || r.StatusCode != 200 || string(body) != "ok\n" {
				t.Errorf("%s %d %q, want %s 200 ok", r.Proto, r.StatusCode, body, tt.proto)
			}
			if got := r.Header.Get("Strict-Transport-Security"); got != hsts {
				t.Errorf("HSTS %q, want %q", got, hsts)
			}
		})
	}
	t.Run("plain HTTP", func(t *testing.T) {
		r, err := http.Get("http://" + s.at() + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if body, _ := io.ReadAll(r.Body); r.StatusCode != 400 || !strings.Contains(string(body), "https://") {
			t.Errorf("%d %q, want 400 and what to do", r.StatusCode, body)
		}
	})
	for name, c := range map[string]*tls.Config{
		"TLS 1.1":        {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, RootCAs: s.roots, ServerName: "de-ber-1.edge.media.example"},
		"other protocol": {NextProtos: []string{"smtp"}, RootCAs: s.roots, ServerName: "de-ber-1.edge.media.example"},
	} {
		if conn, err := tls.Dial("tcp", s.at(), c); err == nil {
			conn.Close()
			t.Errorf("%s was taken", name)
		}
	}
}

// The certificate changes under an open call: the call goes on, the next handshake
// sees the new one, on HTTPS and TURN alike.
func TestCertificateIsSwapped(t *testing.T) {
	s := startTLS(t)
	token := s.consult("de-ber").Participants[0].Token
	call := s.dial("de-ber")
	call.hello(token, "")
	call.next(signal.TypeWelcome)
	serves := func(addr string, want *x509.Certificate) {
		t.Helper()
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: s.roots, ServerName: "de-ber-1.edge.media.example"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(want) {
			t.Errorf("%s: got certificate %s, want %s", addr, got.SerialNumber, want.SerialNumber)
		}
	}
	turns := s.edges["de-ber"].Self().Turns.String()
	first := s.current.Load().Leaf
	serves(s.at(), first)
	serves(turns, first)
	s.issue(t)
	second := s.current.Load().Leaf
	serves(s.at(), second)
	serves(turns, second)
	call.next(signal.TypeOffer)
	call.send(`{"type":"leave"}`) // heard, so the room empties
	if _, _, err := call.conn.Read(t.Context()); err == nil {
		t.Error("the call did not end by leaving")
	}
	s.empty("de-ber")
	if n := len(s.edges["de-ber"].Rooms()); n != 0 {
		t.Errorf("%d rooms after the only participant left", n)
	}
}

// gate is a store that tells who registers too early.
type gate struct {
	store.Store
	t    *testing.T
	open <-chan struct{}
}

func (g gate) Register(ctx context.Context, in store.Instance, ttl time.Duration) (store.Lease, error) {
	select {
	case <-g.open:
	default:
		g.t.Errorf("%s registers before it has a certificate", in.ID)
	}
	return g.Store.Register(ctx, in, ttl)
}

// An edge that waits for its certificate serves and publishes its key, and is answered
// to nobody.
func TestRegistersWithACertificate(t *testing.T) {
	var cfg Config
	f := startWith(t, 10, func(c *Config) { cfg = *c }, "de-fra")
	certified := make(chan struct{})
	cfg.ID, cfg.Region, cfg.Metrics, cfg.Certified = "de-ber-1", "de-ber", nil, certified
	cfg.Stores = store.Set{"": gate{f.st, t, certified}}
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{issued(t)}}
	cfg.Turns = netip.MustParseAddrPort("127.0.0.1:0")
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	f.until("the edge serves", func(w *steer.World) bool { return len(w.Keys) == 2 })
	close(certified)
	f.until("the edge is in the world", func(w *steer.World) bool { _, e := w.Edge("de-ber-1"); return e != nil })
	stop()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
}

// One that is stopped before it has one ends all the same.
func TestStopsWithoutACertificate(t *testing.T) {
	var cfg Config
	f := startWith(t, 10, func(c *Config) { cfg = *c }, "de-fra")
	cfg.ID, cfg.Region, cfg.Metrics, cfg.Certified = "de-ber-1", "de-ber", nil, make(chan struct{})
	cfg.Stores = store.Set{"": gate{f.st, t, cfg.Certified}}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := e.Run(ctx); err != nil {
		t.Errorf("run: %v", err)
	}
}

// A client gets TURN over TLS by the name in the certificate, on the relay's port and
// on the HTTPS port, whether it says by ALPN what it speaks or not.
func TestTURNOverTLS(t *testing.T) {
	s := startTLS(t)
	c := s.consult("de-ber")
	call := s.dial("de-ber")
	call.hello(c.Participants[0].Token, "")
	ice := call.next(signal.TypeWelcome).ICEServers[0]
	self := s.edges["de-ber"].Self()
	_, https, _ := net.SplitHostPort(s.at())
	want := []string{"turns:de-ber-1.edge.media.example:" + fmt.Sprint(self.Turns.Port()) + "?transport=tcp", "turns:de-ber-1.edge.media.example:" + https + "?transport=tcp"}
	if len(ice.URLs) != 4 || !slices.Equal(ice.URLs[2:], want) {
		t.Errorf("ICE servers %q, want them to end in %q", ice.URLs, want)
	}
	for _, tt := range []struct {
		name, addr string
		alpn       []string
	}{
		{"its own port", self.Turns.String(), nil},
		{"its own port, ALPN", self.Turns.String(), []string{"stun.turn"}},
		{"the HTTPS port, ALPN", s.at(), []string{"stun.turn"}},
		{"the HTTPS port, as a browser", s.at(), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", tt.addr, &tls.Config{RootCAs: s.roots, ServerName: "de-ber-1.edge.media.example", NextProtos: tt.alpn})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			client, err := pion.NewClient(&pion.ClientConfig{TURNServerAddr: tt.addr, STUNServerAddr: tt.addr, Conn: pion.NewSTUNConn(conn),
				Username: ice.Username, Password: ice.Credential, Realm: "media.example"})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if err := client.Listen(); err != nil {
				t.Fatal(err)
			}
			relay, err := client.Allocate()
			if err != nil {
				t.Fatal(err)
			}
			if err := client.CreatePermission(net.UDPAddrFromAddrPort(self.Media)); err != nil {
				t.Errorf("permission for the SFU: %v", err)
			}
			relay.Close()
		})
	}
}

// Handshakes that never end cost ten seconds each, and nobody else waits for them.
func TestSlowHandshakes(t *testing.T) {
	s := startTLS(t)
	for range 50 {
		conn, err := net.Dial("tcp", s.at())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte{0x16, 3, 1})
	}
	r, err := s.http.Get(s.edges["de-ber"].Self().Host + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()

	for name, talk := range map[string]func(net.Conn){
		"says nothing":        func(net.Conn) {},
		"stops after TLS":     func(c net.Conn) { tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake() },
		"stops in the middle": func(c net.Conn) { c.Write([]byte{0x16, 3, 1, 2, 0, 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
				f := newFront(l, &tls.Config{Certificates: []tls.Certificate{issued(t)}}, func(net.Conn) { t.Error("given to TURN") })
				defer f.Close()
				ours, theirs := net.Pipe()
				begin := time.Now()
				l.conns <- theirs
				talk(ours)
				io.Copy(io.Discard, ours)
				if got := time.Since(begin); got != handshakeTimeout {
					t.Errorf("ended after %s, want %s", got, handshakeTimeout)
				}
			})
		})
	}
}

// pipeListener is a listener whose connections are pipes.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }
func (p *pipeListener) Close() error   { close(p.closed); return nil }

func TestPeekedKeepsEveryByte(t *testing.T) {
	ours, theirs := net.Pipe()
	go func() { theirs.Write([]byte("ET / HTTP/1.1\r\n")); theirs.Close() }()
	got, err := bufio.NewReader(&peeked{Conn: ours, first: []byte("G")}).ReadString('\n')
	if err != nil || got != "GET / HTTP/1.1\r\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDefaultHost(t *testing.T) {
	for port, want := range map[uint16]string{443: "https://e.edge.media.example", 8443: "https://e.edge.media.example:8443"} {
		if got := DefaultHost("e", "media.example", port); got != want {
			t.Errorf("port %d: got %s, want %s", port, got, want)
		}
	}
	if got, want := turnsURLs("https://e.edge.media.example", 5349), []string{"turns:e.edge.media.example:5349?transport=tcp", "turns:e.edge.media.example:443?transport=tcp"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
