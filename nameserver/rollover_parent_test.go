package nameserver

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/dnstest"
)

// parentZone is a signed zone "example" with one delegation, media.example, whose DS
// it takes from the child's CDS (RFC 7344), as a registry does.
type parentZone struct {
	t        *testing.T
	signer   *dnssec.Signer
	set      dnssec.Set
	sigs     *dnssec.Signatures
	addr     netip.AddrPort
	children []netip.AddrPort // the child's servers

	mu sync.Mutex
	ds []*dns.DS

	polling sync.Mutex // held while the child is asked, by one who must not be watched
}

const parentTTL = 1

func newParent(t *testing.T, ip string) *parentZone {
	t.Helper()
	set, err := dnssec.NewSet("example", dnssec.ECDSAP256, false, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := dnssec.NewSigner(set, dnssec.DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	z := &parentZone{t: t, signer: signer, set: set, sigs: dnssec.NewSignatures(1000)}
	z.addr = dnstest.Serve(t, ip+":0", z.ServeDNS)
	return z
}

func testRR(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

// ServeDNS answers for the apex and for the delegation's DS, and refers the rest.
func (z *parentZone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	m.SetEdns0(1232, true)
	name, qtype := dns.CanonicalName(q.Question[0].Name), q.Question[0].Qtype
	soa := []dns.RR{testRR(fmt.Sprintf("example. %d SOA ns.example. hostmaster.example. 1 3600 600 86400 %d", parentTTL, parentTTL))}
	deny := func(exists bool, types ...uint16) {
		m.Ns = z.sign(soa)
		nsec, _, err := z.sigs.Deny(z.signer, dnssec.Name{Owner: name, Exists: exists, Asked: qtype, Types: types, TTL: parentTTL}, time.Now())
		if err != nil {
			z.t.Error(err)
		}
		m.Ns = append(m.Ns, nsec...)
	}
	apex := map[uint16][]dns.RR{dns.TypeSOA: soa, dns.TypeDNSKEY: z.signer.Apex[dns.TypeDNSKEY],
		dns.TypeNS: {testRR(fmt.Sprintf("example. %d NS ns.example.", parentTTL))}}
	switch {
	case name == "example." && apex[qtype] != nil:
		m.Answer = z.sign(apex[qtype])
	case name == "example.":
		deny(true, dns.TypeSOA, dns.TypeNS, dns.TypeDNSKEY)
	case name == "media.example." && qtype == dns.TypeDS && len(z.delegated()) > 0:
		m.Answer = z.sign(z.delegated())
	case name == "media.example." && qtype == dns.TypeDS:
		deny(true, dns.TypeNS)
	case dns.IsSubDomain("media.example.", name):
		m.Authoritative = false
		m.Ns = []dns.RR{testRR("media.example. 1 NS ns1.media.example.")}
	default:
		deny(false)
	}
	if err := w.WriteMsg(m); err != nil {
		z.t.Logf("parent: %v", err)
	}
}

func (z *parentZone) sign(set []dns.RR) []dns.RR {
	sigs, _, err := z.sigs.Sign(z.signer, set, time.Now())
	if err != nil {
		z.t.Error(err)
	}
	return append(slices.Clone(set), sigs...)
}

func (z *parentZone) delegated() (list []dns.RR) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, ds := range z.ds {
		list = append(list, ds)
	}
	return list
}

// poll takes over the child's CDS: the first as it is, later ones only when a key that
// the DS names has signed them (RFC 7344 section 4.1).
func (z *parentZone) poll() error {
	z.polling.Lock()
	defer z.polling.Unlock()
	var want []*dns.DS
	for i, child := range z.children {
		cds, err := z.ask(child, dns.TypeCDS)
		if err != nil {
			return err
		}
		var list []*dns.DS
		for _, rr := range cds {
			if c, ok := rr.(*dns.CDS); ok {
				ds := c.DS
				ds.Hdr.Rrtype, ds.Hdr.Ttl = dns.TypeDS, parentTTL
				list = append(list, &ds)
			}
		}
		if i > 0 && (len(list) != len(want) || len(list) > 0 && list[0].Digest != want[0].Digest) {
			return nil // they do not agree yet
		}
		if want = list; len(want) == 0 {
			return nil
		}
		if err := z.trusts(child, cds); err != nil {
			return err
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.ds = want
	return nil
}

func (z *parentZone) ask(child netip.AddrPort, qtype uint16) ([]dns.RR, error) {
	q := new(dns.Msg).SetQuestion("media.example.", qtype).SetEdns0(1232, true)
	m, err := dns.Exchange(q, child.String())
	if err != nil {
		return nil, err
	}
	return m.Answer, nil
}

func (z *parentZone) trusts(child netip.AddrPort, cds []dns.RR) error {
	keys, err := z.ask(child, dns.TypeDNSKEY)
	if err != nil {
		return err
	}
	var set []dns.RR
	for _, rr := range cds {
		if rr.Header().Rrtype == dns.TypeCDS {
			set = append(set, rr)
		}
	}
	trusted := z.delegated()
	for _, rr := range cds {
		sig, ok := rr.(*dns.RRSIG)
		if !ok {
			continue
		}
		for _, k := range keys {
			key, ok := k.(*dns.DNSKEY)
			if !ok || sig.Verify(key, set) != nil {
				continue
			}
			if len(trusted) == 0 || slices.ContainsFunc(trusted, func(ds dns.RR) bool {
				return ds.(*dns.DS).Digest == key.ToDS(dns.SHA256).Digest
			}) {
				return nil
			}
		}
	}
	return fmt.Errorf("no key of the DS %v has signed the CDS %v", trusted, cds)
}

// follow polls until ctx ends.
func (z *parentZone) follow(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
			if err := z.poll(); err != nil && ctx.Err() == nil {
				z.t.Errorf("parent: %v", err)
			}
		}
	}
}

// validator runs Unbound, which trusts the parent's key and caches nothing for longer
// than a second, and gives its address.
func validator(t *testing.T, ip string, z *parentZone) netip.AddrPort {
	t.Helper()
	anchor, err := z.set.DS(z.set.Keys[0], dns.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return dnstest.Unbound(t, netip.AddrPortFrom(netip.MustParseAddr(ip), 0), "example", fmt.Sprintf(`
  module-config: "validator iterator"
  do-not-query-localhost: no
  trust-anchor: "example. DS %d %d %d %s"
  local-zone: "example." nodefault
  cache-max-ttl: 1
  cache-max-negative-ttl: 1
  val-bogus-ttl: 1
  infra-host-ttl: 1
  harden-algo-downgrade: yes
  val-log-level: 2
  trust-anchor-signaling: no
`, anchor.KeyTag, anchor.Algorithm, anchor.DigestType, anchor.Digest)+
		dnstest.Stub("example", z.addr)+dnstest.Stub("media.example", z.children...))
}
