package edge

import (
	"fmt"
	"testing"
	"time"

	"bailiwick/edge/signal"
	"bailiwick/steer"
	"bailiwick/steer/world"
)

// The seats are taken: what is urgent comes in all the same, with audio until the edge has looked,
// and nothing else does.
func TestUrgentNeedsNoSeat(t *testing.T) {
	f := start(t, 1, "de-ber")
	routine, other := f.consult("de-ber"), f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(routine.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	f.until("the edge has said that it is full", func(w *steer.World) bool {
		_, e := w.Edge("de-ber-1")
		return e != nil && e.Load.Consults == 1
	})
	var refused struct{ Code string }
	body := `{"priority":%q,"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}]}`
	for _, p := range []string{"education", "follow-up", "routine"} {
		if code := f.call("de-ber", "POST", "/v1/consults", fmt.Sprintf(body, p), "dev", &refused); code == 201 || refused.Code != "region_full" {
			t.Errorf("%s: %d %s", p, code, refused.Code)
		}
	}
	late := f.dial("de-ber")
	late.hello(other.Participants[0].Token, "")
	if m := late.next(signal.TypeRefused); m.Code != "region_full" {
		t.Errorf("placed before, and late: %+v", m)
	}
	for _, p := range []string{"urgent", "emergency"} {
		c := f.of("de-ber", p)
		s := f.dial("de-ber")
		s.hello(c.Participants[0].Token, "")
		s.next(signal.TypeWelcome)
		if r := f.reply("de-ber", c.ID); len(r.Events) == 0 || r.Events[0].Is != "audio" || r.Events[0].Reason != "entered" {
			t.Errorf("%s: %+v", p, r)
		}
	}
	if n, _ := f.edges["de-ber"].rooms.count(); n != 3 {
		t.Errorf("%d consults, want those beyond the seats to count", n)
	}
}

// A region is drained into a neighbour that is full: seats bind no move. It begins there with
// audio, and gets its video when the edge has looked.
func TestMovesNeedNoSeat(t *testing.T) {
	f := start(t, 1, "de-ber", "de-fra")
	mode := func(word string, is steer.Mode) {
		t.Helper()
		if err := world.SetMode(t.Context(), f.st, "de-ber", steer.ModeRecord{Mode: word}); err != nil {
			t.Fatal(err)
		}
		f.until("de-ber is "+word, func(w *steer.World) bool { return w.Regions[w.RegionIndex("de-ber")].Mode == is })
	}
	mode("draining", steer.Draining)
	there := f.consult("de-ber")
	if there.Placement.Region != "de-fra" {
		t.Fatalf("placed in %s", there.Placement.Region)
	}
	holder := f.dial("de-fra")
	holder.hello(there.Participants[0].Token, "")
	holder.next(signal.TypeWelcome)
	f.until("de-fra has said that it is full", func(w *steer.World) bool {
		_, e := w.Edge("de-fra-1")
		return e != nil && e.Load.Consults == 1
	})
	mode("serving", steer.Serving)
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	mode("draining", steer.Draining)
	m := s.next(signal.TypeMove)
	if m.Place.Region != "de-fra" {
		t.Fatalf("move %+v", m)
	}
	moved := f.dial("de-fra")
	moved.hello(m.Token, "")
	moved.next(signal.TypeWelcome)
	if r := f.reply("de-fra", c.ID); len(r.Events) == 0 || r.Events[0].Is != "audio" || r.Events[0].Reason != "entered" {
		t.Errorf("it begins with %+v", r)
	}
	for end := time.Now().Add(patience); f.reply("de-fra", c.ID).Video != "full"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", f.reply("de-fra", c.ID))
		}
	}
}
