package edge

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// One source that opens connections and says nothing is stopped at its share, and the probes
// and patients of others get in. Real sockets, of two loopback addresses, beside a crowd that is
// there already: a busy machine closes the first silent thousand before it takes the fourth.
func TestOneSourceLeavesRoom(t *testing.T) {
	f := start(t, 10, "de-ber")
	e := f.edges["de-ber"]
	const left = 400
	for i := range maxConns - left {
		if !e.crowd.Enter(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})) {
			t.Fatalf("source %d was refused", i)
		}
	}
	addr := strings.TrimPrefix(e.Self().Host, "http://")
	flood := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}, Timeout: patience}
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range left/2 + 100 {
		c, err := flood.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	// The last ones are closed; the first wait for a request.
	last := held[len(held)-1]
	last.SetReadDeadline(time.Now().Add(patience))
	if n, err := last.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("connection %d of one source: read %d, %v, want it closed", len(held), n, err)
	}
	if n := e.crowd.Refused(); n < 50 || n > 100 {
		t.Errorf("%d of %d connections were refused, want those beyond %d", n, len(held), left/2)
	}
	if code := f.call("de-ber", "GET", "/readyz", "", "", nil); code != 200 {
		t.Errorf("a probe is answered %d", code)
	}
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next("welcome")
}
