package crowd

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// fill lets in from one source until it is refused, and says how many that were.
func fill(c *Crowd, from string) (n int) {
	for a := netip.MustParseAddr(from); c.Enter(a); n++ {
	}
	return n
}

func TestShares(t *testing.T) {
	c := New(8192)
	for i, r := range []struct {
		from string
		want int
	}{
		{"192.0.2.1", 4096}, // one alone has half
		{"192.0.2.2", 2048}, // and who comes next half of the rest
		{"192.0.2.1", 0},    // it has more than its share by now
		{"2001:db8::1", 1024},
		{"2001:db8::ffff:1", 0}, // the same /64
		{"::ffff:192.0.2.2", 0}, // the same address
		{"2001:db8:0:1::1", 512},
	} {
		if got := fill(c, r.from); got != r.want {
			t.Errorf("%d: %s got %d, want %d", i, r.from, got, r.want)
		}
	}
	if n, sources := c.Count(); n != 7680 || sources != 4 {
		t.Errorf("%d connections of %d sources", n, sources)
	}
	// Room comes back to whoever has the least of it.
	for range 4096 {
		c.Leave(netip.MustParseAddr("192.0.2.1"))
	}
	if n, sources := c.Count(); n != 3584 || sources != 3 {
		t.Errorf("%d connections of %d sources, after one left", n, sources)
	}
}

// A clinic of 600 patients, each with a page, two WebSockets during a move and TURN over TLS,
// fits behind one address beside a full house elsewhere, and beside a flood.
func TestClinic(t *testing.T) {
	const clinic = 600 * 4
	c := New(8192)
	fill(c, "198.51.100.1") // a flood, that was first
	a := netip.MustParseAddr("192.0.2.1")
	in := 0
	for range clinic {
		if c.Enter(a) {
			in++
		}
	}
	if in < 600*3 {
		t.Errorf("beside a flood %d of the clinic's %d connections fit, want three for each patient", in, clinic)
	}
	c = New(8192)
	for i := range 4000 { // a house elsewhere, two each
		if !c.Enter(netip.AddrFrom4([4]byte{203, byte(i >> 9), byte(i >> 1), 1})) {
			t.Fatal("the house is refused")
		}
	}
	for i := range 600 * 3 {
		if !c.Enter(a) {
			t.Fatalf("the clinic is refused after %d", i)
		}
	}
}

func TestListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := New(4)
	counting := Listener(l, c)
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			conn, err := counting.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(time.Minute))
		return conn
	}
	var in []net.Conn
	for range 2 {
		dial()
		in = append(in, <-accepted)
	}
	third := dial()
	if n, err := third.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) || c.Refused() != 1 {
		t.Errorf("beyond the share: read %d, %v, refused %d, want it closed", n, err, c.Refused())
	}
	in[0].Close()
	in[0].Close() // counts once
	if n, _ := c.Count(); n != 1 {
		t.Errorf("%d are counted after one of two ended", n)
	}
	dial()
	<-accepted
}
