package consul

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"bailiwick/store"
)

// Watch implements store.Store. up is told of each contact, at least every 32 s.
func (s *Store) Watch(ctx context.Context, prefix string, fn func(store.Snapshot), up func(error)) error {
	if err := store.CheckPrefix(prefix); err != nil {
		return err
	}
	return watch[api.KVPairs]{
		store: s,
		what:  "watch " + prefix,
		fetch: func(q *api.QueryOptions) (api.KVPairs, *api.QueryMeta, error) { return s.client.KV().List(prefix, q) },
		same: func(a, b api.KVPairs) bool {
			return slices.EqualFunc(a, b, func(a, b *api.KVPair) bool {
				return a.Key == b.Key && a.ModifyIndex == b.ModifyIndex && bytes.Equal(a.Value, b.Value)
			})
		},
		moves:   true,
		deliver: func(pairs api.KVPairs, index uint64) { fn(snapshot(pairs, index)) },
		up:      up,
	}.run(ctx)
}

// watch is one value of Consul's, followed by blocking queries. deliver runs
// between two queries, so a slow one misses values and never the newest.
type watch[T any] struct {
	store   *Store
	what    string
	fetch   func(*api.QueryOptions) (T, *api.QueryMeta, error)
	same    func(a, b T) bool
	moves   bool                    // a higher index is news of its own
	deliver func(v T, index uint64) // must not keep or change what it is given
	up      func(error)
}

// longestPause bounds what a watch that was woken for nothing adds to the way of the
// next write: half of what an operator's toggle may take to the next DNS answer.
const longestPause = 500 * time.Millisecond

var errNoLeader = errors.New("no known leader: the last known values stand")

func (w watch[T]) run(ctx context.Context) error {
	var (
		last      T
		delivered bool
		newest    uint64 // index of the last answer that was believed
		wait      uint64 // index to block on; 0 asks for an answer at once
		certain   = true // ask for a caught-up leader's word
		failures  int
		nothings  int // answers in a row that had a higher index and nothing else
		turn      turn
	)
	defer w.store.end(&turn)
	for {
		index := wait
		if index != 0 {
			blocks, err := w.store.pause(ctx, &turn)
			if err != nil {
				return err
			}
			if !blocks {
				index = 0
			}
		}
		value, meta, err := w.ask(ctx, index, certain)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			w.up(w.store.fail(ctx, w.what, err))
			wait = 0
			failures++
			if err := sleep(ctx, backoff(failures)); err != nil {
				return err
			}
			continue
		}
		failures = 0
		if meta.LastIndex < newest && !certain {
			// A server that lags or replays its log, or a store that was
			// restored: only a leader knows which.
			wait, certain = 0, true
			continue
		}
		changed, moved := !delivered || !w.same(last, value), meta.LastIndex > newest
		newest, wait, certain = meta.LastIndex, meta.LastIndex, false
		if changed || moved && w.moves {
			w.deliver(value, newest)
			last, delivered = value, true
		}
		if meta.KnownLeader {
			w.up(nil)
		} else {
			w.up(w.store.fail(ctx, w.what, errNoLeader))
		}
		if changed || !moved {
			nothings = 0
			continue
		}
		// Under a prefix that holds nothing each write of any other key does this.
		nothings++
		if err := sleep(ctx, min(longestPause, 10*time.Millisecond<<min(nothings, 10))); err != nil {
			return err
		}
	}
}

// ask makes one query. The agent adds up to a sixteenth of jitter to the wait.
func (w watch[T]) ask(ctx context.Context, index uint64, certain bool) (T, *api.QueryMeta, error) {
	s := w.store
	bounded, cancel := context.WithTimeout(ctx, s.wait+s.wait/16+s.grace)
	defer cancel()
	q := &api.QueryOptions{WaitIndex: index, WaitTime: s.wait, AllowStale: !certain, RequireConsistent: certain}
	value, meta, err := w.fetch(q.WithContext(bounded))
	if err == nil {
		err = s.trust(meta, true)
	}
	if bounded.Err() != nil {
		err = fmt.Errorf("no answer: %w", bounded.Err())
	}
	return value, meta, err
}

// backoff is how long to wait after the nth failure in a row: a random part of a
// bound that doubles up to 10 s, never less than 0.2 s.
func backoff(n int) time.Duration {
	const least, most = 200 * time.Millisecond, 10 * time.Second
	bound := min(most, least<<min(n, 10))
	return least + rand.N(bound-least)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
