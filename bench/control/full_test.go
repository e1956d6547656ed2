package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/store/consultest"
)

const (
	full       = 1600 // rooms
	mostConns  = 8
	mostIdle   = 5.0 // requests a second
	idleFor    = time.Minute
	compareFor = 40 * time.Second // with fewer rooms
	nextWithin = time.Second
	toldWithin = 10 * time.Second
	postRate   = 50 // a second
	postFor    = 20 * time.Second
)

// fullEdge: one edge with a counting proxy before its agent, a second one to move to, and a
// DNS node, on one Consul server.
func fullEdge(t *testing.T) {
	offDisk(t)
	consul := consultest.Start(t)
	agent := newProxy(t, consul.Addr())
	m := newMachines(t)
	m.dns(consul.Addr())
	m.edge("de-fra-1", agent.addr)
	m.edge("de-ber-1", consul.Addr())
	m.known(2)
	say("full edge: two edges and a DNS node run")

	idle(t, agent, 0, compareFor)
	w := watchLease(t, m.pid("de-fra-1"), agent.addr, consul.Addr())
	r := newRooms(t)
	began := time.Now()
	posts, failed := r.make(m, "de-fra-1", full/2)
	halfTook := time.Since(began)
	say("full edge: %d rooms after %s", full/2, halfTook.Round(time.Second))
	settle(t, agent)
	half := idle(t, agent, full/2, compareFor)
	began = time.Now()
	more, failedToo := r.make(m, "de-fra-1", full)
	posts, failed = append(posts, more...), append(failed, failedToo...)
	took := halfTook + time.Since(began)
	say("full edge: %d rooms after %s", full, took.Round(time.Second))
	settle(t, agent)
	all := idle(t, agent, full, idleFor)
	seated, lost := r.seats()
	conns, critical, polls, pollsFailed := w.end()
	_, most, fault := agent.seen()
	if fault != nil {
		t.Fatal(fault)
	}
	results.set(rowFull, seated == full && len(failed) == 0 && len(lost) == 0 && conns <= mostConns && critical == 0 && pollsFailed == 0,
		"%d seated, %d not made, %d lost; %d connections at most; critical at %d of %d looks", seated, len(failed), len(lost), conns, critical, polls)
	results.note("Rooms: %d made in %s by %d clients (%.0f a second); `POST` meanwhile %s. Connections to the agent: %d at most of the process's own table each half second, %d at most at the proxy, which may hear of a new one before the end of an old one. Looks at the lease through a client of its own each half second: %d, of which %d failed.",
		seated, seconds(took), makers, float64(seated)/took.Seconds(), posts, conns, most, polls, pollsFailed)
	for _, why := range firstFew(append(failed, lost...)) {
		results.note("A room was not made, or was lost: %s", why)
	}
	results.figure("rooms_seated", float64(seated))
	results.figure("agent_connections", float64(conns))
	// Flat: 800 rooms more cost no more than a renewal in five seconds would.
	results.set(rowIdle, all <= mostIdle && all-half <= 0.5, "%.1f a second with 1,600 rooms, %.1f with 800, %.1f with none", all, half, results.Figures["idle_requests_per_second_0"])

	toggle(t, m, r, consul.Addr())
	gone(t, m, consul)
}

// idle counts an edge's requests for a while.
func idle(t *testing.T, agent *proxy, n int, d time.Duration) (rate float64) {
	before, _, _ := agent.seen()
	time.Sleep(d) // the measure is of a time
	after, _, fault := agent.seen()
	if fault != nil {
		t.Fatal(fault)
	}
	count, kinds := since(before, after)
	rate = float64(count) / d.Seconds()
	results.figure(fmt.Sprintf("idle_requests_per_second_%d", n), rate)
	results.note("Store traffic with %d idle rooms: %d requests in %s (%s).", n, count, d, kinds)
	say("idle: %.2f requests a second with %d rooms: %s", rate, n, kinds)
	return rate
}

// settle waits until what opening the rooms began is done: two quiet seconds.
func settle(t *testing.T, agent *proxy) {
	t.Helper()
	last, _, _ := agent.seen()
	eventually(t, "the edge is idle", func() error {
		time.Sleep(2 * time.Second)
		now, _, _ := agent.seen()
		n, kinds := since(last, now)
		last = now
		if n > 2*2*int(mostIdle) {
			return errors.New(kinds)
		}
		return nil
	})
}

// leaseWatch looks at an edge's connections, and as another client of the agent at its lease.
type leaseWatch struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	conns, critical, polls, failed int
	fault                          error
	t                              *testing.T
}

func watchLease(t *testing.T, pid int, agent, consul string) *leaseWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &leaseWatch{cancel: cancel, t: t}
	w.running.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			n, err := connections(pid, agent)
			if err != nil {
				w.fault = err
			}
			w.conns = max(w.conns, n)
			var checks []struct{ ServiceID, Status string }
			w.polls++
			if err := get("http://"+consul+"/v1/health/checks/bailiwick-edge", &checks); err != nil {
				w.failed++
				say("lease: %v", err)
				continue
			}
			passing := 0
			for _, c := range checks {
				if c.Status == "passing" {
					passing++
				}
			}
			if passing != 2 {
				w.critical++
			}
		}
	})
	t.Cleanup(func() { cancel(); w.running.Wait() })
	return w
}

func (w *leaseWatch) end() (conns, critical, polls, failed int) {
	w.cancel()
	w.running.Wait()
	if w.fault != nil {
		w.t.Fatal(w.fault)
	}
	return w.conns, w.critical, w.polls, w.failed
}

// toggle takes the full edge's region down, by a write of its key.
func toggle(t *testing.T, m *machines, r *rooms, consul string) {
	say("region down")
	from, to := m.addr("de-fra-1"), m.addr("de-ber-1")
	conn := m.dial()
	if a, err := m.answer(conn); a != from || err != nil {
		t.Fatalf("DNS answers %s, %v; want %s", a, err, from)
	}
	began := time.Now() // before the write: what it takes counts
	var dnsTook time.Duration
	placed := map[string]time.Duration{}
	var mu sync.Mutex
	var watching sync.WaitGroup
	watching.Go(func() { dnsTook = m.nextAnswer(conn, to, began) })
	for id := range m.edges {
		watching.Go(func() {
			took := m.nextPlacement(id, "de-ber-1", began)
			mu.Lock()
			defer mu.Unlock()
			placed[id] = took
		})
	}
	if err := put(consul, "bailiwick/regions/de-fra", "down"); err != nil {
		t.Fatal(err)
	}
	watching.Wait()
	worst := max(dnsTook, placed["de-fra-1"], placed["de-ber-1"])
	results.set(rowToggle, worst <= nextWithin, "DNS %s; placement %s at the edge that goes, %s at the other", ms(dnsTook), ms(placed["de-fra-1"]), ms(placed["de-ber-1"]))
	results.figure("toggle_dns_ms", dnsTook.Seconds()*1000)
	results.figure("toggle_placement_ms", max(placed["de-fra-1"], placed["de-ber-1"]).Seconds()*1000)

	seated, _ := r.seats()
	deadline := time.Now().Add(time.Minute)
	for told, arrived := r.moved(began); (len(told) < seated || len(arrived) < seated) && time.Now().Before(deadline); told, arrived = r.moved(began) {
		time.Sleep(100 * time.Millisecond)
	}
	told, arrived := r.moved(began)
	still, lost := r.seats()
	results.set(rowTold, len(told) == full && told.at(1) <= toldWithin, "%d told within %s; %d seated at the other edge within %s, %d lost", len(told), seconds(told.at(1)), len(arrived), seconds(arrived.at(1)), len(lost))
	results.figure("toggle_all_told_s", told.at(1).Seconds())
	results.note("Region down: told in each second from the write on: %s. Seated at the other edge, by clients that join there before they leave: %s. Of %d seats %d are left.", told.curve(), arrived.curve(), seated, still)
	for _, why := range firstFew(lost) {
		results.note("After the region went down a room was lost: %s", why)
	}
}

const poll = 2 * time.Millisecond

// nextAnswer is when DNS first answers an address.
func (m *machines) nextAnswer(conn *dns.Conn, want netip.Addr, from time.Time) time.Duration {
	for time.Since(from) < time.Minute {
		if a, err := m.answer(conn); err == nil && a == want {
			break
		}
		time.Sleep(poll)
	}
	return time.Since(from)
}

// nextPlacement is when an edge first places on another.
func (m *machines) nextPlacement(at, want string, from time.Time) time.Duration {
	for time.Since(from) < time.Minute {
		if c, _, err := m.post(at); err == nil && c.Placement.Edge == want {
			break
		}
		time.Sleep(5 * poll)
	}
	return time.Since(from)
}

// gone: the edge that holds the rooms by now makes consults with Consul, then without.
func gone(t *testing.T, m *machines, consul *consultest.Server) {
	eventually(t, "the moves are over: no notice is left", func() error {
		var keys []string
		if err := get("http://"+consul.Addr()+"/v1/kv/bailiwick/notices/?keys", &keys); err != nil {
			return err
		}
		if len(keys) != len(m.edges) { // of each edge one that stays
			return fmt.Errorf("%d keys", len(keys))
		}
		return nil
	})
	say("POST with Consul")
	with, recorded, failed := m.posts("de-ber-1")
	consul.Kill()
	say("POST without Consul")
	without, recordedToo, failedToo := m.posts("de-ber-1")
	ok := len(failed) == 0 && len(failedToo) == 0 && recordedToo == 0
	results.set(rowGone, ok && without.at(0.99) <= with.at(0.99), "%d of %d are 201, %d of them recorded; p99 %s, with Consul %s",
		len(without), len(without)+len(failedToo), recordedToo, ms(without.at(0.99)), ms(with.at(0.99)))
	results.note("`POST` at %d a second for %s on the edge with the rooms: with Consul %s, %d of %d recorded, %d failed; from the moment that Consul was killed %s.", postRate, postFor, with, recorded, len(with), len(failed), without)
	for _, why := range firstFew(append(failed, failedToo...)) {
		results.note("A consult was not made: %s", why)
	}
	results.figure("post_p99_ms", with.at(0.99).Seconds()*1000)
	results.figure("post_gone_p99_ms", without.at(0.99).Seconds()*1000)
}

// posts makes consults at an edge for a while.
func (m *machines) posts(edge string) (ok times, recorded int, failed []string) {
	var mu sync.Mutex
	steadily(m.t.Context(), postRate, postFor, func(int) {
		c, took, err := m.post(edge)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed = append(failed, err.Error())
			return
		}
		ok = append(ok, took)
		if c.Recorded {
			recorded++
		}
	})
	return ok, recorded, failed
}

// firstFew keeps a list of faults readable.
func firstFew(list []string) []string { return list[:min(3, len(list))] }
