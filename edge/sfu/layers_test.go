package sfu

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/ladder"
	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/signal"
)

// film is a room of quiet transports in which the first sends three layers of VP8 in three
// temporal layers each, as Chromium does, and a voice. Time is synctest's.
type film struct {
	t      *testing.T
	s      *SFU
	all    []*Session
	from   *pionTransport
	told   []signal.Layers // to the first; sinks are called under room.mu
	frame  int
	voice  uint16
	out    [layer.Layers]encoder
	single bool   // without names: layer 1 alone
	wide   uint16 // number of the next packet of the voice; 0: none has one
	late   uint32 // by how many frames it comes
	lost   uint16 // how many packets of all are before each
	rates  []int
	sent   int // of what the publisher was sent, seen
	views  []view
	screen screen
}

// screen is one that the first shares beside it: ten frames a second, at the rate that it would like
// to have or may.
type screen struct {
	likes, may int // bit/s; 0: it is not shared
	seq        uint16
	key        bool
}

const screenSSRC = 50

// encoder makes one layer.
type encoder struct {
	of           int
	seq, picture uint16
	tl0          uint8
	key          bool // the next frame is one
	off          bool
}

func encoders() (all [layer.Layers]encoder) {
	for of := range all {
		all[of] = encoder{of: of, key: true, seq: uint16(60000 + 1000*of), picture: uint16(32700 + 100*of), tl0: uint8(250 + of)}
	}
	return all
}

// frame makes the payloads of frame n, in packets.
func (o *encoder) frame(n int) (packets [][]byte) {
	tid, sync := [...]uint8{0, 2, 1, 2}[n%4], n%4 == 1 || n%4 == 2
	if o.key {
		tid, sync = 0, false
	}
	o.picture++
	if tid == 0 {
		o.tl0++
	}
	b := []byte{0x90, 0xe0, 0x80 | byte(o.picture>>8)&0x7f, byte(o.picture), o.tl0, tid << 6}
	if sync {
		b[5] |= 0x20
	}
	if o.key {
		b = append(b, 0, 0, 0, 0x9d, 0x01, 0x2a)
		b = binary.LittleEndian.AppendUint16(b, uint16(320<<o.of))
		b = binary.LittleEndian.AppendUint16(b, uint16(180<<o.of))
	} else {
		b = append(b, 1)
	}
	o.key = false
	for size := frameBytes[o.of]; size > 0; {
		n := min(size, 1150)
		size -= n
		packets = append(packets, append(append(b, make([]byte, n-len(b))...), byte(o.of)))
		b = slices.Clone(b[:7])
		b[0] = 0x80
	}
	return packets
}

// view is what one subscriber has of it.
type view struct {
	t        *testing.T
	seen     int
	layers   []int // each time that it changed
	voices   int
	frames   int
	last     *pion.Packet
	picture  uint16
	tl0      uint8
	complete bool
	at       time.Time
	gap      time.Duration // the longest between two frames
	screen   int           // bytes of the screen
}

// frameBytes makes 150, 500 and 1,500 kbit/s at 30 a second.
var frameBytes = [layer.Layers]int{600, 2050, 6200}

func newFilm(t *testing.T, subscribers int) *film {
	s := quietly()
	return filmOf(t, s, sessions(t, s, subscribers+1))
}

func filmOf(t *testing.T, s *SFU, all []*Session) *film {
	f := &film{t: t, s: s, all: all, rates: make([]int, len(all)), views: make([]view, len(all))}
	first := f.all[0]
	first.room.mu.Lock()
	first.obeys = true
	first.sink = func(m any) {
		switch m := m.(type) {
		case signal.Layers:
			f.told = append(f.told, m)
		case signal.Screen:
			f.screen.may = m.Rate
		}
	}
	first.room.mu.Unlock()
	f.from = &pionTransport{handler: first, path: newPath(1), inlets: map[uint32]inlet{}}
	f.from.layered.Store(true)
	for i := range f.all {
		f.all[i].media.(*quiet).keeps = true
		f.views[i].t = t
		f.rates[i] = 10_000_000
	}
	f.out = encoders()
	return f
}

func (f *film) send(of int, marker bool, ext string, payload []byte) {
	o := &f.out[of]
	h := pion.Header{Version: 2, Marker: marker, PayloadType: ptVP8, SSRC: uint32(100 + of), SequenceNumber: o.seq, Timestamp: uint32(of)*123_456_789 + 3000*uint32(f.frame)}
	if ext != "" {
		h.SetExtension(extRID, []byte(ext))
	}
	o.seq++
	raw, err := (&pion.Packet{Header: h, Payload: payload}).Marshal()
	if err != nil {
		f.t.Fatal(err)
	}
	f.from.RTP(nil, raw, time.Now())
}

// run plays for so long.
func (f *film) run(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		f.tick()
	}
}

// tick is one frame of each layer.
func (f *film) tick() {
	f.t.Helper()
	time.Sleep(time.Second / 30) // of synctest's clock: a frame
	synctest.Wait()
	pub := f.all[0].media.(*quiet)
	was := pub.was(f.sent)
	f.sent += len(was)
	for _, p := range was {
		pli, ok := p.(*rtcp.PictureLossIndication)
		switch {
		case !ok:
		case pli.MediaSSRC == screenSSRC:
			f.screen.key = true
		default:
			f.out[pli.MediaSSRC-100].key = true
		}
	}
	for of, rid := range rids {
		o := &f.out[of]
		if f.single && of != 1 || o.off {
			continue
		}
		if f.single {
			rid = ""
		}
		packets := o.frame(f.frame)
		for i, b := range packets {
			f.send(of, i == len(packets)-1, rid, b)
		}
	}
	if f.screen.likes > 0 && f.frame%3 == 0 {
		f.share()
	}
	spoken := pion.Header{Version: 2, PayloadType: ptOpus, SSRC: 99, SequenceNumber: f.voice, Timestamp: 48000 / 30 * (uint32(f.voice) - f.late)}
	if f.wide > 0 {
		spoken.SetExtension(extWide, binary.BigEndian.AppendUint16(nil, f.wide))
		f.wide += 1 + f.lost
	}
	raw, _ := (&pion.Packet{Header: spoken, Payload: make([]byte, 80)}).Marshal()
	f.from.RTP(nil, raw, time.Now())
	f.voice++
	f.frame++
	for i, x := range f.all[1:] {
		if f.frame%3 == 0 && f.rates[i+1] > 0 {
			x.carries(nil, carriage{rate: f.rates[i+1]}, time.Now())
		}
		q := x.media.(*quiet)
		for _, p := range q.wrote[f.views[i+1].seen:] {
			if f.screen.likes > 0 && p.SSRC == uint32(firstLine)+uint32(Screen) {
				f.views[i+1].screen += len(p.Payload)
				continue
			}
			f.views[i+1].take(&p)
		}
		f.views[i+1].seen = len(q.wrote)
	}
}

// share is one frame of the screen.
func (f *film) share() {
	o := &f.screen
	b := vp8(o.key, "")
	o.key = false
	for size := min(o.likes, max(o.may, 1)) / 8 / 10; size > 0; size -= 1150 {
		h := pion.Header{Version: 2, Marker: size <= 1150, PayloadType: ptVP8, SSRC: screenSSRC, SequenceNumber: o.seq, Timestamp: 3000 * uint32(f.frame)}
		h.SetExtension(extMID, []byte(screenMID))
		o.seq++
		raw, err := (&pion.Packet{Header: h, Payload: append(b, make([]byte, min(size, 1150))...)}).Marshal()
		if err != nil {
			f.t.Fatal(err)
		}
		f.from.RTP(nil, raw, time.Now())
		b = []byte{0, 1}
	}
}

// take checks that a packet goes on where the last one stopped.
func (v *view) take(p *pion.Packet) {
	if p.PayloadType == ptOpus {
		v.voices++
		return
	}
	b := p.Payload
	of, start, key := int(b[len(b)-1]), b[0]&0x10 != 0, b[0]&0x10 != 0 && b[6]&1 == 0
	picture, tl0, tid := binary.BigEndian.Uint16(b[2:])&0x7fff, b[4], b[5]>>6
	moved := len(v.layers) == 0 || v.layers[len(v.layers)-1] != of
	if last := v.last; last != nil {
		if p.SequenceNumber != last.SequenceNumber+1 {
			v.t.Errorf("number %d after %d", p.SequenceNumber, last.SequenceNumber)
		}
		if fresh := p.Timestamp != last.Timestamp; fresh != start || fresh && (int32(p.Timestamp-last.Timestamp) <= 0 || !last.Marker) {
			v.t.Errorf("timestamp %d after %d, a frame begins: %t, after the end of one: %t", p.Timestamp, last.Timestamp, start, last.Marker)
		}
		want := v.picture
		if start {
			want = (want + 1) & 0x7fff
		}
		if picture != want {
			v.t.Errorf("picture %d, want %d", picture, want)
		}
		if start && tid == 0 {
			v.tl0++
		}
		if tl0 != v.tl0 {
			v.t.Errorf("base picture %d, want %d", tl0, v.tl0)
		}
	}
	if moved && !key {
		v.t.Errorf("layer %d begins without a keyframe", of)
	}
	if moved {
		v.layers = append(v.layers, of)
	}
	if start {
		if v.frames++; v.frames > 1 {
			v.gap = max(v.gap, time.Since(v.at))
		}
		v.at = time.Now()
	}
	v.last, v.picture, v.tl0 = p, picture, tl0
}

func (v *view) current() int {
	if len(v.layers) == 0 {
		return -1
	}
	return v.layers[len(v.layers)-1]
}

// TestLayersByBandwidth: each subscriber has the layer that its own connection carries, and sees
// one stream without a seam; audio goes on whatever happens to video.
func TestLayersByBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFilm(t, 3)
		defer f.s.Close()
		f.run(5 * time.Second)
		for i := range 3 {
			if v := &f.views[i+1]; v.current() != 2 {
				t.Fatalf("%d: layers %v on a good path, want the highest at last", i, v.layers)
			}
		}
		bad, others := &f.views[1], []*view{&f.views[2], &f.views[3]}
		was := [2]int{len(others[0].layers), len(others[1].layers)}
		asked := f.s.Stats().KeyframeRequests

		f.rates[1] = 400_000
		f.run(time.Second)
		if bad.current() != 0 {
			t.Errorf("layers %v at 400 kbit/s, want the lowest", bad.layers)
		}
		f.rates[1] = 1_000_000
		f.run(5 * time.Second)
		if bad.current() != 1 {
			t.Errorf("layers %v at 1 Mbit/s, want the middle one", bad.layers)
		}
		if bad.gap > 200*time.Millisecond {
			t.Errorf("%v between two frames at a switch, want 200 ms at most", bad.gap)
		}

		f.rates[1] = 70_000
		f.run(time.Second)
		frames, voices := bad.frames, bad.voices
		f.run(time.Second)
		if bad.frames != frames || bad.voices-voices < 29 {
			t.Errorf("%d frames and %d voice packets in a second at 70 kbit/s, want voice alone", bad.frames-frames, bad.voices-voices)
		}
		if shown, why := f.quality(1); shown != signal.VideoOff || why != signal.CauseOwn {
			t.Errorf("quality %v %v, want off, own", shown, why)
		}
		f.rates[1] = 10_000_000
		f.run(8 * time.Second)
		if bad.current() != 2 || bad.frames == frames {
			t.Errorf("layers %v on a good path again", bad.layers)
		}
		if shown, why := f.quality(1); shown != "" || why != "" {
			t.Errorf("quality %v %v, want full", shown, why)
		}
		if n := f.s.Stats().KeyframeRequests - asked; n > 8 {
			t.Errorf("%d keyframes asked for, want no more than the switches take", n)
		}
		for i, v := range others {
			if len(v.layers) != was[i] || v.gap > 200*time.Millisecond {
				t.Errorf("another's layers %v, %v between two frames: changed by one bad path", v.layers, v.gap)
			}
		}
	})
}

// layersTold are the messages to the first so far.
func (f *film) layersTold() []signal.Layers {
	f.all[0].room.mu.Lock()
	defer f.all[0].room.mu.Unlock()
	return slices.Clone(f.told)
}

func (f *film) quality(of int) (signal.Video, signal.Cause) {
	f.all[0].room.mu.Lock()
	defer f.all[0].room.mu.Unlock()
	for _, l := range f.all[of].neg.lines {
		if l.kind == Video && l.who == f.all[0].who {
			return l.video, l.cause
		}
	}
	f.t.Fatal("no line")
	return "", ""
}

// TestUnwatchedLayersPause: what nobody watches its sender is told to pause, and to send again
// as soon as somebody does.
func TestUnwatchedLayersPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFilm(t, 1)
		defer f.s.Close()
		obey := func() {
			told := f.layersTold()
			for of, rid := range rids {
				f.out[of].off = len(told) > 0 && !slices.Contains(told[len(told)-1].Video, rid)
				f.out[of].key = f.out[of].key || f.out[of].off // it begins with one
			}
		}
		play := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				f.tick()
				obey()
			}
		}
		last := func() string {
			told := f.layersTold()
			if len(told) == 0 {
				return "nothing"
			}
			return fmt.Sprint(told[len(told)-1].Video)
		}
		v := &f.views[1]
		play(4 * time.Second)
		if told := f.layersTold(); len(told) > 0 {
			t.Errorf("told %v before it is sure", told)
		}
		play(8 * time.Second)
		if last() != "[l h]" || v.current() != 2 {
			t.Fatalf("told %s, on layer %d; want what is watched and the lowest", last(), v.current())
		}
		f.rates[1] = 1_000_000
		play(time.Second)
		if last() != "[l m h]" || v.current() != 1 {
			t.Errorf("told %s, on layer %d; want m again, and to be on it", last(), v.current())
		}
		play(10 * time.Second)
		if last() != "[l m]" {
			t.Errorf("told %s, want h to be paused", last())
		}
		f.rates[1] = 10_000_000
		play(5 * time.Second)
		if v.current() != 2 {
			t.Errorf("told %s, layers %v; want h to have come back", last(), v.layers)
		}
		f.all[1].State(signal.State{Mic: true})
		play(7 * time.Second)
		if last() != "[]" {
			t.Errorf("told %s while nobody watches, want nothing to be sent", last())
		}
		f.all[1].State(signal.State{Mic: true, ReceiveVideo: true})
		frames := v.frames
		play(time.Second)
		if v.frames-frames < 10 {
			t.Errorf("%d frames in the second after it is wanted again", v.frames-frames)
		}
		if told := f.layersTold(); len(told) > 12 {
			t.Errorf("told %d times: %v", len(told), told)
		}
	})
}

// TestFloodedPublisher: whose path is found to be flooded is told to send less, and no video where it
// does not carry any; that is tried again, and who sees it hears why.
func TestFloodedPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFilm(t, 1)
		defer f.s.Close()
		f.wide = 65_000
		f.all[0].State(signal.State{Mic: true, Camera: true, ReceiveVideo: true})
		last := func() string {
			if told := f.layersTold(); len(told) > 0 {
				return fmt.Sprint(told[len(told)-1].Video)
			}
			return "nothing"
		}
		own := func() quality {
			f.all[0].room.mu.Lock()
			defer f.all[0].room.mu.Unlock()
			return f.all[0].videos[f.all[0].who].is
		}
		// bound is what the publisher was told last to stay within, in kbit/s.
		bound := func() (kbps int) {
			for _, p := range f.all[0].media.(*quiet).was(0) {
				if m, ok := p.(*rtcp.ReceiverEstimatedMaximumBitrate); ok {
					kbps = int(m.Bitrate) / 1000
				}
			}
			return kbps
		}
		f.run(4 * time.Second)
		f.late, f.lost = 6, 4
		f.run(400 * time.Millisecond)
		for i := range f.out { // nothing but the voice comes through
			f.out[i].off = true
		}
		if last() != "[]" {
			t.Fatalf("told %s, want no video", last())
		}
		if q := own(); q != (quality{signal.VideoOff, signal.CauseOwn}) {
			t.Errorf("told of its own video %+v", q)
		}
		if b := bound(); b < 20 || b > 60 {
			t.Errorf("told to stay within %d kbit/s", b)
		}
		f.late, f.lost = 0, 0
		nacks := f.s.Stats().NACKsOut
		f.out[0].off, f.out[0].seq = false, f.out[0].seq+5
		f.run(500 * time.Millisecond)
		if n := f.s.Stats().NACKsOut; n != nacks {
			t.Errorf("%d packets were asked for again, for which there is no room", n-nacks)
		}
		f.out[0].off = true
		f.run(5500 * time.Millisecond)
		if v, cause := f.quality(1); last() != "[]" || v != signal.VideoOff || cause != signal.CausePeer {
			t.Errorf("told %s, and who sees it %s by %s", last(), v, cause)
		}
		if b := bound(); b != mostRate/1000 {
			t.Errorf("still told to stay within %d kbit/s", b)
		}
		f.run(3 * time.Second)
		if q := own(); q != (quality{}) {
			t.Errorf("still told of its own video %+v", q)
		}
		if last() != "[l]" {
			t.Errorf("told %s, want the lowest to be tried", last())
		}
		for i := range f.out {
			f.out[i] = encoder{of: i, key: true, seq: f.out[i].seq, picture: f.out[i].picture, tl0: f.out[i].tl0}
		}
		f.run(4 * time.Second)
		if v := &f.views[1]; last() == "[l]" || v.current() != 2 {
			t.Errorf("told %s, on layer %d", last(), v.current())
		}
	})
}

// TestSingleStreamIsHeldToTheLeast: who sends one stream is told what those can receive who are
// shown it.
func TestSingleStreamIsHeldToTheLeast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFilm(t, 2)
		defer f.s.Close()
		f.single = true
		f.from.layered.Store(false)
		ceiling := func() (bitrate float32) {
			for _, p := range f.all[0].media.(*quiet).was(0) {
				if p, ok := p.(*rtcp.ReceiverEstimatedMaximumBitrate); ok {
					bitrate = p.Bitrate
				}
			}
			return bitrate
		}
		f.run(3 * time.Second)
		if got := ceiling(); got != downlink {
			t.Errorf("ceiling %v on good paths, want %d", got, downlink)
		}
		f.rates[1] = 400_000
		f.run(200 * time.Millisecond)
		if got := ceiling(); got != 400_000-voice {
			t.Errorf("ceiling %v, want what a path of 400 kbit/s leaves beside a voice", got)
		}
		f.rates[1] = 70_000 // is paused, and has no say
		f.run(3 * time.Second)
		if got := ceiling(); got != downlink {
			t.Errorf("ceiling %v, want that of the one who is shown it", got)
		}
		if shown, why := f.quality(1); shown != signal.VideoOff || why != signal.CauseOwn {
			t.Errorf("quality %v %v, want off, own", shown, why)
		}
	})
}

// TestStep: the room's step takes layers from everybody, and says so.
func TestStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFilm(t, 1)
		defer f.s.Close()
		f.run(5 * time.Second)
		for _, row := range []struct {
			step  ladder.Step
			of    int
			fps   int
			shown signal.Video
			cause signal.Cause
		}{
			{ladder.Spatial, 1, 30, signal.VideoReduced, signal.CauseEdge},
			{ladder.Both, 1, 15, signal.VideoReduced, signal.CauseEdge},
			{ladder.Temporal, 2, 15, signal.VideoReduced, signal.CauseEdge},
			{ladder.Audio, 2, 0, signal.VideoOff, signal.CauseEdge},
			{ladder.Full, 2, 30, "", ""},
		} {
			r := f.all[0].room
			r.mu.Lock()
			r.step = row.step
			r.refreshLocked()
			r.mu.Unlock()
			f.run(5 * time.Second)
			v := &f.views[1]
			frames := v.frames
			f.run(2 * time.Second)
			if fps := (v.frames - frames) / 2; v.current() != row.of || fps < row.fps-1 || fps > row.fps+1 {
				t.Errorf("%v: layer %d at %d frames a second, want %d at %d", row.step, v.current(), fps, row.of, row.fps)
			}
			if shown, why := f.quality(1); shown != row.shown || why != row.cause {
				t.Errorf("%v: quality %v %v, want %v %v", row.step, shown, why, row.shown, row.cause)
			}
		}
	})
}

// speak sends a frame of each layer, as a browser does.
func (c *client) speak(out *[layer.Layers]encoder, frame int) {
	c.t.Helper()
	for of := range out {
		o := &out[of]
		packets := o.frame(frame)
		for i, b := range packets {
			h := pion.Header{Version: 2, Marker: i == len(packets)-1, SequenceNumber: o.seq, Timestamp: uint32(of)*1_000_000 + 3000*uint32(frame)}
			h.SetExtension(extMID, []byte("1"))
			h.SetExtension(extRID, []byte(rids[of]))
			o.seq++
			if err := c.more[of].WriteRTP(&pion.Packet{Header: h, Payload: b}); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// play has the client send three layers in real time until done, with keyframes where they are
// asked for.
func (c *client) play(out *[layer.Layers]encoder, what string, done func() bool) {
	c.t.Helper()
	tick := time.NewTicker(time.Second / 30)
	defer tick.Stop()
	for end := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(end) {
			c.t.Fatalf("no %s: %v %+v", what, counts(c.got), c.x.sfu.Stats())
		}
		for of, encoding := range c.rtx[Video].GetParameters().Encodings {
			c.mu.Lock()
			if i := slices.IndexFunc(c.control, func(p rtcp.Packet) bool { return isPLI(p) && p.DestinationSSRC()[0] == uint32(encoding.SSRC) }); i >= 0 {
				c.control = slices.Delete(c.control, i, i+1)
				out[of].key = true
			}
			c.mu.Unlock()
		}
		c.frames++
		c.speak(out, c.frames)
	}
}

// newestLayer is that of the last packet of the client's video from another.
func (c *client) newestLayer(from string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.got[from+" video"]
	if len(p) == 0 {
		return -1
	}
	b := p[len(p)-1].Payload
	return int(b[len(b)-1])
}

// TestSimulcast: three layers of a client pass the SFU's sockets, and a subscriber moves between
// them in one stream.
func TestSimulcast(t *testing.T) {
	s := listen(t)
	a := dial(t, s, Seat{Participant: "a"}, "", layered)
	b := join(t, s, "b")
	a.await("connection", func() bool { return a.up })
	b.routed(a, Video)
	out := encoders()
	a.play(&out, "highest layer", func() bool { return b.newestLayer("a") == 2 })
	b.x.carries(s.lane.Batch(), carriage{rate: 900_000}, time.Now())
	a.play(&out, "middle layer", func() bool { return b.newestLayer("a") == 1 })
	a.mu.Lock()
	for i, offer := range a.offers {
		if strings.Count(offer, "a=rid:") != layer.Layers || strings.Count(offer, "a=simulcast:") != 1 {
			t.Errorf("offer %d of layers:\n%s", i, offer)
		}
	}
	a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	v := view{t: t}
	for _, p := range b.got["a video"] {
		v.take(p)
	}
	if st := s.Stats(); st.Malformed > 0 || st.BadAnswers > 0 {
		t.Errorf("stats %+v", st)
	}
}

// TestProbing: a subscriber who says what arrives is found to be on a good path within seconds,
// which the layer that it had would never have shown.
func TestProbing(t *testing.T) {
	s := listen(t)
	a := dial(t, s, Seat{Participant: "a"}, "", layered)
	b := dial(t, s, Seat{Participant: "b"}, "", reporting)
	a.await("connection", func() bool { return a.up })
	b.await("connection", func() bool { return b.up })
	b.routed(a, Video)
	out := encoders()
	began := time.Now()
	a.play(&out, "highest layer", func() bool { return b.newestLayer("a") == 2 })
	t.Logf("after %v, with %d packets of padding", time.Since(began).Round(time.Millisecond), s.Stats().Padding)
	if s.Stats().Padding == 0 {
		t.Error("no padding was sent")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// What was padding is here too: pion takes it for what was lost.
	packets := b.got["a video"]
	first := packets[0].SequenceNumber
	slices.SortFunc(packets, func(p, q *pion.Packet) int { return int(p.SequenceNumber-first) - int(q.SequenceNumber-first) })
	packets = slices.CompactFunc(packets, func(p, q *pion.Packet) bool { return p.SequenceNumber == q.SequenceNumber })
	v := view{t: t}
	for _, p := range packets {
		v.take(p)
	}
}
