package edge

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/consult"
)

// Evidence is the deployment's Record until it keeps a log of its own: it counts decisions
// and tells the process's log of them, and of no person.
type Evidence struct {
	decisions *prometheus.CounterVec
	log       *slog.Logger
}

// NewEvidence registers its counter.
func NewEvidence(to prometheus.Registerer, log *slog.Logger) (*Evidence, error) {
	e := &Evidence{log: log, decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bailiwick_decisions_total",
		Help: "Decisions about consults: what was done, and why."}, []string{"did", "reason"})}
	return e, to.Register(e.decisions)
}

// Record implements consult.Record. Admissions are counted alone: they are what is usual.
func (e *Evidence) Record(d consult.Evidence) {
	e.decisions.WithLabelValues(string(d.Did), d.Reason).Inc()
	switch {
	case d.Did == consult.Withdrawn && !d.Until.IsZero():
		e.log.Warn("the law leaves a running consult no place: it ends", "consult", d.Consult, "at", d.Until, "edge", d.By, "reason", d.Reason, "citation", d.Verdict.Citation(), "store", d.Store)
	case d.Did == consult.Withdrawn:
		e.log.Info("the law leaves a running consult a place again: it goes on", "consult", d.Consult, "edge", d.By, "store", d.Store)
	case d.Did != consult.Admitted:
		e.log.Info("decision", "did", d.Did, "consult", d.Consult, "epoch", d.Epoch, "to", d.Edge, "from", d.From, "reason", d.Reason, "by", d.By, "store", d.Store)
	}
}
