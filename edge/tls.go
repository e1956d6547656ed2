package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"bailiwick/turn"
)

// handshakeTimeout bounds a TLS handshake and, of a client without ALPN, the wait for
// its first byte; after that the HTTP server's own limits hold.
const handshakeTimeout = 10 * time.Second

// hsts keeps a browser on TLS for a year (RFC 6797 section 6.1.1).
const hsts = "max-age=31536000"

// secured adds the header that only an answer over TLS may carry (RFC 6797 section 7.2).
func secured(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Strict-Transport-Security", hsts)
		h.ServeHTTP(w, q)
	})
}

// front is the HTTPS port: TLS connections for the HTTP server, and those that speak
// TURN for the relay, since networks that let nothing else out let this port out. ALPN
// tells them apart (RFC 7443), and where a client offers none, as browsers do for TURN,
// its first byte: a STUN message begins with 0 to 3, a ChannelData never comes first.
type front struct {
	net.Listener // TCP
	config       *tls.Config
	turn         func(net.Conn)
	conns        chan net.Conn
	ctx          context.Context // ends with Close
	cancel       context.CancelFunc
	done         chan struct{} // accepting has ended, with fail
	fail         error
	sorting      sync.WaitGroup
}

// newFront sorts what l accepts until Close. The certificates are those of base at
// each handshake.
func newFront(l net.Listener, base *tls.Config, turn func(net.Conn)) *front {
	f := &front{Listener: l, config: serverTLS(base), turn: turn, conns: make(chan net.Conn), done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.sorting.Go(f.run)
	return f
}

// serverTLS is base with the versions and protocols of the HTTPS port.
func serverTLS(base *tls.Config) *tls.Config {
	c := base.Clone()
	c.MinVersion = tls.VersionTLS12
	c.NextProtos = []string{"h2", "http/1.1", turn.Protocol}
	return c
}

func (f *front) run() {
	defer close(f.done)
	for pause := time.Duration(0); ; {
		conn, err := f.Listener.Accept()
		if err == nil {
			pause = 0
			f.sorting.Go(func() { f.sort(conn) })
			continue
		}
		// Such as too many open files, which pass.
		var passing interface{ Temporary() bool }
		if !errors.As(err, &passing) || !passing.Temporary() {
			f.fail = err
			return
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-f.ctx.Done():
		}
	}
}

// sort does the handshake, looks at what the client speaks and hands it on.
func (f *front) sort(raw net.Conn) {
	ctx, cancel := context.WithTimeout(f.ctx, handshakeTimeout)
	defer cancel()
	conn := tls.Server(raw, f.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		explain(err)
		raw.Close()
		return
	}
	switch conn.ConnectionState().NegotiatedProtocol {
	case turn.Protocol:
		f.turn(conn)
	case "":
		f.peek(ctx, conn)
	default:
		f.put(conn)
	}
}

// peek looks at the first byte of a client that did not say what it speaks.
func (f *front) peek(ctx context.Context, conn *tls.Conn) {
	stop := context.AfterFunc(ctx, func() { conn.NetConn().Close() })
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil || !stop() {
		conn.NetConn().Close()
		return
	}
	c := &peeked{Conn: conn, first: first}
	if first[0] < 4 {
		f.turn(c)
		return
	}
	f.put(c)
}

// peeked is a connection whose first byte was read.
type peeked struct {
	net.Conn
	first []byte // until it is read again
}

// Read gives the first byte alone, then the rest. One goroutine at a time reads.
func (p *peeked) Read(b []byte) (int, error) {
	if len(p.first) == 0 || len(b) == 0 {
		return p.Conn.Read(b)
	}
	b[0], p.first = p.first[0], nil
	return 1, nil
}

func (f *front) put(conn net.Conn) {
	select {
	case f.conns <- conn:
	case <-f.ctx.Done():
		conn.Close()
	}
}

// explain answers who speaks plain HTTP here, as net/http would.
func explain(err error) {
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil {
		return
	}
	switch string(record.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "DELET", "OPTIO":
		record.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		io.WriteString(record.Conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"+
			"This port speaks HTTPS. Begin the address with https:// instead of http://.\n")
	}
}

// Accept gives the HTTP server its next connection.
func (f *front) Accept() (net.Conn, error) {
	select {
	case conn := <-f.conns:
		return conn, nil
	case <-f.ctx.Done():
		return nil, net.ErrClosed
	case <-f.done:
		return nil, f.fail
	}
}

// Close ends what is being sorted; what was handed on is others'.
func (f *front) Close() error {
	f.cancel()
	err := f.Listener.Close()
	f.sorting.Wait()
	return err
}

// DefaultHost is the base URL of an edge with TLS: its name in the zone.
func DefaultHost(id, zone string, port uint16) string {
	u := "https://" + id + ".edge." + zone
	if port != 443 {
		u += ":" + strconv.Itoa(int(port))
	}
	return u
}

// turnsURLs are where a client reaches TURN over TLS, by the name that the certificate
// has: the port of its own first, then the HTTPS port.
func turnsURLs(host string, port uint16) []string {
	u, err := url.Parse(host)
	if err != nil {
		return nil
	}
	https := u.Port()
	if https == "" {
		https = "443"
	}
	var urls []string
	for _, p := range []string{strconv.Itoa(int(port)), https} {
		urls = append(urls, "turns:"+net.JoinHostPort(u.Hostname(), p)+"?transport=tcp")
	}
	return urls
}
