package e2e

import (
	"crypto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnstest"
)

// rootZone is the signed root of a test's internet. It delegates one zone, once it has
// been told the records of the zone's keys.
type rootZone struct {
	t      *testing.T
	key    *dns.DNSKEY
	signer crypto.Signer
	ds     atomic.Pointer[[]dns.RR]
}

// serveRoot answers as that root until the test ends.
func serveRoot(t *testing.T) *rootZone {
	t.Helper()
	z := &rootZone{t: t, key: &dns.DNSKEY{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 60},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}}
	private, err := z.key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	z.signer = private.(crypto.Signer)
	dnstest.Serve(t, rootServer+":53", z.ServeDNS)
	return z
}

// delegate puts the zone's keys into the root, as its operator does: text is what
// `bailiwick dns ds` printed.
func (z *rootZone) delegate(text string) {
	z.t.Helper()
	var ds []dns.RR
	p := dns.NewZoneParser(strings.NewReader(text), ".", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		rr.Header().Ttl = 60
		ds = append(ds, rr)
	}
	if err := p.Err(); err != nil || len(ds) == 0 {
		z.t.Fatalf("no DS records in %q: %v", text, err)
	}
	z.ds.Store(&ds)
}

// ServeDNS implements dns.Handler. A denial holds the whole zone: it has three names.
func (z *rootZone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	name, kind := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	ds := z.ds.Load()
	m.Authoritative = true
	switch {
	case dns.IsSubDomain("media.example.", name) && ds == nil:
		m.Rcode = dns.RcodeServerFailure
	case name == "media.example." && kind == dns.TypeDS:
		m.Answer = z.signed(*ds...)
	case dns.IsSubDomain("media.example.", name):
		m.Authoritative = false
		m.Ns = append(z.records("media.example. 60 NS ns1.media.example."), z.signed(*ds...)...)
		m.Extra = z.records("ns1.media.example. 60 A " + authority)
	case name == "." && kind == dns.TypeNS:
		m.Answer, m.Extra = z.signed(z.records(". 60 NS ns.root.")...), z.signed(z.records("ns.root. 60 A "+rootServer)...)
	case name == "." && kind == dns.TypeDNSKEY:
		m.Answer = z.signed(z.key)
	case name == "ns.root." && kind == dns.TypeA:
		m.Answer = z.signed(z.records("ns.root. 60 A " + rootServer)...)
	default:
		for _, rr := range z.records(". 60 SOA ns.root. hostmaster.root. 1 60 60 60 60", ". 60 NSEC media.example. NS SOA RRSIG NSEC DNSKEY",
			"media.example. 60 NSEC ns.root. NS DS RRSIG NSEC", "ns.root. 60 NSEC . A RRSIG NSEC") {
			m.Ns = append(m.Ns, z.signed(rr)...)
		}
		if name != "." && name != "example." && name != "root." && name != "ns.root." {
			m.Rcode = dns.RcodeNameError
		}
	}
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(opt.UDPSize(), opt.Do())
	}
	w.WriteMsg(m)
}

func (z *rootZone) records(lines ...string) (rrs []dns.RR) {
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			z.t.Error(err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

// signed gives one RRset with its signature.
func (z *rootZone) signed(set ...dns.RR) []dns.RR {
	now := time.Now()
	sig := &dns.RRSIG{Hdr: dns.RR_Header{Ttl: 60}, Algorithm: z.key.Algorithm, KeyTag: z.key.KeyTag(), SignerName: ".",
		Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(time.Hour).Unix())}
	if err := sig.Sign(z.signer, set); err != nil {
		z.t.Error(err)
	}
	return append(set[:len(set):len(set)], sig)
}
