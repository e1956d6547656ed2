package acme

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	failures prometheus.Counter
}

// newMetrics registers what alerts stand on. not_after is 0 without a certificate,
// so that "less than a week left" holds then, too; overdue rises from the moment at
// which a renewal should have happened and did not.
func newMetrics(k *Keeper, reg prometheus.Registerer) (*metrics, error) {
	region := prometheus.Labels{"region": k.region}
	m := &metrics{failures: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "bailiwick_certificate_renewal_failures_total", ConstLabels: region,
		Help: "Attempts to obtain or renew the certificate that failed.",
	})}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.failures,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "bailiwick_certificate_not_after_timestamp_seconds", ConstLabels: region,
			Help: "When the certificate served expires; 0 without one.",
		}, func() float64 {
			if c := k.current.Load(); c != nil {
				return float64(c.leaf.NotAfter.Unix())
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "bailiwick_certificate_renewal_overdue_seconds", ConstLabels: region,
			Help: "How long the certificate should have been renewed; 0 before that.",
		}, func() float64 { return max(0, time.Since(*k.due.Load()).Seconds()) }),
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
