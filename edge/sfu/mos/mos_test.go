package mos

import (
	"math"
	"testing"
	"time"
)

// TestEstimate holds against what the equations give by hand, and Annex B's table.
func TestEstimate(t *testing.T) {
	for _, c := range []struct {
		name   string
		oneWay time.Duration
		lost   float64
		want   float64
	}{
		{"nothing wrong", 50 * time.Millisecond, 0, 4.41},
		{"up to 100 ms is no impairment", 100 * time.Millisecond, 0, 4.41},
		{"G.114's limit", 150 * time.Millisecond, 0, 4.40},
		{"a satellite: Idd 24.1", 400 * time.Millisecond, 0, 3.56},
		{"5 % lost: Ie 15.8", 50 * time.Millisecond, 0.05, 3.92},
		{"15 % lost: Ie 35.5", 50 * time.Millisecond, 0.15, 2.97},
		{"nothing comes: Ie 75.9", 0, 1, 1.18},
		{"less than nothing is lost", 0, -1, 4.41},
	} {
		if got := Estimate(c.oneWay, c.lost); math.Abs(got-c.want) > 0.015 {
			t.Errorf("%s: %.3f, want %.2f", c.name, got, c.want)
		}
	}
	for r, want := range map[float64]float64{93.2: 4.41, 90: 4.34, 80: 4.03, 70: 3.60, 60: 3.10, 50: 2.58} { // G.107 table B.1
		if got := score(r); math.Abs(got-want) > 0.01 {
			t.Errorf("R %v: MOS %.3f, want %.2f", r, got, want)
		}
	}
	last := 5.0
	for ms := range 2000 {
		if now := Estimate(time.Duration(ms)*time.Millisecond, 0.01); now > last {
			t.Fatalf("better at %d ms than before: %v, %v", ms, now, last)
		} else {
			last = now
		}
	}
}
