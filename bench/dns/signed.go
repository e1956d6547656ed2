package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// set is what the server is compared with others by.
func (s *server) set() string {
	if s.signed {
		return withDO
	}
	return served
}

// keysAt asks a server for its zone's keys.
func keysAt(at netip.AddrPort) (map[uint16]*dns.DNSKEY, error) {
	client := &dns.Client{Net: "tcp", Timeout: time.Second}
	m, _, err := client.Exchange(new(dns.Msg).SetQuestion(zone+".", dns.TypeDNSKEY), at.String())
	if err != nil {
		return nil, err
	}
	return keysOf(m.Answer), nil
}

func keysOf(rrs []dns.RR) map[uint16]*dns.DNSKEY {
	keys := map[uint16]*dns.DNSKEY{}
	for _, rr := range rrs {
		if k, ok := rr.(*dns.DNSKEY); ok {
			keys[k.KeyTag()] = k
		}
	}
	return keys
}

// verify counts the answers whose addresses have a signature that one of the zone's
// keys verifies. Equal signatures over equal sets are verified once.
func verify(keys map[uint16]*dns.DNSKEY, all []given) (n int, err error) {
	known := map[string]error{}
	for _, g := range all {
		if g.sig == nil {
			continue
		}
		id := g.sig.Signature + fmt.Sprint(g.rrs)
		bad, seen := known[id]
		if !seen {
			if k := keys[g.sig.KeyTag]; k == nil {
				bad = errors.New("no such key in the zone")
			} else {
				bad = g.sig.Verify(k, g.rrs)
			}
			known[id] = bad
		}
		if bad == nil {
			n++
		} else {
			err = fmt.Errorf("signature of key %d over %v: %w", g.sig.KeyTag, g.rrs, bad)
		}
	}
	return n, err
}

// writeSigned is the cost of signed answers.
func (b *bench) writeSigned(p printer) {
	p("\n## Signed\n")
	p("The same queries with DO, zones signed with one ECDSA P-256 key (CSK). Signed and verified is the share of the answers, each query asked once, whose A set carries an RRSIG that the zone's DNSKEY verifies.\n")
	p("| server | version | ECS, DO, µs | ÷ Knot, signed | busy | lost | signed and verified | answer, octets | same address as bailiwick |")
	p("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, s := range b.servers {
		if !s.signed {
			continue
		}
		if s.absent != "" {
			p("| %s | not measured: %s | | | | | | | |", s.name, s.absent)
			continue
		}
		all := s.samples[withDO]
		busy := spreadOf(all, func(s sample) float64 { return float64(s.total()) / float64(s.elapsed) * 100 })
		lost := spreadOf(all, func(s sample) float64 { return float64(s.lost) / float64(s.answered+s.lost) * 100 })
		p("| %s | %s | %s | %s | %.0f %% | %.2f %% | %.2f %% | %.0f | %.2f %% |", s.name, s.release(), show(s.cost(withDO)), showRatio(ratio(s, b.find(knotSigned), withDO)),
			busy.median, lost.median, percent(s.verified, s.asked), float64(s.octets)/float64(s.asked), percent(s.same, s.asked))
	}
}
