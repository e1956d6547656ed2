package geodns

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/steer"
)

func TestNoWorld(t *testing.T) {
	s := listen(t, world(nil))
	m := exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA)), berlin, overUDP)
	if code, _ := edeOf(m); m.Rcode != dns.RcodeServerFailure || code != int(dns.ExtendedErrorCodeNotReady) {
		t.Errorf("got %v, want SERVFAIL, EDE 14", m)
	}
}

func TestPanicIsAnsweredAndCounted(t *testing.T) {
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	s := listen(t, func(c *Config) {
		c.World = func() *steer.World { panic("a bug") }
		c.Registry, c.Log = reg, slog.New(slog.NewTextHandler(&log, nil))
	})
	q := ask("Join.media.example.", dns.TypeA)
	q.RecursionDesired = true
	for range 5 {
		m := exchange(t, s, pack(t, q), berlin, overUDP)
		if m.Rcode != dns.RcodeServerFailure || m.Id != q.Id || !m.RecursionDesired || len(m.Question) != 1 || m.Question[0] != q.Question[0] {
			t.Fatalf("got %v, want SERVFAIL with the question", m)
		}
	}
	if got := counter(t, reg, "bailiwick_dns_panics_total", nil); got != 5 {
		t.Errorf("counted %v, want 5", got)
	}
	if n := strings.Count(log.String(), "dns query panicked"); n != 3 { // the 1st, 2nd and 4th
		t.Errorf("logged %d times, want 3", n)
	}
	if strings.Contains(log.String(), berlin) {
		t.Errorf("a client's address is in the log: %s", log.String())
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := listen(t, func(c *Config) { c.Registry = reg })
	sampled := func(m *dns.Msg) { m.Id = 3 * timed }
	not := func(m *dns.Msg) { m.Id = 3*timed + 1 }
	exchange(t, s, pack(t, ask("join.media.example.", dns.TypeA, sampled)), berlin, overUDP)
	exchange(t, s, pack(t, ask("x.media.example.", 4711, not)), berlin, overTCP)
	exchange(t, s, raw(0, 1, 0, 0, 1, joinA, "00 0029 04d0 00010000 0000"), berlin, overUDP)
	exchange(t, s, raw(15<<11, 0, 0, 0, 0), berlin, overUDP)
	exchange(t, s, nil, berlin, overUDP)
	for _, r := range []struct {
		metric string
		labels map[string]string
		want   float64
	}{
		{"bailiwick_dns_queries_total", map[string]string{"type": "A", "rcode": "NOERROR", "transport": "udp"}, 1},
		{"bailiwick_dns_queries_total", map[string]string{"type": "other", "rcode": "NXDOMAIN", "transport": "tcp"}, 1},
		{"bailiwick_dns_queries_total", map[string]string{"type": "A", "rcode": "BADVERS", "transport": "udp"}, 1},
		{"bailiwick_dns_queries_total", map[string]string{"type": "other", "rcode": "NOTIMP", "transport": "udp"}, 1},
		{"bailiwick_dns_dropped_total", map[string]string{"transport": "udp"}, 1},
		{"bailiwick_dns_query_duration_seconds", map[string]string{"transport": "udp"}, 1},
		{"bailiwick_dns_query_duration_seconds", map[string]string{"transport": "tcp"}, 0},
		{"bailiwick_geo_build_timestamp_seconds", nil, 0},
	} {
		if got := counter(t, reg, r.metric, r.labels); got != r.want {
			t.Errorf("%s%v: got %v, want %v", r.metric, r.labels, got, r.want)
		}
	}
	if _, err := Listen(Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Zone: zone, World: s.world, Geo: table(t), Registry: reg}); err == nil {
		t.Error("metrics registered twice: got no error")
	}
}

// counter is the value of one series: a histogram's is its count.
func counter(t *testing.T, reg *prometheus.Registry, name string, labels map[string]string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			matched := 0
			for _, l := range m.GetLabel() {
				if labels[l.GetName()] == l.GetValue() {
					matched++
				}
			}
			if f.GetName() == name && matched == len(labels) && matched == len(m.GetLabel()) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	t.Errorf("no series %s%v", name, labels)
	return -1
}

func TestListenFaults(t *testing.T) {
	busy := listen(t)
	good := Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Zone: zone, World: busy.world, Geo: table(t)}
	for _, r := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no zone", func(c *Config) { c.Zone = "" }, `dns: zone "": want a domain name such as media.example`},
		{"the root", func(c *Config) { c.Zone = "." }, `dns: zone "."`},
		{"no name", func(c *Config) { c.Zone = "a..b" }, `dns: zone "a..b"`},
		{"a long label", func(c *Config) { c.Zone = strings.Repeat("a", 64) + ".example" }, "dns: zone"},
		{"no world", func(c *Config) { c.World = nil }, "no world or no geo table"},
		{"no geography", func(c *Config) { c.Geo = nil }, "no world or no geo table"},
		{"a wildcard without name servers", func(c *Config) { c.Addr = netip.MustParseAddrPort("0.0.0.0:0") }, "dns: the address of ns1.media.example is not known"},
		{"a busy port", func(c *Config) { c.Addr = busy.Addr() }, fmt.Sprintf("dns %s: listen tcp", busy.Addr())},
	} {
		c := good
		r.change(&c)
		if _, err := Listen(c); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: got %v, want %s", r.name, err, r.want)
		}
	}
}
