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

func testCommit(t *testing.T, s store.Store) {
	ctx, p := t.Context(), unique()+"/"
	old, gone := put(t, s, p+"old", "1"), put(t, s, p+"gone", "1")
	put(t, s, p+"any", "1")
	rev, err := s.Commit(ctx,
		store.Op{Verb: store.CAS, Key: p + "old", Value: []byte("2"), Rev: old.Rev},
		store.Op{Verb: store.CAS, Key: p + "new", Value: []byte("2")},
		store.Op{Verb: store.Put, Key: p + "put"},
		store.Op{Verb: store.Delete, Key: p + "gone", Rev: gone.Rev},
		store.Op{Verb: store.Delete, Key: p + "any"})
	want(t, "Commit", err, nil)
	list, err := s.List(ctx, p)
	if err != nil || brief(p, list) != "[new=2 old=2 put=]" || list.Rev < rev {
		t.Errorf("after the commit at %d: got %s at %d, %v", rev, brief(p, list), list.Rev, err)
	}
	for _, e := range list.Entries {
		if e.Rev != rev {
			t.Errorf("%s has revision %d, want that of the commit, %d", e.Key[len(p):], e.Rev, rev)
		}
	}
	_, err = s.CAS(ctx, p+"old", []byte("3"), rev)
	want(t, "CAS at the commit's revision", err, nil)

	rev, err = s.Commit(ctx, store.Op{Verb: store.Delete, Key: p + "new", Rev: rev}, store.Op{Verb: store.Delete, Key: p + "put", Rev: rev})
	want(t, "Commit of deletes alone", err, nil)
	w := watchKeys(t, s, p)
	last := w.until("the deletes", func(now store.Snapshot) bool { return now.Rev >= rev })
	if brief(p, last) != "[old=3]" {
		t.Errorf("a snapshot at %d, after the deletes at %d: got %s", last.Rev, rev, brief(p, last))
	}
}

// One change that cannot be made leaves all others undone.
func testCommitIsWhole(t *testing.T, s store.Store) {
	p := unique() + "/"
	first := put(t, s, p+"a", "1")
	put(t, s, p+"a", "2")
	for _, c := range []struct {
		name string
		op   store.Op
		want error
	}{
		{"a CAS at an old revision", store.Op{Verb: store.CAS, Key: p + "a", Rev: first.Rev}, store.ErrConflict},
		{"a CAS of a present key that should be absent", store.Op{Verb: store.CAS, Key: p + "a"}, store.ErrConflict},
		{"a CAS of an absent key", store.Op{Verb: store.CAS, Key: p + "none", Rev: first.Rev}, store.ErrConflict},
		{"a Delete at an old revision", store.Op{Verb: store.Delete, Key: p + "a", Rev: first.Rev}, store.ErrConflict},
		{"a Delete of an absent key", store.Op{Verb: store.Delete, Key: p + "none"}, store.ErrNotFound},
		{"a Delete of an absent key at a revision", store.Op{Verb: store.Delete, Key: p + "none", Rev: first.Rev}, store.ErrNotFound},
	} {
		for _, ops := range [][]store.Op{
			{c.op, {Verb: store.Put, Key: p + "b"}},
			{{Verb: store.Put, Key: p + "b"}, c.op},
			{{Verb: store.CAS, Key: p + "b"}, c.op},
		} {
			_, err := s.Commit(t.Context(), ops...)
			want(t, "Commit with "+c.name, err, c.want)
			if list, err := s.List(t.Context(), p); err != nil || brief(p, list) != "[a=2]" {
				t.Errorf("after a Commit with %s: got %s, %v", c.name, brief(p, list), err)
			}
		}
	}
}

// Of commits that meet one goes first, and the keys that they share always agree.
func testCommitsExclude(t *testing.T, s store.Store) {
	ctx, p := t.Context(), unique()+"/"
	const writers, each = 4, 10
	put(t, s, p+"count", "0")
	increment := func() error {
		for {
			e, err := s.Get(ctx, p+"count")
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(value(e))
			if err != nil {
				return err
			}
			next := []byte(strconv.Itoa(n + 1))
			_, err = s.Commit(ctx, store.Op{Verb: store.CAS, Key: p + "count", Value: next, Rev: e.Rev}, store.Op{Verb: store.Put, Key: p + "twin", Value: next})
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
	if list, err := s.List(ctx, p); err != nil || brief(p, list) != fmt.Sprintf("[count=%d twin=%[1]d]", writers*each) {
		t.Errorf("%d commits: got %s, %v", writers*each, brief(p, list), err)
	}
}

func testCommitsRefused(t *testing.T, s store.Store) {
	p := unique() + "/"
	puts := func(n, size int) (ops []store.Op) {
		for i := range n {
			ops = append(ops, store.Op{Verb: store.Put, Key: fmt.Sprint(p, i), Value: bytes.Repeat([]byte{0xff}, size)})
		}
		return ops
	}
	for _, c := range []struct {
		name string
		ops  []store.Op
	}{
		{"of nothing", nil},
		{"of too many", puts(store.MaxOps+1, 1)},
		{"of too much", puts(2, store.MaxCommit/2+1)},
		{"of one key twice", append(puts(1, 1), puts(1, 1)...)},
		{"of what is no key", []store.Op{{Verb: store.Put, Key: p}}},
	} {
		if _, err := s.Commit(t.Context(), c.ops...); err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("Commit %s: got error %v, want one that refuses it", c.name, err)
		}
	}
	if list, err := s.List(t.Context(), p); err != nil || len(list.Entries) > 0 {
		t.Errorf("after refused commits: got %d entries, %v", len(list.Entries), err)
	}
	// The most that it takes, deletes too, which are the most work to Consul.
	ops := puts(store.MaxOps, store.MaxCommit/store.MaxOps)
	_, err := s.Commit(t.Context(), ops...)
	want(t, "the largest Commit", err, nil)
	for i := range ops {
		ops[i] = store.Op{Verb: store.Delete, Key: ops[i].Key}
	}
	_, err = s.Commit(t.Context(), ops...)
	want(t, "the Commit of the most deletes", err, nil)
	if list, err := s.List(t.Context(), strings.TrimSuffix(p, "/")); err != nil || len(list.Entries) > 0 {
		t.Errorf("after the most deletes: got %d entries, %v", len(list.Entries), err)
	}
}
