package sfu

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
)

// TestBack: who nominated several pairs and goes on with one before the last is followed there, once the
// last is silent; never to where it did not nominate.
func TestBack(t *testing.T) {
	m := &mux{sockets: []Socket{{Bound: netip.MustParseAddrPort("192.0.2.1:7882")}}}
	x := &pionTransport{mux: m}
	place := func(port uint16) location {
		return location{0, netip.AddrPortFrom(netip.MustParseAddr("192.0.2.9"), port)}
	}
	nominate := func(port uint16) {
		x.moved(&webrtc.ICECandidatePair{Remote: &webrtc.ICECandidate{Address: "192.0.2.9", Port: port, Protocol: webrtc.ICEProtocolUDP}})
	}
	nominate(1)
	nominate(2)
	began := x.checked
	for _, tt := range []struct {
		name  string
		after time.Duration // the last is nominated
		from  uint16
		want  bool
	}{
		{"a check on the way", time.Second, 1, false},
		{"the last one's", 2 * time.Second, 2, false},
		{"soon after that", 4 * time.Second, 1, false},
		{"long after that, from nowhere", 6 * time.Second, 3, false},
		{"long after that", 6 * time.Second, 1, true},
	} {
		if got := x.back(place(tt.from), began.Add(tt.after)); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
	nominate(1) // as pion does then
	if x.at != place(1) || x.back(place(1), time.Now()) {
		t.Errorf("at %v", x.at)
	}
	for port := range uint16(100) {
		nominate(10 + port)
	}
	if len(x.nominated) != nominees || x.nominated[nominees-1] != place(109) {
		t.Errorf("%d places are remembered: %v", len(x.nominated), x.nominated)
	}
}
