package rtp

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

func ms(n int) time.Time { return start.Add(time.Duration(n) * time.Millisecond) }

func TestReceiverReport(t *testing.T) {
	r := NewReceiver(9, 1000) // 1 kHz: a unit is a millisecond
	if _, ok := r.Report(start); ok {
		t.Error("a report before the first packet")
	}
	receive := func(seq uint16, ts uint32, at int) bool {
		fresh, _ := r.Receive(packet(9, seq, ts), ms(at))
		return fresh
	}
	receive(65535, 0, 0)
	receive(0, 20, 20)
	receive(2, 60, 76) // 1 is lost; 16 ms late
	if receive(2, 60, 77) {
		t.Error("a duplicate is fresh")
	}
	r.SenderReport(0x0001_0002_0003_0004, 60, ms(80))
	got, ok := r.Report(ms(580))
	if !ok || got.SSRC != 9 || got.TotalLost != 1 || got.FractionLost != 256/4 || got.LastSequenceNumber != 1<<16+2 ||
		got.Jitter != 1 || got.LastSenderReport != 0x0002_0003 || got.Delay != 65536/2 {
		t.Errorf("report %+v", got)
	}
	receive(1, 40, 600) // late, not lost
	receive(3, 80, 601)
	if got, _ := r.Report(ms(1600)); got.TotalLost != 0 || got.FractionLost != 0 {
		t.Errorf("after the late one: %+v", got)
	}
	fresh, anew := r.Receive(packet(9, 30_000, 5), ms(1700))
	if got, _ := r.Report(ms(1700)); !fresh || !anew || got.TotalLost != 0 || got.LastSequenceNumber != 30_000 {
		t.Errorf("after a new beginning: fresh %t anew %t %+v", fresh, anew, got)
	}
	if fresh, _ := r.Receive(packet(9, 30_000-window, 5), ms(1701)); fresh {
		t.Error("one too old to tell is fresh")
	}
}

func TestReceiverClock(t *testing.T) {
	r := NewReceiver(9, 90000)
	if _, _, ok := r.Clock(start); ok {
		t.Error("a clock before the first sender report")
	}
	r.SenderReport(100<<32, 5000, start)
	ntp, ts, ok := r.Clock(ms(1500))
	if !ok || ntp != 101<<32+1<<31 || ts != 5000+135_000 {
		t.Errorf("clock %x %d %t", ntp, ts, ok)
	}
}

func TestGaps(t *testing.T) {
	var g Gaps
	seen := func(at int, want bool, seqs ...uint16) {
		t.Helper()
		for _, s := range seqs {
			if got := g.Seen(s, ms(at)); got != want {
				t.Fatalf("packet %d: outage %t, want %t", s, got, want)
			}
		}
	}
	due := func(what string, at int, want ...uint16) {
		t.Helper()
		if got := g.Due(ms(at), 50*time.Millisecond, nil); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	seen(0, false, 65533, 65534)
	due("nothing missing", 0)
	seen(0, false, 2)
	due("at once", 0, 65535, 0, 1)
	due("not again within a round trip", 49)
	seen(49, false, 0)
	due("again, without what came", 50, 65535, 1)
	for try := 3; try <= maxTries; try++ {
		due("again", 50*try, 65535, 1)
	}
	due("given up", 10_000)
	due("and forgotten", 20_000)
	seen(20_000, true, 2+maxMissing+2)
	due("an outage", 20_000)
}

func TestRing(t *testing.T) {
	var r Ring
	if _, ok := r.Get(0, nil); ok {
		t.Error("an empty ring has a packet")
	}
	r.newest = math.MaxUint32 - 2 // the names come round
	names := map[uint32]string{}
	for i := range ringSize + 10 {
		text := fmt.Sprint("packet ", i)
		n := r.Put([]byte(text))
		if n == 0 {
			t.Fatal("a packet is called 0")
		}
		names[n] = text
	}
	kept := 0
	for n, text := range names {
		got, ok := r.Get(n, []byte("dst "))
		if ok && string(got) != "dst "+text || !ok && string(got) != "dst " {
			t.Errorf("%d: %q %t, want %q", n, got, ok, text)
		}
		if ok {
			kept++
		}
	}
	if kept < ringSize-1 { // no packet is called 0, and one place is empty for a round
		t.Errorf("%d are kept, want %d", kept, ringSize-1)
	}
	if _, ok := r.Get(r.newest+1, nil); ok {
		t.Error("a packet that has not come is there")
	}
}
