//go:build linux && (amd64 || arm64)

package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control lets several sockets share the address.
var control = func(_, _ string, c syscall.RawConn) error {
	var err error
	if ctrl := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); ctrl != nil {
		return ctrl
	}
	return err
}

// mmsghdr is struct mmsghdr of recvmmsg(2); Go pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// controlLen holds a packet information message of each family.
const controlLen = 128

// ring is the memory of one socket's batch: allocated once, pointed into by headers
// that the kernel reads and writes.
type ring struct {
	in, out   [size]mmsghdr
	inVec     [size]unix.Iovec
	outVec    [size]unix.Iovec
	names     [size]unix.RawSockaddrInet6 // large enough for IPv4 too
	controls  [size][controlLen]byte
	inBuf     [size][MaxIn]byte
	outBuf    [size][MaxOut]byte
	pktinfo   bool // answers must name their source address
	conn      syscall.RawConn
	n         int // of the last read, or what is left to write
	at        int // of it, the next to write
	errno     syscall.Errno
	readFunc  func(uintptr) bool
	writeFunc func(uintptr) bool
}

// maxFailures in a row end Serve: the socket is broken, and spinning on it helps
// nobody.
const maxFailures = 1000

// Serve answers conn's datagrams until it is closed, which is no error. pktinfo: the
// socket delivers packet information (IP_PKTINFO), and answers leave from the address
// that was asked.
func Serve(conn *net.UDPConn, pktinfo bool, h Handler) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	r := &ring{conn: raw, pktinfo: pktinfo}
	// Raw: the scheduler is not told of calls that never block. A batch takes longer
	// than its patience with a call, and it would take the processor away and give it
	// back around each one: a third of all the time was thread switches.
	r.readFunc = func(fd uintptr) bool {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.in[0])), size, unix.MSG_DONTWAIT, 0, 0)
		r.n, r.errno = int(n), errno
		return errno != syscall.EAGAIN && errno != syscall.EINTR
	}
	r.writeFunc = func(fd uintptr) bool {
		for r.at < r.n {
			n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&r.out[r.at])), uintptr(r.n-r.at), unix.MSG_DONTWAIT, 0, 0)
			switch {
			case errno == 0:
				r.at += int(n)
			case errno == syscall.EAGAIN:
				return false
			case errno == syscall.EINTR:
			default:
				r.at++ // a client that cannot be reached is its own fault; the next can
			}
		}
		return true
	}
	failures := 0
	for {
		switch err := r.read(); {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			if failures++; failures == maxFailures {
				return fmt.Errorf("udp: %w", err)
			}
			continue
		}
		failures = 0
		if r.handle(h); r.n == 0 {
			continue
		}
		if err := r.conn.Write(r.writeFunc); errors.Is(err, net.ErrClosed) {
			return nil
		}
	}
}

// read waits for datagrams and takes as many as there are.
func (r *ring) read() error {
	for i := range r.in {
		r.inVec[i] = unix.Iovec{Base: &r.inBuf[i][0], Len: MaxIn}
		h := &r.in[i].hdr
		*h = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&r.names[i])), Namelen: unix.SizeofSockaddrInet6, Iov: &r.inVec[i], Iovlen: 1}
		if r.pktinfo {
			h.Control, h.Controllen = &r.controls[i][0], controlLen
		}
	}
	if err := r.conn.Read(r.readFunc); err != nil {
		return err
	}
	if r.errno != 0 {
		r.n = 0
		return r.errno
	}
	return nil
}

// handle turns what was read into what is to be written: r.n messages from 0 on.
func (r *ring) handle(h Handler) {
	answers := 0
	for i := range r.n {
		from, ok := address(&r.names[i])
		if !ok || from.Port() == 0 {
			continue // nobody can be there
		}
		out := h(r.outBuf[i][:0], r.inBuf[i][:r.in[i].len], from)
		if len(out) == 0 {
			continue
		}
		in := &r.in[i].hdr
		r.outVec[answers] = unix.Iovec{Base: &out[0], Len: uint64(len(out))}
		r.out[answers] = mmsghdr{hdr: unix.Msghdr{Name: in.Name, Namelen: in.Namelen, Iov: &r.outVec[answers], Iovlen: 1}}
		if r.pktinfo {
			if n := answerFrom(r.controls[i][:in.Controllen]); n > 0 {
				r.out[answers].hdr.Control, r.out[answers].hdr.Controllen = in.Control, uint64(n)
			}
		}
		answers++
	}
	r.n, r.at = answers, 0
}

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

// address reads a socket address of either family; a mapped IPv4 address is IPv4.
func address(n *unix.RawSockaddrInet6) (netip.AddrPort, bool) {
	port := func(p uint16) uint16 { // in network byte order in memory
		var b [2]byte
		binary.NativeEndian.PutUint16(b[:], p)
		return binary.BigEndian.Uint16(b[:])
	}
	switch n.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port(v4.Port)), true
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(n.Addr).Unmap(), port(n.Port)), true
	}
	return netip.AddrPort{}, false
}
