package world

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/store"
)

// instance is an edge as it registers, with a load.
func instance(id region.EdgeID, reg region.ID, consults int) store.Instance {
	e := &steer.Edge{ID: id, Host: "http://127.0.0.1:1", Media: netip.MustParseAddrPort("127.0.0.1:2"), Turn: netip.MustParseAddrPort("127.0.0.1:3"),
		Addr4: netip.MustParseAddr("127.0.0.1"), Admits: 1000, Load: steer.Load{Consults: consults}}
	return Instance(e, reg, netip.MustParseAddrPort("127.0.0.1:1"))
}

// A hundred edges tell a new load each 5 s: at most four Worlds a second, none where no
// tenth changed, and what people see is what the edges say.
func TestLoadIsFoldedAsDecisionsSeeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "", "de-fra")
		const edges = 100
		var leases []store.Lease
		for i := range edges {
			l, err := f.st.Register(t.Context(), instance(region.EdgeID(fmt.Sprintf("de-fra-%d", i)), "de-fra", 0), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			leases = append(leases, l)
		}
		time.Sleep(time.Minute)
		tell := func(i, consults int) {
			if err := leases[i].Update(t.Context(), instance(region.EdgeID(fmt.Sprintf("de-fra-%d", i)), "de-fra", consults)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		minute := func(load func(round, i int) int) (folds, answers uint64) {
			before := f.Current()
			for round := range 12 {
				for i := range edges {
					tell(i, load(round, i))
					time.Sleep(5 * time.Second / edges)
				}
			}
			synctest.Wait()
			return f.Current().Generation - before.Generation, f.Current().Answers - before.Answers
		}
		// Within their tenth: no fold but that which bounds the age of a World.
		folds, answers := minute(func(round, i int) int { return 1 + round + i%80 })
		if folds > 2 || answers != 0 {
			t.Errorf("%d folds, %d of other answers, for loads that no decision sees", folds, answers)
		}
		tell(70, 99)
		if _, e := f.Current().Edge("de-fra-70"); e.Load.Consults == 99 || f.Load("de-fra-70").Consults != 99 {
			t.Errorf("load %d in the world, %d to be seen, want 99 to be seen alone", e.Load.Consults, f.Load("de-fra-70").Consults)
		}
		// Another tenth each: four a second at most, and each is seen in the end.
		folds, answers = minute(func(round, i int) int { return 100 * ((round + i) % 10) })
		if folds > 4*60+1 || answers < 3*60 {
			t.Errorf("%d folds, %d of other answers, in a minute of 20 changes a second", folds, answers)
		}
		t.Logf("%d folds in a minute of 20 changes a second", folds)
		time.Sleep(loadEvery)
		synctest.Wait()
		for i := range edges {
			if _, e := f.Current().Edge(region.EdgeID(fmt.Sprintf("de-fra-%d", i))); e.Load.Consults != 100*((11+i)%10) {
				t.Fatalf("edge %d has load %d in the world at the end", i, e.Load.Consults)
			}
		}
		// An operator's word waits for nothing.
		tell(0, 500)
		f.put(t, steer.ModeKey("de-fra"), "down")
		if f.mode("de-fra") != steer.Down {
			t.Error("a mode waits for the next fold of a load")
		}
	})
}

// Modes that are deleted, or not written at all, never take back what was applied, nor does
// a revision alone make a World: it is told once a minute.
func TestAppliedOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "", "de-fra")
		reg := prometheus.NewRegistry()
		reg.MustRegister(metrics{f.Writer})
		f.put(t, steer.ModeKey("de-fra"), "down")
		e, err := f.st.Get(t.Context(), steer.ModeKey("de-fra"))
		if err != nil || f.Current().Applied[""] != e.Rev {
			t.Errorf("applied %v, want %d (%v)", f.Current().Applied, e.Rev, err)
		}
		f.put(t, "another/key", "x")
		rev, err := f.st.Delete(t.Context(), steer.ModeKey("de-fra"), 0)
		synctest.Wait()
		if err != nil || f.Current().Applied[""] != rev || f.mode("de-fra") != steer.Serving {
			t.Errorf("applied %v after the key was deleted at %d (%v)", f.Current().Applied, rev, err)
		}
		if got := Applied(f.Current()); len(got) != 1 || got["applied"] != fmt.Sprint(rev) {
			t.Errorf("a lease says %v, want applied %d", got, rev)
		}
		if got := Applied(&steer.World{Applied: map[string]uint64{"eu": 3, "us": 4}}); got["applied-eu"] != "3" || got["applied-us"] != "4" {
			t.Errorf("two datacenters: a lease says %v", got)
		}

		before := f.Current()
		moved := func() { // as of a prefix that holds nothing, when other keys are written
			f.heardOf(func() Change { return f.heard.Modes("", store.Snapshot{Rev: rev + 100}, time.Now()) })
		}
		moved()
		if f.Current() != before {
			t.Error("a revision alone made a World")
		}
		time.Sleep(idleRev + f.cfg.Health.Interval)
		synctest.Wait()
		if got := f.Current(); got.Applied[""] != rev+100 || got.Answers != before.Answers {
			t.Errorf("a minute later: applied %v, answers %d, want %d and %d", got.Applied, got.Answers, rev+100, before.Answers)
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, mf := range families {
			if mf.GetName() == "bailiwick_world_applied_revision" {
				if got := mf.GetMetric()[0]; got.GetGauge().GetValue() != float64(rev+100) || got.GetLabel()[0].GetName() != "datacenter" {
					t.Errorf("metric %v, want %d", got, rev+100)
				}
				return
			}
		}
		t.Error("no metric of the revision")
	})
}

// An instance in maintenance drains at once, and comes back at once: its probes pass all the
// time, and its lease, which nobody hears meanwhile, counts anew.
func TestMaintenance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "", "de-fra", "de-ber")
		in := instance("de-fra-1", "de-fra", 0)
		say := func(s store.Status) {
			in.Status = s
			f.heardOf(func() Change { return f.heard.Instances("", []store.Instance{in}, time.Now()) })
		}
		edge := func() *steer.Edge { _, e := f.Current().Edge("de-fra-1"); return e }
		pass := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(f.cfg.Health.Interval) {
				f.Observe(health.Observation{Edge: "de-fra-1", Vantage: "n", OK: true, At: time.Now()})
			}
		}
		say(store.Passing)
		pass(time.Minute)
		say(store.Maintenance)
		if edge().Mode != steer.Draining || edge().Health != steer.Up {
			t.Errorf("edge %+v, want it draining at once, and in good health", edge())
		}
		pass(time.Hour)
		if edge().Health != steer.Up {
			t.Error("maintenance counts as a lapsed lease")
		}
		say(store.Passing)
		if edge().Mode != steer.Serving || edge().Health != steer.Up {
			t.Errorf("edge %+v, want it serving at once", edge())
		}
		// A lapsed lease, by contrast, loses the tie with the probe only in the end.
		say(store.Critical)
		pass(f.cfg.Health.StaleAfter / 2)
		if edge().Mode != steer.Serving || edge().Health != steer.Up {
			t.Errorf("edge %+v soon after its lease lapsed", edge())
		}
		pass(2 * f.cfg.Health.StaleAfter)
		if edge().Health != steer.Unhealthy {
			t.Error("an edge that only this node hears is up for ever")
		}
	})
}

// The file is written again with the next tick when it could not be, without further news,
// and a static edge that left stays away over a restart from it.
func TestLastKnownGoodIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "not", "yet")
		path := filepath.Join(dir, "n.json")
		f := start(t, path, "de-fra")
		m := testMap("de-fra")
		m.Regions[0].Edges = []region.Edge{{ID: "de-fra-1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, {ID: "de-fra-2"}}
		f.SetMap(m)
		l := f.register(t, "de-fra-1", "de-fra")
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * f.cfg.Health.Interval)
		synctest.Wait()
		if got := strings.Count(f.log.String(), "last-known-good not written"); got != 1 {
			t.Errorf("told %d times of one outage of the disk", got)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(f.cfg.Health.Interval)
		synctest.Wait()
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("not written once it could be: %v", err)
		}
		cold, err := New(Config{Map: m, Law: residency.Shipped(), Stores: store.Set{"": store.NewMemory()}, Health: health.Production(), Path: path, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if _, e := cold.Current().Edge("de-fra-1"); e != nil {
			t.Error("a static edge that left is a candidate after a restart")
		}
		if _, e := cold.Current().Edge("de-fra-2"); e == nil {
			t.Error("a static edge that never registered is none")
		}
	})
}

// A static edge that is given up, long after the store forgot it, is in the file too.
func TestEdgesGivenUpAreSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "n.json")
		f := start(t, path, "de-fra")
		m := testMap("de-fra")
		ids := []region.EdgeID{"de-fra-1", "de-fra-2", "de-fra-3"}
		var list []store.Instance
		for _, id := range ids {
			m.Regions[0].Edges = append(m.Regions[0].Edges, region.Edge{ID: id})
			in := instance(id, "de-fra", 0)
			in.Status = store.Passing
			list = append(list, in)
		}
		f.SetMap(m)
		f.heardOf(func() Change { return f.heard.Instances("", list, time.Now()) })
		f.heardOf(func() Change { return f.heard.Instances("", nil, time.Now()) })
		for range 40 {
			for _, id := range ids {
				f.Observe(health.Observation{Edge: id, Vantage: "probe", At: time.Now()})
			}
			time.Sleep(f.cfg.Health.Interval)
			synctest.Wait()
		}
		if n := len(f.Current().Regions[0].Edges); n != 0 {
			t.Fatalf("%d edges left: this test tests nothing", n)
		}
		if s, _, err := readSaved(path); err != nil || !slices.Equal(s.Left, ids) {
			t.Errorf("saved as left: %v, %v, want %v", s.Left, err, ids)
		}
	})
}

// A file of version 1 is of the nameless datacenter.
func TestVersion1IsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.json")
	b, err := json.Marshal(map[string]any{"Version": 1, "Modes": []store.Entry{{Key: steer.ModeKey("de-fra"), Value: []byte("draining"), Rev: 7}},
		"Instances": []store.Instance{{ID: "de-fra-1", Service: Service, Status: store.Passing, Meta: instance("de-fra-1", "de-fra", 3).Meta}}})
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(Config{Map: testMap("de-fra"), Law: residency.Shipped(), Stores: store.Set{"": store.NewMemory()}, Health: health.Production(), Path: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, e := w.Current().Edge("de-fra-1"); e == nil || e.Load.Consults != 3 || w.Current().Regions[0].Mode != steer.Draining {
		t.Errorf("edge %+v, mode %v", e, w.Current().Regions[0].Mode)
	}
	if rev := w.Current().Applied[""]; rev != 0 {
		t.Errorf("applied %d of a store that was not heard", rev)
	}
}

// Of two datacenters each says its part; losing one freezes its word alone.
func TestTwoDatacenters(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	h := NewHeard(testMap("de-fra", "us-iad"), residency.Shipped(), health.Production(), func(b []byte) (steer.JoinKey, error) { return steer.JoinKey{Public: b}, nil }, slog.New(slog.DiscardHandler), "", "us")
	entry := func(key, value string) []store.Entry { return []store.Entry{{Key: key, Value: []byte(value), Rev: 5}} }
	hear := func(name string, list ...store.Instance) {
		h.Modes(name, store.Snapshot{Rev: 5}, at)
		h.Keys(name, entry(keysPrefix+"k"+name, "x"))
		h.Flags(name, entry(flagsPrefix+"dpf_valid", fmt.Sprint(name == "")))
		h.Instances(name, list, at)
	}
	passing := func(id region.EdgeID, reg region.ID, s store.Status) store.Instance {
		in := instance(id, reg, 0)
		in.Status = s
		return in
	}
	if hear("", passing("de-fra-1", "de-fra", store.Passing), passing("both", "us-iad", store.Critical)); h.Synced() {
		t.Error("synced though one datacenter was not heard")
	}
	hear("us", passing("us-iad-1", "us-iad", store.Passing), passing("both", "us-iad", store.Passing))
	if !h.Synced() {
		t.Error("not synced once both were")
	}
	w := h.Fold(at)
	if len(w.Keys) != 2 || w.Known()["both"].Lease != steer.Held || w.Known()["both"].Datacenter != "us" || w.Known()["us-iad-1"].Datacenter != "us" {
		t.Errorf("keys %v, known %v", w.Keys, w.Known())
	}
	if w.LawDigest != residency.Shipped().With(nil).Digest() {
		t.Error("a flag that one datacenter denies is on")
	}
	// us is lost, its edge is not; the other's lease lapses and its probes fail as ever.
	if h.Reach("us", Service, fmt.Errorf("gone"), at) != News || h.Reach("us", keysPrefix, fmt.Errorf("gone"), at) != Same {
		t.Error("an outage is news once")
	}
	h.Instances("", []store.Instance{passing("de-fra-1", "de-fra", store.Critical)}, at)
	for i := range 30 {
		at = at.Add(5 * time.Second)
		h.Observe(at, health.Observation{Edge: "de-fra-1", Vantage: "n", At: at}, health.Observation{Edge: "us-iad-1", Vantage: "n", OK: i%2 == 0, At: at})
		h.Tick(at)
	}
	w = h.Fold(at)
	_, de := w.Edge("de-fra-1")
	_, us := w.Edge("us-iad-1")
	if de.Health != steer.Unhealthy || us == nil || w.StoreUp || !w.Away["us"] || len(w.Away) != 1 {
		t.Errorf("de %+v, us %+v, away %v", de, us, w.Away)
	}
	h.Reach("us", Service, nil, at)
	if h.Reach("us", keysPrefix, nil, at) != News || !h.Fold(at).StoreUp {
		t.Error("it does not come back")
	}
}

// A simulation folds without a Writer, in virtual time, and gets the same each time.
func TestHeardWithoutAWriter(t *testing.T) {
	story := func() (said []string) {
		at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		h := NewHeard(testMap("de-ber", "de-fra"), residency.Shipped(), health.Production(), nil, slog.New(slog.DiscardHandler), "")
		w := h.Fold(at)
		for i := range 60 {
			at = at.Add(5 * time.Second)
			change := Same
			if i%10 == 0 {
				in := instance("de-fra-1", "de-fra", i*10)
				in.Status = []store.Status{store.Passing, store.Critical}[i/10%2]
				change = h.Instances("", []store.Instance{in}, at)
			}
			change = max(change, h.Observe(at, health.Observation{Edge: "de-fra-1", Vantage: "n", OK: i < 20, At: at}), h.Tick(at))
			if change != Same || !at.Before(w.Wakes) {
				w = h.Fold(at)
			}
			_, e := w.Edge("de-fra-1")
			said = append(said, fmt.Sprint(w.Generation, w.Answers, e))
		}
		return said
	}
	if a, b := story(), story(); !slices.Equal(a, b) {
		t.Errorf("%q\n%q", a, b)
	}
}

// Who misspells the flag that is to be revoked must hear of it.
func TestFlagsAreThoseOfTheLaw(t *testing.T) {
	var log strings.Builder
	h := NewHeard(testMap("de-fra"), residency.Shipped(), health.Production(), nil, slog.New(slog.NewTextHandler(&log, nil)), "")
	for _, row := range []struct{ name, key, value, want string }{
		{"as it is", "dpf_valid", "true", ""},
		{"another case", "DPF_valid", "true", "law flag not known"},
		{"misspelt", "dpf_vaild", "false", "law flag not known"},
		{"another word", "dpf_valid", "True", "law flag not readable"},
		{"a line's end", "dpf_valid", "true\n", "law flag not readable"},
		{"nothing", "dpf_valid", "", "law flag not readable"},
	} {
		log.Reset()
		h.Flags("", []store.Entry{{Key: flagsPrefix + row.key, Value: []byte(row.value), Rev: 5}})
		if got := log.String(); (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
			t.Errorf("%s: logged %q, want %q", row.name, got, row.want)
		}
		on := residency.Shipped().With(map[string]bool{"dpf_valid": true}).Digest()
		if got := h.facts.Law.Digest() == on; got != (row.want == "") {
			t.Errorf("%s: in force %t", row.name, got)
		}
	}
}
