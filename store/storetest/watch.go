package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bailiwick/store"
)

func testWatch(t *testing.T, s store.Store) {
	p := unique() + "/"
	w := watchKeys(t, s, p)
	if got := w.until("the first snapshot", anything); len(got.Entries) != 0 {
		t.Errorf("first snapshot: got %s, want an empty one", brief(p, got))
	}
	select {
	case err := <-w.up:
		want(t, "up after the first snapshot", err, nil)
	case <-time.After(patience):
		t.Error("up was not told of the first contact")
	}
	is := func(want string) func(store.Snapshot) bool {
		return func(s store.Snapshot) bool { return brief(p, s) == want }
	}
	put(t, s, p+"b", "1")
	w.until("a new key", is("[b=1]"))
	e := put(t, s, p+"a", "1")
	got := w.until("a second key", is("[a=1 b=1]"))
	if got.Entries[0].Rev != e.Rev {
		t.Errorf("revision in a snapshot: got %d, want the written %d", got.Entries[0].Rev, e.Rev)
	}
	put(t, s, p+"a", "2")
	w.until("a new value", is("[a=2 b=1]"))
	want(t, "Delete", remove(t, s, p+"b", 0), nil)
	w.until("a key's end", is("[a=2]"))
	want(t, "Delete", remove(t, s, p+"a", 0), nil)
	w.until("the last key's end", is("[]"))
	put(t, s, p+"a", "3")
	w.until("a key after none", is("[a=3]"))

	late := watchKeys(t, s, p)
	if got := late.until("the first snapshot", anything); brief(p, got) != "[a=3]" {
		t.Errorf("first snapshot of a later watch: got %s, want [a=3]", brief(p, got))
	}
}

// Whoever wrote or deleted learns from any watcher's revision that it has seen that,
// also where the watcher sees the same keys as before.
func testRevisions(t *testing.T, s store.Store) {
	ctx, p := t.Context(), unique()+"/"
	list := func() store.Snapshot {
		t.Helper()
		snap, err := s.List(ctx, p)
		want(t, "List", err, nil)
		return snap
	}
	if first, second := list(), list(); second.Rev < first.Rev {
		t.Errorf("revision of an empty list: got %d after %d", second.Rev, first.Rev)
	}
	// While there is a hold, the watch stays in the first call that is newer than it.
	type hold struct {
		after uint64
		over  chan struct{}
	}
	var held atomic.Pointer[hold]
	w := watch(t, func(ctx context.Context, fn func(store.Snapshot), up func(error)) error {
		return s.Watch(ctx, p, func(s store.Snapshot) {
			h := held.Load()
			if fn(s); h != nil && s.Rev > h.after {
				<-h.over
			}
		}, up)
	})
	last := w.until("the first snapshot", anything).Rev
	sees := func(what string, rev uint64, entries string) {
		t.Helper()
		if rev <= last {
			t.Errorf("%s: got revision %d, want more than the %d before", what, rev, last)
		}
		if got := list(); got.Rev < rev || brief(p, got) != entries {
			t.Errorf("List after %s at %d: got %s at %d, want %s at no less", what, rev, brief(p, got), got.Rev, entries)
		}
		// One that reached the revision is not of before.
		got := w.until(what, func(s store.Snapshot) bool {
			for _, e := range s.Entries {
				if e.Rev > s.Rev {
					t.Errorf("%s: a snapshot at %d holds %s at %d", what, s.Rev, e.Key, e.Rev)
				}
			}
			return s.Rev >= rev
		})
		if brief(p, got) != entries {
			t.Errorf("watch after %s at %d: got %s at %d, want %s", what, rev, brief(p, got), got.Rev, entries)
		}
		last = rev
	}
	write := func(key, value string) uint64 { t.Helper(); return put(t, s, p+key, value).Rev }
	gone := func(key string) uint64 {
		t.Helper()
		rev, err := s.Delete(ctx, p+key, 0)
		want(t, "Delete", err, nil)
		return rev
	}
	// unseen makes a change that the watch sees, and one while it is busy with that.
	unseen := func(what string, seen func() (uint64, string), change func() (uint64, string)) {
		t.Helper()
		h := &hold{last, make(chan struct{})}
		held.Store(h)
		release := sync.OnceFunc(func() { held.Store(nil); close(h.over) })
		t.Cleanup(release)
		rev, entries := seen()
		sees("before "+what, rev, entries)
		rev, entries = change()
		release()
		sees(what, rev, entries)
	}
	sees("a key", write("a", "1"), "[a=1]")
	unseen("the same value written again",
		func() (uint64, string) { return write("a", "2"), "[a=2]" },
		func() (uint64, string) { return write("a", "2"), "[a=2]" })
	unseen("a key that came and went",
		func() (uint64, string) { return write("a", "3"), "[a=3]" },
		func() (uint64, string) { write("b", "1"); return gone("b"), "[a=3]" })
	unseen("a key deleted and made again",
		func() (uint64, string) { return write("a", "4"), "[a=4]" },
		func() (uint64, string) { gone("a"); return write("a", "4"), "[a=4]" })
	unseen("a key that came and went where nothing is",
		func() (uint64, string) { return gone("a"), "[]" },
		func() (uint64, string) { write("a/b", "1"); return gone("a/b"), "[]" })
	put(t, s, p[:len(p)-1]+"-beside", "1") // what moves the store only
	sees("a key after none", write("c", "2"), "[c=2]")
	if _, err := s.Delete(ctx, p+"a", 0); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Delete of what is gone: got %v, want %v", err, store.ErrNotFound)
	}
}

// A write beside the prefix is no news. The write under it that follows proves
// that the watch is past it.
func testWatchPrefix(t *testing.T, s store.Store) {
	p := unique()
	put(t, s, p+"/a/1", "x")
	w := watchKeys(t, s, p+"/a/")
	w.until("the first snapshot", anything)
	put(t, s, p+"/ab", "x")
	put(t, s, p+"/b/1", "x")
	want(t, "Delete", remove(t, s, p+"/b/1", 0), nil)
	put(t, s, p+"/a/1", "y")
	if got := w.until("the next snapshot", anything); brief(p, got) != "[/a/1=y]" {
		t.Errorf("next snapshot: got %s, want [/a/1=y]", brief(p, got))
	}
}

func testConflation(t *testing.T, s store.Store) {
	p := unique() + "/"
	const writes = 1000
	held, release := make(chan struct{}), make(chan struct{})
	wake := sync.OnceFunc(func() { close(release) })
	calls, newest := 0, uint64(0)
	last := fmt.Sprint(writes)
	w := watch(t, func(ctx context.Context, fn func(string), up func(error)) error {
		return s.Watch(ctx, p, func(s store.Snapshot) {
			calls++
			if calls == 1 {
				close(held)
				<-release // asleep through every write
			}
			for _, e := range s.Entries {
				if e.Rev < newest {
					t.Errorf("a snapshot went back from revision %d to %d", newest, e.Rev)
				}
				newest = e.Rev
				fn(value(e))
			}
		}, up)
	})
	t.Cleanup(wake)
	select {
	case <-held:
	case <-time.After(patience):
		t.Fatal("no first snapshot")
	}
	// Had a writer to wait for the watcher, this would not end.
	for i := range writes {
		put(t, s, p+"a", fmt.Sprint(i+1))
	}
	wake()
	w.until("the newest value", func(v string) bool { return v == last })
	w.end()
	// One call would do; a server that lags catches up in a few.
	if most := writes / 20; calls > most {
		t.Errorf("a watcher asleep during %d writes was called %d times, want at most %d", writes, calls, most)
	}
}

func testWatchers(t *testing.T, s store.Store) {
	p := unique() + "/"
	release := make(chan struct{})
	defer close(release)
	held := make(chan struct{})
	hold := sync.OnceFunc(func() { close(held) }) // once released, it is called again
	go s.Watch(t.Context(), p, func(store.Snapshot) { hold(); <-release }, func(error) {})
	select {
	case <-held:
	case <-time.After(patience):
		t.Fatal("no first snapshot")
	}
	a, b := watchKeys(t, s, p), watchKeys(t, s, p)
	put(t, s, p+"k", "v")
	for _, w := range []*watching[store.Snapshot]{a, b} {
		w.until("the key, while another watcher sleeps", func(s store.Snapshot) bool { return brief(p, s) == "[k=v]" })
	}
	a.end()
	put(t, s, p+"k", "w")
	b.until("the value, after another watch ended", func(s store.Snapshot) bool { return brief(p, s) == "[k=w]" })
}

func testWatchesEnd(t *testing.T, s store.Store) {
	p := unique()
	keys, instances := watchKeys(t, s, p+"/"), watchInstances(t, s, p)
	keys.until("the first snapshot", anything)
	instances.until("the first list", anything)
	began := time.Now()
	want(t, "Watch after its context", keys.end(), context.Canceled)
	want(t, "WatchInstances after its context", instances.end(), context.Canceled)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("watches ended %s after their contexts", took)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(50*time.Millisecond))
	defer cancel()
	err := s.Watch(ctx, p+"/", func(store.Snapshot) {}, func(error) {})
	want(t, "Watch after its deadline", err, context.DeadlineExceeded)
}

func testCancelled(t *testing.T, s store.Store) {
	p := unique()
	key := p + "/a"
	e := put(t, s, key, "1")
	in := edge(p, "a")
	l, err := s.Register(t.Context(), in, time.Minute)
	want(t, "Register", err, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"Get", func() error { _, err := s.Get(ctx, key); return err }},
		{"CAS", func() error { _, err := s.CAS(ctx, key, nil, e.Rev); return err }},
		{"Put", func() error { _, err := s.Put(ctx, key, nil); return err }},
		{"Delete", func() error { _, err := s.Delete(ctx, key, 0); return err }},
		{"List", func() error { _, err := s.List(ctx, key); return err }},
		{"Watch", func() error { return s.Watch(ctx, key, func(store.Snapshot) {}, func(error) {}) }},
		{"Register", func() error { _, err := s.Register(ctx, edge(p, "b"), time.Minute); return err }},
		{"WatchInstances", func() error { return s.WatchInstances(ctx, p, func([]store.Instance) {}, func(error) {}) }},
		{"Renew", func() error { return l.Renew(ctx) }},
		{"Update", func() error { return l.Update(ctx, in) }},
		{"Close", func() error { return l.Close(ctx) }},
	} {
		began := time.Now()
		if err := c.call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: got %v, want %v", c.name, err, context.Canceled)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s with a cancelled context took %s", c.name, took)
		}
	}
	if got, err := s.Get(t.Context(), key); err != nil || got.Rev != e.Rev {
		t.Errorf("Get after cancelled writes: got %+v, %v, want %+v", got, err, e)
	}
	w := watchInstances(t, s, p)
	w.until("the one instance that stayed", lists("a passing"))
	want(t, "Close after a cancelled one", l.Close(t.Context()), nil)
	w.until("its end", lists(""))
}
