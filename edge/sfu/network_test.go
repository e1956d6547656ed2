package sfu

import (
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/sfu/mos"
	"bailiwick/edge/signal"
)

// TestNetworks: what clients report of their ways is told, and what people think of such.
func TestNetworks(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	b.routed(a, Audio)
	a.say(Audio, 1, []byte("one"))
	a.say(Audio, 4, []byte("four")) // of four that were sent two came
	b.hears("a", Audio, "four")
	a.mu.Lock()
	own := uint32(a.rtx[Audio].GetParameters().Encodings[0].SSRC)
	a.mu.Unlock()
	a.feedback(&rtcp.SenderReport{SSRC: own, NTPTime: 0xe800_0001_8000_0000, RTPTime: 960})
	sr := b.awaitControlOn("a audio", "sender report")
	b.mu.Lock()
	ssrc := b.ssrc["a audio"]
	b.mu.Unlock()
	b.feedback(&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: ssrc, FractionLost: 64, Jitter: 4800, LastSenderReport: uint32(sr.NTPTime >> 16)}}})
	var all []Network
	eventually(t, "word of b's way", func() bool {
		all = s.Networks("room")
		return len(all) == 2 && all[1].RTT > 0
	})
	if len(all) != 2 || all[0].Participant != "a" || all[1].Participant != "b" {
		t.Fatalf("%+v, want a and b", all)
	}
	n := all[1]
	if n.Down != (Way{0.25, 100 * time.Millisecond}) || n.MOS != mos.Estimate(n.RTT/2+240*time.Millisecond, 0.25) || n.MOS > 3 {
		t.Errorf("b: %+v", n)
	}
	b.mu.Lock()
	session := b.x
	b.mu.Unlock()
	said := []signal.Played{{Participant: "b", Height: 1}, {Participant: "a", Height: 360, MOS: 4}, {Participant: "a", Height: 2}, {Participant: "stranger", Height: 3}}
	want := []signal.Played{{Participant: "a", Height: 360, MOS: 4}}
	if taken := session.Played(said); !slices.Equal(taken, want) {
		t.Errorf("taken of what b says: %+v, want %+v", taken, want)
	}
	if all = s.Networks("room"); !slices.Equal(all[1].Played, want) || all[0].Played != nil {
		t.Errorf("b plays %+v, a %+v", all[1].Played, all[0].Played)
	}
	if all[0].RTT != 0 || all[0].MOS != 0 {
		t.Errorf("a, of whom nothing is known: %+v", all[0])
	}
	if all := s.Networks("another"); all != nil {
		t.Errorf("of no room: %+v", all)
	}
}
