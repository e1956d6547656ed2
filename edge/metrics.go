package edge

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/edge/sfu/ladder"
	"bailiwick/edge/signal"
	"bailiwick/region"
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
	inClear        = prometheus.NewDesc("bailiwick_sfu_packets_in_clear_total", "Packets that were not encrypted end to end where they had to be, and went no further.", []string{"edge", "region"}, nil)
	keyframes      = prometheus.NewDesc("bailiwick_sfu_keyframe_requests_total", "Keyframes asked of publishers.", []string{"edge", "region"}, nil)
	streams        = prometheus.NewDesc("bailiwick_sfu_tcp_connections", "TCP connections for media.", []string{"edge", "region"}, nil)
	streamsRefused = prometheus.NewDesc("bailiwick_sfu_tcp_connections_refused_total", "TCP connections for media closed because their source, or everybody together, has its share.", []string{"edge", "region"}, nil)
	allocations    = prometheus.NewDesc("bailiwick_turn_allocations", "TURN allocations in force.", []string{"edge", "region"}, nil)
	egress         = prometheus.NewDesc("bailiwick_edge_egress_bytes_total", "Bytes sent by the SFU, what is relayed among them, with the headers of IP and UDP.", []string{"edge", "region"}, nil)
	budget         = prometheus.NewDesc("bailiwick_edge_egress_budget_bytes_per_second", "What the edge may send by the map; 0: no bound.", []string{"edge", "region"}, nil)
	loadRatio      = prometheus.NewDesc("bailiwick_edge_load_ratio", "Share in use over the last second: of the egress budget, of the cores, of the memory limit.", []string{"edge", "region", "of"}, nil)
	ladderRung     = prometheus.NewDesc("bailiwick_ladder_rung", "How far down the ladder the edge is: 0, all consults have all of their video.", []string{"edge", "region"}, nil)
	ladderConsults = prometheus.NewDesc("bailiwick_ladder_consults", "Consults by what the edge's load leaves them of their video.", []string{"edge", "region", "step", "priority"}, nil)
	ladderSteps    = prometheus.NewDesc("bailiwick_ladder_steps_total", "Steps that consults took, by where to and why.", []string{"edge", "region", "reason", "step", "priority"}, nil)
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
	count(inClear, s.InClear)
	count(egress, s.Sent)
	gauge(streams, s.Streams)
	count(streamsRefused, s.StreamsRefused)
	now, ever, load, rung := c.pressure.counts()
	ratio := func(of string, v float64) {
		to <- prometheus.MustNewConstMetric(loadRatio, prometheus.GaugeValue, v, append(labels[:2:2], of)...)
	}
	gauge(budget, load.Budget/8)
	bound := 0.0
	if load.Budget > 0 {
		bound = float64(load.Egress) / float64(load.Budget)
	}
	ratio("egress", bound)
	ratio("cpu", load.CPU)
	ratio("memory", load.Memory)
	gauge(ladderRung, rung)
	for p := ladder.Education; p <= ladder.Emergency; p++ {
		for s := ladder.Full; s < ladder.Steps; s++ {
			to <- prometheus.MustNewConstMetric(ladderConsults, prometheus.GaugeValue, float64(now[taken{Step: s, Priority: p}]), append(labels[:2:2], s.String(), p.String())...)
		}
	}
	for t, n := range ever {
		count(ladderSteps, n, t.Reason.String(), t.Step.String(), t.Priority.String())
	}
	c.clients.mos.Collect(to)
	c.clients.concealed.Collect(to)
	c.clients.frozen.Collect(to)
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

// clients is what the clients say of what they hear and see, all of them together.
type clients struct {
	mos, concealed prometheus.Histogram
	frozen         prometheus.Counter
}

func newClients(id region.EdgeID, in region.ID) *clients {
	labels := prometheus.Labels{"edge": string(id), "region": string(in)}
	return &clients{
		mos: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bailiwick_client_mos", ConstLabels: labels,
			Help:    "Opinion of the sound of one participant at another (ITU-T G.107), by the other's client, one a report.",
			Buckets: []float64{1.5, 2, 2.58, 3.1, 3.6, 4.03, 4.34}}),
		concealed: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bailiwick_client_concealed_ratio", ConstLabels: labels,
			Help:    "Share of that sound that was made up, one a report.",
			Buckets: []float64{0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5}}),
		frozen: prometheus.NewCounter(prometheus.CounterOpts{Name: "bailiwick_client_freeze_seconds_total", ConstLabels: labels,
			Help: "Seconds that pictures stood, by the clients that show them."}),
	}
}

// add takes one client's report. Of sound that did not come there is no opinion.
func (c *clients) add(played []signal.Played) {
	for _, p := range played {
		if p.MOS > 0 {
			c.mos.Observe(p.MOS)
			c.concealed.Observe(p.Concealed)
		}
		c.frozen.Add(p.Frozen)
	}
}
