package nameserver

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/geodns/geo"
	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store"
)

const shippedMap = "../regions.yaml"

// newWorld folds the shipped map and what st says.
func newWorld(t testing.TB, st store.Store, log *slog.Logger) *world.Writer {
	t.Helper()
	b, err := os.ReadFile(shippedMap)
	if err != nil {
		t.Fatal(err)
	}
	m, err := region.Parse(shippedMap, b)
	if err != nil {
		t.Fatal(err)
	}
	w, err := world.New(world.Config{Map: m, Law: residency.Shipped(), Stores: store.Set{"": st}, Health: health.Production(), Log: log,
		ParseKey: func([]byte) (steer.JoinKey, error) { return steer.JoinKey{}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// config is a node's of that world, with the built-in places, on free ports of ip.
func config(t testing.TB, w *world.Writer, st store.Store, ip string, log *slog.Logger) Config {
	t.Helper()
	table, err := geo.Load("", geo.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	return Config{Node: "dns-1", Listen: netip.AddrPortFrom(netip.MustParseAddr(ip), 0), Geo: table, World: w, Store: st,
		Metrics: prometheus.NewRegistry(), Log: log}
}

// run runs f until the test ends, when it must end without an error.
func run(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && err != context.Canceled {
			t.Errorf("run: %v", err)
		}
	})
}

// TestReady: a node of a signed zone is ready once it has both keys and a word of the
// store, and says until then what it waits for.
func TestReady(t *testing.T) {
	st, log := &switched{Store: store.NewMemory()}, slog.New(slog.DiscardHandler)
	st.gone.Store(true)
	w := newWorld(t, st, log)
	c := config(t, w, st, "127.0.0.1", log)
	c.HTTP, c.DNSSEC = "127.0.0.1:0", testSigning()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.Get("http://" + s.web.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	run(t, s.Run)
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || body != "no dnssec keys yet, from the store or from a file\n" {
		t.Errorf("without keys: %d %q", code, body)
	}
	st.gone.Store(false)
	<-s.Ready()
	if s.Anchor() == nil || s.Anchor().Hdr.Name != "media.example." {
		t.Errorf("trust anchor %v", s.Anchor())
	}
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || body != "no word from the store yet, and no last-known-good file\n" {
		t.Errorf("without a word of the store: %d %q", code, body)
	}
	run(t, w.Run)
	<-w.Synced()
	if code, body := get("/readyz"); code != http.StatusOK {
		t.Errorf("%d %q, want ready", code, body)
	}
	for _, path := range []string{"/livez", "/metrics"} {
		if code, body := get(path); code != http.StatusOK || body == "" {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
}

// TestNewClosesWhatItOpened: a node that cannot listen for HTTP leaves its DNS port free.
func TestNewClosesWhatItOpened(t *testing.T) {
	st, log := store.NewMemory(), slog.New(slog.DiscardHandler)
	w := newWorld(t, st, log)
	c := config(t, w, st, "127.0.0.1", log)
	first, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	c.Listen = first.Addr()
	first.Close()
	c.HTTP, c.Metrics = "203.0.113.1:1", prometheus.NewRegistry() // no address of this machine
	if s, err := New(c); err == nil {
		s.Close()
		t.Fatal("listens at an address that is not here")
	}
	c.HTTP, c.Metrics = "", prometheus.NewRegistry()
	again, err := New(c)
	if err != nil {
		t.Fatalf("the port is not free: %v", err)
	}
	again.Close()
}

func TestRegisteredAddress(t *testing.T) {
	one := netip.MustParseAddrPort("192.0.2.53:53")
	if got := registered(one, []netip.Addr{netip.MustParseAddr("192.0.2.1")}); got != one {
		t.Errorf("got %v, want the address that it listens on", got)
	}
	if got := registered(netip.MustParseAddrPort("[::]:53"), nil); !got.IsValid() || got.Addr().IsUnspecified() || got.Port() != 53 {
		t.Errorf("without --ns: got %v", got)
	}
}
