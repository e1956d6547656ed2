package geodns

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

const (
	// tlsHandshake is how long a client may take for its handshake.
	tlsHandshake = 5 * time.Second
	// padBlock is what the length of a padded answer is a multiple of (RFC 8467
	// section 4.1).
	padBlock = 468
	// alpn is the protocol's name in the handshake (IANA's registry of ALPN). A client
	// that offers none is served, one that offers only others is not.
	alpn = "dot"
)

// bindTLS opens the port of DNS over TLS (RFC 7858); without a configuration it is none.
func (s *Server) bindTLS(at netip.AddrPort, c *tls.Config) (err error) {
	if c == nil {
		return nil
	}
	if !at.IsValid() {
		return errors.New("dns tls: no address to listen on")
	}
	s.tls = c.Clone()
	s.tls.NextProtos = []string{alpn}
	s.tls.MinVersion = max(s.tls.MinVersion, tls.VersionTLS12) // RFC 9325 section 3.1.1
	if s.dot, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err != nil {
		return fmt.Errorf("dns tls %s: %w", at, err)
	}
	return nil
}

// DoT is where the server listens for DNS over TLS; invalid where it does not.
func (s *Server) DoT() netip.AddrPort {
	if s.dot == nil {
		return netip.AddrPort{}
	}
	return s.dot.Addr().(*net.TCPAddr).AddrPort()
}

// serveTLS shakes hands and serves. Nothing is said of a handshake that fails but a
// count: strangers' are many.
func (s *Server) serveTLS(raw *stream, src netip.Addr) {
	c := tls.Server(raw, s.tls)
	ctx, cancel := context.WithTimeout(context.Background(), tlsHandshake)
	err := c.HandshakeContext(ctx)
	cancel()
	if err != nil {
		s.metrics.handshakes.Inc()
		return
	}
	defer c.Close()
	s.serveStream(c, raw, src, overTLS)
}

// pad fills an answer up to the next block (RFC 7830, RFC 8467 section 4.1). opt is
// the length of its OPT record, which is its last. What fits no block stays as it is.
func pad(b []byte, opt int) []byte {
	const header = 4
	n := (padBlock - (len(b)+header)%padBlock) % padBlock
	if len(b)+header+n > dns.MaxMsgSize-1 {
		return b
	}
	length := b[len(b)-opt+9:] // after root, type, class and TTL
	binary.BigEndian.PutUint16(length, binary.BigEndian.Uint16(length)+header+uint16(n))
	b = binary.BigEndian.AppendUint16(b, dns.EDNS0PADDING)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	return append(b, make([]byte, n)...)
}
