//go:build !(linux && (amd64 || arm64))

package batch

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// control is nil: one socket serves the address.
var control func(network, address string, c syscall.RawConn) error

// Socket is one UDP socket.
type Socket struct {
	conn    *net.UDPConn
	pktinfo bool // answers must name their source address
}

func newSocket(c *net.UDPConn, pktinfo bool) (*Socket, error) {
	if pktinfo {
		if err := tellDestination(c); err != nil {
			return nil, err
		}
	}
	return &Socket{c, pktinfo}, nil
}

// Close ends Serve.
func (s *Socket) Close() error { return s.conn.Close() }

// Serve answers datagrams until Close, which is no error. Call it once.
func (s *Socket) Serve(h Handler) error {
	in, out, oob := make([]byte, MaxIn), make([]byte, 0, MaxOut), make([]byte, 128)
	grams := make([]Datagram, 1)
	failures := 0
	for {
		n, oobn, _, from, err := s.conn.ReadMsgUDPAddrPort(in, oob)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			if failures++; failures == maxFailures {
				return fmt.Errorf("udp: %w", err)
			}
			pause(failures)
			continue
		}
		failures = 0
		if from.Port() == 0 {
			continue
		}
		grams[0] = Datagram{In: in[:n], From: from, Out: out}
		if h(grams); len(grams[0].Out) == 0 {
			continue
		}
		var source []byte
		if s.pktinfo {
			source = sourceFor(oob[:oobn])
		}
		_, _, _ = s.conn.WriteMsgUDPAddrPort(grams[0].Out, source, from)
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
