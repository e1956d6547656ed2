//go:build linux && (amd64 || arm64)

package batch

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control lets several sockets share the address, and lets nobody tell what a path is too
// narrow for: with a forged ICMP a stranger could have answers sent in fragments, of which
// one is easily replaced.
var control = func(network, _ string, c syscall.RawConn) error {
	var err error
	set := func(fd uintptr, level, option, value int) {
		if err == nil {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, option, value))
		}
	}
	if ctrl := c.Control(func(fd uintptr) {
		set(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		set(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
		if network == "udp6" {
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
		}
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

// Socket is one UDP socket. The runtime's poller does not know it: a thread that sleeps
// in recvmmsg is woken for half of what it costs to wake a goroutine by epoll.
type Socket struct {
	fd      int
	pktinfo bool // answers must name their source address

	mu              sync.Mutex
	serving, closed bool
}

func newSocket(c *net.UDPConn, pktinfo bool) (*Socket, error) {
	if pktinfo {
		if err := tellDestination(c); err != nil {
			return nil, err
		}
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Socket{pktinfo: pktinfo}
	if ctrl := raw.Control(func(fd uintptr) {
		if s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(s.fd, false)
		}
	}); ctrl != nil {
		return nil, ctrl
	}
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return s, c.Close() // of this descriptor, which takes it out of the poller
}

// Close ends Serve.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.serving: // it is not connected, which is an error, but who sleeps in it is woken
		unix.Shutdown(s.fd, unix.SHUT_RD)
	default:
		unix.Close(s.fd)
	}
	s.closed = true
	return nil
}

// enter tells whether to serve, leave that nobody does any more.
func (s *Socket) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = !s.closed
	return s.serving
}

func (s *Socket) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	unix.Close(s.fd)
	s.serving, s.closed = false, true
}

func (s *Socket) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// ring is the memory of one socket's batch: allocated once, pointed into by headers
// that the kernel reads and writes.
type ring struct {
	*Socket
	in, out  [Size]mmsghdr
	inVec    [Size]unix.Iovec
	outVec   [Size]unix.Iovec
	names    [Size]unix.RawSockaddrInet6 // large enough for IPv4 too
	controls [Size][controlLen]byte
	inBuf    [Size][MaxIn]byte
	outBuf   [Size][MaxOut]byte
	grams    [Size]Datagram
	at       [Size]int // which of the headers each is from
	n        int       // of the last read, or what is to be written
	used     int       // headers that the kernel has written to
}

// Serve answers datagrams until Close, which is no error. Call it once.
func (s *Socket) Serve(h Handler) error {
	if !s.enter() {
		return nil
	}
	defer s.leave()
	r := &ring{Socket: s}
	r.aim()
	failures := 0
	for {
		switch errno := r.read(); {
		case errno == unix.EINTR:
			continue
		case errno != 0 && !s.isClosed():
			if failures++; failures == maxFailures {
				return fmt.Errorf("udp: %w", os.NewSyscallError("recvmmsg", errno))
			}
			pause(failures)
			continue
		}
		if r.names[0].Family == unix.AF_UNSPEC && s.isClosed() { // a socket that is shut gives nothing from nobody
			return nil
		}
		failures = 0
		r.handle(h)
		r.write()
	}
}

// aim points the headers at the memory, once.
func (r *ring) aim() {
	for i := range r.in {
		r.inVec[i] = unix.Iovec{Base: &r.inBuf[i][0], Len: MaxIn}
		r.in[i].hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&r.names[i])), Iov: &r.inVec[i], Iovlen: 1}
		r.out[i].hdr = unix.Msghdr{Iov: &r.outVec[i], Iovlen: 1}
		if r.pktinfo {
			r.in[i].hdr.Control = &r.controls[i][0]
		}
	}
	r.used = Size
}

// read takes as many datagrams as there are, and waits for one where there are none.
//
// The scheduler is not told of calls that do not wait. A batch takes longer than its
// patience with a call, and it would take the processor away and give it back around
// each one: a third of all the time was thread switches.
func (r *ring) read() syscall.Errno {
	for i := range r.used {
		h := &r.in[i].hdr
		h.Namelen, h.Flags = unix.SizeofSockaddrInet6, 0
		if r.pktinfo {
			h.Controllen = controlLen
		}
	}
	r.names[0].Family = unix.AF_UNSPEC
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.in[0])), Size, unix.MSG_DONTWAIT, 0, 0)
	if errno == unix.EAGAIN {
		n, _, errno = syscall.Syscall6(unix.SYS_RECVMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.in[0])), Size, unix.MSG_WAITFORONE, 0, 0)
	}
	if errno != 0 {
		r.n, r.used = 0, Size
		return errno
	}
	r.n, r.used = int(n), int(n)
	return 0
}

// write sends the answers.
func (r *ring) write() {
	for at := 0; at < r.n; {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.out[at])), uintptr(r.n-at), unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EAGAIN { // the link is full
			n, _, errno = syscall.Syscall6(unix.SYS_SENDMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.out[at])), uintptr(r.n-at), 0, 0, 0)
		}
		switch errno {
		case 0:
			at += int(n)
		case unix.EINTR:
		default:
			at++ // a client that cannot be reached is its own fault; the next can
		}
	}
}

// handle turns what was read into what is to be written: r.n messages from 0 on.
func (r *ring) handle(h Handler) {
	n := 0
	for i := range r.n {
		from, ok := address(&r.names[i])
		if !ok || from.Port() == 0 {
			continue // nobody can be there
		}
		r.grams[n] = Datagram{In: r.inBuf[i][:r.in[i].len], From: from, Out: r.outBuf[i][:0]}
		r.at[n] = i
		n++
	}
	r.n = 0
	if n == 0 {
		return
	}
	h(r.grams[:n])
	for k := range r.grams[:n] {
		out, i := r.grams[k].Out, r.at[k]
		if len(out) == 0 {
			continue
		}
		in := &r.in[i].hdr
		r.outVec[r.n] = unix.Iovec{Base: &out[0], Len: uint64(len(out))}
		to := &r.out[r.n].hdr
		to.Name, to.Namelen = in.Name, in.Namelen
		if r.pktinfo {
			to.Control, to.Controllen = nil, 0
			if n := answerFrom(r.controls[i][:in.Controllen]); n > 0 {
				to.Control, to.Controllen = in.Control, uint64(n)
			}
		}
		r.n++
	}
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
