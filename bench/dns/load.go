package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
)

const (
	window   = 128 // queries in flight: the server always has the next one
	batch    = 32
	patience = 200 * time.Millisecond // then what is in flight is lost
)

// tally is what a load brought.
type tally struct {
	answered int
	failed   int // of these, without an address
	lost     int
	elapsed  time.Duration
}

// flow is one socket to one server. It never sleeps: waking it would cost the server
// what no client on another machine costs, and a slow server more than a fast one.
type flow struct {
	conn   *net.UDPConn
	raw    syscall.RawConn
	pc     *ipv4.PacketConn
	out    []ipv4.Message
	in     [batch]message
	iov    [batch]syscall.Iovec
	space  [batch][4096]byte
	next   int // query to send
	flying int
	last   time.Time // when something came
}

// message is struct mmsghdr of recvmmsg(2).
type message struct {
	syscall.Msghdr
	n uint32
	_ [4]byte
}

func dial(at netip.AddrPort) (*flow, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	f := &flow{conn: conn, pc: ipv4.NewPacketConn(conn), out: make([]ipv4.Message, batch), last: time.Now()}
	for i := range batch {
		f.out[i].Buffers = [][]byte{make([]byte, 0, 512)}
		f.iov[i] = syscall.Iovec{Base: &f.space[i][0]}
		f.iov[i].SetLen(len(f.space[i]))
		f.in[i].Iov, f.in[i].Iovlen = &f.iov[i], 1
	}
	f.raw, err = conn.SyscallConn()
	return f, err
}

// send fills the window; query n has ID n modulo 65536.
func (f *flow) send(all [][]byte, limit int) error {
	for f.flying < window && f.next < limit {
		n := min(batch, window-f.flying, limit-f.next)
		for i := range n {
			b := append(f.out[i].Buffers[0][:0], all[(f.next+i)%len(all)]...)
			binary.BigEndian.PutUint16(b, uint16(f.next+i))
			f.out[i].Buffers[0] = b
		}
		sent, err := f.pc.WriteBatch(f.out[:n], 0)
		if err != nil {
			return err
		}
		f.next += sent
		f.flying += sent
	}
	return nil
}

// receive takes what answers there are, without waiting. When there are none for
// too long, what is in flight is lost.
func (f *flow) receive(each func(answer []byte)) (lost int, err error) {
	var n uintptr
	var errno syscall.Errno
	err = f.raw.Control(func(fd uintptr) {
		n, _, errno = syscall.Syscall6(syscall.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&f.in)), batch, syscall.MSG_DONTWAIT, 0, 0)
	})
	switch {
	case err != nil:
		return 0, err
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		if time.Since(f.last) > patience {
			lost, f.flying, f.last = f.flying, 0, time.Now()
		}
		return lost, nil
	case errno != 0:
		return 0, fmt.Errorf("recvmmsg: %w", errno)
	}
	f.last = time.Now()
	for i := range n {
		each(f.space[i][:f.in[i].n])
	}
	f.flying = max(0, f.flying-int(n))
	return 0, nil
}

// blast asks the queries over and over for d, as fast as the server answers.
func blast(at netip.AddrPort, all [][]byte, d time.Duration) (t tally, err error) {
	f, err := dial(at)
	if err != nil {
		return t, err
	}
	defer f.conn.Close()
	began := time.Now()
	count := func(b []byte) {
		t.answered++
		if len(b) < 12 || b[3]&0xf != 0 || b[6]|b[7] == 0 {
			t.failed++
		}
	}
	for time.Since(began) < d {
		if err := f.send(all, int(^uint(0)>>1)); err != nil {
			return t, err
		}
		lost, err := f.receive(count)
		if err != nil {
			return t, err
		}
		t.lost += lost
	}
	t.elapsed = time.Since(began)
	return t, nil
}

// given is one answer: its first address, its ECS scope or -1, its length.
type given struct {
	addr   netip.Addr
	scope  int
	octets int // of the message
	rrs    []dns.RR
	sig    *dns.RRSIG // over them; nil: none
}

// attempts are how often a query, or a slice, is taken again that had no answer: on a
// machine that others use too, a server may not run for longer than patience.
const attempts = 10

// answers asks every query until it is answered.
func answers(at netip.AddrPort, all [][]byte) ([]given, error) {
	f, err := dial(at)
	if err != nil {
		return nil, err
	}
	defer f.conn.Close()
	list, missing, wrong, fruitless := make([]given, len(all)), len(all), error(nil), 0
	for missing > 0 {
		// The first pass asks all; what it lost is asked again, and known answers with it.
		if f.next >= len(all) && f.flying == 0 {
			f.next = 0
		}
		if err := f.send(all, len(all)); err != nil {
			return nil, err
		}
		lost, err := f.receive(func(b []byte) {
			var m dns.Msg
			if err := m.Unpack(b); err != nil || int(m.Id) >= len(list) {
				wrong = fmt.Errorf("answer % x: %v", b, err)
				return
			}
			if list[m.Id].octets == 0 {
				missing--
			}
			list[m.Id] = read(&m)
			list[m.Id].octets = len(b)
		})
		if err = errors.Join(err, wrong); err != nil {
			return nil, err
		}
		if lost > 0 {
			fruitless++
		}
		if fruitless > attempts {
			return nil, fmt.Errorf("%d of %d queries were not answered", missing, len(all))
		}
	}
	return list, nil
}

func read(m *dns.Msg) given {
	g := given{scope: -1}
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok && !g.addr.IsValid() {
			g.addr, _ = netip.AddrFromSlice(a.A.To4())
		}
		if sig, ok := rr.(*dns.RRSIG); ok && sig.TypeCovered == dns.TypeA {
			g.sig = sig
		} else {
			g.rrs = append(g.rrs, rr)
		}
	}
	if o := m.IsEdns0(); o != nil {
		for _, opt := range o.Option {
			if e, ok := opt.(*dns.EDNS0_SUBNET); ok {
				g.scope = int(e.SourceScope)
			}
		}
	}
	return g
}
