//go:build linux && (amd64 || arm64)

package datagram

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

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

// A run that cannot go as one message goes one by one.
func TestRunThatIsNotCut(t *testing.T) {
	s := open(t, "127.0.0.1")
	if !s.segment {
		t.Skip("this kernel does not cut messages")
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil { // which none that is cut can do without
		t.Fatal(err)
	}
	c, w := dial(t, s), s.Writer()
	var want [][]byte
	for i := range 9 {
		b := append(w.Next(), bytes.Repeat([]byte{byte(i)}, 100-i/8)...)
		want = append(want, b)
		w.Append(b, at(c))
	}
	if w.messages != 1 {
		t.Errorf("%d messages for one run", w.messages)
	}
	w.Flush()
	for _, want := range want {
		if got := next(t, c); got != string(want) {
			t.Fatalf("got % .8x, want % .8x", got, want)
		}
	}
}

// The descriptor lives as long as its Reader, and no longer than the last who sends.
func TestDescriptor(t *testing.T) {
	is := func(s *Socket, open bool) {
		t.Helper()
		if _, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFD, 0); open != (err == nil) {
			t.Errorf("descriptor: %v, want open %t", err, open)
		}
	}
	s := open(t, "127.0.0.1")
	is(s, true)
	s.Close()
	is(s, false)

	s = open(t, "127.0.0.1")
	r := s.Reader()
	s.Close()
	is(s, true)
	r.Close()
	is(s, false)

	s = open(t, "127.0.0.1")
	s.Reader().Close()
	is(s, true)
	if !s.enter() {
		t.Fatal("closed")
	}
	s.Close()
	is(s, true)
	if s.enter() {
		t.Error("may be used after Close")
	}
	s.leave()
	is(s, false)
}

func TestNames(t *testing.T) {
	four, six := &Socket{}, &Socket{inet6: true}
	for _, tt := range []struct {
		s        *Socket
		to, want string // "" is none
	}{
		{four, "192.0.2.1:53", "192.0.2.1:53"},
		{four, "[::ffff:192.0.2.1]:53", "192.0.2.1:53"},
		{four, "[2001:db8::1]:53", ""},
		{six, "192.0.2.1:50001", "192.0.2.1:50001"},
		{six, "[::ffff:192.0.2.1]:53", "192.0.2.1:53"},
		{six, "[2001:db8::1]:65535", "[2001:db8::1]:65535"},
		{six, "[fe80::1%3]:53", "[fe80::1%3]:53"},
		{six, "[fe80::1%eth0]:53", ""}, // a name would have to be asked for
	} {
		var n unix.RawSockaddrInet6
		size := tt.s.name(&n, netip.MustParseAddrPort(tt.to))
		if tt.want == "" {
			if size != 0 {
				t.Errorf("%s: %d bytes", tt.to, size)
			}
			continue
		}
		if got, ok := address(&n); size == 0 || !ok || got.String() != tt.want {
			t.Errorf("%s: got %s, %t", tt.to, got, ok)
		}
	}
	var n unix.RawSockaddrInet6
	if four.name(&n, netip.AddrPort{}) != 0 || six.name(&n, netip.AddrPort{}) != 0 {
		t.Error("no address has a name")
	}
}

// BenchmarkWrite is what a datagram of 1,100 bytes costs over loopback, by how many in a row
// go to one destination: each by itself, and where the kernel cuts, batch by batch in turn.
func BenchmarkWrite(b *testing.B) {
	for _, run := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprint("run=", run), func(b *testing.B) {
			s := open(b, "127.0.0.1")
			var to [Size]*Socket
			for i := range to {
				to[i] = open(b, "127.0.0.1")
			}
			w := s.Writer()
			var buf [MaxOut]byte
			var took [2]time.Duration
			n := 0
			for b.Loop() {
				for i := range took {
					w.segment = i == 1 && s.segment
					start := time.Now()
					for k := range Size {
						w.Append(w.Next()[:1100], to[k/run].local)
					}
					w.Flush()
					took[i] += time.Since(start)
					for k := range Size { // so that no buffer is full
						unix.Recvfrom(to[k/run].fd, buf[:], unix.MSG_DONTWAIT)
					}
				}
				n += Size
			}
			b.ReportMetric(float64(took[0].Nanoseconds())/float64(n), "ns/apart")
			b.ReportMetric(float64(took[1].Nanoseconds())/float64(n), "ns/cut")
			b.ReportMetric(0, "ns/op")
		})
	}
}
