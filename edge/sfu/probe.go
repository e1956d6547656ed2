package sfu

import (
	"time"

	"bailiwick/edge/sfu/lane"
)

const (
	// probeEvery is how often a probe's padding is sent, and probeFor how long after the last that
	// was due it is asked for. Between probes the client's feedback asks.
	probeEvery = 20 * time.Millisecond
	probeFor   = 120 * time.Millisecond
	// repeated is how many of the newest packets a line sends again as padding.
	repeated = 64
)

// padding is the payload of a packet that has none (RFC 3550 section 5.1).
var padding = func() (b [255]byte) { b[254] = 255; return }()

// probe sends what is due now, beside the media, to find out whether the path carries more where
// somebody has a use for it. It reports whether anything was due.
func (x *Session) probe(b *lane.Batch, now time.Time) (due bool) {
	want := int(x.want.Load())
	if want <= int(x.rate.Load()) {
		want = 0
	}
	size := x.media.Padding(want, now)
	if size <= 0 {
		return false
	}
	if l := x.padded(); l != nil {
		n, bytes := l.pad(b, size, now)
		x.sfu.count.padded.Add(n)
		x.sfu.count.packetsOut.Add(n)
		x.sfu.count.bytesOut.Add(bytes)
	}
	return true
}

// padded is the line that padding goes with: one that shows something, or else any that could.
// Where the client takes no repair packets there is none, for there is nothing else that may be
// sent twice.
func (x *Session) padded() (best *line) {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	for _, l := range x.neg.lines {
		if l.kind == Audio || !l.ready {
			continue
		}
		if _, ok := l.out.Repair(); !ok {
			continue
		}
		if best == nil || l.on && l.at.spatial >= 0 && !(best.on && best.at.spatial >= 0) {
			best = l
		}
	}
	return best
}

// pad sends so many bytes that the client has no need of: its newest packets once more, and then
// empty ones.
func (l *line) pad(b *lane.Batch, size int, at time.Time) (packets, bytes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := l.rewrite.Newest()
	for back := uint16(0); size > 0; back++ {
		n, ok := 0, false
		if back < repeated {
			n, ok = l.repeat(b, newest-back, at)
		} else if n, ok = l.empty(b, at); !ok {
			return packets, bytes
		}
		if ok {
			size -= n + overhead
			packets, bytes = packets+1, bytes+uint64(n)
		}
	}
	return packets, bytes
}

// empty sends a repair packet of nothing.
func (l *line) empty(b *lane.Batch, at time.Time) (n int, ok bool) {
	ssrc, ok := l.out.Repair()
	if !ok {
		return 0, false
	}
	h := &l.header
	h.Version, h.Padding, h.Marker, h.PayloadType = 2, true, false, l.codec+1
	h.SSRC, h.SequenceNumber = ssrc, l.repairs
	l.repairs++
	h.ClearExtensions()
	return len(padding), l.out.WriteRTP(b, h, padding[:], at) == nil
}
