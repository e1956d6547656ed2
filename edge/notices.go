package edge

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"bailiwick/consult"
	"bailiwick/store"
)

const (
	// takenEvery is how often notices that were taken are deleted: many together, and none
	// while nothing happens.
	takenEvery = time.Second
	// markEvery is how often the mark is raised at most: a restore that takes back only what is
	// younger than that may go unnoticed.
	markEvery = 10 * time.Second
)

// mark is the edge's own entry beside its notices in one store, which it alone writes. It does
// so again after records were read or written here and notices taken: a store in which it is
// older than it was has been restored to before them (ADR 13). An entry there also keeps the
// prefix from being empty: Consul wakes the watchers of one at every write of any key.
type mark struct {
	key   string
	rev   uint64        // as it was last written, or found
	shown atomic.Uint64 // as the watch has it; 0: it is not there
}

// raise writes the mark on top of the one that is known, and never on an older one. Where that
// is not there it returns what is.
func (m *mark) raise(ctx context.Context, st store.Store) (raised bool, rev uint64, err error) {
	e, err := st.CAS(ctx, m.key, []byte("an edge's own: leave it"), m.rev)
	if raised = err == nil; errors.Is(err, store.ErrConflict) {
		e, err = st.Get(ctx, m.key)
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
	}
	return raised, e.Rev, err
}

// notices follows, in one store, what others did to consults that this edge may have people
// of, until ctx ends. It is the only watch that an edge keeps for its rooms, and costs the
// store what changes, not what is (ADR 11).
func (e *Edge) notices(ctx context.Context, dc string, st store.Store) error {
	prefix := consult.NoticesTo(e.cfg.ID)
	m := &mark{key: prefix + "edge"}
	taken := make(chan []store.Entry, 1)
	e.rooms.group.Go(func() { e.clear(ctx, dc, st, m, taken) })
	seen := map[string]uint64{}
	return st.Watch(ctx, prefix, func(s store.Snapshot) {
		now := make(map[string]uint64, len(s.Entries))
		var fresh []store.Entry
		for _, entry := range s.Entries {
			now[entry.Key] = entry.Rev
			if seen[entry.Key] == entry.Rev || entry.Key == m.key {
				continue
			}
			n, err := consult.ParseNotice(entry.Value)
			if err != nil {
				e.cfg.Log.Error("notice not readable: dropped", "key", entry.Key, "err", err)
			} else {
				if n.Ended {
					e.router.Records.LearnEnd(n.Consult, time.Now())
				}
				e.rooms.hear(n)
			}
			fresh = append(fresh, entry)
		}
		seen = now
		m.shown.Store(now[m.key])
		if len(fresh) == 0 {
			return
		}
		select { // what is there already is deleted with it
		case earlier := <-taken:
			fresh = append(earlier, fresh...)
		default:
		}
		taken <- fresh
	}, func(error) {})
}

// clear deletes what was taken, raises the mark, and finds it where it should not be.
func (e *Edge) clear(ctx context.Context, dc string, st store.Store, m *mark, taken <-chan []store.Entry) {
	var due []store.Entry
	var raised time.Time
	t := time.NewTicker(takenEvery)
	defer t.Stop()
	for stale := true; ; { // something was heard since it was raised
		stale = e.router.Records.Heard(dc) || stale
		if now := time.Now(); now.Sub(raised) >= markEvery && (stale || m.shown.Load() != m.rev) {
			is, rev, err := m.raise(ctx, st)
			switch {
			case err != nil: // later
			case is:
				m.rev, raised, stale = rev, now, false
			default: // not as it was left, unless an answer was lost
				if rev < m.rev {
					e.cfg.Log.Warn("store restored to an older state: the records of consults are made true again", "datacenter", dc)
					e.router.Records.Restored(dc)
					e.rooms.restored(dc)
				}
				m.rev, stale = rev, true
			}
		}
		select {
		case <-ctx.Done():
			return
		case more := <-taken:
			due, stale = append(due, more...), true
		case <-t.C:
		}
		for len(due) > 0 && ctx.Err() == nil {
			n := min(len(due), store.MaxOps)
			if !remove(ctx, st, due[:n]) {
				break // later
			}
			due = due[n:]
		}
	}
}

// remove deletes entries as they were read; false means that the store is away. Where one is
// gone, or newer and taken by itself, each goes alone.
func remove(ctx context.Context, st store.Store, entries []store.Entry) bool {
	ops := make([]store.Op, len(entries))
	for i, entry := range entries {
		ops[i] = store.Op{Verb: store.Delete, Key: entry.Key, Rev: entry.Rev}
	}
	_, err := st.Commit(ctx, ops...)
	gone := errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict)
	if !gone || len(entries) == 1 {
		return err == nil || gone
	}
	for i := range entries {
		if !remove(ctx, st, entries[i:i+1]) {
			return false
		}
	}
	return true
}
