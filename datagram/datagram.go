// Package datagram moves datagrams between UDP sockets and their users, many to a system
// call where the system can (recvmmsg and sendmmsg on Linux), one elsewhere. At a DNS
// server's or a media server's rates the calls are most of the cost.
//
// It knows nothing of what the datagrams say. After start-up it allocates nothing.
package datagram

import (
	"context"
	"errors"
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
	// MaxOut is the room that there is for a datagram to send.
	MaxOut = 1472
	// Size is how many datagrams go in one call: more gains nothing that was measured.
	Size = 32
)

// maxFailures of reads in a row end Read: the socket is broken. What passes by itself,
// such as a lack of memory, is waited for: a quarter of an hour in all.
const maxFailures = 1000

// pause waits after so many failures in a row.
func pause(failures int) {
	time.Sleep(min(time.Duration(failures-1)*10*time.Millisecond, time.Second))
}

// Datagram is one that came, and for a Handler the room for its answer.
type Datagram struct {
	In []byte
	// From is the sender. An IPv4 address is one, whatever the socket's family, and a
	// zone is the number of an interface.
	From netip.AddrPort
	// Out is empty and has room for MaxOut bytes. A Handler leaves the answer in it, or
	// in another slice; empty is no answer. A Reader gives none.
	Out []byte

	origin origin // as the system told it, for the answer
}

// Handler answers what came at once: at least one datagram, at most Size. All memory is
// the caller's again on return. It is called from one goroutine a socket.
type Handler func([]Datagram)

// Listen opens n sockets on one UDP address, among which the system spreads clients
// (SO_REUSEPORT), or a single one where it does not. Port 0 picks one for all. Close each.
//
// Who reads one sleeps in the system call, of which Go's poller knows nothing: that is the
// cheapest to wake where datagrams come all the time.
func Listen(at netip.AddrPort, n int) ([]*Socket, error) { return listen(at, n, false) }

// ListenPolled is Listen for sockets that are read now and then: who reads one sleeps in Go's
// poller. Each return from a system call that slept would wake the runtime's watch (sysmon),
// which then looks around every 20 µs: a fifth of a media server's time at some thousand
// datagrams a second. What there is no room to send for is lost.
func ListenPolled(at netip.AddrPort, n int) ([]*Socket, error) { return listen(at, n, true) }

func listen(at netip.AddrPort, n int, polled bool) (list []*Socket, err error) {
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
		s, err := newSocket(c.(*net.UDPConn), at.Addr().IsUnspecified(), polled)
		if err != nil {
			c.Close()
			return list, err
		}
		list = append(list, s)
		at = netip.AddrPortFrom(at.Addr(), s.LocalAddr().Port())
	}
	return list, nil
}

// Serve answers datagrams until Close, which is no error, or until the socket is broken.
// Call it once: the socket is closed when it returns.
func (s *Socket) Serve(h Handler) error {
	r, w := s.Reader(), s.Writer()
	defer s.Close()
	defer r.Close()
	for {
		all, err := r.Read()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		for i := range all {
			all[i].Out = w.bufs[i][:0]
		}
		h(all)
		for i := range all {
			if d := &all[i]; len(d.Out) > 0 {
				w.Reply(d, d.Out)
			}
		}
		w.send() // of a socket that r keeps open: what was read before Close is answered
	}
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

// localAddr is where a connection listens; a mapped IPv4 address is IPv4.
func localAddr(c *net.UDPConn) netip.AddrPort {
	at := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
