package turn

import (
	"crypto/tls"
	"net"
	"slices"
	"sync"
)

// Protocol is the ALPN name of TURN (RFC 7443 section 2).
const Protocol = "stun.turn"

// secureConfig is TLS on the relay's own port. A client that offers no TURN by ALPN
// is taken too, for browsers offer nothing, and what else may be meant here?
func secureConfig(base *tls.Config) *tls.Config {
	silent := base.Clone()
	silent.MinVersion, silent.NextProtos, silent.GetConfigForClient = tls.VersionTLS12, nil, nil
	named := silent.Clone()
	named.NextProtos = []string{Protocol}
	outer := silent.Clone()
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, Protocol) {
			return named, nil
		}
		return silent, nil
	}
	return outer
}

// Serve takes over a connection that another listener accepted, such as the HTTPS
// port's with [Protocol]: its TLS handshake is done. It counts within the limits. A
// server without TLS, or a closed one, closes it.
func (s *Server) Serve(conn net.Conn) {
	if s.given == nil || !s.given.put(conn) {
		conn.Close()
	}
}

// given is the listener of connections that Serve is given.
type given struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newGiven(addr net.Addr) *given {
	return &given{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (g *given) put(conn net.Conn) bool {
	select {
	case g.conns <- conn:
		return true
	case <-g.closed:
		return false
	}
}

func (g *given) Accept() (net.Conn, error) {
	select {
	case conn := <-g.conns:
		return conn, nil
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

func (g *given) Addr() net.Addr { return g.addr }

func (g *given) Close() error {
	g.once.Do(func() { close(g.closed) })
	return nil
}
