package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"bailiwick/store"
)

func lock(t *testing.T, s store.Store, key string) store.Lock {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := s.Lock(ctx, key)
	if err != nil {
		t.Fatalf("Lock(%s): %v", key, err)
	}
	t.Cleanup(func() { l.Unlock(context.WithoutCancel(t.Context())) }) // twice is once
	return l
}

func testLock(t *testing.T, s store.Store) {
	ctx, prefix := t.Context(), unique()
	a, other := lock(t, s, prefix+"/a"), lock(t, s, prefix+"/b")
	got := make(chan store.Lock, 1)
	go func() {
		l, err := s.Lock(ctx, prefix+"/a")
		if err != nil {
			t.Errorf("second Lock: %v", err)
		}
		got <- l
	}()
	bounded, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if l, err := s.Lock(bounded, prefix+"/a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock of a held one: got %v, %v, want %v", l, err, context.DeadlineExceeded)
	}
	select {
	case <-got:
		t.Fatal("two hold one lock")
	case <-a.Lost():
		t.Fatal("a held lock says that it is lost")
	default:
	}
	want(t, "Unlock", a.Unlock(ctx), nil)
	select {
	case l := <-got:
		if l == nil {
			return
		}
		want(t, "second Unlock of the first holder", a.Unlock(ctx), nil)
		bounded, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		if _, err := s.Lock(bounded, prefix+"/a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lock after an Unlock too many: got %v, want %v", err, context.DeadlineExceeded)
		}
		want(t, "Unlock of the second holder", l.Unlock(ctx), nil)
	case <-time.After(patience):
		t.Fatalf("a lock that was given up is not had by the one who waits, after %s", patience)
	}
	want(t, "Unlock of another", other.Unlock(ctx), nil)
	list, err := s.List(ctx, prefix+"/")
	want(t, "List", err, nil)
	if len(list.Entries) != 0 {
		t.Errorf("entries after the last Unlock: got %s, want none", brief(prefix, list))
	}
}

// Whoever reads, thinks and writes under the lock loses nothing.
func testLocksExclude(t *testing.T, s store.Store) {
	ctx, prefix := t.Context(), unique()
	const workers, rounds = 4, 3
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				l, err := s.Lock(ctx, prefix+"/lock")
				if err != nil {
					t.Errorf("Lock: %v", err)
					return
				}
				e, err := s.Get(ctx, prefix+"/count")
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Errorf("Get: %v", err)
				}
				if _, err := s.Put(ctx, prefix+"/count", append(e.Value, '|')); err != nil {
					t.Errorf("Put: %v", err)
				}
				if err := l.Unlock(ctx); err != nil {
					t.Errorf("Unlock: %v", err)
				}
			}
		})
	}
	wg.Wait()
	e, err := s.Get(ctx, prefix+"/count")
	want(t, "Get", err, nil)
	if len(e.Value) != workers*rounds {
		t.Errorf("writes under the lock: got %d, want %d", len(e.Value), workers*rounds)
	}
}

// Each holder of a lock has a larger number than those before it.
func testFences(t *testing.T, s store.Store) {
	key := unique()
	var last uint64
	for range 3 {
		l := lock(t, s, key)
		if l.Fence() <= last {
			t.Errorf("fence: got %d after %d, want it growing", l.Fence(), last)
		}
		last = l.Fence()
		want(t, "Unlock", l.Unlock(t.Context()), nil)
	}
	// Of two who wait the second holder has the larger one, and neither that of before.
	fences := make(chan uint64, 2)
	held := lock(t, s, key)
	for range 2 {
		go func() {
			l, err := s.Lock(t.Context(), key)
			if err != nil {
				t.Errorf("Lock: %v", err)
				fences <- 0
				return
			}
			fences <- l.Fence() // before the other's
			l.Unlock(t.Context())
		}()
	}
	last = held.Fence()
	want(t, "Unlock", held.Unlock(t.Context()), nil)
	for range 2 {
		select {
		case f := <-fences:
			if f <= last {
				t.Errorf("fence of one who waited: got %d after %d, want it growing", f, last)
			}
			last = f
		case <-time.After(patience):
			t.Fatalf("a lock is not had after %s", patience)
		}
	}
}

func testLockCancelled(t *testing.T, s store.Store) {
	key := unique()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Lock(ended, key)
	want(t, "Lock with an ended context", err, context.Canceled)
	held := lock(t, s, key)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := s.Lock(ctx, key)
		done <- err
	}()
	cancel()
	select {
	case err := <-done:
		want(t, "Lock whose context ends", err, context.Canceled)
	case <-time.After(patience):
		t.Fatalf("Lock has not ended %s after its context", patience)
	}
	want(t, "Unlock", held.Unlock(t.Context()), nil)
	lock(t, s, key) // nothing was left behind by those who gave up
	if _, err := s.Lock(t.Context(), "/"+key); err == nil {
		t.Error("Lock of a key that cannot be: got no error")
	}
}
