package sfu

import (
	"time"

	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/sfu/rtp"
)

// encoding is what came of one stream of a track: of a simulcast layer, or of all of one that is
// sent without simulcast. It is guarded by track.mu.
type encoding struct {
	rx   rtp.Receiver
	gaps rtp.Gaps
	ring *rtp.Ring // video only
}

func newEncoding(k Kind) *encoding {
	e := &encoding{}
	if k != Audio {
		e.ring = new(rtp.Ring)
	}
	return e
}

// codec is that of a payload type of ours.
func codec(pt uint8) layer.Codec {
	switch pt {
	case ptVP8:
		return layer.VP8
	case ptH264:
		return layer.H264
	case ptVP9:
		return layer.VP9
	case ptAV1:
		return layer.AV1
	}
	return layer.Unknown
}

// receive keeps the books of a packet d of a layer, and the packet, as n in the layer's ring; it
// reports false for a duplicate. due is left with what to ask the publisher for.
func (t *track) receive(p *rtp.Packet, d *layer.Descriptor, of int, b []byte, at time.Time) (n uint32, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.due = t.due[:0]
	e := t.layers[of]
	if e == nil {
		e = newEncoding(t.kind)
		t.layers[of] = e
	}
	if e.rx.SSRC() != p.SSRC || !e.rx.Started() {
		e.rx, e.gaps = rtp.NewReceiver(p.SSRC, clockRate[t.kind]), rtp.Gaps{}
		t.clocks.Forget(of)
	}
	fresh, anew := e.rx.Receive(p, at)
	if fresh {
		t.weighLocked(d, of, p.Timestamp, len(b)+overhead, at)
	}
	rtt := time.Duration(t.publisher.rtt.Load())
	if rtt == 0 {
		rtt = firstRTT
	}
	if !fresh || t.kind == Audio && rtt > soon { // Opus mends itself (in-band FEC); asking again would come too late
		return 0, fresh
	}
	if anew || t.rests {
		e.gaps = rtp.Gaps{}
	}
	if t.kind != Audio {
		n = e.ring.Put(b, at)
	}
	if e.gaps.Seen(p.Seq, at) && t.kind != Audio {
		t.wantKeyframe(of)
	}
	if t.rests || t.publisher.uplink.crowded(at) { // what was lost of it floods a path that has no room for it
		return n, fresh
	}
	t.due = e.gaps.Due(at, max(rtt, minRTT), t.due)
	return n, fresh
}

// forgive has nothing of any video asked for that was lost so far, and while they rest nothing at all.
func (p *publisher) forgive(rests bool) {
	p.tracks[Video].forgive(rests)
	p.tracks[Screen].forgive(rests)
}

func (t *track) forgive(rests bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rests = rests
	for _, e := range t.layers {
		if e != nil {
			e.gaps = rtp.Gaps{}
		}
	}
}

// ssrc is that of a layer; ok is false for one that never came.
func (t *track) ssrc(of int) (ssrc uint32, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.layers[of]; e != nil {
		return e.rx.SSRC(), true
	}
	return 0, false
}

// copyOf appends the packet that is n in a layer's ring to dst.
func (t *track) copyOf(of int, n uint32, dst []byte) ([]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.layers[of]; e != nil && e.ring != nil {
		return e.ring.Get(n, dst)
	}
	return dst, false
}

// senderReport takes one of the publisher's.
func (t *track) senderReport(ssrc uint32, ntp uint64, ts uint32, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for of, e := range t.layers {
		if e != nil && e.rx.SSRC() == ssrc {
			e.rx.SenderReport(ntp, ts, at)
			t.clocks.Report(of, ntp, ts)
		}
	}
}

// clock is a layer's (rtp.Receiver.Clock), and its source.
func (t *track) clock(of int, now time.Time) (ssrc uint32, ntp uint64, ts uint32, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.layers[of]; e != nil {
		ntp, ts, ok = e.rx.Clock(now)
		ssrc = e.rx.SSRC()
	}
	return ssrc, ntp, ts, ok
}
