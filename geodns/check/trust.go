package check

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
)

// certificateLeast is how long a certificate must still be good for.
const certificateLeast = 7 * 24 * time.Hour

// signed checks the zone's keys and signatures, where it has any.
func (z *run) signed(at netip.AddrPort, n *said) {
	const do = "run every node with --dnssec on one Consul and an exact clock, and look at its log"
	r, err := z.answered(at, query(z.zone, dns.TypeDNSKEY, withDO))
	if err == nil && len(r.Answer) == 0 {
		n.sets["DNSKEY"] = ""
		z.row(n.server, "dnssec", do, "the zone is unsigned", nil)
		return
	}
	var until time.Time
	if err == nil {
		for _, rr := range r.Answer {
			if k, ok := rr.(*dns.DNSKEY); ok {
				n.keys = append(n.keys, k)
			}
		}
		n.sets["DNSKEY"] = records(r.Answer)
		until, err = verified(r.Answer, n.keys)
	}
	what := []*dns.Msg{query(z.zone, dns.TypeSOA, withDO), query(z.zone, dns.TypeNS, withDO), query("join."+z.zone, dns.TypeA, withDO), query("bailiwick-check."+z.zone, dns.TypeA, withDO)}
	for _, q := range what {
		if err != nil {
			break
		}
		if r, err = z.ask("tcp", at, q); err != nil {
			break
		}
		section := r.Answer
		if len(section) == 0 {
			section = r.Ns
		}
		var end time.Time
		if end, err = verified(section, n.keys); err != nil {
			err = fmt.Errorf("%s %s: %w", q.Question[0].Name, dns.TypeToString[q.Question[0].Qtype], err)
		} else if end.Before(until) {
			until = end
		}
	}
	left := time.Until(until)
	if least := dnssec.DefaultPolicy().Refresh / 2; err == nil && left < least {
		err = fmt.Errorf("a signature ends in %s: want %s at least", left.Round(time.Minute), least)
	}
	z.row(n.server, "dnssec", do, fmt.Sprintf("%s, signatures for another %s", count(len(n.keys), "key"), left.Round(time.Hour)), err)
	z.childDS(at, n)
}

// childDS: the CDS records are of keys that are served (RFC 7344 section 4.1).
func (z *run) childDS(at netip.AddrPort, n *said) {
	r, err := z.answered(at, query(z.zone, dns.TypeCDS))
	text := "none yet: the parent is not asked for a DS"
	if err == nil {
		for _, rr := range r.Answer {
			c, ok := rr.(*dns.CDS)
			if !ok {
				continue
			}
			n.cds = append(n.cds, c)
			if !ofKeys(&c.DS, n.keys) {
				err = fmt.Errorf("CDS %d is of no key that is served", c.KeyTag)
			}
		}
		if len(n.cds) > 0 {
			text = fmt.Sprintf("%s, of served keys", count(len(n.cds), "record"))
		}
	}
	n.sets["CDS"] = fmt.Sprint(text)
	z.row(n.server, "cds", "the parent would take a DS that breaks the zone: look at the keys in Consul and the node's log", text, err)
}

// ofKeys tells whether a DS is the digest of one of the keys.
func ofKeys(ds *dns.DS, keys []*dns.DNSKEY) bool {
	return slices.ContainsFunc(keys, func(k *dns.DNSKEY) bool {
		own := k.ToDS(ds.DigestType)
		return own != nil && own.KeyTag == ds.KeyTag && own.Algorithm == ds.Algorithm && strings.EqualFold(own.Digest, ds.Digest)
	})
}

// verified checks every set of a section and gives the first end of a signature.
func verified(section []dns.RR, keys []*dns.DNSKEY) (until time.Time, err error) {
	sets := map[dns.Question][]dns.RR{}
	var sigs []*dns.RRSIG
	for _, rr := range section {
		if sig, ok := rr.(*dns.RRSIG); ok {
			sigs = append(sigs, sig)
			continue
		}
		at := dns.Question{Name: dns.CanonicalName(rr.Header().Name), Qtype: rr.Header().Rrtype}
		sets[at] = append(sets[at], rr)
	}
	if len(sets) == 0 {
		return until, errors.New("no records to verify")
	}
	for at, set := range sets {
		var end time.Time
		fault := fmt.Errorf("%s %s has no signature", at.Name, dns.TypeToString[at.Qtype])
		for _, sig := range sigs {
			if sig.TypeCovered != at.Qtype || dns.CanonicalName(sig.Hdr.Name) != at.Name {
				continue
			}
			k := slices.IndexFunc(keys, func(k *dns.DNSKEY) bool { return k.KeyTag() == sig.KeyTag && k.Algorithm == sig.Algorithm })
			switch {
			case k < 0:
				fault = fmt.Errorf("%s %s is signed by key %d, which is not served", at.Name, dns.TypeToString[at.Qtype], sig.KeyTag)
			case sig.Verify(keys[k], set) != nil:
				fault = fmt.Errorf("%s %s: the signature of key %d does not verify", at.Name, dns.TypeToString[at.Qtype], sig.KeyTag)
			case !sig.ValidityPeriod(time.Now()):
				fault = fmt.Errorf("%s %s: the signature is not valid now", at.Name, dns.TypeToString[at.Qtype])
			default:
				end = time.Unix(int64(sig.Expiration), 0)
			}
		}
		if end.IsZero() {
			return until, fault
		}
		if until.IsZero() || end.Before(until) {
			until = end
		}
	}
	return until, nil
}

// agree compares what the nodes answered. Their serials count each node's own
// changes and may differ; what they answer may not.
func (z *run) agree(nodes []*said) {
	if len(nodes) < 2 {
		return
	}
	first := nodes[0]
	for _, n := range nodes[1:] {
		var differ []string
		for _, what := range slices.Sorted(maps.Keys(first.sets)) {
			if a, b := first.sets[what], n.sets[what]; a != b {
				differ = append(differ, fmt.Sprintf("%s: %q, and here %q", what, a, b))
			}
		}
		var err error
		if len(differ) > 0 {
			err = fmt.Errorf("not as %s: %s", first.server, strings.Join(differ, "; "))
		}
		z.row(n.server, "agreement", "give every node the same map, zone file, geo database and Consul; a change takes some seconds to reach all", fmt.Sprintf("as %s", first.server), err)
		at, _ := netip.ParseAddrPort(n.server)
		z.row(n.server, "shared cookies", "nodes share the cookie secret in Consul: has this one reached it?", "a cookie of "+first.server+" counts", z.shows(at, first.cookie))
	}
}

// ofParent asks a server of the parent zone. Where it is none, do says what helps.
func (z *run) ofParent(at netip.AddrPort, m *dns.Msg) (r *dns.Msg, do string, err error) {
	r, err = z.ask("udp", at, m)
	if err == nil && r.Truncated {
		r, err = z.ask("tcp", at, m)
	}
	switch {
	case err != nil:
		return nil, fmt.Sprintf("the parent was not heard, so nothing is known of the delegation: mind the address of --parent, and whether UDP and TCP port %d lets this machine through to it", at.Port()), err
	case r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError:
		return nil, "nothing is known of the delegation: is --parent an authoritative server of the parent zone?", errors.New(dns.RcodeToString[r.Rcode] + extended(r))
	}
	return r, "", nil
}

// parent compares a delegation with the zone.
func (z *run) parent(at netip.AddrPort, nodes []*said) {
	r, do, err := z.ofParent(at, query(z.zone, dns.TypeNS))
	var names []string
	glue := map[string][]netip.Addr{}
	if err == nil {
		do = "give the registrar, or who runs the parent zone, these name servers and addresses"
		for _, rr := range append(r.Answer, r.Ns...) {
			if ns, ok := rr.(*dns.NS); ok && dns.CanonicalName(rr.Header().Name) == z.zone {
				names = append(names, dns.CanonicalName(ns.Ns))
			}
		}
		for _, rr := range r.Extra {
			if a := addressOf(rr); a.IsValid() {
				glue[dns.CanonicalName(rr.Header().Name)] = append(glue[dns.CanonicalName(rr.Header().Name)], a)
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, z.names) {
			err = fmt.Errorf("delegated to %v: want %v", names, z.names)
		}
		served := func(n *said) bool { return n.sets["NS"] == strings.Join(names, " ") }
		if z.unfiled(names) && slices.ContainsFunc(nodes, served) {
			do = giveFile
		}
	}
	for _, name := range z.names {
		slices.SortFunc(glue[name], netip.Addr.Compare)
		if want := z.glue[name]; err == nil && dns.IsSubDomain(z.zone, name) && (len(glue[name]) == 0 || len(want) > 0 && !slices.Equal(glue[name], want)) {
			err = fmt.Errorf("glue of %s: %v, want %v", name, glue[name], want)
		}
	}
	z.row(at.String(), "delegation", do, strings.Join(names, " "), err)
	z.parentDS(at, nodes)
}

// parentDS: a DS is of a served key, and there is one once the zone asks for it.
func (z *run) parentDS(at netip.AddrPort, nodes []*said) {
	r, do, err := z.ofParent(at, query(z.zone, dns.TypeDS, withDO))
	text := "none, and none is wanted"
	if err == nil {
		var ds []*dns.DS
		for _, rr := range r.Answer {
			if d, ok := rr.(*dns.DS); ok {
				ds = append(ds, d)
			}
		}
		if len(nodes) == 0 {
			text = count(len(ds), "record") + ", compared with no node"
		}
		for _, n := range nodes {
			switch {
			case len(ds) > 0 && !slices.ContainsFunc(ds, func(d *dns.DS) bool { return ofKeys(d, n.keys) }):
				err = fmt.Errorf("%s, and %s serves no key of theirs: the zone is bogus", count(len(ds), "DS"), n.server)
				do = "validating resolvers refuse the whole zone: take these DS records out of the parent, then give it those that bailiwick dns ds prints"
			case len(ds) == 0 && len(n.cds) > 0:
				err = errors.New("no DS, and the zone asks for one by CDS: it is signed for nobody")
				do = "give the parent the DS records that bailiwick dns ds prints, unless it takes them by CDS itself"
			case len(ds) > 0:
				text = fmt.Sprintf("%s, of served keys", count(len(ds), "record"))
			}
		}
	}
	z.row(at.String(), "ds", do, text, err)
}

// overTLS asks over TLS, as who knows the name server's name would.
func (z *run) overTLS(at netip.AddrPort) {
	var left time.Duration
	err := func() error {
		c := &dns.Client{Net: "tcp-tls", Timeout: z.Timeout, TLSConfig: &tls.Config{ServerName: z.TLSName, RootCAs: z.Roots, NextProtos: []string{"dot"}}}
		conn, err := c.DialContext(z.ctx, at.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		r, _, err := c.ExchangeWithConnContext(z.ctx, query(z.zone, dns.TypeSOA, withOption(&dns.EDNS0_PADDING{Padding: make([]byte, 32)})), conn)
		if err != nil {
			return err
		}
		if r.Rcode != dns.RcodeSuccess || len(r.Answer) == 0 {
			return fmt.Errorf("%s: want the SOA", dns.RcodeToString[r.Rcode])
		}
		state := conn.Conn.(*tls.Conn).ConnectionState()
		left = time.Until(state.PeerCertificates[0].NotAfter)
		if left < certificateLeast {
			return fmt.Errorf("the certificate ends in %s", left.Round(time.Minute))
		}
		if o := r.IsEdns0(); o == nil || !slices.ContainsFunc(o.Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0PADDING }) {
			return errors.New("the answer to a padded query is not padded (RFC 7830 section 4)")
		}
		return nil
	}()
	z.row(at.String(), "tls", "run the node with --dot and a certificate for "+z.TLSName+", and let something renew it", fmt.Sprintf("%s, for another %s", z.TLSName, left.Round(time.Hour)), err)
}
