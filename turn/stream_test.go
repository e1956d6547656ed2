package turn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"

	"bailiwick/crowd"
)

func TestReadFrame(t *testing.T) {
	binding := string(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint).Raw)
	tests := []struct {
		name, stream string
		want         []string
		end          string // of the error after the last frame
	}{
		{"nothing", "", nil, "EOF"},
		{"two messages", binding + binding, []string{binding, binding}, "EOF"},
		{"channel data with padding", "\x40\x00\x00\x05hello\x00\x00\x00" + binding, []string{"\x40\x00\x00\x05hello\x00\x00\x00", binding}, "EOF"},
		{"empty channel data", "\x40\x00\x00\x00", []string{"\x40\x00\x00\x00"}, "EOF"},
		{"cut in the header", binding[:3], nil, "unexpected EOF"},
		{"cut in the body", binding[:21], nil, "unexpected EOF"},
		{"message of odd length", "\x00\x01\x00\x03", nil, "not a STUN message"},
		{"TLS", "\x16\x03\x01\x02", nil, "not a STUN message"},
		{"RTP", "\x80\x60\x00\x01", nil, "not a STUN message"},
		{"largest", "\x40\x00\x06\x38" + strings.Repeat("x", 1592), []string{"\x40\x00\x06\x38" + strings.Repeat("x", 1592)}, "EOF"},
		{"too large", "\x40\x00\x06\x39" + strings.Repeat("x", 1596), nil, "at most 1599"},
		{"as large as can be said", "\x40\x00\xff\xff", nil, "at most 1599"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := iotestOneByte{strings.NewReader(tt.stream)}
			b := make([]byte, maxFrame)
			for i, want := range tt.want {
				n, err := readFrame(r, b)
				if err != nil || string(b[:n]) != want {
					t.Fatalf("frame %d: got %q, %v; want %q", i, b[:n], err, want)
				}
			}
			if _, err := readFrame(r, b); err == nil || !strings.Contains(err.Error(), tt.end) {
				t.Errorf("after the frames: got %v, want %q", err, tt.end)
			}
		})
	}
}

// iotestOneByte reads one byte at a time, as a hostile or a slow client sends.
type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(b []byte) (int, error) { return o.r.Read(b[:min(1, len(b))]) }

func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x40\x00\x00\x05hello\x00\x00\x00"))
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		b := make([]byte, maxFrame)
		for {
			before := r.Len()
			n, err := readFrame(r, b)
			if err != nil {
				return
			}
			if n != before-r.Len() || n >= maxFrame || n < 4 {
				t.Fatalf("took %d bytes for a frame of %d", before-r.Len(), n)
			}
		}
	})
}

// pipes is a TCP listener whose connections are pipes: time can be a bubble's.
type pipes struct {
	conns  chan net.Conn
	errs   chan error
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case err := <-p.errs:
		return nil, err
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478} }
func (p *pipes) Close() error   { close(p.closed); return nil }

// pipe is one end, with an address.
type pipe struct {
	net.Conn
	remote *net.TCPAddr
}

func (p pipe) RemoteAddr() net.Addr { return p.remote }
func (p pipe) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3478} }

// connect gives the client's end of a new connection.
func (p *pipes) connect(remote string) net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- pipe{theirs, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(remote))}
	return ours
}

// servePipes runs a relay in a bubble; UDP is silent.
func servePipes(t *testing.T, limits ...func(*Config)) (*Server, *pipes) {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
	cfg := Config{Relay: netip.MustParseAddr("127.0.0.1"), Realm: realm, Secret: secret, Permit: func(netip.AddrPort) bool { return false }}
	for _, f := range limits {
		f(&cfg)
	}
	s, err := serve(cfg, &memory{in: make(chan []byte), out: make(chan []byte, 16), closed: make(chan struct{})}, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, l
}

func TestConnectionWithoutAllocationEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := servePipes(t)
		defer s.Close()
		conn := l.connect("192.0.2.1:1000")
		begin := time.Now()
		// Asking all the time does not keep it open.
		asked := make(chan int)
		go func() {
			for n := 0; ; n++ {
				if _, err := conn.Write(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw); err != nil {
					asked <- n
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begin); got != grace {
			t.Errorf("ended after %s, want %s", got, grace)
		}
		if n := <-asked; n < 29 {
			t.Errorf("asked %d times, want one a second", n)
		}
	})
}

func TestClientThatStopsReadingIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := servePipes(t)
		defer s.Close()
		conn := l.connect("192.0.2.1:1000")
		begin := time.Now()
		conn.Write(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
		synctest.Wait() // the answer blocks: a pipe holds nothing
		// So does this, until the relay gives up.
		if _, err := conn.Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v, want a closed connection", err)
		}
		if got := time.Since(begin); got != writeTimeout {
			t.Errorf("dropped after %s, want %s", got, writeTimeout)
		}
	})
}

func TestConnectionLivesAsLongAsItsAllocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := servePipes(t)
		defer s.Close()
		conn := l.connect("192.0.2.1:1000")
		synctest.Wait()
		client := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1000"))
		s.allocated(client, l.Addr(), true)
		conn.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("with an allocation: got %v, want the connection open for an hour", err)
		}
		s.allocated(client, l.Addr(), false)
		begin := time.Now()
		conn.SetReadDeadline(time.Time{})
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after it: got %v, want the end", err)
		}
		if got := time.Since(begin); got != grace {
			t.Errorf("ended %s after the allocation, want %s", got, grace)
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := servePipes(t, func(c *Config) { c.Connections = 6 })
		defer s.Close()
		closed := func(remote string) bool {
			conn := l.connect(remote)
			synctest.Wait()
			conn.SetReadDeadline(time.Now().Add(time.Second))
			_, err := conn.Read(make([]byte, 1))
			return errors.Is(err, io.EOF)
		}
		for i, tt := range []struct {
			remote string
			closed bool
		}{
			{"192.0.2.1:1001", false}, {"192.0.2.1:1002", false}, {"192.0.2.1:1003", false}, {"192.0.2.1:1004", true},
			{"[2001:db8::1]:1", false}, {"[2001:db8::ffff]:2", false}, {"[2001:db8::1]:3", true}, {"[2001:db8:0:1::1]:3", false},
		} {
			if got := closed(tt.remote); got != tt.closed {
				t.Errorf("connection %d, from %s: closed %t, want %t", i, tt.remote, got, tt.closed)
			}
		}
		refused(t, s, map[Reason]uint64{Connection: 2})
		time.Sleep(grace) // the idle ones end
		synctest.Wait()
		if closed("192.0.2.1:1001") {
			t.Error("no room after the others ended")
		}
		if n, sources := s.crowd.Count(); n != 1 || sources != 1 {
			t.Errorf("%d connections of %d sources are remembered, want the one that is connected", n, sources)
		}
	})
}

func TestAcceptOutlivesErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := servePipes(t)
		defer s.Close()
		for range 3 {
			l.errs <- errors.New("too many open files")
		}
		conn := l.connect("192.0.2.1:1000")
		conn.Write(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
		if n, err := conn.Read(make([]byte, 100)); n < 20 {
			t.Errorf("after three errors: got %d bytes, %v; want an answer", n, err)
		}
	})
}

func TestLimiter(t *testing.T) {
	l := newLimiter()
	now := time.Unix(1764000000, 0)
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2:3:4:5")
	for i := range strangerBurst {
		if !l.take(a, now) {
			t.Fatalf("answer %d of %d was refused", i, strangerBurst)
		}
	}
	if l.has(b, now) || l.take(b, now) {
		t.Error("an address of the same /64 has a budget of its own")
	}
	if !l.has(netip.MustParseAddr("2001:db8:0:9::1"), now) {
		t.Error("another /64 shares the budget")
	}
	now = now.Add(time.Second)
	for i := range strangerRefill {
		if !l.take(a, now) {
			t.Fatalf("answer %d after a second was refused", i)
		}
	}
	if l.take(a, now) {
		t.Errorf("more than %d answers after a second", strangerRefill)
	}
	if v4 := netip.MustParseAddr("192.0.2.1"); crowd.Source(netip.MustParseAddr("::ffff:192.0.2.1")) != crowd.Source(v4) {
		t.Error("an IPv4 address in IPv6 form is another source")
	}
}
