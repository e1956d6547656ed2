package store

import (
	"context"
	"sync"
)

// memoryLock is a lock of the memory store: nothing but its process can lose it.
type memoryLock struct {
	m     *Memory
	key   string
	free  chan struct{}
	fence uint64
	once  sync.Once
}

// Lock implements Store. Waiters are not served in order. The fence is a revision of
// its own, which a file keeps: what was fenced before a restart still is.
func (m *Memory) Lock(ctx context.Context, key string) (Lock, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m.mu.Lock()
		held := m.locks[key]
		if held == nil {
			l := &memoryLock{m: m, key: key, free: make(chan struct{})}
			m.locks[key] = l.free
			m.mu.Unlock()
			var err error
			l.fence, err = m.commit(ctx) // a revision of its own
			if err != nil {
				l.Unlock(ctx)
				return nil, err
			}
			return l, nil
		}
		m.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Lost implements Lock.
func (l *memoryLock) Lost() <-chan struct{} { return nil }

// Fence implements Lock.
func (l *memoryLock) Fence() uint64 { return l.fence }

// Unlock implements Lock. It succeeds whatever became of its context.
func (l *memoryLock) Unlock(context.Context) error {
	l.once.Do(func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		delete(l.m.locks, l.key)
		close(l.free)
	})
	return nil
}
