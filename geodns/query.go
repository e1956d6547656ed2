package geodns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/cookie"
	"bailiwick/geodns/geo"
	"bailiwick/geodns/limit"
)

// query is what is read of a packet. Names are compared as labels, never in
// presentation form, where an escaped dot looks like a label's end.
type query struct {
	packet []byte // as it came, and from whom
	client netip.Addr
	via    transport
	rcode  int  // what is wrong with it, if anything is
	drop   bool // it deserves no answer at all

	id     uint16
	opcode int
	rd     bool

	asked  bool    // there is a question, to be echoed
	end    int     // where it ends in the packet
	lower  []byte  // its name as in the packet, in lower case
	starts []uint8 // where each label begins in lower
	inZone bool
	name   string   // in presentation form, in lower case; of spell,
	rel    []string // as the labels before the zone's, leftmost first; at most maxRel
	qtype  uint16
	class  uint16

	edns    bool // an OPT record was there (RFC 6891)
	version uint8
	size    uint16
	do      bool
	co      bool // compact answers OK (RFC 9824)
	ecs     subnet
	nsid    bool   // RFC 5001
	alive   bool   // TCP keepalive (RFC 7828)
	padded  bool   // RFC 7830
	cookie  []byte // as it came (RFC 7873); nil: none

	view    *view
	steered bool          // the answer depends on the client's place
	found   geo.Found     // which is this; for fast
	wild    bool          // a wildcard answers for the name
	chain   int           // CNAME records followed to this name
	began   time.Time     // see at
	verdict limit.Verdict // of rate limiting, once it has judged

	verified bool               // by its cookie: the source address is not forged
	baked    [cookie.Whole]byte // the answer's cookie
}

// newQuery has the memory that a query needs, to be used again and again.
func newQuery() *query {
	return &query{lower: make([]byte, 0, maxName), starts: make([]uint8, 0, maxName/2)}
}

// read reads a packet into q, which forgets what it was before.
func (s *Server) read(q *query, packet []byte, src netip.Addr, via transport) {
	lower, starts, rel := q.lower, q.starts, q.rel
	*q = query{}
	q.packet, q.client, q.via, q.lower, q.starts, q.rel = packet, clientAddr(src), via, lower, starts, rel
	if q.timed() {
		s.at(q)
	}
	if q.rcode, q.drop = s.parse(packet, q); q.drop {
		return
	}
	if q.cookie != nil {
		q.baked, q.verified = s.secrets().Bake(q.cookie, q.client, s.at(q))
	}
}

// see gives q what it is answered from.
func (s *Server) see(q *query, v *view) {
	if q.drop || q.rcode != dns.RcodeSuccess || !q.asked {
		return
	}
	q.view = v
	q.steered = q.inZone && s.steers(q)
}

// steers tells whether the answer to q depends on the client's place, were its name
// not an alias: it is lookup's word without the words.
func (s *Server) steers(q *query) bool {
	switch string(q.lower[:len(q.lower)-len(s.wire)]) {
	case "\x04join":
		return host.steers(q.qtype)
	case "\x05_turn\x04_udp", "\x05_turn\x04_udp\x04join", "\x05_stun\x04_udp", "\x05_stun\x04_udp\x04join":
		return relay.steers(q.qtype)
	case "\x06_turns\x04_tcp", "\x06_turns\x04_tcp\x04join":
		return turns.steers(q.qtype)
	}
	return false
}

// timed tells whether q is in the sample of those whose time is taken.
func (q *query) timed() bool {
	return len(q.packet) >= headerLen && binary.BigEndian.Uint16(q.packet)%timed == 0
}

// subnet is an ECS option (RFC 7871); its zero value is none.
type subnet struct {
	raw     []byte       // as it came, without code and length
	network netip.Prefix // invalid for a source prefix length of 0; mapped IPv4 is IPv4
	mapped  bool
}

const (
	headerLen = 12
	maxName   = 255 // octets (RFC 1035 section 2.3.4)
	// maxRel is one more label than the longest name that steers has:
	// _turn._udp.CC.join.
	maxRel = 5
)

// parse reads a packet. drop: it deserves no answer at all. Otherwise rcode tells
// what is wrong, and q holds as much as the answer to that must echo.
func (s *Server) parse(p []byte, q *query) (rcode int, drop bool) {
	if len(p) < headerLen || p[2]&0x80 != 0 { // an answer is never answered: no loops
		return 0, true
	}
	q.id = binary.BigEndian.Uint16(p)
	q.opcode = int(p[2]>>3) & 0xf
	q.rd = p[2]&1 != 0
	if q.opcode != dns.OpcodeQuery {
		return dns.RcodeNotImplemented, false
	}
	count := func(i int) int { return int(binary.BigEndian.Uint16(p[i:])) }
	questions, answers, authority, additional := count(4), count(6), count(8), count(10)
	if questions > 1 || answers != 0 {
		return dns.RcodeFormatError, false
	}
	off, ok := headerLen, true
	if questions == 1 {
		if off, ok = s.question(p, q); !ok {
			return dns.RcodeFormatError, false
		}
	}
	// IXFR carries a SOA in the authority section (RFC 1995 section 3).
	if authority > 1 || authority == 1 && q.qtype != dns.TypeIXFR {
		return dns.RcodeFormatError, false
	}
	var opts int
	for i := range authority + additional {
		var r record
		if r, off, ok = readRecord(p, off); !ok {
			return dns.RcodeFormatError, false
		}
		if r.rtype != dns.TypeOPT {
			continue
		}
		if opts++; i < authority || opts > 1 || !r.root { // RFC 6891 section 6.1.1
			q.edns = true
			return dns.RcodeFormatError, false
		}
		if rcode := q.opt(r); rcode != dns.RcodeSuccess {
			return rcode, false
		}
	}
	if !q.asked && q.cookie == nil { // with one it asks for a cookie (RFC 7873 section 5.4)
		return dns.RcodeFormatError, false
	}
	return dns.RcodeSuccess, false
}

// question reads the one question after the header.
func (s *Server) question(p []byte, q *query) (off int, ok bool) {
	off, ok = s.readName(p, headerLen, q)
	if !ok || off+4 > len(p) {
		return 0, false
	}
	q.qtype, q.class = binary.BigEndian.Uint16(p[off:]), binary.BigEndian.Uint16(p[off+2:])
	q.end, q.asked = off+4, true
	return q.end, true
}

// readName reads an uncompressed name and tells whether it is in the zone.
func (s *Server) readName(p []byte, off int, q *query) (next int, ok bool) {
	q.starts = q.starts[:0]
	end := off
	for {
		if end >= len(p) || p[end] > 63 { // a pointer has nothing to point at yet
			return 0, false
		}
		n := int(p[end])
		if n == 0 {
			break
		}
		q.starts = append(q.starts, uint8(end-off))
		if end += 1 + n; end-off >= maxName {
			return 0, false
		}
	}
	q.lower = append(q.lower[:0], p[off:end+1]...)
	lower(q.lower)
	if above := len(q.starts) - s.labels; above >= 0 {
		at := len(q.lower) - 1 // of the final dot
		if above < len(q.starts) {
			at = int(q.starts[above])
		}
		q.inZone = bytes.Equal(q.lower[at:], s.wire)
	}
	return end + 1, true
}

// lower makes the letters of a name lower case, eight octets at a time. The lengths of
// labels are below any letter.
func lower(b []byte) {
	const ones = 0x0101010101010101
	for ; len(b) >= 8; b = b[8:] {
		w := binary.LittleEndian.Uint64(b)
		low := w &^ (0x80 * ones) // so that no sum reaches into the next octet
		letters := (low + (0x80-'A')*ones) &^ (low + (0x7f-'Z')*ones) &^ w & (0x80 * ones)
		binary.LittleEndian.PutUint64(b, w|letters>>2)
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// spell writes the name in words, for all that is not fast.
func (q *query) spell(s *Server) {
	var err error
	if q.name, _, err = dns.UnpackDomainName(q.lower, 0); err != nil {
		panic(fmt.Errorf("name: %w", err)) // readName has read it
	}
	q.rel = q.rel[:0]
	for i := range min(len(q.starts)-s.labels, maxRel) {
		from := int(q.starts[i])
		q.rel = append(q.rel, string(q.lower[from+1:from+1+int(q.lower[from])]))
	}
}

// at is when the query came. Reading the clock costs as much as finding the answer,
// and few answers need it.
func (s *Server) at(q *query) time.Time {
	if q.began.IsZero() {
		q.began = s.now()
	}
	return q.began
}

// record is one resource record as it lies in the packet.
type record struct {
	root         bool // owned by the root, written in one byte
	rtype, class uint16
	ttl          uint32
	data         []byte
}

func readRecord(p []byte, off int) (r record, next int, ok bool) {
	if off >= len(p) {
		return r, 0, false
	}
	if r.root = p[off] == 0; r.root {
		off++
	} else {
		if off, ok = skipName(p, off); !ok {
			return r, 0, false
		}
	}
	if off+10 > len(p) {
		return r, 0, false
	}
	r.rtype, r.class = binary.BigEndian.Uint16(p[off:]), binary.BigEndian.Uint16(p[off+2:])
	r.ttl = binary.BigEndian.Uint32(p[off+4:])
	n := int(binary.BigEndian.Uint16(p[off+8:]))
	if off += 10; off+n > len(p) {
		return r, 0, false
	}
	r.data = p[off : off+n]
	return r, off + n, true
}

// skipName passes over an owner that nothing here reads. What a pointer leads to is not
// followed: thousands of them in one packet would cost milliseconds.
func skipName(p []byte, off int) (next int, ok bool) {
	for from := off; off < len(p) && off-from < maxName; {
		switch n := int(p[off]); {
		case n == 0:
			return off + 1, true
		case n >= 0xc0: // it points back (RFC 1035 section 4.1.4)
			return off + 2, off+1 < len(p) && int(binary.BigEndian.Uint16(p[off:])&0x3fff) < from
		case n > 63:
			return 0, false
		default:
			off += 1 + n
		}
	}
	return 0, false
}

// opt reads the OPT record (RFC 6891 section 6.1); unknown options are passed over.
func (q *query) opt(r record) (rcode int) {
	q.edns, q.size = true, r.class
	q.version, q.do, q.co = uint8(r.ttl>>16), r.ttl&(1<<15) != 0, r.ttl&(1<<14) != 0
	if q.version != 0 {
		return dns.RcodeBadVers // of its options nothing is known
	}
	for d := r.data; len(d) > 0; {
		if len(d) < 4 {
			return dns.RcodeFormatError
		}
		code, n := binary.BigEndian.Uint16(d), int(binary.BigEndian.Uint16(d[2:]))
		if len(d) < 4+n {
			return dns.RcodeFormatError
		}
		if !q.option(code, d[4:4+n:4+n]) {
			q.ecs, q.cookie = subnet{}, nil
			return dns.RcodeFormatError
		}
		d = d[4+n:]
	}
	return dns.RcodeSuccess
}

// option takes one option; false: it is malformed.
func (q *query) option(code uint16, b []byte) bool {
	switch code {
	case dns.EDNS0SUBNET:
		return q.ecs.raw == nil && q.ecs.parse(b)
	case dns.EDNS0NSID: // what it holds is of no account (RFC 5001 section 2.2)
		q.nsid = true
	case dns.EDNS0COOKIE:
		if q.cookie != nil { // only the first counts (RFC 7873 section 5.2)
			return true
		}
		q.cookie = b
		return cookie.Valid(len(b))
	case dns.EDNS0TCPKEEPALIVE:
		q.alive = true
	case dns.EDNS0PADDING:
		q.padded = true
	}
	return true
}

// parse is as strict as RFC 7871 sections 6 and 7.2.1 let a server be, so that a
// client with a bug is told and not steered by half an address.
func (e *subnet) parse(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	family, source, scope, octets := binary.BigEndian.Uint16(b), int(b[2]), b[3], b[4:]
	if scope != 0 || len(octets) != (source+7)/8 {
		return false
	}
	var a netip.Addr
	switch {
	case family == 1 && source <= 32:
		var four [4]byte
		copy(four[:], octets)
		a = netip.AddrFrom4(four)
	case family == 2 && source <= 128:
		var six [16]byte
		copy(six[:], octets)
		a = netip.AddrFrom16(six)
	case family == 0 && source == 0:
	default:
		return false
	}
	e.raw = b
	if source == 0 {
		return true
	}
	e.network = netip.PrefixFrom(a, source)
	if e.network.Masked() != e.network {
		return false
	}
	if a.Is4In6() { // then source is at least 96: the bits of ::ffff are set
		e.network, e.mapped = netip.PrefixFrom(a.Unmap(), source-96), true
	}
	return true
}

// clientAddr is an address without its zone, and IPv4 where it is mapped: what a
// dual-stack socket gives.
func clientAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
