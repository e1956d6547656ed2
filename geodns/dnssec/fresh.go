package dnssec

import (
	"time"

	"github.com/miekg/dns"
)

// freshFor is how long answers that were signed ahead may be served before all of them
// are gone through again. The windows of a zone's RRsets end at all times, so that each
// round signs few of them anew: with the default policy a 216th.
const freshFor = time.Hour

// Fresh is the time during which what Sign and Deny gave for now may be served without
// asking again; then ask for every RRset again, of which [Signatures] remembers those
// that stay. It is also over when the clock leaves it backwards. A signature served
// within it has at least [Policy.Margin] left. Another Signer ends it at once; what
// both sign alike is remembered across the two.
func (s *Signer) Fresh(now time.Time) (from, until time.Time) {
	return now.Add(-skew / 2), now.Add(s.p.fresh())
}

func (p Policy) fresh() time.Duration { return min(freshFor, (p.Refresh-p.longestStay())/2) }

// longestStay is how long an answer can outlive the moment of its sending.
func (p Policy) longestStay() time.Duration { return max(p.KeyTTL, p.ZoneTTL) + p.Propagation }

// Margin is how much of its validity every signature that is served has left, at the
// least: the time for which a validator, or a node that can sign no more, is still well.
func (p Policy) Margin() time.Duration { return p.Refresh - p.fresh() }

// Expires is when the first of the signatures ends that were given since that time;
// zero when there was none. It looks at all that are remembered: once a scrape is well.
func (c *Signatures) Expires(since time.Time) (soonest time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.recent.Front(); e != nil; e = e.Next() {
		s := e.Value.(*signed)
		if s.used.Before(since) || len(s.sigs) == 0 {
			continue
		}
		// Serial arithmetic (RFC 4034 section 3.1.5) from the window's own start.
		start := s.w.start
		at := time.Unix(start+int64(s.sigs[0].(*dns.RRSIG).Expiration-uint32(start)), 0).UTC()
		if soonest.IsZero() || at.Before(soonest) {
			soonest = at
		}
	}
	return soonest
}
