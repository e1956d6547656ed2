package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"bailiwick/geodns"
	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/geo"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

const (
	roleVar = "BENCH_DNS_LISTEN" // set: be the server, at this address
	dbVar   = "BENCH_DNS_DB"     // its geo database; empty for none
	signVar = "BENCH_DNS_SIGN"   // set: the zone is signed
)

// heap is what the server's memory allocator says of itself.
type heap struct {
	Objects, Bytes uint64 // allocated since the start
	Cycles         uint32 // of the garbage collector
}

// serve is the DNS server as `bailiwick dns` has it, with a world that stands still:
// its store and its probes would cost processor time that is not the query's. It
// obeys lines on standard input and ends with it, so that it never outlives the run:
//
//	heap            prints a heap as JSON
//	profile FILE    profiles the processor into FILE until the next line
func serve(listen, db string) error {
	at, err := netip.ParseAddrPort(listen)
	if err != nil {
		return err
	}
	w, err := loadWorld()
	if err != nil {
		return err
	}
	table, err := geo.Load(db, w.Map.Geo)
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s, err := geodns.Listen(geodns.Config{Addr: at, Zone: w.Map.Zone, Geo: table, World: func() *steer.World { return w }, Changes: still, Registry: metrics})
	if err != nil {
		return err
	}
	if os.Getenv(signVar) != "" {
		k, err := newSigner()
		if err != nil {
			return err
		}
		s.SetSigner(k)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	err = obey()
	cancel()
	return errors.Join(err, <-done)
}

// still are the changes of a world that stands still.
func still() (<-chan struct{}, func()) { return nil, func() {} }

// newSigner has one CSK, as `bailiwick dns --dnssec` begins with.
func newSigner() (*dnssec.Signer, error) {
	set, err := dnssec.NewSet(zone, dnssec.ECDSAP256, false, time.Now())
	if err != nil {
		return nil, err
	}
	return dnssec.NewSigner(set, dnssec.DefaultPolicy())
}

func obey() error {
	var file *os.File
	stop := func() error {
		if file == nil {
			return nil
		}
		pprof.StopCPUProfile()
		err := file.Close()
		file = nil
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if err := stop(); err != nil {
			return err
		}
		name, profile := strings.CutPrefix(in.Text(), "profile ")
		if !profile {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if err := json.NewEncoder(os.Stdout).Encode(heap{Objects: m.Mallocs, Bytes: m.TotalAlloc, Cycles: m.NumGC}); err != nil {
				return err
			}
			continue
		}
		var err error
		if file, err = os.Create(name); err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
	}
	return errors.Join(stop(), in.Err())
}

// loadWorld is the shipped map with one healthy, idle edge a region: edge 1 of
// region i has 198.18.i.1 (RFC 2544's addresses: nobody's).
func loadWorld() (*steer.World, error) {
	m, err := loadMap()
	if err != nil {
		return nil, err
	}
	// The papers of the demonstration hold from 2026 to 2027; the bench goes on after.
	w := &steer.World{Generation: 1, At: mapDay, Law: residency.Shipped(), Map: m, StoreUp: true}
	for i := range m.Regions {
		r := &m.Regions[i]
		w.Regions = append(w.Regions, steer.Region{Region: r, Hop: m.Hop(r), Edges: []steer.Edge{{
			ID: region.EdgeID(string(r.ID) + "-1"), Health: steer.Up, Admits: r.Capacity.Admission, Addr4: edgeAddr(i)}}})
	}
	return w, nil
}

func edgeAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(i), 1}) }

func loadMap() (*region.Map, error) {
	b, err := os.ReadFile(mapFile)
	if err != nil {
		return nil, fmt.Errorf("%w: run it in the root of the tree", err)
	}
	return region.Parse(mapFile, b)
}
