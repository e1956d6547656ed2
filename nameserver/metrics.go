package nameserver

import (
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/geodns/dnssec"
)

// keyStates are the label values of bailiwick_dnssec_keys.
var keyStates = []dnssec.State{dnssec.Signing, dnssec.Published, dnssec.Ready, dnssec.Active, dnssec.Retired}

// metrics is what a node says of its keys.
type metrics struct {
	keys     *prometheus.GaugeVec
	findings prometheus.Gauge
}

// register makes the metrics of k; served is when the first of the signatures in
// answers ends, zero when none was served.
func (k *keeper) register(reg prometheus.Registerer, served func(now time.Time) time.Time) error {
	m := &metrics{
		keys: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "bailiwick_dnssec_keys",
			Help: "Keys of the zone by where they are in their life."}, []string{"state"}),
		findings: prometheus.NewGauge(prometheus.GaugeOpts{Name: "bailiwick_dnssec_findings",
			Help: "What is wrong with keys, clock, store and parent; the log names it. 0 is well."}),
	}
	m.observe(k.set, 0)
	expires := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "bailiwick_dnssec_signature_expires_timestamp_seconds",
		Help: "When the first of the signatures in answers of the last hours ends, Unix time; 0 without keys."},
		func() float64 {
			now, _ := k.clock()
			t := k.expires(now)
			if s := served(now); !s.IsZero() && s.Before(t) {
				t = s
			}
			if t.IsZero() {
				return 0
			}
			return float64(t.Unix())
		})
	for _, c := range []prometheus.Collector{m.keys, m.findings, expires} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	k.metrics = m
	return nil
}

// expires is the end of the signatures of the key records, which every node serves.
func (k *keeper) expires(now time.Time) (first time.Time) {
	s := k.signer.Load()
	if s == nil {
		return time.Time{}
	}
	for _, set := range s.Apex {
		sigs, _, err := s.Sign(set, now)
		if err != nil {
			continue
		}
		for _, rr := range sigs {
			// Serial arithmetic (RFC 4034 section 3.1.5).
			left := int32(rr.(*dns.RRSIG).Expiration - uint32(now.Unix()))
			if at := now.Add(time.Duration(left) * time.Second); first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	return first
}

func (m *metrics) observe(set dnssec.Set, findings int) {
	if m == nil {
		return
	}
	n := map[dnssec.State]int{}
	for _, k := range set.Keys {
		n[k.State]++
	}
	for _, s := range keyStates {
		m.keys.WithLabelValues(string(s)).Set(float64(n[s]))
	}
	m.findings.Set(float64(findings))
}
