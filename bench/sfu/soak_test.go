package sfu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// The soak's load: so many consults at any time, each for as long as it happens to be.
const (
	soakSlots    = 8
	soakShortest = 2 * time.Second
	soakLongest  = 20 * time.Second
	soakSamples  = 60
	// mostGrowth is of the last quarter's least memory to the second's: the first is filling
	// up, and what a stall of the machine heaps up is no leak.
	mostGrowth = 1.05
)

// TestSoak joins and leaves for a given time and prints the server's memory over it: of
// ours, or of what -peers names.
func TestSoak(t *testing.T) {
	if *soaking == 0 {
		t.Skip("it joins and leaves for an hour: make bench-sfu SFU='-soak 1h'")
	}
	all := chosen()
	if *only == "" {
		all = all[:1]
	}
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) { soak(t, p) })
	}
}

func soak(t *testing.T, p *peer) {
	if p.absent != "" {
		t.Skip(p.absent)
	}
	s, err := p.start(t)
	if err != nil {
		t.Fatal(err)
	}
	base, err := memory(s.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	var rooms, ended, lost atomic.Int64
	end := now() + *soaking
	consult := func() error {
		room := int(rooms.Add(1))
		var pair []*client
		for i := range 2 {
			pair = append(pair, newClient(t.Context(), room, fmt.Sprintf("r%dp%d", room, i), true, 1, p.media))
		}
		defer closeAll(pair)
		if err := s.enter(t.Context(), pair, 0); err != nil {
			return err
		}
		from := now()
		time.Sleep(soakShortest + rand.N(soakLongest-soakShortest))
		to := now()
		time.Sleep(time.Second)
		closeAll(pair)
		if tally(pair, from, to).Loss > mostLoss {
			lost.Add(1)
		}
		ended.Add(1)
		return nil
	}
	var slots errgroup.Group
	for range soakSlots {
		slots.Go(func() error {
			for now() < end {
				if err := consult(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	fmt.Fprintf(out, "%s: %.1f MB without participants\n\n| minutes | consults ended | of them with more than %.1f %% loss | memory, MB |\n| ---: | ---: | ---: | ---: |\n", p.name, float64(base)/1e6, mostLoss*100)
	var samples []int64
	for range soakSamples {
		time.Sleep(*soaking / soakSamples)
		m, err := memory(s.cmd.Process.Pid)
		if err != nil {
			t.Error(err)
			break
		}
		samples = append(samples, m)
		fmt.Fprintf(out, "| %.1f | %d | %d | %.1f |\n", float64(len(samples))*soaking.Minutes()/soakSamples, ended.Load(), lost.Load(), float64(m)/1e6)
	}
	if err := slots.Wait(); err != nil {
		t.Error(err)
	}
	quarter := len(samples) / 4
	if quarter == 0 {
		return
	}
	before, after := samples[quarter:2*quarter], samples[3*quarter:]
	growth := float64(slices.Min(after)) / float64(slices.Min(before))
	verdict := "flat"
	if growth > mostGrowth {
		verdict = "**growing**"
	}
	fmt.Fprintf(out, "\n%s: memory at least %.1f MB in the second quarter, %.1f MB in the last: %.2f, must be ≤ %.2f: %s; %.1f MB at most\n", p.name,
		float64(slices.Min(before))/1e6, float64(slices.Min(after))/1e6, growth, mostGrowth, verdict, float64(slices.Max(samples))/1e6)
}
