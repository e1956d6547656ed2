package geodns

// This file is the walk of a warm query: from the datagrams of a socket (burst.answer), by
// what is read of them (query.go) and what is remembered for such queries (view.go), to the
// answer's bytes (fast) and its count (observe). What it does not know is slow's, in
// respond.go, which remembers its answer here.

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/miekg/dns"

	"bailiwick/datagram"
	"bailiwick/geodns/geo"
	"bailiwick/geodns/limit"
)

// burst answers what one UDP socket receives, in three passes: all is read, all is
// placed, all is answered. Placing is most of the work of one query, and nearly all of it
// is waiting for memory, which is done for all at once: see [geo.Table.FindAll].
type burst struct {
	s       *Server
	queries [datagram.Size]query
	// What is placed: not all queries are.
	of    [datagram.Size]*query
	addrs [datagram.Size]netip.Addr
	found [datagram.Size]geo.Found
}

func (s *Server) newBurst() *burst {
	b := &burst{s: s}
	for i := range b.queries {
		b.queries[i] = *newQuery()
	}
	return b
}

// answer is a [datagram.Handler].
func (b *burst) answer(all []datagram.Datagram) {
	s, done := b.s, 0
	defer func() {
		if r := recover(); r != nil {
			b.oneByOne(all[done:], r)
		}
	}()
	v, n := s.current(), 0
	for i := range all {
		q := &b.queries[i]
		s.read(q, all[i].In, all[i].From.Addr(), overUDP)
		if s.see(q, v); q.steered {
			b.of[n], b.addrs[n] = q, q.network().Addr()
			n++
		}
	}
	v.table.FindAll(b.found[:n], b.addrs[:n])
	for i, q := range b.of[:n] {
		q.found = b.found[i]
	}
	for ; done < len(all); done++ {
		all[done].Out = s.finish(all[done].Out, &b.queries[done])
	}
}

// finish appends the answer to what was read and seen.
func (s *Server) finish(out []byte, q *query) []byte {
	if q.drop {
		s.metrics.dropped[q.via].Inc()
		return out
	}
	b, o, done := out, observed{}, false
	if q.view != nil && !q.via.stream() {
		b, o, done = s.fast(out, q)
	}
	if !done {
		b, o = s.slow(out, q)
	}
	if len(b) > len(out) {
		s.observe(q, &o, b[len(out):])
	}
	return b
}

// fast answers what was answered before, for a client of the same outcome, over UDP.
// It allocates nothing and takes no lock. done is false for all else: [Server.slow]
// answers it, and remembers what it may. A fuzz test holds the two equal, byte for byte.
func (s *Server) fast(out []byte, q *query) (b []byte, o observed, done bool) {
	v := q.view
	if !q.inZone || q.class != dns.ClassINET || q.co {
		return out, o, false
	}
	var c *choice
	var to *outcome
	var scope int
	if q.steered {
		n := q.within(q.found)
		if c = v.recall(&n); c == nil {
			return out, o, false
		}
		to, scope = c.outcome, n.scope
	}
	a := v.slot(q, to).Load()
	switch {
	case a == nil || a.qtype != q.qtype || a.do != q.do || a.outcome != to || string(a.name) != string(q.lower):
		return out, o, false
	case q.do && !s.preparing.Load() && !v.fresh(s.at(q)): // a preparer looks at the clock itself
		return out, o, false
	}
	if q.verdict = s.judge(q, a.class); q.verdict != limit.Pass {
		return out, o, false
	}
	flags := byte(0x84) // QR, AA
	if q.rd {
		flags |= 1
	}
	b = append(out, q.packet[0], q.packet[1], flags, 0, 0, 1)
	b = append(b, a.counts[:]...)
	b = append(b, q.packet[headerLen:q.end]...)
	b = append(b, a.wire...)
	if q.edns {
		b[len(out)+headerLen-1]++
		own := a.ede
		if c != nil {
			own = c.ede
		}
		b = s.appendOPT(b, q, scope, own)
	}
	if len(b)-len(out) > q.limit() {
		return out, o, false
	}
	return b, observed{dns.RcodeSuccess, a.kind, a.region, scope}, true
}

// judge counts an answer to a client whose address may be forged.
func (s *Server) judge(q *query, class byte) limit.Verdict {
	if s.limiter == nil || s.trusts(q) {
		return limit.Pass
	}
	return s.limiter.Take(q.client, class, s.at(q))
}

// trusts tells whether the source address is not forged. Nobody forges loopback from
// outside.
func (s *Server) trusts(q *query) bool {
	return q.via.stream() || q.verified || q.client.IsLoopback()
}

// limit is how long the answer may be (RFC 6891 section 6.2.3).
func (q *query) limit() int {
	switch {
	case q.via.stream():
		return dns.MaxMsgSize - 1
	case !q.edns:
		return dns.MinMsgSize
	}
	return min(max(int(q.size), dns.MinMsgSize), maxUDP)
}

// appendOPT is [Server.reply] in the same order, over UDP, without CO.
func (s *Server) appendOPT(b []byte, q *query, scope int, ede []byte) []byte {
	b = append(b, 0) // the root
	b = binary.BigEndian.AppendUint16(b, dns.TypeOPT)
	b = binary.BigEndian.AppendUint16(b, maxUDP)
	flags := uint32(0)
	if q.do {
		flags = 1 << 15
	}
	b = binary.BigEndian.AppendUint32(b, flags)
	at := len(b)
	b = append(b, 0, 0)
	if q.ecs.raw != nil {
		b = appendOption(b, dns.EDNS0SUBNET, q.ecs.raw)
		b[len(b)-len(q.ecs.raw)+3] = byte(scope)
	}
	if q.cookie != nil {
		b = appendOption(b, dns.EDNS0COOKIE, q.baked[:])
	}
	if q.nsid && s.node != "" {
		b = appendOption(b, dns.EDNS0NSID, s.node)
	}
	b = append(b, ede...)
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}

func appendOption[T string | []byte](b []byte, code uint16, data T) []byte {
	b = binary.BigEndian.AppendUint16(b, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

// appendEDE is an extended error as an option (RFC 8914 section 2).
func appendEDE(b []byte, e *dns.EDNS0_EDE) []byte {
	if e == nil {
		return b
	}
	b = binary.BigEndian.AppendUint16(b, dns.EDNS0EDE)
	b = binary.BigEndian.AppendUint16(b, uint16(2+len(e.ExtraText)))
	b = binary.BigEndian.AppendUint16(b, e.InfoCode)
	return append(b, e.ExtraText...)
}

// observe counts an answer and logs it, where it is in the sample.
func (s *Server) observe(q *query, o *observed, response []byte) {
	s.metrics.count(q, o, response)
	if q.timed() {
		s.metrics.seconds[q.via].Observe(s.now().Sub(s.at(q)).Seconds())
	}
	if s.queryLog != nil && s.queryLog.take(s.at(q)) {
		s.queryLog.put(q, o, s.at(q))
	}
}

// body is an answer as in a packet, between the question and the OPT record: the same
// for all clients whose choice has the same outcome.
type body struct {
	name    []byte // as in a packet, in lower case
	qtype   uint16
	do      bool
	outcome *outcome // nil: the name does not steer by place

	counts [6]byte // of the header: answers, authority, additional without OPT
	wire   []byte
	ede    []byte // the option; a choice's own is the choice's
	class  byte   // of rate limiting
	kind   nameKind
	region int // that it names: 1 + its index in the World; 0: none
}

// plain are the types whose answers are remembered: a stranger who asks for others
// fills nothing.
var plain = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSRV, dns.TypeNAPTR, dns.TypeTXT, dns.TypeNS, dns.TypeSOA,
	dns.TypeMX, dns.TypeCAA, dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY}

var bodySeed = maphash.MakeSeed()

// slot is where the answer to q is, should it be remembered.
func (v *view) slot(q *query, o *outcome) *atomic.Pointer[body] {
	h := maphash.Bytes(bodySeed, q.lower) ^ uint64(q.qtype)*0x9e3779b97f4a7c15
	if o != nil {
		h ^= o.id * 0xc2b2ae3d27d4eb4f
	}
	if q.do {
		h = ^h
	}
	return &v.bodies[(h^h>>32)%bodySlots]
}

// remember keeps the answer to q for [Server.fast], if others may get it too.
func (s *Server) remember(q *query, a *answer, class byte, kind nameKind) {
	v := q.view
	if q.via != overUDP || !q.inZone || q.class != dns.ClassINET || q.co || a.foreign || a.slipped || a.long || a.wild || a.brief || kind == nameOther || a.rcode != dns.RcodeSuccess ||
		q.do && !v.fresh(s.at(q)) || !slices.Contains(plain, q.qtype) || (a.choice != nil) != q.steered {
		return
	}
	m := s.message(q, a)
	wire, err := m.Pack()
	if err != nil || len(wire) > maxUDP {
		return
	}
	kept := &body{name: slices.Clone(q.lower), qtype: q.qtype, do: q.do, counts: [6]byte(wire[6:headerLen]),
		wire: wire[q.end:], class: class, kind: kind, region: a.region}
	if a.choice != nil {
		kept.outcome = a.choice.outcome
	} else {
		kept.ede = appendEDE(nil, a.ede)
	}
	v.slot(q, kept.outcome).Store(kept)
}

// oneByOne answers what a burst that panicked has left, so that a bug in one query costs
// the others nothing.
func (b *burst) oneByOne(rest []datagram.Datagram, r any) {
	before := b.s.metrics.panicked.Load()
	for i := range rest {
		rest[i].Out = b.s.respond(rest[i].Out, rest[i].In, rest[i].From.Addr(), overUDP)
	}
	if b.s.metrics.panicked.Load() == before { // else they have told it themselves
		b.s.panicked(r)
	}
}
