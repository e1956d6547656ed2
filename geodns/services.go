package geodns

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"bailiwick/steer"
)

// kind is what a name that steers is asked about.
type kind int

const (
	host    kind = iota // the name itself
	between             // _udp or _tcp below it: an empty non-terminal
	relay               // the TURN relay, STUN too: SRV
	turns               // the TURN relay over TLS: SRV
)

// service splits the service labels (RFC 2782) off a name.
func service(rel []string) (kind, []string) {
	if len(rel) == 0 {
		return host, rel
	}
	if rel[0] == "_udp" || rel[0] == "_tcp" {
		return between, rel[1:]
	}
	if len(rel) >= 2 {
		switch rel[0] + "." + rel[1] {
		case "_turn._udp", "_stun._udp":
			return relay, rel[2:]
		case "_turns._tcp":
			return turns, rel[2:]
		}
	}
	return host, rel
}

// steers tells whether records of the type are the decision's.
func (k kind) steers(qtype uint16) bool {
	switch k {
	case host:
		return qtype == dns.TypeA || qtype == dns.TypeAAAA || qtype == dns.TypeHTTPS
	case relay, turns:
		return qtype == dns.TypeSRV
	}
	return false
}

// unsteered is the answer of a name that steers to any other type.
func unsteered(q *query, k kind) answer {
	if k == host && q.qtype == dns.TypeNAPTR {
		return static(q, naptr(q.view.world, q.name))
	}
	if k == between || k == turns && !anyTurns(q.view.world) {
		return answer{} // of no type, ANY too
	}
	return static(q, nil)
}

// naptr leads a TURN client to the SRV records (RFC 5928 section 3), UDP first.
func naptr(w *steer.World, owner string) []dns.RR {
	to := func(preference uint16, service, name string) dns.RR {
		return &dns.NAPTR{Hdr: header(owner, dns.TypeNAPTR, ttlStatic), Order: 100, Preference: preference, Flags: "s",
			Service: service, Replacement: name + owner}
	}
	list := []dns.RR{to(10, "RELAY:turn.udp", "_turn._udp.")}
	if anyTurns(w) {
		list = append(list, to(20, "RELAY:turn.tls", "_turns._tcp."))
	}
	return list
}

// need is what an edge must have for a record of it.
type need int

const (
	addr4 need = iota
	addr6
	itsTurn
	itsTurns
	https
	needs // how many there are
)

// needs is what records of a type that steers are made of.
func (k kind) needs(qtype uint16) need {
	switch {
	case k == relay:
		return itsTurn
	case k == turns:
		return itsTurns
	case qtype == dns.TypeA:
		return addr4
	case qtype == dns.TypeAAAA:
		return addr6
	}
	return https
}

// offers is what an edge has.
func offers(e *steer.Edge) [needs]bool {
	return [needs]bool{addr4: e.Addr4.IsValid(), addr6: e.Addr6.IsValid(), itsTurn: e.Turn.IsValid(), itsTurns: e.Turns.IsValid(),
		https: strings.HasPrefix(e.Host, "https:")}
}

// anyOffers tells whether there is an edge that has it.
func anyOffers(w *steer.World, n need) bool {
	for i := range w.Regions {
		for k := range w.Regions[i].Edges {
			if offers(&w.Regions[i].Edges[k])[n] {
				return true
			}
		}
	}
	return false
}

// anyTurns tells whether an edge speaks TURN over TLS.
func anyTurns(w *steer.World) bool { return anyOffers(w, itsTurns) }

// offer appends the edge's record of the type that is asked for, where it has one.
func (s *Server) offer(q *query, e *steer.Edge, a *answer) {
	switch q.qtype {
	case dns.TypeA:
		a.rrs = append(a.rrs, addresses(q.name, ttl, q.qtype, e.Addr4)...)
	case dns.TypeAAAA:
		a.rrs = append(a.rrs, addresses(q.name, ttl, q.qtype, e.Addr6)...)
	case dns.TypeSRV:
		at := e.Turn
		if k, _ := service(q.rel); k == turns {
			at = e.Turns
		}
		if !at.IsValid() {
			return
		}
		target := s.edgeName(e)
		a.rrs = append(a.rrs, &dns.SRV{Hdr: header(q.name, dns.TypeSRV, ttl), Priority: uint16(len(a.rrs)), Port: at.Port(), Target: target})
		a.additional = append(a.additional, addresses(target, ttl, dns.TypeA, e.Addr4)...)
		a.additional = append(a.additional, addresses(target, ttl, dns.TypeAAAA, e.Addr6)...)
	case dns.TypeHTTPS:
		if params := binding(e); params != nil {
			target := s.edgeName(e)
			if dns.CanonicalName(q.name) == target {
				target = "." // the owner (RFC 9460 section 2.5.2)
			}
			a.rrs = append(a.rrs, &dns.HTTPS{SVCB: dns.SVCB{Hdr: header(q.name, dns.TypeHTTPS, ttl),
				Priority: uint16(len(a.rrs) + 1), Target: target, Value: params}})
		}
	}
}

// binding is where an edge's HTTPS is, in the order of the keys (RFC 9460 section
// 2.2); nil for an edge without TLS: the record would make a browser insist on it
// (section 9.5). The hints are the target's addresses, so nothing is additional.
func binding(e *steer.Edge) []dns.SVCBKeyValue {
	u, err := url.Parse(e.Host)
	if err != nil || u.Scheme != "https" {
		return nil
	}
	params := []dns.SVCBKeyValue{&dns.SVCBAlpn{Alpn: []string{"h2", "http/1.1"}}}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil && port != 443 {
		params = append(params, &dns.SVCBPort{Port: uint16(port)})
	}
	if e.Addr4.IsValid() {
		params = append(params, &dns.SVCBIPv4Hint{Hint: []net.IP{e.Addr4.AsSlice()}})
	}
	if e.Addr6.IsValid() {
		params = append(params, &dns.SVCBIPv6Hint{Hint: []net.IP{e.Addr6.AsSlice()}})
	}
	return params
}

func (s *Server) edgeName(e *steer.Edge) string { return string(e.ID) + ".edge." + s.apex }
