package edge

import (
	"context"
	"errors"
	"time"

	"bailiwick/consult"
	"bailiwick/store"
)

// takenEvery is how often notices that were taken are deleted: many together, and none
// while nothing happens.
const takenEvery = time.Second

// notices follows, in one store, what others did to consults that this edge may have people
// of, until ctx ends. It is the only watch that an edge keeps for its rooms, and costs the
// store what changes, not what is (ADR 11).
func (e *Edge) notices(ctx context.Context, st store.Store) error {
	prefix := consult.NoticesTo(e.cfg.ID)
	taken := make(chan []store.Entry, 1)
	e.rooms.group.Go(func() { e.clear(ctx, st, prefix+"edge", taken) })
	seen := map[string]uint64{}
	return st.Watch(ctx, prefix, func(s store.Snapshot) {
		now := make(map[string]uint64, len(s.Entries))
		var fresh []store.Entry
		for _, entry := range s.Entries {
			now[entry.Key] = entry.Rev
			if seen[entry.Key] == entry.Rev || entry.Key == prefix+"edge" {
				continue
			}
			n, err := consult.ParseNotice(entry.Value)
			if err != nil {
				e.cfg.Log.Error("notice not readable: dropped", "key", entry.Key, "err", err)
			} else {
				e.rooms.hear(n)
			}
			fresh = append(fresh, entry)
		}
		seen = now
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

// clear deletes what was taken. It first leaves an entry of its own under the prefix: while
// a prefix is empty Consul wakes its watchers at every write of any key.
func (e *Edge) clear(ctx context.Context, st store.Store, mark string, taken <-chan []store.Entry) {
	var due []store.Entry
	t := time.NewTicker(takenEvery)
	defer t.Stop()
	for marked := false; ; {
		if !marked {
			_, err := st.CAS(ctx, mark, []byte("an edge's own: leave it"), 0)
			marked = err == nil || errors.Is(err, store.ErrConflict)
		}
		select {
		case <-ctx.Done():
			return
		case more := <-taken:
			due = append(due, more...)
		case <-t.C:
		}
		for len(due) > 0 && ctx.Err() == nil {
			_, err := st.Delete(ctx, due[0].Key, due[0].Rev)
			if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
				break // later; a conflict is a newer notice, which is taken by itself
			}
			due = due[1:]
		}
	}
}
