package consul

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"bailiwick/store"
	"bailiwick/store/consultest"
)

// quick makes sessions end within seconds.
const quick = `session_ttl_min = "1s"  performance { raft_multiplier = 1 }`

func locker(t *testing.T, s *consultest.Server) *Store {
	t.Helper()
	st := connect(t, s, "")
	st.hold = 2 * time.Second
	return st
}

func lost(t *testing.T, l store.Lock) {
	t.Helper()
	select {
	case <-l.Lost():
	case <-time.After(patience):
		t.Fatalf("a lock is not lost after %s", patience)
	}
}

// holder reports whose session holds the lock.
func holder(t *testing.T, s *Store, key string) string {
	t.Helper()
	pair, _, err := s.client.KV().Get(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if pair == nil {
		return ""
	}
	return pair.Session
}

// An operator ends a session: its holder hears of it, and the next one has the lock.
func TestLockIsLostWithItsSession(t *testing.T) {
	s := locker(t, consultest.Start(t, quick))
	const key = "bailiwick/locks/a"
	l, err := s.Lock(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Session().Destroy(holder(t, s, key), nil); err != nil {
		t.Fatal(err)
	}
	lost(t, l)
	began := time.Now()
	next, err := s.Lock(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > lockDelay+patience {
		t.Errorf("the next holder had it after %s", took)
	}
	held := holder(t, s, key)
	if err := l.Unlock(t.Context()); err != nil {
		t.Errorf("Unlock of a lost lock: %v", err)
	}
	if got := holder(t, s, key); got != held || held == "" {
		t.Errorf("holder after the Unlock of one who lost it: got %q, want %q", got, held)
	}
	if err := next.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

// A holder that dies says nothing: its session ends, and with it the lock.
func TestLockOfADeadHolder(t *testing.T) {
	s := locker(t, consultest.Start(t, quick))
	const key = "bailiwick/locks/a"
	l, err := s.Lock(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	l.(*lock).cancel() // what the end of its process does to its renewals
	next, err := s.Lock(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-next.Lost():
		t.Error("the next holder's lock is lost")
	default:
	}
	if err := next.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

// A held lock outlives its TTLs; an agent that hangs loses it, which its holder knows
// without being told.
func TestLockOnAPausedServer(t *testing.T) {
	server := consultest.Start(t, quick)
	s := locker(t, server)
	const key = "bailiwick/locks/a"
	l, err := s.Lock(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	bounded, cancel := context.WithTimeout(t.Context(), 3*s.hold)
	defer cancel()
	if _, err := s.Lock(bounded, key); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock of one held for three TTLs: got %v, want %v", err, context.DeadlineExceeded)
	}
	server.Pause()
	lost(t, l)
	waiting, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(waiting, key); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock on a paused server: got %v, want %v", err, context.DeadlineExceeded)
	}
	if err := l.Unlock(waiting); err == nil {
		t.Error("Unlock on a paused server: got no error")
	}
	server.Resume()
	next, err := s.Lock(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
	if got := holder(t, s, key); got != "" {
		t.Errorf("holder at the end: got %q, want none", got)
	}
}

// A token needs both rights; without one the error says what Consul said.
func TestLockACL(t *testing.T) {
	server, management := consultest.StartACL(t)
	all := connect(t, server, management)
	for _, c := range []struct {
		name, rules string
		ok          bool
	}{
		{"sessions and key", `session_prefix "" { policy = "write" }  key_prefix "bailiwick/locks/" { policy = "write" }`, true},
		{"key alone", `key_prefix "bailiwick/locks/" { policy = "write" }`, false},
		{"sessions alone", `session_prefix "" { policy = "write" }`, false},
	} {
		s := connect(t, server, tokenNamed(t, all, c.name, c.rules))
		l, err := s.Lock(t.Context(), "bailiwick/locks/a")
		if (err == nil) != c.ok {
			t.Errorf("%s: got %v, want success: %v", c.name, err, c.ok)
		}
		if err == nil {
			if err := l.Unlock(t.Context()); err != nil {
				t.Errorf("%s: Unlock: %v", c.name, err)
			}
		}
	}
	if list, _, err := all.client.Session().List(&api.QueryOptions{}); err != nil || len(list) != 0 {
		t.Errorf("sessions left: got %d, %v, want none", len(list), err)
	}
}

func tokenNamed(t *testing.T, s *Store, name, rules string) string {
	t.Helper()
	p, _, err := s.client.ACL().PolicyCreate(&api.ACLPolicy{Name: "lock-" + string([]rune(name)[:3]) + name[len(name)-3:], Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, _, err := s.client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{ID: p.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made.SecretID
}
