package store_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bailiwick/store"
	"bailiwick/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return store.NewMemory() })
}

func TestFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "store.json")) })
}

func open(t *testing.T, path string) *store.File {
	t.Helper()
	f, err := store.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The suite cannot say to the second when a lease ends; a fake clock can.
func TestMemoryLeaseEndsOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 15 * time.Second
		ctx, cancel := context.WithCancel(t.Context())
		m := store.NewMemory()
		var last atomic.Pointer[[]store.Instance]
		done := make(chan error)
		go func() {
			done <- m.WatchInstances(ctx, "edge", func(list []store.Instance) { last.Store(&list) }, func(error) {})
		}()
		status := func() store.Status { synctest.Wait(); return (*last.Load())[0].Status }
		expect := func(when string, want store.Status) {
			t.Helper()
			if got := status(); got != want {
				t.Errorf("%s: got %s, want %s", when, got, want)
			}
		}
		l, err := m.Register(ctx, store.Instance{ID: "a", Service: "edge", Addr: netip.MustParseAddrPort("192.0.2.1:1")}, ttl)
		if err != nil {
			t.Fatal(err)
		}
		expect("registered", store.Passing)
		for range 10 {
			time.Sleep(ttl - 1)
			if err := l.Renew(ctx); err != nil {
				t.Fatal(err)
			}
			expect("renewed", store.Passing)
		}
		time.Sleep(ttl - 1)
		expect("just before the end", store.Passing)
		time.Sleep(1)
		expect("at the end", store.Critical)
		time.Sleep(100 * time.Hour)
		expect("long after", store.Critical)
		if err := l.Renew(ctx); err != nil {
			t.Fatal(err)
		}
		expect("renewed again", store.Passing)
		time.Sleep(ttl)
		expect("at the second end", store.Critical)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("WatchInstances: got %v", err)
		}
	})
}

func TestMemoryConflates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m := store.NewMemory()
		var calls, contacts []int
		done := make(chan error)
		go func() {
			done <- m.Watch(ctx, "a/", func(s store.Snapshot) {
				calls = append(calls, len(s.Entries))
				time.Sleep(time.Minute)
			}, func(error) { contacts = append(contacts, len(calls)) })
		}()
		synctest.Wait() // the watcher sleeps in its first call
		for i := range 1000 {
			if _, err := m.Put(ctx, "a/"+strconv.Itoa(i), nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		cancel()
		<-done
		if want := []int{0, 1000}; !slices.Equal(calls, want) {
			t.Errorf("snapshots by number of keys: got %v, want %v", calls, want)
		}
		if want := []int{1, 2}; !slices.Equal(contacts, want) {
			t.Errorf("up after snapshot: got %v, want %v", contacts, want)
		}
	})
}

func TestFileKeepsKeysAndRevisions(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "store.json"), t.Context()
	f := open(t, path)
	a, err := f.Put(ctx, "bailiwick/regions/de-fra", []byte("down"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Put(ctx, "bailiwick/binary", []byte{0, 0xff})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Delete(ctx, "bailiwick/binary", b.Rev); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Register(ctx, store.Instance{ID: "a", Service: "edge", Addr: netip.MustParseAddrPort("192.0.2.1:1")}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(ctx, "late", nil); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Put after Close: got error %v, want closed", err)
	}
	if _, err := f.Get(ctx, "late"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of a refused write: got %v, want %v", err, store.ErrNotFound)
	}

	again := open(t, path)
	if got, err := again.Get(ctx, a.Key); err != nil || string(got.Value) != "down" || got.Rev != a.Rev {
		t.Errorf("after reopening: got %+v, %v, want %+v", got, err, a)
	}
	if got, err := again.List(ctx, ""); err != nil || len(got.Entries) != 1 {
		t.Errorf("after reopening: got %+v, %v, want one key", got, err)
	}
	recreated, err := again.CAS(ctx, "bailiwick/binary", []byte{0, 0xff}, 0)
	if err != nil || recreated.Rev <= b.Rev+1 {
		t.Errorf("revision after reopening: got %d, %v, want more than the delete's %d", recreated.Rev, err, b.Rev+1)
	}
	ended, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	again.WatchInstances(ended, "edge", func(list []store.Instance) {
		if len(list) != 0 {
			t.Errorf("instances after reopening: got %+v, want none", list)
		}
	}, func(error) {})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file: got %v, %v, want 0600", info.Mode(), err)
	}
}

func TestFileCorrupt(t *testing.T) {
	for _, c := range []struct{ name, content string }{
		{"empty", ""},
		{"not JSON", "bailiwick"},
		{"cut off", `{"format":1,"rev":2,"entries":[{"key":"a","rev":1,"val`},
		{"no format", `{"rev":0,"entries":[]}`},
		{"another format", `{"format":2,"rev":0,"entries":[]}`},
		{"unknown field", `{"format":1,"rev":0,"entries":[],"more":1}`},
		{"two documents", `{"format":1,"rev":0,"entries":[]}{}`},
		{"no base64", `{"format":1,"rev":1,"entries":[{"key":"a","rev":1,"value":"%"}]}`},
		{"revision 0", `{"format":1,"rev":1,"entries":[{"key":"a","rev":0,"value":""}]}`},
		{"revision of the future", `{"format":1,"rev":1,"entries":[{"key":"a","rev":2,"value":""}]}`},
		{"the same key twice", `{"format":1,"rev":2,"entries":[{"key":"a","rev":1,"value":""},{"key":"a","rev":2,"value":""}]}`},
		{"out of order", `{"format":1,"rev":2,"entries":[{"key":"b","rev":1,"value":""},{"key":"a","rev":2,"value":""}]}`},
		{"a key that cannot be", `{"format":1,"rev":1,"entries":[{"key":"/a","rev":1,"value":""}]}`},
	} {
		path := filepath.Join(t.TempDir(), "store.json")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := store.OpenFile(path)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: got error %v, want one that names the file and what to do", c.name, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != c.content {
			t.Errorf("%s: the file is now %q, %v", c.name, got, err)
		}
	}
}

// A write that cannot be kept is refused, and nobody sees it.
func TestFileCannotBeWritten(t *testing.T) {
	dir, ctx := filepath.Join(t.TempDir(), "gone"), t.Context()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := open(t, filepath.Join(dir, "store.json"))
	first, err := f.Put(ctx, "a", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CAS(ctx, "a", []byte("2"), first.Rev); err == nil {
		t.Error("CAS without a directory: got no error")
	}
	if _, err := f.Delete(ctx, "a", 0); err == nil {
		t.Error("Delete without a directory: got no error")
	}
	if got, err := f.Get(ctx, "a"); err != nil || got.Rev != first.Rev {
		t.Errorf("Get after refused writes: got %+v, %v, want %+v", got, err, first)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CAS(ctx, "a", []byte("2"), first.Rev); err != nil {
		t.Errorf("CAS with the directory back: %v", err)
	}
}
