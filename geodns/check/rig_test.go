package check

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns"
	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/geo"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

// asked is the shipped map's zone with ns1 alone, whose address may be any.
func asked(t testing.TB, servers ...netip.AddrPort) Zone {
	t.Helper()
	return Zone{Name: "media.example", Servers: servers, NS: map[string][]netip.Addr{"ns1.media.example": nil}, Served: world(t).Map.Served, Timeout: 500 * time.Millisecond,
		Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/27"), netip.MustParsePrefix("198.51.100.0/27")}}
}

// world is the shipped map with one healthy edge a region.
func world(t testing.TB) *steer.World {
	t.Helper()
	const path = "../../regions.yaml"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := region.Parse(path, b)
	if err != nil {
		t.Fatal(err)
	}
	w := &steer.World{Generation: 7, At: time.Now(), Law: residency.Shipped(), Map: m}
	for i := range m.Regions {
		r := &m.Regions[i]
		a := netip.AddrFrom4([4]byte{198, 18, byte(i), 1})
		w.Regions = append(w.Regions, steer.Region{Region: r, Hop: m.Hop(r), Edges: []steer.Edge{{ID: region.EdgeID(string(r.ID) + "-1"), Addr4: a, Health: steer.Up, Seats: 100}}})
	}
	return w
}

// node is a node of the shipped map's zone; change may alter its configuration.
func node(t testing.TB, change ...func(*geodns.Config)) *geodns.Server {
	t.Helper()
	w := world(t)
	table, err := geo.Load("", geo.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	c := geodns.Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Zone: w.Map.Zone, World: func() *steer.World { return w }, Geo: table,
		Secrets: func() geodns.Secrets { return geodns.Secrets{{1}} }}
	for _, f := range change {
		f(&c)
	}
	s, err := geodns.Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

// zoneKeys are keys whose CDS is published, as after a first day.
func zoneKeys(t testing.TB, at time.Time) (dnssec.Set, *dnssec.Signer) {
	t.Helper()
	p := dnssec.DefaultPolicy()
	set, err := dnssec.NewSet("media.example", dnssec.ECDSAP256, false, at.Add(-24*time.Hour))
	if err == nil {
		set, _, err = dnssec.Next(set, at, p, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	signer, err := dnssec.NewSigner(set, p)
	if err != nil {
		t.Fatal(err)
	}
	return set, signer
}

// meddler is a server that asks another and changes its answers: nil is none. Both
// transports are its own.
func meddler(t testing.TB, behind string, change func(network string, q, r *dns.Msg) *dns.Msg) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for network, s := range map[string]*dns.Server{"udp": {PacketConn: pc}, "tcp": {Listener: l}} {
		s.UDPSize = dns.MaxMsgSize
		s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			var r *dns.Msg
			if behind == "" {
				r = new(dns.Msg)
				r.SetReply(q)
			} else {
				var err error
				if r, _, err = (&dns.Client{Net: network, UDPSize: dns.MaxMsgSize}).Exchange(q, behind); err != nil {
					return
				}
			}
			if r = change(network, q, r); r != nil {
				w.WriteMsg(r)
			}
		})
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		done := make(chan error)
		go func() { done <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { s.Shutdown(); <-done })
	}
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// delegation answers for the parent zone as a server without recursion does.
func delegation(ns []string, glue string, ds ...*dns.DS) func(string, *dns.Msg, *dns.Msg) *dns.Msg {
	return func(_ string, q, r *dns.Msg) *dns.Msg {
		if q.Question[0].Qtype == dns.TypeDS {
			for _, d := range ds {
				r.Answer = append(r.Answer, d)
			}
			return r
		}
		for _, name := range ns {
			r.Ns = append(r.Ns, &dns.NS{Hdr: dns.RR_Header{Name: "media.example.", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 60}, Ns: name})
			if glue != "" {
				r.Extra = append(r.Extra, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(glue)})
			}
		}
		return r
	}
}

// certificate is of a name, signed by itself.
func certificate(t testing.TB, name string, until time.Time) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: until, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(c)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"dot"}}, roots
}

// failed are the names of the checks that failed, once each.
func failed(rows []Row) (names []string) {
	for _, r := range rows {
		if !r.OK && !slices.Contains(names, r.Check) {
			names = append(names, r.Check)
		}
	}
	slices.Sort(names)
	return names
}
