package edge

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/edge/signal"
	"bailiwick/failover"
	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer/world"
	"bailiwick/store"
)

// A full edge's rooms hear of a new World in turn and within 4 s, also when others follow it.
func TestRoomsAreWokenInTurn(t *testing.T) {
	text, err := os.ReadFile("../regions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := region.Parse("regions.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w, err := world.New(world.Config{Map: m, Law: residency.Shipped(), Stores: store.Set{"": store.NewMemory()}, Health: health.Production(), ParseKey: router.ParseKey, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		r := &runners{edge: &Edge{cfg: Config{World: w}}, byID: map[consult.ID]*runner{}}
		r.ctx, r.cancel = context.WithCancel(t.Context())
		const full = 1600
		for i := range full {
			id := consult.ID(fmt.Sprint("c", i))
			r.byID[id] = newRunner(r, id)
		}
		r.group.Go(r.follow)
		defer r.wait()
		synctest.Wait()
		swap := func(digest string) { // a World that may decide otherwise
			other := *m
			other.Digest = digest
			w.SetMap(&other)
			synctest.Wait()
		}
		wokenNow := func() (n int) {
			for _, rm := range r.byID {
				select {
				case <-rm.world:
					n++
				default:
				}
			}
			return n
		}
		swap("a")
		if n := wokenNow(); n != woken {
			t.Errorf("%d rooms were woken at once, want %d", n, woken)
		}
		most, all := 0, woken
		for passed := time.Duration(0); passed < 4*time.Second; passed += wakePause {
			if passed == time.Second {
				swap("b")
			}
			time.Sleep(wakePause)
			synctest.Wait()
			n := wokenNow()
			most, all = max(most, n), all+n
		}
		// The second World found most of them waiting, and woke the first second's again.
		if first := int(time.Second/wakePause+1) * woken; most > woken || all < full || all > full+first {
			t.Errorf("%d were woken at once at most, want %d; %d in all within 4 s, want %d and at most %d twice", most, woken, all, full, first)
		}
	})
}

// A room whose first client went before it was heard is forgotten.
func TestRoomNobodyCameTo(t *testing.T) {
	f := start(t, 10, "de-ber")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := f.edges["de-ber"]
	for range 20 { // the room may have heard of the client before
		if _, ok := e.rooms.join(ctx, &joining{seat: failover.Seat(seats.Add(1)), token: consult.Token{Terms: consult.Terms{Consult: "c", Jurisdictions: []residency.Jurisdiction{"DE"}, Edge: "de-ber-1", Epoch: 1},
			Participant: "p"}, hello: &signal.Hello{}, out: newOutbox(nil, func() {}), answer: make(chan answer, 1), take: e.sfu.Join}); ok {
			t.Fatal("a client that is gone has a seat")
		}
	}
	f.empty("de-ber")
}
