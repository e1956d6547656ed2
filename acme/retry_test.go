package acme

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	acmeapi "github.com/mholt/acmez/v3/acme"

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

// TestSuccessForgetsFailures: the next failure is the first again.
func TestSuccessForgetsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t, Config{Store: store.NewMemory(), Names: []string{"join.media.example"}, Region: "de-fra", CA: "https://127.0.0.1:1/dir", Secret: secret(t, 1)})
		k.fail(refused{errGone}, time.Now())
		k.fail(refused{errGone}, time.Now())
		keep(t, k, 2000*time.Hour)
		time.Sleep(time.Hour)
		k.step(t.Context())
		if k.tries != 0 || !k.retry.IsZero() || k.failed.Load() != nil {
			t.Errorf("got %d tries, the next at %s, %v; want none", k.tries, k.retry, k.failed.Load())
		}
	})
}

// fakeCA is a CA's directory and what it says of renewal, and no more.
func fakeCA(t *testing.T, renewalInfo http.HandlerFunc) (directory string, roots *x509.CertPool) {
	t.Helper()
	var base string
	mux := http.NewServeMux()
	mux.HandleFunc("/dir", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]string{"newNonce": base + "/nonce", "newAccount": base + "/hang", "newOrder": base + "/hang", "renewalInfo": base + "/ari"})
	})
	mux.HandleFunc("/nonce", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Replay-Nonce", "once") })
	mux.HandleFunc("/", renewalInfo)
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	base, roots = s.URL, x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return base + "/dir", roots
}

// TestWindow: the CA is asked when it said, within bounds, and one time is chosen in each
// of its windows.
func TestWindow(t *testing.T) {
	var retryAfter, start string
	asked := 0
	directory, roots := fakeCA(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		fmt.Fprintf(w, `{"suggestedWindow":{"start":%q,"end":"2026-12-31T00:00:00Z"}}`, start)
	})
	k := newKeeper(t, Config{Store: store.NewMemory(), Names: []string{"join.media.example"}, Region: "de-fra", CA: directory, Roots: roots, Secret: secret(t, 1)})
	k.current.Store(&certificate{leaf: &x509.Certificate{AuthorityKeyId: []byte{1}, SerialNumber: big.NewInt(1)}})
	const tenth, eleventh = "2026-12-10T00:00:00Z", "2026-12-11T00:00:00Z"
	var chosen time.Time
	for _, r := range []struct {
		name, retryAfter, start string
		want                    time.Duration // until it is asked again
		same                    bool          // the time is that of the row before
	}{
		{"no word of when", "", tenth, 6 * time.Hour, false},
		{"in two hours, the same window", "7200", tenth, 2 * time.Hour, true},
		{"at once is in a minute", "0", tenth, time.Minute, true},
		{"in a week is in a day, another window", "604800", eleventh, 24 * time.Hour, false},
	} {
		retryAfter, start = r.retryAfter, r.start
		k.askARI = time.Time{}
		now, before := time.Now(), asked
		for range 2 { // of which one asks
			k.window(t.Context(), now)
		}
		if asked != before+1 {
			t.Fatalf("%s: asked %d times, want once", r.name, asked-before)
		}
		if got := k.askARI.Sub(now).Round(time.Minute); got != r.want {
			t.Errorf("%s: asked again in %s, want %s", r.name, got, r.want)
		}
		if same := k.ari.SelectedTime.Equal(chosen); same != r.same || k.ari.SuggestedWindow.Start.Format(time.RFC3339) != r.start {
			t.Errorf("%s: %s of the window %v, the time before %v; want it %v", r.name, k.ari.SelectedTime, k.ari.SuggestedWindow, same, r.same)
		}
		chosen = k.ari.SelectedTime
	}
	k.serve(&certificate{leaf: &x509.Certificate{Raw: []byte("the next")}})
	if k.ari != nil || !k.askARI.IsZero() {
		t.Errorf("for the next certificate the CA is asked at %s, and its word till then is %v", k.askARI, k.ari)
	}
}

// TestPlan: when a certificate of 90 days wants renewing.
func TestPlan(t *testing.T) {
	const day = 24 * time.Hour
	begins := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *acmeapi.RenewalInfo { return &acmeapi.RenewalInfo{SelectedTime: begins.Add(d)} }
	for _, r := range []struct {
		name    string
		life    time.Duration
		ari     *acmeapi.RenewalInfo
		ordered time.Duration
		want    time.Duration
	}{
		{"a third of its life is left", 90 * day, nil, 0, 60 * day},
		{"no time in the window", 90 * day, new(acmeapi.RenewalInfo), 0, 60 * day},
		{"the CA's time", 90 * day, at(70 * day), 0, 70 * day},
		{"the CA's time, before", 90 * day, at(3 * day), 0, 3 * day},
		{"a time too late: a twentieth is left", 90 * day, at(89 * day), 0, 90*day - 108*time.Hour},
		{"at once, an hour after the order", 90 * day, at(0), day, day + time.Hour},
		{"at once, of a short life", time.Hour, at(0), 0, 20 * time.Minute},
	} {
		k := &Keeper{ari: r.ari, ordered: begins.Add(r.ordered)}
		k.current.Store(&certificate{leaf: &x509.Certificate{NotBefore: begins, NotAfter: begins.Add(r.life)}})
		k.plan()
		if got := k.due.Load().Sub(begins); got != r.want {
			t.Errorf("%s: due after %s, want %s", r.name, got, r.want)
		}
	}
}

// losing is a store whose locks are lost when it says so.
type losing struct {
	store.Store
	lost chan struct{}
}

func (s losing) Lock(ctx context.Context, key string) (store.Lock, error) { return lostLock(s), nil }

type lostLock losing

func (l lostLock) Lost() <-chan struct{}        { return l.lost }
func (l lostLock) Fence() uint64                { return 1 }
func (l lostLock) Unlock(context.Context) error { return nil }

// TestLostLockEndsTheOrder: two nodes must not order at once.
func TestLostLockEndsTheOrder(t *testing.T) {
	st := losing{store.NewMemory(), make(chan struct{})}
	directory, roots := fakeCA(t, func(w http.ResponseWriter, r *http.Request) {
		close(st.lost) // the order is under way
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	k := newKeeper(t, Config{Store: st, Names: []string{"join.media.example"}, Region: "de-fra", CA: directory, Roots: roots, Secret: secret(t, 1)})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := k.order(ctx); err == nil || !strings.Contains(err.Error(), "the lock was lost") {
		t.Errorf("got %v, want the order ended with its lock", err)
	}
}
