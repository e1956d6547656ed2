package edge

import (
	"testing"
	"time"

	"github.com/coder/websocket"

	"bailiwick/edge/signal"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/steer/world"
)

// The seat of one who moved is free once they close the socket, as protocol.md says of
// move; one whose socket was cut on the way has the seat still.
func TestMovedClientLeaves(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	c := f.consult("de-ber")
	clinician, patient := f.dial("de-ber"), f.dial("de-ber")
	clinician.hello(c.Participants[1].Token, "")
	clinician.next(signal.TypeWelcome)
	patient.hello(c.Participants[0].Token, "")
	session := patient.next(signal.TypeWelcome).Session
	if err := world.SetMode(t.Context(), f.st, "de-ber", steer.ModeRecord{Mode: "down"}); err != nil {
		t.Fatal(err)
	}
	patient.next(signal.TypeMove)
	clinician.next(signal.TypeMove)

	patient.conn.CloseNow()
	back := f.dial("de-ber")
	back.hello(c.Participants[0].Token, session)
	if got := back.next(signal.TypeWelcome).Session; got != session {
		t.Errorf("cut: session %q, want %q resumed", got, session)
	}
	back.next(signal.TypeMove)

	for _, s := range []*socket{clinician, back} {
		if err := s.conn.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	f.empty("de-ber")
}

// empty waits until nobody is on an edge.
func (f *fixture) empty(at region.ID) {
	f.t.Helper()
	r := f.edges[at].rooms
	r.mu.Lock()
	idle := r.idle
	r.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(patience):
		f.t.Errorf("seats of %s are taken still: %+v", at, f.edges[at].Rooms())
	}
}
