package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// registration is one instance of the memory store and when its lease runs out.
type registration struct {
	in      Instance
	expires time.Time
	timer   *time.Timer
}

// memoryLease acts on its service and ID, whoever registered them last, as
// Consul's does: of two holders of one ID, closing either deregisters, and the
// other's next renewal registers again. All its fields are guarded by m.mu.
type memoryLease struct {
	m      *Memory
	in     Instance
	ttl    time.Duration
	closed bool
}

// Register implements Store. The lease needs renewing within ttl, else the
// instance turns Critical; it stays registered until Close.
func (m *Memory) Register(ctx context.Context, in Instance, ttl time.Duration) (Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := CheckInstance(in); err != nil {
		return nil, err
	}
	if ttl <= 0 {
		return nil, fmt.Errorf("store: instance %s: lease of %s", in.ID, ttl)
	}
	l := &memoryLease{m: m, in: in.clone(), ttl: ttl}
	m.mu.Lock()
	defer m.mu.Unlock()
	l.registerLocked()
	return l, nil
}

func (l *memoryLease) registerLocked() {
	l.dropLocked()
	if l.m.services[l.in.Service] == nil {
		l.m.services[l.in.Service] = make(map[string]*registration)
	}
	r := &registration{in: l.in.clone(), expires: time.Now().Add(l.ttl)}
	r.in.Status = Passing
	r.timer = time.AfterFunc(l.ttl, func() { l.m.expire(r) })
	l.m.services[l.in.Service][l.in.ID] = r
	l.m.wakeLocked()
}

// expire turns r critical, unless it was renewed while the timer was firing. A
// registration that was replaced or dropped is in nobody's sight any more.
func (m *Memory) expire(r *registration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Now().Before(r.expires) {
		return
	}
	r.in.Status = Critical
	m.wakeLocked()
}

func (l *memoryLease) dropLocked() {
	if r := l.m.services[l.in.Service][l.in.ID]; r != nil {
		r.timer.Stop()
		delete(l.m.services[l.in.Service], l.in.ID)
		l.m.wakeLocked()
	}
}

// Renew implements Lease.
func (l *memoryLease) Renew(ctx context.Context) error {
	return l.while(ctx, func() error {
		r := l.m.services[l.in.Service][l.in.ID]
		if r == nil {
			l.registerLocked()
			return nil
		}
		r.expires = time.Now().Add(l.ttl)
		r.timer.Reset(l.ttl)
		if r.in.Status != Passing {
			r.in.Status = Passing
			l.m.wakeLocked()
		}
		return nil
	})
}

// Update implements Lease. It renews too: whoever has news is alive.
func (l *memoryLease) Update(ctx context.Context, in Instance) error {
	return l.while(ctx, func() error {
		in.ID, in.Service = l.in.ID, l.in.Service
		if err := CheckInstance(in); err != nil {
			return err
		}
		l.in = in.clone()
		l.registerLocked()
		return nil
	})
}

// Close implements Lease. Closing twice is once.
func (l *memoryLease) Close(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.dropLocked()
	}
	return nil
}

// while makes a change to a lease that is not closed.
func (l *memoryLease) while(ctx context.Context, change func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.closed {
		return fmt.Errorf("store: instance %s: its lease is closed", l.in.ID)
	}
	return change()
}

// WatchInstances implements Store.
func (m *Memory) WatchInstances(ctx context.Context, service string, fn func([]Instance), up func(error)) error {
	if err := CheckService(service); err != nil {
		return err
	}
	readLocked := func() []Instance {
		list := make([]Instance, 0, len(m.services[service]))
		for _, r := range m.services[service] {
			list = append(list, r.in)
		}
		slices.SortFunc(list, func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
		return list
	}
	return follow(ctx, m, readLocked, EqualInstances, func(list []Instance) { fn(CloneInstances(list)) }, up)
}

// EqualInstances reports whether an observer of a could tell it from b.
func EqualInstances(a, b []Instance) bool {
	return slices.EqualFunc(a, b, func(a, b Instance) bool {
		return a.ID == b.ID && a.Service == b.Service && a.Addr == b.Addr && a.Status == b.Status && maps.Equal(a.Meta, b.Meta)
	})
}

// CloneInstances copies list, its Meta maps too.
func CloneInstances(list []Instance) []Instance {
	clone := make([]Instance, len(list))
	for i, in := range list {
		clone[i] = in.clone()
	}
	return clone
}

func (in Instance) clone() Instance {
	in.Meta = maps.Clone(in.Meta)
	return in
}
