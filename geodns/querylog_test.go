package geodns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// logLines answers queries and gives what the log then says.
func logLines(t *testing.T, s *Server, out *bytes.Buffer) []string {
	t.Helper()
	close(s.queryLog.lines)
	s.queryLog.run(s.apex)
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

func TestQueryLog(t *testing.T) {
	var out bytes.Buffer
	s := listen(t, withRecords(t, zoneFile), func(c *Config) { c.QueryLog, c.QueryLogRate = &out, 100 })
	s.now = func() time.Time { return now }
	s.acme = func(name string) []string {
		if name == "_acme-challenge.de-fra.edge.media.example." {
			return []string{"value"}
		}
		return nil
	}
	s.queryLog.began = now
	_, k := keys(t, false)
	s.SetSigner(k)
	const secret = "anna-mueller"
	rows := []struct {
		name  string
		query string
		qtype uint16
		alter []func(*dns.Msg)
		src   string
		via   transport
		want  string // after the time
	}{
		{"steered", "Join.media.example.", dns.TypeA, nil, "192.0.2.5", overUDP,
			`"name":"join.media.example.","kind":"join","type":"A","transport":"udp","rcode":"NOERROR","client":"192.0.2.0/24","region":"de-ber","do":false,"cookie":"none"}`},
		{"ECS is cut to /24", "join.media.example.", dns.TypeA, []func(*dns.Msg){ecs("192.0.2.70/32"), do}, "198.51.100.77", overTCP,
			`"name":"join.media.example.","kind":"join","type":"A","transport":"tcp","rcode":"NOERROR","client":"198.51.100.0/24","ecs":"192.0.2.0/24","ecs_source":32,"ecs_scope":27,"region":"fr-par","do":true,"cookie":"none"}`},
		{"ECS of IPv6 is cut to /48", "join.media.example.", dns.TypeAAAA, []func(*dns.Msg){ecs("2001:db8:1000:1:2::/80")}, "2001:db8:7:8:9::1", overTLS,
			`"name":"join.media.example.","kind":"join","type":"AAAA","transport":"tls","rcode":"NOERROR","client":"2001:db8:7::/48","ecs":"2001:db8:1000::/48","ecs_source":80,"ecs_scope":40,"region":"ca-yul","do":false,"cookie":"none"}`},
		{"a shorter ECS stays as it is", "join.media.example.", dns.TypeA, []func(*dns.Msg){ecs("192.0.0.0/16")}, berlin, overUDP,
			`"ecs":"192.0.0.0/16","ecs_source":16,`},
		{"ECS of length 0", "join.media.example.", dns.TypeA, []func(*dns.Msg){ecs("0.0.0.0/0")}, berlin, overUDP,
			`"ecs_source":0,"ecs_scope":0,"region":"de-ber"`},
		{"mapped IPv4", "join.media.example.", dns.TypeA, nil, "::ffff:192.0.2.5", overUDP, `"client":"192.0.2.0/24"`},
		{"a country's name", "de.join.media.example.", dns.TypeA, nil, berlin, overUDP, `"name":"de.join.media.example.","kind":"pinned"`},
		{"of a stranger's making", secret + ".join.media.example.", dns.TypeA, nil, berlin, overUDP, `"name":"*.media.example.","kind":"other","type":"A","transport":"udp","rcode":"NXDOMAIN"`},
		{"the same, denied compactly", secret + ".media.example.", dns.TypeA, []func(*dns.Msg){do}, berlin, overUDP, `"name":"*.media.example.","kind":"other","type":"A","transport":"udp","rcode":"NOERROR"`},
		{"below a wildcard", secret + ".apps.media.example.", dns.TypeA, nil, berlin, overUDP, `"name":"*.media.example.","kind":"static"`},
		{"of a challenge", "_acme-challenge.de-fra.edge.media.example.", dns.TypeTXT, nil, berlin, overUDP, `"name":"_acme-challenge.de-fra.edge.media.example.","kind":"acme"`},
		{"of none", "_acme-challenge." + secret + ".media.example.", dns.TypeTXT, nil, berlin, overUDP, `"name":"*.media.example.","kind":"other","type":"TXT","transport":"udp","rcode":"NXDOMAIN"`},
		{"no edge's", secret + ".edge.media.example.", dns.TypeA, nil, berlin, overUDP, `"name":"*.media.example.","kind":"other"`},
		{"elsewhere", secret + ".example.org.", dns.TypeA, nil, berlin, overUDP, `","kind":"other","type":"A","transport":"udp","rcode":"REFUSED"`},
		{"of the zone file", "mail.media.example.", dns.TypeA, nil, berlin, overUDP, `"name":"mail.media.example.","kind":"static"`},
		{"no lawful edge", "join.media.example.", dns.TypeA, nil, dubai, overUDP, `"rcode":"NOERROR","client":"203.0.113.0/24","do":`},
		{"a type without a name", "media.example.", 4711, nil, berlin, overUDP, `"kind":"apex","type":"TYPE4711"`},
		{"a cookie", "media.example.", dns.TypeSOA, []func(*dns.Msg){option(dns.EDNS0COOKIE, make([]byte, 8)...)}, berlin, overUDP, `"cookie":"client"`},
		{"a bad cookie", "media.example.", dns.TypeSOA, []func(*dns.Msg){option(dns.EDNS0COOKIE, make([]byte, 24)...)}, berlin, overUDP, `"cookie":"invalid"`},
		{"EDNS version 1", secret + ".media.example.", dns.TypeA, []func(*dns.Msg){func(m *dns.Msg) { m.IsEdns0().SetVersion(1) }}, berlin, overUDP, `"name":"*.media.example.","kind":"other","type":"A","transport":"udp","rcode":"BADVERS"`},
	}
	for _, r := range rows {
		exchange(t, s, pack(t, ask(r.query, r.qtype, r.alter...)), r.src, r.via)
	}
	lines := logLines(t, s, &out)
	if len(lines) != len(rows) {
		t.Fatalf("%d lines, want %d", len(lines), len(rows))
	}
	for i, r := range rows {
		if !json.Valid([]byte(lines[i])) || !strings.HasPrefix(lines[i], `{"time":"2026-11-24T12:00:00.000Z","`) || !strings.Contains(lines[i], r.want) {
			t.Errorf("%s: got\n%s, want\n%s", r.name, lines[i], r.want)
		}
	}
	if strings.Contains(out.String(), secret) {
		t.Errorf("a stranger's name was written:\n%s", out.String())
	}
}

func TestQueryLogRate(t *testing.T) {
	began := now
	l := newQueryLog(&bytes.Buffer{}, 10, began, slog.New(slog.DiscardHandler), prometheus.NewCounter(prometheus.CounterOpts{}))
	taken := 0
	for i := range 10_000 { // ten seconds of a flood, evenly
		if l.take(began.Add(time.Duration(i) * time.Millisecond)) {
			taken++
		}
	}
	if taken < 100 || taken > 110 { // a burst of ten, then ten a second
		t.Errorf("took %d of ten seconds at 10 a second", taken)
	}
	if newQueryLog(nil, 10, began, nil, nil).take(began) {
		t.Error("no log took a query")
	}
}

// blocked is a disk that hangs until it is let go, or fails.
type blocked struct {
	entered chan struct{}
	gate    chan struct{}
	once    sync.Once
	err     error
}

func (b *blocked) Write(p []byte) (int, error) {
	b.once.Do(func() { close(b.entered) })
	<-b.gate
	return len(p), b.err
}

// TestQueryLogDropsCounted: a log that hangs holds up no answer, and says what it lost.
func TestQueryLogDropsCounted(t *testing.T) {
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	w := &blocked{entered: make(chan struct{}), gate: make(chan struct{}), err: errors.New("no space left")}
	s := listen(t, func(c *Config) {
		c.QueryLog, c.QueryLogRate, c.Registry, c.Log = w, 1_000_000, reg, slog.New(slog.NewTextHandler(&log, nil))
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	q := pack(t, ask("join.media.example.", dns.TypeA))
	ask := func() { s.respond(nil, q, netip.MustParseAddr(berlin), overUDP) }
	ask()
	<-w.entered // the writer hangs now
	for range queryLogWait + 7 {
		ask()
	}
	if got := counter(t, reg, "bailiwick_dns_query_log_dropped_total", nil); got != 7 {
		t.Errorf("hanging: counted %v dropped, want 7", got)
	}
	close(w.gate)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	if n := strings.Count(log.String(), "query log not written"); n != 1 {
		t.Errorf("told %d times, want once:\n%s", n, log.String())
	}
}

// stuck is a pipe that nobody reads.
type stuck struct{ entered, free chan struct{} }

func (s *stuck) Write(b []byte) (int, error) {
	s.entered <- struct{}{}
	<-s.free
	return len(b), nil
}

// TestQueryLogStuck: a writer that never returns does not keep the server from ending.
func TestQueryLogStuck(t *testing.T) {
	w := &stuck{make(chan struct{}, 1), make(chan struct{})}
	defer close(w.free)
	s := listen(t, func(c *Config) { c.QueryLog, c.QueryLogRate = w, 100 })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	q := new(dns.Msg).SetQuestion("join.media.example.", dns.TypeA)
	if _, err := dns.Exchange(q, s.Addr().String()); err != nil {
		t.Fatal(err)
	}
	<-w.entered
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Serve waits for a write that does not return")
	}
}
