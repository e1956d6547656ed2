package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	acmeapi "github.com/mholt/acmez/v3/acme"

	"bailiwick/store"
	"bailiwick/tools/logtest"
)

const apex = "_acme-challenge.join.media.example."

func forName(name, token string) acmeapi.Challenge {
	return acmeapi.Challenge{Type: acmeapi.ChallengeTypeDNS01, Identifier: acmeapi.Identifier{Type: "dns", Value: name}, KeyAuthorization: token}
}

func node(st store.Store, name string) *Challenges {
	return NewChallenges(st, name, netip.MustParseAddrPort("192.0.2.53:53"), quiet())
}

// Apex and wildcard share a name: both values are served, each goes by itself, and
// what nobody cleans up ends by itself.
func TestChallengesAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := t.Context(), store.NewMemory()
		c, s := node(st, "dns-1"), newSolver(st)
		stop := running(t, c.Run)
		a, b := forName("join.media.example", "one"), forName("JOIN.media.example", "two") // any case
		for _, ch := range []acmeapi.Challenge{a, b} {
			if err := s.Present(ctx, ch); err != nil {
				t.Fatal(err)
			}
			if err := s.Wait(ctx, ch); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{a.DNS01KeyAuthorization(), b.DNS01KeyAuthorization()}
		slices.Sort(want)
		if got := c.Lookup(apex); !slices.Equal(got, want) {
			t.Errorf("both: got %q, want %q", got, want)
		}
		if got := c.Lookup("join.media.example."); got != nil {
			t.Errorf("another name: got %q, want none", got)
		}
		time.Sleep(30 * time.Minute)
		if err := s.CleanUp(ctx, a); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := c.Lookup(apex); !slices.Equal(got, []string{b.DNS01KeyAuthorization()}) {
			t.Errorf("after the first went: got %q", got)
		}
		if err := s.CleanUp(ctx, a); err != nil {
			t.Errorf("second CleanUp: %v", err)
		}
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if got := c.Lookup(apex); got != nil {
			t.Errorf("after an hour: got %q, want none", got)
		}
		if err := s.Present(ctx, a); err != nil {
			t.Fatal(err)
		}
		if snap, err := st.List(ctx, challengesPrefix); err != nil || len(snap.Entries) != 1 {
			t.Errorf("challenges in the store: got %v, %v, want the dead one swept away", snap.Entries, err)
		}
		stop()
	})
}

// What is dead when it is seen, and presented anew before it is swept away, stays.
func TestPresentedWhileSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.NewMemory()
		old := forName("join.media.example", "one")
		if err := newSolver(st).Present(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		time.Sleep(challengeLife)
		again := func() {
			b, err := json.Marshal(storedChallenge{Presented: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Put(t.Context(), challengesPrefix+challengeOf(old).id(), b); err != nil {
				t.Fatal(err)
			}
		}
		if err := newSolver(listing{st, again}).Present(t.Context(), forName("join.media.example", "two")); err != nil {
			t.Fatal(err)
		}
		if snap, err := st.List(t.Context(), challengesPrefix); err != nil || len(snap.Entries) != 2 {
			t.Errorf("got %v, %v, want both challenges", snap.Entries, err)
		}
	})
}

// listing does something after each List.
type listing struct {
	store.Store
	then func()
}

func (s listing) List(ctx context.Context, prefix string) (store.Snapshot, error) {
	snap, err := s.Store.List(ctx, prefix)
	s.then()
	return snap, err
}

// appliedBy is the revision that a node's lease says it has applied.
func appliedBy(t *testing.T, st store.Store, node string) (rev uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	st.WatchInstances(ctx, Service, func(list []store.Instance) {
		for _, in := range list {
			if in.ID == node {
				fmt.Sscan(in.Meta[appliedMeta], &rev)
			}
		}
		cancel()
	}, func(error) {})
	return rev
}

// A lease says that a challenge is applied after the swap, never before.
func TestAppliedIsServed(t *testing.T) {
	st := &spying{Store: store.NewMemory()}
	c := node(st, "dns-1")
	st.said = func(in store.Instance) {
		var rev uint64
		if _, err := fmt.Sscan(in.Meta[appliedMeta], &rev); err != nil {
			t.Errorf("meta %q: %v", in.Meta, err)
		}
		snap, err := st.List(t.Context(), challengesPrefix)
		if err != nil {
			t.Error(err)
		}
		for _, e := range snap.Entries {
			name, txt, _ := strings.Cut(strings.TrimPrefix(e.Key, challengesPrefix), "/")
			if e.Rev <= rev && !slices.Contains(c.Lookup(name+"."), txt) {
				t.Errorf("said to be applied before it is served: %s", e.Key)
			}
		}
	}
	running(t, c.Run)
	s := newSolver(st.Store)
	for i := range 20 {
		ch := forName("join.media.example", fmt.Sprint(i))
		if err := errors.Join(s.Present(t.Context(), ch), s.Wait(t.Context(), ch)); err != nil {
			t.Fatal(err)
		}
	}
}

// spying is told what a node registers as.
type spying struct {
	store.Store
	said func(store.Instance)
}

func (s *spying) Register(ctx context.Context, in store.Instance, ttl time.Duration) (store.Lease, error) {
	s.said(in)
	l, err := s.Store.Register(ctx, in, ttl)
	return spiedLease{l, s}, err
}

type spiedLease struct {
	store.Lease
	s *spying
}

func (l spiedLease) Update(ctx context.Context, in store.Instance) error {
	l.s.said(in)
	return l.Lease.Update(ctx, in)
}

// A challenge whose news the store does not take at first is waited for as long, and one of
// another hour is not served.
func TestAppliedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &reluctant{store.NewMemory(), 3}
		stop := running(t, node(st, "dns-1").Run)
		synctest.Wait()
		s, ch := newSolver(st), forName("join.media.example", "one")
		began := time.Now()
		if err := errors.Join(s.Present(t.Context(), ch), s.Wait(t.Context(), ch)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %s, want some seconds", took)
		}
		if st.left != 0 {
			t.Errorf("%d refusals left: this test tests nothing", st.left)
		}
		stop()
	})
	now := time.Now()
	for age, want := range map[time.Duration]bool{-challengeLife: false, time.Second - challengeLife: true, challengeLife - time.Second: true, challengeLife: false} {
		if got := (challenge{at: now.Add(-age)}).current(now); got != want {
			t.Errorf("%s old: served %v, want %v", age, got, want)
		}
	}
}

// What is beyond the bounds of what a node serves is not applied, until there is room.
func TestBeyondTheBoundsIsNotApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.NewMemory()
		running(t, node(st, "dns-1").Run)
		s := newSolver(st)
		last := forName("join.media.example", "last")
		for i := range maxValues {
			if err := s.Present(t.Context(), forName("join.media.example", fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		before := appliedBy(t, st, "dns-1")
		if err := s.Present(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		if err := s.Wait(t.Context(), last); err == nil || appliedBy(t, st, "dns-1") != before {
			t.Errorf("one too many: got %v, applied %d, want it at %d", err, appliedBy(t, st, "dns-1"), before)
		}
		if err := s.CleanUp(t.Context(), forName("join.media.example", "0")); err != nil {
			t.Fatal(err)
		}
		if err := s.Wait(t.Context(), last); err != nil {
			t.Errorf("once there is room: %v", err)
		}
	})
}

// What other keys do to the store's revision is not news of a prefix.
func TestRevisionAloneIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &moving{Store: store.NewMemory()}
		said := 0
		spy := &spying{Store: st, said: func(store.Instance) { said++ }}
		running(t, node(spy, "dns-1").Run)
		synctest.Wait()
		before := said
		for range 10 {
			st.move()
			synctest.Wait()
		}
		if before == 0 || said != before {
			t.Errorf("told %d times of revisions that changed nothing", said-before)
		}
		st.rev = 2 // built anew from an old backup
		st.move()
		synctest.Wait()
		if got := appliedBy(t, st, "dns-1"); got != 3 {
			t.Errorf("applied %d of a store that is at 3", got)
		}
	})
}

// moving is a store whose revision grows under a prefix that nobody writes to, as Consul's
// does while it is empty.
type moving struct {
	store.Store
	fn  func(store.Snapshot)
	rev uint64
}

func (s *moving) Watch(ctx context.Context, prefix string, fn func(store.Snapshot), up func(error)) error {
	s.fn = fn
	s.move()
	<-ctx.Done()
	return ctx.Err()
}

func (s *moving) move() {
	s.rev++
	s.fn(store.Snapshot{Rev: s.rev})
}

// The lease of a DNS node says what else it is given, as soon as that changes.
func TestLeaseCarriesMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.NewMemory()
		c := node(st, "dns-1")
		changes := make(chan struct{}, 1)
		var applied atomic.Value
		applied.Store("7")
		c.Carry(func() map[string]string { return map[string]string{"applied": applied.Load().(string)} }, func() (<-chan struct{}, func()) { return changes, func() {} })
		running(t, c.Run)
		for _, want := range []string{"7", "8"} {
			applied.Store(want)
			changes <- struct{}{}
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			st.WatchInstances(ctx, Service, func(list []store.Instance) {
				if len(list) != 1 || list[0].Meta["applied"] != want || list[0].Meta[appliedMeta] != "0" {
					t.Errorf("got %v, want applied %s", list, want)
				}
				cancel()
			}, func(error) {})
		}
	})
}

// A failure is told when it begins.
func TestToldOnce(t *testing.T) {
	var log logtest.Buffer
	c := node(store.NewMemory(), "dns-1")
	c.log = slog.New(slog.NewTextHandler(&log, nil))
	told := c.once("failing")
	for _, err := range []error{errGone, errGone, nil, errGone, errGone} {
		told(err)
	}
	if got := strings.Count(log.String(), "failing"); got != 2 {
		t.Errorf("told %d times of two failures", got)
	}
}

// reluctant is a store that takes no news of a lease, the first times.
type reluctant struct {
	store.Store
	left int
}

func (s *reluctant) Register(ctx context.Context, in store.Instance, ttl time.Duration) (store.Lease, error) {
	l, err := s.Store.Register(ctx, in, ttl)
	return reluctantLease{l, s}, err
}

type reluctantLease struct {
	store.Lease
	s *reluctant
}

func (l reluctantLease) Update(ctx context.Context, in store.Instance) error {
	if l.s.left > 0 {
		l.s.left--
		return errGone
	}
	return l.Lease.Update(ctx, in)
}

// Every DNS node whose lease holds must have applied it, and no other.
func TestWait(t *testing.T) {
	ch := forName("join.media.example", "one")
	for _, row := range []struct {
		name  string
		setup func(t *testing.T, st store.Store)
		took  time.Duration
		want  string // of the error; empty: none
	}{
		{"no node", func(*testing.T, store.Store) {}, time.Minute, "no DNS node is registered as bailiwick-dns: run bailiwick dns"},
		{"one", func(t *testing.T, st store.Store) { running(t, node(st, "dns-1").Run) }, 0, ""},
		{"three", func(t *testing.T, st store.Store) {
			for i := range 3 {
				running(t, node(st, fmt.Sprint("dns-", i)).Run)
			}
		}, 0, ""},
		{"one of two is deaf", func(t *testing.T, st store.Store) {
			running(t, node(st, "dns-1").Run)
			register(t, st, "dns-2", time.Hour)
		}, time.Minute, "not served by DNS node dns-2 after 1m0s"},
		{"one of two dies", func(t *testing.T, st store.Store) {
			running(t, node(st, "dns-1").Run)
			register(t, st, "dns-2", 10*time.Second)
		}, 10 * time.Second, ""},
		{"a node that comes later", func(t *testing.T, st store.Store) {
			timer := time.AfterFunc(20*time.Second, func() { running(t, node(st, "dns-1").Run) })
			t.Cleanup(func() { timer.Stop() })
		}, 20 * time.Second, ""},
		{"what is no revision", func(t *testing.T, st store.Store) {
			register(t, st, "dns-1", time.Hour, appliedMeta, "yes")
		}, time.Minute, "not served by DNS node dns-1"},
		{"a store that is away", func(*testing.T, store.Store) {}, time.Minute, "the store has not said"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var st store.Store = store.NewMemory()
				row.setup(t, st)
				synctest.Wait()
				s := newSolver(st)
				if err := s.Present(t.Context(), ch); err != nil {
					t.Fatal(err)
				}
				if row.name == "a store that is away" {
					s.store = deaf{st}
				}
				began := time.Now()
				err := s.Wait(t.Context(), ch)
				if got := fmt.Sprint(err); err != nil && (row.want == "" || !strings.Contains(got, row.want)) || err == nil && row.want != "" {
					t.Errorf("Wait: got %v, want %q", err, row.want)
				}
				if got := time.Since(began); got != row.took {
					t.Errorf("Wait took %s, want %s", got, row.took)
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if err := s.Wait(ctx, ch); !errors.Is(err, context.Canceled) {
					t.Errorf("Wait with an ended context: got %v", err)
				}
				if err := s.Wait(t.Context(), forName("b.example", "two")); err == nil || !strings.Contains(err.Error(), "before it was presented") {
					t.Errorf("Wait for what was never presented: got %v", err)
				}
			})
		})
	}
}

// deaf is a store whose watches hear nothing.
type deaf struct{ store.Store }

func (deaf) Watch(ctx context.Context, _ string, _ func(store.Snapshot), _ func(error)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (deaf) WatchInstances(ctx context.Context, _ string, _ func([]store.Instance), _ func(error)) error {
	<-ctx.Done()
	return ctx.Err()
}

func register(t *testing.T, st store.Store, name string, ttl time.Duration, meta ...string) {
	t.Helper()
	in := store.Instance{ID: name, Service: Service, Addr: netip.MustParseAddrPort("192.0.2.53:53"), Meta: map[string]string{}}
	for i := 1; i < len(meta); i += 2 {
		in.Meta[meta[i-1]] = meta[i]
	}
	l, err := st.Register(t.Context(), in, ttl)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.WithoutCancel(t.Context())) })
}

// A DNS node is seen from when it serves what there is until it leaves.
func TestNodeRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &registering{Store: store.NewMemory()}
		stop := running(t, node(st, "dns-1").Run)
		for _, token := range []string{"one", "two"} { // applied by the node that there is
			synctest.Wait()
			if err := newSolver(st).Present(t.Context(), forName("join.media.example", token)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour) // many leases later
		if st.times != 1 {
			t.Errorf("registered %d times", st.times)
		}
		if got := instances(t, st); got != "dns-1 passing" {
			t.Errorf("while it runs: got %q", got)
		}
		stop()
		if got := instances(t, st); got != "" {
			t.Errorf("after it left: got %q, want none", got)
		}
	})
}

// registering counts the leases that it gives.
type registering struct {
	store.Store
	times int
}

func (s *registering) Register(ctx context.Context, in store.Instance, ttl time.Duration) (store.Lease, error) {
	s.times++
	return s.Store.Register(ctx, in, ttl)
}

func instances(t *testing.T, st store.Store) (words string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	st.WatchInstances(ctx, Service, func(list []store.Instance) {
		for _, in := range list {
			words += in.ID + " " + string(in.Status)
		}
		cancel()
	}, func(error) {})
	return words
}

func TestParseChallenge(t *testing.T) {
	const (
		value = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
		now   = `{"presented":"2026-11-24T00:00:00Z"}`
	)
	for _, row := range []struct{ name, key, value, want string }{
		{"good", "_acme-challenge.join.media.example/" + value, now, ""},
		{"another label", "_why.join.media.example/" + value, now, "want _acme-challenge."},
		{"no host", "_acme-challenge/" + value, now, "want _acme-challenge."},
		{"upper case", "_acme-challenge.JOIN.media.example/" + value, now, "want _acme-challenge."},
		{"a short value", "_acme-challenge.join.media.example/abc", now, "43 characters"},
		{"a value with a space", "_acme-challenge.join.media.example/" + strings.Repeat("a ", 22)[:43], now, "43 characters"},
		{"a value with a slash", "_acme-challenge.join.media.example/" + strings.Repeat("a/", 22)[:43], now, "43 characters"},
		{"no time", "_acme-challenge.join.media.example/" + value, "", "no JSON here"},
		{"a long name", "_acme-challenge." + strings.Repeat("a.", 119) + "example/" + value, now, "want _acme-challenge."},
		{"much beside it", "_acme-challenge.join.media.example/" + value, strings.Repeat(" ", 2000) + now, "bytes beside it"},
	} {
		c, err := parseChallenge(challengesPrefix+row.key, []byte(row.value))
		if got := fmt.Sprint(err); err == nil && row.want != "" || err != nil && (row.want == "" || !strings.Contains(got, row.want)) {
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
		if err == nil && (c.name != apex || c.value != value || c.at.Year() != 2026) {
			t.Errorf("%s: got %+v", row.name, c)
		}
	}
}
