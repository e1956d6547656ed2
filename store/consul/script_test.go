package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"bailiwick/store"
)

// scripted is an agent that speaks Consul's protocol from memory, for what a real
// one does rarely or late.
type scripted func(*http.Request) (*http.Response, error)

func (f scripted) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (f scripted) store(t *testing.T) *Store {
	t.Helper()
	s, err := New("agent.invalid:8500", "")
	if err != nil {
		t.Fatal(err)
	}
	s.client, err = api.NewClient(&api.Config{Address: s.addr, HttpClient: &http.Client{Transport: f}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is a key-value answer; each pair is key=value@index.
func answer(index uint64, leader bool, pairs ...string) *http.Response {
	list := api.KVPairs{}
	for _, p := range pairs {
		key, rest, _ := strings.Cut(p, "=")
		value, rev, _ := strings.Cut(rest, "@")
		n, _ := strconv.ParseUint(rev, 10, 64)
		list = append(list, &api.KVPair{Key: key, Value: []byte(value), ModifyIndex: n})
	}
	return respond(http.StatusOK, index, leader, list)
}

func respond(status int, index uint64, leader bool, body any) *http.Response {
	b, _ := json.Marshal(body)
	h := http.Header{}
	h.Set("X-Consul-Index", fmt.Sprint(index))
	h.Set("X-Consul-LastContact", "0")
	h.Set("X-Consul-KnownLeader", strconv.FormatBool(leader))
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(string(b)))}
}

// mode is how a query was asked: "consistent", or "stale" with the index blocked on.
func mode(r *http.Request) string {
	q := r.URL.Query()
	if q.Has("consistent") {
		return "consistent" + q.Get("index")
	}
	if q.Has("stale") {
		return "stale " + q.Get("index")
	}
	return "default"
}

func TestWatchLoop(t *testing.T) {
	type step struct {
		want   string // the query
		answer *http.Response
	}
	for _, c := range []struct {
		name  string
		steps []step
		want  string // what fn and up were told; "!" is a failure, "." a contact
	}{
		{"the first answer is a leader's, later ones may be stale",
			[]step{{"consistent", answer(10, true, "a=1@10")}, {"stale 10", answer(11, true, "a=2@11")}, {"stale 11", nil}},
			"[a=1] . [a=2] ."},
		{"an index that moves with nothing changed: a key came and went",
			[]step{{"consistent", answer(10, true, "a=1@10")}, {"stale 10", answer(12, true, "a=1@10")}, {"stale 12", nil}},
			"[a=1] . [a=1] ."},
		{"an index that goes back with nothing changed: a tombstone was reaped",
			[]step{{"consistent", answer(10, true, "a=1@4")}, {"stale 10", answer(4, true, "a=1@4")}, {"consistent", answer(4, true, "a=1@4")},
				{"stale 4", answer(12, true, "a=1@4")}, {"stale 12", nil}},
			"[a=1] . . [a=1] ."},
		{"the same value written again",
			[]step{{"consistent", answer(10, true, "a=1@10")}, {"stale 10", answer(12, true, "a=1@12")}, {"stale 12", nil}},
			"[a=1] . [a=1] ."},
		{"a server that lags",
			[]step{{"consistent", answer(10, true, "a=1@10")}, {"stale 10", answer(4, true)}, {"consistent", answer(10, true, "a=1@10")}, {"stale 10", nil}},
			"[a=1] . ."},
		{"a server that lags, without a leader",
			[]step{{"consistent", answer(10, true, "a=1@10")}, {"stale 10", answer(4, false)}, {"consistent", respond(500, 0, false, "no leader")},
				{"consistent", answer(10, true, "a=1@10")}, {"stale 10", nil}},
			"[a=1] . ! ."},
		{"a store that was restored",
			[]step{{"consistent", answer(10, true, "a=2@10")}, {"stale 10", answer(4, true, "a=1@4")}, {"consistent", answer(4, true, "a=1@4")}, {"stale 4", nil}},
			"[a=2] . [a=1] ."},
		{"an error, then a lagging server",
			[]step{{"consistent", answer(10, true, "a=1@10")}, {"stale 10", respond(500, 0, true, "oops")}, {"stale ", answer(4, true)},
				{"consistent", answer(10, true, "a=1@10")}, {"stale 10", nil}},
			"[a=1] . ! ."},
		{"an answer without an index",
			[]step{{"consistent", answer(0, true)}, {"consistent", answer(10, true)}, {"stale 10", nil}},
			"! [] ."},
		{"an unknown leader", // the newest word there is, but an old one
			[]step{{"consistent", answer(10, true, "a=1@10")}, {"stale 10", answer(11, false, "a=2@11")}, {"stale 11", answer(11, true, "a=2@11")}, {"stale 11", nil}},
			"[a=1] . [a=2] ! ."},
		{"nothing there", // Consul answers 404
			[]step{{"consistent", respond(404, 7, true, nil)}, {"stale 7", answer(8, true, "a=1@8")}, {"stale 8", respond(404, 9, true, nil)}, {"stale 9", nil}},
			"[] . [a=1] . [] ."},
		{"a folder made in the UI",
			[]step{{"consistent", answer(10, true, "a=1@10", "b/=@9")}, {"stale 10", nil}},
			"[a=1] ."},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				n := 0
				s := scripted(func(r *http.Request) (*http.Response, error) {
					step := c.steps[n]
					if got := mode(r); got != step.want {
						t.Errorf("query %d: got %q, want %q", n+1, got, step.want)
					}
					if n++; step.answer == nil {
						cancel()
						return nil, ctx.Err()
					}
					return step.answer, nil
				}).store(t)
				var told []string
				err := s.Watch(ctx, "",
					func(snap store.Snapshot) {
						words := make([]string, len(snap.Entries))
						for i, e := range snap.Entries {
							words[i] = e.Key + "=" + string(e.Value)
							e.Value[0] = 'x' // ours to spoil
						}
						told = append(told, fmt.Sprint(words))
					},
					func(err error) { told = append(told, map[bool]string{true: "!", false: "."}[err != nil]) })
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Watch: got %v, want %v", err, context.Canceled)
				}
				if got := strings.Join(told, " "); got != c.want {
					t.Errorf("told: got %s, want %s", got, c.want)
				}
			})
		})
	}
}

// A hung agent is noticed after wait, jitter and grace; failures come apart by
// random pauses that grow.
func TestWatchTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var asked []time.Time
		s := scripted(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, time.Now())
			if len(asked) == 1 {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			if len(asked) == 40 {
				cancel()
			}
			return nil, errors.New("connection refused")
		}).store(t)
		began := time.Now()
		var hung time.Duration
		s.Watch(ctx, "a/", func(store.Snapshot) { t.Error("a snapshot out of nothing") }, func(err error) {
			if err == nil {
				t.Error("up(nil) without a contact")
			}
			if hung == 0 {
				hung = time.Since(began)
			}
		})
		if want := 30*time.Second + 30*time.Second/16 + 5*time.Second; hung != want {
			t.Errorf("a hung agent was reported after %s, want %s", hung, want)
		}
		longest := time.Duration(0)
		for i := 2; i < len(asked); i++ {
			pause := asked[i].Sub(asked[i-1])
			longest = max(longest, pause)
			if bound := min(10*time.Second, 200*time.Millisecond<<min(i, 10)); pause < 200*time.Millisecond || pause > bound {
				t.Errorf("pause after failure %d: got %s, want 200ms to %s", i, pause, bound)
			}
		}
		if longest < 2*time.Second {
			t.Errorf("longest of %d pauses: %s, want them growing to 10s", len(asked)-2, longest)
		}
	})
}

// Under an empty prefix any write elsewhere answers the query: such a watch passes the
// moves on, and lets its agent breathe.
func TestWatchWokenForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var asked, told int
		var rev uint64
		s := scripted(func(r *http.Request) (*http.Response, error) {
			asked++
			return answer(uint64(asked), true), nil
		}).store(t)
		began := time.Now()
		var quick time.Duration // until the fifth
		s.Watch(ctx, "a/", func(snap store.Snapshot) {
			if told++; told == 5 {
				quick = time.Since(began)
			}
			if snap.Rev <= rev {
				t.Errorf("revision %d after %d, want it growing", snap.Rev, rev)
			}
			rev = snap.Rev
		}, func(error) {})
		if asked > 130 || told != asked {
			t.Errorf("%d queries in a minute, %d told, want at most 130, all told", asked, told)
		}
		if quick > 500*time.Millisecond {
			t.Errorf("the fifth was told after %s: want the pauses to grow from small ones", quick)
		}
	})
}

// Six watches block; the seventh asks each second until one of them ends.
func TestWatchesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked := map[string]int{} // queries by "prefix" or "prefix blocking"
		s := scripted(func(r *http.Request) (*http.Response, error) {
			what := strings.TrimPrefix(r.URL.Path, "/v1/kv/")
			blocks := r.URL.Query().Has("index")
			if blocks {
				what += " blocking"
			}
			mu.Lock()
			asked[what]++
			mu.Unlock()
			if blocks {
				select {
				case <-r.Context().Done():
					return nil, r.Context().Err()
				case <-time.After(30 * time.Second):
				}
			}
			return answer(10, true), nil
		}).store(t)
		var wg sync.WaitGroup
		watch := func(prefix string) context.CancelFunc {
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() { s.Watch(ctx, prefix, func(store.Snapshot) {}, func(error) {}) })
			synctest.Wait()
			return cancel
		}
		count := func(what string) int {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			n := asked[what]
			delete(asked, what)
			return n
		}
		var ends []context.CancelFunc
		for i := range 7 {
			ends = append(ends, watch(fmt.Sprint(i)))
		}
		for i := range 6 {
			if free, blocking := count(fmt.Sprint(i)), count(fmt.Sprint(i, " blocking")); free != 1 || blocking != 1 {
				t.Errorf("watch %d: %d free and %d blocking queries, want one of each", i, free, blocking)
			}
		}
		time.Sleep(10*time.Second + 1)
		if free, blocking := count("6"), count("6 blocking"); free != 11 || blocking != 0 {
			t.Errorf("the seventh watch: %d free and %d blocking queries in 10 s, want 11 and none", free, blocking)
		}
		ends[2]()
		time.Sleep(10 * time.Second)
		if free, blocking := count("6"), count("6 blocking"); free != 0 || blocking != 1 {
			t.Errorf("the seventh watch when there is room: %d free and %d blocking queries, want one blocking", free, blocking)
		}
		for _, end := range ends {
			end()
		}
		wg.Wait()
	})
}

// What a write learns from reading back what it wrote.
// What the write of a large value learns from reading back what it wrote.
func TestWriteReadBack(t *testing.T) {
	const theirs = 5
	value := strings.Repeat("1", store.MaxCommit+1)
	for _, c := range []struct {
		name    string
		put     bool // Consul's answer to the PUT
		ours    bool // whether the key read back is the one written
		present bool
		index   uint64 // of the key, or of the store when it is absent
		rev     uint64 // of the entry returned; 0 for a conflict
	}{
		{"written", true, true, true, 20, 20},
		{"written and overwritten", true, false, true, 20, 19},
		{"written and deleted", true, false, false, 20, 20},
		{"refused", false, false, true, 20, 0},
		{"refused and deleted", false, false, false, 20, 0},
		{"written, then refused to the cluster's own retry", false, true, true, 20, 20},
	} {
		var flags uint64
		s := scripted(func(r *http.Request) (*http.Response, error) {
			switch {
			case r.Method == http.MethodPut:
				flags, _ = strconv.ParseUint(r.URL.Query().Get("flags"), 10, 64)
				return respond(http.StatusOK, 0, true, c.put), nil
			case mode(r) != "consistent":
				t.Errorf("%s: read back in mode %q, want consistent", c.name, mode(r))
			case !c.present:
				return respond(http.StatusNotFound, c.index, true, nil), nil
			case !c.ours:
				flags = theirs
			}
			return respond(http.StatusOK, c.index, true, api.KVPairs{{Key: "a", Value: []byte(value), ModifyIndex: c.index, Flags: flags}}), nil
		}).store(t)
		e, err := s.CAS(t.Context(), "a", []byte(value), 3)
		if c.rev == 0 {
			if !errors.Is(err, store.ErrConflict) {
				t.Errorf("%s: got revision %d, %v, want %v", c.name, e.Rev, err, store.ErrConflict)
			}
			continue
		}
		if err != nil || e.Rev != c.rev || string(e.Value) != value {
			t.Errorf("%s: got revision %d, %v, want %d", c.name, e.Rev, err, c.rev)
		}
	}
}

// A small value is written by one request; only one that was refused is read.
func TestWriteByTransaction(t *testing.T) {
	const stale, denied = `failed to set key "a", index is stale`, "Permission denied"
	for _, c := range []struct {
		name    string
		rev     uint64 // of the CAS
		refused string // by the transaction; empty: made at 20
		present uint64 // the key's revision when it is read; 0: absent
		ours    bool   // and by whom it was written
		want    string
	}{
		{"written", 3, "", 0, false, "20"},
		{"created", 0, "", 0, false, "20"},
		{"refused", 3, stale, 21, false, "conflict"},
		{"refused and deleted", 3, stale, 0, false, "conflict"},
		{"creation refused", 0, stale, 21, false, "conflict"},
		{"creation refused, and then deleted", 0, stale, 0, false, "conflict"},
		{"refused to the cluster's own retry", 3, stale, 20, true, "20"},
		{"forbidden", 3, denied, 3, false, denied},
		{"creation forbidden", 0, denied, 0, false, denied},
	} {
		var flags uint64
		requests := 0
		s := scripted(func(r *http.Request) (*http.Response, error) {
			requests++
			if r.URL.Path == "/v1/txn" {
				var ops []struct{ KV api.KVTxnOp }
				if err := json.NewDecoder(r.Body).Decode(&ops); err != nil || len(ops) != 1 || ops[0].KV.Verb != api.KVCAS || ops[0].KV.Index != c.rev || string(ops[0].KV.Value) != "1" {
					t.Errorf("%s: asked %+v, %v", c.name, ops, err)
				}
				flags = ops[0].KV.Flags
				if c.refused != "" {
					return respond(http.StatusConflict, 0, true, api.TxnResponse{Errors: api.TxnErrors{{What: c.refused}}}), nil
				}
				return respond(http.StatusOK, 0, true, api.TxnResponse{Results: api.TxnResults{{KV: &api.KVPair{Key: "a", ModifyIndex: 20}}}}), nil
			}
			if mode(r) != "consistent" {
				t.Errorf("%s: read in mode %q, want consistent", c.name, mode(r))
			}
			if c.present == 0 {
				return respond(http.StatusNotFound, 22, true, nil), nil
			}
			if !c.ours {
				flags++
			}
			return respond(http.StatusOK, c.present, true, api.KVPairs{{Key: "a", Value: []byte("1"), ModifyIndex: c.present, Flags: flags}}), nil
		}).store(t)
		e, err := s.CAS(t.Context(), "a", []byte("1"), c.rev)
		got := fmt.Sprint(e.Rev)
		switch {
		case errors.Is(err, store.ErrConflict):
			got = "conflict"
		case err != nil && strings.Contains(err.Error(), c.refused):
			got = c.refused
		case err != nil:
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		if wanted := map[bool]int{true: 1, false: 2}[c.refused == ""]; requests != wanted {
			t.Errorf("%s: %d requests, want %d", c.name, requests, wanted)
		}
	}
}

// The one status and the one instance of an ID that several agents may report.
func TestInstances(t *testing.T) {
	entry := func(id, addr string, index uint64, statuses ...string) *api.ServiceEntry {
		e := &api.ServiceEntry{Node: &api.Node{Address: "192.0.2.99"}, Service: &api.AgentService{ID: id, Address: addr, Port: 80, ModifyIndex: index}}
		for _, s := range statuses {
			e.Checks = append(e.Checks, &api.HealthCheck{CheckID: s, Status: s})
		}
		return e
	}
	maintained := func(check string, e *api.ServiceEntry) *api.ServiceEntry {
		e.Checks = append(e.Checks, &api.HealthCheck{CheckID: check, Status: api.HealthCritical})
		return e
	}
	for _, c := range []struct {
		name string
		list []*api.ServiceEntry
		want string
	}{
		{"none", nil, "[]"},
		{"passing", []*api.ServiceEntry{entry("a", "192.0.2.1", 1, api.HealthPassing, api.HealthPassing)}, "[a 192.0.2.1:80 passing]"},
		{"a warning passes", []*api.ServiceEntry{entry("a", "192.0.2.1", 1, api.HealthPassing, api.HealthWarning)}, "[a 192.0.2.1:80 passing]"},
		{"one check of two critical", []*api.ServiceEntry{entry("a", "192.0.2.1", 1, api.HealthPassing, api.HealthCritical)}, "[a 192.0.2.1:80 critical]"},
		{"maintenance of the node", []*api.ServiceEntry{maintained(api.NodeMaint, entry("a", "192.0.2.1", 1, api.HealthPassing))}, "[a 192.0.2.1:80 maintenance]"},
		{"maintenance of the service", []*api.ServiceEntry{maintained(api.ServiceMaintPrefix+"a", entry("a", "192.0.2.1", 1, api.HealthPassing))}, "[a 192.0.2.1:80 maintenance]"},
		{"maintenance of one that fails", []*api.ServiceEntry{maintained(api.NodeMaint, entry("a", "192.0.2.1", 1, api.HealthCritical))}, "[a 192.0.2.1:80 maintenance]"},
		{"moved from a node in maintenance", []*api.ServiceEntry{maintained(api.NodeMaint, entry("a", "192.0.2.1", 9, api.HealthPassing)), entry("a", "192.0.2.2", 5, api.HealthPassing)}, "[a 192.0.2.2:80 passing]"},
		{"a status of the future", []*api.ServiceEntry{entry("a", "192.0.2.1", 1, "splendid")}, "[a 192.0.2.1:80 critical]"},
		{"the node's address", []*api.ServiceEntry{entry("a", "", 1, api.HealthPassing)}, "[a 192.0.2.99:80 passing]"},
		{"a host name", []*api.ServiceEntry{entry("a", "edge.example", 1, api.HealthPassing)}, "[a invalid AddrPort passing]"},
		{"moved: the passing one", []*api.ServiceEntry{entry("a", "192.0.2.1", 9, api.HealthCritical), entry("a", "192.0.2.2", 5, api.HealthPassing)}, "[a 192.0.2.2:80 passing]"},
		{"moved: the newer one", []*api.ServiceEntry{entry("a", "192.0.2.1", 5, api.HealthPassing), entry("a", "192.0.2.2", 9, api.HealthPassing)}, "[a 192.0.2.2:80 passing]"},
		{"ordered", []*api.ServiceEntry{entry("b", "192.0.2.2", 1, api.HealthPassing), entry("a", "192.0.2.1", 2, api.HealthPassing)}, "[a 192.0.2.1:80 passing b 192.0.2.2:80 passing]"},
	} {
		var words []string
		for _, in := range instances(c.list) {
			words = append(words, fmt.Sprint(in.ID, " ", in.Addr, " ", in.Status))
		}
		if got := fmt.Sprint(words); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}
