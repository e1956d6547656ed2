package limit

import (
	"net/netip"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestLimiter(t *testing.T) {
	at := now
	l := New(10, now)
	send := func(addr string, class byte, n int) (passed, slips int) {
		for range n {
			switch l.Take(netip.MustParseAddr(addr), class, at) {
			case Pass:
				passed++
			case Slip:
				slips++
			}
		}
		return passed, slips
	}
	for _, r := range []struct {
		name          string
		after         time.Duration // since the row before
		addr          string
		class         byte
		n             int
		passed, slips int
	}{
		{"a second's worth at once, and every other one of the rest slips", 0, "192.0.2.1", 0, 20, 10, 5},
		{"one /24 is one client", 0, "192.0.2.255", 0, 4, 0, 2},
		{"another /24 is another", 0, "192.0.3.1", 0, 12, 10, 1},
		{"another class of answer has a bucket of its own", 0, "192.0.2.1", 1, 10, 10, 0},
		{"a tenth of a second is one answer", 100 * time.Millisecond, "192.0.2.1", 0, 3, 1, 1},
		{"a second is all of them, and no more", time.Hour, "192.0.2.1", 0, 12, 10, 1},
		{"IPv6", 0, "2001:db8:1:200::1", 0, 11, 10, 1},
		{"one /56 is one client", 0, "2001:db8:1:2ff::1", 0, 2, 0, 1},
		{"another /56 is another", 0, "2001:db8:1:300::1", 0, 10, 10, 0},
		{"a clock that goes back gives nothing away", -time.Minute, "192.0.2.1", 0, 2, 0, 1},
	} {
		at = at.Add(r.after)
		if passed, slips := send(r.addr, r.class, r.n); passed != r.passed || slips != r.slips {
			t.Errorf("%s: got %d passed, %d slipped; want %d, %d", r.name, passed, slips, r.passed, r.slips)
		}
	}
}

// TestLimiterIsBounded: inventing networks gets nobody out of a limit.
func TestLimiterIsBounded(t *testing.T) {
	l := New(10, now)
	victim := netip.MustParseAddr("192.0.2.1")
	for range 20 {
		l.Take(victim, 0, now)
	}
	for i := range 1 << 20 {
		l.Take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), byte(i), now)
	}
	if got := l.Take(victim, 0, now); got == Pass {
		t.Error("the limit was forgotten under a flood of other networks")
	}
}

// TestLimiterForgetsWholly: who is given another's bucket is told of TCP first, as everybody.
func TestLimiterForgetsWholly(t *testing.T) {
	l, silent := New(1, now), 0
	const networks = 3 * sets * ways
	for i := range networks {
		client := netip.AddrFrom4([4]byte{10 + byte(i>>16), byte(i >> 8), byte(i)})
		l.Take(client, 0, now)
		if l.Take(client, 0, now) == Discard {
			silent++
		}
	}
	if silent > networks/100 { // some share a tag
		t.Errorf("%d of %d got silence before they were told", silent, networks)
	}
}

func TestLimiterAllocatesNothing(t *testing.T) {
	l, client := New(1000, now), netip.MustParseAddr("2001:db8::1")
	if n := testing.AllocsPerRun(1000, func() { l.Take(client, 0, now) }); n != 0 {
		t.Errorf("%v allocations a query, want 0", n)
	}
}
