package bwe

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

var epoch = time.Unix(1_000_000, 0)

// read decodes a marshalled report, apart from this package's own reading of it: what came, in
// ticks, and how many are said to be lost.
func read(t testing.TB, f *rtcp.TransportLayerCC) (came map[uint16]int64, lost int) {
	t.Helper()
	b, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 4*(int(f.Header.Length)+1) || len(b) > 1300 {
		t.Fatalf("%d octets, length says %d", len(b), 4*(int(f.Header.Length)+1))
	}
	var got rtcp.TransportLayerCC
	if err := got.Unmarshal(b); err != nil {
		t.Fatalf("%v: %x", err, b)
	}
	var symbols []uint16
	for _, c := range got.PacketChunks {
		switch c := c.(type) {
		case *rtcp.RunLengthChunk:
			for range c.RunLength {
				symbols = append(symbols, c.PacketStatusSymbol)
			}
		case *rtcp.StatusVectorChunk:
			symbols = append(symbols, c.SymbolList...)
		}
	}
	if n := len(symbols) - int(got.PacketStatusCount); n < 0 || n >= 14 {
		t.Fatalf("%d symbols for %d packets", len(symbols), got.PacketStatusCount)
	}
	came = map[uint16]int64{}
	at := int64(got.ReferenceTime) * 256
	for i, s := range symbols[:got.PacketStatusCount] {
		if s == rtcp.TypeTCCPacketNotReceived {
			lost++
			continue
		}
		at += got.RecvDeltas[0].Delta / 250
		got.RecvDeltas = got.RecvDeltas[1:]
		came[got.BaseSequenceNumber+uint16(i)] = at
	}
	if len(got.RecvDeltas) > 0 {
		t.Fatalf("%d deltas are left", len(got.RecvDeltas))
	}
	return came, lost
}

// check compares what all reports say with what came: seq to time since the epoch.
func check(t testing.TB, want map[uint16]time.Duration, a *Arrivals) {
	t.Helper()
	got := map[uint16]int64{}
	for {
		reports := a.Feedback(1, 2, nil)
		if len(reports) == 0 {
			break
		}
		for _, f := range reports {
			came, _ := read(t, f)
			for seq, at := range came {
				if _, twice := got[seq]; twice {
					t.Errorf("packet %d is reported twice", seq)
				}
				got[seq] = at
			}
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d packets reported of %d", len(got), len(want))
	}
	for seq, at := range want {
		ticks, ok := got[seq]
		if !ok {
			t.Errorf("packet %d is not reported", seq)
			continue
		}
		// Reference times are modulo 2^24 of 64 ms.
		const turn = 1 << 32 * tick
		off := (at - a.epoch.Sub(epoch) - time.Duration(ticks)*tick) % turn
		if off < 0 {
			off += turn
		}
		if off >= tick {
			t.Errorf("packet %d came at %v, reported %v off", seq, at, off)
		}
	}
}

func TestFeedbackGivesArrivalsBack(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			var a Arrivals
			seq := uint16(r.Uint32())
			at := time.Duration(0)
			a.Arrived(seq-1, epoch) // what lies before the first of all is not known to be missing
			check(t, map[uint16]time.Duration{seq - 1: 0}, &a)
			lossy, jumpy, late := r.Float64()/2, r.Float64()/20, r.Float64()/3
			for range 20 {
				want := map[uint16]time.Duration{}
				oldest := seq
				for range r.IntN(400) {
					switch {
					case r.Float64() < lossy:
						seq += uint16(r.IntN(40))
					case r.Float64() < jumpy:
						seq += uint16(r.IntN(behind)) // far, and never a turn in one report
						at += time.Duration(r.Int64N(int64(20 * time.Second)))
					}
					n := seq
					if back := uint16(1 + r.IntN(30)); r.Float64() < late && seq-oldest >= back {
						n -= back // late, and since the last report
					} else {
						seq++
					}
					at += time.Duration(r.Int64N(int64(8 * time.Millisecond)))
					if r.IntN(50) == 0 {
						at -= time.Duration(r.Int64N(int64(time.Second))) // the clock is set back
					}
					if int(seq-oldest) > 50_000 {
						break
					}
					if _, twice := want[n]; !twice {
						want[n] = at
					}
					a.Arrived(n, epoch.Add(at))
				}
				check(t, want, &a)
				seq += uint16(r.IntN(3))
			}
		})
	}
}

func TestArrivals(t *testing.T) {
	var a Arrivals
	arrive := func(seqs ...uint16) {
		for _, s := range seqs {
			a.Arrived(s, epoch)
		}
	}
	reported := func(what string, base, count uint16, lost int) {
		t.Helper()
		reports := a.Feedback(7, 8, nil)
		if len(reports) != 1 {
			t.Fatalf("%s: %d reports", what, len(reports))
		}
		f := reports[0]
		if _, n := read(t, f); f.SenderSSRC != 7 || f.MediaSSRC != 8 || f.BaseSequenceNumber != base || f.PacketStatusCount != count || n != lost {
			t.Errorf("%s: %+v, lost %d", what, f, n)
		}
	}
	if len(a.Feedback(1, 2, nil)) != 0 {
		t.Error("a report of nothing")
	}
	arrive(65534, 65535, 1)
	reported("across the turn", 65534, 4, 1)
	arrive(0, 65534, 1) // reported as lost, and as received
	if len(a.Feedback(1, 2, nil)) != 0 {
		t.Error("a second report of the same")
	}
	arrive(4, 3, 4)
	reported("losses between two reports", 2, 3, 1)
	arrive(5 + farthest)
	reported("a gap too wide to name", 5+farthest, 1, 0)
	if a.count != 3 {
		t.Errorf("feedback packet count %d", a.count)
	}
}

// A sender that jumps about neither makes us keep much nor say much at once.
func TestArrivalsStayBounded(t *testing.T) {
	var a Arrivals
	for i := range 100_000 {
		a.Arrived(uint16(i*9001), epoch.Add(time.Duration(i)*time.Minute))
		if i%2000 == 0 {
			if n := len(a.Feedback(1, 2, nil)); n > most {
				t.Fatalf("%d reports", n)
			}
		}
	}
	if len(a.list) > kept || cap(a.list) > 2*kept || len(a.reports) > most {
		t.Errorf("%d arrivals, %d reports kept", cap(a.list), len(a.reports))
	}
	for _, r := range a.reports {
		if cap(r.symbols) > 2*farthest {
			t.Errorf("%d symbols kept", cap(r.symbols))
		}
	}
}

func TestArrivalsAllocateNothing(t *testing.T) {
	var a Arrivals
	var dst []*rtcp.TransportLayerCC
	seq, at := uint16(0), epoch
	round := func() {
		for i := range 30 {
			seq += 1 + uint16(i%11/10) // some are lost
			at = at.Add(3 * time.Millisecond)
			a.Arrived(seq, at)
		}
		dst = a.Feedback(1, 2, dst[:0])
	}
	for range 10 {
		round()
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzArrivals takes four octets for each packet: how far its number is, and how much later it
// comes, both signed.
func FuzzArrivals(f *testing.F) {
	f.Add([]byte{0, 1, 0, 10, 0, 3, 1, 0, 255, 255, 0, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		var a Arrivals
		seq, at := uint16(0), epoch
		for ; len(b) >= 4; b = b[4:] {
			seq += uint16(b[0])<<8 | uint16(b[1])
			at = at.Add(time.Duration(int16(uint16(b[2])<<8|uint16(b[3]))) * time.Millisecond)
			a.Arrived(seq, at)
			if b[1]%16 == 7 {
				for _, r := range a.Feedback(1, 2, nil) {
					if came, _ := read(t, r); len(came) == 0 {
						t.Error("a report that nothing came")
					}
				}
			}
		}
		for n := 0; len(a.list) > 0; n++ {
			if n > kept {
				t.Fatal("what waits does not end")
			}
			for _, r := range a.Feedback(1, 2, nil) {
				read(t, r)
			}
		}
	})
}
