package geodns

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/region"
)

const (
	// queryLogWait is how many sampled queries may wait to be written.
	queryLogWait = 1024
	// queryLogWrite is how many octets go to the writer at once, about.
	queryLogWrite = 32 << 10
	// queryLogPatience is how long the end of a server waits for what is still to be written.
	queryLogPatience = 2 * time.Second
	// No longer network of a client is ever written, its own or its ECS option's.
	logged4, logged6 = 24, 48
)

// queryLog is a sample of the queries, as JSON lines: at most so many a second, and
// evenly of a flood. A network is no client, and a name is written only where its
// labels are of the zone: what strangers, and patients' devices, make up is not.
// Writing is off the query's way; what cannot be written as fast is counted.
type queryLog struct {
	w        io.Writer
	began    time.Time
	interval int64        // ns between lines
	full     atomic.Int64 // ns since began at which a second's worth may be taken again
	lines    chan logged
	log      *slog.Logger
	unlogged prometheus.Counter
}

// logged is one answered query, small and without pointers into the packet.
type logged struct {
	at     time.Time
	kind   nameKind
	inZone bool
	name   [255]byte // as in a packet, in lower case
	length int       // of it; 0: not to be written
	qtype  uint16
	asked  bool
	via    transport
	rcode  int
	client netip.Prefix
	ecs    netip.Prefix // no longer than is logged; invalid: source 0
	source int          // -1: no ECS
	scope  int
	region region.ID
	do     bool
	cookie cookieState
}

// newQueryLog writes to w at most rate lines a second, with bursts of as many; nil
// without one.
func newQueryLog(w io.Writer, rate int, began time.Time, log *slog.Logger, unlogged prometheus.Counter) *queryLog {
	if w == nil || rate <= 0 {
		return nil
	}
	return &queryLog{w: w, began: began, interval: max(int64(time.Second)/int64(rate), 1), lines: make(chan logged, queryLogWait), log: log, unlogged: unlogged}
}

// take tells whether a query is in the sample (the generic cell rate algorithm, as in
// [limiter]). Most are not, at the cost of one load.
func (l *queryLog) take(now time.Time) bool {
	if l == nil {
		return false
	}
	at := int64(now.Sub(l.began))
	for {
		old := l.full.Load()
		full := max(at, old) + l.interval
		if full > at+max(l.interval, int64(time.Second)) {
			return false
		}
		if l.full.CompareAndSwap(old, full) {
			return true
		}
	}
}

// put queues a query; where there is no room it is lost and counted.
func (l *queryLog) put(q *query, o *observed, at time.Time) {
	e := logged{at: at, kind: o.kind, inZone: q.asked && q.inZone, qtype: q.qtype, asked: q.asked, via: q.via, rcode: o.rcode,
		client: loggable(netip.PrefixFrom(q.client, q.client.BitLen())), source: -1, do: q.do, cookie: q.shown()}
	if e.inZone && e.kind != nameOther && !q.wild {
		e.length = copy(e.name[:], q.lower)
	}
	if q.ecs.raw != nil {
		e.source, e.scope = int(q.ecs.raw[2]), o.scope
		if q.ecs.network.IsValid() {
			e.ecs = loggable(q.ecs.network)
		}
	}
	if o.region > 0 {
		e.region = q.view.world.Regions[o.region-1].ID
	}
	select {
	case l.lines <- e:
	default:
		l.unlogged.Inc()
	}
}

// loggable is what may be written of a network.
func loggable(p netip.Prefix) netip.Prefix {
	most := logged6
	if p.Addr().Is4() {
		most = logged4
	}
	p, _ = p.Addr().Prefix(min(p.Bits(), most)) // of a valid one never fails
	return p
}

// run writes until the lines are closed. A writer that fails is told of once until it
// works again, and its lines count as dropped.
func (l *queryLog) run(zone string) {
	var text []byte
	pending, failed := 0, false
	for e := range l.lines {
		b, err := json.Marshal(e.line(zone))
		if err != nil {
			panic(err) // strings and numbers
		}
		text = append(append(text, b...), '\n')
		if pending++; len(l.lines) > 0 && len(text) < queryLogWrite {
			continue
		}
		if _, err = l.w.Write(text); err != nil {
			l.unlogged.Add(float64(pending))
			if !failed {
				l.log.Error("query log not written: queries are answered all the same", "err", err)
			}
		}
		failed, text, pending = err != nil, text[:0], 0
	}
}

// queryLine is one line of the log; docs/protocol.md has the fields.
type queryLine struct {
	Time      string `json:"time"`
	Name      string `json:"name,omitempty"`
	Kind      string `json:"kind"`
	Type      string `json:"type,omitempty"`
	Transport string `json:"transport"`
	Rcode     string `json:"rcode"`
	Client    string `json:"client"`
	ECS       string `json:"ecs,omitempty"`
	ECSSource *int   `json:"ecs_source,omitempty"`
	ECSScope  *int   `json:"ecs_scope,omitempty"`
	Region    string `json:"region,omitempty"`
	DO        bool   `json:"do"`
	Cookie    string `json:"cookie"`
}

func (e *logged) line(zone string) queryLine {
	line := queryLine{Time: e.at.UTC().Format("2006-01-02T15:04:05.000Z"), Kind: names[e.kind], Transport: transports[e.via],
		Rcode: rcodes[rcodeLabel(e.rcode)], Client: e.client.String(), Region: string(e.region), DO: e.do, Cookie: cookies[e.cookie]}
	if e.asked {
		line.Type = dns.Type(e.qtype).String()
	}
	switch {
	case e.length > 0:
		if name, _, err := dns.UnpackDomainName(e.name[:e.length], 0); err == nil {
			line.Name = name
		}
	case e.inZone:
		line.Name = "*." + zone
	}
	if e.source >= 0 {
		line.ECSSource, line.ECSScope = &e.source, &e.scope
		if e.ecs.IsValid() {
			line.ECS = e.ecs.String()
		}
	}
	return line
}
