package nameserver

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bailiwick/geodns/cookie"
	"bailiwick/store"
)

// TestCookieSecrets: two nodes agree, and while the secret rolls each takes what the
// other makes.
func TestCookieSecrets(t *testing.T) {
	ctx, st := context.Background(), store.NewMemory()
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	a, b := newCookies(st, slog.New(slog.DiscardHandler), at), newCookies(st, slog.New(slog.DiscardHandler), at)
	if a.Secrets()[0] == b.Secrets()[0] {
		t.Fatal("two nodes drew the same secret")
	}
	step := func(c *cookies, after time.Duration) cookie.Secrets {
		if err := c.step(ctx, at.Add(after)); err != nil {
			t.Fatal(err)
		}
		return c.Secrets()
	}
	for _, r := range []struct {
		name  string
		after time.Duration
		n     int  // secrets known
		rolls bool // another one makes cookies than in the row before
	}{
		{"the first", 0, 1, true},
		{"an hour later", time.Hour, 1, false},
		{"its successor is told in advance", cookieRoll - cookieNotice, 2, false},
		{"the last minute", cookieRoll - time.Minute, 2, false},
		{"it rolls", cookieRoll, 2, true},
		{"the old one is still taken", cookieRoll + cookieGrace - time.Second, 2, false},
		{"and no more", cookieRoll + cookieGrace, 1, false},
		{"two days later, all nodes were off", 3 * cookieRoll, 2, false},
		{"and it rolls after its notice", 3*cookieRoll + cookieNotice, 2, true},
	} {
		before := a.Secrets()[0]
		x, y := step(a, r.after), step(b, r.after)
		step(a, r.after) // a sees what b may have written
		x = a.Secrets()
		if !slices.Equal(x, y) || len(x) != r.n {
			t.Errorf("%s: got %d and %d secrets, equal %v; want %d", r.name, len(x), len(y), slices.Equal(x, y), r.n)
		}
		if rolls := x[0] != before; rolls != r.rolls && r.name != "the first" {
			t.Errorf("%s: rolled %v, want %v", r.name, rolls, r.rolls)
		}
		if r.rolls && r.name != "the first" && !slices.Contains(x, before) {
			t.Errorf("%s: the old secret is not taken", r.name)
		}
	}
}

// TestCookieSecretFromTheFuture: a node whose clock was a year ahead keeps no other from
// rolling the secret in its time.
func TestCookieSecretFromTheFuture(t *testing.T) {
	ctx, st := context.Background(), store.NewMemory()
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	right, ahead := newCookies(st, slog.New(slog.DiscardHandler), at), newCookies(st, slog.New(slog.DiscardHandler), at)
	step := func(c *cookies, at time.Time) {
		t.Helper()
		if err := c.step(ctx, at); err != nil {
			t.Fatal(err)
		}
	}
	step(right, at)
	first := right.Secrets()[0]
	step(ahead, at.AddDate(1, 0, 0))
	step(right, at.Add(time.Hour))
	if right.Secrets()[0] != first {
		t.Error("the secret is another one before its time")
	}
	step(right, at.Add(cookieRoll-cookieNotice))
	step(right, at.Add(cookieRoll))
	if got := right.Secrets(); got[0] == first || !slices.Contains(got, first) {
		t.Error("a day later the secret is the same, or the one before is not taken")
	}
}

func TestCookieSecretThatIsBroken(t *testing.T) {
	ctx, st := context.Background(), store.NewMemory()
	c := newCookies(st, slog.New(slog.DiscardHandler), time.Now())
	own := c.Secrets()[0]
	for _, bad := range []string{"", "x", "[]", `[{"key":"AAAA","from":"2026-11-24T12:00:00Z"}]`, `{"key":1}`} {
		if _, err := st.Put(ctx, cookieKey, []byte(bad)); err != nil {
			t.Fatal(err)
		}
		if err := c.step(ctx, time.Now()); err == nil || c.Secrets()[0] != own {
			t.Errorf("%q: got %v, the secret kept: %v; want an error, and it kept", bad, err, c.Secrets()[0] == own)
		}
	}
}

// TestCookiesRun: a node that starts writes the key, one that follows takes it, and
// both change to the next at the same time.
func TestCookiesRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		st := store.NewMemory()
		a, b := newCookies(st, slog.New(slog.DiscardHandler), time.Now()), newCookies(st, slog.New(slog.DiscardHandler), time.Now())
		done := make(chan error, 2)
		go func() { done <- a.run(ctx) }()
		synctest.Wait()
		first := a.Secrets()[0]
		go func() { done <- b.run(ctx) }()
		synctest.Wait()
		if b.Secrets()[0] != first {
			t.Error("the second node did not take the first's secret")
		}
		time.Sleep(cookieRoll + cookieCheck) // the bubble's time
		synctest.Wait()
		if x, y := a.Secrets(), b.Secrets(); x[0] == first || !slices.Equal(x, y) || !slices.Contains(x, first) {
			t.Errorf("a day later: %d and %d secrets, the first still makes cookies: %v", len(x), len(y), x[0] == first)
		}
		cancel()
		for range 2 {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("run: %v", err)
			}
		}
	})
}
