package steer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"bailiwick/region"
	"bailiwick/residency"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// allFacts asserts every fact of one scope but the DPF certifications.
func allFacts(scope string) residency.Facts {
	f := residency.Facts{}
	for name, r := range residency.Shipped().Facts() {
		switch name {
		case "importer_is_DPF_certified", "DPF_with_UK_extension", "Swiss_US_DPF_certified":
			continue
		}
		if r.Scope == scope {
			f[name] = residency.Record{ID: "test", Date: now.AddDate(-1, 0, 0)}
		}
	}
	return f
}

// at makes a region with n healthy edges.
func at(id string, j residency.Jurisdiction, lat, lon float64, n int) region.Region {
	r := region.Region{ID: region.ID(id), Provider: "p", Place: region.Place{Jurisdiction: j, Point: region.Point{Lat: lat, Lon: lon}, Located: true}}
	for i := range n {
		r.Edges = append(r.Edges, region.Edge{ID: region.EdgeID(fmt.Sprintf("%s-%d", id, i+1))})
	}
	return r
}

func newWorld(regions ...region.Region) *World {
	m := &region.Map{Zone: "media.example", Regions: regions,
		Providers: map[region.ProviderID]*region.Provider{"p": {ID: "p", Facts: allFacts("provider")}},
		Operator:  region.Operator{Facts: allFacts("operator")},
		Tenants:   map[string]*residency.Tenant{"default": {ID: "default", Facts: allFacts("tenant")}}}
	w := &World{Generation: 1, At: now, Law: residency.Shipped(), Map: m}
	for i := range m.Regions {
		r := Region{Region: &m.Regions[i], Hop: m.Hop(&m.Regions[i])}
		for _, e := range m.Regions[i].Edges {
			r.Edges = append(r.Edges, Edge{ID: e.ID, Addr4: netip.MustParseAddr("192.0.2.1"), Health: Up, Admits: 100})
		}
		w.Regions = append(w.Regions, r)
	}
	return w
}

// demo is the ten regions of the shipped map.
func demo(edges int) *World {
	return newWorld(at("au-mel", "AU", -37.81, 144.96, edges), at("au-syd", "AU", -33.87, 151.21, edges),
		at("br-gru", "BR", -23.55, -46.63, edges), at("ca-yul", "CA-QC", 45.5, -73.57, edges),
		at("de-ber", "DE", 52.52, 13.4, edges), at("de-fra", "DE", 50.11, 8.68, edges),
		at("fr-par", "FR", 48.86, 2.35, edges), at("gb-lon", "GB", 51.51, -0.13, edges),
		at("us-iad", "US-VA", 39.04, -77.49, edges), at("us-pdx", "US-OR", 45.52, -122.68, edges))
}

func client(js ...residency.Jurisdiction) *Client {
	c := &Client{Participants: js, Key: 7}
	for _, j := range js {
		p, ok := region.Locate(j)
		c.Places = append(c.Places, region.Place{Jurisdiction: j, Point: p, Located: ok})
	}
	return c
}

func rank(w *World, c *Client) *Decision {
	d := new(Decision)
	Rank(w, c, d)
	return d
}

// best is the chosen region's ID, or the refusal's code in brackets.
func best(d *Decision) string {
	if r, _ := d.Best(); r != nil {
		return string(r.ID)
	}
	return "[" + string(d.Code()) + "]"
}

func set(w *World, id region.ID, f func(*Region)) *World {
	f(&w.Regions[w.RegionIndex(id)])
	return w
}

// sheds makes a region's edges take this many of the least priorities unwillingly.
func sheds(n int) func(*Region) { return edges(func(e *Edge) { e.Load.Sheds = n }) }

func of(p Priority, c *Client) *Client {
	c.Priority = p
	return c
}

func runs(c *Client) *Client {
	c.Runs = true
	return c
}

func edges(f func(*Edge)) func(*Region) {
	return func(r *Region) {
		for i := range r.Edges {
			f(&r.Edges[i])
		}
	}
}

var (
	down  = func(r *Region) { r.Mode = Down }
	drain = func(r *Region) { r.Mode = Draining }
	sick  = edges(func(e *Edge) { e.Health = Unhealthy })
	full  = edges(func(e *Edge) { e.Load.Consults = e.Admits })
	empty = func(r *Region) { r.Edges = nil }
	spent = edges(func(e *Edge) { e.Load.Spent = true })
)

func TestRankPrecedence(t *testing.T) {
	eea := []region.ID{"de-ber", "de-fra", "fr-par"}
	each := func(w *World, f func(*Region)) *World {
		for _, id := range eea {
			set(w, id, f)
		}
		return w
	}
	tests := []struct {
		name  string
		world *World
		who   *Client
		want  string
	}{
		{"nearest lawful region", demo(1), client("DE", "DE"), "de-ber"},
		{"seed C4: California is served from Oregon", demo(1), client("US-CA"), "us-pdx"},
		{"seed D3: a full region gives to the next in the EEA", set(demo(1), "de-ber", full), client("DE"), "de-fra"},
		{"seed D3: never to the US, however full the EEA is", each(demo(1), full), client("DE"), "[region_full]"},
		{"an urgent consult needs no seat", set(demo(1), "de-ber", full), of(Urgent, client("DE")), "de-ber"},
		{"nor where all are full", each(demo(1), full), of(Emergency, client("DE")), "de-ber"},
		{"nor one that runs", set(demo(1), "de-ber", full), runs(client("DE")), "de-ber"},
		{"one that runs is bound by egress", set(demo(1), "de-ber", spent), runs(client("DE")), "de-fra"},
		{"alone", each(demo(1), spent), runs(client("DE")), "[region_full]"},
		{"which binds nobody who is new and urgent", each(demo(1), spent), of(Urgent, client("DE")), "de-ber"},
		{"an edge that sheds routine gives a new one to a neighbour", set(demo(1), "de-ber", sheds(3)), client("DE"), "de-fra"},
		{"not an urgent one", set(demo(1), "de-ber", sheds(3)), of(Urgent, client("DE")), "de-ber"},
		{"one that sheds education alone keeps routine", set(demo(1), "de-ber", sheds(1)), client("DE"), "de-ber"},
		{"and gives education away", set(demo(1), "de-ber", sheds(1)), of(Education, client("DE")), "de-fra"},
		{"seed G3: where all lawful ones shed it stays home", each(demo(1), sheds(3)), client("DE"), "de-ber"},
		{"seed G3: a neighbour that is not lawful is none", set(set(set(demo(1), "de-ber", sheds(3)), "de-fra", empty), "fr-par", sheds(3)), client("DE"), "de-ber"},
		{"law before load: home only, though it sheds", set(demo(1), "us-iad", sheds(3)), client("AE"), "[home_only]"},
		{"health before load", set(set(demo(1), "de-ber", sheds(3)), "de-fra", sick), client("DE"), "fr-par"},
		{"seed D2: home-only law without a region there", demo(1), client("AE"), "[home_only]"},
		{"an unknown country is refused", demo(1), client("ZZ"), "[policy_missing]"},
		{"nobody is refused", demo(1), &Client{}, "[policy_missing]"},
		{"a draining region takes nothing new", set(demo(1), "de-ber", drain), client("DE"), "de-fra"},
		{"a draining region takes nothing new, also when it is the last", set(set(newWorld(at("de-fra", "DE", 50, 8, 1)), "de-fra", drain), "de-fra", drain), client("DE"), "[region_draining]"},
		{"down beats health", set(set(demo(1), "de-ber", down), "de-fra", sick), client("DE"), "fr-par"},
		{"the nearest lawful region's code is the reason", set(set(set(demo(1), "de-ber", down), "de-fra", drain), "fr-par", down), client("DE"), "[region_down]"},
		{"an unhealthy region is passed over", set(demo(1), "de-ber", sick), client("DE"), "de-fra"},
		{"panic: all permitted look down, so all are used", each(demo(1), sick), client("DE"), "de-ber"},
		{"panic never revives what the operator took down", set(each(demo(1), sick), "de-ber", down), client("DE"), "de-fra"},
		{"no edge registered", each(demo(1), empty), client("DE"), "[region_unhealthy]"},
		{"no region at all", newWorld(), client("DE"), "[no_region]"},
		{"both ends count: DE and GB share the EEA", demo(1), client("DE", "GB"), "de-ber"},
		{"distance is the patient's", demo(1), client("FR", "DE"), "fr-par"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := best(rank(tt.world, tt.who)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNoCommonPlaceCitesEverybody(t *testing.T) {
	w := newWorld(at("ae-dxb", "AE", 25.2, 55.3, 1), at("de-fra", "DE", 50.1, 8.7, 1))
	d := rank(w, client("AE", "DE"))
	if d.Code() != residency.NoCommonPlace {
		t.Fatalf("code %s, want no_common_place; refused %v", d.Code(), d.Refused)
	}
	var who []residency.Jurisdiction
	for _, v := range d.Refused {
		who = append(who, v.Participant)
	}
	if !slices.Equal(who, []residency.Jurisdiction{"AE", "DE"}) {
		t.Errorf("cited %v, want AE and DE", who)
	}
	if _, citation := Refusal(d); len(citation) < 2 {
		t.Errorf("citation %q does not name both laws", citation)
	}
}

func TestStoredNowhere(t *testing.T) {
	// Singapore's live media may be anywhere with the contract; Taiwan's evidence
	// must stay in Taiwan.
	w := newWorld(at("de-fra", "DE", 50.1, 8.7, 1))
	d := rank(w, client("TW"))
	if d.Code() != residency.StoredNowhere {
		t.Errorf("code %q, want stored_nowhere", d.Code())
	}
	if got := best(rank(w, client("SG"))); got != "de-fra" {
		t.Errorf("SG got %s, want de-fra", got)
	}
}

func TestStandbyIsInAnotherRegion(t *testing.T) {
	d := rank(demo(3), client("DE"))
	r, _ := d.Standby()
	if r == nil || r.ID != "de-fra" {
		t.Errorf("standby %v, want de-fra", r)
	}
	only := newWorld(at("de-fra", "DE", 50.1, 8.7, 2))
	d = rank(only, client("DE"))
	_, a := d.Best()
	_, b := d.Standby()
	if a == nil || b == nil || a.ID == b.ID {
		t.Errorf("one region: standby %v of %v, want the other edge", b, a)
	}
}

// randomWorld draws regions anywhere, in any state.
func randomWorld(rnd *rand.Rand) *World {
	js := residency.Shipped().Jurisdictions()
	var regions []region.Region
	for i := range 1 + rnd.IntN(12) {
		regions = append(regions, at(fmt.Sprintf("r%02d", i), js[rnd.IntN(len(js))], rnd.Float64()*180-90, rnd.Float64()*360-180, rnd.IntN(4)))
	}
	w := newWorld(regions...)
	for i := range w.Regions {
		w.Regions[i].Mode = Mode(rnd.IntN(3))
		for k := range w.Regions[i].Edges {
			e := &w.Regions[i].Edges[k]
			e.Health, e.Load.Consults = Health(rnd.IntN(3)), rnd.IntN(101)
		}
		if rnd.IntN(3) == 0 { // some providers hold no paper at all
			w.Regions[i].Hop.Provider = nil
		}
	}
	return w
}

func randomClient(rnd *rand.Rand) *Client {
	js := residency.Shipped().Jurisdictions()
	var who []residency.Jurisdiction
	for range 1 + rnd.IntN(3) {
		who = append(who, js[rnd.IntN(len(js))])
	}
	c := client(who...)
	c.Patient, c.E2EE, c.Key = rnd.IntN(len(who)), rnd.IntN(2) == 0, rnd.Uint64()
	return c
}

// worlds calls f with many random worlds and clients, the same in every run.
func worlds(t *testing.T, f func(*testing.T, *World, *Client)) {
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		f(t, randomWorld(rnd), randomClient(rnd))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestNoCandidateIsEverUnlawful(t *testing.T) {
	candidates := 0
	worlds(t, func(t *testing.T, w *World, c *Client) {
		d := rank(w, c)
		for _, cand := range d.Candidates {
			candidates++
			r := &w.Regions[cand.Region]
			if v := Permits(w, r, c); !v.Permitted() {
				t.Errorf("%v on %s (%s): %s", c.Participants, r.ID, r.Place.Jurisdiction, v.Reason())
			}
			if r.Mode != Serving {
				t.Errorf("%s is %s, yet a candidate", r.ID, r.Mode)
			}
			if e := &r.Edges[cand.Edge]; e.Health == Unhealthy && !d.Panic {
				t.Errorf("%s is unhealthy, yet a candidate", e.ID)
			} else if e.shut(c) {
				t.Errorf("%s is full, yet a candidate", e.ID)
			}
		}
	})
	if candidates < 1000 {
		t.Errorf("only %d candidates in all worlds: the property was hardly tried", candidates)
	}
}

func TestEveryRegionIsCandidateOrRejected(t *testing.T) {
	worlds(t, func(t *testing.T, w *World, c *Client) {
		d := rank(w, c)
		seen := map[int]bool{}
		for _, x := range d.Candidates {
			seen[x.Region] = true
		}
		for _, x := range d.Rejections {
			if seen[x.Region] {
				t.Errorf("region %d is both candidate and rejected, or rejected twice", x.Region)
			}
			seen[x.Region] = true
			if x.Verdict.Permitted() {
				t.Errorf("region %d is rejected without a code", x.Region)
			}
		}
		if len(seen) != len(w.Regions) {
			t.Errorf("%d of %d regions accounted for", len(seen), len(w.Regions))
		}
		if len(d.Candidates) == 0 && d.Code() == residency.OK {
			t.Error("refused without a code")
		}
	})
}

func TestSameInputSameOutput(t *testing.T) {
	worlds(t, func(t *testing.T, w *World, c *Client) {
		a, b := rank(w, c), rank(w, c)
		Rank(w, c, b) // into a used decision
		if !reflect.DeepEqual(Explain(a), Explain(b)) {
			t.Errorf("two rankings differ:\n%+v\n%+v", Explain(a), Explain(b))
		}
	})
}

// A losing region that is taken away changes no winner — unless it was the one
// healthy region that kept the others out of panic, the only place for evidence, or home, whose
// neighbours the others are.
func TestRemovingALoserChangesNoWinner(t *testing.T) {
	tried := 0
	worlds(t, func(t *testing.T, w *World, c *Client) {
		d := rank(w, c)
		if len(d.Candidates) == 0 || d.Panic {
			return
		}
		winner, edge := d.Best()
		for i := range w.Regions {
			if w.Regions[i].ID == winner.ID || i == d.home.Region {
				continue
			}
			without := *w
			without.Regions = slices.Delete(slices.Clone(w.Regions), i, i+1)
			after := rank(&without, c)
			if after.Code() == residency.StoredNowhere || after.Plane == "stored" {
				continue
			}
			tried++
			if r, e := after.Best(); r == nil || r.ID != winner.ID || e.ID != edge.ID {
				t.Errorf("without %s the winner is %v, before it was %s", w.Regions[i].ID, r, winner.ID)
			}
		}
	})
	if tried < 500 {
		t.Errorf("only %d removals tried", tried)
	}
}

func TestRankAllocatesNothing(t *testing.T) {
	for _, n := range []int{10, 200} {
		w, c, d := big(n), client("DE", "DE"), new(Decision)
		Rank(w, c, d)
		if got := testing.AllocsPerRun(100, func() { Rank(w, c, d) }); got != 0 {
			t.Errorf("%d regions: %v allocations a run, want 0", n, got)
		}
		refused := client("AE", "DE")
		Rank(w, refused, d)
		if got := testing.AllocsPerRun(100, func() { Rank(w, refused, d) }); got != 0 {
			t.Errorf("%d regions, refused: %v allocations a run, want 0", n, got)
		}
	}
}

// big repeats the demo's places until there are n regions.
func big(n int) *World {
	base := demo(1)
	var regions []region.Region
	for i := range n {
		r := *base.Regions[i%len(base.Regions)].Region
		r.ID = region.ID(fmt.Sprintf("%s-%d", r.ID, i))
		r.Edges = []region.Edge{{ID: region.EdgeID(r.ID + "-1")}}
		regions = append(regions, r)
	}
	return newWorld(regions...)
}

func BenchmarkRank(b *testing.B) {
	for _, n := range []int{10, 200} {
		b.Run(fmt.Sprintf("regions=%d", n), func(b *testing.B) {
			w, c, d := big(n), client("DE", "DE"), new(Decision)
			b.ReportAllocs()
			for b.Loop() {
				Rank(w, c, d)
			}
		})
	}
}

func TestParseModeRecord(t *testing.T) {
	expires := now.Add(time.Hour)
	tests := []struct {
		name, value string
		want        Mode
		bad         bool
	}{
		{"bare word", "down", Down, false},
		{"bare word with a newline, as an editor leaves it", "draining\n", Draining, false},
		{"json", `{"mode":"down","reason":"fibre"}`, Down, false},
		{"json in force until it expires", fmt.Sprintf(`{"mode":"down","expires_at":%q}`, expires.Format(time.RFC3339)), Down, false},
		{"json that has expired", fmt.Sprintf(`{"mode":"down","expires_at":%q}`, now.Format(time.RFC3339)), Serving, false},
		{"unknown word", "off", 0, true},
		{"empty", "", 0, true},
		{"broken json", `{"mode":`, 0, true},
		{"json with an unknown mode", `{"mode":"off"}`, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ParseModeRecord([]byte(tt.value))
			if (err != nil) != tt.bad {
				t.Fatalf("error %v, want one: %v", err, tt.bad)
			}
			if err == nil && r.At(now) != tt.want {
				t.Errorf("got %s, want %s", r.At(now), tt.want)
			}
		})
	}
}

// Within a region what an edge sends counts as its seats do, whichever is more; an edge that sheds
// comes after all that do not, and is told apart by Busy.
func TestEgressIsLoad(t *testing.T) {
	w := newWorld(at("de-ber", "DE", 52.52, 13.4, 3), at("de-fra", "DE", 50.11, 8.68, 1))
	es := w.Regions[0].Edges
	es[0].Load = Load{Consults: 10, Egress: 80}
	es[1].Load = Load{Consults: 50}
	es[2].Load = Load{Consults: 1, Sheds: 3}
	order := func(c *Client) (ids []region.EdgeID) {
		for _, x := range rank(w, c).Candidates {
			ids = append(ids, w.Regions[x.Region].Edges[x.Edge].ID)
		}
		return ids
	}
	if got, want := order(client("DE")), []region.EdgeID{"de-ber-2", "de-ber-1", "de-fra-1", "de-ber-3"}; !slices.Equal(got, want) {
		t.Errorf("routine: %v, want %v", got, want)
	}
	if got, want := order(of(Urgent, client("DE"))), []region.EdgeID{"de-ber-3", "de-ber-2", "de-ber-1", "de-fra-1"}; !slices.Equal(got, want) {
		t.Errorf("urgent: %v, want %v", got, want)
	}
	d := rank(w, client("DE"))
	if x := Explain(d); len(x.Regions) != 2 || x.Regions[0].Region != "de-ber" || d.Busy() {
		t.Errorf("explained as %+v, busy %t", x.Regions, d.Busy())
	}
	for i := range w.Regions {
		sheds(3)(&w.Regions[i])
	}
	if d := rank(w, client("DE")); !d.Busy() || best(d) != "de-ber" {
		t.Errorf("all shed: %s, busy %t", best(d), d.Busy())
	}
	for name, load := range map[string]Load{"tenth": {Consults: 1, Egress: 11}, "sheds": {Consults: 1, Sheds: 1}, "spent": {Consults: 1, Spent: true}} {
		if e, was := (Edge{Admits: 100, Load: load}), (Edge{Admits: 100, Load: Load{Consults: 1}}); e.Decides() == was.Decides() {
			t.Errorf("%s: decides as before", name)
		}
	}
	if a, b := (Edge{Load: Load{Egress: 11}}), (Edge{Load: Load{Egress: 19}}); a.Decides() != b.Decides() {
		t.Error("within a tenth nothing is decided otherwise")
	}
}
