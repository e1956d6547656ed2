package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
)

// parentTimeout is how long one of the parent's servers may take, each of UDP and TCP.
const parentTimeout = 3 * time.Second

// errWrongClock: by this node's clock the parent's signatures do not hold. One of the two is
// wrong; of a clock that was wrong from the start nothing else tells.
var errWrongClock = errors.New("is this node's clock right? It takes no step of a roll by it")

// askParent asks every one of the parent's servers for the zone's DS: they must be
// authoritative, agree, and have signatures that are valid now, which shows a wrong
// clock. It validates nothing else: who could forge every answer for as long as a roll
// waits could make it end early, and nothing beyond.
func askParent(ctx context.Context, zone string, servers []netip.AddrPort, now time.Time) (*dnssec.Parent, error) {
	p := &dnssec.Parent{By: "parent"}
	var before []string
	for i, at := range servers {
		m, err := askDS(ctx, zone, at.String())
		if err != nil {
			return nil, fmt.Errorf("dnssec %s: parent %s: %w", zone, at, err)
		}
		ds, ttl, err := parentSays(m, zone, now)
		if err != nil {
			return nil, fmt.Errorf("dnssec %s: parent %s: %w", zone, at, err)
		}
		p.TTL = max(p.TTL, ttl)
		var said []string
		for _, d := range ds {
			said = append(said, fmt.Sprintf("%d %d %d %s", d.KeyTag, d.Algorithm, d.DigestType, strings.ToLower(d.Digest)))
		}
		slices.Sort(said)
		if i > 0 && !slices.Equal(said, before) {
			return nil, fmt.Errorf("dnssec %s: parent %s and %s have another DS each: a roll waits until they agree", zone, servers[i-1], at)
		}
		p.DS, before = ds, said
	}
	return p, nil
}

// askDS asks one server, over TCP where UDP does not hold the answer.
func askDS(ctx context.Context, zone, server string) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(zone), dns.TypeDS).SetEdns0(1232, true)
	q.RecursionDesired = false
	for _, network := range []string{"udp", "tcp"} {
		c := dns.Client{Net: network, Timeout: parentTimeout}
		m, _, err := c.ExchangeContext(ctx, q, server)
		switch {
		case network == "udp" && (err != nil || m.Truncated):
			continue
		case err != nil:
			return nil, err
		}
		return m, nil
	}
	panic("unreachable")
}

// parentSays is the DS in an answer of one server, none where it has none.
func parentSays(m *dns.Msg, zone string, now time.Time) (list []*dns.DS, ttl time.Duration, err error) {
	zone = dns.CanonicalName(zone)
	if m.Rcode != dns.RcodeSuccess {
		return nil, 0, fmt.Errorf("%s: is it a name server of the parent zone?", dns.RcodeToString[m.Rcode])
	}
	if !m.Authoritative {
		return nil, 0, errors.New("not authoritative: name the parent zone's own servers, no resolver")
	}
	for _, rr := range append(slices.Clone(m.Answer), m.Ns...) {
		if sig, ok := rr.(*dns.RRSIG); ok && !sig.ValidityPeriod(now) {
			return nil, 0, fmt.Errorf("a signature for %s until %s, and it is %s: %w",
				dns.TimeToString(sig.Inception), dns.TimeToString(sig.Expiration), now.UTC().Format(time.RFC3339), errWrongClock)
		}
	}
	for _, rr := range m.Answer {
		if ds, ok := rr.(*dns.DS); ok && dns.CanonicalName(ds.Hdr.Name) == zone {
			list, ttl = append(list, ds), max(ttl, time.Duration(ds.Hdr.Ttl)*time.Second)
		}
	}
	if list != nil {
		return list, ttl, nil
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			if at := dns.CanonicalName(soa.Hdr.Name); at == zone || !dns.IsSubDomain(at, zone) {
				return nil, 0, fmt.Errorf("it serves %s: name a server of the parent zone", at)
			}
			return nil, 0, nil // positively none
		}
	}
	return nil, 0, errors.New("neither a DS nor the SOA that denies one")
}
