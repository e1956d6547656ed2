package turn

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// A stranger's budget: error responses to requests without a valid credential. Each
// allocation needs one, the challenge; a hospital behind one address needs many at
// once. Beyond it a source is not answered, so that forged sources cannot turn the
// relay on a victim and guessing gets no verdict. Authenticated requests are
// answered whatever the budget.
const (
	strangerBurst  = 200
	strangerRefill = 10 // a second
)

// buckets bounds the memory. Sources share a bucket by a seeded hash that nobody
// outside can aim.
const buckets = 1 << 14

// limiter holds a token bucket for each source: an IPv4 address or an IPv6 /64.
type limiter struct {
	seed maphash.Seed

	mu    sync.Mutex
	spent [buckets]debt
}

// debt is what a source spent and had not got back at a moment; the zero value is
// a full budget.
type debt struct {
	tokens float64
	at     time.Time
}

func newLimiter() *limiter { return &limiter{seed: maphash.MakeSeed()} }

func (l *limiter) bucket(src netip.Addr) *debt {
	return &l.spent[maphash.Comparable(l.seed, source(src))%buckets]
}

// source is what one party cannot change at will.
func source(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

func (d *debt) settle(now time.Time) {
	d.tokens = max(0, d.tokens-now.Sub(d.at).Seconds()*strangerRefill)
	d.at = now
}

// has tells whether the source may be answered once more.
func (l *limiter) has(src netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.bucket(src)
	d.settle(now)
	return d.tokens+1 <= strangerBurst
}

// take spends one answer, if there is one.
func (l *limiter) take(src netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.bucket(src)
	d.settle(now)
	if d.tokens+1 > strangerBurst {
		return false
	}
	d.tokens++
	return true
}
