package datagram

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"runtime"
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
			if err := all[1].Serve(echo); err != nil {
				t.Fatalf("%s: Serve after Close: %v", host, err)
			}
		}
	}
}
