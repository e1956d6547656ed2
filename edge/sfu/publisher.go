package sfu

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/sfu/rtp"
)

const (
	// keyframeEvery bounds the keyframes that a publisher is asked for: one costs as
	// much as ten frames.
	keyframeEvery = 500 * time.Millisecond
	// firstRTT stands in until a round trip to the publisher was measured.
	firstRTT = 100 * time.Millisecond
	minRTT   = 20 * time.Millisecond
	// soon is the round trip within which a lost packet of a voice can be asked for: listeners wait
	// about as long for it.
	soon = 80 * time.Millisecond
)

var clockRate = [...]uint32{Audio: 48000, Video: 90000, Screen: 90000}

// publisher is what one participant sends over one connection.
type publisher struct {
	media  transport // over which it is asked for things
	ssrc   uint32    // of that RTCP
	rtt    atomic.Int64
	wake   func() // it has something to ask for
	count  *counters
	sent   *volume // of its room
	tracks [len(kinds)]*track

	uplink  uplink       // the worker's
	flooded atomic.Int64 // what its path carries that it floods, bit/s; 0: it does not

	// Where it is to be encrypted end to end.
	kid     atomic.Uint32 // that its KIDs begin with
	told    atomic.Bool   // of media in the clear
	inClear func()
}

func newPublisher(wake func(), count *counters) *publisher {
	p := &publisher{ssrc: random32(), wake: wake, count: count}
	for _, k := range kinds {
		p.tracks[k] = &track{publisher: p, kind: k, asks: every, clocks: layer.Clocks{Rate: clockRate[k]}}
	}
	return p
}

// seal has it send nothing but what is encrypted end to end.
func (p *publisher) seal(inClear func()) {
	p.inClear = inClear
	for _, t := range p.tracks {
		t.sealed = new(sealed)
	}
}

// silence takes every track off its lines.
func (p *publisher) silence() {
	for _, t := range p.tracks {
		t.lines.Store(nil)
	}
}

// track is what a publisher sends of one kind.
type track struct {
	publisher *publisher
	kind      Kind
	lines     atomic.Pointer[[]*line] // that carry it; replaced whole, under room.mu

	wanted atomic.Uint32           // a bit for each layer of which a keyframe is
	asked  [layer.Layers]time.Time // when for one; the session's goroutine's

	// The worker's.
	due    []uint16                 // scratch
	skews  [layer.Layers]layer.Skew // of each stream
	clocks layer.Clocks
	bound  bound // of audio

	layered atomic.Bool  // each of those who receive it has the layers that suit it
	stacked atomic.Bool  // and these are of one stream, each above those below it: SVC
	ceiling atomic.Int64 // bit/s that its sender was last told to stay within; 0: none
	loud    loudness     // of audio
	sealed  *sealed      // nil: it is not encrypted end to end

	mu           sync.Mutex // the worker against NACKs, reports and allocations
	layers       [layer.Layers]*encoding
	dependencies [layer.Layers]*dependencies // of each stream, once it has some
	flows        [layer.Layers]flow          // of each layer
	asks         mask                        // the layers that its sender is not told to pause
	since        [layer.Layers]time.Time     // when each was last asked for again
	idle         time.Time                   // since when some of them are not watched
	rests        bool                        // its path has no room for it
	deaf         bool                        // it is told what to stay within, and does not
	over         time.Time                   // since when it has not
}

// stream is the inlet of one layer of a track.
type stream struct {
	track *track
	layer int
}

func (t *track) fanout() []*line {
	if p := t.lines.Load(); p != nil {
		return *p
	}
	return nil
}

func (t *track) published() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.layers {
		if e != nil {
			return true
		}
	}
	return false
}

// packet is the packet path: one copy into the ring, then each line. It runs on the
// transport's worker.
func (s *stream) packet(b *lane.Batch, p *rtp.Packet, raw []byte, at time.Time) {
	t := s.track
	c := t.publisher.count
	c.packetsIn.Add(1)
	c.bytesIn.Add(uint64(len(p.Payload)))
	t.publisher.arrived(t.kind, p, len(raw), at)
	if p.PayloadType == ptRED && !undouble(p) {
		c.malformed.Add(1)
		return
	}
	// An SSRC is what its first packet was, and nothing else comes with it.
	if k, repair, ok := carried(p.PayloadType); !ok || repair || (k == Audio) != (t.kind == Audio) {
		c.malformed.Add(1)
		return
	}
	if t.kind == Audio && !t.bound.take(len(p.Payload), at) {
		c.excess.Add(1)
		return
	}
	d, ok := t.pass(p, s.layer)
	if !ok {
		t.publisher.refuse()
		return
	}
	v := layer.Packet{Layer: s.layer, RTP: p, Descriptor: d}
	n, fresh := t.receive(p, &v.Descriptor, s.layer, raw, at)
	if !fresh {
		c.duplicates.Add(1)
		return
	}
	if len(t.due) > 0 {
		c.nacksOut.Add(uint64(len(t.due)))
		t.publisher.media.WriteRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{SenderSSRC: t.publisher.ssrc, MediaSSRC: p.SSRC,
			Nacks: rtcp.NackPairsFromSequenceNumbers(t.due)}})
	}
	var packets, bytes uint64
	if t.kind == Audio {
		t.loud.add(p.Extension(extAudioLevel))
		for _, l := range t.fanout() {
			if l.hear(b, p, at) {
				packets, bytes = packets+1, bytes+uint64(len(p.Payload))
			}
		}
	} else {
		v.N = n
		for _, l := range t.fanout() {
			sent, octets, lacks := l.show(b, &v, at)
			packets, bytes = packets+sent, bytes+octets
			if lacks >= 0 {
				t.wantKeyframe(lacks)
			}
		}
	}
	if packets > 0 {
		t.publisher.sent.add(packets, bytes)
		c.packetsOut.Add(packets)
		c.bytesOut.Add(bytes)
	}
}

// arrived watches the path by what comes.
func (p *publisher) arrived(k Kind, packet *rtp.Packet, bytes int, at time.Time) {
	if ext := packet.Extension(extWide); len(ext) == 2 {
		p.uplink.arrived(binary.BigEndian.Uint16(ext), bytes)
	}
	if k != Audio {
		return
	}
	if rate := p.uplink.hear(packet.SSRC, packet.Seq, packet.Timestamp, at); rate > 0 {
		p.flooded.Store(int64(rate))
		p.wake()
	}
}

// repairs is the inlet of what the publisher sends again of a stream.
type repairs struct {
	stream
	raw  [rtp.MaxPacket]byte // scratch
	lost rtp.Packet
}

// packet takes one as the packet that was lost. Empty ones are there to fill a path.
func (r *repairs) packet(b *lane.Batch, p *rtp.Packet, raw []byte, at time.Time) {
	if _, repair, _ := carried(p.PayloadType); !repair {
		c := r.track.publisher.count
		c.packetsIn.Add(1)
		c.malformed.Add(1)
		return
	}
	ssrc, live := r.track.ssrc(r.layer)
	if raw = rtp.Restore(p, raw, ssrc, p.PayloadType-1, r.raw[:0]); raw == nil || !live {
		return
	}
	var err error
	if r.lost, err = rtp.Parse(raw); err == nil {
		r.stream.packet(b, &r.lost, raw, at)
	}
}

// wantKeyframe has the publisher asked for one of a layer. The request is the session's
// goroutine's to write: callers hold locks.
func (t *track) wantKeyframe(of int) {
	of = t.streamOf(of)
	if bit := uint32(1) << of; t.wanted.Or(bit)&bit == 0 {
		t.publisher.wake()
	}
}

// askKeyframe asks for those that somebody wants, of layers whose last request is long enough
// ago; for the others it says how long to wait.
func (t *track) askKeyframe(now time.Time) (wait time.Duration) {
	for of := range layer.Layers {
		bit := uint32(1) << of
		if t.wanted.Load()&bit == 0 {
			continue
		}
		if left := t.asked[of].Add(keyframeEvery).Sub(now); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		t.wanted.And(^bit)
		ssrc, live := t.ssrc(of)
		if !live {
			continue // its first packet begins a keyframe
		}
		t.asked[of] = now
		t.publisher.count.keyframesAsked.Add(1)
		t.publisher.media.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{SenderSSRC: t.publisher.ssrc, MediaSSRC: ssrc}})
	}
	return wait
}
