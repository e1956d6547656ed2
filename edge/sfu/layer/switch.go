package layer

import (
	"time"

	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/rtp"
)

// Layers bounds the simulcast layers of one video.
const Layers = 3

const (
	// stalled is how many frames another layer has brought since a layer's last packet when
	// that layer counts as off: a sender switches off what its uplink cannot carry, and says
	// nothing. In frames, so that a slow screen share is no stall.
	stalled = 10
	// remembered are the frames of which late packets are told from those that were left out:
	// two seconds at 30 a second.
	remembered = 64
	// replayed are the frames that are still taken from the ring when the first packet of a
	// keyframe comes late: a round trip to the publisher.
	replayed = 8
	// patience is how many frames of a layer that is turned to wait for the last packets of the
	// present one's frame.
	patience = 3
	// maxJump is the largest step of sequence numbers within one source; rtp's is the same.
	maxJump = 3000
	// maxLost is how many frames lost in a row are still taken when they come late.
	maxLost = remembered / 2
)

// Packet is one packet of a published layer.
type Packet struct {
	Layer int // from the lowest, 0
	RTP   *rtp.Packet
	Descriptor
	N uint32 // of that layer's Ring
}

// Switch is what one subscriber has of one video. It must not be copied once it is in use.
//
// It moves to another simulcast layer at the first packet of that one's keyframe, and to
// fewer or more temporal layers between frames: to more at a keyframe, or at a frame that
// refers to layer 0 alone. A frame that was begun is finished, whatever is wanted by then, and
// if its packets come late. Spatial layers within a stream are had up to the same number, from a
// keyframe or from a frame that refers to its own picture alone.
type Switch struct {
	out      *rtp.Rewriter
	spatial  int // wanted; negative: nothing is
	temporal int
	barred   uint8 // a bit for each layer that is not to be had meanwhile

	layers  [Layers]source
	current int     // layer; -1: none, until a keyframe begins
	last    int     // layer that was current last, for its clock; -1: none
	old     [4]tail // what was left, the last first
	top     int     // temporal layers up to this one go on
	height  int     // and spatial layers within the stream
	tallest int     // that the newest picture has
	delta   uint8   // from the layer's Base to ours
	first   uint16  // its first packet that went on
	seq     uint16  // its newest packet
	ts      uint32  // of its newest frame
	in      uint16  // its picture ID
	inKnown bool
	newest  *frame

	started bool // something was sent
	picture uint16
	base    uint8

	frames  [remembered]frame
	next    int // where the next goes
	pending key
	due     replay
}

// source is what is known of one layer, whether it goes on or not.
type source struct {
	seen   bool
	ssrc   uint32
	seq    uint16
	ts     uint32
	newest uint32              // its newest packet, in its Ring
	began  uint32              // frames
	others [Layers]uint32      // began, of each, when its last packet came
	firsts [replayed]beginning // its newest frames
	next   int
}

// beginning is the first packet of a frame that came.
type beginning struct {
	ts, n uint32
	set   bool
}

// frame is what became of one picture of the current layer, or of one that was left.
type frame struct {
	layer   int8 // -1: none
	top     int8 // of a lost one: temporal layers up to this one would have gone on
	height  int8 // spatial layers up to this one go on
	lost    bool // none of its packets has come yet; ts is not known
	goes    bool // on
	ended   bool // its last packet has come
	in      uint16
	ts      uint32
	picture uint16
	base    uint8
}

// tail is a layer that was left: late packets of what was begun are still taken.
type tail struct {
	set   bool
	layer int
	seq   uint16
	began uint32 // its frames by then
	delta uint8
}

// key is a keyframe that waits until the present layer's frame is finished.
type key struct {
	set    bool
	layer  int
	frames int    // that came since
	ts     uint32 // of the newest
}

// replay are packets of a layer's Ring that came before it was known that they go on.
type replay struct {
	set        bool
	turn       bool // the first of them turns to the layer
	asked      bool // for it
	layer      int
	key        uint32
	next, last uint32
}

// NewSwitch makes one that sends with the numbers of out, of which it is the only user but for
// what is sent again.
func NewSwitch(out *rtp.Rewriter) Switch {
	s := Switch{out: out, spatial: -1}
	s.clear()
	return s
}

func (s *Switch) clear() {
	s.layers = [Layers]source{}
	s.current, s.last, s.old = -1, -1, [4]tail{}
	for i := range s.frames {
		s.frames[i].layer = -1
	}
	s.newest, s.pending, s.due = nil, key{}, replay{}
}

// Forget says that the packets to come are another publisher's. What is wanted stays.
func (s *Switch) Forget() {
	s.out.Forget()
	s.clear()
}

// Want sets the layers up to which the subscriber is to have: simulcast and temporal. A
// negative one pauses.
func (s *Switch) Want(spatial, temporal int) {
	if temporal < 0 {
		spatial = -1
	}
	s.spatial, s.temporal = min(spatial, Layers-1), temporal
}

// Bar sets the simulcast layers, a bit for each, that the subscriber is not to have instead of the
// one that is wanted: a lower one may be the larger. If it is on one it is left at the next frame.
func (s *Switch) Bar(layers uint8) { s.barred = layers }

func (s *Switch) bars(layer int) bool { return s.barred>>layer&1 != 0 }

// Wants says whether what was lost of a layer is of any use: not where nothing is wanted, or the
// layer is barred.
func (s *Switch) Wants(layer int) bool { return s.spatial >= 0 && !s.bars(layer) }

// Current is the layer that goes on now; -1 is none.
func (s *Switch) Current() int { return s.current }

// Needs tells of which layer a keyframe is needed to get where the subscriber wants to be.
func (s *Switch) Needs() (layer int, ok bool) {
	t := s.target()
	if t < 0 || !s.alive(t) || s.pending.set {
		return t, false
	}
	return t, t != s.current || s.height < min(s.spatial, s.tallest)
}

// target is the layer to be on: the highest wanted of those that come.
func (s *Switch) target() int {
	for t := s.spatial; t >= 0; t-- {
		if s.alive(t) && !s.bars(t) {
			return t
		}
	}
	return s.spatial
}

func (s *Switch) alive(layer int) bool {
	l := &s.layers[layer]
	if !l.seen {
		return false
	}
	for i := range s.layers {
		if i != layer && s.layers[i].began-l.others[i] > stalled {
			return false
		}
	}
	return true
}

// takes tells whether a keyframe of that layer is turned to.
func (s *Switch) takes(layer int) bool {
	if layer == s.current || layer > s.spatial || s.bars(layer) {
		return false
	}
	return layer == s.target() || s.current < 0 || !s.alive(s.current)
}

// Packet decides on one packet. If it is to be sent, h has its header and o what is to be
// written into it (Descriptor.Write) and given with its number. Afterwards packets may be Due:
// ask each time. clocks may be nil.
func (s *Switch) Packet(p *Packet, clocks *Clocks, at time.Time, h *pion.Header) (o rtp.Origin, send bool) {
	if p.Layer < 0 || p.Layer >= Layers {
		return o, false
	}
	if s.due.turn && p.Layer == s.due.layer && p.N == s.due.key {
		s.due.turn = false
		return s.turn(p, clocks, at, h)
	}
	s.hear(p)
	if p.Keyframe && s.takes(p.Layer) && s.left(p) == nil {
		if from, ok := s.layers[p.Layer].since(p); ok {
			return s.begin(p, from, clocks, at, h)
		}
	}
	if s.pending.set && p.Layer == s.pending.layer {
		if w := &s.pending; int32(p.RTP.Timestamp-w.ts) > 0 {
			if w.ts, w.frames = p.RTP.Timestamp, w.frames+1; w.frames == patience {
				s.complete()
			}
		}
		return o, false
	}
	ahead := false
	switch {
	case p.Layer == s.current && int16(p.RTP.Seq-s.first) >= 0:
		if ahead = int16(p.RTP.Seq-s.seq) > 0; ahead {
			if newer(p.RTP.Timestamp, s.ts, true) && !s.open(p) {
				return s.leave(p, h)
			}
			s.seq = p.RTP.Seq
		}
	case s.left(p) == nil:
		return o, false
	}
	f := s.find(p)
	if f == nil || !f.goes {
		return s.leave(p, h)
	}
	if f == s.newest && int(p.Spatial) > s.tallest {
		s.tallest = int(p.Spatial)
	}
	if int8(p.Spatial) > f.height {
		if !ahead || f != s.newest || !p.Start || !p.Fresh || int8(p.Spatial) > f.height+1 || int(p.Spatial) > s.spatial {
			return s.leave(p, h)
		}
		f.height++
		s.height = int(f.height)
	}
	o, send = s.forward(p, f, at, h)
	if f.ends(p); f.ended && f == s.newest && s.pending.set {
		s.complete()
	}
	return o, send
}

// Due names packets of a layer's Ring that are to be handed to Packet now, one after the other
// until there are no more: the rest of a keyframe that was turned to after they came.
func (s *Switch) Due() (layer int, n uint32, ok bool) {
	d := &s.due
	if !d.set {
		return 0, 0, false
	}
	if d.turn {
		if !d.asked {
			d.asked = true
			return d.layer, d.key, true
		}
		s.stop() // the Ring has it no more
		*d = replay{}
		return 0, 0, false
	}
	for ; int32(d.last-d.next) >= 0; d.next++ {
		if n = d.next; n != d.key {
			d.next++
			return d.layer, n, true
		}
	}
	*d = replay{}
	return 0, 0, false
}

// left gives the layer that was left, with a frame begun or lost that the packet is of; nil is
// none.
func (s *Switch) left(p *Packet) (of *tail) {
	for i := range s.old {
		if o := &s.old[i]; o.set && p.Layer == o.layer && int16(p.RTP.Seq-o.seq) <= 0 && s.layers[p.Layer].began-o.began <= remembered {
			of = o // or one before it
		}
	}
	return of
}

// hear keeps the books of a layer.
func (s *Switch) hear(p *Packet) {
	l := &s.layers[p.Layer]
	step := int16(p.RTP.Seq - l.seq)
	if !l.seen || l.ssrc != p.RTP.SSRC || step > maxJump || step < -maxJump {
		began := l.began
		*l = source{seen: true, ssrc: p.RTP.SSRC, seq: p.RTP.Seq, ts: p.RTP.Timestamp - 1, newest: p.N, began: began}
		if p.Layer == s.current { // what would go on is another stream
			s.current, s.newest = -1, nil
		}
		if p.Layer == s.last {
			s.last = -1
		}
		for i := range s.old {
			if p.Layer == s.old[i].layer {
				s.old[i].set = false
			}
		}
		if p.Layer == s.pending.layer {
			s.pending = key{}
		}
	}
	ahead := int16(p.RTP.Seq-l.seq) > 0
	if ahead {
		l.seq = p.RTP.Seq
	}
	if int32(p.N-l.newest) > 0 {
		l.newest = p.N
	}
	if newer(p.RTP.Timestamp, l.ts, ahead) {
		l.ts = p.RTP.Timestamp
		l.began++
		l.firsts[l.next] = beginning{l.ts, p.N, true}
		l.next = (l.next + 1) % replayed
	} else if p.RTP.Timestamp != l.ts && !l.has(p.RTP.Timestamp) && int32(p.RTP.Timestamp-l.oldest()) > 0 {
		l.firsts[l.next] = beginning{p.RTP.Timestamp, p.N, true}
		l.next = (l.next + 1) % replayed
	}
	for i := range l.others {
		l.others[i] = s.layers[i].began
	}
}

// newer tells whether a timestamp is of a later frame. One that is ten seconds before, or with a
// number ahead one second, is of a clock that began anew.
func newer(ts, than uint32, ahead bool) bool {
	d := int32(ts - than)
	return d > 0 || d < -900_000 || ahead && d < -90_000
}

func (l *source) has(ts uint32) bool {
	for i := range l.firsts {
		if l.firsts[i].set && l.firsts[i].ts == ts {
			return true
		}
	}
	return false
}

func (l *source) oldest() uint32 {
	ts := l.ts
	for i := range l.firsts {
		if f := &l.firsts[i]; f.set && int32(f.ts-ts) < 0 {
			ts = f.ts
		}
	}
	return ts
}

// since gives the first packet that came of those that a keyframe and what followed it consist
// of; ok is false where that is forgotten.
func (l *source) since(p *Packet) (n uint32, ok bool) {
	n = p.N
	for i := range l.firsts {
		f := &l.firsts[i]
		// One from before it, or it itself from earlier, shows that nothing after it is forgotten.
		if d := int32(f.ts - p.RTP.Timestamp); !f.set || d < 0 || d == 0 && f.n != p.N {
			ok = true
		}
		if f.set && int32(f.ts-p.RTP.Timestamp) >= 0 && int32(f.n-n) < 0 {
			n = f.n
		}
	}
	return n, ok
}

// begin turns to the layer of a keyframe, of which p is the first packet, or waits for the end
// of the present layer's frame.
func (s *Switch) begin(p *Packet, from uint32, clocks *Clocks, at time.Time, h *pion.Header) (rtp.Origin, bool) {
	if s.current >= 0 && s.alive(s.current) && s.newest != nil && s.newest.goes && !s.newest.ended {
		s.pending = key{set: true, layer: p.Layer, ts: p.RTP.Timestamp}
		s.due = replay{layer: p.Layer, key: p.N, next: from}
		return rtp.Origin{}, false
	}
	s.pending = key{}
	s.due = replay{set: from != p.N, layer: p.Layer, key: p.N, next: from, last: s.layers[p.Layer].newest}
	return s.turn(p, clocks, at, h)
}

// complete has the keyframe that waits, and what followed it, handed in again.
func (s *Switch) complete() {
	if s.pending.set && s.takes(s.pending.layer) {
		s.due.set, s.due.turn, s.due.last = true, true, s.layers[s.pending.layer].newest
	}
	s.pending = key{}
}

// stop leaves the present layer.
func (s *Switch) stop() {
	if s.current >= 0 {
		copy(s.old[1:], s.old[:])
		s.old[0] = tail{true, s.current, s.seq, s.layers[s.current].began, s.delta}
	}
	s.current, s.newest = -1, nil
}

// turn goes to the layer of p, which begins a keyframe.
func (s *Switch) turn(p *Packet, clocks *Clocks, at time.Time, h *pion.Header) (rtp.Origin, bool) {
	ahead, known := clocks.Ahead(s.last, p.Layer)
	s.out.Turn(ahead, known)
	s.stop()
	s.current, s.last = p.Layer, p.Layer
	if !s.started {
		s.started, s.picture, s.base = true, p.Picture-1, p.Base-p.span-1
	}
	s.delta, s.inKnown = s.base+1+p.span-p.Base, false
	s.seq, s.newest = p.RTP.Seq-1, nil
	s.open(p)
	s.first, s.seq = p.RTP.Seq, p.RTP.Seq
	s.newest.ends(p)
	return s.forward(p, s.newest, at, h)
}

// open begins a frame of the current layer with its first packet that came. It reports false
// where the layer does not go on.
func (s *Switch) open(p *Packet) bool {
	if s.complete(); s.due.turn || s.spatial < 0 || s.bars(s.current) {
		s.push(frame{layer: int8(s.current), ts: p.RTP.Timestamp})
		s.seq = p.RTP.Seq // what was lost before it is of what was begun
		if !s.due.turn {
			s.stop()
		}
		return false
	}
	if s.seq-s.first > 1<<14 {
		s.first = s.seq - 1<<13
	}
	if p.Bits > 0 {
		lost := (p.Picture - s.in - 1) & (1<<p.Bits - 1)
		if s.inKnown && (p.Fixed || p.RTP.Seq != s.seq+1) && lost < 1<<(p.Bits-1) { // or else it began anew
			for i := lost - min(lost, maxLost); i < lost; i++ {
				s.push(frame{layer: int8(s.current), lost: true, top: int8(s.top), height: int8(s.height), in: s.in + 1 + i, picture: s.picture + 1 + i})
			}
			s.picture += lost
		}
		s.in = p.Picture
	}
	s.inKnown = p.Bits > 0
	t := int(p.Temporal)
	switch {
	case p.Keyframe:
		s.top, s.height = s.temporal, s.spatial
	case s.top > s.temporal:
		s.top = s.temporal
	case p.Sync && t == s.top+1 && t <= s.temporal:
		s.top = t
	}
	s.height = min(s.height, s.spatial)
	s.tallest = int(p.Spatial)
	f := frame{layer: int8(s.current), ts: p.RTP.Timestamp, in: p.Picture, goes: t <= s.top, height: int8(s.height), base: p.base(s.delta)}
	if f.goes && p.Up && p.Spatial == 0 {
		s.top = s.temporal
	}
	if f.goes || p.Fixed {
		s.picture++
	}
	if f.goes && t == 0 && (p.Keyframe || !p.extension) {
		s.base = p.Base + s.delta
	}
	f.picture = s.picture
	s.newest, s.ts = s.push(f), p.RTP.Timestamp
	return true
}

// ends notes the last packet of a picture, of those that go on.
func (f *frame) ends(p *Packet) {
	f.ended = f.ended || p.RTP.Marker || p.End && int8(p.Spatial) == f.height
}

// base is what goes out for Base, or by how much a dependency descriptor's IDs are shifted.
func (p *Packet) base(delta uint8) uint8 {
	if p.extension {
		return delta
	}
	return p.Base + delta
}

func (s *Switch) push(f frame) *frame {
	at := &s.frames[s.next]
	*at = f
	s.next = (s.next + 1) % remembered
	return at
}

// find gives the frame of a packet; nil is one that does not go on.
func (s *Switch) find(p *Packet) *frame {
	if f := s.newest; f != nil && f.layer == int8(p.Layer) && f.ts == p.RTP.Timestamp {
		return f
	}
	var lost *frame
	for i := range s.frames {
		f := &s.frames[i]
		switch {
		case f.layer != int8(p.Layer):
		case f.lost:
			if p.Bits > 0 && (f.in^p.Picture)&(1<<p.Bits-1) == 0 {
				lost = f
			}
		case f.ts == p.RTP.Timestamp:
			return f
		}
	}
	if lost == nil {
		if p.Bits > 0 {
			return nil
		}
		// Without picture IDs the numbers alone tell whether there is room for it.
		lost = s.push(frame{layer: int8(p.Layer), top: int8(s.top), height: int8(s.height)})
	}
	delta := s.delta
	if of := s.left(p); of != nil {
		delta = of.delta
	}
	lost.lost, lost.ts, lost.goes, lost.base = false, p.RTP.Timestamp, int8(p.Temporal) <= lost.top, p.base(delta)
	return lost
}

func (s *Switch) forward(p *Packet, f *frame, at time.Time, h *pion.Header) (o rtp.Origin, send bool) {
	o = rtp.Origin{Packet: p.N, Layer: uint8(p.Layer), Picture: f.picture + p.Picture - f.in, Base: f.base,
		Marker: p.End && int8(p.Spatial) == f.height}
	if p.Layer != s.current || int16(p.RTP.Seq-s.seq) < 0 {
		return o, s.out.Late(p.RTP, o, h)
	}
	return o, s.out.Forward(p.RTP, o, at, h)
}

func (s *Switch) leave(p *Packet, h *pion.Header) (o rtp.Origin, send bool) {
	if p.Layer == s.current && int16(p.RTP.Seq-s.seq) > 0 {
		s.seq = p.RTP.Seq
	}
	o = rtp.Origin{Packet: p.N, Layer: uint8(p.Layer), Empty: true}
	return o, s.out.Leave(p.RTP, o, h)
}
