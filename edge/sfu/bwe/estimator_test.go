package bwe

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

func TestEstimatorKeepsItsLimits(t *testing.T) {
	if got := NewEstimator(10_000, floor, 2_000_000).Target(); got != floor {
		t.Errorf("started at %d below the floor", got)
	}
	if got := NewEstimator(10_000_000, floor, 2_000_000).Target(); got != 2_000_000 {
		t.Errorf("started at %d above the ceiling", got)
	}
}

// Without any feedback the target is halved each second of sending, and not when nothing is sent.
func TestSilence(t *testing.T) {
	e := NewEstimator(800_000, floor, 2_000_000)
	e.Sent(0, 1000, epoch)
	e.Sent(1, 1000, epoch.Add(900*time.Millisecond))
	if got := e.Target(); got != 800_000 {
		t.Errorf("target %d before a second", got)
	}
	e.Sent(2, 1000, epoch.Add(1100*time.Millisecond))
	e.Sent(3, 1000, epoch.Add(1200*time.Millisecond))
	if got := e.Target(); got != 400_000 {
		t.Errorf("target %d after a second", got)
	}
	var a Arrivals
	a.Arrived(3, epoch.Add(1300*time.Millisecond))
	for _, f := range a.Feedback(1, 2, nil) {
		feed(e, f, epoch.Add(1400*time.Millisecond))
	}
	before := e.Target()
	e.Sent(4, 1000, epoch.Add(time.Minute)) // nothing was sent meanwhile
	if got := e.Target(); got != before {
		t.Errorf("target %d after a pause, %d before", got, before)
	}
}

// A report that is not about what was sent, or that says again what is known, changes nothing.
func TestFeedbackOnOtherPackets(t *testing.T) {
	e := NewEstimator(300_000, floor, 2_000_000)
	var other, a Arrivals
	other.Arrived(20_000, epoch)
	other.Arrived(20_500, epoch.Add(time.Second))
	for i := range uint16(100) {
		at := epoch.Add(time.Duration(i) * 10 * time.Millisecond)
		e.Sent(i, 1000, at)
		if i%10 != 3 {
			a.Arrived(i, at.Add(20*time.Millisecond))
		}
	}
	reports := append(other.Feedback(1, 2, nil), a.Feedback(1, 2, nil)...)
	now := epoch.Add(1100 * time.Millisecond)
	feed(e, reports[0], now)
	if e.heard {
		t.Error("other packets were taken for ours")
	}
	feed(e, reports[1], now)
	loss, target := e.Loss(), e.Target()
	if loss < 0.04 || loss > 0.11 { // half way to 10 %
		t.Errorf("loss %v", loss)
	}
	feed(e, reports[1], now)
	if e.Loss() != loss || e.Target() != target {
		t.Errorf("the same report again: loss %v, target %d", e.Loss(), e.Target())
	}
}

// A probe asks for the octets of its rate, ends by itself, and is not repeated at once when what
// it asked for is not sent.
func TestPadding(t *testing.T) {
	e := NewEstimator(300_000, floor, 2_000_000)
	var a Arrivals
	seq, asked, media := uint16(0), 0, 0
	for now := time.Duration(0); now < 2*time.Second; now += 5 * time.Millisecond {
		at := epoch.Add(now)
		if now%(20*time.Millisecond) == 0 {
			e.Sent(seq, 100, at)
			media += 100
			seq++
		}
		a.Arrived(seq-1, at)
		if now%(100*time.Millisecond) == 0 {
			for _, f := range a.Feedback(1, 2, nil) {
				feed(e, f, at)
			}
		}
		if !e.probe.open && (e.Padding(0, at) != 0 || e.Padding(e.Target(), at) != 0) {
			t.Fatalf("padding at %v, and nothing is wanted", now)
		}
		if now >= time.Second {
			asked = max(asked, e.Padding(1_000_000, at))
		}
	}
	if want := 600_000 / 8 / 10; asked < want/2 || asked > 4*want {
		t.Errorf("asked for %d octets at most in a probe of %d", asked, want)
	}
	if e.Target() > 300_000 {
		t.Errorf("target %d without a probe", e.Target())
	}
	if e.probe.pause == 0 {
		t.Error("no pause after a probe that was not sent")
	}
}

// A long run of lost packets is looked up from the oldest that is remembered on.
func TestLongRunOfLost(t *testing.T) {
	e := NewEstimator(300_000, floor, 2_000_000)
	for i := range uint16(2000) {
		e.Sent(i, 1000, epoch.Add(time.Duration(i)*time.Millisecond))
	}
	feed(e, &rtcp.TransportLayerCC{PacketStatusCount: 2000, PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{RunLength: 1999},
		&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 1}}, RecvDeltas: []*rtcp.RecvDelta{{Type: rtcp.TypeTCCPacketReceivedSmallDelta}}}, epoch.Add(3*time.Second))
	if lost := e.history[1998%remembered].state == lost; !lost || e.Loss() < 0.49 {
		t.Errorf("loss %v, the newest lost %t", e.Loss(), lost)
	}
}

// What is lost while a queue stands is not taken for what the path always loses.
func TestLossWithAQueueIsNotInherent(t *testing.T) {
	for _, queue := range []time.Duration{0, 100 * time.Millisecond} {
		e := NewEstimator(300_000, floor, 2_000_000)
		e.delay.queue = queue
		e.shown.add(0, 1e6)
		for i := range 200 {
			e.losses.add(time.Duration(i)*10*time.Millisecond, 200, i%4 == 0) // 160 kbit/s
		}
		e.lossy(2 * time.Second)
		if got, want := e.losses.inherent > 0, queue == 0; got != want {
			t.Errorf("queue %v: inherent loss %v", queue, e.losses.inherent)
		}
	}
}

func TestProbeResult(t *testing.T) {
	const ms = time.Millisecond
	even := func(i int) time.Duration { return time.Duration(i) * 10 * ms }
	rows := []struct {
		name  string
		at    func(i int) time.Duration // when packet i of 1000 octets comes, sent at 10i ms; -1: never
		least float64
		most  float64
		fits  bool
		fails bool
	}{
		{name: "as sent", at: even, least: 800e3, most: 800e3, fits: true},
		{name: "half as fast", at: func(i int) time.Duration { return 2 * even(i) }, least: 300e3, most: 400e3},
		{name: "a bucket runs empty", at: func(i int) time.Duration { return even(i) + max(0, 4*even(i-7)) }, least: 100e3, most: 250e3},
		{name: "a third lost", at: func(i int) time.Duration {
			if i%3 == 1 {
				return -1
			}
			return even(i)
		}, least: 450e3, most: 620e3},
		{name: "most lost", at: func(i int) time.Duration {
			if i%3 > 0 {
				return -1
			}
			return even(i)
		}, fails: true},
		{name: "all at once", at: func(int) time.Duration { return 0 }, fails: true},
	}
	for _, r := range rows {
		var p probe
		p.begin(800e3, 0, 100*ms)
		for i := range 12 {
			p.sent(1000, even(i))
		}
		for i := range 12 {
			if at := r.at(i); at >= 0 {
				p.received(1000, even(i), 50*ms+at)
			}
		}
		rate, fits, ok := p.result(0)
		if ok == r.fails || fits != r.fits || rate < r.least || rate > r.most {
			t.Errorf("%s: rate %.0f fits %t ok %t", r.name, rate, fits, ok)
		}
	}
}

func TestEstimatorAllocatesNothing(t *testing.T) {
	e := NewEstimator(300_000, floor, 2_000_000)
	var reports [][]byte
	var a Arrivals
	seq, now := uint16(0), epoch
	round := func(sent func(), report func()) {
		for range 30 {
			seq++
			now = now.Add(3 * time.Millisecond)
			sent()
		}
		report()
	}
	for range 1200 {
		round(func() {
			if seq%9 != 0 {
				a.Arrived(seq, now.Add(20*time.Millisecond))
			}
		}, func() {
			for _, f := range a.Feedback(1, 2, nil) {
				raw, err := f.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				reports = append(reports, raw)
			}
		})
	}
	seq, now = 0, epoch
	run := func() {
		round(func() {
			e.Sent(seq, 1000, now)
			e.Padding(2_000_000, now)
		}, func() {
			e.Feedback(reports[0], now.Add(30*time.Millisecond))
			reports = reports[1:]
		})
	}
	for range 100 {
		run()
	}
	if n := testing.AllocsPerRun(1000, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if e.Target() < 1_000_000 {
		t.Errorf("target %d: nothing was heard", e.Target())
	}
}

// FuzzEstimator takes reports, each with its length before it in two octets, between packets
// that are sent.
// feed gives a report as it is on the wire.
func feed(e *Estimator, f *rtcp.TransportLayerCC, now time.Time) {
	raw, err := f.Marshal()
	if err != nil {
		panic(err)
	}
	e.Feedback(raw, now)
}

func FuzzEstimator(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		e := NewEstimator(300_000, floor, 2_000_000)
		seq, now := uint16(65_500), epoch
		for len(b) >= 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			report := b[2 : 2+n]
			b = b[2+n:]
			for range 30 {
				e.Sent(seq, 1000, now)
				if e.Padding(1_000_000, now) < 0 {
					t.Fatal("less than no padding")
				}
				seq++
				now = now.Add(2 * time.Millisecond)
			}
			e.Feedback(report, now)
			if v := e.target; !(v >= floor && v <= 2_000_000) {
				t.Fatalf("target %v", v)
			}
			if v := e.Loss(); !(v >= 0 && v <= 1) {
				t.Fatalf("loss %v", v)
			}
			if v := e.losses.inherent; !(v >= 0 && v <= 1) {
				t.Fatalf("inherent loss %v", v)
			}
			if v := e.Queue(); v < 0 {
				t.Fatalf("queue %v", v)
			}
		}
	})
}

// Two octets of a report can speak of 8,191 packets: what it costs is bounded by what we remember.
func BenchmarkFeedbackOfNothing(b *testing.B) {
	e := NewEstimator(300_000, floor, 2_000_000)
	e.Sent(0, 1000, epoch)
	f := &rtcp.TransportLayerCC{PacketStatusCount: 65_535}
	for range 8 {
		f.PacketChunks = append(f.PacketChunks, &rtcp.RunLengthChunk{RunLength: 8191})
	}
	b.ReportAllocs()
	for b.Loop() {
		feed(e, f, epoch)
	}
}

// BenchmarkEstimator is 20 packets a report, by packet.
func BenchmarkEstimator(b *testing.B) {
	e := NewEstimator(300_000, floor, 2_000_000)
	var a Arrivals
	var dst []*rtcp.TransportLayerCC
	seq, now := uint16(0), epoch
	b.ReportAllocs()
	for b.Loop() {
		seq++
		now = now.Add(5 * time.Millisecond)
		e.Sent(seq, 1000, now)
		a.Arrived(seq, now.Add(20*time.Millisecond))
		if seq%20 == 0 {
			dst = a.Feedback(1, 2, dst[:0])
			for _, f := range dst {
				feed(e, f, now.Add(30*time.Millisecond))
			}
		}
	}
}

// TestTrip: the shortest response of late is known, and forgotten once the path is longer.
func TestTrip(t *testing.T) {
	for _, delay := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond} {
		sc := scenario{link: link{rate: constant(5e6), limit: 100_000, delay: delay}, length: secs(20), video: 500_000}.filled()
		e := NewEstimator(sc.start, floor, sc.ceiling)
		if e.Trip() != 0 {
			t.Errorf("%v before anything came", e.Trip())
		}
		sc.run(e, time.Unix(1000, 0), nil)
		if got := e.Trip(); got < 2*delay || got > 2*delay+30*time.Millisecond {
			t.Errorf("%v there and back over %v each way", got, delay)
		}
	}
}

// TestReceiversClockJumps: the clock by which a peer says when packets came is set, either way and
// by any amount. What the path carries is the same as before within two seconds; a small step ahead
// is what a queue looks like, until that is the least delay for as long as is remembered.
func TestReceiversClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{50 * time.Millisecond, -50 * time.Millisecond, time.Second, -time.Second, 4 * time.Second, -4 * time.Second,
		time.Hour, -time.Hour, 17 * 24 * time.Hour, -17 * 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			e := NewEstimator(800_000, floor, 2_000_000)
			var seq uint16
			var ref, set int64 // of a report, and the receiver's clock, in ticks
			now := epoch
			second := func() {
				for range 10 {
					var body []byte
					first := seq
					ref = int64(now.Sub(epoch)/tick) + set
					was := ref >> 8 << 8
					for i := range int64(10) {
						at := now.Add(time.Duration(i) * 10 * time.Millisecond)
						e.Sent(seq, 1000, at)
						seq++
						came := int64(at.Add(20*time.Millisecond).Sub(epoch)/tick) + set
						body = binary.BigEndian.AppendUint16(body, uint16(came-was))
						was = came
					}
					r := make([]byte, 20, 64)
					r[0], r[1] = 0x8f, 205
					binary.BigEndian.PutUint16(r[12:], first)
					binary.BigEndian.PutUint16(r[14:], 10)
					r[16], r[17], r[18] = byte(ref>>24), byte(ref>>16), byte(ref>>8)
					r = binary.BigEndian.AppendUint16(r, 2<<13|10) // ten that came, with two octets each
					now = now.Add(100 * time.Millisecond)
					e.Feedback(append(r, body...), now.Add(20*time.Millisecond))
				}
			}
			for range 10 {
				second()
			}
			before := e.Target()
			if before < 700_000 {
				t.Fatalf("%d bit/s before the jump: not what this is about", before)
			}
			set += int64(jump / tick)
			within := 2
			if jump > 0 && jump <= 3*time.Second {
				within = 20
			}
			for i := range within + 3 {
				second()
				if got := e.Target(); i >= within && got < before*3/4 || got < floor || got > 2_000_000 {
					t.Errorf("%d bit/s %d s after the jump, %d before", got, i+1, before)
				}
			}
		})
	}
}
