// Package nettest gives tests the ports of loopback that a listener cannot choose by
// itself. For tests only.
package nettest

import (
	"fmt"
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

// Net is a network of loopback, 127.N, that is the test's own until it ends, whatever else
// runs on the machine, if that asks here too. 127.0 to 127.15 are left to people. Only
// Linux has all of 127.0.0.0/8.
func Net(t testing.TB) string {
	t.Helper()
	var err error
	for range 100 {
		prefix := fmt.Sprintf("127.%d", 16+rand.IntN(239))
		var claim net.Listener // the kernel gives it once, and back when the process ends
		if claim, err = net.Listen("tcp", prefix+".255.254:9999"); err == nil {
			t.Cleanup(func() { claim.Close() })
			return prefix
		}
	}
	t.Fatalf("no network of loopback is free: %v", err)
	return ""
}
