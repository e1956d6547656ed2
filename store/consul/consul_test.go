package consul

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"bailiwick/store"
	"bailiwick/store/consultest"
	"bailiwick/store/storetest"
	"bailiwick/tools/nettest"
)

const patience = 2 * time.Minute

// connect opens a store whose watches notice a hung agent sooner than in
// production.
func connect(t *testing.T, s *consultest.Server, token string) *Store {
	t.Helper()
	c, err := New(s.Addr(), token)
	if err != nil {
		t.Fatal(err)
	}
	c.wait, c.grace = time.Second, time.Second
	return c
}

func TestConformance(t *testing.T) {
	server := consultest.Start(t)
	s, err := New(server.Addr(), "")
	if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(*testing.T) store.Store { return s })
}

// apart writes and registers through one server and watches through another.
type apart struct {
	*Store
	far *Store
}

func (a apart) Watch(ctx context.Context, prefix string, fn func(store.Snapshot), up func(error)) error {
	return a.far.Watch(ctx, prefix, fn, up)
}

func (a apart) WatchInstances(ctx context.Context, service string, fn func([]store.Instance), up func(error)) error {
	return a.far.WatchInstances(ctx, service, fn, up)
}

func TestConformanceAcrossServers(t *testing.T) {
	servers := consultest.StartCluster(t, 3, `performance { raft_multiplier = 5 }`)
	leader := consultest.Leader(t, servers)
	var follower *consultest.Server
	for _, s := range servers {
		if s != leader {
			follower = s
		}
	}
	s := apart{connect(t, leader, ""), connect(t, follower, "")}
	storetest.Run(t, func(*testing.T) store.Store { return s })
}

const key = "bailiwick/regions/de-fra"

func TestWatchOutlivesKilledServer(t *testing.T) {
	server := consultest.Start(t)
	s := connect(t, server, "")
	put(t, s, key, "serving")
	w := follow(t, s, "bailiwick/regions/")
	w.value(key, "serving")
	w.says(false)
	for _, mode := range []string{"draining", "down", "serving"} {
		server.Kill()
		w.says(true)
		server.Restart()
		w.says(false)
		put(t, s, key, mode)
		w.value(key, mode)
	}
	w.neverEmpty(key)
}

// The restarted server answers before it has read its log; a watch that begins
// then must not take that for an empty store.
func TestWatchBegunDuringRestart(t *testing.T) {
	server := consultest.Start(t)
	s := connect(t, server, "")
	put(t, s, key, "down")
	server.Kill()
	var watches []*watching
	for range 3 {
		watches = append(watches, follow(t, s, "bailiwick/regions/"))
	}
	server.Restart()
	for _, w := range watches {
		w.value(key, "down")
		w.neverEmpty(key)
	}
}

func TestWatchOutlivesPausedServer(t *testing.T) {
	server := consultest.Start(t)
	s := connect(t, server, "")
	put(t, s, key, "serving")
	w := follow(t, s, "bailiwick/regions/")
	w.value(key, "serving")
	server.Pause()
	w.says(true)

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Get(ctx, key); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get from a paused server: got %v, want %v", err, context.DeadlineExceeded)
	}

	server.Resume()
	w.says(false)
	put(t, s, key, "down")
	w.value(key, "down")
	w.neverEmpty(key)
}

func TestLeaseOutlivesForgetfulAgent(t *testing.T) {
	server := consultest.Start(t)
	s := connect(t, server, "")
	in := store.Instance{ID: "de-fra-1", Service: "bailiwick-edge", Addr: netip.MustParseAddrPort("192.0.2.1:8080")}
	l, err := s.Register(t.Context(), in, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	// What an agent does that lost its data: it no longer knows the check.
	if err := s.client.Agent().ServiceDeregister(in.ID); err != nil {
		t.Fatal(err)
	}
	if err := l.Renew(t.Context()); err != nil {
		t.Fatalf("Renew of a forgotten lease: %v", err)
	}
	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := l.Renew(ctx); err == nil {
		t.Error("Renew with the agent gone: got no error")
	}
	server.Restart()
	server.Ready()
	if err := l.Renew(t.Context()); err != nil {
		t.Errorf("Renew after a restart: %v", err)
	}
	passing := make(chan struct{})
	watchCtx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	err = s.WatchInstances(watchCtx, in.Service, func(list []store.Instance) {
		if len(list) == 1 && list[0].Status == store.Passing {
			close(passing)
			stop()
		}
	}, func(error) {})
	select {
	case <-passing:
	default:
		t.Errorf("the instance is not back: %v", err)
	}
}

func TestLeaderLoss(t *testing.T) {
	servers := consultest.StartCluster(t, 3)
	leader := consultest.Leader(t, servers)
	var others []*consultest.Server
	for _, s := range servers {
		if s != leader {
			others = append(others, s)
		}
	}
	writer, watcher := connect(t, others[0], ""), connect(t, others[1], "")
	put(t, writer, key, "serving")
	w := follow(t, watcher, "bailiwick/regions/")
	w.value(key, "serving")
	leader.Kill()
	put(t, writer, key, "down") // as soon as there is a new leader
	w.value(key, "down")
	w.says(false)
	leader.Restart()
	leader.Ready()
	put(t, connect(t, leader, ""), key, "serving")
	w.value(key, "serving")
	w.neverEmpty(key)
}

func TestQuorumLoss(t *testing.T) {
	servers := consultest.StartCluster(t, 3)
	left := servers[0]
	s := connect(t, left, "")
	put(t, s, key, "down")
	w := follow(t, s, "bailiwick/regions/")
	w.value(key, "down")
	// A follower learns that a write is committed with the leader's next message;
	// one cut off before that is behind for good. The second contact is its own.
	w.until("an answer of the follower itself", func() bool { return len(w.ups) >= 2 })
	w.says(false)
	servers[1].Kill()
	servers[2].Kill()
	w.says(true) // nobody leads: the word is getting old
	w.mu.Lock()
	if last := w.ups[len(w.ups)-1]; !errors.Is(last, errNoLeader) {
		t.Errorf("up without a quorum: got %v, want %v: stale answers go on", last, errNoLeader)
	}
	e := w.snaps[len(w.snaps)-1].Entries[0]
	w.mu.Unlock()

	for name, call := range map[string]func(context.Context) error{
		"CAS":    func(ctx context.Context) error { _, err := s.CAS(ctx, key, []byte("serving"), e.Rev); return err },
		"Get":    func(ctx context.Context) error { _, err := s.Get(ctx, "bailiwick/none"); return err },
		"List":   func(ctx context.Context) error { _, err := s.List(ctx, "bailiwick/none/"); return err },
		"Delete": func(ctx context.Context) error { _, err := s.Delete(ctx, "bailiwick/none", 0); return err }, // what is asked may still be done
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		began := time.Now()
		err := call(ctx)
		cancel()
		if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
			t.Errorf("%s without a quorum: got %v, want an error of the store", name, err)
		}
		if took := time.Since(began); took > patience {
			t.Errorf("%s without a quorum took %s, its deadline was 300ms", name, took)
		}
	}
	servers[1].Restart()
	servers[2].Restart()
	w.says(false)
	put(t, s, key, "serving")
	w.value(key, "serving")
	w.neverEmpty(key)
}

func TestWriteReachesWatcherFast(t *testing.T) {
	s := connect(t, consultest.Start(t), "")
	put(t, s, key, "0")
	w := follow(t, s, "bailiwick/regions/")
	w.value(key, "0")
	var best time.Duration = time.Hour
	for _, v := range []string{"1", "2", "3", "4", "5"} {
		began := time.Now()
		put(t, s, key, v)
		w.value(key, v)
		best = min(best, time.Since(began))
	}
	t.Logf("a Put, with its read back, and its arrival at a watcher: %s at best", best)
	if best > 250*time.Millisecond {
		t.Errorf("a write took %s at best to be made and to reach a watcher, want at most 250ms", best)
	}
}

// Something else that answers on the address is no empty store either.
func TestNotConsul(t *testing.T) {
	proxy := httptest.NewServer(http.NotFoundHandler())
	defer proxy.Close()
	s, err := New(proxy.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), key); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get: got %v, want an error that is not %v", err, store.ErrNotFound)
	}
	if got, err := s.List(t.Context(), ""); err == nil {
		t.Errorf("List: got %+v, want an error", got)
	}
}

// Of several agents the first that can be reached is asked, and when it goes the next.
func TestSeveralAgents(t *testing.T) {
	server := consultest.Start(t)
	between := count(t, "tcp", "127.0.0.1:0", server.Addr())
	s, err := New(nettest.Closed(t).String(), "", between.addr, server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	s.wait, s.grace = time.Second, time.Second
	put(t, s, key, "serving")
	w := follow(t, s, "bailiwick/regions/")
	w.value(key, "serving")
	if _, all := between.counts(); all == 0 {
		t.Error("the first agent that can be reached was not asked")
	}
	between.close()
	put(t, s, key, "down")
	w.value(key, "down")
	w.neverEmpty(key)
}

// A refused connection ends in an error, not in an empty answer or a hang.
func TestUnreachable(t *testing.T) {
	nobody := nettest.Closed(t).String()
	s, err := New(nobody, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(t.Context(), ""); err == nil || !strings.Contains(err.Error(), nobody) {
		t.Errorf("List: got error %v, want one that names the address", err)
	}
	if _, err := New("", ""); err == nil {
		t.Error("New without an address: got no error")
	}
}

// The mark of a write is found as it was given, by a transaction too, whose numbers are JSON.
func TestTransactionKeepsTheMark(t *testing.T) {
	s, err := New(consultest.Start(t).Addr(), "")
	if err != nil {
		t.Fatal(err)
	}
	const mark = 1<<64 - 1
	rev, _, refused, err := s.transact(t.Context(), &api.KVTxnOp{Verb: api.KVSet, Key: "a", Value: []byte("1"), Flags: mark})
	if err != nil || refused != nil {
		t.Fatal(err, refused)
	}
	if pair, _, err := s.get(t.Context(), "a"); err != nil || pair == nil || pair.Flags != mark || pair.ModifyIndex != rev {
		t.Errorf("got %+v, %v, want flags %d at revision %d", pair, err, uint64(mark), rev)
	}
}
