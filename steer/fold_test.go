package steer

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
)

// node is the facts of one node and its last World: a stretch of virtual time.
type node struct {
	Facts
	t   *testing.T
	now time.Time
	*World
}

// start has de-ber and de-fra with one static edge each, and two registered edges in each.
func start(t *testing.T) *node {
	m := newWorld(at("de-ber", "DE", 52.52, 13.4, 1), at("de-fra", "DE", 50.11, 8.68, 1)).Map
	n := &node{t: t, now: now, Facts: Facts{Map: m, Law: residency.Shipped(), Interval: 5 * time.Second, Edges: map[region.EdgeID]Registered{}, Health: health.Snapshot{Edges: map[region.EdgeID]health.Health{}}}}
	for _, id := range []region.ID{"de-ber", "de-fra"} {
		n.register(id, string(id)+"-2")
		n.register(id, string(id)+"-3")
	}
	n.register("de-fra", "de-fra-3", load(90))
	n.fold()
	return n
}

// fold folds a second later.
func (n *node) fold() *World {
	n.now = n.now.Add(time.Second)
	n.World = Fold(n.World, &n.Facts, n.now)
	return n.World
}

func (n *node) register(reg region.ID, id string, change ...func(*Registered)) {
	r := Registered{Region: reg, Edge: Edge{ID: region.EdgeID(id), Host: "https://" + id, Admits: 100}}
	for _, f := range change {
		f(&r)
	}
	n.Facts.Edges = maps.Clone(n.Facts.Edges)
	n.Facts.Edges[region.EdgeID(id)] = r
}

func (n *node) deregister(ids ...string) {
	n.Facts.Edges = maps.Clone(n.Facts.Edges)
	for _, id := range ids {
		delete(n.Facts.Edges, region.EdgeID(id))
	}
}

func (n *node) health(state health.State, ids ...string) {
	n.Facts.Health.Edges = maps.Clone(n.Facts.Health.Edges)
	for _, id := range ids {
		n.Facts.Health.Edges[region.EdgeID(id)] = health.Health{State: state}
	}
}

func (n *node) state(id region.EdgeID) health.State { return n.Facts.Health.Edges[id].State }

func (n *node) mode(datacenter string, id region.ID, s Said) {
	n.Facts.Modes = maps.Clone(n.Facts.Modes)
	if n.Facts.Modes == nil {
		n.Facts.Modes = map[string]map[region.ID]Said{}
	}
	n.Facts.Modes[datacenter] = map[region.ID]Said{id: s}
}

// candidates are who a client of Berlin may be sent to.
func (n *node) candidates() (ids []string) {
	var d Decision
	Rank(n.World, client("DE"), &d)
	for _, c := range d.Candidates {
		ids = append(ids, string(n.World.Regions[c.Region].Edges[c.Edge].ID))
	}
	slices.Sort(ids)
	return ids
}

func (n *node) want(when string, ids ...string) {
	n.t.Helper()
	n.fold()
	if got := n.candidates(); !slices.Equal(got, ids) {
		n.t.Errorf("%s: candidates %v, want %v", when, got, ids)
	}
}

func load(consults int) func(*Registered) {
	return func(r *Registered) { r.Edge.Load.Consults = consults }
}

func lease(l Lease) func(*Registered) { return func(r *Registered) { r.Lease = l } }

// An edge of the map that nobody ever registered is a candidate; one that registered and
// left is none, until it registers again, and whatever else is folded meanwhile.
func TestStaticEdgeThatLeftIsNoCandidate(t *testing.T) {
	n := start(t)
	rest := []string{"de-ber-2", "de-ber-3", "de-fra-1", "de-fra-2", "de-fra-3"}
	all := append([]string{"de-ber-1"}, rest...)
	n.want("never registered", all...)
	n.register("de-ber", "de-ber-1")
	n.want("registered", all...)
	n.deregister("de-ber-1")
	n.want("left", rest...)
	n.register("de-fra", "de-fra-2", load(50))
	n.want("something else later", rest...)
	n.World = &World{Left: n.World.Left} // a restart from what was kept
	n.want("after a restart", rest...)
	n.register("de-ber", "de-ber-1")
	n.want("registered again", all...)
	had := n.Facts.Map
	n.Facts.Map = newWorld(at("de-fra", "DE", 50.11, 8.68, 1)).Map
	n.fold()
	n.deregister("de-ber-1")
	n.fold()
	n.Facts.Map = had
	n.want("left while the map was without it", rest...)
	for i := range maxLeft {
		id := fmt.Sprint("de-fra-9", i)
		n.register("de-fra", id)
		n.fold()
		n.deregister(id)
		n.fold()
	}
	n.want("left, as many others did", rest...)
	if len(n.World.Left) > maxLeft {
		t.Errorf("%d edges that left are remembered, want at most %d", len(n.World.Left), maxLeft)
	}
}

// An operator's maintenance binds at once, with every probe and the lease's past saying
// that the edge is well; it ends at once too.
func TestMaintenanceBindsPastHealth(t *testing.T) {
	n := start(t)
	n.health(health.Up, "de-ber-2", "de-ber-3", "de-fra-2", "de-fra-3")
	n.register("de-ber", "de-ber-2", lease(Maintenance))
	n.want("in maintenance", "de-ber-1", "de-ber-3", "de-fra-1", "de-fra-2", "de-fra-3")
	_, e := n.World.Edge("de-ber-2")
	if e.Mode != Draining || e.Health != Up || n.World.Usable("de-ber-2") {
		t.Errorf("edge %+v, usable %v: want it draining, in good health, and its rooms to move", e, n.World.Usable("de-ber-2"))
	}
	// Nor does the panic rule bring it back.
	n.health(health.Down, "de-ber-3", "de-fra-2", "de-fra-3")
	n.register("de-ber", "de-ber-1", lease(Maintenance))
	n.register("de-fra", "de-fra-1", lease(Maintenance))
	n.want("when all others look down", "de-ber-3", "de-fra-2", "de-fra-3")
	n.register("de-ber", "de-ber-2")
	n.want("over", "de-ber-2")
	// A lapsed lease is health's to weigh.
	n.register("de-ber", "de-ber-2", lease(Lapsed))
	n.want("lapsed", "de-ber-2")
}

// One that is gone was taken out. Most of three or more at once are doubted until their
// health is down.
func TestMostEdgesVanish(t *testing.T) {
	n := start(t)
	n.deregister("de-ber-2")
	n.want("one of four", "de-ber-1", "de-ber-3", "de-fra-1", "de-fra-2", "de-fra-3")
	n.deregister("de-ber-3", "de-fra-2")
	n.want("two of three", "de-ber-1", "de-ber-3", "de-fra-1", "de-fra-2", "de-fra-3")
	if n.World.Doubted != 2 || n.World.Known()["de-fra-2"].Lease != Lapsed {
		t.Errorf("%d doubted, lease %v", n.World.Doubted, n.World.Known()["de-fra-2"].Lease)
	}
	n.register("de-fra", "de-fra-3", load(30))
	n.want("still", "de-ber-1", "de-ber-3", "de-fra-1", "de-fra-2", "de-fra-3")
	n.health(health.Down, "de-ber-3")
	n.want("the probes agree on one", "de-ber-1", "de-fra-1", "de-fra-2", "de-fra-3")
	if _, e := n.World.Edge("de-ber-3"); e != nil {
		t.Error("it is in the world still")
	}
	n.register("de-ber", "de-ber-3")
	n.register("de-fra", "de-fra-2")
	n.health(health.Up, "de-ber-3")
	if n.fold(); n.World.Doubted != 0 {
		t.Errorf("%d doubted of edges that are all there", n.World.Doubted)
	}
	n = start(t)
	n.deregister("de-ber-2", "de-fra-2")
	n.want("half of them", "de-ber-1", "de-ber-3", "de-fra-1", "de-fra-3")
	n.deregister("de-ber-3", "de-fra-3")
	n.want("both of two", "de-ber-1", "de-fra-1")
}

// One region at a time goes dark by health alone, and the world says when the next may.
func TestRegionsGoDarkOneAtATime(t *testing.T) {
	n := start(t)
	for _, id := range []string{"de-ber", "de-fra"} {
		n.register(region.ID(id), id+"-1")
		n.health(health.Up, id+"-1", id+"-2", id+"-3")
	}
	n.fold()
	n.health(health.Down, "de-ber-1", "de-ber-2", "de-ber-3", "de-fra-1", "de-fra-2", "de-fra-3")
	first := n.now.Add(time.Second)
	n.want("both at once", "de-fra-1", "de-fra-2", "de-fra-3")
	if free := first.Add(60 * time.Second); !n.World.Wakes.Equal(free) {
		t.Errorf("wakes %s after the first fell, want 60s", n.World.Wakes.Sub(first))
	}
	if n.World.Due(n.state, n.now.Add(time.Second)) {
		t.Error("what is held back is due")
	}
	n.now = n.World.Wakes.Add(-2 * time.Second)
	n.want("a second too early", "de-fra-1", "de-fra-2", "de-fra-3")
	n.want("then", "de-ber-1", "de-ber-2", "de-ber-3", "de-fra-1", "de-fra-2", "de-fra-3") // panic: all look down
	if _, e := n.World.Edge("de-fra-1"); e.Health != Unhealthy {
		t.Error("the second region never falls")
	}
}

// What is folded in never goes back, whatever a store says later, and is of one
// datacenter each.
func TestAppliedNeverGoesBack(t *testing.T) {
	n := start(t)
	for _, r := range []struct {
		name        string
		heard, want map[string]uint64
	}{
		{"nothing yet", nil, nil},
		{"two datacenters", map[string]uint64{"eu": 7, "us": 900}, map[string]uint64{"eu": 7, "us": 900}},
		{"a key deleted", map[string]uint64{"eu": 9, "us": 3}, map[string]uint64{"eu": 9, "us": 900}},
		{"one is not heard of", map[string]uint64{"us": 901}, map[string]uint64{"eu": 9, "us": 901}},
		{"restored from the start", map[string]uint64{"eu": 1, "us": 1}, map[string]uint64{"eu": 9, "us": 901}},
	} {
		n.Facts.Applied = r.heard
		if n.fold(); !maps.Equal(n.World.Applied, r.want) {
			t.Errorf("%s: applied %v, want %v", r.name, n.World.Applied, r.want)
		}
	}
}

// An operator's word has its actor, its reason, its drill and its revision, until its time
// is over; the world wakes for that.
func TestModesAreSaid(t *testing.T) {
	n := start(t)
	until := n.now.Add(30 * time.Second)
	n.mode("", "de-ber", Said{ModeRecord{Mode: "down", Reason: "flood", Actor: "ops", Drill: "d1", ExpiresAt: until}, 41})
	n.want("down", "de-fra-1", "de-fra-2", "de-fra-3")
	if r := n.World.Regions[0]; r.Mode != Down || r.Reason != "flood" || r.Actor != "ops" || r.Drill != "d1" || !r.Until.Equal(until) || r.Rev != 41 {
		t.Errorf("region %+v", r)
	}
	if !n.World.Wakes.Equal(until) || n.World.Due(n.state, until.Add(-1)) || !n.World.Due(n.state, until) {
		t.Errorf("wakes %s, want %s", n.World.Wakes, until)
	}
	n.now = until.Add(-time.Second)
	n.fold()
	if r := n.World.Regions[0]; r.Mode != Serving || r.Reason+r.Actor+r.Drill != "" || !r.Until.IsZero() || r.Rev != 41 {
		t.Errorf("region %+v after its word was over", r)
	}
	n.mode("another", "de-ber", Said{ModeRecord{Mode: "down"}, 1})
	n.Facts.Modes[""] = nil
	if n.fold(); n.World.Regions[0].Mode != Serving {
		t.Error("the word of a datacenter that does not keep this region counts")
	}
	n.Facts.Map.Consul = []region.Datacenter{{Name: "us", Jurisdiction: "US"}, {Name: "eu", Jurisdiction: "DE"}}
	n.mode("", "de-ber", Said{ModeRecord{Mode: "draining"}, 2})
	if n.fold(); n.World.Regions[0].Mode != Draining {
		t.Error("a nameless store does not keep what no other does")
	}
	n.mode("eu", "de-ber", Said{ModeRecord{Mode: "down"}, 1})
	if n.fold(); n.World.Regions[0].Mode != Down {
		t.Error("the word of the region's datacenter does not count")
	}
}

// Answers grows with whatever may change a decision, and with nothing else.
func TestAnswers(t *testing.T) {
	for _, r := range []struct {
		name   string
		change func(*node)
		grows  bool
	}{
		{"nothing", func(*node) {}, false},
		{"keys", func(n *node) { n.Facts.Keys = map[string]JoinKey{"k": {}} }, false},
		{"a revision", func(n *node) { n.Facts.Applied = map[string]uint64{"": 7} }, false},
		{"the store away", func(n *node) { n.Facts.Away = map[string]bool{"": true} }, false},
		{"a load in its tenth", func(n *node) { n.register("de-ber", "de-ber-2", load(9)) }, false},
		{"parked rooms", func(n *node) { n.register("de-ber", "de-ber-2", func(r *Registered) { r.Edge.Load.Parked = 50 }) }, false},
		{"a lease that lapsed", func(n *node) { n.register("de-ber", "de-ber-2", lease(Lapsed)) }, false},
		{"a reason", func(n *node) { n.mode("", "de-ber", Said{ModeRecord{Mode: "serving", Reason: "well again"}, 1}) }, false},
		{"a year", func(n *node) { n.now = n.now.AddDate(1, 0, 0) }, false},
		{"a load of another tenth", func(n *node) { n.register("de-ber", "de-ber-2", load(10)) }, true},
		{"nearly full", func(n *node) { n.register("de-fra", "de-fra-3", load(94)) }, false},
		{"full", func(n *node) { n.register("de-fra", "de-fra-3", load(95)) }, true},
		{"a mode", func(n *node) { n.mode("", "de-ber", Said{ModeRecord{Mode: "draining"}, 1}) }, true},
		{"maintenance", func(n *node) { n.register("de-ber", "de-ber-2", lease(Maintenance)) }, true},
		{"health", func(n *node) { n.health(health.Down, "de-ber-2") }, true},
		{"an address", func(n *node) { n.register("de-ber", "de-ber-2", func(r *Registered) { r.Edge.Host = "https://other" }) }, true},
		{"an edge more", func(n *node) { n.register("de-ber", "de-ber-4") }, true},
		{"an edge less", func(n *node) { n.deregister("de-ber-2") }, true},
		{"an edge of another region", func(n *node) { n.register("de-fra", "de-ber-2") }, true},
		{"a flag", func(n *node) { n.Facts.Law = n.Facts.Law.With(map[string]bool{"dpf_valid": true}) }, true},
		{"another map", func(n *node) { m := *n.Facts.Map; n.Facts.Map = &m }, true},
		{"a paper that is over", func(n *node) {
			n.Facts.Map.Operator.Facts["art28_dpa"] = residency.Record{Date: now.AddDate(-1, 0, 0), Expires: n.now.Add(time.Second)}
		}, true},
		{"a clock that went back over a paper", func(n *node) {
			n.Facts.Map.Operator.Facts["art28_dpa"] = residency.Record{Date: n.now.Add(-time.Minute)}
			n.now = n.now.Add(-time.Hour)
		}, true},
	} {
		n := start(t)
		n.Facts.Law = n.Facts.Law.With(nil)
		before := n.fold()
		if before.Answers == 0 {
			t.Fatal("a fold has no answers")
		}
		r.change(n)
		after := n.fold()
		if grew := after.Answers > before.Answers; grew != r.grows || after.Answers < before.Answers {
			t.Errorf("%s: answers %d, then %d, want them to grow %v", r.name, before.Answers, after.Answers, r.grows)
		}
		if after.Generation != before.Generation+1 {
			t.Errorf("%s: generation %d after %d", r.name, after.Generation, before.Generation)
		}
	}
	// The same map, read again, has the same digest.
	n := start(t)
	n.Facts.Map.Digest = "0123456789abcdef"
	before := n.fold()
	m := *n.Facts.Map
	n.Facts.Map = &m
	if n.fold(); n.World.Answers != before.Answers || n.World.MapDigest != m.Digest || n.World.LawDigest != n.Facts.Law.Digest() {
		t.Errorf("answers %d then %d, digests %q and %q", before.Answers, n.World.Answers, n.World.MapDigest, n.World.LawDigest)
	}
}

// Equal facts and Worlds give equal Worlds, and change neither.
func TestFoldIsPure(t *testing.T) {
	story := func() (all []*World) {
		n := start(t)
		for i := range 40 {
			id := fmt.Sprintf("de-ber-%d", i%5)
			switch i % 7 {
			case 0:
				n.deregister(id)
			case 1:
				n.health(health.Down, id)
			case 2:
				n.mode("", "de-fra", Said{ModeRecord{Mode: "draining", ExpiresAt: n.now.Add(3 * time.Second)}, uint64(i)})
			case 3:
				n.deregister("de-ber-1", "de-ber-2", "de-ber-3", "de-fra-2", "de-fra-3")
			case 4:
				n.health(health.Up, id)
			default:
				n.register("de-ber", id, load(i))
			}
			before := *n.World
			regions := slices.Clone(before.Regions)
			all = append(all, n.fold())
			if prev := all[max(len(all)-2, 0)]; len(all) > 1 && (!reflect.DeepEqual(*prev, before) || !reflect.DeepEqual(prev.Regions, regions)) {
				t.Fatalf("fold %d changed the World that it began from", i)
			}
		}
		return all
	}
	a, b := story(), story()
	for i := range a {
		a[i].Map, b[i].Map = nil, nil
		for k := range a[i].Regions {
			a[i].Regions[k].Region, b[i].Regions[k].Region = nil, nil
			a[i].Regions[k].Hop, b[i].Regions[k].Hop = residency.Hop{}, residency.Hop{}
		}
		if !reflect.DeepEqual(a[i], b[i]) {
			t.Fatalf("world %d differs:\n%+v\n%+v", i, a[i], b[i])
		}
	}
}

func BenchmarkFold(b *testing.B) {
	m := demo(0).Map
	f := Facts{Map: m, Law: residency.Shipped(), Interval: 5 * time.Second, Edges: map[region.EdgeID]Registered{}}
	for i := range 100 {
		r := m.Regions[i%len(m.Regions)].ID
		id := region.EdgeID(fmt.Sprintf("%s-%d", r, i))
		f.Edges[id] = Registered{Region: r, Edge: Edge{ID: id, Admits: 100}}
	}
	w := Fold(nil, &f, now)
	b.ReportAllocs()
	for b.Loop() {
		w = Fold(w, &f, now)
	}
}
