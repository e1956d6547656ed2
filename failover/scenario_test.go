package failover

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bailiwick/consult"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

var update = flag.Bool("update", false, "write what the scenarios do into them")

// TestScenarios plays testdata/*.txt, each of which one edge's view of one consult of two
// Germans, p and c. Lines:
//
//	self EDGE                      who this edge is; regions a, b, c are in Germany, x in the US
//	join WHO EDGE/STANDBY@EPOCH …  with parked, resumes, stranded, full, busy
//	leave|lost|unpark WHO
//	heard EDGE/STANDBY@EPOCH …     the record, or with notice a notice; with ended
//	wrote written|unwritten|beaten what became of the placement under way
//	world WHAT=HOW …               a=down, a-1=unhealthy, a-1=maintenance, a-1=full, a-1=sheds, a-1=spent, a=gone, a=unpapered, store=away, law=none
//	restored                       the store was taken back to an older state
//	stopping
//	wait 15s                       time passes, with every wake on the way
//	> …                            what the machine wanted of the edge since the last >
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := newScene(t).play(string(want))
			if *update && got != string(want) {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
			}
		})
	}
}

var began = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

type scene struct {
	t     *testing.T
	now   time.Time
	room  *Room
	w     *steer.World
	how   map[string]string
	seat  map[string]Seat
	name  map[Seat]string
	last  consult.Terms // of the newest Place
	acted []string
	gen   uint64
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, now: began, how: map[string]string{}, seat: map[string]Seat{}, name: map[Seat]string{}}
	s.world()
	return s
}

// world makes a World of how things are said to be.
func (s *scene) world() {
	m := &region.Map{Zone: "media.example", Providers: map[region.ProviderID]*region.Provider{"p": {Facts: facts("provider")}, "q": {}},
		Operator: region.Operator{Facts: facts("operator")}, Tenants: map[string]*residency.Tenant{"default": {Facts: facts("tenant")}}, WithdrawalGrace: time.Minute}
	if s.how["law"] == "none" {
		m.Operator.Facts = nil
	}
	for i, r := range []struct {
		id region.ID
		at residency.Jurisdiction
	}{{"a", "DE"}, {"b", "DE"}, {"c", "DE"}, {"x", "US-VA"}} {
		provider := region.ProviderID("p")
		if s.how[string(r.id)] == "unpapered" {
			provider = "q"
		}
		if s.how[string(r.id)] != "gone" {
			m.Regions = append(m.Regions, region.Region{ID: r.id, Provider: provider, Place: region.Place{Jurisdiction: r.at, Point: region.Point{Lat: 52 - 3*float64(i), Lon: 13}, Located: true}})
		}
	}
	s.gen++
	s.w = &steer.World{Generation: s.gen, At: s.now, Law: residency.Shipped(), Map: m, Away: map[string]bool{"": s.how["store"] == "away"}}
	for i := range m.Regions {
		r := &m.Regions[i]
		e := steer.Edge{ID: region.EdgeID(r.ID + "-1"), Health: steer.Up, Admits: 10}
		switch s.how[string(e.ID)] {
		case "unhealthy":
			e.Health = steer.Unhealthy
		case "maintenance":
			e.Mode = steer.Draining
		case "full":
			e.Load.Consults = e.Admits
		case "sheds":
			e.Load.Sheds = 3
		case "spent":
			e.Load.Spent = true
		}
		reg := steer.Region{Region: r, Hop: m.Hop(r), Edges: []steer.Edge{e}}
		if how := s.how[string(r.ID)]; how != "" && how != "gone" && how != "unpapered" {
			mode, err := steer.ParseMode(how)
			if err != nil {
				s.t.Fatal(err)
			}
			reg.Mode = mode
		}
		s.w.Regions = append(s.w.Regions, reg)
	}
}

// facts are all of one scope.
func facts(scope string) residency.Facts {
	f := residency.Facts{}
	for name, r := range residency.Shipped().Facts() {
		if r.Scope == scope {
			f[name] = residency.Record{ID: "test", Date: time.Unix(1, 0)}
		}
	}
	return f
}

// play returns the text with what the machine did in place of its > lines.
func (s *scene) play(text string) string {
	var out strings.Builder
	flush := func() {
		for _, a := range s.acted {
			fmt.Fprintf(&out, "> %s\n", a)
		}
		s.acted = nil
	}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, ">") {
			continue
		}
		flush()
		fmt.Fprintln(&out, line)
		if f := strings.Fields(line); len(f) > 0 && f[0] != "#" {
			s.do(line, f[0], f[1:])
		}
	}
	flush()
	return out.String()
}

func (s *scene) do(line, verb string, args []string) {
	has := func(word string) bool { return slices.Contains(args, word) }
	switch verb {
	case "self":
		id := region.EdgeID(args[0])
		s.room = New(id, region.ID(strings.TrimSuffix(args[0], "-1")))
	case "join":
		n := Seat(len(s.name) + 1)
		s.seat[args[0]], s.name[n] = n, args[0]
		role := consult.Role("patient")
		if strings.HasPrefix(args[0], "c") {
			role = "clinician"
		}
		s.step(Joined{Seat: n, Token: consult.Token{Terms: s.terms(args[1]), Participant: consult.ParticipantID(args[0][:1]), Role: role, Expires: s.now.Add(time.Hour)},
			Parked: has("parked"), Resumes: has("resumes"), Stranded: has("stranded"), Full: has("full"), Busy: has("busy")})
	case "leave":
		s.step(Left{s.seat[args[0]]})
	case "lost":
		s.step(Lost{s.seat[args[0]]})
	case "unpark":
		s.step(Unparked{s.seat[args[0]]})
	case "heard":
		ev := Heard{Terms: s.terms(args[0]), Ended: has("ended")}
		if !has("notice") {
			ev.Record = &consult.Placement{Terms: ev.Terms, Participants: []consult.Participant{{ID: "p", Role: "patient"}, {ID: "c", Role: "clinician"}},
				Expires: began.Add(consult.Life), Ended: ev.Ended}
		}
		s.step(ev)
	case "wrote":
		out := map[string]Outcome{"written": Written, "unwritten": Unwritten, "beaten": Beaten}
		s.step(Wrote{Terms: s.last, Outcome: out[args[0]]})
	case "world":
		for _, a := range args {
			k, v, _ := strings.Cut(a, "=")
			s.how[k] = v
		}
		s.world()
		s.step(World{})
	case "restored":
		s.step(Restored{})
	case "stopping":
		s.step(Stopping{})
	case "wait":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			s.t.Fatal(err)
		}
		end := s.now.Add(d)
		for n := 0; ; n++ {
			at := s.room.Wake()
			if at.IsZero() || at.After(end) {
				break
			}
			if n > 1000 {
				s.t.Fatalf("%s: the machine wakes without end at %s", line, at)
			}
			s.now = at
			s.step(Time{})
		}
		s.now = end
	default:
		s.t.Fatalf("%s: not a line of a scenario", line)
	}
}

// terms reads EDGE/STANDBY@EPOCH.
func (s *scene) terms(word string) consult.Terms {
	at, epoch, _ := strings.Cut(word, "@")
	edge, standby, _ := strings.Cut(at, "/")
	n, err := strconv.ParseUint(epoch, 10, 64)
	if err != nil {
		s.t.Fatalf("%s: want EDGE/STANDBY@EPOCH", word)
	}
	t := consult.Terms{Consult: "c1", Jurisdictions: []residency.Jurisdiction{"DE", "DE"}, Priority: consult.Routine, Tenant: "default", Edge: region.EdgeID(edge), Epoch: n}
	if standby != "" {
		t.Standby = []region.EdgeID{region.EdgeID(standby)}
	}
	return t
}

func (s *scene) step(ev Event) {
	for _, a := range s.room.Step(ev, s.w, s.now) {
		s.foreseen(a)
		if word := s.word(a); word != "" {
			s.acted = append(s.acted, word)
		}
	}
}

// foreseen holds what the machine does by law to what Foresee says of the same World.
func (s *scene) foreseen(a Action) {
	want := Moves
	switch a := a.(type) {
	case Withdraw:
		if a.EndsAt.IsZero() {
			return
		}
		want = Ends
	case End:
		if a.Reason != "law" {
			return
		}
		want = Ends
	case Place:
		if a.Reason != string(residency.FactMissing) {
			return
		}
	default:
		return
	}
	t := s.room.Terms()
	if got, by := Foresee(s.w, s.room.home, s.room.self, &consult.Placement{Terms: t}); got != want {
		s.t.Errorf("%#v: foreseen %d by %s, want %d", a, got, by.Code, want)
	}
}

func (s *scene) word(a Action) string {
	of := func(t consult.Terms) string { return fmt.Sprintf("%s/%s@%d", t.Edge, join(t.Standby), t.Epoch) }
	switch a := a.(type) {
	case Admit:
		return "admit " + s.name[a.Seat]
	case Refuse:
		return fmt.Sprintf("refuse %s: %s", s.name[a.Seat], a.Verdict.Code)
	case Move:
		return fmt.Sprintf("move %s to %s: %s", s.name[a.Seat], of(a.Token.Terms), a.Reason)
	case Close:
		return "close " + s.name[a.Seat]
	case End:
		return "end: " + a.Reason
	case Withdraw:
		if a.EndsAt.IsZero() {
			return "withdraw no more"
		}
		return fmt.Sprintf("withdraw in %s: %s", a.EndsAt.Sub(s.now), a.Verdict.Code)
	case Place:
		s.last = a.Terms
		word := fmt.Sprintf("place %s: %s; tell %s", of(a.Terms), a.Reason, join(a.Notify))
		if a.Lost != nil {
			word += "; if it is lost, again"
		}
		return word
	case Read:
		return "read"
	case Record:
		return ""
	}
	return fmt.Sprintf("%T", a)
}

func join(ids []region.EdgeID) string {
	var words []string
	for _, id := range ids {
		words = append(words, string(id))
	}
	return strings.Join(words, ",")
}

// Every action must be of use to somebody: a room that is over has no seats and wants none.
func TestEndedRoomIsEmpty(t *testing.T) {
	s := newScene(t)
	s.play("self a-1\njoin p a-1/b-1@1\njoin c a-1/b-1@1\nheard a-1/b-1@1 ended\n")
	if !s.room.Ended() || !s.room.Empty() || s.room.Active() || !s.room.Wake().IsZero() {
		t.Errorf("ended %v, empty %v, active %v, wakes %v", s.room.Ended(), s.room.Empty(), s.room.Active(), s.room.Wake())
	}
	if len(slices.Collect(maps.Keys(s.room.seats))) != 0 {
		t.Error("seats are left")
	}
}
