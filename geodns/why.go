package geodns

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"bailiwick/steer"
)

const (
	maxString = 255     // RFC 1035 section 3.3
	maxWhy    = 1 << 15 // bytes of one _why answer; further rejections are left out
)

// whyJoin is _why.join.ZONE: the decision behind join.ZONE in words, one fact a
// string, for operators. Whoever may ask may ask for another network by ECS.
func (s *Server) whyJoin(q *query) answer {
	if !s.mayAsk(q.client) {
		return refuse(dns.ExtendedErrorCodeProhibited, "")
	}
	if q.qtype != dns.TypeTXT {
		return static(q, nil)
	}
	r := s.rankings.Get().(*ranking)
	defer s.rankings.Put(r)
	n := q.view.locate(q)
	r.from(q.view, &n)
	steer.Rank(q.view.world, &r.c, &r.d)
	// No TTL: it is asked to see what is true now.
	txt := &dns.TXT{Hdr: header(q.name, dns.TypeTXT, 0), Txt: words(r.network, steer.Explain(&r.d))}
	return answer{rrs: []dns.RR{txt}, scope: n.scope, long: true}
}

func (s *Server) mayAsk(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	for _, p := range s.why {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// words are the strings of one explanation. They are one record, for a set of
// records has no order.
func words(network netip.Prefix, x steer.Explanation) (list []string) {
	size := 0
	say := func(key, value string) {
		text := escape(cut(key+"="+value, maxString))
		if size += len(text) + 1; size <= maxWhy {
			list = append(list, text)
		}
	}
	say("generation", strconv.FormatUint(x.Generation, 10))
	say("prefix", network.String())
	for _, j := range x.Jurisdictions {
		if j == "" {
			j = "unknown"
		}
		say("jurisdiction", j)
	}
	if x.Hint != "" {
		say("hint", x.Hint)
	}
	if x.Choice != nil {
		say("choice", x.Choice.Region+"/"+x.Choice.Edge)
		say("by", x.Choice.By)
	}
	if x.Refused != "" {
		say("refused", x.Refused)
	}
	for _, c := range x.Citation {
		say("citation", c)
	}
	for _, r := range x.Regions {
		if r.Code != "" {
			say("reject", r.Region+" "+r.Code)
		}
	}
	return list
}

// escape writes text so that the library packs it byte for byte: it reads a
// backslash as the start of an escape.
func escape(s string) string { return strings.ReplaceAll(s, `\`, `\\`) }
