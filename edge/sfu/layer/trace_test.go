package layer

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/rtp"
)

const (
	tick  = 33 * time.Millisecond // one frame of every layer
	ticks = 3000                  // of RTP's clock
	// inTime is how many ticks late a packet may be and must not be missed: asked for again,
	// it comes after a round trip.
	inTime = 5
)

var start = time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)

// trace is one run of a publisher, a network and a subscriber that wants now this, now that.
type trace struct {
	t       *testing.T
	name    string
	rnd     *rand.Rand
	codec   Codec
	bits    int  // of the picture IDs
	layers  int  // simulcast
	height  int  // spatial layers in a stream
	flex    bool // VP9's flexible mode
	lossy   bool
	runs    int
	now     int // ticks
	at      time.Time
	pub     [Layers]sender
	arrives map[int][]*sent // by tick
	clocks  Clocks
	rings   [Layers]rtp.Ring
	deps    [Layers]Dependencies
	viewer  Dependencies
	out     rtp.Rewriter
	sw      Switch
	header  pion.Header
	raw     []byte
	wants   int         // layer
	since   int         // tick
	wanted  [Layers]int // ticks: when a keyframe comes that was asked for
	seen    map[uint64]output
	order   []uint64
	newest  uint64
	nacks   int
	turns   int
	empties int
}

// sender is one layer of the publisher.
type sender struct {
	ssrc, ts uint32
	seq      uint16
	picture  uint16
	base     uint8
	off      int // ticks left
	frames   []*picture
	last     [3][3]*picture // by spatial and temporal layer, since the keyframe
	asked    int
	newest   int // frame of which a packet came
}

type picture struct {
	layer, id int
	tick      int
	key, sync bool // begins with a keyframe's first packet
	up, fresh bool
	spatial   int
	temporal  int
	number    uint16
	refs      []*picture
	packets   []*sent
	first     bool // its first packet came first
	missed    bool // a later frame's packet came before any of it
	out       []output
}

type sent struct {
	of   *picture
	i    int
	raw  []byte
	seq  uint16
	came int // tick; -1: never
}

type output struct {
	number  uint64
	ts      uint32
	marker  bool
	payload string
	of      *sent
	at      int // tick
	run     int
	origin  rtp.Origin
}

func newTrace(t *testing.T, seed uint64, codec Codec, bits int, lossy bool) *trace {
	x := &trace{t: t, name: fmt.Sprintf("codec %d, %d bits, lossy %t, seed %d", codec, bits, lossy, seed), rnd: rand.New(rand.NewPCG(seed, 2)),
		codec: codec, bits: bits, lossy: lossy, layers: Layers, height: 1, flex: codec == VP9 && seed%2 == 0, arrives: map[int][]*sent{}, clocks: Clocks{Rate: 90000}, seen: map[uint64]output{}}
	for i := range x.pub {
		x.pub[i] = sender{ssrc: uint32(i + 1), ts: x.rnd.Uint32(), seq: uint16(x.rnd.Uint32()), picture: uint16(x.rnd.Uint32()), base: uint8(x.rnd.Uint32()), newest: -1}
		x.wanted[i] = -1
	}
	x.out = rtp.NewRewriter(99, 90000, uint16(x.rnd.Uint32()), 1024)
	x.sw = NewSwitch(&x.out)
	return x
}

func (x *trace) fail(format string, args ...any) {
	x.t.Helper()
	x.t.Fatalf("%s, tick %d: %s", x.name, x.now, fmt.Sprintf(format, args...))
}

// send makes the frames of one tick, and puts their packets on the network.
func (x *trace) send() {
	var queues [Layers][]*sent
	for l := range x.layers {
		p := &x.pub[l]
		if p.off > 0 {
			if p.off--; p.off == 0 {
				p.last = [3][3]*picture{}
			}
			p.ts += ticks
			continue
		}
		if x.lossy && x.rnd.IntN(400) == 0 {
			p.off = 1 + x.rnd.IntN(60)
		}
		queues[l] = x.frame(l)
	}
	// A pacer takes streams in turn, or each to its end.
	interleave := x.rnd.IntN(2) == 0
	place := 0
	for more := true; more; {
		more = false
		for l := range queues {
			for len(queues[l]) > 0 {
				s := queues[l][0]
				queues[l] = queues[l][1:]
				more = true
				x.transmit(s)
				place++
				if interleave {
					break
				}
			}
		}
	}
}

func (x *trace) transmit(s *sent) {
	s.came = x.now
	if x.lossy {
		switch x.rnd.IntN(50) {
		case 0:
			s.came = -1 // for good
			return
		case 1, 2: // lost, asked for and sent again
			s.came += 1 + x.rnd.IntN(inTime)
		case 3: // twice
			again := x.now + x.rnd.IntN(inTime)
			x.arrives[again] = append(x.arrives[again], s)
		}
	}
	a := append(x.arrives[s.came], s)
	if n := len(a); x.lossy && n > 1 && x.rnd.IntN(20) == 0 {
		a[n-1], a[n-2] = a[n-2], a[n-1]
	}
	x.arrives[s.came] = a
}

// frame makes one picture.
func (x *trace) frame(l int) (packets []*sent) {
	p := &x.pub[l]
	key := p.last[0][0] == nil || x.wanted[l] == x.now || x.rnd.IntN(1000) == 0
	temporal, sync, up := 0, false, false
	if key {
		x.wanted[l] = -1
	} else if x.bits > 0 {
		temporal = [...]int{0, 2, 1, 2}[x.now%4]
		sync = x.codec == VP8 && temporal > 0 && x.rnd.IntN(3) == 0
		up = x.codec >= VP9 && x.rnd.IntN(5) == 0
	}
	p.ts += ticks
	p.picture++
	if temporal == 0 {
		p.base++
	}
	for spatial := range x.height {
		if spatial > 0 && x.codec == AV1 { // which numbers frames
			p.picture++
		}
		f := &picture{layer: l, id: len(p.frames), tick: x.now, key: key && spatial == 0, sync: sync, up: up, spatial: spatial, temporal: temporal, number: p.picture}
		last := &p.last[spatial]
		f.fresh = key || spatial > 0 && temporal == 0 && x.rnd.IntN(20) == 0
		if f.fresh {
			*last = [3]*picture{f, f, f}
		}
		for t := 0; !f.fresh && t <= temporal; t++ {
			if t == 0 || !sync {
				f.refs = append(f.refs, last[t])
			}
		}
		if spatial > 0 {
			f.refs = append(f.refs, p.frames[len(p.frames)-1])
		}
		last[temporal] = f
		for t := temporal + 1; up && t < 3; t++ {
			last[t] = f
		}
		p.frames = append(p.frames, f)
		n := 1 + x.rnd.IntN(3)*(l+1)/2
		if key {
			n = 1 + x.rnd.IntN(6)
		}
		for i := range n {
			p.seq++
			b := x.payload(p, f, i, n)
			b = append(b, byte(l), byte(f.id>>8), byte(f.id), byte(i))
			h := pion.Header{Version: 2, PayloadType: 96, SSRC: p.ssrc, SequenceNumber: p.seq, Timestamp: p.ts, Marker: i == n-1 && spatial == x.height-1}
			if x.codec == AV1 {
				if err := h.SetExtensionWithProfile(4, x.dependency(f, i, n), pion.ExtensionProfileTwoByte); err != nil {
					x.t.Fatal(err)
				}
			}
			raw, err := (&pion.Packet{Header: h, Payload: b}).Marshal()
			if err != nil {
				x.t.Fatal(err)
			}
			f.packets = append(f.packets, &sent{of: f, i: i, raw: raw, seq: p.seq})
		}
		packets = append(packets, f.packets...)
	}
	return packets
}

func (x *trace) payload(p *sender, f *picture, i, n int) []byte {
	if x.codec == H264 {
		if f.key && i == 0 {
			return []byte{0x67}
		}
		return []byte{0x41}
	}
	switch x.codec {
	case VP9:
		return x.vp9(p, f, i, n)
	case AV1:
		return []byte{0x10}
	}
	s, notKey := byte(0), byte(1)
	if i == 0 {
		s = 0x10
	}
	if f.key {
		notKey = 0
	}
	tid := byte(f.temporal) << 6
	if f.sync {
		tid |= 0x20
	}
	switch x.bits {
	case 7:
		return []byte{0x80 | s, 0xe0, byte(p.picture) & 0x7f, p.base, tid, notKey}
	case 15:
		return []byte{0x80 | s, 0xe0, 0x80 | byte(p.picture>>8), byte(p.picture), p.base, tid, notKey}
	}
	return []byte{s, notKey}
}

func (x *trace) vp9(p *sender, f *picture, i, n int) []byte {
	flags, layer := byte(0xa0), byte(f.temporal)<<5|byte(f.spatial)<<1
	if !f.fresh {
		flags |= 0x40
	}
	if i == 0 {
		flags |= 0x08
	}
	if i == n-1 {
		flags |= 0x04
	}
	if f.up {
		layer |= 0x10
	}
	b := []byte{flags}
	if x.bits == 7 {
		b = append(b, byte(p.picture)&0x7f)
	} else {
		b = append(b, 0x80|byte(p.picture>>8), byte(p.picture))
	}
	b = append(b, layer)
	if !x.flex {
		return append(b, p.base)
	}
	if b[0] |= 0x10; !f.fresh {
		b = append(b, 1<<1)
	}
	return b
}

// hand gives the switch one packet, as n in its ring, and the subscriber what comes of it.
func (x *trace) hand(l int, raw []byte, n uint32) {
	raw = append([]byte(nil), raw...)
	p, err := rtp.Parse(raw)
	if err != nil {
		x.t.Fatal(err)
	}
	in := Packet{Layer: l, RTP: &p, Descriptor: x.describe(l, &p), N: n}
	before := x.sw.Current()
	o, ok := x.sw.Packet(&in, &x.clocks, x.at, &x.header)
	if in.Keyframe && x.sw.Current() == l && before != l {
		x.runs++
	}
	if !ok {
		return
	}
	if o.Layer != uint8(l) || o.Packet != n {
		x.fail("origin %+v of packet %d of layer %d", o, n, l)
	}
	number := x.extend(x.header.SequenceNumber)
	got := x.output(number, in.Write(p.Payload, o), o)
	if ext := p.Extension(4); ext != nil && !o.Empty {
		x.view(ext, o)
	}
	if was, twice := x.seen[number]; twice {
		x.fail("number %d spent twice: %+v, then %+v", number, was, got)
	}
	if o.Empty {
		x.empties++
	}
	got.of, got.run = x.origin(raw, l), x.runs
	if !o.Empty {
		got.of.of.out = append(got.of.of.out, got)
	}
	x.seen[number] = got
	x.order = append(x.order, number)
}

func (x *trace) output(number uint64, payload []byte, o rtp.Origin) output {
	return output{number: number, ts: x.header.Timestamp, marker: x.header.Marker, payload: string(payload), at: x.now, origin: o}
}

// describe reads a packet as its publisher's edge does.
func (x *trace) describe(l int, p *rtp.Packet) Descriptor {
	if x.codec != AV1 {
		return Describe(x.codec, p)
	}
	d, ok := x.deps[l].Describe(p.Seq, p.Extension(4))
	if !ok {
		x.fail("dependency descriptor %x", p.Extension(4))
	}
	return d
}

// view reads a dependency descriptor as the subscriber does, who has one structure.
func (x *trace) view(ext []byte, o rtp.Origin) {
	in := Dependencies{}
	was, _ := in.Describe(0, ext)
	WriteDependency(ext, o)
	old := x.viewer
	d, ok := x.viewer.Describe(x.header.SequenceNumber, ext)
	if by := (x.viewer.offset - old.offset) & 63; old.known && by != 0 && (int(by) < old.count || 64-int(by) < x.viewer.count) {
		x.fail("the structure from %d has IDs of the one from %d", x.viewer.offset, old.offset)
	}
	if !ok || d.Picture != o.Picture || d.Start != was.Start || d.End != was.End {
		x.fail("dependency descriptor %x: %+v %t, of %+v", ext, d, ok, was)
	}
	if d.Base == 0 && d.span == 0 && !x.lossy {
		x.fail("dependency descriptor %x is of another structure", ext)
	}
}

func (x *trace) origin(raw []byte, l int) *sent {
	b := raw[len(raw)-4:]
	return x.pub[l].frames[binary.BigEndian.Uint16(b[1:])].packets[b[3]]
}

func (x *trace) extend(seq uint16) uint64 {
	if x.newest == 0 {
		x.newest = 1<<16 | uint64(seq)
		return x.newest
	}
	n := x.newest + uint64(int64(int16(seq-uint16(x.newest))))
	x.newest = max(x.newest, n)
	return n
}

// receive is one packet that came.
func (x *trace) receive(s *sent) {
	l := s.of.layer
	p := &x.pub[l]
	if s.of.id > p.newest {
		for _, f := range p.frames[p.newest+1 : s.of.id] {
			f.missed = true
		}
		p.newest, s.of.first = s.of.id, s.i == 0
	}
	n := x.rings[l].Put(s.raw, x.at)
	before := x.sw.Current()
	x.hand(l, s.raw, n)
	for {
		l, n, ok := x.sw.Due()
		if !ok {
			break
		}
		raw, ok := x.rings[l].Get(n, nil)
		if !ok {
			x.fail("the ring has lost packet %d of layer %d", n, l)
		}
		x.hand(l, raw, n)
	}
	if c := x.sw.Current(); c != before && c >= 0 {
		x.turns++
	}
	if l, ok := x.sw.Needs(); ok && x.wanted[l] < 0 && x.now-x.pub[l].asked > 15 {
		x.pub[l].asked = x.now
		x.wanted[l] = x.now + 2 + x.rnd.IntN(4)
	}
	x.nack()
}

// nack asks for something again: it is what it was.
func (x *trace) nack() {
	if len(x.order) == 0 || x.rnd.IntN(4) > 0 {
		return
	}
	number := x.newest - x.rnd.Uint64N(200)
	was, sent := x.seen[number]
	o, ok := x.out.Source(uint16(number))
	if ok != sent {
		x.fail("number %d: sent %t, can be sent again %t", number, sent, ok)
	}
	if !ok {
		return
	}
	raw, ok := x.rings[o.Layer].Get(o.Packet, nil)
	if !ok {
		return
	}
	p, err := rtp.Parse(raw)
	if err != nil {
		x.t.Fatal(err)
	}
	d := Describe(x.codec, &p)
	if !x.out.Again(&p, uint16(number), &x.header) {
		x.fail("number %d is not sent again", number)
	}
	got := x.output(number, d.Write(p.Payload, o), o)
	got.of, got.at, got.run = was.of, was.at, was.run
	if got != was {
		x.fail("number %d again: %+v, was %+v", number, got, was)
	}
	x.nacks++
}

func (x *trace) run(length int) {
	for x.now = 0; x.now < length; x.now++ {
		x.at = start.Add(time.Duration(x.now) * tick)
		if x.now%30 == 7 { // sender reports
			ntp := uint64(x.now) * uint64(tick) << 16 / uint64(time.Second) << 16
			for l := range x.layers {
				x.clocks.Report(l, 1<<60+ntp, x.pub[l].ts)
			}
		}
		if x.rnd.IntN(40) == 0 || x.now == 0 {
			x.wants, x.since = x.rnd.IntN(max(x.layers, x.height)+1)-1, x.now
			x.sw.Want(x.wants, x.rnd.IntN(3))
			x.sw.Bar(0)
			if l := min(x.wants, x.layers-1); l >= 0 && x.rnd.IntN(4) == 0 {
				x.sw.Bar(uint8(x.rnd.IntN(1<<Layers)) &^ (1 << l))
			}
		}
		x.send()
		for _, s := range x.arrives[x.now] {
			x.receive(s)
		}
		delete(x.arrives, x.now)
		x.turned()
	}
	x.check()
}

// turned: a keyframe of the layer that is wanted is turned to, when the present frame has ended or
// was waited for.
func (x *trace) turned() {
	l := x.wants
	if x.height > 1 {
		l = min(l, 0)
	}
	if l < 0 || x.sw.Current() == l && (x.height == 1 || x.sw.height == x.wants) {
		return
	}
	p := &x.pub[l]
	for _, f := range p.frames[max(0, len(p.frames)-1-inTime):] {
		if s := f.packets[0]; f.key && f.tick > max(x.since, x.now-patience-inTime) && f.id < p.newest && s.came >= 0 && s.came+patience < x.now && (f.first || x.height == 1) {
			x.fail("keyframe %d of layer %d was let pass, at layer %d", f.id, l, x.sw.Current())
		}
	}
}

// check looks at all that the subscriber got.
func (x *trace) check() {
	first, last := x.newest, uint64(0)
	for n := range x.seen {
		first, last = min(first, n), max(last, n)
	}
	var frames []*picture
	prev := uint64(0)
	for n := first; n <= last; n++ {
		got, ok := x.seen[n]
		if !ok {
			continue
		}
		if prev > 0 && n > prev+1 {
			x.gap(x.seen[prev], got, int(n-prev-1))
		}
		prev = n
		if got.origin.Empty {
			continue
		}
		if f := got.of.of; len(frames) == 0 || frames[len(frames)-1] != f {
			frames = append(frames, f)
		}
	}
	known := map[*picture]bool{}
	for i, f := range frames {
		if known[f] {
			x.fail("frame %d of layer %d is torn apart", f.id, f.layer)
		}
		known[f] = true
		if i > 0 {
			x.follows(frames[i-1], f)
		}
		for _, o := range f.out {
			if o.ts != f.out[0].ts {
				x.fail("frame %d of layer %d at %d and %d", f.id, f.layer, o.ts, f.out[0].ts)
			}
			if o.origin.Picture != f.out[0].origin.Picture || o.origin.Base != f.out[0].origin.Base {
				x.fail("frame %d of layer %d: %+v and %+v", f.id, f.layer, o.origin, f.out[0].origin)
			}
		}
		x.whole(f)
		for _, r := range f.refs {
			if len(r.out) == 0 && slices.ContainsFunc(r.packets, x.came) {
				x.fail("frame %d (key %t, temporal %d, sync %t) of layer %d went on without frame %d (temporal %d, missed %t) that it refers to", f.id, f.key, f.temporal, f.sync, f.layer, r.id, r.temporal, r.missed)
			}
		}
	}
}

// came tells whether a packet has.
func (x *trace) came(s *sent) bool { return s.came >= 0 && s.came < x.now }

// whole: of a frame that goes on every packet does that came.
func (x *trace) whole(f *picture) {
	went := map[int]bool{}
	for _, o := range f.out {
		went[o.of.i] = true
	}
	for _, s := range f.packets {
		if !went[s.i] && x.came(s) {
			x.fail("packet %d of %d of frame %d of layer %d is missing, which came at tick %d; the frame began at %d", s.i, len(f.packets), f.id, f.layer, s.came, f.out[0].at)
		}
	}
}

// gap: so many numbers were left between two.
func (x *trace) gap(a, b output, n int) {
	lost := 0
	for _, f := range x.pub[a.of.of.layer].frames {
		for _, s := range f.packets {
			if x.came(s) || int16(s.seq-a.of.seq) <= 0 {
				continue
			}
			if b.of.of.layer != a.of.of.layer || int16(s.seq-b.of.seq) < 0 {
				lost++
			}
		}
	}
	if n > lost {
		x.fail("%d numbers are left between %d (packet %d of layer %d) and %d (packet %d of layer %d), and %d packets were lost", n, a.number, a.of.seq, a.of.of.layer, b.number, b.of.seq, b.of.of.layer, lost)
	}
}

// follows: one frame after the other.
func (x *trace) follows(a, b *picture) {
	oa, ob := a.out[0].origin, b.out[0].origin
	if a.layer == b.layer && a.tick == b.tick {
		if a.out[0].ts != b.out[0].ts || ob.Picture-oa.Picture != b.number-a.number || b.spatial <= a.spatial || !x.lossy && b.spatial != a.spatial+1 {
			x.fail("frames %d and %d of layer %d are of one picture: %+v, %+v", a.id, b.id, a.layer, a.out[0], b.out[0])
		}
		return
	}
	if !a.out[len(a.out)-1].marker && !x.lossy {
		x.fail("frame %d of layer %d has no marker at its end", a.id, a.layer)
	}
	if int32(b.out[0].ts-a.out[0].ts) <= 0 {
		x.fail("frame %d of layer %d at %d, after frame %d of layer %d at %d", b.id, b.layer, b.out[0].ts, a.id, a.layer, a.out[0].ts)
	}
	if x.bits == 0 {
		return
	}
	missed := 0
	for _, f := range x.pub[a.layer].frames[a.id+1:] {
		if a.layer == b.layer && f.id >= b.id {
			break
		}
		if f.missed {
			missed++
		}
	}
	if step := (ob.Picture - oa.Picture) & (1<<x.bits - 1); x.codec >= VP9 {
		if a.layer == b.layer && a.out[0].run == b.out[0].run && step != (b.number-a.number)&(1<<x.bits-1) {
			x.fail("picture %d (layer %d, frame %d) follows %d, %d before", ob.Picture, b.layer, b.id, oa.Picture, b.number-a.number)
		}
	} else if step := int((ob.Picture - oa.Picture) & (1<<x.bits - 1)); step < 1 || step > 1+missed {
		x.fail("picture %d (layer %d, frame %d) follows %d (layer %d, frame %d), of which %d were missed", ob.Picture, b.layer, b.id, oa.Picture, a.layer, a.id, missed)
	}
	if step := ob.Base - oa.Base; !x.lossy && !x.flex && x.codec != AV1 && (b.temporal == 0 && step != 1 || b.temporal > 0 && step != 0) {
		x.fail("base %d of a frame of temporal layer %d follows %d", ob.Base, b.temporal, oa.Base)
	}
}

// TestTraces plays publishers, networks and wishes, and looks at what a subscriber gets.
func TestTraces(t *testing.T) {
	for _, c := range []struct {
		codec Codec
		bits  int
		svc   bool
	}{{VP8, 15, false}, {VP8, 7, false}, {VP8, 0, false}, {H264, 0, false}, {VP9, 15, false}, {VP9, 7, true}, {AV1, 16, false}, {AV1, 16, true}} {
		for _, lossy := range []bool{false, true} {
			turns, nacks, empties := 0, 0, 0
			for seed := range uint64(10) {
				x := newTrace(t, seed, c.codec, c.bits, lossy)
				if c.svc {
					x.layers, x.height = 1, 3
				}
				x.run(2000)
				turns, nacks, empties = turns+x.turns, nacks+x.nacks, empties+x.empties
			}
			if turns < 80 || nacks < 1000 || lossy && c.bits > 0 && empties < 50 {
				t.Errorf("%+v, lossy %t: %d turns, %d packets sent again, %d empty", c, lossy, turns, nacks, empties)
			}
			t.Logf("%+v, lossy %t: %d turns, %d packets sent again, %d empty", c, lossy, turns, nacks, empties)
		}
	}
}
