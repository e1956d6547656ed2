// Package storetest is the conformance suite of store.Store: what memory, file
// and Consul stores have in common, and callers may rely on.
package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"bailiwick/store"
)

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

// Run runs the suite. open returns a store that may be shared with other tests:
// the suite keeps to keys and services of its own.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, store.Store)
	}{
		{"Get", testGet},
		{"CAS", testCAS},
		{"CASIncrementsLoseNothing", testIncrements},
		{"Put", testPut},
		{"Delete", testDelete},
		{"DeletesOfOneKey", testDeletes},
		{"Commit", testCommit},
		{"CommitIsWhole", testCommitIsWhole},
		{"CommitsExclude", testCommitsExclude},
		{"CommitsRefused", testCommitsRefused},
		{"List", testList},
		{"Keys", testKeys},
		{"LargestValue", testLargestValue},
		{"ValuesAreCopies", testCopies},
		{"Watch", testWatch},
		{"WatchKeepsToItsPrefix", testWatchPrefix},
		{"Revisions", testRevisions},
		{"WatchConflates", testConflation},
		{"WatchersAreIndependent", testWatchers},
		{"Instances", testInstances},
		{"InstanceExpires", testExpiry},
		{"InstancesAreOrderedAndOfOneService", testServices},
		{"InstanceIsReplaced", testReplaced},
		{"ForgottenLeaseRegistersAgain", testForgotten},
		{"ClosedLease", testClosed},
		{"InstancesRefused", testInstancesRefused},
		{"Lock", testLock},
		{"LocksExclude", testLocksExclude},
		{"LockFences", testFences},
		{"LockCancelled", testLockCancelled},
		{"Cancelled", testCancelled},
		{"WatchesEndWithTheirContext", testWatchesEnd},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// unique begins the keys, and names the service, of one test.
func unique() string { return "storetest-" + rand.Text() }

func value(e store.Entry) string { return string(e.Value) }

// put writes a key, or ends the test.
func put(t *testing.T, s store.Store, key, value string) store.Entry {
	t.Helper()
	e, err := s.Put(t.Context(), key, []byte(value))
	if err != nil {
		t.Fatalf("Put(%s): %v", key, err)
	}
	return e
}

// remove is a Delete whose revision is of no interest.
func remove(t *testing.T, s store.Store, key string, rev uint64) error {
	_, err := s.Delete(t.Context(), key, rev)
	return err
}

// want ends the test unless err is target; a nil target means success.
func want(t *testing.T, doing string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: got error %v, want %v", doing, err, target)
	}
}

// brief shows a snapshot as key=value words, without the test's prefix.
func brief(prefix string, s store.Snapshot) string {
	words := make([]string, len(s.Entries))
	for i, e := range s.Entries {
		words[i] = e.Key[len(prefix):] + "=" + value(e)
	}
	return fmt.Sprint(words)
}

// watching is a watch under way: each call of fn arrives on got.
type watching[T any] struct {
	t      *testing.T
	got    chan T
	up     chan error
	done   chan error
	cancel context.CancelFunc
}

// watch starts run, which is one of the Watch methods, and stops it with the test.
func watch[T any](t *testing.T, run func(ctx context.Context, fn func(T), up func(error)) error) *watching[T] {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watching[T]{t: t, got: make(chan T, 4096), up: make(chan error, 4096), done: make(chan error, 1), cancel: cancel}
	go func() {
		w.done <- run(ctx, func(v T) { w.got <- v }, func(err error) {
			select {
			case w.up <- err:
			default: // nobody reads thousands of them
			}
		})
	}()
	t.Cleanup(func() { w.end() })
	return w
}

// end cancels the watch and returns its error.
func (w *watching[T]) end() error {
	w.t.Helper()
	w.cancel()
	select {
	case err := <-w.done:
		w.done <- err
		return err
	case <-time.After(patience):
		w.t.Errorf("a watch has not ended %s after its context", patience)
		return nil
	}
}

// until returns the first value delivered that ok accepts.
func (w *watching[T]) until(what string, ok func(T) bool) T {
	w.t.Helper()
	deadline := time.After(patience)
	var last T
	for n := 0; ; n++ {
		select {
		case last = <-w.got:
			if ok(last) {
				return last
			}
		case err := <-w.done:
			w.t.Fatalf("watch ended with %v, waiting for %s", err, what)
		case <-deadline:
			w.t.Fatalf("waited %s for %s; %d snapshots, the last: %v", patience, what, n, last)
		}
	}
}

func anything[T any](T) bool { return true }

func watchKeys(t *testing.T, s store.Store, prefix string) *watching[store.Snapshot] {
	t.Helper()
	return watch(t, func(ctx context.Context, fn func(store.Snapshot), up func(error)) error {
		return s.Watch(ctx, prefix, fn, up)
	})
}

func watchInstances(t *testing.T, s store.Store, service string) *watching[[]store.Instance] {
	t.Helper()
	return watch(t, func(ctx context.Context, fn func([]store.Instance), up func(error)) error {
		return s.WatchInstances(ctx, service, fn, up)
	})
}
