package edge

import (
	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/consult"
)

// Evidence is the deployment's Record until it keeps a log: it counts decisions.
type Evidence struct{ decisions *prometheus.CounterVec }

// NewEvidence registers its counter.
func NewEvidence(to prometheus.Registerer) (*Evidence, error) {
	e := &Evidence{prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bailiwick_decisions_total",
		Help: "Decisions about consults: what was done, and why."}, []string{"did", "reason"})}
	return e, to.Register(e.decisions)
}

// Record implements consult.Record.
func (e *Evidence) Record(d consult.Evidence) {
	e.decisions.WithLabelValues(string(d.Did), d.Reason).Inc()
}
