package turn

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"bailiwick/crowd"
)

// A stranger's budget: error responses to requests without a valid credential. Each
// allocation needs one, the challenge, and a browser makes up to four of them for each
// connection: UDP, TCP, and TLS on two ports. When a region moves, a clinic's 600 patients
// behind one address are here within seconds, some of them with a second attempt: 4,800.
// Beyond the budget a source is not answered. So forged sources turn the relay on a victim
// with 0.7 MB once, and then with less than it costs whoever forges them (200 answers of some
// 120 bytes a second); and guessing at 160 bits gets as few verdicts. Authenticated requests
// are answered whatever the budget.
const (
	strangerBurst  = 6000
	strangerRefill = 200 // a second
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
	return &l.spent[maphash.Comparable(l.seed, crowd.Source(src))%buckets]
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
