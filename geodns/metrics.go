package geodns

import (
	"sync/atomic"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/geodns/cookie"
	"bailiwick/geodns/geo"
)

// The label values, closed: a stranger's query makes no new time series. The last
// of each list stands for all others.
var (
	transports = [...]string{overUDP: "udp", overTCP: "tcp", overTLS: "tls"}
	types      = [...]string{"A", "AAAA", "TXT", "SOA", "NS", "HTTPS", "SRV", "ANY", "other"}
	names      = [...]string{nameJoin: "join", namePinned: "pinned", nameEdge: "edge", nameRelay: "relay", nameApex: "apex", nameStatic: "static", nameWhy: "why", nameACME: "acme", nameOther: "other"}
	cookies    = [...]string{cookieNone: "none", cookieClient: "client", cookieValid: "valid", cookieInvalid: "invalid"}
	rcodes     = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "BADVERS", "BADCOOKIE"}
)

// limits are what rate limiting does to an answer.
var limits = [...]string{limitSlipped: "slipped", limitDropped: "dropped"}

const (
	limitSlipped = iota
	limitDropped
)

// nameKind is what a query's name is in the zone.
type nameKind uint8

const (
	nameJoin nameKind = iota
	namePinned
	nameEdge
	nameRelay
	nameApex
	nameStatic // of the zone file, and ns1
	nameWhy
	nameACME
	nameOther
)

// cookieState is what a query's DNS cookie is worth.
type cookieState uint8

const (
	cookieNone    cookieState = iota
	cookieClient              // the client's half alone
	cookieValid               // with a server's half of ours
	cookieInvalid             // or of nobody's
)

// timed is one query of how many that is timed: the clock and the histogram cost
// more than all the rest that is counted of a query. The query's ID chooses, which
// its client drew at random and says nothing of what is asked.
const timed = 64

// metrics are resolved once: a query touches no map of labels.
type metrics struct {
	queries    [len(transports)][len(types)][len(rcodes)]prometheus.Counter
	seconds    [len(transports)]prometheus.Observer
	dropped    [len(transports)]prometheus.Counter
	limited    [len(limits)]prometheus.Counter
	cookies    [len(cookies)]prometheus.Counter
	ecs        prometheus.Counter
	truncated  prometheus.Counter
	handshakes prometheus.Counter
	unlogged   prometheus.Counter
	views      prometheus.Counter
	panics     prometheus.Counter
	panicked   atomic.Uint64 // the same, to be read
	regional   *regional
}

func newMetrics(reg prometheus.Registerer, table func() *geo.Table) (*metrics, error) {
	var all []prometheus.Collector
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		all = append(all, v)
		return v
	}
	count := func(name, help string) prometheus.Counter { return vec(name, help).WithLabelValues() }
	queries := vec("bailiwick_dns_queries_total", "DNS queries answered.", "type", "rcode", "transport")
	dropped := vec("bailiwick_dns_dropped_total", "Packets that are no query, and connections over the limit.", "transport")
	limited := vec("bailiwick_dns_limited_total", "UDP answers withheld by rate limiting: slipped (TC or BADCOOKIE in their place), or dropped.", "action")
	shown := vec("bailiwick_dns_cookies_total", "Queries with a DNS cookie: the client's alone, a valid one of ours, or an invalid one.", "cookie")
	m := &metrics{
		ecs:        count("bailiwick_dns_ecs_total", "Queries answered that had a client subnet (ECS)."),
		truncated:  count("bailiwick_dns_truncated_total", "UDP answers cut, with TC."),
		handshakes: count("bailiwick_dns_tls_handshake_failures_total", "TLS handshakes that failed."),
		unlogged:   count("bailiwick_dns_query_log_dropped_total", "Sampled queries that are not in the query log: it could not be written as fast."),
		views:      count("bailiwick_dns_views_total", "Times that the answers worked out so far were dropped: a World decides otherwise, or the geo database, the zone file or keys are others."),
		panics:     count("bailiwick_dns_panics_total", "Queries answered SERVFAIL because of a bug. Always 0."),
		regional:   newRegional(),
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "bailiwick_dns_query_duration_seconds",
		Help:    "Time from a query read to its answer worded, without the sockets; of one query in 64, by its ID.",
		Buckets: prometheus.ExponentialBuckets(1e-6, 2, 14)}, []string{"transport"})
	built := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "bailiwick_geo_build_timestamp_seconds",
		Help: "When the geo database in use was made, Unix time; 0 without a database."}, func() float64 {
		if t := table().Built(); !t.IsZero() {
			return float64(t.Unix())
		}
		return 0
	})
	for i, via := range transports {
		for k, t := range types {
			for l, rcode := range rcodes {
				m.queries[i][k][l] = queries.WithLabelValues(t, rcode, via)
			}
		}
		m.seconds[i], m.dropped[i] = seconds.WithLabelValues(via), dropped.WithLabelValues(via)
	}
	for i, action := range limits {
		m.limited[i] = limited.WithLabelValues(action)
	}
	for i := cookieClient; int(i) < len(cookies); i++ {
		m.cookies[i] = shown.WithLabelValues(cookies[i])
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range append(all, seconds, built, m.regional) {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// observed is what is counted of an answer that was given.
type observed struct {
	rcode  int
	kind   nameKind
	region int // that it named, 1 + its index in the World; 0: none
	scope  int
}

// count counts one answer. response is all of it.
func (m *metrics) count(q *query, o *observed, response []byte) {
	m.queries[q.via][typeLabel(q)][rcodeLabel(o.rcode)].Inc()
	m.regional.count(q.view, o.kind, o.region)
	if q.ecs.raw != nil {
		m.ecs.Inc()
	}
	if q.cookie != nil {
		m.cookies[q.shown()].Inc()
	}
	if response[2]&tcBit != 0 {
		m.truncated.Inc()
	}
}

// tcBit is in the third octet of a header (RFC 1035 section 4.1.1).
const tcBit = 0x02

// kindOf is what the name is; one that does not exist is other, unless its labels
// are this server's own.
func (q *query) kindOf(exists bool) nameKind {
	rel := q.rel
	switch {
	case !q.asked || !q.inZone:
		return nameOther
	case len(rel) == 0:
		return nameApex
	case rel[0] == "_acme-challenge" && (exists || len(rel) == 1):
		return nameACME
	case len(rel) == 1 && rel[0] == "join":
		return nameJoin
	case len(rel) == 2 && rel[0] == "_why" && rel[1] == "join":
		return nameWhy
	case !exists:
		return nameOther
	case rel[0] == "_udp", rel[0] == "_tcp", len(rel) > 1 && (rel[1] == "_udp" || rel[1] == "_tcp"):
		return nameRelay
	case len(rel) == 2 && rel[1] == "join":
		return namePinned
	case len(rel) == 2 && rel[1] == "edge":
		return nameEdge
	}
	return nameStatic
}

func (q *query) shown() cookieState {
	switch {
	case q.cookie == nil:
		return cookieNone
	case q.verified:
		return cookieValid
	case len(q.cookie) == cookie.Client:
		return cookieClient
	}
	return cookieInvalid
}

func typeLabel(q *query) int {
	if q.asked {
		switch q.qtype {
		case dns.TypeA:
			return 0
		case dns.TypeAAAA:
			return 1
		case dns.TypeTXT:
			return 2
		case dns.TypeSOA:
			return 3
		case dns.TypeNS:
			return 4
		case dns.TypeHTTPS:
			return 5
		case dns.TypeSRV:
			return 6
		case dns.TypeANY:
			return 7
		}
	}
	return len(types) - 1
}

func rcodeLabel(rcode int) int {
	switch rcode {
	case dns.RcodeBadVers:
		return len(rcodes) - 2
	case dns.RcodeBadCookie:
		return len(rcodes) - 1
	}
	return rcode // this server gives none but those of RFC 1035
}
