//go:build linux && (amd64 || arm64)

package datagram

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
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

// Socket is one UDP socket: for one Reader, and any number of Writers and calls of WriteTo
// at a time. Unless it is polled the runtime's poller does not know it: a thread that sleeps
// in recvmmsg is woken for half of what it costs to wake a goroutine by epoll.
type Socket struct {
	fd      int
	conn    *net.UDPConn // the same in the poller; nil: it is not polled
	local   netip.AddrPort
	inet6   bool // the family of its addresses; IPv4 is mapped into it
	pktinfo bool // answers must name their source address
	segment bool // the kernel knows UDP_SEGMENT

	// users counts the Reader and the calls that have the descriptor at the moment, and
	// with closing added Close was called. At closing alone the descriptor is closed:
	// it could be another file's by then, so that nobody may come back.
	users atomic.Int64
}

const closing = math.MinInt64

func newSocket(c *net.UDPConn, pktinfo, polled bool) (*Socket, error) {
	if pktinfo {
		if err := tellDestination(c); err != nil {
			return nil, err
		}
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Socket{local: localAddr(c), pktinfo: pktinfo}
	if ctrl := raw.Control(func(fd uintptr) {
		var family int
		if family, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
			return
		}
		s.inet6 = family == unix.AF_INET6
		_, unknown := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		s.segment = unknown == nil
		if s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil && !polled {
			err = unix.SetNonblock(s.fd, false)
		}
	}); ctrl != nil {
		return nil, ctrl
	}
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	if polled {
		s.conn = c
		return s, nil
	}
	return s, c.Close() // of this descriptor, which takes it out of the poller
}

// LocalAddr is where the socket listens.
func (s *Socket) LocalAddr() netip.AddrPort { return s.local }

// SetBuffers asks the system for so much room for what waits to be read, and to be sent;
// it may give less.
func (s *Socket) SetBuffers(bytes int) {
	if !s.enter() {
		return
	}
	defer s.leave()
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
}

// Close ends Read and Serve at once, whatever waits to be read. The Reader closes the
// descriptor when it is done, or the last call of others.
func (s *Socket) Close() error {
	for {
		n := s.users.Load()
		if n < 0 {
			return net.ErrClosed
		}
		if s.users.CompareAndSwap(n, closing+n+1) {
			break
		}
	}
	if s.conn != nil {
		s.conn.Close()
	}
	unix.Shutdown(s.fd, unix.SHUT_RD) // it is not connected, which is an error, but who sleeps in it is woken
	s.leave()
	return nil
}

// enter tells whether the descriptor may be used, until leave.
func (s *Socket) enter() bool {
	for {
		n := s.users.Load()
		if n < 0 {
			return false
		}
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *Socket) leave() {
	if s.users.Add(-1) == closing {
		unix.Close(s.fd)
	}
}

// WriteTo sends one datagram.
func (s *Socket) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	var name unix.RawSockaddrInet6
	size := s.name(&name, to)
	if size == 0 {
		return 0, fmt.Errorf("udp: send from %s: %w", s.local, unix.EAFNOSUPPORT)
	}
	if !s.enter() {
		return 0, net.ErrClosed
	}
	defer s.leave()
	if errno := s.send(b, &name, size); errno != 0 {
		return 0, fmt.Errorf("udp: send from %s: %w", s.local, os.NewSyscallError("sendto", errno))
	}
	return len(b), nil
}

func (s *Socket) send(b []byte, name *unix.RawSockaddrInet6, size uint32) syscall.Errno {
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(name)), uintptr(size))
		if errno == unix.EAGAIN { // the link is full
			_, _, errno = syscall.Syscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, uintptr(unsafe.Pointer(name)), uintptr(size))
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}

// mmsghdr is struct mmsghdr of recvmmsg(2); Go pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// Reader is the memory of one socket's reads: allocated once, pointed into by headers that
// the kernel reads and writes. It is one goroutine's.
//
// It takes no runs that the kernel joined (UDP_GRO): room for 64 KiB a datagram would be 2 MiB
// a socket, and gained nothing (0.95 to 0.98, as much as runs differ) for what came over a
// veth, which joined none, in runs of 1 or 8. What one machine sends itself uncut is read in
// a thirtieth of the time, but that is no client.
type Reader struct {
	s        *Socket
	open     bool // it has the descriptor
	hdrs     [Size]mmsghdr
	vecs     [Size]unix.Iovec
	names    [Size]unix.RawSockaddrInet6 // large enough for IPv4 too
	controls [Size][controlLen]byte
	bufs     [Size][MaxIn]byte
	grams    [Size]Datagram
	used     int // headers that the kernel has written to

	poll  syscall.RawConn // nil: it sleeps in the call
	ready func(uintptr) bool
	got   uintptr // by ready
	errno syscall.Errno
}

// origin is the header that a datagram came with.
type origin struct{ hdr *unix.Msghdr }

// Reader is for the goroutine that reads the socket. Close it.
func (s *Socket) Reader() *Reader {
	r := &Reader{s: s, open: s.enter(), used: Size}
	for i := range r.hdrs {
		r.vecs[i] = unix.Iovec{Base: &r.bufs[i][0], Len: MaxIn}
		r.hdrs[i].hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&r.names[i])), Iov: &r.vecs[i], Iovlen: 1}
		if s.pktinfo {
			r.hdrs[i].hdr.Control = &r.controls[i][0]
		}
	}
	if s.conn != nil {
		r.poll, _ = s.conn.SyscallConn() // of a closed one Read gives an error
		r.ready = func(uintptr) bool {
			r.got, r.errno = r.now()
			return r.errno != unix.EAGAIN
		}
	}
	return r
}

// Close is the end of reading, for the goroutine that reads.
func (r *Reader) Close() {
	if r.open {
		r.open = false
		r.s.leave()
	}
}

// Read takes as many datagrams as there are, at most Size, and waits for one where there
// are none. They are the reader's again at the next Read. It gives net.ErrClosed once the
// socket is closed.
func (r *Reader) Read() ([]Datagram, error) {
	for failures := 0; ; {
		if !r.open || r.s.users.Load() < 0 {
			return nil, net.ErrClosed
		}
		switch n, errno := r.read(); errno {
		case 0: // from nobody, where the socket was shut
			if all := r.take(n); len(all) > 0 {
				return all, nil
			}
		case unix.EINTR:
		default:
			if failures++; failures == maxFailures {
				return nil, fmt.Errorf("udp: %w", os.NewSyscallError("recvmmsg", errno))
			}
			pause(failures)
		}
	}
}

// read is the system call.
//
// The scheduler is not told of calls that do not wait. A batch takes longer than its
// patience with a call, and it would take the processor away and give it back around
// each one: a third of all the time was thread switches.
func (r *Reader) read() (int, syscall.Errno) {
	for i := range r.used {
		h := &r.hdrs[i].hdr
		h.Namelen, h.Flags = unix.SizeofSockaddrInet6, 0
		if r.s.pktinfo {
			h.Controllen = controlLen
		}
	}
	r.names[0].Family = unix.AF_UNSPEC
	n, errno := r.now()
	switch {
	case errno != unix.EAGAIN:
	case r.poll != nil:
		if r.poll.Read(r.ready) != nil { // it was closed
			return 0, unix.EINTR
		}
		n, errno = r.got, r.errno
	default:
		n, _, errno = syscall.Syscall6(unix.SYS_RECVMMSG, uintptr(r.s.fd), uintptr(unsafe.Pointer(&r.hdrs[0])), Size, unix.MSG_WAITFORONE, 0, 0)
	}
	if errno != 0 {
		r.used = Size
		return 0, errno
	}
	r.used = int(n)
	return r.used, 0
}

// now is the call that does not wait.
func (r *Reader) now() (uintptr, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(r.s.fd), uintptr(unsafe.Pointer(&r.hdrs[0])), Size, unix.MSG_DONTWAIT, 0, 0)
	return n, errno
}

// take is what came in the first so many headers, from somebody who can be there.
func (r *Reader) take(headers int) []Datagram {
	n := 0
	for i := range headers {
		from, ok := address(&r.names[i])
		if !ok || from.Port() == 0 {
			continue
		}
		r.grams[n] = Datagram{In: r.bufs[i][:r.hdrs[i].len], From: from, origin: origin{&r.hdrs[i].hdr}}
		n++
	}
	return r.grams[:n]
}

// Writer is the memory of one batch to send. It is one goroutine's.
//
// Datagrams appended one after the other to one destination, of one size but for a smaller
// last, go as one message that the kernel or the device cuts (UDP_SEGMENT). With 1,100 bytes
// (BenchmarkWrite, and a veth that cuts or leaves it to the kernel), the time of a datagram is
//
//	in runs of                      1     2     4     8
//	over loopback to sockets      1.0  0.74  0.47  0.34
//	cut by the kernel, then sent    -  0.81  0.58  0.46
//	cut by the device               -  0.54  0.29  0.16
//
// of what it is alone. Answers do not go so: resolvers ask from random ports, and a load
// generator that does not would be flattered.
type Writer struct {
	s        *Socket
	n        int // datagrams queued
	messages int // that they make
	hdrs     [Size]mmsghdr
	vecs     [Size]unix.Iovec // by datagram
	names    [Size]unix.RawSockaddrInet6
	controls [Size][controlLen]byte
	bufs     [Size][MaxOut]byte

	segment bool           // still thought possible
	to      netip.AddrPort // of the last message,
	size    int            // and of its datagrams; 0 is that no more may join
}

// Writer is for a goroutine that sends.
func (s *Socket) Writer() *Writer {
	w := &Writer{s: s, segment: s.segment}
	for i := range w.hdrs {
		w.hdrs[i].hdr.Name = (*byte)(unsafe.Pointer(&w.names[i]))
	}
	return w
}

// Next is empty and has room for MaxOut bytes: memory of the writer's own for the datagram
// that is appended next. A full batch is flushed first.
func (w *Writer) Next() []byte {
	if w.n == Size {
		w.Flush()
	}
	return w.bufs[w.n][:0]
}

// Append queues b, which stays as it is until Flush, where it is not Next's. A full batch
// is flushed first. What the socket has no address for is lost.
func (w *Writer) Append(b []byte, to netip.AddrPort) {
	if w.n == Size {
		w.Flush()
	}
	if 0 < len(b) && len(b) <= w.size && to == w.to {
		w.join(b)
		return
	}
	h := &w.hdrs[w.messages].hdr
	if h.Namelen = w.s.name(&w.names[w.messages], to); h.Namelen == 0 {
		return
	}
	h.Control, h.Controllen = nil, 0
	w.push(b)
	if w.segment && len(b) <= MaxOut { // so that a batch cannot be more than a message may
		w.to, w.size = to, len(b)
	}
}

// Reply queues b, as Append does, as the answer to d: to its sender, from the address that
// it was sent to. It takes from d what it needs, as long as d is not the reader's again.
func (w *Writer) Reply(d *Datagram, b []byte) {
	in := d.origin.hdr
	if in == nil { // made by hand
		w.Append(b, d.From)
		return
	}
	if w.n == Size {
		w.Flush()
	}
	h := &w.hdrs[w.messages].hdr
	w.names[w.messages], h.Namelen = *(*unix.RawSockaddrInet6)(unsafe.Pointer(in.Name)), in.Namelen
	h.Control, h.Controllen = nil, 0
	if w.s.pktinfo {
		c := w.controls[w.messages][:]
		if n := answerFrom(c[:copy(c, unsafe.Slice(in.Control, in.Controllen))]); n > 0 {
			h.Control, h.Controllen = &c[0], uint64(n)
		}
	}
	w.push(b)
}

// push makes b the one datagram of the next message.
func (w *Writer) push(b []byte) {
	w.vecs[w.n] = unix.Iovec{Base: unsafe.SliceData(b), Len: uint64(len(b))}
	h := &w.hdrs[w.messages].hdr
	h.Iov, h.Iovlen = &w.vecs[w.n], 1
	w.n++
	w.messages++
	w.size = 0
}

// join makes b one more datagram of the last message.
func (w *Writer) join(b []byte) {
	w.vecs[w.n] = unix.Iovec{Base: unsafe.SliceData(b), Len: uint64(len(b))}
	w.n++
	h := &w.hdrs[w.messages-1].hdr
	if h.Iovlen++; h.Iovlen == 2 {
		c := &w.controls[w.messages-1]
		h.Control, h.Controllen = &c[0], uint64(segments(c, w.size))
	}
	if len(b) < w.size {
		w.size = 0
	}
}

// Flush sends what is queued. What cannot be sent to one destination, or at all, is lost,
// as a datagram may be, and stops nothing else.
func (w *Writer) Flush() {
	if w.n > 0 && w.s.enter() {
		w.send()
		w.s.leave()
	}
	w.n, w.messages, w.size = 0, 0, 0
}

// send is Flush of a socket that is sure to be open.
func (w *Writer) send() {
	for at := 0; at < w.messages; {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(w.s.fd), uintptr(unsafe.Pointer(&w.hdrs[at])), uintptr(w.messages-at), unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EAGAIN { // the link is full
			n, _, errno = syscall.Syscall6(unix.SYS_SENDMMSG, uintptr(w.s.fd), uintptr(unsafe.Pointer(&w.hdrs[at])), uintptr(w.messages-at), 0, 0, 0)
		}
		switch errno {
		case 0:
			at += int(n)
		case unix.EINTR:
		default: // a client that cannot be reached is its own fault; the next can
			w.apart(at, errno)
			at++
		}
	}
	w.n, w.messages, w.size = 0, 0, 0
}

// apart sends each datagram of a message that failed by itself, if they are several. One
// that is longer than what the device takes at a time is not cut (EINVAL), and a device
// that leaves checksums to the kernel gets none (EIO).
func (w *Writer) apart(message int, errno syscall.Errno) {
	h := &w.hdrs[message].hdr
	if h.Iovlen == 1 {
		return
	}
	if errno == unix.EIO {
		w.segment = false
	}
	for _, v := range unsafe.Slice(h.Iov, h.Iovlen) {
		w.s.send(unsafe.Slice(v.Base, v.Len), &w.names[message], h.Namelen)
	}
}
