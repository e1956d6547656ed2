package dnssec

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestMonthOfServing serves a zone for a month as a builder does, which signs all that
// it has ahead and again when it is no longer fresh, and looks at each answer each
// hour: none is served with less than the margin left, none before its time, and the
// work is spread.
func TestMonthOfServing(t *testing.T) {
	_, s := newSigner(t, Ed25519, false)
	p := DefaultPolicy()
	const sets = 300
	var list [][]dns.RR
	for i := range sets {
		list = append(list, rrs(t, fmt.Sprintf("n%d.media.example. 5 IN A 192.0.2.1", i)))
	}
	c := NewSignatures(sets)
	serving := make([]*dns.RRSIG, sets)
	var from, until time.Time
	busiest, renewed, rounds := 0, 0, 0
	least := p.Validity
	for hour := range 30 * 24 {
		for _, minute := range []time.Duration{0, 29, 59} { // queries come at any time
			now := epoch.Add(time.Duration(hour)*time.Hour + minute*time.Minute)
			if now.Before(from) || !now.Before(until) {
				from, until = s.Fresh(now)
				rounds++
				fresh := 0
				for i, set := range list {
					sigs, _, err := c.Sign(s, set, now)
					if err != nil {
						t.Fatal(err)
					}
					if sig := sigs[0].(*dns.RRSIG); serving[i] == nil || sig.Inception != serving[i].Inception {
						serving[i] = sig
						fresh++
					}
				}
				if rounds > 1 {
					busiest, renewed = max(busiest, fresh), renewed+fresh
				}
			}
			first := time.Time{}
			for i, sig := range serving {
				begins, ends := time.Unix(int64(sig.Inception), 0), time.Unix(int64(sig.Expiration), 0)
				if left := ends.Sub(now); left < p.Margin() || begins.After(now.Add(-skew/2)) {
					t.Fatalf("hour %d: set %d is served from %s until %s at %s: want %s left", hour, i, begins, ends, now, p.Margin())
				} else if left < least {
					least = left
				}
				if first.IsZero() || ends.Before(first) {
					first = ends
				}
			}
			if got := c.Expires(now.Add(-2 * time.Hour)); !got.Equal(first) {
				t.Fatalf("hour %d: the first signature ends at %s, told is %s", hour, first, got)
			}
		}
	}
	if want := sets * 3; renewed < want-sets/2 || renewed > want+sets {
		t.Errorf("%d signatures renewed in a month, want some %d", renewed, want)
	}
	if busiest > 10 {
		t.Errorf("%d of %d renewed in one round: not spread", busiest, sets)
	}
	if least > p.Margin()+time.Hour {
		t.Errorf("at least %s were left: the test came nowhere near the margin of %s", least, p.Margin())
	}
}

// TestFreshLeavesRoom: whatever the policy, answers that were signed ahead are gone through
// again long before a signature could end in a cache, and a clock that goes back a little
// finds them valid.
func TestFreshLeavesRoom(t *testing.T) {
	for _, c := range []struct {
		name    string
		refresh time.Duration
		want    time.Duration // that they are served
	}{
		{"the default", DefaultPolicy().Refresh, time.Hour},
		{"an hour more than the caches keep", 3 * time.Hour, 30 * time.Minute},
		{"no more than the caches keep", 2 * time.Hour, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := DefaultPolicy()
			p.Refresh = c.refresh
			set, err := NewSet("media.example", Ed25519, false, epoch)
			if err != nil {
				t.Fatal(err)
			}
			s, err := NewSigner(set, p)
			if err != nil {
				t.Fatal(err)
			}
			a := rrs(t, "join.media.example. 5 IN A 192.0.2.1")
			now, err := s.Renew(a, epoch) // a window's first moment
			if err != nil {
				t.Fatal(err)
			}
			from, until := s.Fresh(now)
			sigs, _, err := s.Sign(a, now)
			if err != nil {
				t.Fatal(err)
			}
			if begins := time.Unix(int64(sigs[0].(*dns.RRSIG).Inception), 0); begins.After(from.Add(-skew / 2)) {
				t.Errorf("served from %s, valid from %s: want %s between", from, begins, skew/2)
			}
			if got := until.Sub(now); got != c.want || p.Margin()-p.longestStay() < got {
				t.Errorf("served for %s with %s left: want %s, and as long again beyond the caches", got, p.Margin(), c.want)
			}
		})
	}
}

// TestNotFreshAfterAJump: a clock that jumps, either way, makes everything be signed
// for its new time, and back again, with the same bytes as before.
func TestNotFreshAfterAJump(t *testing.T) {
	set, s := newSigner(t, ECDSAP256, false)
	c := NewSignatures(10)
	a := rrs(t, "join.media.example. 5 IN A 192.0.2.1")
	before, _, err := c.Sign(s, a, epoch)
	if err != nil {
		t.Fatal(err)
	}
	const year = 365 * 24 * time.Hour
	from, until := s.Fresh(epoch)
	for _, at := range []time.Time{epoch.Add(year), epoch.Add(-year), epoch} {
		if stale := at.Before(from) || !at.Before(until); stale == at.Equal(epoch) {
			t.Errorf("%s: stale is %t", at, stale)
		}
		sigs, _, err := c.Sign(s, a, at)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, set, sigs, a, at)
		if same := sigs[0].String() == before[0].String(); same != at.Equal(epoch) {
			t.Errorf("%s: the same signature is %t", at, same)
		}
	}
}

// TestSwapKeepsWhatStays: a new Signer whose keys sign the data as before costs nothing.
func TestSwapKeepsWhatStays(t *testing.T) {
	set, s := newSigner(t, Ed25519, false)
	c := NewSignatures(10)
	a := rrs(t, "join.media.example. 5 IN A 192.0.2.1")
	if _, _, err := c.Sign(s, a, epoch); err != nil {
		t.Fatal(err)
	}
	set, events, err := Next(set, epoch.Add(2*time.Hour), DefaultPolicy(), nil)
	if err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	next, err := NewSigner(set, DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Sign(next, a, epoch); err != nil || c.Len() != 1 {
		t.Errorf("%d remembered, %v: want the one before", c.Len(), err)
	}
}
