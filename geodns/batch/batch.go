// Package batch moves datagrams between UDP sockets and a handler, many to a system
// call where the system can (recvmmsg and sendmmsg on Linux), one elsewhere. At a
// DNS server's rates the calls are most of the cost.
//
// It knows nothing of what the datagrams say. After start-up it allocates nothing.
package batch

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	// MaxIn is how much is read of a datagram; what is longer is cut off there. It is more
	// than a path is sure to carry in one piece (RFC 9715), and no power of two, by which
	// the datagrams of a batch would compete for the same places in the caches.
	MaxIn = 1472
	// MaxOut is the room that a handler gets for its answer.
	MaxOut = 1472
	// Size is how many datagrams go in one call: more gains nothing that was measured.
	Size = 32
)

// maxFailures of reads in a row end Serve: the socket is broken. What passes by itself,
// such as a lack of memory, is waited for: a quarter of an hour in all.
const maxFailures = 1000

// pause waits after so many failures in a row.
func pause(failures int) {
	time.Sleep(min(time.Duration(failures-1)*10*time.Millisecond, time.Second))
}

// Datagram is one that came, and the room for its answer.
type Datagram struct {
	In   []byte
	From netip.AddrPort
	// Out is empty and has room for MaxOut bytes. A handler leaves the answer in it, or
	// in another slice; empty is no answer.
	Out []byte
}

// Handler answers what came at once: at least one datagram, at most Size. All memory is
// the caller's again on return. It is called from one goroutine a socket.
type Handler func([]Datagram)

// Listen opens n sockets on one UDP address, among which the system spreads clients
// (SO_REUSEPORT), or a single one where it does not. Port 0 is no address for that:
// choose one first. A wildcard address is answered from the address that was asked.
// Whoever does not come to call Serve must Close each.
func Listen(at netip.AddrPort, n int) (list []*Socket, err error) {
	config := net.ListenConfig{Control: control}
	if control == nil {
		n = 1
	}
	defer func() {
		if err != nil {
			for _, s := range list {
				s.Close()
			}
		}
	}()
	for range n {
		c, err := config.ListenPacket(context.Background(), "udp", at.String())
		if err != nil {
			return list, err
		}
		s, err := newSocket(c.(*net.UDPConn), at.Addr().IsUnspecified())
		if err != nil {
			c.Close()
			return list, err
		}
		list = append(list, s)
	}
	return list, nil
}

// tellDestination makes the socket deliver the address that a datagram was sent to.
// Which of the two calls works depends on the socket's family.
func tellDestination(c *net.UDPConn) error {
	err4 := ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst, true)
	err6 := ipv6.NewPacketConn(c).SetControlMessage(ipv6.FlagDst, true)
	if err4 != nil && err6 != nil {
		return fmt.Errorf("destination addresses: %w: listen on one address", err4)
	}
	return nil
}
