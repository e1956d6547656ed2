package datagram

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"bailiwick/tools/nettest"
)

// serve runs an echo on n sockets of a free port at host until the test ends.
func serve(t *testing.T, host string, n int, h Handler) netip.AddrPort {
	t.Helper()
	addr := netip.MustParseAddr(host)
	at := netip.AddrPortFrom(addr, free(t, addr))
	conns, err := Listen(at, n)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for _, c := range conns {
		running.Go(func() {
			if err := c.Serve(h); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
		running.Wait()
	})
	return at
}

// free is a port that nobody has at the moment.
func free(t *testing.T, host netip.Addr) uint16 {
	t.Helper()
	probe, err := net.ListenPacket("udp", netip.AddrPortFrom(host, 0).String())
	if err != nil {
		t.Skipf("%s: %v", host, err)
	}
	probe.Close()
	return nettest.Free(t, host).Port()
}

func echo(all []Datagram) {
	for i := range all {
		if d := &all[i]; !bytes.Equal(d.In, []byte("silence")) {
			d.Out = fmt.Appendf(d.Out, "%s %s", d.From, d.In)
		}
	}
}

// ask sends one datagram and gives what comes back from the very address asked.
func ask(t *testing.T, to netip.AddrPort, text string) string {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)) // connected: another source is not heard
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, MaxOut)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("asked %s: %v", to, err)
	}
	if want := fmt.Sprintf("%s %s", c.LocalAddr(), text); string(buf[:n]) != want {
		t.Errorf("got %q, want %q", buf[:n], want)
	}
	return string(buf[:n])
}

func TestEcho(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			at := serve(t, host, runtime.GOMAXPROCS(0), echo)
			for i := range 200 {
				ask(t, at, fmt.Sprint("query ", i))
			}
		})
	}
}

func TestAnswersLeaveFromTheAddressAsked(t *testing.T) {
	for _, tt := range []struct{ host, ask string }{{"0.0.0.0", "127.0.0.7"}, {"::", "::1"}, {"::", "127.0.0.7"}} {
		t.Run(tt.host+" "+tt.ask, func(t *testing.T) {
			at := serve(t, tt.host, 1, echo)
			ask(t, netip.AddrPortFrom(netip.MustParseAddr(tt.ask), at.Port()), "hello")
		})
	}
}

// A burst is answered whole, in whatever batches it came; what deserves no answer
// disturbs nobody.
func TestBurst(t *testing.T) {
	at := serve(t, "127.0.0.1", 1, echo)
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadBuffer(1 << 20)
	const n = 3 * Size
	for i := range n {
		fmt.Fprintf(c, "%d", i)
		fmt.Fprint(c, "silence")
	}
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	seen := map[string]bool{}
	buf := make([]byte, MaxOut)
	for len(seen) < n {
		k, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%d of %d answers: %v", len(seen), n, err)
		}
		seen[string(buf[:k])] = true
	}
}

func TestBusyAddressOfAnotherKind(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0") // without SO_REUSEPORT
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := Listen(c.LocalAddr().(*net.UDPAddr).AddrPort(), 2); err == nil {
		t.Error("a taken address was taken again")
	}
}

func TestAllocatesNothing(t *testing.T) {
	if control == nil {
		t.Skip("the portable path allocates")
	}
	at := serve(t, "127.0.0.1", 1, func(all []Datagram) {
		for i := range all {
			all[i].Out = append(all[i].Out, all[i].In...)
		}
	})
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	query, buf := []byte("query"), make([]byte, MaxOut)
	got := testing.AllocsPerRun(2000, func() { // counts the whole process, the server's goroutine too
		if _, err := c.Write(query); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations an exchange, want 0", got)
	}
}

// A socket that sleeps is woken by Close; one that never served is closed all the same.
func TestClose(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Skipf("%s: %v", host, err)
		}
		at := c.LocalAddr().(*net.UDPAddr).AddrPort()
		c.Close()
		for range 50 {
			all, err := Listen(at, 2)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			go func() { done <- all[0].Serve(echo) }()
			ended := make(chan struct{})
			go func() {
				for _, s := range all {
					s.Close()
				}
				close(ended)
			}()
			<-ended
			if err := <-done; err != nil {
				t.Fatalf("%s: Serve: %v", host, err)
			}
			if err := all[len(all)-1].Serve(echo); err != nil {
				t.Fatalf("%s: Serve after Close: %v", host, err)
			}
		}
	}
}

// A queue that is never empty does not keep Serve from its end.
func TestCloseUnderAFlood(t *testing.T) {
	s := open(t, "127.0.0.1")
	c := dial(t, s)
	more := func() {
		for range 2 * Size {
			c.Write([]byte("flood"))
		}
	}
	more()
	handled := 0
	if err := s.Serve(func([]Datagram) {
		more()
		switch handled++; handled {
		case 3:
			s.Close()
		case 4:
			t.Fatal("served on after Close")
		}
	}); err != nil {
		t.Error(err)
	}
}

// What was read before Close is answered.
func TestCloseInAHandler(t *testing.T) {
	if control == nil {
		t.Skip("the portable path closes the descriptor at once")
	}
	s := open(t, "127.0.0.1")
	c := dial(t, s)
	fmt.Fprint(c, "last")
	if err := s.Serve(func(all []Datagram) {
		s.Close()
		echo(all)
	}); err != nil {
		t.Error(err)
	}
	if got, want := next(t, c), fmt.Sprintf("%s last", at(c)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// listening is how open listens.
var listening = Listen

// TestPolled does once more what the sockets do that are read in Go's poller.
func TestPolled(t *testing.T) {
	listening = ListenPolled
	defer func() { listening = Listen }()
	for name, test := range map[string]func(*testing.T){"read": TestRead, "lengths": TestReadLengths, "write": TestWrite, "reply": TestReply,
		"unreachable": TestUnreachableAmongOthers, "together": TestTogether, "close wakes": TestCloseWakesRead,
		"close under a flood": TestCloseUnderAFlood, "close in a handler": TestCloseInAHandler, "allocations": TestReadAndWriteAllocateNothing} {
		t.Run(name, test)
	}
}

// open is a socket on a free port of host.
func open(t testing.TB, host string) *Socket {
	t.Helper()
	list, err := listening(netip.AddrPortFrom(netip.MustParseAddr(host), 0), 1)
	if err != nil {
		if netip.MustParseAddr(host).Is4() {
			t.Fatal(err)
		}
		t.Skipf("%s: %v", host, err) // a machine may have no IPv6
	}
	t.Cleanup(func() { list[0].Close() })
	return list[0]
}

// reader reads s until the test ends.
func reader(t *testing.T, s *Socket) *Reader {
	r := s.Reader()
	t.Cleanup(r.Close)
	return r
}

// dial is a peer of s, at its address or the loopback of the same family.
func dial(t *testing.T, s *Socket) *net.UDPConn {
	t.Helper()
	to := s.LocalAddr()
	if to.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	return c
}

func at(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// next is what c gets.
func next(t *testing.T, c *net.UDPConn) string {
	t.Helper()
	buf := make([]byte, 2*MaxOut)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// families are addresses to listen at.
var families = []string{"127.0.0.1", "::1", "0.0.0.0"}

// What waits is read in batches, in its order and with its senders.
func TestRead(t *testing.T) {
	for _, host := range families {
		t.Run(host, func(t *testing.T) {
			s := open(t, host)
			peers := []*net.UDPConn{dial(t, s), dial(t, s)}
			const n = 2*Size + 5
			for i := range n {
				fmt.Fprint(peers[i%2], i)
			}
			r := reader(t, s)
			var sizes []int
			for i := 0; i < n; {
				all, err := r.Read()
				if err != nil {
					t.Fatal(err)
				}
				sizes = append(sizes, len(all))
				for _, d := range all {
					if want := fmt.Sprint(i); string(d.In) != want || d.From != at(peers[i%2]) {
						t.Fatalf("got %q from %s, want %s from %s", d.In, d.From, want, at(peers[i%2]))
					}
					i++
				}
			}
			if control != nil && !slices.Equal(sizes, []int{Size, Size, 5}) {
				t.Errorf("batches of %v", sizes)
			}
		})
	}
}

// What is longer than MaxIn is cut off, and what says nothing comes too.
func TestReadLengths(t *testing.T) {
	s := open(t, "127.0.0.1")
	c, r := dial(t, s), reader(t, s)
	for _, n := range []int{0, 1, MaxIn, MaxIn + 1, 3} {
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		all, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != 1 || len(all[0].In) != min(n, MaxIn) {
			t.Errorf("%d bytes: got %d datagrams, the first of %d", n, len(all), len(all[0].In))
		}
	}
}

// Each destination gets what was appended for it, whole and in order, whatever runs of
// one destination and one size a batch has, and whosever the memory was.
func TestWrite(t *testing.T) {
	for _, host := range families {
		t.Run(host, func(t *testing.T) {
			s := open(t, host)
			s.SetBuffers(1 << 20)
			w := s.Writer()
			peers := []*net.UDPConn{dial(t, s), dial(t, s), dial(t, s)}
			want := make([][]string, len(peers))
			send := func(to, n int) {
				b := w.Next()
				if len(b) != 0 || cap(b) < MaxOut {
					t.Fatalf("Next: %d bytes of %d", len(b), cap(b))
				}
				if n%2 == 1 {
					b = make([]byte, 0, n) // not Next's
				}
				b = b[:n]
				for i := range b {
					b[i] = byte(to + n + i + len(want[to]))
				}
				want[to] = append(want[to], string(b))
				w.Append(b, at(peers[to]))
			}
			for _, run := range [][]int{ // of a destination, the lengths
				{0, 1100, 1100, 1100, 1100, 1100, 1100, 1100, 1100},
				{1, 1100, 1100, 900}, {2, 60}, {1, 900, 900}, {1, 901}, {0, 500, 400, 400, 400}, {2, 0}, {2, 7, 0, 7, 7},
				{1, MaxOut, MaxOut}, {1, MaxOut + 1, MaxOut + 1}, {2, 1, 1, 1, 1}, {0, 1, 2, 3}, {1, 3}, {2, 2}, {0, 3, 3},
			} {
				for _, n := range run[1:] {
					send(run[0], n)
				}
			}
			w.Flush()
			for range Size + 8 { // more than a batch in one run
				send(1, 300)
			}
			w.Flush()
			w.Flush() // of nothing
			for to, c := range peers {
				for i, want := range want[to] {
					if got := next(t, c); got != want {
						t.Fatalf("peer %d, datagram %d: got %d bytes % .8x, want %d % .8x", to, i, len(got), got, len(want), want)
					}
				}
			}
		})
	}
}

// An answer leaves from the address that was asked, also when it is not the only one.
func TestReply(t *testing.T) {
	for _, tt := range []struct{ host, ask string }{{"0.0.0.0", "127.0.0.7"}, {"::", "::1"}, {"::", "127.0.0.7"}, {"127.0.0.7", "127.0.0.7"}, {"::1", "::1"}} {
		t.Run(tt.host+" "+tt.ask, func(t *testing.T) {
			s := open(t, tt.host)
			to := netip.AddrPortFrom(netip.MustParseAddr(tt.ask), s.LocalAddr().Port())
			c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)) // connected: another source is not heard
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Minute))
			fmt.Fprint(c, "hello")
			r, w := reader(t, s), s.Writer()
			all, err := r.Read()
			if err != nil {
				t.Fatal(err)
			}
			other := open(t, tt.ask)
			w.Append([]byte("beside"), other.LocalAddr())
			w.Reply(&all[0], append(w.Next(), "first"...))
			w.Reply(&all[0], append(w.Next(), "other"...))
			w.Append([]byte("aside"), other.LocalAddr())
			w.Flush()
			if a, b := next(t, c), next(t, c); a != "first" || b != "other" {
				t.Errorf("got %q and %q", a, b)
			}
			or := reader(t, other)
			for _, want := range []string{"beside", "aside"} {
				got, err := or.Read()
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range got {
					if string(d.In) != want {
						t.Errorf("got %q, want %q", d.In, want)
					}
					want = "aside"
				}
				if len(got) == 2 {
					break
				}
			}
		})
	}
}

// Whom nothing can be sent to costs the others nothing.
func TestUnreachableAmongOthers(t *testing.T) {
	s := open(t, "127.0.0.1")
	c, w := dial(t, s), s.Writer()
	var want []string
	for i, bad := range []netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.1:0"), // refused by the kernel
		netip.MustParseAddrPort("[::1]:5353"),  // of another family
		{},
	} {
		if n, err := s.WriteTo([]byte("lost"), bad); err == nil {
			t.Errorf("%s: %d bytes sent", bad, n)
		}
		text := fmt.Sprint("datagram ", i)
		want = append(want, text, text)
		w.Append([]byte(text), at(c))
		w.Append([]byte("lost"), bad)
		w.Append([]byte("lost"), bad)
		w.Append([]byte(text), at(c))
	}
	w.Flush()
	for _, want := range want {
		if got := next(t, c); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// TestTogether: many send on one socket while it is read, and until it is closed.
func TestTogether(t *testing.T) {
	s, far := open(t, "127.0.0.1"), open(t, "127.0.0.1")
	const writers, rounds, each = 4, 50, 8
	var whole [writers]chan bool
	for i := range whole {
		whole[i] = make(chan bool, 1)
	}
	var running sync.WaitGroup
	running.Go(func() { // far counts
		r := far.Reader()
		defer r.Close()
		var count [writers]int
		for {
			all, err := r.Read()
			if err != nil {
				return
			}
			for _, d := range all {
				if i := d.In[0]; i < writers {
					if count[i]++; count[i] == each {
						count[i] = 0
						whole[i] <- true
					}
				}
			}
		}
	})
	var reading sync.WaitGroup
	reading.Go(func() {
		r := s.Reader()
		defer r.Close()
		for {
			if _, err := r.Read(); err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
		}
	})
	var sending sync.WaitGroup
	for i := range writers {
		sending.Go(func() {
			w := s.Writer()
			for range rounds {
				for k := range each {
					if k%3 == 2 {
						if _, err := s.WriteTo([]byte{byte(i)}, far.LocalAddr()); err != nil {
							t.Error(err)
						}
						continue
					}
					w.Append(append(w.Next(), byte(i)), far.LocalAddr())
				}
				w.Flush()
				<-whole[i]
			}
		})
	}
	sending.Wait()
	for range writers {
		sending.Go(func() {
			w := s.Writer()
			for {
				w.Append([]byte{writers}, far.LocalAddr())
				w.Flush()
				if _, err := s.WriteTo([]byte{writers}, far.LocalAddr()); errors.Is(err, net.ErrClosed) {
					return
				} else if err != nil {
					t.Error(err)
				}
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	reading.Wait()
	sending.Wait()
	far.Close()
	running.Wait()
}

// Close wakes who reads; afterwards all say that the socket is closed.
func TestCloseWakesRead(t *testing.T) {
	for _, host := range families {
		for range 50 {
			s := open(t, host)
			r := s.Reader()
			read := make(chan error, 1)
			go func() {
				_, err := r.Read()
				read <- err
			}()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-read; !errors.Is(err, net.ErrClosed) {
				t.Fatalf("Read: %v", err)
			}
			if _, err := r.Read(); !errors.Is(err, net.ErrClosed) {
				t.Fatalf("Read again: %v", err)
			}
			r.Close()
			if err := s.Close(); !errors.Is(err, net.ErrClosed) {
				t.Fatalf("Close again: %v", err)
			}
			if _, err := s.WriteTo([]byte("late"), netip.MustParseAddrPort("127.0.0.1:9")); !errors.Is(err, net.ErrClosed) {
				t.Fatalf("WriteTo: %v", err)
			}
			late := s.Reader()
			if _, err := late.Read(); !errors.Is(err, net.ErrClosed) {
				t.Fatalf("Read of a new reader: %v", err)
			}
			late.Close()
			w := s.Writer()
			w.Append([]byte("late"), netip.MustParseAddrPort("127.0.0.1:9"))
			w.Flush()
		}
	}
}

func TestReadAndWriteAllocateNothing(t *testing.T) {
	if control == nil {
		t.Skip("the portable path allocates")
	}
	for _, host := range families {
		s, far := open(t, host), open(t, host)
		to := far.LocalAddr()
		if to.Addr().IsUnspecified() {
			to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
		}
		r, w, back := reader(t, far), s.Writer(), far.Writer()
		own := reader(t, s)
		drain := func(r *Reader, n int, each func(*Datagram)) {
			for n > 0 {
				all, err := r.Read()
				if err != nil {
					t.Fatal(err)
				}
				for i := range all {
					each(&all[i])
				}
				n -= len(all)
			}
		}
		reply := func(d *Datagram) { back.Reply(d, append(back.Next(), d.In...)) }
		ignore := func(*Datagram) {}
		if got := testing.AllocsPerRun(500, func() {
			for i := range 8 {
				w.Append(append(w.Next(), "media"[i%5:]...), to)
			}
			w.Flush()
			if _, err := s.WriteTo([]byte("control"), to); err != nil {
				t.Fatal(err)
			}
			drain(r, 9, reply)
			back.Flush()
			drain(own, 9, ignore)
		}); got != 0 {
			t.Errorf("%s: %v allocations, want 0", host, got)
		}
	}
}

// TestPortZero: the sockets of one address have one port, whoever picked it.
func TestPortZero(t *testing.T) {
	list, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		defer s.Close()
		if at := s.LocalAddr(); at != list[0].LocalAddr() || at.Port() == 0 {
			t.Errorf("%s beside %s", at, list[0].LocalAddr())
		}
	}
}
