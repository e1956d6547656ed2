package check

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/acme/certtest"
	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/dnstest"
	"bailiwick/geodns/nodetest"
)

// asked is the shipped map's zone with ns1 alone, whose address may be any.
func asked(t testing.TB, servers ...netip.AddrPort) Zone {
	t.Helper()
	return Zone{Name: "media.example", Servers: servers, NS: map[string][]netip.Addr{"ns1.media.example": nil}, Served: nodetest.World(t).Map.Served, Timeout: 3 * time.Second,
		Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/27"), netip.MustParsePrefix("198.51.100.0/27")}}
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
	return dnstest.Serve(t, "127.0.0.1:0", func(w dns.ResponseWriter, q *dns.Msg) {
		network, r := w.LocalAddr().Network(), new(dns.Msg)
		if behind == "" {
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
	pair := certtest.SelfSigned(t, time.Time{}, until, name)
	return &tls.Config{Certificates: []tls.Certificate{pair.Certificate}, NextProtos: []string{"dot"}}, pair.Roots()
}

// unpadded is a server over TLS that has the SOA and pads nothing.
func unpadded(t testing.TB, config *tls.Config) netip.AddrPort {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q).SetEdns0(1232, false)
		r.Answer = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: ".", Mbox: "."}}
		w.WriteMsg(r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); s.ActivateAndServe() }()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
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
