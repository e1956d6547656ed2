// Package nettest gives tests the ports of loopback that a listener cannot choose by
// itself. For tests only.
package nettest

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
)

// Closed is a port of 127.0.0.1 at which nobody listens, over UDP or TCP, and nobody can
// until the test ends: one that was free a moment ago may be another test's by now.
func Closed(t testing.TB) netip.AddrPort {
	t.Helper()
	far, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	for range 16 {
		at, err := closed(t, far.Addr().(*net.TCPAddr).AddrPort())
		if err == nil {
			return at
		}
		t.Logf("a port of UDP that is another's of TCP: %v", err)
	}
	t.Fatal("no port of 127.0.0.1 is free for UDP and TCP")
	return netip.AddrPort{}
}

// closed takes a port with two sockets that are connected elsewhere: the kernel refuses
// whoever else writes to them.
func closed(t testing.TB, far netip.AddrPort) (netip.AddrPort, error) {
	udp, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(far))
	if err != nil {
		return netip.AddrPort{}, err
	}
	at := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	tcp, err := net.DialTCP("tcp4", net.TCPAddrFromAddrPort(at), net.TCPAddrFromAddrPort(far))
	if err != nil {
		udp.Close()
		return netip.AddrPort{}, err
	}
	t.Cleanup(func() { udp.Close(); tcp.Close() })
	return at, nil
}

// Free is a port of an address that is free for UDP and TCP, for a program that cannot
// choose its own. It is drawn below those that systems give out by themselves, so that no
// other test has it when the program comes for it.
func Free(t testing.TB, ip netip.Addr) netip.AddrPort {
	t.Helper()
	var err error
	for range 100 {
		at := netip.AddrPortFrom(ip, uint16(10_000+rand.IntN(20_000)))
		var l net.Listener
		if l, err = net.Listen("tcp", at.String()); err != nil {
			continue
		}
		var pc net.PacketConn
		pc, err = net.ListenPacket("udp", at.String())
		l.Close()
		if err == nil {
			pc.Close()
			return at
		}
	}
	t.Fatalf("no free port at %s: %v", ip, err)
	return netip.AddrPort{}
}
