package geodns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/tools/exectest"
)

// serve runs s until the test ends, and fails it when Serve does.
func serve(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func dial(t testing.TB, s *Server, network string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	return c
}

func framed(packets ...[]byte) (b []byte) {
	for _, p := range packets {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
	}
	return b
}

func readTCP(c net.Conn) (*dns.Msg, error) {
	var n [2]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	m := new(dns.Msg)
	return m, m.Unpack(b)
}

// TestGarbageDoesNotStopTheServer sends what no client should, then asks.
func TestGarbageDoesNotStopTheServer(t *testing.T) {
	s := listen(t)
	serve(t, s)
	garbage := [][]byte{nil, {0}, []byte("GET / HTTP/1.1\r\n\r\n"), make([]byte, 12), make([]byte, 5000), raw(0, 1, 0, 0, 1, joinA, "c025 0010 0001 00000000 0000"),
		raw(0x8000, 1, 0, 0, 0, joinA), raw(0, 0xffff, 0xffff, 0xffff, 0xffff), raw(0, 1, 0, 0, 0, strings.Repeat("c00c", 600))}
	q := ask("join.media.example.", dns.TypeA, ecs("192.0.2.0/27"))
	udp := dial(t, s, "udp")
	for i, g := range garbage {
		if _, err := udp.Write(g); err != nil {
			t.Fatal(err)
		}
		q.Id = uint16(1000 + i)
		if _, err := udp.Write(pack(t, q)); err != nil {
			t.Fatal(err)
		}
		for { // answers to the garbage may come first
			b := make([]byte, 2048)
			n, err := udp.Read(b)
			if err != nil {
				t.Fatalf("after garbage %d: %v", i, err)
			}
			m := new(dns.Msg)
			if err := m.Unpack(b[:n]); err != nil {
				t.Fatalf("after garbage %d: answer: %v", i, err)
			}
			if m.Id == q.Id {
				break
			}
		}
		tcp := dial(t, s, "tcp")
		if _, err := tcp.Write(framed(g)); err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, io.LimitReader(tcp, 2)) // its length, or the end
		tcp.Close()
	}
	tcp := dial(t, s, "tcp")
	if _, err := tcp.Write(framed(pack(t, q))); err != nil {
		t.Fatal(err)
	}
	if m, err := readTCP(tcp); err != nil || len(m.Answer) == 0 {
		t.Errorf("TCP after garbage: got %v, %v", m, err)
	}
}

// TestTCP: pipelining in order (RFC 7766 section 6.2.1.1), the idle limit, the
// connection limit and a shutdown that waits for nobody.
func TestTCP(t *testing.T) {
	s := listen(t)
	s.maxConns, s.idle = 2, time.Second
	serve(t, s)
	c := dial(t, s, "tcp")
	var all [][]byte
	for i := range 50 {
		q := ask("join.media.example.", dns.TypeA, ecs("192.0.2.0/27"))
		q.Id = uint16(i)
		all = append(all, pack(t, q))
	}
	if _, err := c.Write(framed(all...)); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		m, err := readTCP(c)
		if err != nil || int(m.Id) != i || len(m.Answer) == 0 {
			t.Fatalf("answer %d: got %v, %v", i, m, err)
		}
	}
	if _, err := readTCP(c); !errors.Is(err, io.EOF) {
		t.Errorf("idle: got %v, want the connection closed", err)
	}
	slow := dial(t, s, "tcp")
	if _, err := slow.Write([]byte{0, 40, 1}); err != nil { // and never the rest
		t.Fatal(err)
	}
	if _, err := readTCP(slow); !errors.Is(err, io.EOF) {
		t.Errorf("half a query: got %v, want the connection closed", err)
	}
}

// TestTCPConnectionLimit: who holds all connections open keeps nobody out. The one that
// has waited the longest is closed, and no other.
func TestTCPConnectionLimit(t *testing.T) {
	s := listen(t)
	s.maxConns = 3
	serve(t, s)
	q := framed(pack(t, ask("join.media.example.", dns.TypeA)))
	asks := func(c net.Conn) error {
		if _, err := c.Write(q); err != nil {
			return err
		}
		_, err := readTCP(c)
		return err
	}
	var open []net.Conn
	for range 3 {
		open = append(open, dial(t, s, "tcp"))
		if err := asks(open[len(open)-1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := asks(open[0]); err != nil {
		t.Fatal(err)
	}
	over := dial(t, s, "tcp")
	if err := asks(over); err != nil {
		t.Fatalf("connection 4 of 3: %v", err)
	}
	if _, err := readTCP(open[1]); !errors.Is(err, io.EOF) {
		t.Errorf("the one that waited the longest: got %v, want its end", err)
	}
	for i, c := range []net.Conn{open[0], open[2], over} {
		if err := asks(c); err != nil {
			t.Errorf("open connection %d: %v", i, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.conns); n != 3 {
		t.Errorf("%d connections are counted, want 3", n)
	}
}

// TestTCPClientLimit: one client cannot take all connections; another still gets one.
func TestTCPClientLimit(t *testing.T) {
	s := listen(t)
	serve(t, s)
	q := framed(pack(t, ask("join.media.example.", dns.TypeA)))
	from := func(addr string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
		c, err := d.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(5 * time.Minute))
		c.Write(q)
		_, err = readTCP(c)
		return c, err
	}
	var first net.Conn
	for i := range maxPerClient {
		c, err := from("127.0.0.1")
		if err != nil {
			t.Fatalf("connection %d: %v", i+1, err)
		}
		if i == 0 {
			first = c
		}
	}
	if _, err := from("127.0.0.1"); err == nil {
		t.Errorf("connection %d was taken", maxPerClient+1)
	}
	if _, err := from("127.0.0.2"); err != nil {
		t.Errorf("another client: %v", err)
	}
	first.Close()
	for deadline := time.Now().Add(10 * time.Second); ; { // the server has yet to see it closed
		if _, err := from("127.0.0.1"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a closed connection still counts")
		}
	}
}

func TestCloseEndsServe(t *testing.T) {
	s := listen(t)
	done := make(chan error)
	go func() { done <- s.Serve(context.Background()) }()
	c := dial(t, s, "tcp")
	if _, err := c.Write(framed(pack(t, ask("join.media.example.", dns.TypeA)))); err != nil {
		t.Fatal(err)
	}
	if _, err := readTCP(c); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("serve: got %v, want nil", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close twice: %v", err)
	}
	if _, err := readTCP(c); err == nil {
		t.Error("the connection is still open")
	}
}

// TestWildcardAnswersFromTheAddressAsked: a connected socket takes an answer from
// no other address.
func TestWildcardAnswersFromTheAddressAsked(t *testing.T) {
	for _, r := range []struct{ name, listen, to string }{
		{"IPv4, its second address", "0.0.0.0:0", "127.0.0.2"},
		{"IPv6 socket, IPv4 client", "[::]:0", "127.0.0.2"},
		{"IPv6", "[::]:0", "::1"},
	} {
		s := listen(t, func(c *Config) {
			c.Addr, c.NS = netip.MustParseAddrPort(r.listen), []netip.Addr{netip.MustParseAddr("198.18.99.1")}
		})
		serve(t, s)
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(r.to), s.Addr().Port())))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Minute))
		if _, err := c.Write(pack(t, ask("media.example.", dns.TypeSOA))); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2048)
		if n, err := c.Read(b); err != nil || n < headerLen {
			if strings.Contains(r.to, ":") && errors.Is(err, os.ErrDeadlineExceeded) {
				t.Logf("%s: no IPv6 loopback here?", r.name)
			}
			t.Errorf("%s: %d octets, %v", r.name, n, err)
		}
	}
}

// TestDig asks with a real client.
func TestDig(t *testing.T) {
	exectest.Need(t, "dig", "bind9-dnsutils")
	s := listen(t, func(c *Config) { c.Node = "dns-1" })
	serve(t, s)
	for _, r := range []struct {
		name string
		args string
		want []string // in the output
		not  []string
	}{
		{"UDP", "+norec join.media.example A", []string{"status: NOERROR", "flags: qr aa;", "5\tIN\tA\t198.18.3.1", "udp: 1232"}, []string{"WARNING", "CLIENT-SUBNET"}},
		{"TCP", "+tcp join.media.example AAAA", []string{"status: NOERROR", "2001:db8:ffff:3::1", "(TCP)"}, []string{"WARNING: recursion not"}},
		{"subnet", "+subnet=192.0.2.64/32 join.media.example A", []string{"198.18.5.1", "CLIENT-SUBNET: 192.0.2.64/32/27"}, nil},
		{"subnet /26 that is wider than one place", "+subnet=192.0.2.64/26 join.media.example A", []string{"198.18.5.1", "CLIENT-SUBNET: 192.0.2.64/26/27"}, nil},
		{"subnet /24 over Europe: an edge that is lawful for all of it", "+subnet=192.0.2.0/24 join.media.example A", []string{"198.18.3.1", "CLIENT-SUBNET: 192.0.2.0/24/27"}, nil},
		{"subnet /24 over the United States", "+subnet=198.51.100.0/24 join.media.example A", []string{"198.18.7.1", "CLIENT-SUBNET: 198.51.100.0/24/27"}, nil},
		{"subnet /24 over places that have nothing in common", "+subnet=203.0.113.0/24 join.media.example A", []string{"ANSWER: 1, AUTHORITY: 1", "CNAME\tnone.edge.media.example.", "EDE: 18"}, nil},
		{"IPv6 subnet", "+subnet=2001:db8:1000::/56 join.media.example A", []string{"198.18.2.1", "CLIENT-SUBNET: 2001:db8:1000::/56/40"}, nil},
		{"subnet 0", "+subnet=0 join.media.example A", []string{"198.18.3.1", "CLIENT-SUBNET: 0.0.0.0/0/0"}, nil},
		{"subnet without a lawful edge", "+subnet=203.0.113.192/27 join.media.example A", []string{"status: NOERROR", "ANSWER: 1, AUTHORITY: 1", "CNAME\tnone.edge.media.example.", "EDE: 18 (Prohibited): (home_only: ", "\tSOA\t"}, nil},
		{"pinned", "ca-qc.join.media.example A", []string{"198.18.2.1"}, nil},
		{"NXDOMAIN", "www.media.example A", []string{"status: NXDOMAIN", "ns1.media.example. hostmaster.media.example. 3000000000"}, nil},
		{"elsewhere", "example.com A", []string{"status: REFUSED", "EDE: 20 (Not Authoritative)"}, []string{"flags: qr aa"}},
		{"ANY", "+notcp media.example ANY", []string{`HINFO	"RFC8482" ""`}, nil},
		{"AXFR", "media.example AXFR", []string{"Transfer failed"}, nil},
		{"EDNS 1", "+edns=1 +noednsneg join.media.example A", []string{"status: BADVERS", "version: 0"}, nil},
		{"an unknown option", "+ednsopt=65001:abcd join.media.example A", []string{"status: NOERROR"}, []string{"OPT=65001"}},
		{"unknown EDNS flags", "+ednsflags=0x40 join.media.example A", []string{"status: NOERROR"}, []string{"MBZ"}},
		{"opcode STATUS", "+opcode=STATUS join.media.example A", []string{"status: NOTIMP"}, nil},
		{"why", "+subnet=198.51.100.0/27 _why.join.media.example TXT", []string{`"jurisdiction=US-NY" "choice=us-iad/us-iad-1"`, "CLIENT-SUBNET: 198.51.100.0/27/27"}, nil},
		{"a cookie, learned and shown", "+cookie join.media.example A", []string{"status: NOERROR", "(good)"}, nil},
		{"a cookie of no length there is", "+nocookie +ednsopt=10:0102 join.media.example A", []string{"status: FORMERR"}, nil},
		{"NSID", "+nsid join.media.example A", []string{`("dns-1")`}, nil},
		{"keepalive", "+tcp +keepalive join.media.example A", []string{"TCP KEEPALIVE: 10.0 secs"}, nil},
		{"SRV", "_turn._udp.join.media.example SRV", []string{"0 0 3478 de-ber-1.edge.media.example.", "1 0 3478 de-ber-2.edge.media.example.", "ADDITIONAL: 5"}, nil},
		{"HTTPS", "us.join.media.example HTTPS", []string{`1 us-iad-1.edge.media.example. alpn="h2,http/1.1" port=8443 ipv4hint=198.18.7.1`}, nil},
		{"NAPTR", "join.media.example NAPTR", []string{`100 10 "s" "RELAY:turn.udp" "" _turn._udp.join.media.example.`}, nil},
		{"letter case", "jOiN.mEdIa.ExAmPlE A", []string{"jOiN.mEdIa.ExAmPlE.\t5\tIN\tA\t198.18.3.1"}, nil},
	} {
		args := append([]string{"@" + s.Addr().Addr().String(), "-p", s.Addr().String()[strings.LastIndex(s.Addr().String(), ":")+1:], "+tries=1", "+time=5"}, strings.Fields(r.args)...)
		out, _ := exec.Command("dig", args...).CombinedOutput() // its exit status says little; the words are judged
		for _, want := range r.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: dig %s: want %q in:\n%s", r.name, r.args, want, out)
			}
		}
		for _, not := range append(r.not, "malformed", "mismatch", "communications error") {
			if strings.Contains(string(out), not) {
				t.Errorf("%s: dig %s: %q in:\n%s", r.name, r.args, not, out)
			}
		}
	}
}

// TestKdig asks with a second client, which reads options in its own way.
func TestKdig(t *testing.T) {
	exectest.Need(t, "kdig", "knot-dnsutils")
	s := listen(t, withRecords(t, zoneFile), func(c *Config) { c.Node = "dns-1" })
	serve(t, s)
	for _, r := range []struct{ name, args, want string }{
		{"a cookie", "+cookie join.media.example A", "COOKIE: "},
		{"NSID", "+nsid join.media.example A", `"dns-1"`},
		{"subnet", "+subnet=192.0.2.64/32 join.media.example A", "192.0.2.64/32/27"},
		{"several queries on one connection", "+tcp +keepopen join.media.example A www.media.example A", "www.media.example."},
		{"HTTPS", "us.join.media.example HTTPS", "port=8443"},
		{"a type without a name", "odd.media.example TYPE65280", `\# 4 0A000001`},
	} {
		args := append([]string{"@" + s.Addr().Addr().String(), "-p", s.Addr().String()[strings.LastIndex(s.Addr().String(), ":")+1:], "+retry=0", "+time=5"}, strings.Fields(r.args)...)
		out, err := exec.Command("kdig", args...).CombinedOutput()
		if text := string(out); err != nil || !strings.Contains(text, r.want) || !strings.Contains(text, "status: NOERROR") || strings.Contains(text, "WARNING") {
			t.Errorf("%s: kdig %s: %v, want %q in:\n%s", r.name, r.args, err, r.want, text)
		}
	}
}
