package sfu

import (
	"slices"
	"testing"
	"time"

	"bailiwick/edge/sfu/layer"
)

// flat is a line to a subscriber that keeps what it gets, of a publisher without a network.
func flat(t *testing.T, layered bool) (from *pionTransport, l *line, out *quietLine) {
	t.Helper()
	pub := newPublisher(func() {}, new(counters))
	pub.sent, pub.media = new(volume), &quiet{}
	out = &quietLine{&quiet{keeps: true}, 77}
	l = &line{kind: Video, ready: true}
	l.init(out, pub.count)
	l.begin(pub.tracks[Video])
	l.layers.Want(layer.Layers-1, temporals-1)
	pub.tracks[Video].lines.Store(&[]*line{l})
	from = &pionTransport{handler: &Session{sfu: &SFU{}, pub: pub}, path: newPath(1), inlets: map[uint32]inlet{}}
	from.layered.Store(layered)
	return from, l, out
}

// TestPaddingIsOfTheCodec: what fills a path goes by the repair stream of what the client is
// decoding; it may have taken no other.
func TestPaddingIsOfTheCodec(t *testing.T) {
	for name, row := range map[string]struct {
		pt       uint8
		keyframe []byte
	}{"VP8": {ptVP8, vp8(true, "")}, "H.264": {ptH264, []byte{0x67, 1, 2, 3}}} {
		from, l, out := flat(t, true)
		now := time.Unix(1000, 0)
		from.RTP(nil, named(t, 13, row.pt, 7, "h", "", row.keyframe), now)
		l.pad(nil, 3000, now)
		var types []uint8
		for _, p := range out.wrote {
			types = append(types, p.PayloadType)
		}
		if len(types) < 3 || types[0] != row.pt || slices.ContainsFunc(types[1:], func(pt uint8) bool { return pt != row.pt+1 }) {
			t.Errorf("%s: payload types %d, want %d and its repair", name, types, row.pt)
		}
		if p := out.wrote[len(out.wrote)-1]; !p.Padding || len(p.GetExtensionIDs()) > 0 {
			t.Errorf("%s: the last is %+v, want padding alone", name, p.Header)
		}
	}
}
