package check

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// probe8906 is one test of RFC 8906 section 8.
type probe8906 struct {
	section, name string
	qtype         uint16
	tcp, noEDNS   bool
	opcode        int
	alter         func(*dns.Msg)
	rcode         int
}

// probes8906 are all of sections 8.1 and 8.2.
func probes8906() []probe8906 {
	header := func(f func(*dns.Msg)) func(*dns.Msg) { return f }
	version := func(m *dns.Msg) { m.IsEdns0().SetVersion(1) }
	z := func(m *dns.Msg) { m.IsEdns0().SetZ(0x40) }
	unknown := withOption(&dns.EDNS0_LOCAL{Code: 100})
	both := func(f ...func(*dns.Msg)) func(*dns.Msg) {
		return func(m *dns.Msg) {
			for _, f := range f {
				f(m)
			}
		}
	}
	const soa = dns.TypeSOA
	return []probe8906{
		{"8.1.1", "SOA", soa, false, true, 0, nil, 0},
		{"8.1.2", "an unknown type", 1000, false, true, 0, nil, 0},
		{"8.1.3.1", "CD", soa, false, true, 0, header(func(m *dns.Msg) { m.CheckingDisabled = true }), 0},
		{"8.1.3.2", "AD", soa, false, true, 0, header(func(m *dns.Msg) { m.AuthenticatedData = true }), 0},
		{"8.1.3.3", "the reserved bit", soa, false, true, 0, header(func(m *dns.Msg) { m.Zero = true }), 0},
		{"8.1.3.4", "RD", soa, false, true, 0, header(func(m *dns.Msg) { m.RecursionDesired = true }), 0},
		{"8.1.4", "an unknown opcode", 0, false, true, 15, nil, dns.RcodeNotImplemented},
		{"8.1.5", "TCP", soa, true, true, 0, nil, 0},
		{"8.2.1", "EDNS", soa, false, false, 0, nil, 0},
		{"8.2.2", "EDNS version 1", soa, false, false, 0, version, dns.RcodeBadVers},
		{"8.2.3", "an unknown option", soa, false, false, 0, unknown, 0},
		{"8.2.4", "an unknown flag", soa, false, false, 0, z, 0},
		{"8.2.5", "version 1 and an unknown flag", soa, false, false, 0, both(version, z), dns.RcodeBadVers},
		{"8.2.6", "version 1 and an unknown option", soa, false, false, 0, both(version, unknown), dns.RcodeBadVers},
		{"8.2.7", "OPT in a short answer", dns.TypeDNSKEY, false, false, 0, both(withDO, func(m *dns.Msg) { m.IsEdns0().SetUDPSize(512) }), 0},
		{"8.2.8", "DO", soa, false, false, 0, withDO, 0},
		{"8.2.9", "version 1 and DO", soa, false, false, 0, both(version, withDO), dns.RcodeBadVers},
		{"8.2.10", "several options", soa, false, false, 0, both(withOption(&dns.EDNS0_NSID{Code: dns.EDNS0NSID}), withOption(&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}),
			withOption(&dns.EDNS0_EXPIRE{Code: dns.EDNS0EXPIRE, Empty: true}), withOption(&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, Address: []byte{0, 0, 0, 0}})), 0},
	}
}

// compliance asks what some servers, and boxes in front of them, do not answer.
func (z *run) compliance(at netip.AddrPort, n *said) {
	for _, p := range probes8906() {
		q := p.query(z.zone)
		network := "udp"
		if p.tcp {
			network = "tcp"
		}
		r, err := z.ask(network, at, q)
		if err == nil {
			err = p.judge(q, r)
		}
		z.row(n.server, "rfc8906 "+p.section, "resolvers take such a server for broken (RFC 8906): a firewall or balancer that meddles with DNS is the usual cause", p.name, err)
	}
}

// query is what the test asks.
func (p *probe8906) query(zone string) *dns.Msg {
	q := query(zone, p.qtype)
	if p.noEDNS {
		q.Extra = nil
	}
	if p.opcode != 0 {
		q.Opcode, q.Question = p.opcode, nil
	}
	if p.alter != nil {
		p.alter(q)
	}
	return q
}

// judge is nil for the answer that there should be.
func (p *probe8906) judge(q, r *dns.Msg) error {
	var faults []string
	fault := func(wrong bool, text string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Sprintf(text, args...))
		}
	}
	fault(r.Rcode != p.rcode, "%s, want %s", dns.RcodeToString[r.Rcode], dns.RcodeToString[p.rcode])
	good := p.rcode == dns.RcodeSuccess
	fault(good && !r.Authoritative, "AA is not set")
	fault(good && p.qtype == dns.TypeSOA && (len(r.Answer) == 0 || r.Answer[0].Header().Rrtype != dns.TypeSOA), "no SOA")
	fault(!good && len(r.Answer) > 0, "records beside the error")
	fault(r.Zero, "the reserved bit is set")
	fault(r.RecursionAvailable, "RA is set: a resolver answers here")
	fault(r.RecursionDesired != q.RecursionDesired, "RD is not the query's")
	fault(r.Opcode != q.Opcode, "the opcode is not the query's")
	o := r.IsEdns0()
	fault((o != nil) == p.noEDNS, "OPT in the answer: %v", o != nil)
	if o != nil {
		fault(o.Version() != 0, "EDNS version %d, want 0", o.Version())
		fault(o.Z() != 0, "unknown flags are set")
		fault(!p.noEDNS && q.IsEdns0().Do() != o.Do() && good, "DO is not copied")
		for _, e := range o.Option {
			fault(e.Option() == 100, "an unknown option is echoed")
		}
	}
	if faults == nil {
		return nil
	}
	return errors.New(p.name + ": " + strings.Join(faults, ", "))
}
