package world

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	appliedRevision = prometheus.NewDesc("bailiwick_world_applied_revision", "The store's revision of the region modes that this node has applied.", []string{"datacenter"}, nil)
	folds           = prometheus.NewDesc("bailiwick_world_folds_total", "Worlds that this node has folded.", nil, nil)
	answers         = prometheus.NewDesc("bailiwick_world_answers_total", "Worlds among them that decide otherwise than the one before.", nil, nil)
)

// metrics reads the World when it is scraped. Generations of different nodes are not
// comparable; revisions of one datacenter are.
type metrics struct{ *Writer }

// Describe implements prometheus.Collector.
func (m metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{appliedRevision, folds, answers} {
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
	}
}
