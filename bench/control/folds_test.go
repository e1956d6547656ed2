package control

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store"
	"bailiwick/store/consul"
	"bailiwick/store/consultest"
)

const (
	manyEdges = 100
	mostFolds = 4.0 // a second
	foldsFor  = 30 * time.Second
	tellers   = 8 // as many as the store has connections
	// leastTold updates a second are those of a hundred edges whose load differs at each
	// renewal, 5 s apart. More are tried; a busy machine may not bear them.
	leastTold = manyEdges / 5
)

// folds: a hundred edges change their load each second, first within the tenths that
// decisions see, then across them, and a DNS node follows.
func folds(t *testing.T) {
	offDisk(t)
	server := consultest.Start(t)
	m := newMachines(t)
	m.dns(server.Addr())
	m.edge("de-fra-1", server.Addr()) // answers the probes for all of them
	m.known(1)
	st, err := consul.New(server.Addr(), "")
	if err != nil {
		t.Fatal(err)
	}
	text, err := readMap(m)
	if err != nil {
		t.Fatal(err)
	}
	var edges []*told
	for i := range manyEdges {
		reg := text.Regions[i%len(text.Regions)].ID
		e := &told{id: region.EdgeID(fmt.Sprintf("%s-b%d", reg, i)), region: reg, i: i, m: m}
		if e.lease, err = st.Register(t.Context(), e.instance(0), time.Minute); err != nil {
			t.Fatal(err)
		}
		edges = append(edges, e)
	}
	m.known(manyEdges + 1)
	say("folds: %d edges are up", manyEdges)

	// The same tenth: 1 to 99 of 2,000, where a tenth is 200.
	within := m.load(t, edges, func(round, i int) int { return 1 + (7*round+i)%99 })
	// Another tenth each second.
	across := m.load(t, edges, func(round, i int) int { return 200 * ((round + i) % 10) })
	if within.rate < leastTold || across.rate < leastTold {
		why := fmt.Sprintf("only %.0f and %.0f updates a second could be made, %d are wanted", within.rate, across.rate, leastTold)
		results.missed(rowFolds, why)
		results.missed(rowViews, why)
		return
	}
	worst := max(within.folds, across.folds)
	results.set(rowFolds, worst <= mostFolds, "%.2f a second within a tenth of the load, %.2f across tenths", within.folds, across.folds)
	results.set(rowViews, within.needless == 0 && across.needless == 0, "%.0f; %.0f emptied for answers that differ", within.needless+across.needless, within.needed+across.needed)
	for _, p := range []struct {
		what string
		loaded
	}{{"within a tenth", within}, {"across tenths", across}} {
		results.note("Loads that change %s each second: %.0f updates a second for %s; the DNS node folded %.2f Worlds a second, and emptied %.0f views, of which %.0f for Worlds that answer otherwise; %s of its processor.",
			p.what, p.rate, foldsFor, p.folds, p.needed+p.needless, p.needed, seconds(p.cpu))
	}
	results.figure("folds_per_second_within", within.folds)
	results.figure("folds_per_second_across", across.folds)
	results.figure("views_emptied_without_need", within.needless+across.needless)
}

func readMap(m *machines) (*region.Map, error) {
	b, err := os.ReadFile(filepath.Join(m.dir, "regions.yaml"))
	if err != nil {
		return nil, err
	}
	return region.Parse("regions.yaml", b)
}

// told is an edge that is only a registration; the real one answers its probes.
type told struct {
	id     region.EdgeID
	region region.ID
	i      int
	m      *machines
	lease  store.Lease
}

func (e *told) instance(consults int) store.Instance {
	at := e.m.addr("de-fra-1")
	self := &steer.Edge{ID: e.id, Host: e.m.edges["de-fra-1"], Addr4: at, Media: netip.AddrPortFrom(at, 7882), Turn: netip.AddrPortFrom(at, 3478),
		Admits: admits, Load: steer.Load{Consults: consults}}
	return world.Instance(self, e.region, netip.AddrPortFrom(at, 8080))
}

// loaded is what a while of loads made a DNS node do.
type loaded struct {
	told             int     // updates that were made
	rate, folds      float64 // a second
	needed, needless float64 // views emptied
	cpu              time.Duration
}

// load changes every edge's load each second.
func (m *machines) load(t *testing.T, edges []*told, load func(round, i int) int) (l loaded) {
	t.Helper()
	conn := m.dial()
	before, cpu, began := m.metrics(), processor(t, m.pid("dns-1")), time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), foldsFor)
	defer cancel()
	var running sync.WaitGroup
	var mu sync.Mutex
	running.Go(func() { // a view is emptied by the query after the change
		for ctx.Err() == nil {
			m.answer(conn)
			time.Sleep(5 * poll)
		}
	})
	for k := range tellers {
		running.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				next := time.After(time.Second)
				for i := k; i < len(edges); i += tellers {
					if err := edges[i].lease.Update(ctx, edges[i].instance(load(round, i))); err == nil {
						mu.Lock()
						l.told++
						mu.Unlock()
					}
				}
				select {
				case <-ctx.Done():
				case <-next:
				}
			}
		})
	}
	running.Wait()
	took := time.Since(began).Seconds()
	time.Sleep(time.Second) // the last load is folded, and its view made
	after := m.metrics()
	l.rate = float64(l.told) / took
	l.folds = (after[foldsMetric] - before[foldsMetric]) / took
	answers, views := after[answersMetric]-before[answersMetric], after[viewsMetric]-before[viewsMetric]
	l.needed = min(views, answers)
	l.needless = views - l.needed
	l.cpu = processor(t, m.pid("dns-1")) - cpu
	say("folds: %.0f updates a second, %.2f folds a second, %.0f other answers, %.0f views", l.rate, l.folds, answers, views)
	return l
}
