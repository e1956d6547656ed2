package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/store"
)

// lossy is a memory store whose watches can be told that it is out of reach: the
// one fault that a memory store cannot have.
type lossy struct {
	*store.Memory
	mu  sync.Mutex
	ups []func(error)
}

func (l *lossy) note(up func(error)) func(error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ups = append(l.ups, up)
	return up
}

func (l *lossy) Watch(ctx context.Context, prefix string, fn func(store.Snapshot), up func(error)) error {
	return l.Memory.Watch(ctx, prefix, fn, l.note(up))
}

func (l *lossy) WatchInstances(ctx context.Context, service string, fn func([]store.Instance), up func(error)) error {
	return l.Memory.WatchInstances(ctx, service, fn, l.note(up))
}

func (l *lossy) reach(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, up := range l.ups {
		up(err)
	}
}

func testMap(ids ...region.ID) *region.Map {
	m := &region.Map{Zone: "media.example", Providers: map[region.ProviderID]*region.Provider{"p": {ID: "p"}}, Tenants: map[string]*residency.Tenant{"default": {}}}
	for _, id := range ids {
		m.Regions = append(m.Regions, region.Region{ID: id, Provider: "p", Place: region.Place{Jurisdiction: "DE"}, Capacity: region.Capacity{Admission: 10}})
	}
	return m
}

type fixture struct {
	*Writer
	st  *lossy
	log *bytes.Buffer
}

// start runs a writer inside a synctest bubble.
func start(t *testing.T, path string, ids ...region.ID) *fixture {
	t.Helper()
	f := &fixture{st: &lossy{Memory: store.NewMemory()}, log: &bytes.Buffer{}}
	var err error
	f.Writer, err = New(Config{Map: testMap(ids...), Law: residency.Shipped(), Stores: store.Set{"": f.st}, Health: health.Production().Scale(250 * time.Millisecond),
		Path: path, ParseKey: func(b []byte) (steer.JoinKey, error) {
			if string(b) == "bad" {
				return steer.JoinKey{}, errors.New("bad key")
			}
			return steer.JoinKey{Public: b}, nil
		}, Log: slog.New(slog.NewTextHandler(f.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
	return f
}

func (f *fixture) register(t *testing.T, id region.EdgeID, reg region.ID) store.Lease {
	t.Helper()
	e := &steer.Edge{ID: id, Host: "http://127.0.0.1:1", Media: netip.MustParseAddrPort("127.0.0.1:2"), Turn: netip.MustParseAddrPort("127.0.0.1:3"),
		Addr4: netip.MustParseAddr("127.0.0.1"), Admits: 10}
	l, err := f.st.Register(t.Context(), Instance(e, reg, netip.MustParseAddrPort("127.0.0.1:1")), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return l
}

func (f *fixture) put(t *testing.T, key, value string) {
	t.Helper()
	if _, err := f.st.Put(t.Context(), key, []byte(value)); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func (f *fixture) mode(id region.ID) steer.Mode {
	w := f.Current()
	return w.Regions[w.RegionIndex(id)].Mode
}

func TestModesAreFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "", "de-fra")
		key := steer.ModeKey("de-fra")
		before := f.Current().Generation
		f.put(t, key, "down")
		if f.mode("de-fra") != steer.Down {
			t.Error("a bare word was not folded")
		}
		if f.Current().Generation <= before || f.Current().Applied[""] == 0 {
			t.Errorf("generation %d, applied %d", f.Current().Generation, f.Current().Applied[""])
		}
		f.put(t, key, "dwon")
		if f.mode("de-fra") != steer.Down {
			t.Error("an unreadable mode must leave the last one known")
		}
		if !strings.Contains(f.log.String(), "mode not readable") {
			t.Error("nobody was told of the unreadable mode")
		}
		rec := steer.ModeRecord{Mode: "draining", ExpiresAt: time.Now().Add(time.Minute)}
		if err := SetMode(t.Context(), f.st, "de-fra", rec); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if f.mode("de-fra") != steer.Draining {
			t.Error("SetMode was not folded")
		}
		time.Sleep(time.Minute + time.Second) // synctest: the bubble's clock
		synctest.Wait()
		if f.mode("de-fra") != steer.Serving {
			t.Error("the mode did not expire")
		}
		if _, err := f.st.Delete(t.Context(), key, 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if f.mode("de-fra") != steer.Serving {
			t.Error("an absent key is serving")
		}
	})
}

func TestSetModeCountsGenerations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "", "de-fra")
		f.put(t, steer.ModeKey("de-fra"), `{"mode":"down","gen":41}`)
		if err := SetMode(t.Context(), f.st, "de-fra", steer.ModeRecord{Mode: "serving"}); err != nil {
			t.Fatal(err)
		}
		e, err := f.st.Get(t.Context(), steer.ModeKey("de-fra"))
		if err != nil {
			t.Fatal(err)
		}
		if rec, err := steer.ParseModeRecord(e.Value); err != nil || rec.Gen != 42 {
			t.Errorf("record %+v, %v: want gen 42", rec, err)
		}
	})
}

func TestEdgesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "", "de-fra", "de-ber")
		l := f.register(t, "de-fra-1", "de-fra")
		r, e := f.Current().Edge("de-fra-1")
		if e == nil || r.ID != "de-fra" || e.Health != steer.Up || e.Admits != 10 {
			t.Fatalf("registered edge is %+v in %v", e, r)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, e := f.Current().Edge("de-fra-1"); e != nil {
			t.Error("a deregistered edge must be gone at once, past any damping")
		}
	})
}

func TestMassDisappearanceIsDoubted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "", "de-fra")
		for i := range 4 {
			f.register(t, region.EdgeID(fmt.Sprintf("de-fra-%d", i)), "de-fra")
		}
		f.heardOf(func() Change { return f.heard.Instances("", nil, time.Now()) })
		if n := len(f.Current().Regions[0].Edges); n != 4 {
			t.Errorf("%d edges left, want all 4 kept until probes agree", n)
		}
		if !strings.Contains(f.log.String(), "vanished") {
			t.Error("nobody was told")
		}
	})
}

func TestOneRegionAtATimeGoesDark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "", "de-ber", "de-fra")
		f.register(t, "de-ber-1", "de-ber")
		f.register(t, "de-fra-1", "de-fra")
		down := func() (n int) {
			for _, r := range f.Current().Regions {
				for _, e := range r.Edges {
					if e.Health == steer.Unhealthy {
						n++
					}
				}
			}
			return n
		}
		// Both leases say no and every probe says no, at one instant.
		f.heardOf(func() Change {
			var list []store.Instance
			for _, in := range f.heard.stores[""].Instances {
				in.Status = store.Critical
				list = append(list, in)
			}
			return f.heard.Instances("", list, time.Now())
		})
		interval := f.cfg.Health.Interval
		var first time.Time
		for range 40 {
			time.Sleep(interval)
			for _, id := range []region.EdgeID{"de-ber-1", "de-fra-1"} {
				f.Observe(health.Observation{Edge: id, Vantage: "probe", At: time.Now()})
			}
			synctest.Wait()
			switch n := down(); {
			case n > 0 && first.IsZero():
				if n != 1 {
					t.Fatalf("%d regions went dark at once", n)
				}
				first = time.Now()
			case n == 2:
				// The first was seen up to an interval after it fell.
				if gap := time.Since(first); gap < 11*interval {
					t.Fatalf("the second region followed after %v, want %v", gap, 12*interval)
				}
				return
			}
		}
		t.Fatalf("%d regions dark at the end, want both", down())
	})
}

func TestLosingTheStoreChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "n.json")
		f := start(t, path, "de-fra")
		f.register(t, "de-fra-1", "de-fra")
		f.put(t, steer.ModeKey("de-fra"), "draining")
		f.put(t, "bailiwick/keys/k1", "public")
		f.st.reach(errors.New("connection refused"))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		w := f.Current()
		if w.StoreUp {
			t.Error("the world does not say that the store is out of reach")
		}
		if _, e := w.Edge("de-fra-1"); e == nil || e.Health == steer.Unhealthy {
			t.Errorf("edge %+v after two hours without the store", e)
		}
		if f.mode("de-fra") != steer.Draining || len(w.Keys) != 1 {
			t.Errorf("mode %v, keys %v", f.mode("de-fra"), w.Keys)
		}
		f.st.reach(nil)
		synctest.Wait()
		if !f.Current().StoreUp {
			t.Error("the store is back, the world does not say so")
		}

		// A cold start without any store.
		cold, err := New(Config{Map: testMap("de-fra"), Law: residency.Shipped(), Stores: store.Set{"": store.NewMemory()}, Health: health.Production(),
			Path: path, ParseKey: func(b []byte) (steer.JoinKey, error) { return steer.JoinKey{Public: b}, nil }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-cold.Synced():
		default:
			t.Error("a last-known-good file is a word to serve")
		}
		w = cold.Current()
		if _, e := w.Edge("de-fra-1"); e == nil {
			t.Error("the edge was lost over the cold start")
		}
		if w.Regions[0].Mode != steer.Draining || string(w.Keys["k1"].Public) != "public" {
			t.Errorf("mode %v, keys %v after the cold start", w.Regions[0].Mode, w.Keys)
		}
	})
}

func TestBrokenLastKnownGoodIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.json")
	for name, text := range map[string]string{"not json": "{", "another version": `{"Version":9}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := New(Config{Map: testMap(), Law: residency.Shipped(), Path: path, Health: health.Production()})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove the file") {
			t.Errorf("%s: error %v does not name the file and the way out", name, err)
		}
	}
}

func TestPapersExpireOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "", "de-fra")
		end := time.Now().Add(10 * time.Second)
		m := testMap("de-fra")
		m.Providers["p"].BAA = &region.BAA{Record: residency.Record{ID: "B", Date: time.Now().Add(-time.Hour), Expires: end}}
		f.SetMap(m)
		hop := f.Current().Regions[0].Hop
		if !hop.Provider.Has("baa", f.Current().At) {
			t.Fatal("the agreement does not hold before its end")
		}
		time.Sleep(10*time.Second + f.cfg.Health.Interval)
		synctest.Wait()
		if w := f.Current(); w.Regions[0].Hop.Provider.Has("baa", w.At) {
			t.Errorf("the world of %s still has the agreement that ended %s", w.At, end)
		}
	})
}

func TestLawFlagsComeFromTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "", "us-iad")
		f.cfg.Map.Regions[0].Place.Jurisdiction = "US"
		hop := residency.Hop{At: "US", Provider: residency.Facts{"importer_is_DPF_certified": {Date: time.Unix(1, 0)}}}
		s := &residency.Subject{Participants: []residency.Jurisdiction{"IT"}, Operator: residency.Facts{"art28_dpa": {Date: time.Unix(1, 0)}},
			Tenant: &residency.Tenant{ProductDefaultOff: map[residency.Jurisdiction]residency.Record{"IT": {Date: time.Unix(1, 0)}}}}
		if v := f.Current().Law.Permits(residency.Media, &hop, s, time.Now()); v.Permitted() {
			t.Error("permitted without the flag")
		}
		f.put(t, "bailiwick/law/dpf_valid", "true")
		if v := f.Current().Law.Permits(residency.Media, &hop, s, time.Now()); !v.Permitted() {
			t.Errorf("with the flag: %s", v.Reason())
		}
		f.put(t, "bailiwick/law/dpf_valid", "maybe")
		if v := f.Current().Law.Permits(residency.Media, &hop, s, time.Now()); v.Permitted() {
			t.Error("an unreadable flag must fail closed")
		}
	})
}

func TestInstanceIsReadBack(t *testing.T) {
	plain := steer.Edge{ID: "e", Addr4: netip.MustParseAddr("192.0.2.1"), Host: "http://x", Media: netip.MustParseAddrPort("192.0.2.1:2"), Turn: netip.MustParseAddrPort("192.0.2.1:3"), Admits: 4, Load: steer.Load{Consults: 1, Parked: 2}}
	secure := plain
	secure.Host, secure.Turns = "https://x", netip.MustParseAddrPort("192.0.2.1:5349")
	pressed := plain
	pressed.Load = steer.Load{Consults: 9, Egress: 104, Sheds: 3, Spent: true}
	for name, want := range map[string]steer.Edge{"plain": plain, "TLS": secure, "under pressure": pressed} {
		reg, got, err := ParseInstance(Instance(&want, "r", netip.AddrPort{}))
		if err != nil || reg != "r" || got != want {
			t.Errorf("%s: got %s %+v, %v; want %+v", name, reg, got, err, want)
		}
	}
}

func TestParseInstanceRefusesNonsense(t *testing.T) {
	good := Instance(&steer.Edge{ID: "e", Host: "http://x", Media: netip.MustParseAddrPort("127.0.0.1:2"), Turn: netip.MustParseAddrPort("127.0.0.1:3")}, "r", netip.AddrPort{})
	if _, _, err := ParseInstance(good); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{"media": "x", "turn": "", "turns": "x", "seats": "-1", "used": "many", "parked": "-1", "egress": "-1", "sheds": "all", "spent": "yes", "addr4": "here", "host": "", "region": ""} {
		bad := Instance(&steer.Edge{ID: "e", Host: "http://x", Media: netip.MustParseAddrPort("127.0.0.1:2"), Turn: netip.MustParseAddrPort("127.0.0.1:3")}, "r", netip.AddrPort{})
		bad.Meta[key] = value
		if _, _, err := ParseInstance(bad); err == nil {
			t.Errorf("meta %s=%q was accepted", key, value)
		}
	}
	// What no DNS record can hold would be SERVFAIL for every client of the region.
	for _, c := range []struct{ id, field, value string }{
		{"e", "addr4", "2001:db8::1"}, {"e", "addr4", "::ffff:192.0.2.1"}, {"e", "addr6", "192.0.2.1"},
		{"e", "addr6", "::ffff:192.0.2.1"}, {"e", "addr6", "fe80::1%eth0"},
		{strings.Repeat("a", 64), "", ""}, {"a.b", "", ""}, {"a..b", "", ""}, {"E", "", ""}, {"", "", ""},
	} {
		bad := good
		bad.ID, bad.Meta = c.id, maps.Clone(good.Meta)
		if c.field != "" {
			bad.Meta[c.field] = c.value
		}
		if _, _, err := ParseInstance(bad); err == nil {
			t.Errorf("ID %q with meta %s=%q was accepted", c.id, c.field, c.value)
		}
	}
}
