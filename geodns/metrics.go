package geodns

import (
	"sync/atomic"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/geodns/geo"
)

// The label values, closed: a stranger's query makes no new time series. The last
// of each list stands for all others.
var (
	transports = [...]string{overUDP: "udp", overTCP: "tcp"}
	types      = [...]string{"A", "AAAA", "TXT", "SOA", "NS", "HTTPS", "SRV", "ANY", "other"}
	rcodes     = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "BADVERS", "BADCOOKIE"}
)

// limits are what rate limiting does to an answer.
var limits = [...]string{limitSlipped: "slipped", limitDropped: "dropped"}

const (
	limitSlipped = iota
	limitDropped
)

// metrics are resolved once: a query touches no map of labels.
type metrics struct {
	queries  [len(transports)][len(types)][len(rcodes)]prometheus.Counter
	seconds  [len(transports)]prometheus.Observer
	dropped  [len(transports)]prometheus.Counter
	limited  [len(limits)]prometheus.Counter
	panics   prometheus.Counter
	panicked atomic.Uint64 // the same, to be read
}

func newMetrics(reg prometheus.Registerer, table func() *geo.Table) (*metrics, error) {
	queries := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bailiwick_dns_queries_total",
		Help: "DNS queries answered."}, []string{"type", "rcode", "transport"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "bailiwick_dns_query_duration_seconds",
		Help:    "Time from a query read to its answer worded, without the sockets; over UDP of the queries whose ID is a multiple of 64.",
		Buckets: prometheus.ExponentialBuckets(5e-6, 2, 12)}, []string{"transport"})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bailiwick_dns_dropped_total",
		Help: "Packets that are no query, and TCP connections over the limit."}, []string{"transport"})
	limited := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bailiwick_dns_limited_total",
		Help: "UDP answers withheld by rate limiting: slipped (TC or BADCOOKIE in their place), or dropped."}, []string{"action"})
	m := &metrics{panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "bailiwick_dns_panics_total",
		Help: "Queries answered SERVFAIL because of a bug. Always 0."})}
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
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{queries, seconds, dropped, limited, m.panics, built} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// timed tells whether a query's duration is observed: a query over UDP costs so little
// that to time it would be a good part of it.
func timed(via transport, id uint16) bool { return via != overUDP || id%64 == 0 }

func (m *metrics) observe(via transport, q *query, rcode int) {
	m.queries[via][typeLabel(q)][rcodeLabel(rcode)].Inc()
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
