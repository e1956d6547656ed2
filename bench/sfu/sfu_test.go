// Package sfu measures edge/sfu beside LiveKit, Janus and a bare floor: processor time a
// forwarded packet, latency, memory a consult. README.md says how, RESULTS.md what came out;
// `make bench-sfu` runs it.
//
// It is made of tests because it starts programs as they do. Invariants: every number
// printed was measured in that run, what could not be measured says why, and nothing is left
// running.
package sfu

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	measure = flag.Bool("measure", false, "measure, and print what must be reached")
	asJSON  = flag.Bool("json", false, "print JSON")
	rounds  = flag.Int("rounds", 3, "how often each peer is measured in each size")
	window  = flag.Duration("window", 8*time.Second, "how long a measured window is")
	only    = flag.String("peers", "", "these alone, by name, commas between")
	soaking = flag.Duration("soak", 0, "instead: join and leave for so long, and print memory")
)

// out is where the report goes.
var out = os.Stdout

// settling is from the last participant's first packets to the window: keyframes, bandwidth
// probes and joins are past by then.
const settling = 3 * time.Second

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		fmt.Fprintln(os.Stderr, playRole(role))
		os.Exit(1)
	}
	flag.Parse()
	if !*measure {
		os.Exit(m.Run())
	}
	os.Stdout = os.Stderr // what package testing says is no part of the report
	code := m.Run()
	if results != nil {
		if err := results.print(out, *asJSON); err != nil {
			fmt.Fprintln(os.Stderr, "bench-sfu:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// TestSFU runs every peer in every size, in turn: what disturbs the machine disturbs all.
// Each run has a server of its own, so that no run inherits another's memory.
func TestSFU(t *testing.T) {
	if !*measure || *soaking > 0 {
		t.Skip("it measures for half an hour: make bench-sfu")
	}
	debug.SetGCPercent(400) // the generator's, which is in the servers' way
	all := chosen()
	results = begin(all)
	for round := range *rounds {
		for _, s := range []scenario{pairs, fanout} {
			for _, size := range s.sizes {
				for i := range all {
					p := all[(i+round)%len(all)] // not always after the same neighbour
					if p.absent != "" {
						continue
					}
					t.Run(fmt.Sprintf("%s/%d/%s/%d", s.name, size, p.name, round+1), func(t *testing.T) {
						why := "ended early: the log of the run says why"
						defer func() {
							if why != "" {
								results.failed(p, s, size, why)
							}
						}()
						f, err := run(t, p, s.seats(size), settling, *window)
						if err != nil {
							why = err.Error()
							t.Fatal(err)
						}
						why = ""
						results.add(p, s, size, round, f)
						say("%s, %d %s, %s: %.1f µs a packet, loss %.2f %%, p50 %s, p99 %s, generator %.2f", s.name, size, s.of, p.name,
							f.micros(), f.Loss*100, f.P50.Round(time.Microsecond), f.P99.Round(time.Microsecond), f.Generator)
					})
				}
			}
		}
	}
	results.end()
}

func chosen() []*peer {
	all := peers()
	if *only == "" {
		return all
	}
	return slices.DeleteFunc(all, func(p *peer) bool { return !slices.Contains(strings.Split(*only, ","), p.name) })
}

// TestSmoke keeps the generator working: one consult of ours, and of the floor, for a second.
func TestSmoke(t *testing.T) {
	for _, p := range peers() {
		if p.name != ownName && p.name != floorName {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			f, err := run(t, p, pairs.seats(1), 0, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if f.Packets < 100 || f.Packets > 400 { // 300, on a machine that is not busy
				t.Errorf("%d packets came in a second of 2 × 150, loss %.1f %%", f.Packets, f.Loss*100)
			}
			if f.CPU <= 0 || f.P50 <= 0 || f.P99 < f.P50 || f.Loss < 0 {
				t.Errorf("figures: %+v", f)
			}
		})
	}
}

// What comes twice, is padding, or was sent outside of the window does not count.
func TestTally(t *testing.T) {
	packet := func(n uint32, at time.Duration) []byte {
		b := opus()
		stamp(b, n, at)
		return b
	}
	a, b := &client{room: 1, heard: make(chan struct{}, 1)}, &client{room: 1, heard: make(chan struct{}, 1)}
	a.sent[audio] = []time.Duration{5, 10, 11, 12, 20}
	r := b.hear()
	r.take(packet(0, 5), 6)
	r.take(packet(1, 10), 13)
	r.take(packet(1, 10), 14)
	r.take(make([]byte, 80), 14)
	r.take(nil, 14)
	r.take(packet(3, 12), 17)
	r.take(packet(4, 20), 21)
	f := tally([]*client{a, b}, 10, 20)
	if f.Packets != 2 || f.P50 != 5 || f.P99 != 5 || f.Loss < 0.33 || f.Loss > 0.34 {
		t.Errorf("tally: %+v", f)
	}
	if len(b.heard) != 1 {
		t.Error("the first packet was not told")
	}
}

// say tells of progress.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
