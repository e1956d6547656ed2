package acme

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"bailiwick/store"
)

// TestRetryAfterALongAttempt: an attempt that took long before it failed is not made again
// at once.
func TestRetryAfterALongAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.NewMemory()
		other, err := st.Lock(t.Context(), locksPrefix+"de-fra/order") // and does not let go
		if err != nil {
			t.Fatal(err)
		}
		defer other.Unlock(t.Context())
		k, err := New(Config{Store: st, Names: []string{"join.media.example"}, Region: "de-fra", CA: "https://ca.example/dir",
			Secret: secret(t, 1), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		next := k.step(t.Context())
		if took := time.Since(began); took < 2*time.Minute {
			t.Fatalf("the attempt took %s: too short to tell", took)
		}
		if got := time.Until(next); got != time.Minute {
			t.Errorf("next attempt: got in %s, want in %s", got, time.Minute)
		}
	})
}
