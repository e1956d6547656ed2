package geodns

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// quick words by hand what nearly every query asks for: addresses of the name asked,
// over UDP, unsigned, with nothing in the answer that needs thought. ok is false for all else,
// which [Server.pack] words. A fuzz test holds the two equal, byte for byte.
func (s *Server) quick(out, packet []byte, q *query, a *answer, limit int) (b []byte, ok bool) {
	if a.rcode != dns.RcodeSuccess || a.foreign || a.slipped || a.deadEnd || a.ede != nil ||
		len(a.additional) > 0 || len(a.rrs) == 0 || len(q.lower) == 1 || q.co {
		return out, false
	}
	start := len(out)
	b = binary.BigEndian.AppendUint16(out, q.id)
	flags := uint16(0x8400) // QR, AA
	if q.rd {
		flags |= 0x0100
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	extra := uint16(0)
	if q.edns {
		extra = 1
	}
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.rrs)))
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, extra)
	b = append(b, packet[headerLen:q.end]...)
	for _, rr := range a.rrs {
		var data []byte
		switch rr := rr.(type) {
		case *dns.A:
			data = rr.A.To4() // a zone file's has 16 octets
		case *dns.AAAA:
			data = rr.AAAA
		}
		h := rr.Header()
		if data == nil || h.Name != q.name {
			return out, false
		}
		b = append(b, 0xc0, headerLen) // the question's name
		b = binary.BigEndian.AppendUint16(b, h.Rrtype)
		b = binary.BigEndian.AppendUint16(b, h.Class)
		b = binary.BigEndian.AppendUint32(b, h.Ttl)
		b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
		b = append(b, data...)
	}
	if q.edns {
		b = s.quickOPT(b, q, a)
	}
	return b, len(b)-start <= limit
}

// quickOPT is [Server.reply] in the same order, over UDP.
func (s *Server) quickOPT(b []byte, q *query, a *answer) []byte {
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
	option := func(code uint16, data []byte) {
		b = binary.BigEndian.AppendUint16(b, code)
		b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
		b = append(b, data...)
	}
	if q.ecs.raw != nil {
		option(dns.EDNS0SUBNET, q.ecs.raw)
		b[len(b)-len(q.ecs.raw)+3] = byte(a.scope)
	}
	if q.cookie != nil {
		option(dns.EDNS0COOKIE, q.baked[:])
	}
	if q.nsid && s.node != "" {
		b = binary.BigEndian.AppendUint16(b, dns.EDNS0NSID)
		b = binary.BigEndian.AppendUint16(b, uint16(len(s.node)))
		b = append(b, s.node...)
	}
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}
