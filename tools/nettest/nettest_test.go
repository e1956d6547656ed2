package nettest

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// TestClosed: whoever asks is refused at once, and whoever wants the port does not get it.
func TestClosed(t *testing.T) {
	at := Closed(t).String()
	if _, err := net.Dial("tcp", at); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("TCP: got %v", err)
	}
	c, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	c.Write([]byte("anybody?"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("UDP: got %v", err)
	}
	if l, err := net.Listen("tcp", at); err == nil {
		l.Close()
		t.Error("TCP: another could listen")
	}
	if l, err := net.ListenPacket("udp", at); err == nil {
		l.Close()
		t.Error("UDP: another could listen")
	}
}

// TestFree: what is given can be had, over both transports.
func TestFree(t *testing.T) {
	at := Free(t, netip.MustParseAddr("127.0.0.1")).String()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pc, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	pc.Close()
}

// TestNet: two tests never have the same one, and it can be listened in.
func TestNet(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		n := Net(t)
		if seen[n] {
			t.Fatalf("%s twice", n)
		}
		seen[n] = true
		l, err := net.Listen("tcp", n+".0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
