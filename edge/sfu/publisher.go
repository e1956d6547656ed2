package sfu

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/rtp"
)

const (
	// keyframeEvery bounds the keyframes that a publisher is asked for: one costs as
	// much as ten frames.
	keyframeEvery = 500 * time.Millisecond
	// firstRTT stands in until a round trip to the publisher was measured.
	firstRTT = 100 * time.Millisecond
	minRTT   = 20 * time.Millisecond
)

var clockRate = [...]uint32{Audio: 48000, Video: 90000}

// publisher is what one participant sends over one connection.
type publisher struct {
	media  transport // over which it is asked for things
	ssrc   uint32    // of that RTCP
	rtt    atomic.Int64
	wake   func() // it has something to ask for
	count  *counters
	sent   *volume // of its room
	tracks [2]*track
}

func newPublisher(wake func(), count *counters) *publisher {
	p := &publisher{ssrc: random32(), wake: wake, count: count}
	for _, k := range kinds {
		p.tracks[k] = &track{publisher: p, kind: k}
	}
	p.tracks[Video].ring = new(rtp.Ring)
	return p
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

	wanted atomic.Bool // a keyframe is
	asked  time.Time   // when for one; the session's goroutine's

	due []uint16 // scratch of the worker

	mu   sync.Mutex // the worker against NACKs and reports
	live bool
	rx   rtp.Receiver
	gaps rtp.Gaps
	ring *rtp.Ring // video only
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
	return t.live
}

// packet is the packet path: one copy into the ring, then each line. It runs on the
// transport's worker.
func (t *track) packet(b *lane.Batch, p *rtp.Packet, raw []byte, at time.Time) {
	c := t.publisher.count
	c.packetsIn.Add(1)
	c.bytesIn.Add(uint64(len(p.Payload)))
	n, fresh := t.receive(p, raw, at)
	if !fresh {
		c.duplicates.Add(1)
		return
	}
	if len(t.due) > 0 {
		c.nacksOut.Add(uint64(len(t.due)))
		t.publisher.media.WriteRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{SenderSSRC: t.publisher.ssrc, MediaSSRC: p.SSRC,
			Nacks: rtcp.NackPairsFromSequenceNumbers(t.due)}})
	}
	keyframe, packets := false, uint64(0)
	for _, l := range t.fanout() {
		sent, wants := l.forward(b, p, n, at)
		keyframe = keyframe || wants
		if sent {
			packets++
		}
	}
	if keyframe {
		t.wantKeyframe()
	}
	if packets > 0 {
		t.publisher.sent.add(packets, packets*uint64(len(p.Payload)))
		c.packetsOut.Add(packets)
		c.bytesOut.Add(packets * uint64(len(p.Payload)))
	}
}

// repairs is the inlet of what the publisher sends again of a track.
type repairs struct {
	track *track
	raw   [rtp.MaxPacket]byte // scratch
	lost  rtp.Packet
}

// packet takes one as the packet that was lost. Empty ones are there to fill a path.
func (r *repairs) packet(b *lane.Batch, p *rtp.Packet, raw []byte, at time.Time) {
	t := r.track
	t.mu.Lock()
	live, ssrc := t.live, t.rx.SSRC()
	t.mu.Unlock()
	if raw = rtp.Restore(p, raw, ssrc, p.PayloadType-1, r.raw[:0]); raw == nil || !live {
		return
	}
	var err error
	if r.lost, err = rtp.Parse(raw); err == nil {
		t.packet(b, &r.lost, raw, at)
	}
}

// receive keeps the track's books, and the packet, as n in the ring; it reports false for a
// duplicate. due is left with what to ask the publisher for.
func (t *track) receive(p *rtp.Packet, b []byte, at time.Time) (n uint32, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.due = t.due[:0]
	if !t.live || t.rx.SSRC() != p.SSRC {
		t.live, t.rx = true, rtp.NewReceiver(p.SSRC, clockRate[t.kind])
		t.gaps = rtp.Gaps{}
	}
	fresh, anew := t.rx.Receive(p, at)
	if !fresh || t.kind == Audio { // Opus mends itself (in-band FEC); asking again would come too late
		return 0, fresh
	}
	if anew {
		t.gaps = rtp.Gaps{}
	}
	n = t.ring.Put(b, at)
	if t.gaps.Seen(p.Seq, at) {
		t.wantKeyframe()
	}
	rtt := time.Duration(t.publisher.rtt.Load())
	if rtt == 0 {
		rtt = firstRTT
	}
	t.due = t.gaps.Due(at, max(rtt, minRTT), t.due)
	return n, fresh
}

// wantKeyframe has the publisher asked for one. The request is the session's goroutine's to
// write: callers hold locks.
func (t *track) wantKeyframe() {
	if !t.wanted.Swap(true) {
		t.publisher.wake()
	}
}

// askKeyframe asks for one if somebody wants it and the last request is long enough
// ago; otherwise it says how long to wait.
func (t *track) askKeyframe(now time.Time) (wait time.Duration) {
	if !t.wanted.Load() {
		return 0
	}
	if wait = t.asked.Add(keyframeEvery).Sub(now); wait > 0 {
		return wait
	}
	t.mu.Lock()
	live, ssrc := t.live, t.rx.SSRC()
	t.mu.Unlock()
	t.wanted.Store(false)
	if !live {
		return 0 // its first packet begins a keyframe
	}
	t.asked = now
	t.publisher.count.keyframesAsked.Add(1)
	t.publisher.media.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{SenderSSRC: t.publisher.ssrc, MediaSSRC: ssrc}})
	return 0
}
