package store

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// faulty refuses what it is told to, and counts what it was asked.
type faulty struct {
	*Memory
	refuse                       atomic.Bool
	registers, updates, renewals atomic.Int64
}

var errRefused = errors.New("refused")

func (s *faulty) Register(ctx context.Context, in Instance, ttl time.Duration) (Lease, error) {
	if s.registers.Add(1); s.refuse.Load() {
		return nil, errRefused
	}
	l, err := s.Memory.Register(ctx, in, ttl)
	return faultyLease{l, s}, err
}

type faultyLease struct {
	Lease
	s *faulty
}

func (l faultyLease) Update(ctx context.Context, in Instance) error {
	if l.s.updates.Add(1); l.s.refuse.Load() {
		return errRefused
	}
	return l.Lease.Update(ctx, in)
}

func (l faultyLease) Renew(ctx context.Context) error {
	if l.s.renewals.Add(1); l.s.refuse.Load() {
		return errRefused
	}
	return l.Lease.Renew(ctx)
}

// registered is the only instance of service s, if there is one.
func (s *faulty) registered(t *testing.T) (in Instance, found bool) {
	ctx, cancel := context.WithCancel(t.Context())
	s.WatchInstances(ctx, "s", func(list []Instance) {
		if len(list) > 0 {
			in, found = list[0], true
		}
		cancel()
	}, func(error) {})
	return in, found
}

// An instance is there while it is held; what others wait for is told at once and, when
// that fails, a second later, without further news; what changes slowly with the renewals.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &faulty{Memory: NewMemory()}
		st.refuse.Store(true)
		var load, applied atomic.Value
		load.Store("0")
		applied.Store("1")
		changed := make(chan struct{}, 1)
		var failures atomic.Int64
		h := Hold{TTL: 15 * time.Second, Changed: changed,
			Self: func() Instance {
				return Instance{ID: "a", Service: "s", Addr: netip.MustParseAddrPort("192.0.2.1:1"), Meta: map[string]string{"load": load.Load().(string)}}
			},
			Applied: func() map[string]string { return map[string]string{"applied": applied.Load().(string)} },
			Told: func(err error) {
				if err != nil {
					failures.Add(1)
				}
			}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Keep(ctx, st) }()
		is := func(when, load, applied string) {
			t.Helper()
			synctest.Wait()
			if in, found := st.registered(t); !found || in.Meta["load"] != load || in.Meta["applied"] != applied || in.Status != Passing {
				t.Errorf("%s: %+v, want load %s and applied %s", when, in, load, applied)
			}
		}
		time.Sleep(3500 * time.Millisecond)
		if _, found := st.registered(t); found || st.registers.Load() != 4 || failures.Load() != 4 {
			t.Errorf("%d tries, %d failures in 3.5 s", st.registers.Load(), failures.Load())
		}
		st.refuse.Store(false)
		time.Sleep(time.Second)
		is("once it is taken", "0", "1")

		load.Store("7")
		applied.Store("2")
		changed <- struct{}{}
		is("a change", "0", "2") // the load is in no hurry
		for range 10 {
			changed <- struct{}{}
			synctest.Wait()
		}
		if st.updates.Load() != 1 {
			t.Errorf("%d updates of one change", st.updates.Load())
		}
		time.Sleep(h.TTL / 3)
		is("a renewal", "7", "2")

		st.refuse.Store(true)
		applied.Store("3")
		changed <- struct{}{}
		synctest.Wait()
		st.refuse.Store(false)
		time.Sleep(time.Second)
		is("a second after the refusal", "7", "3")

		time.Sleep(time.Hour)
		is("an hour later", "7", "3")
		if st.registers.Load() != 5 || st.renewals.Load() < 700 || st.updates.Load() > 5 {
			t.Errorf("%d registrations, %d renewals, %d updates", st.registers.Load(), st.renewals.Load(), st.updates.Load())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, found := st.registered(t); found {
			t.Error("it is registered still")
		}
	})
}

// slow has its updates take effect a second after they were asked for, whoever waits, as an
// agent may.
type slow struct{ *Memory }

func (s slow) Register(ctx context.Context, in Instance, ttl time.Duration) (Lease, error) {
	l, err := s.Memory.Register(ctx, in, ttl)
	return slowLease{l, s.Memory}, err
}

type slowLease struct {
	Lease
	m *Memory
}

func (l slowLease) Update(ctx context.Context, in Instance) error {
	done := make(chan error, 1)
	go func() {
		time.Sleep(time.Second)
		_, err := l.m.Register(context.WithoutCancel(ctx), in, time.Minute)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A goodbye does not overtake what was said before it.
func TestHoldLeavesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := slow{NewMemory()}
		var applied atomic.Value
		applied.Store("1")
		changed := make(chan struct{}, 1)
		h := Hold{TTL: 15 * time.Second, Changed: changed, Told: func(error) {},
			Self:    func() Instance { return Instance{ID: "a", Service: "s", Addr: netip.MustParseAddrPort("192.0.2.1:1")} },
			Applied: func() map[string]string { return map[string]string{"applied": applied.Load().(string)} }}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Keep(ctx, st) }()
		synctest.Wait()
		applied.Store("2")
		changed <- struct{}{}
		time.Sleep(time.Millisecond)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if in, found := (&faulty{Memory: st.Memory}).registered(t); found {
			t.Errorf("it left, and is registered: %+v", in)
		}
	})
}
