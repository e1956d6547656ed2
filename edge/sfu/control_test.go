package sfu

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/signal"
)

func TestAudioOnly(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	b.routed(a, Video)
	a.say(Video, 1, vp8(true, "v1"), vp8(false, "v2"))
	b.hears("a", Video, "v2")
	b.x.State(signal.State{Mic: true})
	if carries(a.x.pub.tracks[Video], b.x) || !carries(a.x.pub.tracks[Audio], b.x) {
		t.Fatal("after receive_video false: want audio and no video")
	}
	a.say(Video, 3, vp8(false, "v3"))
	a.say(Audio, 1, []byte("a1")) // behind it
	b.hears("a", Audio, "a1")
	b.x.State(signal.State{Mic: true, ReceiveVideo: true})
	a.awaitControl("keyframe request", isPLI)
	a.say(Video, 4, vp8(false, "v4"), vp8(true, "v5"), vp8(false, "v6"))
	b.hears("a", Video, "v6")
	b.mu.Lock()
	defer b.mu.Unlock()
	if got, want := b.heardLocked("a", Video), []string{"v1", "v2", "v5", "v6"}; !slices.Equal(got, want) {
		t.Errorf("video %v, want %v: nothing while off, then from a keyframe on", got, want)
	}
	p := b.got["a video"]
	for i := range p[1:] {
		if p[i+1].SequenceNumber != p[i].SequenceNumber+1 {
			t.Errorf("packet %d: number %d after %d: a gap to complain about", i+1, p[i+1].SequenceNumber, p[i].SequenceNumber)
		}
	}
}

// TestNACK both ways: the subscriber's is answered from the ring with the same
// bytes; the edge asks the publisher for what it misses.
func TestNACK(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	b.routed(a, Video)
	a.say(Video, 1, vp8(true, "v1"), vp8(false, "v2"))
	b.hears("a", Video, "v2")
	b.mu.Lock()
	first, ssrc := b.got["a video"][0], b.ssrc["a video"]
	b.mu.Unlock()

	// The client's SRTP drops a packet that it has already: what came is counted here.
	b.feedback(&rtcp.TransportLayerNack{MediaSSRC: ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(
		[]uint16{first.SequenceNumber - 1, first.SequenceNumber, first.SequenceNumber + 9})})
	eventually(t, "retransmission", func() bool { return s.Stats().NACKsIn == 3 })
	if st := s.Stats(); st.Retransmitted != 1 {
		t.Errorf("%d sent again, want the one that was sent before", st.Retransmitted)
	}

	a.say(Video, 4, vp8(false, "v4"))
	nack := a.awaitControl("NACK", func(p rtcp.Packet) bool { _, ok := p.(*rtcp.TransportLayerNack); return ok }).(*rtcp.TransportLayerNack)
	if got := nack.Nacks[0].PacketList(); !slices.Equal(got, []uint16{3}) {
		t.Errorf("asked for %v, want 3", got)
	}
	b.hears("a", Video, "v4")
	a.say(Video, 3, vp8(false, "v3"))
	b.hears("a", Video, "v3")
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.got["a video"] {
		if want := fmt.Sprint("v", p.SequenceNumber-first.SequenceNumber+1); string(p.Payload[2:]) != want {
			t.Errorf("%s in %s's place", p.Payload[2:], want)
		}
	}
}

func TestKeyframeRequestsAreForwardedAndThrottled(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	b.routed(a, Video)
	a.say(Video, 1, vp8(true, "v1"))
	b.hears("a", Video, "v1")
	b.mu.Lock()
	ssrc := b.ssrc["a video"]
	b.mu.Unlock()
	before := s.Stats().KeyframeRequests
	for range 20 {
		b.feedback(&rtcp.PictureLossIndication{MediaSSRC: ssrc})
		b.feedback(&rtcp.FullIntraRequest{MediaSSRC: ssrc, FIR: []rtcp.FIREntry{{SSRC: ssrc}}})
	}
	a.awaitControl("keyframe request", isPLI)
	if n := s.Stats().KeyframeRequests - before; n > 2 {
		t.Errorf("%d requests for 40 at once", n)
	}
}

// TestReports: the publisher gets reception reports and a ceiling, the subscriber
// sender reports on the publisher's clock. The counts show that nobody else writes
// RTCP: pion's default interceptors would, with our SRTP keys.
func TestReports(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	b.routed(a, Video)
	a.say(Video, 1, vp8(true, "v1"), vp8(false, "v2"))
	b.hears("a", Video, "v2")
	ntp := uint64(0xe800_0001_8000_0000)
	a.mu.Lock()
	own := uint32(a.rtx[Video].GetParameters().Encodings[0].SSRC)
	a.mu.Unlock()
	a.feedback(&rtcp.SenderReport{SSRC: own, NTPTime: ntp, RTPTime: 960})

	rr := a.awaitControl("reception report", func(p rtcp.Packet) bool {
		r, ok := p.(*rtcp.ReceiverReport)
		return ok && r.Reports[0].LastSenderReport != 0
	}).(*rtcp.ReceiverReport).Reports[0]
	if rr.SSRC != own || rr.LastSequenceNumber != 2 || rr.TotalLost != 0 || rr.LastSenderReport != uint32(ntp>>16) || rr.Delay > 2*65536 {
		t.Errorf("reception report %+v", rr)
	}
	remb := a.awaitControl("ceiling", func(p rtcp.Packet) bool { _, ok := p.(*rtcp.ReceiverEstimatedMaximumBitrate); return ok }).(*rtcp.ReceiverEstimatedMaximumBitrate)
	if remb.Bitrate != downlink-voice {
		t.Errorf("ceiling %v, want %d for a room of two of whom nothing more is known", remb.Bitrate, downlink-voice)
	}
	sr := b.awaitControlOn("a video", "sender report")
	b.mu.Lock()
	p := b.got["a video"][0]
	b.mu.Unlock()
	passed := time.Duration(float64(sr.NTPTime-ntp) / (1 << 32) * float64(time.Second))
	if got, want := sr.RTPTime-p.Timestamp, uint32(passed.Seconds()*90000); passed < 0 || passed > patience || max(got, want)-min(got, want) > 90 {
		t.Errorf("sender report %d after the first packet, %v after the publisher's: want %d", got, passed, want)
	}
	if sr.PacketCount != 2 {
		t.Errorf("sender report of %d packets, want 2", sr.PacketCount)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.control {
		switch p.(type) {
		case *rtcp.ReceiverReport, *rtcp.ReceiverEstimatedMaximumBitrate, *rtcp.PictureLossIndication, *rtcp.SourceDescription:
		default:
			t.Errorf("%T: this package writes none here", p)
		}
	}
}

func isPLI(p rtcp.Packet) bool { _, ok := p.(*rtcp.PictureLossIndication); return ok }
