package router

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bailiwick/steer"
	"bailiwick/store"
	"bailiwick/tools/logtest"
)

// away is a store whose writes fail while it is set.
type away struct {
	store.Store
	failing atomic.Bool
	tried   atomic.Int32 // writes that failed
}

func (a *away) Put(ctx context.Context, key string, value []byte) (store.Entry, error) {
	if a.failing.Load() {
		a.tried.Add(1)
		return store.Entry{}, errGone
	}
	return a.Store.Put(ctx, key, value)
}

// TestRunLogsAnOutageOnce: at its begin and at its end, however often it is tried.
func TestRunLogsAnOutageOnce(t *testing.T) {
	signer, err := NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		st, log := &away{Store: store.NewMemory()}, new(logtest.Buffer)
		r := New(Config{World: func() *steer.World { return &steer.World{} }, Stores: map[string]store.Store{"": st}, Signer: signer, Node: "n", Log: slog.New(slog.NewTextHandler(log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		defer func() { cancel(); <-done }()
		synctest.Wait()
		for outage := 1; outage <= 2; outage++ {
			st.failing.Store(true)
			time.Sleep(time.Hour) // of the bubble's clock
			synctest.Wait()
			if got := strings.Count(log.String(), "join key not published"); got != outage || st.tried.Load() < 100 {
				t.Errorf("outage %d: told %d times, tried %d times:\n%s", outage, got, st.tried.Load(), log.String())
			}
			if got := strings.Count(log.String(), "swept again"); got != outage-1 {
				t.Errorf("outage %d: %d ends before its own", outage, got)
			}
			st.failing.Store(false)
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := strings.Count(log.String(), "swept again"); got != outage {
				t.Errorf("outage %d: its end is told %d times:\n%s", outage, got, log.String())
			}
			st.tried.Store(0)
		}
	})
}

// TestRunPublishesALostKeyAgain: a store that was restored from an older backup lacks the
// join key, and other edges refuse what it signs.
func TestRunPublishesALostKeyAgain(t *testing.T) {
	signer, err := NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		st := store.NewMemory()
		world := func() *steer.World {
			w := &steer.World{StoreUp: true, Keys: map[string]steer.JoinKey{}}
			if e, err := st.Get(t.Context(), KeysPrefix+signer.KID); err == nil {
				w.Keys[signer.KID], _ = ParseKey(e.Value)
			}
			return w
		}
		r := New(Config{World: world, Stores: store.Set{"": st}, Signer: signer, Node: "n", Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		defer func() { cancel(); <-done }()
		synctest.Wait()
		if _, err := st.Delete(t.Context(), KeysPrefix+signer.KID, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookEvery + time.Second)
		synctest.Wait()
		if _, err := st.Get(t.Context(), KeysPrefix+signer.KID); err != nil {
			t.Errorf("the key that was lost is not published again: %v", err)
		}
	})
}
