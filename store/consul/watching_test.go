package consul

import (
	"context"
	"sync"
	"testing"
	"time"

	"bailiwick/store"
)

// watching collects what one watch says.
type watching struct {
	t    *testing.T
	news chan struct{}

	mu    sync.Mutex
	snaps []store.Snapshot
	ups   []error // as told
}

func follow(t *testing.T, s *Store, prefix string) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watching{t: t, news: make(chan struct{}, 1)}
	done := make(chan struct{})
	tell := func(f func()) {
		w.mu.Lock()
		f()
		w.mu.Unlock()
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
	go func() {
		defer close(done)
		s.Watch(ctx, prefix,
			func(snap store.Snapshot) { tell(func() { w.snaps = append(w.snaps, snap) }) },
			func(err error) { tell(func() { w.ups = append(w.ups, err) }) })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// until waits for ok, which runs with w.mu held.
func (w *watching) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		w.mu.Lock()
		done := ok()
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-w.news:
		case <-deadline:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.t.Fatalf("waited %s for %s; %d snapshots; up: %v", patience, what, len(w.snaps), w.ups)
		}
	}
}

// value waits for key to have it in the newest snapshot.
func (w *watching) value(key, value string) {
	w.t.Helper()
	w.until(key+"="+value, func() bool { return len(w.snaps) > 0 && read(w.snaps[len(w.snaps)-1], key) == value })
}

// says waits until the last word to up is a failure, or is none.
func (w *watching) says(failure bool) {
	w.t.Helper()
	w.until(map[bool]string{true: "up(error)", false: "up(nil)"}[failure], func() bool {
		return len(w.ups) > 0 && (w.ups[len(w.ups)-1] != nil) == failure
	})
}

// neverEmpty reports a snapshot that lost the key: nobody deleted it.
func (w *watching) neverEmpty(key string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range w.snaps {
		if read(s, key) == "" {
			w.t.Errorf("snapshot %d of %d lacks %s, which was never deleted: %+v", i+1, len(w.snaps), key, s)
		}
	}
}

func read(s store.Snapshot, key string) string {
	for _, e := range s.Entries {
		if e.Key == key {
			return string(e.Value)
		}
	}
	return ""
}

func put(t *testing.T, s *Store, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	for ctx.Err() == nil { // an election may be under way
		if _, err = s.Put(ctx, key, []byte(value)); err == nil {
			return
		}
		sleep(ctx, 50*time.Millisecond)
	}
	t.Fatalf("Put(%s): %v", key, err)
}
