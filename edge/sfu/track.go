package sfu

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"

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

// track is what one session publishes of one kind.
type track struct {
	session *Session
	kind    Kind
	lines   atomic.Pointer[[]*line] // that carry it; replaced whole, under room.mu

	wanted atomic.Bool // a keyframe is
	asked  time.Time   // when for one; the session's goroutine's

	due []uint16 // scratch of the reader

	mu   sync.Mutex // the reader against NACKs and reports
	live bool
	rx   rtp.Receiver
	gaps rtp.Gaps
	ring *rtp.Ring // video only
}

func newTrack(x *Session, k Kind) *track {
	t := &track{session: x, kind: k}
	if k == Video {
		t.ring = new(rtp.Ring)
	}
	return t
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

// packet is the packet path: one parse, one copy into the ring, then each line. It
// runs on the transport's reader.
func (x *Session) packet(kind Kind, b []byte, at time.Time) {
	c := &x.sfu.count
	c.packetsIn.Add(1)
	p, err := rtp.Parse(b)
	if err != nil || !carried(kind, p.PayloadType) {
		c.malformed.Add(1)
		return
	}
	c.bytesIn.Add(uint64(len(p.Payload)))
	t := x.tracks[kind]
	n, fresh := t.receive(&p, b, at)
	if !fresh {
		c.duplicates.Add(1)
		return
	}
	if len(t.due) > 0 {
		c.nacksOut.Add(uint64(len(t.due)))
		x.media.WriteRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{SenderSSRC: x.ssrc, MediaSSRC: p.SSRC,
			Nacks: rtcp.NackPairsFromSequenceNumbers(t.due)}})
	}
	keyframe, packets := false, uint64(0)
	for _, l := range t.fanout() {
		sent, wants := l.forward(&p, n, at)
		keyframe = keyframe || wants
		if sent {
			packets++
		}
	}
	if keyframe {
		t.wantKeyframe()
	}
	x.room.packets.Add(packets)
	x.room.bytes.Add(packets * uint64(len(p.Payload)))
	c.packetsOut.Add(packets)
	c.bytesOut.Add(packets * uint64(len(p.Payload)))
}

// carried tells whether a payload type is one of the kind's.
func carried(kind Kind, pt uint8) bool {
	if kind == Audio {
		return pt == ptOpus
	}
	return pt == ptVP8 || pt == ptH264
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
	n = t.ring.Put(b)
	if t.gaps.Seen(p.Seq, at) {
		t.wantKeyframe()
	}
	rtt := time.Duration(t.session.rtt.Load())
	if rtt == 0 {
		rtt = firstRTT
	}
	t.due = t.gaps.Due(at, max(rtt, minRTT), t.due)
	return n, fresh
}

// wantKeyframe has the publisher asked for one. The request is the session's to
// write: callers hold locks.
func (t *track) wantKeyframe() {
	if !t.wanted.Swap(true) {
		t.session.kick()
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
	t.session.sfu.count.keyframesAsked.Add(1)
	t.session.media.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{SenderSSRC: t.session.ssrc, MediaSSRC: ssrc}})
	return 0
}
