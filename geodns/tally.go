package geodns

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/region"
	"bailiwick/steer"
)

// regional counts answers by the region that they named. Regions come and go with the
// map, so it is a collector of its own: a query adds to a number that it finds by the
// region's index, and a new map is met by the first query that is answered with it.
// A region that has left the map keeps its series, which would lose counts if it came
// back; how many there are is in the operator's hand.
type regional struct {
	desc *prometheus.Desc
	none *tally // answers that named no region
	now  atomic.Pointer[tallies]

	mu   sync.Mutex
	byID map[region.ID]*tally
}

// tallies are the regions of one map, by their index. They are immutable.
type tallies struct {
	of      *region.Map
	regions []*tally
}

// tally is the answers that named one region, by the kind of name that was asked.
type tally struct{ counts [len(names)]atomic.Uint64 }

func newRegional() *regional {
	return &regional{desc: prometheus.NewDesc("bailiwick_dns_steered_total",
		"Answers by the kind of name that was asked and the region that the answer named.", []string{"name", "region"}, nil),
		none: &tally{}, byID: map[region.ID]*tally{}}
}

// count counts an answer of v that named a region, 1 + its index, or none for 0.
func (s *regional) count(v *view, n nameKind, region int) {
	if region == 0 {
		s.none.counts[n].Add(1)
		return
	}
	t := s.now.Load()
	if t == nil || t.of != v.world.Map {
		t = s.meet(v.world)
	}
	t.regions[region-1].counts[n].Add(1)
}

// meet finds the numbers of a World's regions. Worlds of one map have the same.
func (s *regional) meet(w *steer.World) *tallies {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &tallies{of: w.Map}
	for i := range w.Regions {
		id := w.Regions[i].ID
		if s.byID[id] == nil {
			s.byID[id] = &tally{}
		}
		t.regions = append(t.regions, s.byID[id])
	}
	s.now.Store(t)
	return t
}

// Describe implements [prometheus.Collector].
func (s *regional) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }

// Collect implements [prometheus.Collector].
func (s *regional) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.none.collect(ch, s.desc, "none", nameOther)
	for id, t := range s.byID {
		t.collect(ch, s.desc, string(id), nameRelay)
	}
}

// collect gives the kinds up to always, and others once they have counted.
func (t *tally) collect(ch chan<- prometheus.Metric, desc *prometheus.Desc, region string, always nameKind) {
	for n := range t.counts {
		if v := t.counts[n].Load(); v > 0 || nameKind(n) <= always {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), names[n], region)
		}
	}
}
