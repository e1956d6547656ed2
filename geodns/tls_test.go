package geodns

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/acme/certtest"
	"bailiwick/tools/exectest"
)

// withTLS serves DNS over TLS too.
func withTLS(t testing.TB, change ...func(*tls.Config)) (func(*Config), *tls.Config) {
	pair := certtest.SelfSigned(t, time.Time{}, time.Now().Add(time.Hour), "ns1.media.example")
	conf := &tls.Config{Certificates: []tls.Certificate{pair.Certificate}}
	for _, f := range change {
		f(conf)
	}
	return func(c *Config) { c.DoT, c.TLS = netip.MustParseAddrPort("127.0.0.1:0"), conf },
		&tls.Config{RootCAs: pair.Roots(), ServerName: "ns1.media.example", NextProtos: []string{"dot"}}
}

func dialTLS(t testing.TB, s *Server, c *tls.Config) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", s.DoT().String(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	return conn
}

func TestDNSOverTLS(t *testing.T) {
	reg := prometheus.NewRegistry()
	with, client := withTLS(t, func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 })
	s := listen(t, with, func(c *Config) { c.Registry = reg })
	serve(t, s)
	shake := func(c *tls.Config) (*tls.Conn, error) {
		raw, err := net.Dial("tcp", s.DoT().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { raw.Close() })
		raw.SetDeadline(time.Now().Add(5 * time.Minute))
		conn := tls.Client(raw, c)
		if err = conn.Handshake(); err != nil {
			io.Copy(io.Discard, raw) // until the server ends it, which counts first
		}
		return conn, err
	}
	for _, r := range []struct {
		name  string
		alpn  []string
		proto string
		fails bool
	}{{"ALPN dot", []string{"dot"}, "dot", false}, {"no ALPN", nil, "", false}, {"another protocol", []string{"h2"}, "", true}} {
		client.NextProtos = r.alpn
		c, err := shake(client)
		if err != nil || r.fails {
			if (err != nil) != r.fails {
				t.Errorf("%s: %v, want an error: %v", r.name, err, r.fails)
			}
			continue
		}
		if got := c.ConnectionState().NegotiatedProtocol; got != r.proto {
			t.Errorf("%s: negotiated %q", r.name, got)
		}
		c.Close()
	}
	client.NextProtos = []string{"dot"}
	old := client.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 // else this client would refuse it
	if _, err := shake(old); err == nil {
		t.Error("TLS 1.1 was spoken (RFC 9325 section 3.1.1)")
	}
	exchanged := &dns.Client{Net: "tcp-tls", TLSConfig: client}
	m, _, err := exchanged.Exchange(ask("join.media.example.", dns.TypeA, ecs("192.0.2.64/32")), s.DoT().String())
	if err != nil || line(m) != "NOERROR aa | A 198.18.5.1 A 198.18.5.2 | opt scope=27" {
		t.Errorf("got %v, %v", m, err)
	}
	if got := counter(t, reg, "bailiwick_dns_queries_total", map[string]string{"type": "A", "rcode": "NOERROR", "transport": "tls"}); got != 1 {
		t.Errorf("counted %v queries over TLS, want 1", got)
	}
	if got := counter(t, reg, "bailiwick_dns_tls_handshake_failures_total", nil); got < 2 {
		t.Errorf("counted %v failed handshakes, want 2", got)
	}
	// Plain DNS, and a client that never finishes its handshake, end with it.
	plain, err := net.Dial("tcp", s.DoT().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	plain.SetDeadline(time.Now().Add(5 * time.Minute))
	if _, err := plain.Write(framed(pack(t, ask("join.media.example.", dns.TypeA)))); err != nil {
		t.Fatal(err)
	}
	if m, err := readTCP(plain); err == nil {
		t.Errorf("plain DNS at the port of TLS: got %v, want no answer", m)
	}
}

// TestTLSSharesTheLimits: connections over TLS count with those over TCP, and idle as
// they do.
func TestTLSSharesTheLimits(t *testing.T) {
	with, client := withTLS(t)
	s := listen(t, with)
	s.maxConns, s.idle = 2, 2*time.Second
	serve(t, s)
	q := framed(pack(t, ask("join.media.example.", dns.TypeA)))
	tcp, over := dial(t, s, "tcp"), dialTLS(t, s, client)
	for _, c := range []net.Conn{tcp, over} {
		if _, err := c.Write(q); err != nil {
			t.Fatal(err)
		}
		if _, err := readTCP(c); err != nil {
			t.Fatal(err)
		}
	}
	dialTLS(t, s, client)
	if _, err := readTCP(tcp); !errors.Is(err, io.EOF) {
		t.Errorf("connection 3 of 2: the first got %v, want its end", err)
	}
	if _, err := readTCP(over); !errors.Is(err, io.EOF) {
		t.Errorf("idle: got %v, want the connection closed, and said so", err)
	}
}

// TestPadding (RFC 7830, RFC 8467 section 4.1): over TLS, for who asks with it,
// whatever the answer is.
func TestPadding(t *testing.T) {
	s := listen(t, withRecords(t, zoneFile), func(c *Config) { c.Node = "dns-1" })
	_, k := keys(t, false)
	s.SetSigner(k)
	padding := option(dns.EDNS0PADDING, make([]byte, 17)...)
	src := netip.MustParseAddr(berlin)
	for _, r := range []struct {
		name   string
		q      *dns.Msg
		via    transport
		blocks int // 0: not padded
	}{
		{"an answer", ask("join.media.example.", dns.TypeA, padding), overTLS, 1},
		{"the option empty", ask("join.media.example.", dns.TypeA, option(dns.EDNS0PADDING)), overTLS, 1},
		{"with every other option", ask("join.media.example.", dns.TypeA, ecs("192.0.2.64/32"), option(dns.EDNS0COOKIE, make([]byte, 8)...), option(dns.EDNS0NSID), option(dns.EDNS0TCPKEEPALIVE), padding), overTLS, 1},
		{"NXDOMAIN", ask("none.media.example.", dns.TypeA, padding), overTLS, 1},
		{"a refusal", ask("example.org.", dns.TypeA, padding), overTLS, 1},
		{"signed", ask("join.media.example.", dns.TypeA, do, padding), overTLS, 1},
		{"a long set", ask("big.media.example.", dns.TypeTXT, padding), overTLS, -1},
		{"a long set, signed", ask("big.media.example.", dns.TypeTXT, do, padding), overTLS, -1},
		{"FORMERR of a later option", ask("join.media.example.", dns.TypeA, padding, option(dns.EDNS0COOKIE, 1)), overTLS, 1},
		{"not asked for", ask("join.media.example.", dns.TypeA), overTLS, 0},
		{"no EDNS", ask("join.media.example.", dns.TypeA, noEDNS), overTLS, 0},
		{"over TCP", ask("join.media.example.", dns.TypeA, padding), overTCP, 0},
		{"over UDP", ask("join.media.example.", dns.TypeA, padding), overUDP, 0},
	} {
		b := s.respond(nil, pack(t, r.q), src, r.via)
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		has := false
		if o := m.IsEdns0(); o != nil {
			for i, e := range o.Option {
				if p, ok := e.(*dns.EDNS0_PADDING); ok {
					has = true
					if i != len(o.Option)-1 || strings.Trim(string(p.Padding), "\x00") != "" {
						t.Errorf("%s: padding % x at %d of %d options, want zeroes, last", r.name, p.Padding, i, len(o.Option))
					}
				}
			}
		}
		if has != (r.blocks != 0) || has && len(b)%padBlock != 0 || r.blocks > 0 && len(b) != r.blocks*padBlock {
			t.Errorf("%s: %d octets, padded %v; want %d blocks", r.name, len(b), has, r.blocks)
		}
	}
}

// TestPadFits: every length of an answer gets a whole block, and what none holds is
// left alone.
func TestPadFits(t *testing.T) {
	const opt = 11
	for _, n := range []int{23, padBlock - 5, padBlock - 4, padBlock - 3, padBlock, padBlock + 1, dns.MaxMsgSize - 500, dns.MaxMsgSize - 4, dns.MaxMsgSize - 1} {
		b := pad(make([]byte, n), opt)
		if len(b) == n && n+4 <= dns.MaxMsgSize/padBlock*padBlock {
			t.Errorf("%d octets are not padded", n)
		}
		if len(b) != n && (len(b)%padBlock != 0 || len(b)-n-4 >= padBlock || len(b) > dns.MaxMsgSize || int(binary.BigEndian.Uint16(b[n-2:])) != len(b)-n) {
			t.Errorf("%d octets are padded to %d, RDLEN %d", n, len(b), binary.BigEndian.Uint16(b[n-2:]))
		}
	}
}

// TestKdigOverTLS asks with a real client, which checks the certificate.
func TestKdigOverTLS(t *testing.T) {
	exectest.Need(t, "kdig", "knot-dnsutils")
	with, _ := withTLS(t)
	s := listen(t, with)
	serve(t, s)
	_, port, _ := net.SplitHostPort(s.DoT().String())
	for _, r := range []struct{ name, args, want string }{
		{"TLS", "+tls join.media.example A", "198.18.3.1"},
		{"padding", "+tls +padding join.media.example A", "468 B"},
		{"several queries on one connection", "+tls +keepopen join.media.example A media.example SOA", "hostmaster"},
		{"DO", "+tls +dnssec media.example SOA", "hostmaster"},
	} {
		args := append([]string{"@127.0.0.1", "-p", port, "+retry=0", "+time=5"}, strings.Fields(r.args)...)
		out, err := exec.Command("kdig", args...).CombinedOutput()
		if text := string(out); err != nil || !strings.Contains(text, r.want) || !strings.Contains(text, "status: NOERROR") || !strings.Contains(text, "TLS session") || strings.Contains(text, "WARNING") {
			t.Errorf("%s: kdig %s: %v, want %q in:\n%s", r.name, r.args, err, r.want, text)
		}
	}
}

func TestTLSFaults(t *testing.T) {
	with, _ := withTLS(t)
	busy := listen(t, with)
	for _, r := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no address", func(c *Config) { c.DoT = netip.AddrPort{} }, "dns tls: no address"},
		{"a busy port", func(c *Config) { c.DoT = busy.DoT() }, "dns tls " + busy.DoT().String() + ": listen tcp"},
	} {
		c := Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Zone: zone, World: busy.world, Geo: table(t)}
		with(&c)
		r.change(&c)
		if _, err := Listen(c); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: got %v, want %s", r.name, err, r.want)
		}
	}
}
