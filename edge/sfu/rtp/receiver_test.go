package rtp

import (
	"math"
	"math/rand/v2"
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

// TestRing: at every rate each packet of the last while is there and no other's bytes, in no
// more memory than that takes, nor when the rate falls; names come round.
func TestRing(t *testing.T) {
	var empty Ring
	for _, n := range []uint32{0, 1, math.MaxUint32} {
		if _, ok := empty.Get(n, nil); ok {
			t.Errorf("an empty ring has packet %d", n)
		}
	}
	for _, tt := range []struct {
		every time.Duration
		size  int // at most
		most  int // bytes of memory
	}{{10 * time.Millisecond, 1200, 48 << 10}, {time.Millisecond, 100, 48 << 10}, {time.Millisecond, MaxPacket, ringMost}, {100 * time.Millisecond, 1200, 16 << 10}} {
		rnd := rand.New(rand.NewPCG(1, uint64(tt.size)))
		r := Ring{newest: math.MaxUint32 - 3000}
		r.oldest = r.newest + 1
		type kept struct {
			name uint32
			b    []byte
			at   time.Time
		}
		var all []kept
		at := start
		for range 5000 {
			at = at.Add(tt.every)
			b := make([]byte, 1+rnd.IntN(tt.size))
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			n := r.Put(b, at)
			if n == 0 {
				t.Fatal("a packet is called 0")
			}
			if len(all) > 0 && n < all[len(all)-1].name { // they came round
				all = nil
			}
			if all = append(all, kept{n, b, at}); len(all) > 2*RingPackets {
				all = all[1:]
			}
			for _, k := range all[max(0, len(all)-1-rnd.IntN(2*RingPackets)):][:1] {
				got, ok := r.Get(k.name, []byte("dst "))
				if young := at.Sub(k.at) < ringTime-50*time.Millisecond; ok && string(got) != "dst "+string(k.b) || !ok && (string(got) != "dst " || young && tt.most < ringMost) {
					t.Fatalf("%d of %s ago: %t, the same %t", k.name, at.Sub(k.at), ok, string(got) == "dst "+string(k.b))
				}
			}
			if _, ok := r.Get(n+1, nil); ok {
				t.Fatal("a packet that has not come is there")
			}
		}
		if got := held(t, &r); got > tt.most {
			t.Errorf("a packet of up to %d bytes each %s: %d bytes of memory, want %d", tt.size, tt.every, got, tt.most)
		}
		for range 2 * RingPackets {
			at = at.Add(100 * time.Millisecond)
			r.Put(make([]byte, 100), at)
		}
		if got := held(t, &r); got > 2*chunkSize {
			t.Errorf("a packet of 100 bytes each 100 ms, after what was more: %d bytes of memory, want %d", got, 2*chunkSize)
		}
	}
}

// held is the memory of what a ring keeps, in bytes.
func held(t *testing.T, r *Ring) (n int) {
	for _, c := range r.chunks {
		if c.chunk != nil {
			n += chunkSize
		}
	}
	if n != int(r.head-r.tail)*chunkSize {
		t.Errorf("%d bytes are held, %d chunks in use", n, r.head-r.tail)
	}
	return n
}
