// Package mos estimates what people think of how they hear each other, from what the network does
// (ITU-T G.107, the E-model, with its defaults for all that is not the network).
package mos

import (
	"math"
	"time"
)

const (
	// best is R without delay and loss, of G.107's default values (section 7.7).
	best = 93.2
	// Of G.711 with concealment (G.113 Appendix I, table I.3): equipment impairment, and
	// robustness against packets that are lost at random. There are no figures of Opus; it
	// conceals no worse.
	impairment, robustness = 0.0, 25.1
)

// Estimate is the mean opinion score, 1 (bad) to 4.5 (excellent), of speech that arrives oneWay
// after it was said, of which the share lost, 0 to 1, never comes. What is mended by then is not
// lost, and what comes too late is.
func Estimate(oneWay time.Duration, lost float64) float64 {
	lost = 100 * min(max(lost, 0), 1)
	r := best - delay(oneWay) - (impairment + (95-impairment)*lost/(lost+robustness))
	return score(r)
}

// delay is Idd (G.107 section 7.4, equations 7-27 and 7-28).
func delay(oneWay time.Duration) float64 {
	ms := float64(oneWay) / float64(time.Millisecond)
	if ms <= 100 {
		return 0
	}
	x := math.Log2(ms / 100)
	return 25 * (math.Pow(1+math.Pow(x, 6), 1.0/6) - 3*math.Pow(1+math.Pow(x/3, 6), 1.0/6) + 2)
}

// score is MOS by R (G.107 Annex B, equation B-4).
func score(r float64) float64 {
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return 4.5
	}
	return max(1+0.035*r+r*(r-60)*(100-r)*7e-6, 1)
}
