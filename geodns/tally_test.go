package geodns

import (
	"io"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/region"
	"bailiwick/steer"
)

func TestSteeredMetric(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := listen(t, withRecords(t, zoneFile), func(c *Config) { c.Registry = reg })
	_, k := keys(t, false)
	s.SetSigner(k)
	for _, r := range []struct {
		query        string
		qtype        uint16
		src          string
		alter        func(*dns.Msg)
		name, region string
	}{
		{"join.media.example.", dns.TypeA, berlin, nil, "join", "de-ber"},
		{"JOIN.media.example.", dns.TypeHTTPS, "192.0.2.33", do, "join", "de-fra"},
		{"join.media.example.", dns.TypeA, dubai, nil, "join", "none"},
		{"join.media.example.", dns.TypeMX, berlin, nil, "join", "none"},
		{"fr.join.media.example.", dns.TypeA, berlin, nil, "pinned", "fr-par"},
		{"fr.join.media.example.", dns.TypeAAAA, berlin, nil, "pinned", "none"}, // its edges have none
		{"zz.join.media.example.", dns.TypeA, berlin, do, "other", "none"},      // NOERROR by RFC 9824
		{"us-iad-2.edge.media.example.", dns.TypeA, berlin, nil, "edge", "us-iad"},
		{"us-iad-9.edge.media.example.", dns.TypeA, berlin, nil, "other", "none"},
		{"_turn._udp.gb.join.media.example.", dns.TypeSRV, berlin, nil, "relay", "gb-lon"},
		{"media.example.", dns.TypeSOA, berlin, nil, "apex", "none"},
		{"mail.media.example.", dns.TypeA, berlin, nil, "static", "none"},
		{"alias.media.example.", dns.TypeA, berlin, nil, "static", "de-ber"}, // CNAME to join
		{"_why.join.media.example.", dns.TypeTXT, berlin, nil, "why", "none"},
		{"_acme-challenge.media.example.", dns.TypeTXT, berlin, nil, "acme", "none"},
		{"example.org.", dns.TypeA, berlin, nil, "other", "none"},
	} {
		labels := map[string]string{"name": r.name, "region": r.region}
		read := func() float64 {
			all, _ := reg.Gather()
			for _, f := range all {
				for _, m := range f.GetMetric() {
					if l := m.GetLabel(); f.GetName() == "bailiwick_dns_steered_total" && l[0].GetValue() == r.name && l[1].GetValue() == r.region {
						return m.GetCounter().GetValue()
					}
				}
			}
			return 0
		}
		before := read()
		q := ask(r.query, r.qtype)
		if r.alter != nil {
			r.alter(q)
		}
		exchange(t, s, pack(t, q), r.src, overUDP)
		if after := read(); after != before+1 {
			t.Errorf("%s %s from %s: %v counts %v, want %v", r.query, dns.Type(r.qtype), r.src, labels, after, before+1)
		}
	}
}

// TestRegionsComeAndGo: a reload that reorders regions moves no count to another, and
// no count is lost while queries run.
func TestRegionsComeAndGo(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newRegional()
	reg.MustRegister(r)
	of := func(ids ...string) *view {
		m := &region.Map{Regions: make([]region.Region, len(ids))}
		w := &steer.World{Map: m}
		for i, id := range ids {
			m.Regions[i].ID = region.ID(id)
			w.Regions = append(w.Regions, steer.Region{Region: &m.Regions[i]})
		}
		return &view{world: w}
	}
	views := []*view{of("a", "b"), of("b", "c", "a"), of("c")}
	const n = 3000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range n {
				v := views[i%len(views)]
				for k := range v.world.Regions {
					r.count(v, nameJoin, k+1)
				}
			}
		})
	}
	wg.Wait()
	for id, want := range map[string]float64{"a": 4 * n * 2 / 3, "b": 4 * n * 2 / 3, "c": 4 * n * 2 / 3} {
		if got := counter(t, reg, "bailiwick_dns_steered_total", map[string]string{"name": "join", "region": id}); got != want {
			t.Errorf("%s: counted %v, want %v", id, got, want)
		}
	}
}

func TestFeatureMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := listen(t, withRecords(t, zoneFile), func(c *Config) { c.Registry = reg })
	client := option(dns.EDNS0COOKIE, make([]byte, 8)...)
	m := exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA, client)), berlin, overUDP)
	valid := func(q *dns.Msg) { q.IsEdns0().Option = append(q.IsEdns0().Option, m.IsEdns0().Option...) }
	exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA, valid)), berlin, overUDP)
	exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA, option(dns.EDNS0COOKIE, make([]byte, 24)...), ecs("192.0.2.0/24"))), berlin, overUDP)
	exchange(t, s, pack(t, ask("big.media.example.", dns.TypeTXT)), berlin, overUDP)
	exchange(t, s, pack(t, ask("big.media.example.", dns.TypeTXT)), berlin, overTCP)
	for _, r := range []struct {
		metric string
		labels map[string]string
	}{
		{"bailiwick_dns_cookies_total", map[string]string{"cookie": "client"}},
		{"bailiwick_dns_cookies_total", map[string]string{"cookie": "valid"}},
		{"bailiwick_dns_cookies_total", map[string]string{"cookie": "invalid"}},
		{"bailiwick_dns_ecs_total", nil},
		{"bailiwick_dns_truncated_total", nil},
	} {
		if got := counter(t, reg, r.metric, r.labels); got != 1 {
			t.Errorf("%s%v: got %v, want 1", r.metric, r.labels, got)
		}
	}
}

// BenchmarkObserve is what counting one query costs, and what timing it would.
func BenchmarkObserve(b *testing.B) {
	s := listen(b)
	packet := pack(b, ask("join.media.example.", dns.TypeA, ecs("192.0.2.0/27")))
	q := newQuery()
	s.open(q, packet, netip.MustParseAddr(berlin), overUDP)
	response := s.respond(nil, packet, netip.MustParseAddr(berlin), overUDP)
	o := observed{kind: nameJoin, region: 4}
	b.Run("count", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			s.metrics.count(q, &o, response)
		}
	})
	b.Run("count, on every core", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				s.metrics.count(q, &o, response)
			}
		})
	})
	b.Run("clock", func(b *testing.B) {
		for range b.N {
			s.now()
		}
	})
	b.Run("histogram", func(b *testing.B) {
		began := s.now()
		for range b.N {
			s.metrics.seconds[overUDP].Observe(s.now().Sub(began).Seconds())
		}
	})
	b.Run("histogram, on every core", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			began := s.now()
			for pb.Next() {
				s.metrics.seconds[overUDP].Observe(s.now().Sub(began).Seconds())
			}
		})
	})
	b.Run("query log, not taken", func(b *testing.B) {
		l := newQueryLog(io.Discard, 1, s.now(), s.log, s.metrics.unlogged)
		at := s.now()
		for l.take(at) {
		}
		b.ResetTimer()
		for range b.N {
			l.take(at)
		}
	})
}
