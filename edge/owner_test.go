package edge

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/edge/signal"
	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store"
)

// lossy is a memory store that can be out of reach for reads and writes: the one fault
// that a memory store cannot have. Its watches go on.
type lossy struct {
	*store.Memory
	gone atomic.Bool
}

var errGone = errors.New("connection refused")

func (l *lossy) Get(ctx context.Context, key string) (store.Entry, error) {
	if l.gone.Load() {
		return store.Entry{}, errGone
	}
	return l.Memory.Get(ctx, key)
}

func (l *lossy) CAS(ctx context.Context, key string, value []byte, rev uint64) (store.Entry, error) {
	if l.gone.Load() {
		return store.Entry{}, errGone
	}
	return l.Memory.CAS(ctx, key, value, rev)
}

func (l *lossy) Put(ctx context.Context, key string, value []byte) (store.Entry, error) {
	if l.gone.Load() {
		return store.Entry{}, errGone
	}
	return l.Memory.Put(ctx, key, value)
}

func (l *lossy) Commit(ctx context.Context, ops ...store.Op) (uint64, error) {
	if l.gone.Load() {
		return 0, errGone
	}
	return l.Memory.Commit(ctx, ops...)
}

func (f *fixture) mode(id region.ID, mode string) {
	f.t.Helper()
	if err := world.SetMode(f.t.Context(), f.st, id, steer.ModeRecord{Mode: mode}); err != nil {
		f.t.Fatal(err)
	}
	want, err := steer.ParseMode(mode)
	if err != nil {
		f.t.Fatal(err)
	}
	f.until(string(id)+" is "+mode, func(w *steer.World) bool { return w.Regions[w.RegionIndex(id)].Mode == want })
}

// read is the next message, whatever it is.
func (s *socket) read() message {
	s.t.Helper()
	for {
		m := s.any()
		if m.Type != string(signal.TypePeers) && m.Type != string(signal.TypeOffer) {
			return m
		}
	}
}

// Somebody who missed the primary's welcome gets a seat on the standby, and is sent back,
// since the primary is well: nobody talks alone on the standby for ever.
func TestStandbySendsBack(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	c := f.consult("de-ber")
	clinician := f.dial("de-ber")
	clinician.hello(c.Participants[1].Token, "")
	clinician.next(signal.TypeWelcome)
	patient := f.dial("de-fra")
	patient.hello(c.Participants[0].Token, "")
	if w := patient.next(signal.TypeWelcome); len(w.Standby) != 1 || w.Standby[0].Edge != "de-ber-1" || w.Standby[0].Token == "" {
		t.Errorf("the standby's welcome names as the way out %+v, want the primary, with a token", w.Standby)
	}
	m := patient.next(signal.TypeMove)
	back := f.dial("de-ber")
	back.hello(m.Token, "")
	if w := back.next(signal.TypeWelcome); w.Epoch != 1 || m.Place.Region != "de-ber" {
		t.Errorf("sent to %+v, welcomed at epoch %d", m.Place, w.Epoch)
	}
}

// Nobody joins what has ended, wherever the end is heard first.
func TestEndedConsultIsNotJoinedAgain(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	s.conn.CloseNow() // a page that was closed says nothing
	if code := f.call("de-fra", "DELETE", "/v1/consults/"+c.ID, "", "dev", nil); code != 204 {
		t.Fatalf("DELETE: %d", code)
	}
	for _, at := range []region.ID{"de-ber", "de-fra"} {
		f.edges[at].heardOf(t, consult.ID(c.ID))
		again := f.dial(at)
		again.hello(c.Participants[0].Token, "")
		if m := again.next(signal.TypeRefused); m.Code != "consult_ended" {
			t.Errorf("%s: refused with %s", at, m.Code)
		}
	}
	// An edge that knows of no end, as after a restart, asks.
	f.edges["de-fra"].rooms.mu.Lock()
	clear(f.edges["de-fra"].rooms.told)
	f.edges["de-fra"].rooms.mu.Unlock()
	late := f.dial("de-fra")
	late.hello(c.Participants[1].Token, "")
	for m := late.read(); m.Type != "ended" && m.Code != "consult_ended"; m = late.read() {
	}
}

// heardOf waits until the edge has heard of a consult's end.
func (e *Edge) heardOf(t *testing.T, id consult.ID) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !e.rooms.ended(id); time.Sleep(time.Millisecond) { // no event tells
		if time.Now().After(deadline) {
			t.Fatalf("edge %s has not heard of the end within a minute", e.cfg.ID)
		}
	}
}

// A seat that is taken while the room closes is in a room all the same: who is welcomed
// hears of the end.
func TestJoinWhileTheRoomCloses(t *testing.T) {
	f := start(t, 100, "de-ber", "de-fra")
	for range 30 {
		c := f.consult("de-ber")
		first, second := f.dial("de-ber"), f.dial("de-ber")
		first.hello(c.Participants[0].Token, "")
		first.next(signal.TypeWelcome)
		first.send(`{"type":"leave"}`)
		second.hello(c.Participants[1].Token, "")
		second.next(signal.TypeWelcome)
		if code := f.call("de-ber", "DELETE", "/v1/consults/"+c.ID, "", "dev", nil); code != 204 {
			t.Fatalf("DELETE: %d", code)
		}
		for m := second.read(); m.Type != "ended"; m = second.read() {
		}
	}
}

// A region that is down is not joined by old links: their holders are sent on before any
// media. Who is in a call there and comes back is admitted.
func TestOldLinkToARegionThatIsDown(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	running, waiting := f.consult("de-ber"), f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(running.Participants[0].Token, "")
	session := s.next(signal.TypeWelcome).Session
	f.mode("de-ber", "down")

	link := f.dial("de-ber")
	link.hello(waiting.Participants[0].Token, "")
	m := link.read()
	if m.Type != "move" || m.Place.Region != "de-fra" || m.Epoch != 2 || m.Reason != "region_down" {
		t.Fatalf("an old link is answered with %+v, want to be sent to de-fra", m)
	}
	there := f.dial("de-fra")
	there.hello(m.Token, "")
	there.next(signal.TypeWelcome)

	back := f.dial("de-ber")
	back.hello(running.Participants[0].Token, session)
	if m := back.read(); m.Type != "welcome" {
		t.Errorf("who comes back to their call gets %+v", m)
	}

	f.mode("de-fra", "down")
	alone := f.consult2("de-ber")
	if alone != 503 {
		t.Errorf("a new consult with every region down: %d", alone)
	}
	refused := f.dial("de-fra")
	refused.hello(waiting.Participants[1].Token, "")
	if m := refused.next(signal.TypeRefused); m.Code != "region_down" {
		t.Errorf("refused with %s, want region_down", m.Code)
	}
}

// consult2 is the status of asking for a consult.
func (f *fixture) consult2(at region.ID) int {
	f.t.Helper()
	return f.call(at, "POST", "/v1/consults", `{"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}]}`, "dev", nil)
}

// Versions differ at every move: what a newer page says beyond this one is ignored.
func TestNewerPage(t *testing.T) {
	f := start(t, 10, "de-ber")
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.send(`{"type":"hello","token":"` + c.Participants[0].Token + `","features":["captions"],"captions":{"language":"de"}}`)
	if w := s.next(signal.TypeWelcome); len(w.Features) == 0 {
		t.Error("the welcome names no features")
	}
	s.send(`{"type":"captions","text":"hello"}`)
	s.send(`{"type":"state","mic":true,"camera":false,"receive_video":true,"hand":true}`)
	other := f.dial("de-ber")
	other.hello(c.Participants[1].Token, "")
	other.next(signal.TypeWelcome)
	s.next(signal.TypePeers) // the socket lives
}

// Static stability is for new patients too: made, joined, moved and ended without the store,
// and recorded when it is back.
func TestStoreAway(t *testing.T) {
	st := &lossy{}
	f := startWith(t, 10, func(c *Config) {
		if m, is := c.Stores[""].(*store.Memory); is && st.Memory == nil {
			st.Memory = m
		}
		c.Stores = store.Set{"": st}
	}, "de-ber", "de-fra")
	st.gone.Store(true)
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	var known struct {
		Recorded  bool
		Placement struct{ Edge string }
	}
	if code := f.call("de-ber", "GET", "/v1/consults/"+c.ID, "", "dev", &known); code != 200 || known.Recorded || known.Placement.Edge != "de-ber-1" {
		t.Errorf("GET: %d %+v", code, known)
	}
	// An edge that holds a consult knows it without a record, too.
	later := f.consult("de-ber")
	other := f.dial("de-fra")
	other.hello(later.Participants[0].Token, "")
	other.next(signal.TypeWelcome)
	if code := f.call("de-fra", "GET", "/v1/consults/"+later.ID, "", "dev", &known); code != 200 || known.Recorded {
		t.Errorf("GET at the edge that holds it: %d %+v", code, known)
	}
	if code := f.call("de-fra", "DELETE", "/v1/consults/"+later.ID, "", "dev", new(any)); code != 202 {
		t.Errorf("DELETE at the edge that holds it: %d", code)
	}
	for m := other.read(); m.Type != "ended"; m = other.read() {
	}
	f.mode("de-ber", "down") // the watches go on
	m := s.next(signal.TypeMove)
	there := f.dial("de-fra")
	there.hello(m.Token, "")
	there.next(signal.TypeWelcome)
	s.conn.Close(websocket.StatusNormalClosure, "")
	st.gone.Store(false)
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) { // no event tells
		e, err := st.Get(t.Context(), consult.ID(c.ID).Key())
		if err == nil {
			if p, err := consult.ParsePlacement(e.Value); err == nil && p.Epoch == 2 && p.Edge == "de-fra-1" {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("with the store back the record is %s, %v", e.Value, err)
		}
	}
	if code := f.call("de-fra", "DELETE", "/v1/consults/"+c.ID, "", "dev", nil); code != 204 {
		t.Errorf("DELETE: %d", code)
	}
	for m := there.read(); m.Type != "ended"; m = there.read() {
	}
}

// An edge that has heard nothing yet cannot tell a good link from a bad one, and says so: a
// page takes token_invalid for the end.
func TestKeyNotHeardYet(t *testing.T) {
	f := start(t, 10, "de-ber")
	stranger, err := router.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	token, err := stranger.Sign(&consult.Token{Terms: consult.Terms{Consult: "c", Jurisdictions: []residency.Jurisdiction{"DE"}, Edge: "de-ber-1", Epoch: 1},
		Participant: "p", Role: "patient", Expires: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	e := f.edges["de-ber"]
	if _, bad := e.admit(token); bad == nil || bad.Code != "token_invalid" {
		t.Errorf("with every key heard: %+v, want token_invalid", bad)
	}
	deaf, err := world.New(world.Config{Map: f.world.Current().Map, Law: residency.Shipped(), Stores: store.Set{"": store.NewMemory()}, Health: health.Production(),
		ParseKey: router.ParseKey, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	again := *e
	again.cfg.World = deaf
	if _, bad := again.admit(token); bad == nil || bad.Code != "store_unavailable" {
		t.Errorf("with no key heard: %+v, want store_unavailable", bad)
	}
}
