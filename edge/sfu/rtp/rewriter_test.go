package rtp

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

var start = time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)

func packet(ssrc uint32, seq uint16, ts uint32) *Packet {
	return &Packet{SSRC: ssrc, Seq: seq, Timestamp: ts, PayloadType: 96, Payload: []byte{1}}
}

// TestRewriter walks one stream through its life. Each step is one packet in, at
// milliseconds from the start; out is where it comes out, relative to the first.
func TestRewriter(t *testing.T) {
	const a, b = 0xa, 0xb
	type step struct {
		what   string
		hold   bool
		ms     int
		ssrc   uint32
		seq    uint16
		ts     uint32
		drop   bool
		outSeq int
		outTS  int
	}
	r := NewRewriter(0x5517, 90000, 1000, window)
	var h rtp.Header
	for _, s := range []step{
		{what: "first", ssrc: a, seq: 65534, ts: 0, outSeq: 0, outTS: 0},
		{what: "one lost", ms: 66, ssrc: a, seq: 0, ts: 6000, outSeq: 2, outTS: 6000},
		{what: "the lost one late", ms: 70, ssrc: a, seq: 65535, ts: 3000, outSeq: 1, outTS: 3000},
		{what: "a duplicate", ms: 71, ssrc: a, seq: 65535, ts: 3000, drop: true},
		{what: "from before the first", ms: 72, ssrc: a, seq: 65533, ts: 0, drop: true},
		{what: "after a pause: no gap in numbers, the pause in time", hold: true, ms: 10_000, ssrc: a, seq: 300, ts: 900_000, outSeq: 3, outTS: 900_000},
		{what: "from the pause", ms: 10_001, ssrc: a, seq: 299, ts: 899_000, drop: true},
		{what: "on", ms: 10_033, ssrc: a, seq: 301, ts: 903_000, outSeq: 4, outTS: 903_000},
		{what: "from before the next pause", hold: true, ms: 10_034, ssrc: a, seq: 301, ts: 903_000, drop: true},
		{what: "another source, 100 ms later", ms: 10_133, ssrc: b, seq: 50_000, ts: 77, outSeq: 5, outTS: 912_000},
		{what: "its next", ms: 10_166, ssrc: b, seq: 50_001, ts: 3077, outSeq: 6, outTS: 915_000},
		{what: "its clock and numbers begin anew", ms: 10_266, ssrc: b, seq: 10, ts: 5, outSeq: 7, outTS: 924_000},
		{what: "a large loss is no new beginning", ms: 20_000, ssrc: b, seq: 2010, ts: 900_005, outSeq: 2007, outTS: 1_824_000},
		{what: "too old after it", ms: 20_001, ssrc: b, seq: 900, ts: 400_000, drop: true},
	} {
		if s.hold {
			r.Hold()
		}
		ok := r.Forward(packet(s.ssrc, s.seq, s.ts), Origin{Packet: 1}, start.Add(time.Duration(s.ms)*time.Millisecond), &h)
		if ok == s.drop {
			t.Fatalf("%s: forwarded %t", s.what, ok)
		}
		if s.drop {
			continue
		}
		if h.SSRC != 0x5517 || h.Version != 2 || h.PayloadType != 96 {
			t.Errorf("%s: header %+v", s.what, h)
		}
		if seq, ts := int(h.SequenceNumber)-1000, int(h.Timestamp); seq != s.outSeq || ts != s.outTS {
			t.Errorf("%s: out %d at %d, want %d at %d", s.what, seq, ts, s.outSeq, s.outTS)
		}
	}
	if packets, octets := r.Sent(); packets != 9 || octets != 9 {
		t.Errorf("sent %d packets, %d octets, want 9 and 9", packets, octets)
	}
}

func TestRewriterAgain(t *testing.T) {
	r := NewRewriter(1, 90000, 0, 64)
	var h, again rtp.Header
	forward := func(ssrc uint32, seq uint16, n uint32) uint16 {
		if !r.Forward(packet(ssrc, seq, uint32(seq)*3000), Origin{Packet: n}, start, &h) {
			t.Fatalf("packet %d not forwarded", seq)
		}
		return h.SequenceNumber
	}
	out := forward(7, 500, 11)
	first := h
	forward(7, 502, 12)
	source := func(what string, out uint16, want uint32) {
		t.Helper()
		if o, ok := r.Source(out); o.Packet != want || ok != (want != 0) {
			t.Errorf("%s: source of %d: %+v %t, want %d", what, out, o, ok, want)
		}
	}
	source("at once", out, 11)
	if !r.Again(packet(7, 500, 500*3000), out, &again) || again.SequenceNumber != first.SequenceNumber ||
		again.Timestamp != first.Timestamp || again.SSRC != first.SSRC {
		t.Errorf("again %+v, want %+v", again, first)
	}
	if r.Again(packet(7, 502, 0), out, &again) {
		t.Error("another packet can be sent under the number")
	}
	source("never forwarded", out+1, 0)
	source("to come", out+3, 0)
	source("before the first", out-1, 0)
	r.Hold()
	forward(7, 600, 13)
	forward(8, 600, 14)
	source("after a pause and of another source", out, 11)
	if !r.Again(packet(7, 500, 500*3000), out, &again) || again.Timestamp != first.Timestamp {
		t.Errorf("after a pause: again %+v, want %+v", again, first)
	}
	if late := forward(7, 501, 15); late != out+1 {
		t.Errorf("late, after its source was left: number %d, want %d, which was left for it", late, out+1)
	}
	for seq := range uint16(64) {
		forward(8, 700+seq, 16)
	}
	source("too long ago", out, 0)
	last := forward(8, 764, 17)
	r.Forget()
	source("of another publisher's ring", last, 0)
	if next := forward(8, 765, 1); next != last+1 {
		t.Errorf("number %d after %d", next, last)
	}
}

// TestRewriterLeave: packets that are left out leave no gap, but where one was missed in time.
func TestRewriterLeave(t *testing.T) {
	const a, b = 0xa, 0xb
	const none = -1
	r := NewRewriter(1, 90000, 0, 64)
	var h rtp.Header
	step := func(what string, leave bool, ssrc uint32, seq uint16, want int) {
		t.Helper()
		p := packet(ssrc, seq, uint32(seq)*3000)
		p.Marker = true
		got := none
		if leave && r.Leave(p, Origin{}, &h) || !leave && r.Forward(p, Origin{}, start, &h) {
			got = int(h.SequenceNumber)
			if o, ok := r.Source(h.SequenceNumber); !ok || o.Empty != leave || h.Marker == leave {
				t.Errorf("%s: %+v %t, header %+v", what, o, ok, h)
			}
		}
		if got != want {
			t.Errorf("%s: number %d, want %d", what, got, want)
		}
	}
	const forward, leave = false, true
	step("left out before anything", leave, a, 9, none)
	step("first", forward, a, 10, 0)
	step("left out", leave, a, 11, none)
	step("after it", forward, a, 12, 1)
	step("left out after a loss", leave, a, 14, none)
	step("after both", forward, a, 15, 3)
	step("the lost one", forward, a, 13, 2)
	step("after another loss", forward, a, 17, 5)
	step("the lost one is left out", leave, a, 16, 4)
	step("and comes twice", forward, a, 16, none)
	step("left out, twice", leave, a, 11, none)
	step("left out, and meant after all", forward, a, 14, none)
	step("left out at a loss, before a turn", leave, a, 20, none)
	r.Turn(0, false)
	step("another source", forward, b, 500, 8)
	step("late of the one before", forward, a, 19, 7)
	step("late of the one before, left out", leave, a, 18, 6)
	step("never seen of the one before", leave, a, 21, none)
	step("its next", forward, b, 501, 9)
	step("after a loss", forward, b, 503, 11)
	r.Turn(0, false)
	step("the first source again", forward, a, 40, 12)
	r.Turn(0, false)
	step("and the other", forward, b, 600, 13)
	step("late of its time before", forward, b, 502, 10)
	step("and twice", forward, b, 502, none)
	step("far ahead, left out", leave, b, 5000, none)
	step("begins anew, then", forward, b, 5001, 14)
	seq := uint16(5001)
	for range 100 { // each a loss, which in sum would lead too far
		seq += 2000
		step("left out among losses", leave, b, seq, none)
	}
	p := packet(b, seq+1, 0)
	if !r.Forward(p, Origin{}, start, &h) || h.SequenceNumber > 14+maxJump {
		t.Errorf("number %d after 14", h.SequenceNumber)
	}
}

// TestRewriterTurn: where a source's timestamps are laid.
func TestRewriterTurn(t *testing.T) {
	const rate = 90000
	for _, row := range []struct {
		what  string
		ssrc  uint32
		ts    uint32
		ahead uint32
		known bool
		ms    int
		want  uint32
	}{
		{"by arrival, when nothing is known", 2, 777, 0, false, 50, 10_000 + 4500},
		{"by the clocks, whenever it comes", 2, 500_000 + 13_000, 500_000, true, 50, 13_000},
		{"by the clocks, which are behind", 2, 1<<32 - 487_000, 1<<32 - 500_000, true, 50, 13_000},
		{"never backwards", 2, 500_000 + 7000, 500_000, true, 50, 10_001},
		{"nor the same twice", 2, 500_000 + 10_000, 500_000, true, 50, 10_001},
		{"by arrival, when the clocks say nonsense", 2, 5_000_000, 500_000, true, 50, 10_000 + 4500},
		{"the same source after a pause", 1, 910_000, 77, true, 10_020, 910_000},
		{"the same source, begun anew", 1, 5, 0, false, 10_000, 910_000},
	} {
		r := NewRewriter(1, rate, 0, 64)
		var h rtp.Header
		r.Forward(packet(1, 100, 10_000), Origin{}, start, &h)
		r.Turn(row.ahead, row.known)
		if !r.Forward(packet(row.ssrc, 7, row.ts), Origin{}, start.Add(time.Duration(row.ms)*time.Millisecond), &h) || h.SequenceNumber != 1 || h.Timestamp != row.want {
			t.Errorf("%s: number %d at %d, want 1 at %d", row.what, h.SequenceNumber, h.Timestamp, row.want)
		}
	}
}

// TestRewriterPast: what was left out or may still come is before what begins next.
func TestRewriterPast(t *testing.T) {
	r := NewRewriter(1, 90000, 0, 64)
	var h rtp.Header
	r.Forward(packet(1, 100, 10_000), Origin{}, start, &h)
	r.Leave(packet(1, 102, 19_000), Origin{}, &h)
	r.Turn(0, true)
	if !r.Forward(packet(2, 7, 13_000), Origin{}, start.Add(50*time.Millisecond), &h) || h.Timestamp != 19_001 {
		t.Errorf("it begins at %d, want 19001", h.Timestamp)
	}
	if r.Late(packet(3, 1, 0), Origin{}, &h) || r.Late(packet(2, 8, 0), Origin{}, &h) {
		t.Error("what is not late goes on")
	}
	if !r.Late(packet(1, 101, 16_000), Origin{}, &h) || h.SequenceNumber != 1 || h.Timestamp != 16_000 {
		t.Errorf("late: number %d at %d, want 1 at 16000", h.SequenceNumber, h.Timestamp)
	}
}

// TestNumbersAreSpentOnce feeds nonsense and asks what GCM needs: no number twice
// within a rollover but for the same bytes, none far from the last. NACKs come at any time,
// and find all that is not long ago.
func TestNumbersAreSpentOnce(t *testing.T) {
	asked, found, empty := 0, 0, 0
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := NewRewriter(1, 90000, uint16(rnd.Uint32()), window)
		ring := new(Ring)
		used := map[uint64]Packet{} // as it was sent
		when := map[uint64]uint32{}
		forgot := uint32(0)
		var h rtp.Header
		var newest uint64 // extended
		started := false
		seq := uint16(rnd.Uint32())
		for i := range uint32(20_000) {
			switch rnd.IntN(100) {
			case 0:
				seq = uint16(rnd.Uint32()) // jump
			case 1:
				r.Hold()
			case 2, 3, 4, 5:
				seq -= uint16(rnd.IntN(1500)) // disorder
			default:
				seq += uint16(rnd.IntN(4))
			}
			if rnd.IntN(2000) == 0 {
				ring, forgot = new(Ring), i
				r.Forget()
			}
			raw, _ := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 96, SSRC: 1 + rnd.Uint32N(400)/399, SequenceNumber: seq, Timestamp: rnd.Uint32()},
				Payload: []byte{byte(i >> 16), byte(i >> 8), byte(i)}}).Marshal()
			p, err := Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if rnd.IntN(300) == 0 {
				r.Turn(rnd.Uint32(), rnd.IntN(2) == 0)
			}
			at := start.Add(time.Duration(i) * time.Millisecond)
			o := Origin{Packet: ring.Put(raw, at), Picture: uint16(i)}
			out := false
			if rnd.IntN(3) == 0 {
				o.Empty = true
				out, p.Payload, p.Marker = r.Leave(&p, o, &h), nil, false
				if out {
					empty++
				}
			} else {
				out = r.Forward(&p, o, at, &h)
			}
			if out {
				if !started {
					started, newest = true, 1<<16+uint64(h.SequenceNumber)
				}
				step := int(int16(h.SequenceNumber - uint16(newest)))
				if step > maxJump || step <= -window {
					t.Fatalf("seed %d, packet %d: a step of %d", seed, i, step)
				}
				number := newest + uint64(step)
				if _, twice := used[number]; twice {
					t.Fatalf("seed %d, packet %d: number %d spent twice", seed, i, number)
				}
				used[number] = Packet{Timestamp: h.Timestamp, Marker: h.Marker, Payload: p.Payload}
				when[number], newest = i, max(newest, number)
			}
			number := newest - rnd.Uint64N(300)
			was, sent := used[number]
			o, ok := r.Source(uint16(number))
			if ok && !sent {
				t.Fatalf("seed %d, packet %d: number %d can be sent again, and was never sent", seed, i, number)
			}
			young := sent && when[number] >= forgot && time.Duration(i-when[number])*time.Millisecond < ringTime && r.seq-uint16(number) < window
			if young {
				asked++
			}
			if !ok {
				continue
			}
			raw, ok = ring.Get(o.Packet, nil)
			if !ok {
				continue
			}
			if p, err = Parse(raw); err != nil {
				t.Fatal(err)
			}
			if o.Empty {
				p.Payload, p.Marker = nil, false
			}
			if r.Again(&p, uint16(number), &h) {
				if young {
					found++
				}
				if again := (Packet{Timestamp: h.Timestamp, Marker: h.Marker, Payload: p.Payload}); h.SequenceNumber != uint16(number) || !reflect.DeepEqual(again, was) {
					t.Fatalf("seed %d, packet %d: number %d again: %+v, was %+v", seed, i, number, again, was)
				}
			}
		}
	}
	if found != asked || asked == 0 || empty == 0 {
		t.Errorf("of %d numbers that were asked for %d were sent again; %d empty", asked, found, empty)
	}
}

// TestPauseSurvivesSRTP: a subscriber that wanted no video for more than half the
// sequence numbers. Passed on as a gap, the numbers would be taken for old ones: the
// sender would spend nonces again, and the receiver drop it all as replays.
func TestPauseSurvivesSRTP(t *testing.T) {
	key, salt := make([]byte, 16), make([]byte, 12)
	tx, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	rx, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm, srtp.SRTPReplayProtection(64))
	if err != nil {
		t.Fatal(err)
	}
	r := NewRewriter(1, 90000, 0, window)
	send := func(n int) {
		var h rtp.Header
		if !r.Forward(packet(7, uint16(n), uint32(n)*3000), Origin{Packet: 1}, start, &h) {
			t.Fatalf("packet %d not forwarded", n)
		}
		b, _ := (&rtp.Packet{Header: h, Payload: []byte{1}}).Marshal()
		b, err := tx.EncryptRTP(nil, b, nil)
		if err == nil {
			_, err = rx.DecryptRTP(nil, b, nil)
		}
		if err != nil {
			t.Fatalf("packet %d: %v", n, err)
		}
	}
	for n := range 1<<16 + 4000 { // past a rollover
		send(n)
	}
	r.Hold()
	for n := range 4000 {
		send(1<<16 + 44_000 + n)
	}
}

func TestForwardAllocatesNothing(t *testing.T) {
	forward := packetPath(5)
	for range RingPackets {
		forward() // warm
	}
	if n := testing.AllocsPerRun(1000, forward); n != 0 {
		t.Errorf("%v allocations a packet, want 0", n)
	}
}

// BenchmarkForward is the packet path but for encryption and sending: one packet to
// five subscribers.
func BenchmarkForward(b *testing.B) {
	forward := packetPath(5)
	b.ReportAllocs()
	for b.Loop() {
		forward()
	}
}

func packetPath(subscribers int) func() {
	raw, _ := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 96, SSRC: 9}, Payload: make([]byte, 1100)}).Marshal()
	rx := NewReceiver(9, 90000)
	var gaps Gaps
	var ring Ring
	var due []uint16
	lines := make([]Rewriter, subscribers)
	headers := make([]rtp.Header, subscribers)
	for i := range lines {
		lines[i] = NewRewriter(uint32(i), 90000, 0, window)
	}
	at := start
	var seq uint16
	return func() {
		seq++
		at = at.Add(time.Millisecond)
		raw[2], raw[3] = byte(seq>>8), byte(seq)
		p, err := Parse(raw)
		if err != nil {
			panic(err)
		}
		rx.Receive(&p, at)
		n := ring.Put(raw, at)
		gaps.Seen(p.Seq, at)
		due = gaps.Due(at, time.Second, due[:0])
		for i := range lines {
			if !lines[i].Forward(&p, Origin{Packet: n}, at, &headers[i]) {
				panic("not forwarded")
			}
		}
	}
}
