package turn

import (
	"errors"
	"net"
	"net/netip"
)

// network is "udp4" or "udp6", "tcp4" or "tcp6": an unspecified IPv6 address takes
// both families.
func network(kind string, a netip.Addr) string {
	switch {
	case a.Unmap().Is4():
		return kind + "4"
	case a.IsUnspecified():
		return kind
	}
	return kind + "6"
}

// addrPort is the address of a UDP or TCP socket, unmapped and without a zone;
// invalid for any other.
func addrPort(addr net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := addr.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// open listens on UDP and TCP. Port 0 is a UDP port of the system's choice that is
// free for TCP too.
func open(addr netip.AddrPort) (*net.UDPConn, net.Listener, error) {
	const tries = 32
	for try := 1; ; try++ {
		udp, err := net.ListenUDP(network("udp", addr.Addr()), net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return nil, nil, err
		}
		// One socket takes the packets of every client; the kernel caps this.
		_ = udp.SetReadBuffer(4 << 20)
		at := netip.AddrPortFrom(addr.Addr(), udp.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		tcp, err := net.ListenTCP(network("tcp", addr.Addr()), net.TCPAddrFromAddrPort(at))
		if err == nil {
			return udp, tcp, nil
		}
		udp.Close()
		if addr.Port() != 0 || try == tries {
			return nil, nil, err
		}
	}
}

// maxReadErrors in a row end the UDP listener; Linux gives none for a socket that
// is not connected, other systems report what became of packets sent.
const maxReadErrors = 1000

// datagrams is the UDP listener, guarded.
type datagrams struct {
	net.PacketConn
	g    guard
	from net.Addr // of the packet that pion is handling
}

// ReadFrom gives pion the next packet that is admitted. Only pion's read loop calls
// it.
func (d *datagrams) ReadFrom(b []byte) (int, net.Addr, error) {
	for failures := 0; ; {
		if answer := d.g.unanswered(); answer != nil {
			_, _ = d.PacketConn.WriteTo(answer, d.from) // a datagram may be lost
		}
		n, addr, err := d.PacketConn.ReadFrom(b)
		if err != nil {
			if failures++; errors.Is(err, net.ErrClosed) || failures == maxReadErrors {
				return 0, nil, err
			}
			continue
		}
		failures = 0
		src := addrPort(addr)
		d.from = addr
		if src.IsValid() && d.g.admit(b[:n], src.Addr()) {
			return n, addr, nil
		}
	}
}

// WriteTo sends what the guard makes of a packet.
func (d *datagrams) WriteTo(b []byte, addr net.Addr) (int, error) {
	out := d.g.outgoing(b)
	if out == nil {
		return len(b), nil
	}
	if _, err := d.PacketConn.WriteTo(out, addr); err != nil {
		return 0, err
	}
	return len(b), nil
}
