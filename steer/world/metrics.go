package world

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/steer"
)

var (
	appliedRevision = prometheus.NewDesc("bailiwick_world_applied_revision", "The store's revision of the region modes that this node has applied.", []string{"datacenter"}, nil)
	folds           = prometheus.NewDesc("bailiwick_world_folds_total", "Worlds that this node has folded.", nil, nil)
	storeUp         = prometheus.NewDesc("bailiwick_store_up", "1 where this node hears the datacenter's store, 0 where it serves the last known good.", []string{"datacenter"}, nil)
	regionMode      = prometheus.NewDesc("bailiwick_region_mode", "1 for the mode of the region that is in force, 0 for the others.", []string{"region", "mode"}, nil)
	edgeHealth      = prometheus.NewDesc("bailiwick_edge_health", "1 for what this node takes the edge's health for, 0 for the others.", []string{"edge", "region", "health"}, nil)
	answers         = prometheus.NewDesc("bailiwick_world_answers_total", "Worlds among them that decide otherwise than the one before.", nil, nil)
)

// metrics reads the World when it is scraped. Generations of different nodes are not
// comparable; revisions of one datacenter are.
type metrics struct{ *Writer }

// Describe implements prometheus.Collector.
func (m metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{appliedRevision, storeUp, regionMode, edgeHealth, folds, answers} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m metrics) Collect(to chan<- prometheus.Metric) {
	w := m.Current()
	to <- prometheus.MustNewConstMetric(folds, prometheus.CounterValue, float64(w.Generation))
	to <- prometheus.MustNewConstMetric(answers, prometheus.CounterValue, float64(w.Answers))
	for _, name := range slices.Sorted(maps.Keys(m.cfg.Stores)) {
		to <- prometheus.MustNewConstMetric(appliedRevision, prometheus.GaugeValue, float64(w.Applied[name]), name)
		to <- prometheus.MustNewConstMetric(storeUp, prometheus.GaugeValue, one(!w.Away[name]), name)
	}
	for i := range w.Regions {
		r := &w.Regions[i]
		for _, mode := range []steer.Mode{steer.Serving, steer.Draining, steer.Down} {
			to <- prometheus.MustNewConstMetric(regionMode, prometheus.GaugeValue, one(r.Mode == mode), string(r.ID), mode.String())
		}
		for k := range r.Edges {
			for _, h := range []steer.Health{steer.Up, steer.Unhealthy, steer.Unknown} {
				to <- prometheus.MustNewConstMetric(edgeHealth, prometheus.GaugeValue, one(r.Edges[k].Health == h), string(r.Edges[k].ID), string(r.ID), h.String())
			}
		}
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
