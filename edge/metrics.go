package edge

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/turn"
	"bailiwick/webhook"
)

var (
	consultsActive = prometheus.NewDesc("bailiwick_edge_consults", "Consults on the edge.", []string{"edge", "region"}, nil)
	roomsParked    = prometheus.NewDesc("bailiwick_edge_rooms_parked", "Consults that only wait on the edge for a failover.", []string{"edge", "region"}, nil)
	withdrawn      = prometheus.NewDesc("bailiwick_edge_consults_withdrawn", "Consults that the law has left no place, and that end when their countdown is over.", []string{"edge", "region"}, nil)
	connections    = prometheus.NewDesc("bailiwick_edge_connections", "HTTP connections, WebSockets among them.", []string{"edge", "region"}, nil)
	turnedAway     = prometheus.NewDesc("bailiwick_edge_connections_refused_total", "HTTP connections closed because their source, or everybody together, has its share.", []string{"edge", "region"}, nil)
	participants   = prometheus.NewDesc("bailiwick_edge_participants", "Participants seated on the edge.", []string{"edge", "region"}, nil)
	packetsIn      = prometheus.NewDesc("bailiwick_sfu_packets_received_total", "RTP packets received from publishers.", []string{"edge", "region"}, nil)
	packetsOut     = prometheus.NewDesc("bailiwick_sfu_packets_forwarded_total", "RTP packets forwarded to subscribers.", []string{"edge", "region"}, nil)
	retransmitted  = prometheus.NewDesc("bailiwick_sfu_packets_retransmitted_total", "RTP packets sent again after a NACK.", []string{"edge", "region"}, nil)
	unauthentic    = prometheus.NewDesc("bailiwick_sfu_packets_unauthentic_total", "Packets from a participant's address that failed SRTP's check, or were replayed.", []string{"edge", "region"}, nil)
	blocked        = prometheus.NewDesc("bailiwick_sfu_packets_blocked_total", "Packets kept from being encrypted twice under one key. Any is a fault of this program.", []string{"edge", "region"}, nil)
	keyframes      = prometheus.NewDesc("bailiwick_sfu_keyframe_requests_total", "Keyframes asked of publishers.", []string{"edge", "region"}, nil)
	allocations    = prometheus.NewDesc("bailiwick_turn_allocations", "TURN allocations in force.", []string{"edge", "region"}, nil)
	joinRefusals   = prometheus.NewDesc("bailiwick_join_refusals_total", "Joins refused, by the code that the client was given.", []string{"edge", "region", "code"}, nil)
	hookEvents     = prometheus.NewDesc("bailiwick_webhook_events_total", "Events for tenants' backends that are done with, by what became of them.", []string{"edge", "region", "event", "outcome"}, nil)
	hookFailures   = prometheus.NewDesc("bailiwick_webhook_failures_total", "Tries to deliver an event that failed.", []string{"edge", "region", "reason"}, nil)
	hooksQueued    = prometheus.NewDesc("bailiwick_webhook_queued", "Events that wait for a tenant's backend.", []string{"edge", "region"}, nil)
	hooksUndurable = prometheus.NewDesc("bailiwick_webhook_journal_failures_total", "Writes of events to the disk that failed: they wait in memory alone.", []string{"edge", "region"}, nil)
	turnRefusals   = prometheus.NewDesc("bailiwick_turn_refusals_total", "TURN requests refused.", []string{"edge", "region", "reason"}, nil)
)

// collector reads an edge's counters when they are scraped.
type collector struct{ *Edge }

// Describe sends nothing: several edges of one process share these descriptions.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	labels := []string{string(c.cfg.ID), string(c.cfg.Region)}
	gauge := func(d *prometheus.Desc, v int) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count := func(d *prometheus.Desc, v uint64, more ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append(labels[:2:2], more...)...)
	}
	seated := 0
	for _, r := range c.sfu.Rooms() {
		seated += r.Participants
	}
	active, parked := c.rooms.count()
	gauge(consultsActive, active)
	gauge(roomsParked, parked)
	gauge(participants, seated)
	open, _ := c.crowd.Count()
	gauge(connections, open)
	count(turnedAway, c.crowd.Refused())
	gauge(withdrawn, int(c.rooms.withdrawn.Load()))
	s := c.sfu.Stats()
	count(packetsIn, s.PacketsIn)
	count(packetsOut, s.PacketsOut)
	count(retransmitted, s.Retransmitted)
	count(keyframes, s.KeyframeRequests)
	count(unauthentic, s.Unauthentic)
	count(blocked, s.Blocked)
	for code, n := range c.refusals.counts() {
		count(joinRefusals, n, code)
	}
	relayed, refused := 0, [turn.Reasons]uint64{}
	for _, r := range c.turns {
		t := r.Stats()
		relayed += t.Allocations
		for reason, n := range t.Refused {
			refused[reason] += n
		}
	}
	if q := c.cfg.Webhooks; q != nil {
		s := q.Stats()
		gauge(hooksQueued, s.Queued)
		count(hooksUndurable, s.Undurable)
		for reason, n := range s.Failures {
			count(hookFailures, n, webhook.Failure(reason).String())
		}
		for event, all := range s.Events {
			for outcome, n := range all {
				count(hookEvents, n, string(event), webhook.Outcome(outcome).String())
			}
		}
	}
	gauge(allocations, relayed)
	for reason, n := range refused {
		count(turnRefusals, n, turn.Reason(reason).String())
	}
}

// refusals counts refused joins by code; the codes are a closed list (package problem).
type refusals struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (r *refusals) add(code string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n = map[string]uint64{}
	}
	r.n[code]++
}

func (r *refusals) counts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.n)
}
