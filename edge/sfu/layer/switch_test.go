package layer

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/rtp"
)

// desk is a switch with packets put to it by hand: of VP8, each frame one packet.
type desk struct {
	t      *testing.T
	out    rtp.Rewriter
	sw     Switch
	clocks Clocks
	at     time.Time
	seq    [Layers]uint16
	n      uint32
	sent   []pion.Header
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, out: rtp.NewRewriter(9, 90000, 1, 64), clocks: Clocks{Rate: 90000}, at: start}
	d.sw = NewSwitch(&d.out)
	return d
}

type kind uint8

const (
	keyframe kind = iota
	t0
	t1
	t1sync
	t2sync
)

// frames brings one frame of each of the layers at one time, and tells which went on.
func (d *desk) frames(k kind, layers ...int) (went []int) {
	d.t.Helper()
	d.at = d.at.Add(tick)
	for _, l := range layers {
		d.seq[l]++
		d.n++
		b := []byte{0x90, 0x20, [...]byte{0, 0, 0x40, 0x60, 0xa0}[k], 1}
		if k == keyframe {
			b[3] = 0
		}
		p := &rtp.Packet{SSRC: uint32(l + 1), Seq: d.seq[l], Timestamp: uint32(l)*1_000_000 + uint32(d.at.Sub(start)/tick)*ticks, Marker: true, Payload: b}
		var h pion.Header
		o, ok := d.sw.Packet(&Packet{Layer: l, RTP: p, Descriptor: Describe(VP8, p), N: d.n}, &d.clocks, d.at, &h)
		if ok && !o.Empty {
			went = append(went, l)
			d.sent = append(d.sent, h)
		}
		if _, _, due := d.sw.Due(); due {
			d.t.Error("packets are due")
		}
	}
	return went
}

func (d *desk) expect(what string, got []int, want ...int) {
	d.t.Helper()
	if len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
		d.t.Errorf("%s: layers %d went on, want %d", what, got, want)
	}
}

func (d *desk) needs(what string, want int) {
	d.t.Helper()
	if l, ok := d.sw.Needs(); ok != (want >= 0) || ok && l != want {
		d.t.Errorf("%s: needs a keyframe of layer %d %t, want %d", what, l, ok, want)
	}
}

func TestSwitch(t *testing.T) {
	d := newDesk(t)
	d.expect("nothing wanted", d.frames(keyframe, 0, 1, 2))
	d.needs("nothing wanted", -1)
	d.sw.Want(1, 2)
	d.expect("no keyframe yet", d.frames(t0, 0, 1, 2))
	d.needs("no keyframe yet", 1)
	d.expect("a higher layer's keyframe", d.frames(keyframe, 2))
	d.expect("a lower one's is better than none", d.frames(keyframe, 0), 0)
	d.needs("below", 1)
	d.expect("no need to leave it yet", d.frames(t0, 0, 1, 2), 0)
	d.expect("the keyframe", d.frames(keyframe, 1), 1)
	d.needs("there", -1)
	d.sw.Want(2, 2)
	d.needs("more wanted", 2)
	d.expect("stays", d.frames(t0, 0, 1, 2), 1)
	d.sw.Want(0, 2)
	d.needs("less wanted", 0)
	d.expect("stays", d.frames(t0, 0, 1, 2), 1)
	d.expect("down", d.frames(keyframe, 0), 0)
	d.expect("below", d.frames(t0, 0, 1, 2), 0)
	d.sw.Want(-1, 2)
	d.expect("paused", d.frames(t0, 0, 1, 2))
	d.needs("paused", -1)
	d.sw.Want(0, -1)
	d.expect("paused with a negative temporal layer", d.frames(keyframe, 0, 1, 2))
	d.sw.Want(0, 2)
	d.needs("resumed", 0)
	d.expect("resumed, no keyframe", d.frames(t0, 0, 1, 2))
	d.expect("resumed", d.frames(keyframe, 0), 0)
	for i, h := range d.sent {
		if h.SequenceNumber != uint16(1+i) {
			t.Errorf("packet %d has number %d", i, h.SequenceNumber)
		}
		if i > 0 && int32(h.Timestamp-d.sent[i-1].Timestamp) <= 0 {
			t.Errorf("packet %d at %d, after %d", i, h.Timestamp, d.sent[i-1].Timestamp)
		}
	}
}

// TestSwitchBars: what a path loses already does not go on until the keyframe of less.
func TestSwitchBars(t *testing.T) {
	d := newDesk(t)
	d.sw.Want(2, 2)
	d.expect("the keyframe of more", d.frames(keyframe, 2), 2)
	d.sw.Want(0, 2)
	d.expect("not barred", d.frames(t0, 0, 1, 2), 2)
	d.sw.Bar(1<<1 | 1<<2)
	d.expect("barred", d.frames(t0, 0, 1, 2))
	d.needs("barred", 0)
	if d.sw.Wants(2) || !d.sw.Wants(0) {
		t.Error("what was lost of the barred one is wanted")
	}
	d.expect("other keyframes", d.frames(keyframe, 1, 2))
	d.expect("the keyframe", d.frames(keyframe, 0), 0)
	d.sw.Bar(0)
	d.sw.Want(2, 2)
	d.expect("up", d.frames(keyframe, 2), 2)
}

func TestSwitchTemporal(t *testing.T) {
	d := newDesk(t)
	d.sw.Want(0, 0)
	d.expect("keyframe", d.frames(keyframe, 0), 0)
	d.expect("one too many", d.frames(t1, 0))
	d.sw.Want(0, 2)
	d.expect("two at once", d.frames(t2sync, 0))
	d.expect("no sync", d.frames(t1, 0))
	d.expect("sync", d.frames(t1sync, 0), 0)
	d.expect("after it", d.frames(t1, 0), 0)
	d.expect("the next", d.frames(t2sync, 0), 0)
	d.sw.Want(0, 1)
	d.expect("down", d.frames(t2sync, 0))
	d.expect("down to", d.frames(t1, 0), 0)
	d.sw.Want(0, 0)
	d.expect("further down", d.frames(t1sync, 0))
	d.sw.Want(0, 2)
	d.expect("up, at a keyframe", d.frames(keyframe, 0), 0)
	d.expect("after it", d.frames(t2sync, 0), 0)
	if last := d.sent[len(d.sent)-1].SequenceNumber; int(last) != len(d.sent) {
		t.Errorf("%d packets have gone on, the last with number %d", len(d.sent), last)
	}
}

// TestSwitchLayerGone: a sender that cannot afford a layer stops it, and says nothing.
func TestSwitchLayerGone(t *testing.T) {
	d := newDesk(t)
	d.sw.Want(2, 2)
	d.expect("all at once: from the lowest up", d.frames(keyframe, 0, 1, 2), 0, 1, 2)
	for range stalled {
		d.frames(t0, 0, 1)
		d.needs("it may be late", -1)
	}
	d.frames(t0, 0, 1)
	d.needs("gone", 1)
	d.expect("the next best", d.frames(keyframe, 1), 1)
	d.needs("nothing better comes", -1)
	d.expect("below, the same", d.frames(keyframe, 0))
	d.expect("it is back", d.frames(keyframe, 2), 2)
	d.expect("all as before", d.frames(t0, 0, 1, 2), 2)
	for range stalled + 1 {
		d.frames(t0, 0)
	}
	d.needs("two are gone", 0)
	d.expect("back before a keyframe of another came", d.frames(t0, 2), 2)
	d.needs("back", -1)

	// A source that begins anew in the same layer.
	d.seq[2] += 10_000
	d.expect("another stream, in its middle", d.frames(t0, 0, 1, 2))
	d.needs("another stream", 2)
	d.expect("its keyframe", d.frames(keyframe, 2), 2)

	d.sw.Forget()
	d.expect("another publisher, in the middle", d.frames(t0, 0, 1, 2))
	d.expect("its keyframe", d.frames(keyframe, 2), 2)
	if last := d.sent[len(d.sent)-1].SequenceNumber; int(last) != len(d.sent) {
		t.Errorf("%d packets have gone on, the last with number %d", len(d.sent), last)
	}
}

// TestSwitchWaits: a frame that was begun is finished before the next layer's keyframe goes on,
// which is taken from the ring. Its last packets are not taken for something new when they come
// too late.
func TestSwitchWaits(t *testing.T) {
	out := rtp.NewRewriter(9, 90000, 1, 16)
	sw := NewSwitch(&out)
	sw.Want(1, 2)
	var h pion.Header
	put := func(l int, seq uint16, ts uint32, n uint32, first byte, marker bool) bool {
		p := &rtp.Packet{SSRC: uint32(l + 1), Seq: seq, Timestamp: ts, Marker: marker, Payload: []byte{first, 1}}
		if first == 0xff {
			p.Payload = []byte{0x10, 0}
		}
		_, ok := sw.Packet(&Packet{Layer: l, RTP: p, Descriptor: Describe(VP8, p), N: n}, nil, start, &h)
		return ok
	}
	const key, begin, more = 0xff, 0x10, 0x00
	if !put(0, 1, 0, 1, key, true) || !put(0, 2, 3000, 2, begin, false) {
		t.Fatal("nothing goes on")
	}
	if put(1, 1, 3000, 1, key, true) || put(1, 2, 6000, 2, begin, true) {
		t.Error("the next layer goes on before the frame is finished")
	}
	if _, _, ok := sw.Due(); ok {
		t.Error("packets are due before the frame is finished")
	}
	if !put(0, 4, 3000, 3, more, true) || sw.Current() != 0 {
		t.Error("the end of the frame does not go on")
	}
	for want := uint32(1); want <= 2; want++ {
		l, n, ok := sw.Due()
		if !ok || l != 1 || n != want {
			t.Fatalf("packet %d of layer %d is due %t, want %d of layer 1", n, l, ok, want)
		}
		if first := byte(begin); n == 1 && !put(1, 1, 3000, n, key, true) || n == 2 && !put(1, 2, 6000, n, first, true) {
			t.Errorf("packet %d does not go on", n)
		}
	}
	if _, n, ok := sw.Due(); ok || sw.Current() != 1 || h.SequenceNumber != 6 {
		t.Errorf("packet %d is due %t; layer %d, number %d", n, ok, sw.Current(), h.SequenceNumber)
	}
	for i := range uint16(20) {
		if !put(1, 3+i, 9000+3000*uint32(i), 3+uint32(i), begin, true) {
			t.Fatal("the next layer does not go on")
		}
	}
	if put(0, 3, 3000, 4, more, false) {
		t.Errorf("number %d for what is too late", h.SequenceNumber)
	}

	sw.Want(0, 2)
	put(1, 23, 90_000, 23, begin, false)
	put(0, 5, 90_000, 5, key, true)
	if !put(1, 24, 90_000, 24, more, true) {
		t.Error("the end of the frame does not go on")
	}
	sw.Due()
	if _, _, ok := sw.Due(); ok || sw.Current() != -1 { // it was not handed in: the ring has lost it
		t.Errorf("due %t, layer %d: a keyframe that is not to be had is waited for", ok, sw.Current())
	}
}

// TestClocks: layers whose sender reports are known are laid beside each other exactly,
// however late the keyframe comes.
func TestClocks(t *testing.T) {
	const ntp = 3_900_000_000 << 32
	d := newDesk(t)
	d.sw.Want(2, 2)
	d.frames(keyframe, 0)
	first := d.sent[0].Timestamp
	// Layer 2 is a million ticks ahead twice, as frames says; its report is 100 ms younger.
	d.clocks.Report(0, ntp, 5000)
	d.clocks.Report(2, ntp+1<<32/10, 2_000_000+5000+9000)
	if ahead, ok := d.clocks.Ahead(0, 2); !ok || ahead > 2_000_001 || ahead < 1_999_999+1 {
		t.Errorf("ahead %d %t, want 2000000", ahead, ok)
	}
	d.at = d.at.Add(500 * time.Millisecond) // late by arrival; its timestamp is made of the time in whole ticks
	d.frames(keyframe, 2)
	passed := uint32(d.at.Sub(start)/tick-1) * ticks
	if got := d.sent[1].Timestamp - first; got+1 < passed || got > passed+1 {
		t.Errorf("the switch takes %d ticks, want %d", got, passed)
	}
	for _, c := range []*Clocks{nil, {Rate: 90000}} {
		if _, ok := c.Ahead(0, 1); ok {
			t.Error("clocks that nothing is known of are related")
		}
	}
	d.clocks.Report(1, ntp+61<<32, 0)
	if _, ok := d.clocks.Ahead(0, 1); ok {
		t.Error("a report of a minute ago is used")
	}
	d.clocks.Forget(2)
	if _, ok := d.clocks.Ahead(0, 2); ok {
		t.Error("what was forgotten is used")
	}
	if _, ok := d.clocks.Ahead(-1, 2); ok {
		t.Error("no layer has a clock")
	}
}

// FuzzSwitch: whatever comes, no number is spent twice, and what is due ends.
func FuzzSwitch(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 0, 1, 2, 0})
	// Stacked: a keyframe with its structure, and frames by its templates.
	key := keyDescriptor(0, 7, l1t3, []int{0, 0, 0}, nil)
	f.Add(slices.Concat([]byte{0x30, 1, 1, byte(len(key))}, key, []byte{0x30, 1, 1, 3, 0xc2, 0, 8, 0x30, 1, 1, 3, 0xc3, 0, 9, 0x30, 1, 1, 3, 0xff, 0, 9}))
	f.Fuzz(func(t *testing.T, b []byte) {
		out := rtp.NewRewriter(9, 90000, 1, 64)
		sw := NewSwitch(&out)
		sw.Want(2, 2)
		var rings [Layers]rtp.Ring
		var deps [Layers]Dependencies
		var skews [Layers]Skew
		used := map[int]bool{}
		top := -1
		at := start
		hand := func(l int, raw []byte, n uint32) {
			p, err := rtp.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			in := Packet{Layer: l, RTP: &p, Descriptor: Describe(Codec(p.PayloadType), &p), N: n}
			if ext := p.Extension(dependency); ext != nil {
				if d, ok := deps[l].Describe(p.Seq, ext); ok {
					in.Descriptor = d
				}
			}
			skews[l].Level(&in.Descriptor, p.Timestamp)
			var h pion.Header
			o, ok := sw.Packet(&in, nil, at, &h)
			if !ok {
				return
			}
			WriteDependency(p.Extension(dependency), o)
			in.Write(p.Payload, o)
			if top < 0 {
				top = 1<<16 + int(h.SequenceNumber)
			}
			number := top + int(int16(h.SequenceNumber-uint16(top)))
			if used[number] {
				t.Fatalf("number %d is spent twice", number)
			}
			used[number] = true
			if number > top+3000 || number < top-64 {
				t.Fatalf("number %d after %d", number, top)
			}
			top = max(top, number)
		}
		var seq [Layers]uint16
		var ts [Layers]uint32
		for len(b) >= 4 {
			what, l, jump, clock := b[0], int(b[0]&3), b[1], b[2]
			b = b[3:]
			if l == 3 {
				sw.Want(int(jump&3)-1, int(clock&3)-1)
				if what > 250 {
					sw.Forget()
				}
				continue
			}
			seq[l] += uint16(int8(jump))
			if jump == 0x7f {
				seq[l] += 2500
			}
			ts[l] += uint32(int32(int8(clock))) * 1000
			longest := 7
			if what&0x20 != 0 { // it is a dependency descriptor
				longest = 63
			}
			payload := b[1:min(len(b), 1+int(b[0])&longest)]
			b = b[1+len(payload):]
			header := pion.Header{Version: 2, PayloadType: what >> 2 & 3, SSRC: uint32(l) + uint32(what>>7)*4,
				SequenceNumber: seq[l], Timestamp: ts[l], Marker: what&0x10 != 0}
			if what&0x20 != 0 && len(payload) > 0 {
				header.SetExtension(dependency, payload)
				payload = nil
			}
			raw, err := (&pion.Packet{Header: header, Payload: payload}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			at = at.Add(time.Millisecond)
			hand(l, raw, rings[l].Put(raw, at))
			sw.Needs()
			for i := 0; ; i++ {
				l, n, ok := sw.Due()
				if !ok {
					break
				}
				if i > len(used)+1<<16 {
					t.Fatal("what is due does not end")
				}
				if raw, ok := rings[l].Get(n, nil); ok {
					hand(l, raw, n)
				}
			}
		}
	})
}

// stream is a publisher's stream that never ends: three layers, three temporal layers each.
func stream() func(sw *Switch) {
	var packets [Layers]struct {
		seq     uint16
		ts      uint32
		payload []byte
	}
	for l := range packets {
		packets[l].payload = append([]byte{0x90, 0xe0, 0x80, 0, 0, 0, 1}, make([]byte, 1000)...)
	}
	var h pion.Header
	at := start
	n := uint32(0)
	return func(sw *Switch) {
		n++
		l := int(n % Layers)
		p := &packets[l]
		p.seq++
		b := p.payload
		b[0], b[6] = 0x80, 1
		if p.seq%4 == 0 { // a frame of four packets
			frame := p.seq / 4
			p.ts += ticks
			b[0], b[2], b[3], b[4] = 0x90, 0x80|byte(frame>>8), byte(frame), byte(frame/4)
			b[5] = [...]byte{0, 0xa0, 0x60, 0x80}[frame%4]
			b[6] = byte(min(1, frame%128))
		}
		at = at.Add(time.Millisecond)
		in := rtp.Packet{SSRC: uint32(l), Seq: p.seq, Timestamp: p.ts, PayloadType: 96, Payload: b, Marker: p.seq%4 == 3}
		q := Packet{Layer: l, RTP: &in, Descriptor: Describe(VP8, &in), N: n}
		if o, ok := sw.Packet(&q, nil, at, &h); ok {
			q.Write(b, o)
		}
		for _, _, ok := sw.Due(); ok; _, _, ok = sw.Due() {
		}
	}
}

func TestSwitchAllocatesNothing(t *testing.T) {
	out := rtp.NewRewriter(9, 90000, 1, 1024)
	sw := NewSwitch(&out)
	next := stream()
	rnd := rand.New(rand.NewPCG(1, 1))
	if n := testing.AllocsPerRun(100_000, func() {
		if rnd.IntN(100) == 0 {
			sw.Want(rnd.IntN(4)-1, rnd.IntN(3))
		}
		next(&sw)
	}); n != 0 {
		t.Errorf("%v allocations a packet, want 0", n)
	}
	if packets, _ := out.Sent(); packets < 1000 {
		t.Errorf("%d packets went on", packets)
	}
}

// BenchmarkSwitch is one packet for one subscriber, of which a third go on: to be read,
// decided on and numbered.
func BenchmarkSwitch(b *testing.B) {
	out := rtp.NewRewriter(9, 90000, 1, 1024)
	sw := NewSwitch(&out)
	sw.Want(2, 2)
	next := stream()
	b.ReportAllocs()
	for b.Loop() {
		next(&sw)
	}
}

func BenchmarkDescribe(b *testing.B) {
	p := rtp.Packet{Payload: []byte{0x90, 0xe0, 0x92, 0x67, 7, 0x40, 1}}
	b.ReportAllocs()
	for b.Loop() {
		Describe(VP8, &p)
	}
}
