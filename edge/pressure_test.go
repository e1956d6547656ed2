package edge

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/consult/router"
	"bailiwick/edge/sfu"
	"bailiwick/edge/sfu/ladder"
	"bailiwick/edge/signal"
	"bailiwick/region"
	"bailiwick/steer"
)

// budget has the map in force give an edge of a region so many bit/s.
func (f *fixture) budget(at region.ID, bits float64) {
	m := *f.world.Current().Map
	m.Digest = fmt.Sprint("budget ", bits)
	m.Regions = slices.Clone(m.Regions)
	for i := range m.Regions {
		if m.Regions[i].ID == at {
			m.Regions[i].Capacity.EgressMbps, m.Regions[i].Capacity.Headroom = 10_000, 1-bits/10e9
		}
	}
	f.world.SetMap(&m)
}

// consults of each priority, the least first, with two callers each.
type room struct {
	minted
	priority string
	callers  [2]*caller
}

func (f *fixture) rooms(at region.ID) (all []room) {
	for p := ladder.Education; p <= ladder.Emergency; p++ {
		r := room{minted: f.of(at, p.String()), priority: p.String()}
		for i := range r.callers {
			r.callers[i] = f.caller(at, fmt.Sprintf("%s %d", p, i), r.Participants[i].Token)
		}
		all = append(all, r)
	}
	for _, r := range all {
		for _, c := range r.callers {
			c.more("voices", &c.heard, 50)
			c.more("frames", &c.seen, 50)
		}
	}
	return all
}

func (f *fixture) reply(at region.ID, id string) (r router.Reply) {
	f.t.Helper()
	if code := f.call(at, "GET", "/v1/consults/"+id, "", "dev", &r); code != 200 {
		f.t.Fatalf("GET %s: %d", id, code)
	}
	return r
}

func off(cause signal.Cause) func(message) bool {
	return func(m message) bool { return m.Type == "quality" && m.Video == "off" && m.Cause == string(cause) }
}

func whole(m message) bool { return m.Type == "quality" && m.Video == "full" }

// twice is how long TestPressure has the edge at twice its budget, beside what it needs to see
// everything once: go test ./edge -run TestPressure -v -args -twice 10m
var twice = flag.Duration("twice", 0, "how long the edge is at twice its budget in TestPressure")

// Real media at twice the budget: the least clinical lose their video first, nobody a voice, new
// ones go where there is room, urgent ones are taken, and all of it comes back.
func TestPressure(t *testing.T) {
	f := start(t, 100, "de-ber", "de-fra")
	rooms := f.rooms("de-ber")
	e := f.edges["de-ber"]
	waits := f.consult("de-ber") // placed here before anything is short
	load := func() ladder.Load {
		_, _, load, _ := e.pressure.counts()
		return load
	}
	for end := time.Now().Add(patience); load().Egress < 1_000_000; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("egress of %d bit/s", load().Egress)
		}
	}
	sends := load().Egress
	t.Logf("%d consults send %d bit/s", len(rooms), sends)
	f.budget("de-ber", float64(sends)/2)
	for _, r := range rooms[:3] {
		for _, c := range r.callers {
			m := c.await("video off", off(signal.CauseEdge))
			if m.Participant != r.Participants[0].ID && m.Participant != r.Participants[1].ID {
				t.Errorf("%s: %+v", c.name, m)
			}
		}
	}

	// The order, by the timelines: who is more clinical went off no sooner.
	var offs []time.Time
	for n, r := range rooms {
		got := f.reply("de-ber", r.ID)
		i := slices.IndexFunc(got.Events, func(l router.Line) bool {
			return l.What == "video" && l.Is == "audio" && l.Reason == "egress"
		})
		at := time.Now().Add(time.Hour)
		if i >= 0 {
			at = got.Events[i].At
		}
		if len(offs) > 0 && at.Before(offs[len(offs)-1]) {
			t.Errorf("%s lost its video at %s, before who is less clinical at %s", r.priority, at, offs[len(offs)-1])
		}
		offs = append(offs, at)
		if got.Profile != "face" || got.Video == "" || n < 3 && len(got.Events) == 0 {
			t.Errorf("%s: %+v", r.priority, got)
		}
		for _, p := range got.Participants {
			if p.Network == nil { // of which these callers report nothing
				t.Errorf("%s: nothing of the way of %s", r.priority, p.ID)
			}
		}
		t.Log(r.priority, got.Video, got.Events)
	}

	// New ones: routine to the neighbour, at the placement and at the door; urgent here.
	e.pressure.mu.Lock()
	here := e.pressure.report.Here
	e.pressure.mu.Unlock()
	if here != ladder.Urgent {
		t.Errorf("takes new ones from %s on, want urgent", here)
	}
	door := f.dial("de-ber")
	door.hello(waits.Participants[0].Token, "")
	if m := door.next(signal.TypeMove); m.Place.Region != "de-fra" {
		t.Errorf("at the door: %+v", m)
	}
	f.until("de-ber has said that it sheds", func(w *steer.World) bool {
		_, e := w.Edge("de-ber-1")
		return e != nil && e.Load.Sheds == 3 && e.Load.Egress > 0
	})
	if c := f.consult("de-ber"); c.Placement.Region != "de-fra" {
		t.Errorf("a routine one is placed in %s", c.Placement.Region)
	}
	urgent := f.of("de-fra", "urgent")
	if urgent.Placement.Region != "de-ber" {
		t.Errorf("an urgent one is placed in %s", urgent.Placement.Region)
	}
	s := f.dial("de-ber")
	s.hello(urgent.Participants[0].Token, "")
	s.next(signal.TypeWelcome)

	// For as long as it lasts: urgent ones get in, and who is here stays and is heard.
	taken := 0
	for end := time.Now().Add(*twice); time.Now().Before(end); taken++ {
		c := f.of("de-fra", "urgent")
		if c.Placement.Region != "de-ber" {
			t.Fatalf("the urgent one after %d others is placed in %s", taken, c.Placement.Region)
		}
		s := f.dial("de-ber")
		s.hello(c.Participants[0].Token, "")
		s.next(signal.TypeWelcome)
		for _, r := range rooms {
			for _, c := range r.callers {
				c.more("voices", &c.heard, 100)
			}
		}
		s.send(`{"type":"leave"}`)
	}
	t.Logf("%d urgent ones more in %s", taken, *twice)

	// And back.
	for _, r := range rooms {
		for _, c := range r.callers {
			c.forget()
		}
	}
	f.budget("de-ber", 10*float64(sends))
	for _, r := range rooms[:3] {
		for _, c := range r.callers {
			c.await("video back", whole)
			c.more("frames", &c.seen, 20)
		}
	}
	for _, r := range rooms {
		for _, c := range r.callers {
			c.more("voices", &c.heard, 10)
			if gap := c.gap.Load(); gap > 25 { // half a second: a loaded machine may lose a few
				t.Errorf("%s missed %d packets of a voice on end", c.name, gap)
			}
			for _, m := range c.told {
				if m.Type == "ended" || m.Type == "move" || m.Type == "refused" {
					t.Errorf("%s: %+v", c.name, m)
				}
			}
		}
	}
}

// The reason is told, and what has gone comes back only after it was calm for a while. Nothing of
// an edge that is at its ease is a step.
func TestPressureOfTheMachine(t *testing.T) {
	registry, backend := prometheus.NewRegistry(), newListener(t)
	f := startWith(t, 10, func(c *Config) {
		c.Metrics = registry
		backend.queue(c)
	}, "de-ber")
	e := f.edges["de-ber"]
	c := f.consult("de-ber")
	told := []string{"started"}
	for i, p := range c.Participants {
		s := f.dial("de-ber")
		s.hello(p.Token, "")
		s.next(signal.TypeWelcome)
		told = append(told, "joined "+p.ID+" "+[]string{"patient", "clinician"}[i])
		backend.hears(t, "de-ber-1", told...)
	}
	press := func(cpu, memory float64) {
		e.pressure.mu.Lock()
		defer e.pressure.mu.Unlock()
		e.pressure.gauge = func() (float64, float64) { return cpu, memory }
	}
	is := func(step string) router.Reply {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			r := f.reply("de-ber", c.ID)
			if r.Video == step {
				return r
			}
			if time.Now().After(end) {
				t.Fatalf("%+v, want %s", r, step)
			}
		}
	}
	if r := is("full"); len(r.Events) != 0 {
		t.Errorf("at its ease: %+v", r.Events)
	}
	press(0.2, 0.95)
	r := is("audio")
	calm := time.Now()
	press(0.2, 0.2)
	for _, l := range r.Events {
		if l.Reason != "memory" {
			t.Errorf("%+v", l)
		}
	}
	r = is("full")
	if now := time.Since(calm); now < 10*time.Second { // two times five seconds, one step and then two
		t.Errorf("all was back after %s", now)
	}
	if l := r.Events[len(r.Events)-1]; l.Is != "full" || l.Reason != "relief" {
		t.Errorf("%+v", l)
	}
	for _, l := range r.Events { // their backend hears of each
		told = append(told, "degraded "+l.Is+" "+l.Reason)
	}
	backend.hears(t, "de-ber-1", told...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, m := range families {
		for _, s := range m.GetMetric() {
			words := m.GetName()
			for _, l := range s.GetLabel() {
				if l.GetName() != "edge" && l.GetName() != "region" {
					words += " " + l.GetValue()
				}
			}
			found[words] = s.GetGauge().GetValue() + s.GetCounter().GetValue()
		}
	}
	for want, n := range map[string]float64{"bailiwick_ladder_consults routine full": 1, "bailiwick_ladder_consults routine audio": 0,
		"bailiwick_ladder_steps_total routine memory audio": 1, "bailiwick_ladder_steps_total routine relief full": 1, "bailiwick_ladder_rung": 0} {
		if got, there := found[want]; !there || got != n {
			t.Errorf("%s: %v, %t; want %v", want, got, there, n)
		}
	}
	for _, line := range []string{`level=WARN msg="the edge sheds load: consults lose quality, the least clinical first"`, "reason=memory", `msg="the edge sheds no load any more"`} {
		if !strings.Contains(f.log.String(), line) {
			t.Errorf("the log has no %s", line)
		}
	}
}

// What is measured at one step foresees the others in the plan's proportions.
func TestRates(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newRates()
	if got := r.foresee(ladder.Audio); got != plan {
		t.Errorf("of nobody yet: %v, want the plan", got)
	}
	s := sfu.RoomStats{Participants: 3}
	for range 5 {
		s.Packets += 300
		s.Bytes += 300 * 1000
		now = now.Add(time.Second)
		r.measure(&s, ladder.Full, now, time.Second)
	}
	got := r.foresee(ladder.Full)
	if want := 300 * (1000 + around) * 8; got[ladder.Full] != want {
		t.Errorf("measured %d, want %d", got[ladder.Full], want)
	}
	if got[ladder.Audio] != 3*80_000 || got[ladder.Both] >= got[ladder.Spatial] || got[ladder.Spatial] >= got[ladder.Temporal] || got[ladder.Temporal] >= got[ladder.Full] {
		t.Errorf("foreseen %v", got)
	}
	// At audio what its video took is remembered.
	was := got[ladder.Full]
	for range 5 {
		s.Packets += 300
		s.Bytes += 300 * 40
		now = now.Add(time.Second)
		r.measure(&s, ladder.Audio, now, time.Second)
	}
	if got = r.foresee(ladder.Audio); got[ladder.Audio] != 300*(40+around)*8 || got[ladder.Full] < was*99/100 || got[ladder.Full] > was*101/100 {
		t.Errorf("foreseen at audio %v, want %d at full", got, was)
	}
	// A room that was made anew begins at nothing.
	s = sfu.RoomStats{Participants: 2, Packets: 1, Bytes: 1}
	r.measure(&s, ladder.Full, now.Add(time.Second), time.Second)
	if r.sends < 0 || r.foresee(ladder.Full)[ladder.Full] < 0 {
		t.Errorf("%+v", r)
	}
}

// A gauge of this very process.
func TestGauge(t *testing.T) {
	g := newGauge()
	g.read()
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
	}
	cpu, memory := g.read()
	if processorTime() > 0 && (cpu <= 0 || cpu > 1.5) {
		t.Errorf("CPU %v after a busy loop", cpu)
	}
	if memory < 0 || memory > 1 {
		t.Errorf("memory %v", memory)
	}
	was := debug.SetMemoryLimit(64 << 20)
	defer debug.SetMemoryLimit(was)
	hold := make([]byte, 32<<20)
	runtime.GC()
	if _, memory = g.read(); memory < 0.5 {
		t.Errorf("memory %v with half of the limit held", memory)
	}
	runtime.KeepAlive(hold)
	hold = nil
	runtime.GC()
	if _, memory = g.read(); memory > 0.5 {
		t.Errorf("memory %v after it was freed", memory)
	}

	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("self", "4:memory:/old\n0::/a/b\n")
	for _, c := range []struct {
		a, b string
		want uint64
	}{{"max", "max", 0}, {"1000", "max", 1000}, {"max", "500", 500}, {"400", "500", 400}, {"what", "500", 500}} {
		write("a/memory.max", c.a+"\n")
		write("a/b/memory.max", c.b+"\n")
		if got := cgroupLimit(filepath.Join(dir, "self"), dir); got != c.want {
			t.Errorf("limits %s, %s: %d, want %d", c.a, c.b, got, c.want)
		}
	}
	if got := cgroupLimit(filepath.Join(dir, "none"), dir); got != 0 {
		t.Errorf("no cgroup: %d", got)
	}
}
