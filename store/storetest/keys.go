package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"bailiwick/store"
)

func testGet(t *testing.T, s store.Store) {
	p := unique() + "/"
	_, err := s.Get(t.Context(), p+"absent")
	want(t, "Get of an absent key", err, store.ErrNotFound)
	written := put(t, s, p+"a", "1")
	got, err := s.Get(t.Context(), p+"a")
	want(t, "Get", err, nil)
	if got.Key != p+"a" || value(got) != "1" || got.Rev != written.Rev {
		t.Errorf("Get: got %+v, want what Put returned: %+v", got, written)
	}
	_, err = s.Get(t.Context(), p)
	if err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of %q, which is no key: got %v, want an error that says so", p, err)
	}
}

func testCAS(t *testing.T, s store.Store) {
	ctx, key := t.Context(), unique()+"/a"
	_, err := s.CAS(ctx, key, []byte("x"), 7)
	want(t, "CAS of an absent key that should be at 7", err, store.ErrConflict)
	first, err := s.CAS(ctx, key, []byte("1"), 0)
	want(t, "CAS of an absent key", err, nil)
	if first.Key != key || value(first) != "1" || first.Rev == 0 {
		t.Errorf("CAS: got %+v, want the entry as written", first)
	}
	_, err = s.CAS(ctx, key, []byte("x"), 0)
	want(t, "CAS of a present key that should be absent", err, store.ErrConflict)

	second, err := s.CAS(ctx, key, []byte("2"), first.Rev)
	want(t, "CAS at the present revision", err, nil)
	if second.Rev <= first.Rev {
		t.Errorf("revision after a second write: got %d, want more than %d", second.Rev, first.Rev)
	}
	_, err = s.CAS(ctx, key, []byte("x"), first.Rev)
	want(t, "CAS at an old revision", err, store.ErrConflict)
	_, err = s.CAS(ctx, key, []byte("x"), second.Rev+1000)
	want(t, "CAS at a future revision", err, store.ErrConflict)

	same, err := s.CAS(ctx, key, []byte("2"), second.Rev)
	want(t, "CAS of the value already there", err, nil)
	if same.Rev <= second.Rev {
		t.Errorf("revision after writing the same value: got %d, want more than %d", same.Rev, second.Rev)
	}
	if got, err := s.Get(ctx, key); err != nil || value(got) != "2" || got.Rev != same.Rev {
		t.Errorf("Get after all: got %+v, %v, want %+v", got, err, same)
	}
	empty, err := s.CAS(ctx, key, nil, same.Rev)
	want(t, "CAS of an empty value", err, nil)
	if got, err := s.Get(ctx, key); err != nil || len(got.Value) != 0 || got.Rev != empty.Rev {
		t.Errorf("Get of an empty value: got %+v, %v, want %+v", got, err, empty)
	}
}

func testIncrements(t *testing.T, s store.Store) {
	ctx, key := t.Context(), unique()+"/counter"
	const writers, each = 4, 15
	put(t, s, key, "0")
	increment := func() error {
		for {
			e, err := s.Get(ctx, key)
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(value(e))
			if err != nil {
				return err
			}
			_, err = s.CAS(ctx, key, []byte(strconv.Itoa(n+1)), e.Rev)
			if !errors.Is(err, store.ErrConflict) {
				return err
			}
		}
	}
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				if err := increment(); err != nil {
					t.Errorf("increment: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	if e, err := s.Get(ctx, key); err != nil || value(e) != strconv.Itoa(writers*each) {
		t.Errorf("%d increments by CAS: got %q, %v", writers*each, e.Value, err)
	}
}

func testPut(t *testing.T, s store.Store) {
	key := unique() + "/a"
	first := put(t, s, key, "1")
	second := put(t, s, key, "2")
	third := put(t, s, key, "2")
	if first.Rev == 0 || second.Rev <= first.Rev || third.Rev <= second.Rev {
		t.Errorf("revisions of three writes: got %d, %d, %d, want them growing", first.Rev, second.Rev, third.Rev)
	}
	if got, err := s.Get(t.Context(), key); err != nil || value(got) != "2" || got.Rev != third.Rev {
		t.Errorf("Get: got %+v, %v, want %+v", got, err, third)
	}
}

func testDelete(t *testing.T, s store.Store) {
	ctx, key := t.Context(), unique()+"/a"
	want(t, "Delete of an absent key", remove(t, s, key, 0), store.ErrNotFound)
	want(t, "Delete of an absent key at 7", remove(t, s, key, 7), store.ErrNotFound)
	first := put(t, s, key, "1")
	second := put(t, s, key, "2")
	want(t, "Delete at an old revision", remove(t, s, key, first.Rev), store.ErrConflict)
	want(t, "Delete at the present revision", remove(t, s, key, second.Rev), nil)
	_, err := s.Get(ctx, key)
	want(t, "Get after Delete", err, store.ErrNotFound)
	_, err = s.CAS(ctx, key, []byte("x"), second.Rev)
	want(t, "CAS at the revision before Delete", err, store.ErrConflict)
	third, err := s.CAS(ctx, key, []byte("3"), 0)
	want(t, "CAS after Delete", err, nil)
	if third.Rev <= second.Rev {
		t.Errorf("revision after Delete: got %d, want more than %d", third.Rev, second.Rev)
	}
	want(t, "Delete of whatever is there", remove(t, s, key, 0), nil)
	want(t, "second Delete", remove(t, s, key, 0), store.ErrNotFound)
}

func testDeletes(t *testing.T, s store.Store) {
	key := unique() + "/a"
	for _, anyRev := range []bool{true, false} {
		rev := put(t, s, key, "1").Rev
		if anyRev {
			rev = 0
		}
		const deleters = 6
		errs := make(chan error, deleters)
		for range deleters {
			go func() { errs <- remove(t, s, key, rev) }()
		}
		done := 0
		for range deleters {
			switch err := <-errs; {
			case err == nil:
				done++
			case !errors.Is(err, store.ErrNotFound):
				t.Errorf("Delete at %d: %v", rev, err)
			}
		}
		if done != 1 {
			t.Errorf("%d deletes at %d of one key: %d succeeded, want 1", deleters, rev, done)
		}
	}
}

func testList(t *testing.T, s store.Store) {
	p := unique()
	for _, k := range []string{"/b", "/a/z", "/a", "/ab", "x", "/a/b"} {
		put(t, s, p+k, "v")
	}
	for _, c := range []struct{ name, prefix, want string }{
		{"a folder", "/", "[/a=v /a/b=v /a/z=v /ab=v /b=v]"},
		{"part of a segment", "/a", "[/a=v /a/b=v /a/z=v /ab=v]"},
		{"a folder within", "/a/", "[/a/b=v /a/z=v]"},
		{"everything of the test", "", "[/a=v /a/b=v /a/z=v /ab=v /b=v x=v]"},
		{"one key", "/a/z", "[/a/z=v]"},
		{"nothing", "/c/", "[]"},
	} {
		got, err := s.List(t.Context(), p+c.prefix)
		if err != nil || brief(p, got) != c.want {
			t.Errorf("List of %s: got %s, %v, want %s", c.name, brief(p, got), err, c.want)
		}
	}
	e := put(t, s, p+"/b", "2")
	if got, err := s.List(t.Context(), p+"/b"); err != nil || len(got.Entries) != 1 || got.Entries[0].Rev != e.Rev {
		t.Errorf("List: got %+v, %v, want revision %d", got, err, e.Rev)
	}
	if _, err := s.List(t.Context(), "/"+p); err == nil {
		t.Error("List of a prefix with a leading slash: got no error")
	}
}

func testKeys(t *testing.T, s store.Store) {
	p := unique() + "/"
	for _, key := range []string{
		"acme-v02.api.example-directory/wildcard_.example/a.crt",
		"Zürich/東京", "a b", "q?x=1&y=2#z", "plus+semi;comma,at@", "...", ".hidden", `quote"back\slash`,
		strings.Repeat("k", 400),
	} {
		put(t, s, p+key, key)
		if got, err := s.Get(t.Context(), p+key); err != nil || got.Key != p+key || value(got) != key {
			t.Errorf("Get(%q): got %q of %q, %v", key, got.Value, got.Key, err)
		}
		if err := remove(t, s, p+key, 0); err != nil {
			t.Errorf("Delete(%q): %v", key, err)
		}
	}
	for _, c := range []struct{ name, key string }{
		{"empty", ""},
		{"leading slash", "/" + p + "a"},
		{"trailing slash", p},
		{"double slash", p + "/a"},
		{"dot segment", p + "./a"},
		{"parent segment", p + "a/../b"},
		{"control character", p + "a\nb"},
		{"not UTF-8", p + "\xff"},
		{"percent", p + "a%41"},
		{"long", p + strings.Repeat("k", 600)},
	} {
		_, got := s.Get(t.Context(), c.key)
		_, putErr := s.Put(t.Context(), c.key, nil)
		_, cas := s.CAS(t.Context(), c.key, nil, 0)
		for op, err := range map[string]error{"Get": got, "Put": putErr, "CAS": cas, "Delete": remove(t, s, c.key, 0)} {
			if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
				t.Errorf("%s of a key with %s: got error %v, want one that refuses it", op, c.name, err)
			}
		}
	}
}

func testLargestValue(t *testing.T, s store.Store) {
	ctx, key := t.Context(), unique()+"/a"
	largest := bytes.Repeat([]byte{0, 0xff, '"', 'a'}, store.MaxValue/4)
	e, err := s.CAS(ctx, key, largest, 0)
	want(t, "CAS of the largest value", err, nil)
	if got, err := s.Get(ctx, key); err != nil || !bytes.Equal(got.Value, largest) {
		t.Errorf("Get of the largest value: got %d bytes, %v, want the %d written", len(got.Value), err, len(largest))
	}
	over := append(bytes.Clone(largest), 0)
	_, cas := s.CAS(ctx, key, over, e.Rev)
	_, put := s.Put(ctx, key, over)
	for op, err := range map[string]error{"CAS": cas, "Put": put} {
		if err == nil || errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), fmt.Sprint(store.MaxValue)) {
			t.Errorf("%s of a larger value: got error %v, want one with the key and the limit", op, err)
		}
	}
	if got, err := s.Get(ctx, key); err != nil || got.Rev != e.Rev {
		t.Errorf("Get after a refused write: got revision %d, %v, want %d", got.Rev, err, e.Rev)
	}
}

func testCopies(t *testing.T, s store.Store) {
	ctx, p := t.Context(), unique()+"/"
	in := []byte("good")
	written, err := s.Put(ctx, p+"a", in)
	want(t, "Put", err, nil)
	spoil := func(e store.Entry) { copy(e.Value, "evil") }
	w := watchKeys(t, s, p)
	spoil(store.Entry{Value: in})
	spoil(written)
	for range 2 {
		got, err := s.Get(ctx, p+"a")
		if err != nil || value(got) != "good" {
			t.Errorf("Get: got %q, %v, want good", got.Value, err)
		}
		spoil(got)
		list, err := s.List(ctx, p)
		if err != nil || brief(p, list) != "[a=good]" {
			t.Errorf("List: got %s, %v, want [a=good]", brief(p, list), err)
		}
		spoil(list.Entries[0])
	}
	first := w.until("the first snapshot", anything)
	if brief(p, first) != "[a=good]" {
		t.Errorf("Watch: got %s, want [a=good]", brief(p, first))
	}
	spoil(first.Entries[0])
	put(t, s, p+"b", "more")
	second := w.until("b", func(s store.Snapshot) bool { return len(s.Entries) == 2 })
	if brief(p, second) != "[a=good b=more]" {
		t.Errorf("Watch: got %s, want [a=good b=more]", brief(p, second))
	}
}
