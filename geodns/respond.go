package geodns

import (
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/miekg/dns"
)

// maxUDP is the largest UDP answer and the size that is advertised (RFC 9715).
const maxUDP = 1232

type transport int

const (
	overUDP transport = iota
	overTCP
)

// answer is a response before it is worded for this query.
type answer struct {
	rcode      int
	rrs        []dns.RR
	additional []dns.RR
	ede        *dns.EDNS0_EDE
	scope      int  // of ECS: bits of the network that all get this answer
	foreign    bool // not of this zone: no AA, no SOA, no scope
	serial     uint32
}

// respond appends the answer to one packet from src to out; nothing where there is
// none to give. It never panics and never waits.
func (s *Server) respond(out, packet []byte, src netip.Addr, via transport) []byte {
	began := time.Now()
	var q query
	rcode, drop := dns.RcodeSuccess, false
	response := func() (b []byte) {
		defer func() {
			if r := recover(); r != nil {
				s.panicked(r)
				rcode = dns.RcodeServerFailure
				b = servfail(out, packet, &q)
			}
		}()
		if rcode, drop = s.parse(packet, &q); drop {
			return out
		}
		a := answer{rcode: rcode, foreign: true}
		if rcode == dns.RcodeSuccess {
			a = s.answer(&q, clientAddr(src))
			rcode = a.rcode
		}
		return s.pack(out, &q, &a, via)
	}()
	if drop {
		s.metrics.dropped[via].Inc()
		return response
	}
	s.metrics.observe(via, &q, rcode, time.Since(began))
	return response
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
// question, so its letter case is the question's.
func (s *Server) pack(out []byte, q *query, a *answer, via transport) []byte {
	m := &dns.Msg{Compress: true}
	m.Id, m.Response, m.Opcode, m.Rcode, m.RecursionDesired = q.id, true, q.opcode, a.rcode, q.rd
	m.Authoritative = !a.foreign
	if q.asked {
		m.Question = []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: q.class}}
	}
	m.Answer, m.Extra = a.rrs, a.additional
	if !a.foreign && len(a.rrs) == 0 {
		m.Ns = []dns.RR{s.soa(s.apex, a.serial)} // RFC 2308 section 3
	}
	if q.edns {
		m.Extra = append(m.Extra, q.reply(a))
	}
	limit := dns.MaxMsgSize - 1
	if via == overUDP {
		limit = dns.MinMsgSize
		if q.edns {
			limit = min(max(int(q.size), dns.MinMsgSize), maxUDP)
		}
	}
	if m.Len() > limit {
		m.Truncate(limit)
	}
	b, err := m.Pack()
	if err != nil {
		panic(fmt.Errorf("pack: %w", err)) // a record of ours that no packet can hold
	}
	return append(out, b...)
}

// reply is the OPT record of the answer (RFC 6891 section 6.1.1).
func (q *query) reply(a *answer) *dns.OPT {
	o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	o.SetUDPSize(maxUDP)
	o.SetDo(q.do) // RFC 3225 section 3
	if q.ecs.raw != nil && !a.foreign {
		// Family, source and address are echoed as they came (RFC 7871 section 7.2.1).
		raw := append([]byte(nil), q.ecs.raw...)
		raw[3] = byte(a.scope)
		o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0SUBNET, Data: raw})
	}
	if a.ede != nil {
		o.Option = append(o.Option, a.ede)
	}
	return o
}
