package pathtest

import (
	"log"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"bailiwick/tools/exectest"
)

func TestMain(m *testing.M) {
	if os.Getenv("BAILIWICK_TEST_ECHO") == "" {
		os.Exit(m.Run())
	}
	c, err := net.ListenPacket("udp4", ":7")
	for buf := make([]byte, 2000); err == nil; {
		var n int
		var from net.Addr
		if n, from, err = c.ReadFrom(buf); err == nil {
			c.WriteTo(buf[:n], from)
		}
	}
	log.Fatal(err)
}

// TestPath asks a service in the namespace: each answer takes the delay of both ways, what the
// rate has no room for is lost, and loss by chance is about what was asked for.
func TestPath(t *testing.T) {
	if !Alone(t) {
		return
	}
	p := New(t, 3, Shape{Delay: 40 * time.Millisecond}, 7)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	echo := exec.Command(p.Program(t, self))
	echo.Env = append(os.Environ(), "BAILIWICK_TEST_ECHO=1")
	exectest.Start(t, echo)
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.Far, 7)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 2000)
	ask := func(n, size int, within time.Duration) (came int, first time.Duration) {
		began := time.Now()
		for range n {
			c.Write(make([]byte, size))
		}
		for {
			c.SetReadDeadline(time.Now().Add(within))
			if _, err := c.Read(buf); err != nil {
				return came, first
			}
			if came++; came == 1 {
				first = time.Since(began)
			}
		}
	}
	for deadline := time.Now().Add(exectest.Patience); ; {
		if n, first := ask(1, 100, 500*time.Millisecond); n == 1 {
			if first < 80*time.Millisecond {
				t.Errorf("an answer after %s: less than both ways take", first)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody answers")
		}
	}
	// 100 packets of 1,028 octets with their headers: 300 ms of 100 kbit/s have room for four.
	p.Set(Shape{Rate: 100_000})
	if n, _ := ask(100, 1000, 2*time.Second); n < 4 || n > 20 {
		t.Errorf("%d of 100 came through 100 kbit/s, want those that 300 ms have room for", n)
	}
	p.Set(Shape{Loss: 0.3})
	came := 0
	for range 25 { // a few at a time: no buffer on the way may be what loses them
		n, _ := ask(20, 20, 200*time.Millisecond)
		came += n
	}
	if came < 150 || came > 350 { // 0.7 × 0.7
		t.Errorf("%d of 500 came through 30 %% of loss each way", came)
	}
}
