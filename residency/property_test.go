package residency

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// consultAt is one random question: a consult and a hop of it.
type consultAt struct {
	plane Plane
	hop   Hop
	s     Subject
}

var somePlaces = append(slices.Clone(goldenPlaces), "CA", "CA-ON", "US", "KR", "JP", "HK", "CN", "RU", "KE", "IN", "RE", "AT", "NO", "BY")

var draws = sync.OnceValue(func() (d struct {
	who   []Jurisdiction
	facts map[string][]Fact
}) {
	d.who = append(Shipped().Jurisdictions(), "BY", "CA-PE", "US-VA")
	d.facts = map[string][]Fact{}
	for _, scope := range []string{"operator", "tenant", "provider"} {
		d.facts[scope] = slices.Sorted(maps.Keys(asserted(scope)))
	}
	return d
})

func randomConsult(r *rand.Rand) consultAt {
	who := draws().who
	pick := func(from []Jurisdiction) Jurisdiction { return from[r.IntN(len(from))] }
	c := consultAt{plane: Plane(r.IntN(3)), hop: Hop{At: pick(somePlaces), Provider: some(r, "provider")}}
	c.s = Subject{E2EE: r.IntN(3) == 0, Operator: some(r, "operator"), Tenant: &Tenant{Facts: some(r, "tenant"),
		ProductDefaultOff: map[Jurisdiction]Record{}, NotPublicBody: map[Jurisdiction]Record{}, DenyExceptions: map[Jurisdiction]Record{}}}
	for range 1 + r.IntN(3) {
		j := pick(who)
		if r.IntN(3) == 0 {
			j = c.hop.At // or hardly anything is permitted
		}
		c.s.Participants = append(c.s.Participants, j)
		if r.IntN(2) == 0 {
			c.s.Tenant.ProductDefaultOff[j], c.s.Tenant.NotPublicBody[j] = paper, paper
		}
		if r.IntN(2) == 0 {
			instrument(j, c.hop.At.Country(), pick(somePlaces))(&c.s)
		}
	}
	for _, o := range Shipped().Overlays() {
		if r.IntN(4) == 0 {
			c.s.Tenant.Overlays = append(c.s.Tenant.Overlays, o)
		}
	}
	if r.IntN(4) == 0 {
		c.s.Tenant.DenyExceptions[c.hop.At.Country()] = paper
	}
	if r.IntN(4) == 0 {
		c.s.Tags = []string{"my_health_record_data", "government_or_sovereign_data"}[r.IntN(2):]
	}
	return c
}

// some are most of a scope's facts; the order of the draws is fixed.
func some(r *rand.Rand, scope string) Facts {
	f := Facts{}
	for _, name := range draws().facts[scope] {
		if r.IntN(12) > 0 {
			f[name] = paper
		}
	}
	return f
}

func (c consultAt) ask(l *Law) Verdict { return l.Permits(c.plane, &c.hop, &c.s, now) }

// eachDenied runs change on random consults and fails where a denial has become a
// permission. It fails too where the draw never permits: then it proves nothing.
func eachDenied(t *testing.T, change func(*rand.Rand, *consultAt)) {
	t.Helper()
	l := Shipped().With(map[string]bool{"dpf_valid": true})
	r := rand.New(rand.NewPCG(393, 8))
	denied, permitted, bit := 0, 0, 0
	for range 5_000 {
		c := randomConsult(r)
		before := c.ask(l)
		change(r, &c)
		after := c.ask(l)
		switch {
		case before.Permitted():
			permitted++
			if !after.Permitted() {
				bit++
			}
		default:
			denied++
			if after.Permitted() {
				t.Fatalf("%s for %v at %s: refused with %q, and permitted after the change", c.plane, c.s.Participants, c.hop.At, text(before))
			}
		}
	}
	if denied < 500 || permitted < 500 || bit == 0 {
		t.Errorf("%d denied, %d permitted, %d of them denied after: the draw proves nothing", denied, permitted, bit)
	}
}

func TestAddingAParticipantNeverPermits(t *testing.T) {
	who := append(Shipped().Jurisdictions(), "BY")
	eachDenied(t, func(r *rand.Rand, c *consultAt) {
		i := r.IntN(len(c.s.Participants) + 1)
		c.s.Participants = slices.Insert(c.s.Participants, i, who[r.IntN(len(who))])
	})
}

func TestAddingAnOverlayNeverPermits(t *testing.T) {
	names := append(Shipped().Overlays(), "unheard_of")
	eachDenied(t, func(r *rand.Rand, c *consultAt) {
		c.s.Tenant.Overlays = append(c.s.Tenant.Overlays, names[r.IntN(len(names))])
	})
}

func TestRemovingAFactNeverPermits(t *testing.T) {
	eachDenied(t, func(r *rand.Rand, c *consultAt) {
		f := []Facts{c.s.Operator, c.s.Tenant.Facts, c.hop.Provider}[r.IntN(3)]
		if names := slices.Sorted(maps.Keys(f)); len(names) > 0 {
			delete(f, names[r.IntN(len(names))])
		}
	})
}

func TestRemovingARecordNeverPermits(t *testing.T) {
	eachDenied(t, func(r *rand.Rand, c *consultAt) {
		switch r.IntN(5) {
		case 0:
			c.s.Instruments = nil
		case 1:
			c.s.Tenant.ProductDefaultOff = nil
		case 2:
			c.s.Tenant.NotPublicBody = nil
		case 3:
			c.s.Tenant.DenyExceptions = nil
		case 4:
			c.s.Tenant = &Tenant{Overlays: c.s.Tenant.Overlays}
		}
	})
}

func TestTurningAFlagOffNeverPermits(t *testing.T) {
	on := Shipped().With(map[string]bool{"dpf_valid": true})
	r := rand.New(rand.NewPCG(703, 25))
	bit := 0
	for range 5_000 {
		c := randomConsult(r)
		was, is := c.ask(on), c.ask(Shipped())
		if !was.Permitted() && is.Permitted() {
			t.Fatalf("%s for %v at %s: refused with the flag on, permitted with it off", c.plane, c.s.Participants, c.hop.At)
		}
		if was.Permitted() && !is.Permitted() {
			bit++
		}
	}
	if bit == 0 {
		t.Error("the flag never mattered: the draw proves nothing")
	}
}

// A consult is permitted where each of its participants is, in any order.
func TestOrderOfParticipants(t *testing.T) {
	l := Shipped().With(map[string]bool{"dpf_valid": true})
	r := rand.New(rand.NewPCG(44, 49))
	permitted := 0
	for range 5_000 {
		c := randomConsult(r)
		before := c.ask(l)
		alone := true
		for _, j := range c.s.Participants {
			one := c
			one.s.Participants = []Jurisdiction{j}
			alone = alone && one.ask(l).Permitted()
		}
		r.Shuffle(len(c.s.Participants), func(i, j int) {
			p := c.s.Participants
			p[i], p[j] = p[j], p[i]
		})
		after := c.ask(l)
		if before.Permitted() != after.Permitted() || before.Permitted() != alone {
			t.Fatalf("%s for %v at %s: %q, shuffled %q, each alone %t", c.plane, c.s.Participants, c.hop.At, text(before), text(after), alone)
		}
		if before.Permitted() && len(c.s.Participants) > 1 {
			permitted++
		}
		if shut := l.BreakGlass(c.plane, &c.hop, &c.s, now); before.Permitted() && !shut.Permitted() {
			t.Fatalf("permitted, but break-glass is shut by %q", text(shut))
		}
	}
	if permitted < 100 {
		t.Errorf("%d permitted of several participants: the draw proves little", permitted)
	}
}

// busy is a question that walks through many rows: subdivision, country, default,
// overlays, instrument, tags.
func busy() (*Law, Hop, Subject) {
	return hopTest{who: "CA-QC DE", at: "FR", with: all(instrument("CA-QC", "FR"), overlay("de_statutory", "nhs_england"), e2ee, tags("my_health_record_data"))}.parts()
}

func TestPermitsAllocatesNothing(t *testing.T) {
	l, h, s := busy()
	denied := h
	denied.At = "RU"
	for _, tt := range []struct {
		name string
		hop  Hop
		want Code
	}{{"permitted", h, OK}, {"refused", denied, DeniedCountry}} {
		t.Run(tt.name, func(t *testing.T) {
			if got := l.Permits(Media, &tt.hop, &s, now).Code; got != tt.want {
				t.Fatalf("verdict %q, want %q", got, tt.want)
			}
			if n := testing.AllocsPerRun(200, func() { l.Permits(Media, &tt.hop, &s, now) }); n != 0 {
				t.Errorf("%v allocations, want none", n)
			}
		})
	}
}

func BenchmarkPermits(b *testing.B) {
	l, h, s := busy()
	b.ReportAllocs()
	for b.Loop() {
		l.Permits(Media, &h, &s, now)
	}
}
