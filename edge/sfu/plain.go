package sfu

import (
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/rtp"
)

// spawn runs a reader that Close waits for.
func (t *pionTransport) spawn(read func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.readers.Go(read)
	}
}

// readPackets carries one of pion's streams, of an m-line.
func (t *pionTransport) readPackets(remote *webrtc.TrackRemote, mid string) {
	kind := Audio
	if remote.Kind() == webrtc.RTPCodecTypeVideo {
		kind = Video
	}
	src := source{SSRC: uint32(remote.SSRC()), Kind: kind} // pion mends it itself
	if mid == screenMID && t.screens.Load() != nil {
		src.Kind = Screen
	} else if rid := remote.RID(); rid != "" {
		src.Layer, src.Named = t.layerOf([]byte(rid)), true
	}
	in := t.handler.stream(src)
	if in == nil {
		return
	}
	buf := make([]byte, rtp.MaxPacket)
	var p rtp.Packet
	for {
		n, _, err := remote.Read(buf)
		if n == 0 && err != nil {
			return
		}
		t.ours(buf[:n])
		// With an error too: a payload type that pion does not know.
		p, err = rtp.Parse(buf[:n])
		if k, repair, ok := carried(p.PayloadType); err != nil || !ok || repair || k != kind {
			t.handler.malformed()
			continue
		}
		t.plainly(func(batch *lane.Batch, now time.Time) {
			t.arrived(&p, now)
			in.packet(batch, &p, buf[:n], now)
		})
	}
}

// readControl reads the RTCP that pion sorts under one SSRC. It sorts a packet that
// is about several under each of them: the first one's reader takes it.
func (t *pionTransport) readControl(ssrc uint32, read func([]byte) (int, interceptor.Attributes, error)) {
	buf := make([]byte, rtp.MaxPacket)
	for {
		n, _, err := read(buf)
		if err != nil {
			return
		}
		t.plainly(func(batch *lane.Batch, now time.Time) { t.hear(batch, buf[:n], ssrc, now) })
	}
}

// plainly does for one of pion's readers what the lane's workers do for a burst.
func (t *pionTransport) plainly(do func(*lane.Batch, time.Time)) {
	t.plain.Lock()
	defer t.plain.Unlock()
	if t.batch == nil {
		t.batch = t.mux.lane.Batch()
	}
	do(t.batch, time.Now())
	t.batch.Flush()
}
