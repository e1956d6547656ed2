package sim

import "time"

// random is splitmix64: each actor has its own, so that taking an action out of a
// schedule leaves the chance of the others as it was.
type random uint64

func newRand(seed uint64, name string) *random {
	r := random(seed * 0x9e3779b97f4a7c15)
	for i := range len(name) {
		r = (r ^ random(name[i])) * 0x100000001b3
	}
	r.next()
	return &r
}

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// n is one of 0 to below k.
func (r *random) n(k int) int { return int(r.next() % uint64(k)) }

func (r *random) float() float64 { return float64(r.next()>>11) / (1 << 53) }

func (r *random) chance(p float64) bool { return r.float() < p }

// between is a time of that range, evenly.
func (r *random) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(r.next()%uint64(hi-lo))
}
