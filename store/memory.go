package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Memory is a Store in this process: one global revision, lost with the process.
// It is always reachable, so its watches never report a failure.
//
// The entries are one immutable sorted slice that each write replaces. A snapshot
// is a part of it, a writer waits for no reader, and a watcher that was busy
// finds the newest slice: conflation needs no queue.
type Memory struct {
	writing sync.Mutex // held over a whole write, a disk's fsync included; taken before mu
	// save keeps the next state before anybody sees it; nil keeps nothing.
	// Guarded by writing.
	save func(rev uint64, entries []Entry) error

	mu       sync.Mutex // held briefly, never over a callback or a disk
	rev      uint64
	entries  []Entry // ordered by key; neither the slice nor a value ever changes
	services map[string]map[string]*registration
	locks    map[string]chan struct{} // held ones, each closed when it is given up
	changed  chan struct{}            // closed and replaced by whatever a watcher could see
	deletes  []Entry                  // the last ones, without values; elements never change
	forgot   uint64                   // revision of the newest delete that is not among them
}

// remembered bounds the deletes kept for watchers. One that slept through more is told
// that its prefix moved, whether it did or not.
const remembered = 1024

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		services: make(map[string]map[string]*registration),
		locks:    make(map[string]chan struct{}),
		changed:  make(chan struct{}),
	}
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) (Entry, error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, err
	}
	if err := CheckKey(key); err != nil {
		return Entry{}, err
	}
	m.mu.Lock()
	entries := m.entries
	m.mu.Unlock()
	i, found := find(entries, key)
	if !found {
		return Entry{}, fmt.Errorf("%w: %s", ErrNotFound, key)
	}
	return entries[i].clone(), nil
}

// CAS implements Store.
func (m *Memory) CAS(ctx context.Context, key string, value []byte, rev uint64) (Entry, error) {
	return m.set(ctx, Op{Verb: CAS, Key: key, Value: value, Rev: rev})
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, key string, value []byte) (Entry, error) {
	return m.set(ctx, Op{Verb: Put, Key: key, Value: value})
}

// set writes one key.
func (m *Memory) set(ctx context.Context, op Op) (Entry, error) {
	if err := errors.Join(CheckKey(op.Key), CheckValue(op.Key, op.Value)); err != nil {
		return Entry{}, err
	}
	rev, err := m.commit(ctx, op)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Key: op.Key, Value: bytes.Clone(op.Value), Rev: rev}, nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, key string, rev uint64) (uint64, error) {
	if err := CheckKey(key); err != nil {
		return 0, err
	}
	return m.commit(ctx, Op{Verb: Delete, Key: key, Rev: rev})
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, ops ...Op) (uint64, error) {
	if err := CheckOps(ops); err != nil {
		return 0, err
	}
	return m.commit(ctx, ops...)
}

// commit makes the changes at one revision, which it returns.
func (m *Memory) commit(ctx context.Context, ops ...Op) (uint64, error) {
	m.writing.Lock()
	defer m.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	entries, rev := m.entries, m.rev+1
	m.mu.Unlock()
	next, deleted, err := change(entries, rev, ops)
	if err != nil {
		return 0, err
	}
	if m.save != nil {
		if err := m.save(rev, next); err != nil {
			return 0, err
		}
	}
	m.mu.Lock()
	m.entries, m.rev = next, rev
	m.deletes = append(m.deletes, deleted...)
	if old := len(m.deletes) - remembered; old > 0 {
		m.forgot, m.deletes = m.deletes[old-1].Rev, m.deletes[old:]
	}
	m.wakeLocked()
	m.mu.Unlock()
	return rev, nil
}

// change gives the entries after the changes, in a slice of their own, and those that they
// removed, without values.
func change(entries []Entry, rev uint64, ops []Op) (next, deleted []Entry, err error) {
	next = slices.Clone(entries)
	for _, op := range ops {
		var current uint64 // of an absent key
		i, found := find(next, op.Key)
		if found {
			current = next[i].Rev
		}
		switch {
		case op.Verb == Delete && !found:
			return nil, nil, fmt.Errorf("%w: %s", ErrNotFound, op.Key)
		case op.Verb == CAS && op.Rev != current, op.Verb == Delete && op.Rev != 0 && op.Rev != current:
			return nil, nil, fmt.Errorf("%w: %s", ErrConflict, op.Key)
		case op.Verb == Delete:
			next, deleted = slices.Delete(next, i, i+1), append(deleted, Entry{Key: op.Key, Rev: rev})
			continue
		case !found:
			next = slices.Insert(next, i, Entry{})
		}
		next[i] = Entry{Key: op.Key, Value: bytes.Clone(op.Value), Rev: rev}
	}
	return next, deleted, nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string) (Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return Snapshot{}, err
	}
	if err := CheckPrefix(prefix); err != nil {
		return Snapshot{}, err
	}
	m.mu.Lock()
	st := m.stateLocked(prefix)
	m.mu.Unlock()
	return st.snapshot(), nil
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, prefix string, fn func(Snapshot), up func(error)) error {
	if err := CheckPrefix(prefix); err != nil {
		return err
	}
	return follow(ctx, m, func() state { return m.stateLocked(prefix) }, state.same, func(st state) { fn(st.snapshot()) }, up)
}

// state is what lies under a prefix at one instant, all of it shared and immutable.
type state struct {
	prefix  string
	rev     uint64
	entries []Entry
	deletes []Entry
	forgot  uint64
}

func (m *Memory) stateLocked(prefix string) state {
	return state{prefix, m.rev, under(m.entries, prefix), m.deletes, m.forgot}
}

// same reports whether nothing was written or deleted under the prefix between s and
// the later one.
func (s state) same(later state) bool {
	if later.forgot > s.rev {
		return false
	}
	for _, d := range slices.Backward(later.deletes) {
		if d.Rev <= s.rev {
			break
		}
		if strings.HasPrefix(d.Key, s.prefix) {
			return false
		}
	}
	return slices.EqualFunc(s.entries, later.entries, func(a, b Entry) bool { return a.Key == b.Key && a.Rev == b.Rev })
}

// follow calls deliver with what readLocked returns, now and whenever it changed,
// until ctx ends. It never keeps what deliver was given, nor a lock while it runs.
func follow[T any](ctx context.Context, m *Memory, readLocked func() T, same func(a, b T) bool, deliver func(T), up func(error)) error {
	var last T
	for first := true; ; {
		m.mu.Lock()
		now, changed := readLocked(), m.changed
		m.mu.Unlock()
		if err := ctx.Err(); err != nil {
			return err
		}
		if first || !same(last, now) {
			deliver(now)
			up(nil)
		}
		last, first = now, false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (m *Memory) wakeLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// find returns where key is, or where it would go.
func find(entries []Entry, key string) (int, bool) {
	return slices.BinarySearchFunc(entries, key, func(e Entry, key string) int { return strings.Compare(e.Key, key) })
}

// under returns the entries whose keys begin with prefix.
func under(entries []Entry, prefix string) []Entry {
	from, _ := find(entries, prefix)
	to := from
	for to < len(entries) && strings.HasPrefix(entries[to].Key, prefix) {
		to++
	}
	return entries[from:to]
}

func (s state) snapshot() Snapshot {
	snap := Snapshot{Rev: s.rev, Entries: make([]Entry, len(s.entries))}
	for i, e := range s.entries {
		snap.Entries[i] = e.clone()
	}
	return snap
}

func (e Entry) clone() Entry {
	e.Value = bytes.Clone(e.Value)
	return e
}
