package geodns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/cookie"
	"bailiwick/geodns/limit"
)

const (
	// maxUDP is the largest UDP answer and the size that is advertised (RFC 9715).
	maxUDP = 1232
	// amplification is how many times longer than its query a _why answer may be
	// while the client's address is not verified, as QUIC has it (RFC 9000 section 8).
	amplification = 3
)

type transport int

const (
	overUDP transport = iota
	overTCP
	overTLS
)

// stream: the client's address is not forged, and answers may be long.
func (t transport) stream() bool { return t != overUDP }

// answer is a response before it is worded for this query.
type answer struct {
	rcode      int
	rrs        []dns.RR
	additional []dns.RR
	ede        *dns.EDNS0_EDE
	scope      int      // of ECS: bits of the network that all get this answer
	foreign    bool     // not of this zone: no AA, no SOA, no scope
	slipped    bool     // withheld: TC, so that a client comes back over TCP
	deadEnd    bool     // rrs are CNAMEs that lead to nothing
	long       bool     // may be long: see amplification
	wild       bool     // rrs are a wildcard's
	brief      bool     // it may change before the view does
	fleeting   bool     // it denies to some what others are given
	authority  []dns.RR // what denies, signed; nil: the SOA alone
	end        *query   // the last name of the CNAMEs; nil: the one that was asked
	serial     uint32
	choice     *choice // that it words; nil: it does not depend on the client's place
	region     int     // that it names: 1 + its index in the World; 0: none
}

// respond appends the answer to one packet from src to out; nothing where there is
// none to give. It never panics and never waits.
func (s *Server) respond(out, packet []byte, src netip.Addr, via transport) (b []byte) {
	q := s.queries.Get().(*query)
	defer s.queries.Put(q)
	defer func() {
		if r := recover(); r != nil {
			s.panicked(r)
			b = servfail(out, packet, q)
			s.observe(q, &observed{rcode: dns.RcodeServerFailure, kind: nameOther}, b[len(out):])
		}
	}()
	s.open(q, packet, src, via)
	return s.finish(out, q)
}

// open does for one query what a burst does for many at once.
func (s *Server) open(q *query, packet []byte, src netip.Addr, via transport) {
	s.read(q, packet, src, via)
	v := s.current()
	if s.see(q, v); q.steered {
		q.found = v.table.Find(q.network().Addr())
	}
}

// slow is every answer that fast does not know.
func (s *Server) slow(out []byte, q *query) ([]byte, observed) {
	a := answer{rcode: q.rcode, foreign: true}
	if q.asked {
		q.spell(s)
	}
	switch {
	case q.rcode != dns.RcodeSuccess:
	case q.asked:
		a = s.answer(q)
	case len(q.cookie) > cookie.Client && !q.verified: // RFC 7873 section 5.4
		a.rcode = dns.RcodeBadCookie
	}
	class, o := class(q, &a), observed{kind: q.kindOf(!a.foreign && a.rcode == dns.RcodeSuccess), region: a.region, scope: a.scope}
	if q.verdict == 0 {
		q.verdict = s.judge(q, class)
	}
	switch q.verdict {
	case limit.Discard:
		s.metrics.limited[limitDropped].Inc()
		return out, o
	case limit.Slip:
		a, o.region, o.scope = q.withhold(&a), 0, 0
		s.metrics.limited[limitSlipped].Inc()
	}
	if q.view != nil && q.view.signer != nil && !a.foreign {
		s.sign(q, &a, s.at(q))
	}
	limit := q.limit()
	if a.long && !s.trusts(q) {
		limit = min(limit, amplification*len(q.packet))
	}
	b := s.pack(out, q, &a, limit)
	if q.view != nil {
		s.remember(q, &a, class, o.kind)
	}
	o.rcode = a.rcode
	return b, o
}

// class is what answers are counted by. It is a closed set and holds no name:
// invented names are one class, whether they exist by a wildcard or not.
func class(q *query, a *answer) byte {
	switch {
	case a.rcode == dns.RcodeNameError:
		return 1
	case a.rcode != dns.RcodeSuccess:
		return 2
	case q.qtype == dns.TypeANY:
		return 3
	case len(a.rrs) == 0:
		return 4
	}
	return 0
}

// withhold is what a client over its rate is told instead of the answer: to show
// the cookie that comes with it (RFC 7873 section 5.2.3), or to ask over TCP.
func (q *query) withhold(a *answer) answer {
	if q.cookie != nil {
		return answer{rcode: dns.RcodeBadCookie, foreign: true}
	}
	return answer{rcode: a.rcode, foreign: a.foreign, slipped: true}
}

// panicked counts; of a flood it logs the 1st, 2nd, 4th, 8th …
func (s *Server) panicked(r any) {
	s.metrics.panics.Inc()
	if n := s.metrics.panicked.Add(1); n&(n-1) == 0 {
		s.log.Error("dns query panicked", "count", n, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	}
}

// servfail is made by hand: nothing in it can panic again.
func servfail(out, packet []byte, q *query) []byte {
	out = append(out, packet[0], packet[1], 0x80|packet[2]&0x79, dns.RcodeServerFailure, 0, 0, 0, 0, 0, 0, 0, 0)
	if !q.asked {
		return out
	}
	out[len(out)-headerLen+5] = 1
	return append(out, packet[headerLen:q.end]...)
}

// pack words an answer. Compression makes the owner of each answer a pointer to the
// question, which is echoed as it came: its letter case is theirs (0x20). What is longer
// than limit is cut, with TC.
func (s *Server) pack(out []byte, q *query, a *answer, limit int) []byte {
	m := s.message(q, a)
	var opt []dns.RR
	if q.edns {
		opt = []dns.RR{s.reply(q, a)}
	}
	m.Extra = append(m.Extra, opt...)
	if m.Len() > limit { // what is additional may be left out silently (RFC 2181 section 9)
		m.Extra = opt
	}
	if m.Len() > limit {
		m.Truncated, m.Answer, m.Ns = true, nil, nil // part of a set is of no use
	}
	b, err := m.Pack()
	if err != nil {
		panic(fmt.Errorf("pack: %w", err)) // a record of ours that no packet can hold
	}
	if q.asked {
		copy(b[headerLen:], q.packet[headerLen:q.end])
	}
	if q.padded && q.via == overTLS && opt != nil {
		b = pad(b, dns.Len(opt[0]))
	}
	return append(out, b...)
}

// message is the answer without the OPT record.
func (s *Server) message(q *query, a *answer) *dns.Msg {
	m := &dns.Msg{Compress: true}
	m.Id, m.Response, m.Opcode, m.Rcode, m.RecursionDesired = q.id, true, q.opcode, a.rcode, q.rd
	m.Authoritative = !a.foreign
	if q.asked {
		m.Question = []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: q.class}}
	}
	m.Answer = a.rrs
	m.Truncated = a.slipped
	switch {
	case a.authority != nil:
		m.Ns = a.authority
	case !a.foreign && (len(a.rrs) == 0 || a.deadEnd) && !a.slipped:
		m.Ns = []dns.RR{s.soa(q.view.records, s.apex, a.serial)} // RFC 2308 section 3
	}
	if a.fleeting { // below the TTL that was signed, as in a cache (RFC 4034 section 3.1.4)
		for _, rr := range m.Ns {
			rr.Header().Ttl = 0
		}
	}
	m.Extra = a.additional
	return m
}

// reply is the OPT record of the answer (RFC 6891 section 6.1.1).
func (s *Server) reply(q *query, a *answer) *dns.OPT {
	o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	o.SetUDPSize(maxUDP)
	o.SetDo(q.do) // RFC 3225 section 3
	o.SetCo(q.co && q.view != nil && q.view.signer != nil)
	local := func(code uint16, data []byte) {
		o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: code, Data: data})
	}
	if q.ecs.raw != nil && q.rcode == dns.RcodeSuccess { // also where it counts for nothing, with scope 0
		// Family, source and address are echoed as they came (RFC 7871 section 7.2.1).
		raw := append([]byte(nil), q.ecs.raw...)
		raw[3] = byte(a.scope)
		local(dns.EDNS0SUBNET, raw)
	}
	if q.cookie != nil {
		local(dns.EDNS0COOKIE, q.baked[:])
	}
	if q.nsid && s.node != "" {
		local(dns.EDNS0NSID, []byte(s.node))
	}
	if q.alive && q.via.stream() { // in units of 100 ms (RFC 7828 section 3.1)
		local(dns.EDNS0TCPKEEPALIVE, binary.BigEndian.AppendUint16(nil, uint16(s.idle/(100*time.Millisecond))))
	}
	if a.ede != nil {
		o.Option = append(o.Option, a.ede)
	}
	return o
}
