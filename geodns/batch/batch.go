// Package batch moves datagrams between UDP sockets and a handler, many to a system
// call where the system can (recvmmsg and sendmmsg on Linux), one elsewhere. At a
// DNS server's rates the calls are most of the cost.
//
// It knows nothing of what the datagrams say. After start-up it allocates nothing.
package batch

import (
	"context"
	"net"
	"net/netip"
)

const (
	// MaxIn is how much is read of a datagram; what is longer is cut off there.
	MaxIn = 4096
	// MaxOut is the room that a handler gets for its answer.
	MaxOut = 4096
	// size is how many datagrams go in one call: more gains nothing that was measured.
	size = 32
)

// Handler appends the answer to one datagram to out, which is empty and has room for
// MaxOut bytes, and gives it back; empty is no answer. Both slices are the caller's
// again on return. It is called from one goroutine a socket.
type Handler func(out, in []byte, from netip.AddrPort) []byte

// Listen opens n sockets on one UDP address, among which the system spreads clients
// (SO_REUSEPORT), or a single one where it does not. Port 0 is no address for that:
// choose one first.
func Listen(at netip.AddrPort, n int) ([]*net.UDPConn, error) {
	config := net.ListenConfig{Control: control}
	if control == nil {
		n = 1
	}
	var conns []*net.UDPConn
	for range n {
		c, err := config.ListenPacket(context.Background(), "udp", at.String())
		if err != nil {
			for _, open := range conns {
				open.Close()
			}
			return nil, err
		}
		conns = append(conns, c.(*net.UDPConn))
	}
	return conns, nil
}
