//go:build linux && (amd64 || arm64)

package datagram

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlLen holds a packet information message of each family, or the size of segments.
const controlLen = 128

// answerFrom leaves in c the one packet information message that makes the answer
// leave from the address that was asked, and gives its length; 0 is none. A mapped
// IPv4 datagram comes with messages of both families: IPv4's counts, with the
// header's destination as source, through whatever interface routing knows.
func answerFrom(c []byte) int {
	for at := 0; at+unix.SizeofCmsghdr <= len(c); {
		m := (*unix.Cmsghdr)(unsafe.Pointer(&c[at]))
		n := int(m.Len)
		if n < unix.SizeofCmsghdr || at+n > len(c) {
			return 0
		}
		switch data := c[at+unix.SizeofCmsghdr : at+n]; {
		case m.Level == unix.IPPROTO_IP && m.Type == unix.IP_PKTINFO && len(data) == unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
			info.Ifindex, info.Spec_dst = 0, info.Addr
			return copy(c, c[at:at+n])
		case m.Level == unix.IPPROTO_IPV6 && m.Type == unix.IPV6_PKTINFO && len(data) == unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			if !netip.AddrFrom16(info.Addr).Is4In6() {
				return copy(c, c[at:at+n])
			}
		}
		at += (n + 7) &^ 7 // CMSG_ALIGN on 64 bits
	}
	return 0
}

// segments writes into c that the message is to be cut into datagrams of so many bytes,
// and gives the length.
func segments(c *[controlLen]byte, size int) int {
	m := (*unix.Cmsghdr)(unsafe.Pointer(c))
	m.Level, m.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	m.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(c[unix.CmsgLen(0):], uint16(size))
	return unix.CmsgSpace(2)
}

// swapped is a port between ours and network byte order in memory.
func swapped(p uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], p)
	return binary.BigEndian.Uint16(b[:])
}

// address reads a socket address of either family; a mapped IPv4 address is IPv4, and a
// zone its interface's number: a name would have to be asked for.
func address(n *unix.RawSockaddrInet6) (netip.AddrPort, bool) {
	switch n.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), swapped(v4.Port)), true
	case unix.AF_INET6:
		addr := netip.AddrFrom16(n.Addr).Unmap()
		if n.Scope_id != 0 {
			addr = addr.WithZone(strconv.FormatUint(uint64(n.Scope_id), 10))
		}
		return netip.AddrPortFrom(addr, swapped(n.Port)), true
	}
	return netip.AddrPort{}, false
}

// name writes a destination as the socket's family has it, and gives its size; 0 is that
// it has none there.
func (s *Socket) name(n *unix.RawSockaddrInet6, to netip.AddrPort) uint32 {
	addr := to.Addr()
	if !s.inet6 {
		if addr = addr.Unmap(); !addr.Is4() {
			return 0
		}
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(n)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swapped(to.Port()), Addr: addr.As4()}
		return unix.SizeofSockaddrInet4
	}
	if !addr.IsValid() {
		return 0
	}
	*n = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: swapped(to.Port()), Addr: addr.As16()}
	if zone := addr.Zone(); zone != "" {
		id, err := strconv.ParseUint(zone, 10, 32)
		if err != nil {
			return 0
		}
		n.Scope_id = uint32(id)
	}
	return unix.SizeofSockaddrInet6
}
