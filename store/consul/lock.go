package consul

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"bailiwick/store"
)

// lockDelay is for what a holder that lost its lock has under way still.
const lockDelay = 2 * time.Second

// lock is held by a session of its own. No health check is tied to it: a node that
// fails one may well hold a lock, and its TTL ends a session with its process.
type lock struct {
	store   *Store
	key     string
	session string
	fence   uint64        // ModifyIndex of the key as the session took it
	lost    chan struct{} // closed by keep
	cancel  context.CancelFunc
	kept    chan struct{} // closed when keep has returned
	once    sync.Once
}

// Lock implements store.Store. The entry at key is deleted with the lock. A holder
// that dies is followed after at most twice the session's TTL and the lock-delay.
func (s *Store) Lock(ctx context.Context, key string) (store.Lock, error) {
	if err := store.CheckKey(key); err != nil {
		return nil, err
	}
	began := time.Now()
	q := &api.WriteOptions{}
	id, _, err := s.client.Session().CreateNoChecks(&api.SessionEntry{
		Name: "bailiwick lock", TTL: s.hold.String(), Behavior: api.SessionBehaviorDelete, LockDelay: lockDelay,
	}, q.WithContext(ctx))
	if err != nil {
		return nil, s.fail(ctx, "lock "+key, err)
	}
	held, cancel := context.WithCancel(context.Background())
	l := &lock{store: s, key: key, session: id, lost: make(chan struct{}), cancel: cancel, kept: make(chan struct{})}
	go l.keep(held, began)
	if err := l.acquire(ctx); err != nil {
		// On a hung agent the session ends by its TTL.
		bounded, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer stop()
		l.Unlock(bounded)
		return nil, s.fail(ctx, "lock "+key, err)
	}
	return l, nil
}

// acquire waits for the lock by blocking queries on its key.
func (l *lock) acquire(ctx context.Context) error {
	s := l.store
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-l.lost:
			cancel(errors.New("session lost while waiting"))
		case <-ctx.Done():
		}
	}()
	var (
		index uint64
		turn  turn
	)
	defer s.end(&turn)
	for {
		q := &api.WriteOptions{}
		ok, _, err := s.client.KV().Acquire(&api.KVPair{Key: l.key, Session: l.session}, q.WithContext(ctx))
		if err != nil {
			return cause(ctx, err)
		}
		if ok {
			index = 0 // its fence is asked for, at once
		}
		pair, meta, err := s.held(ctx, l.key, index)
		switch {
		case err != nil:
			return cause(ctx, err)
		case pair != nil && pair.Session == l.session:
			l.fence = pair.ModifyIndex
			return nil
		case pair == nil || pair.Session == "": // free, but shut by the lock-delay
			index = 0
			if err := sleep(ctx, lockDelay/4); err != nil {
				return cause(ctx, err)
			}
		default:
			blocks, err := s.pause(ctx, &turn)
			if err != nil {
				return cause(ctx, err)
			}
			if index = 0; blocks {
				index = meta.LastIndex
			}
		}
	}
}

// cause prefers why the context ended.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// held waits until the entry of a lock is newer than index.
func (s *Store) held(ctx context.Context, key string, index uint64) (*api.KVPair, *api.QueryMeta, error) {
	ctx, cancel := context.WithTimeout(ctx, s.wait+s.wait/16+s.grace)
	defer cancel()
	q := &api.QueryOptions{RequireConsistent: true, WaitIndex: index, WaitTime: s.wait}
	pair, meta, err := s.client.KV().Get(key, q.WithContext(ctx))
	if err == nil {
		err = s.trust(meta, false)
	}
	return pair, meta, err
}

// keep renews the session until ctx ends, or until it cannot be answered for.
func (l *lock) keep(ctx context.Context, renewed time.Time) {
	defer close(l.kept)
	defer close(l.lost)
	hold := l.store.hold
	for {
		bounded, cancel := context.WithDeadline(ctx, renewed.Add(hold))
		err := sleep(bounded, hold/3)
		began := time.Now()
		var entry *api.SessionEntry
		if err == nil {
			q := &api.WriteOptions{}
			entry, _, err = l.store.client.Session().Renew(l.session, q.WithContext(bounded))
		}
		cancel()
		switch {
		case err == nil && entry == nil: // Consul knows of no such session
			return
		case err == nil:
			renewed = began
		case ctx.Err() != nil || time.Since(renewed) >= hold:
			return
		}
	}
}

// Lost implements store.Lock.
func (l *lock) Lost() <-chan struct{} { return l.lost }

// Fence implements store.Lock.
func (l *lock) Fence() uint64 { return l.fence }

// Unlock implements store.Lock. The entry is deleted only while the session holds
// it, in one transaction: the next holder's is left alone, and no lock-delay begins.
func (l *lock) Unlock(ctx context.Context) (err error) {
	l.once.Do(func() {
		l.cancel()
		<-l.kept
		q := &api.QueryOptions{}
		_, _, _, err = l.store.client.Txn().Txn(api.TxnOps{
			{KV: &api.KVTxnOp{Verb: api.KVCheckSession, Key: l.key, Session: l.session}},
			{KV: &api.KVTxnOp{Verb: api.KVDelete, Key: l.key}},
		}, q.WithContext(ctx))
		w := &api.WriteOptions{}
		_, destroyed := l.store.client.Session().Destroy(l.session, w.WithContext(ctx))
		if err = errors.Join(err, destroyed); err != nil {
			err = l.store.fail(ctx, "unlock "+l.key, fmt.Errorf("%w: its session ends it within %s", err, 2*l.store.hold))
		}
	})
	return err
}
