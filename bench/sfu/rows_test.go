package sfu

import (
	"testing"
	"time"
)

// A row is judged by the worst size, against the best peer, and never reached by a server
// that lost packets or had something off.
func TestRows(t *testing.T) {
	on := []string{"TWCC", "RTX", "NACK", "MID"}
	// made is a report in which every server's packets cost the same in each size.
	made := func(own, livekit, janus float64, change func(own figure) figure) *report {
		r := &report{}
		for name, µs := range map[string]float64{ownName: own, livekitName: livekit, janusName: janus} {
			for i, size := range pairs.sizes {
				f := figure{Packets: 1000, With: on}
				if name == ownName && i == 1 {
					f = change(f)
				}
				f.CPU = time.Duration(µs*float64(f.Packets)) * time.Microsecond
				r.Cells = append(r.Cells, &cell{Load: pairs.name, Size: size, Peer: name, Figures: []figure{f, {}}}) // a round that failed
			}
		}
		return r
	}
	same := func(f figure) figure { return f }
	for _, c := range []struct {
		name                string
		own, livekit, janus float64
		change              func(figure) figure
		is                  string
		reached             bool
	}{
		{"below both", 40, 100, 50, same, "0.80, 0.80, 0.80", true},
		{"below one", 40, 100, 49, same, "0.82, 0.82, 0.82", false},
		{"lost packets in one size", 40, 100, 50, func(f figure) figure { f.Loss = 0.006; return f }, "0.80, 0.80, 0.80, overloaded", false},
		{"without RTX in one size", 40, 100, 50, func(f figure) figure { f.With = []string{"TWCC", "NACK", "MID"}; return f }, "0.80, 0.80, 0.80, without RTX", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := made(c.own, c.livekit, c.janus, c.change).against(pairs, "cost", mostBest, figure.micros, livekitName, janusName)
			if !got.Measured || got.Is != c.is || got.Reached != c.reached {
				t.Errorf("%+v; want %q, reached %v", got, c.is, c.reached)
			}
		})
	}
	r := made(40, 100, 50, same)
	if got := r.against(fanout, "cost", mostBest, figure.micros, livekitName); got.Measured || got.Reached {
		t.Errorf("a load that was not run: %+v", got)
	}
	if got := r.against(pairs, "cost", mostFloor, figure.micros, floorName); got.Measured || got.Reached {
		t.Errorf("a peer that was not there: %+v", got)
	}
}
