// Package limit is response rate limiting: a token bucket for each client network and class
// of answer, so that forged queries make a DNS server no amplifier. What a class is, and who
// is never limited, is the server's to say.
package limit

import (
	"crypto/rand"
	"net/netip"
	"sync/atomic"
	"time"

	"bailiwick/geodns/siphash"
)

const (
	// A Limiter has this many sets of this many slots: 1 MiB, whatever is sent.
	sets, ways = 1 << 14, 4
	// maxRate is what its clock of whole microseconds can tell apart.
	maxRate = 1_000_000
)

// Limiter holds the buckets, each of one second's worth of answers.
//
// A bucket is one number, the instant at which it will be full again (the generic
// cell rate algorithm), beside a tag that says whose it is. A set that is full
// gives up the bucket that is nearest to full: one that is being limited is never
// it, so nobody gets out of a limit by inventing networks. It allocates nothing
// and takes no lock.
type Limiter struct {
	key      [16]byte // of the hash, so that nobody can aim at a set
	began    time.Time
	interval int64 // µs between answers
	table    [sets][ways]bucket
}

type bucket struct {
	state   atomic.Uint64 // 16 bits of tag, 48 of µs since began; 0: free
	limited atomic.Uint32 // answers withheld
}

// Verdict is what becomes of an answer. The zero value is none yet.
type Verdict int

const (
	Pass Verdict = iota + 1
	Slip         // say that TCP or a cookie gets it
	Discard
)

// New makes one for rate answers a second; nil, which passes everything, for 0.
func New(rate int, now time.Time) *Limiter {
	if rate <= 0 {
		return nil
	}
	l := &Limiter{began: now, interval: int64(time.Second/time.Microsecond) / int64(min(rate, maxRate))}
	rand.Read(l.key[:])
	return l
}

// Take counts one answer. Of those over the rate every other one slips, the first
// of them too.
func (l *Limiter) Take(client netip.Addr, class byte, now time.Time) Verdict {
	if l == nil {
		return Pass
	}
	var b [9]byte
	b[0] = class
	if client.Is4() {
		a := client.As4()
		b[1] = 4
		copy(b[2:], a[:3]) // /24
	} else {
		a := client.As16()
		b[1] = 6
		copy(b[2:], a[:7]) // /56
	}
	h := siphash.Sum64(&l.key, b[:])
	set, tag := &l.table[h%sets], h>>48
	at := uint64(max(now.Sub(l.began).Microseconds(), 0) + 1)
	const instant = 1<<48 - 1
	for {
		var mine *bucket
		var old uint64
		own := false
		for i := range set {
			v := set[i].state.Load()
			if own = v != 0 && v>>48 == tag; own || mine == nil || v&instant < old&instant {
				mine, old = &set[i], v
			}
			if own {
				break
			}
		}
		full := at
		if own {
			full = max(at, old&instant)
		}
		full += uint64(l.interval)
		if full > at+uint64(time.Second/time.Microsecond) {
			if mine.limited.Add(1)%2 == 1 {
				return Slip
			}
			return Discard
		}
		if mine.state.CompareAndSwap(old, tag<<48|full) {
			if !own {
				mine.limited.Store(0)
			}
			return Pass
		}
	}
}
