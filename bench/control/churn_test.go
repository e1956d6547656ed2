package control

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"bailiwick/store/consultest"
)

const (
	churnFor  = 2 * time.Minute
	casRate   = 25 // a second, beside the consults
	mostTimes = 3.0
	lives     = time.Second // a consult, from its answer to its end
)

// churn makes and ends consults at five edges on a cluster of three, with Consul's own
// timing, and compares a POST with a bare CAS in the same moments.
func churn(t *testing.T) {
	offDisk(t)
	servers := consultest.StartCluster(t, 3, "performance { raft_multiplier = 5 }")
	m := newMachines(t)
	ids := []string{"de-fra-1", "de-fra-2", "de-ber-1", "de-ber-2", "fr-par-1"}
	for i, id := range ids {
		m.edge(id, servers[i%len(servers)].Addr())
	}
	m.known(len(ids))
	say("consults: five edges and three Consul servers run")

	var before state
	before.read(t, servers, m)
	var mu sync.Mutex
	var posts, ends, cas times
	var refused, notEnded, casFailed []string
	unrecorded := 0
	var running, ending sync.WaitGroup
	value := record(t, m, ids[0], servers[0].Addr())
	running.Go(func() {
		time.Sleep(time.Second / postRate / 2) // between two consults
		steadily(t.Context(), casRate, churnFor, func(i int) {
			took, err := bareCAS(servers[i%len(servers)].Addr(), fmt.Sprintf("bench/%d", i), value)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				casFailed = append(casFailed, err.Error())
				return
			}
			cas = append(cas, took)
		})
	})
	steadily(t.Context(), postRate, churnFor, func(i int) {
		c, took, err := m.post(ids[i%len(ids)])
		mu.Lock()
		if err != nil {
			refused = append(refused, err.Error())
		} else if posts = append(posts, took); !c.Recorded {
			unrecorded++
		}
		mu.Unlock()
		if err != nil {
			return
		}
		ending.Go(func() {
			time.Sleep(lives)
			began := time.Now()
			code, err := call("DELETE", m.edges[ids[(i+1)%len(ids)]]+"/v1/consults/"+c.ID, "", nil) // at another edge
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && code != http.StatusNoContent {
				err = fmt.Errorf("DELETE: %d", code)
			}
			if err != nil {
				notEnded = append(notEnded, err.Error())
				return
			}
			ends = append(ends, took)
		})
	})
	running.Wait()
	ending.Wait()
	var after state
	after.read(t, servers, m)

	ratio := float64(posts.at(0.99)) / float64(cas.at(0.99))
	results.set(rowChurn, len(refused) == 0 && len(notEnded) == 0 && unrecorded == 0, "%d made, %d refused, %d not recorded at once; %d not ended", len(posts), len(refused), unrecorded, len(notEnded))
	results.set(rowRatio, len(casFailed) == 0 && ratio <= mostTimes, "%.2f × (%s to %s)", ratio, ms(posts.at(0.99)), ms(cas.at(0.99)))
	results.note("Consults at %d a second over five edges: `POST` %s; `DELETE` after %s at another edge %s.", postRate, posts, lives, ends)
	results.note("Bare CAS (one `PUT /v1/kv?cas=0` of a record's %d octets) at %d a second on the same three servers, between them: %s; %d failed.", len(value), casRate, cas, len(casFailed))
	wall := after.at.Sub(before.at)
	results.note("Consul in those %s: %s of processor (%.0f %% of one core; each server %s); the edges together %s. Raft's log grew by %d entries, the data of a server from %s to %s.",
		wall.Round(time.Second), seconds(sum(after.servers)-sum(before.servers)), 100*(sum(after.servers)-sum(before.servers)).Seconds()/wall.Seconds(), each(before.servers, after.servers),
		seconds(after.edges-before.edges), after.raft-before.raft, mib(before.data), mib(after.data))
	for _, why := range firstFew(append(append(refused, notEnded...), casFailed...)) {
		results.note("A request failed: %s", why)
	}
	results.figure("churn_post_p50_ms", posts.at(0.5).Seconds()*1000)
	results.figure("churn_post_p99_ms", posts.at(0.99).Seconds()*1000)
	results.figure("churn_cas_p50_ms", cas.at(0.5).Seconds()*1000)
	results.figure("churn_cas_p99_ms", cas.at(0.99).Seconds()*1000)
	results.figure("churn_consul_cpu_s", (sum(after.servers) - sum(before.servers)).Seconds())
	results.figure("churn_refused", float64(len(refused)))
}

// record is one consult's as the store has it: what the bare CAS writes.
func record(t *testing.T, m *machines, edge, consul string) []byte {
	t.Helper()
	c, _, err := m.post(edge)
	if err != nil {
		t.Fatal(err)
	}
	var kv []struct{ Value []byte }
	if err := get("http://"+consul+"/v1/kv/bailiwick/consults/"+c.ID+"?consistent", &kv); err != nil || len(kv) != 1 {
		t.Fatalf("record of %s: %v", c.ID, err)
	}
	return kv[0].Value
}

func bareCAS(server, key string, value []byte) (time.Duration, error) {
	q, err := http.NewRequest("PUT", "http://"+server+"/v1/kv/"+key+"?cas=0", bytes.NewReader(value))
	if err != nil {
		return 0, err
	}
	began := time.Now()
	r, err := client.Do(q)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	took := time.Since(began)
	if err == nil && strings.TrimSpace(string(answer)) != "true" {
		err = fmt.Errorf("CAS: %s %s", r.Status, answer)
	}
	return took, err
}

// state is what a run costs Consul.
type state struct {
	at      time.Time
	servers []time.Duration // processor
	edges   time.Duration
	raft    int
	data    int64 // of the first server
}

func (s *state) read(t *testing.T, servers []*consultest.Server, m *machines) {
	t.Helper()
	s.at = time.Now()
	for _, c := range servers {
		s.servers = append(s.servers, processor(t, c.Pid()))
	}
	for id := range m.edges {
		s.edges += processor(t, m.pid(id))
	}
	var self struct{ Stats map[string]map[string]string }
	if err := get("http://"+servers[0].Addr()+"/v1/agent/self", &self); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(self.Stats["raft"]["last_log_index"], &s.raft); err != nil {
		t.Fatalf("raft's index %q: %v", self.Stats["raft"]["last_log_index"], err)
	}
	s.data = size(t, servers[0].Data())
}

func sum(list []time.Duration) (all time.Duration) {
	for _, d := range list {
		all += d
	}
	return all
}

func each(before, after []time.Duration) string {
	var words []string
	for i := range after {
		words = append(words, seconds(after[i]-before[i]))
	}
	return strings.Join(words, ", ")
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
