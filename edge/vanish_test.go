package edge

import (
	"testing"
	"time"

	"bailiwick/edge/signal"
	"bailiwick/edge/whiptest"
)

// Nobody keeps a seat who never connects and says nothing: one by WebSocket loses it 25 s after
// the last sign of life and 15 s to resume, one by WHIP after 25 s without media.
func TestVanishedLoseTheirSeats(t *testing.T) {
	if testing.Short() {
		t.Skip("waits 40 s for seats to be given up")
	}
	t.Parallel()
	f := start(t, 10, "de-ber")
	e := f.edges["de-ber"]
	socket, encoder := f.consult("de-ber"), f.consult("de-ber")
	began := time.Now()
	s := f.dial("de-ber")
	s.hello(socket.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	s.next(signal.TypeOffer) // and reads no more: no ping is answered
	p := whiptest.Publisher(t, "av")
	if status, _, body := p.Do("POST", f.whip("de-ber"), encoder.Participants[0].Token, "application/sdp", "", p.Offer()); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	for end := time.Now().Add(3 * patience); len(e.Rooms()) > 0 || len(e.sfu.Rooms()) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("rooms %+v are not given up", e.sfu.Rooms())
		}
	}
	if took := time.Since(began); took < silence {
		t.Errorf("given up after %v: before a phone's network could be back", took)
	}
	e.hosts.mu.Lock()
	defer e.hosts.mu.Unlock()
	if len(e.hosts.byID) != 0 {
		t.Errorf("%d WHIP resources are left", len(e.hosts.byID))
	}
}
