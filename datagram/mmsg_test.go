//go:build linux && (amd64 || arm64)

package datagram

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// A path's MTU is no stranger's to tell.
func TestPathMTUIsNotBelieved(t *testing.T) {
	for _, r := range []struct {
		host                string
		level, option, want int
	}{
		{"127.0.0.1:1", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT},
		{"[::1]:1", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT},
		{"[::]:1", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT}, // of IPv4 clients
	} {
		at := netip.MustParseAddrPort(r.host)
		list, err := Listen(netip.AddrPortFrom(at.Addr(), free(t, at.Addr())), 1)
		if err != nil {
			t.Errorf("%s: %v", r.host, err)
			continue
		}
		defer list[0].Close()
		if got, err := unix.GetsockoptInt(list[0].fd, r.level, r.option); got != r.want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", r.host, got, err, r.want)
		}
	}
}
