package sfu

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/sfu/rtp"
	"bailiwick/edge/whiptest"
)

// flat is a line to a subscriber that keeps what it gets, of a publisher without a network.
func flat(t testing.TB, layered bool) (from *pionTransport, l *line, out *quietLine) {
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

// forwarding is a stream that begins with a keyframe, and ever goes on.
func forwarding(t testing.TB, f forwarded) (next func()) {
	from, l, _ := flat(t, false)
	l.out = &quietLine{&quiet{}, 77}
	var all [2][]byte
	for i, payload := range [][]byte{f.key, f.other} {
		h := pion.Header{Version: 2, Marker: true, PayloadType: f.pt, SSRC: 5}
		if f.exts[i] != nil {
			h.SetExtension(extDependency, f.exts[i])
		}
		var err error
		if all[i], err = (&pion.Packet{Header: h, Payload: append(payload, make([]byte, 1000)...)}).Marshal(); err != nil {
			t.Fatal(err)
		}
	}
	now, seq, ts := time.Unix(1000, 0), uint16(0), uint32(0)
	return func() {
		raw := all[min(ts, 1)]
		seq, ts, now = seq+1, ts+3000, now.Add(33*time.Millisecond)
		binary.BigEndian.PutUint16(raw[2:], seq)
		binary.BigEndian.PutUint32(raw[4:], ts)
		from.RTP(nil, raw, now)
		if sent, _ := l.rewrite.Sent(); sent == 0 {
			t.Fatal("nothing goes on")
		}
	}
}

type forwarded struct {
	name       string
	pt         uint8
	key, other []byte
	exts       [2][]byte // of these
}

var forwards = []forwarded{
	{"VP8", ptVP8, []byte{0x90, 0x80, 0x92, 0x67, 0}, []byte{0x90, 0x80, 0x92, 0x67, 1}, [2][]byte{}},
	{"VP8 by descriptor", ptVP8, []byte{0x10, 0}, []byte{0x10, 1}, [2][]byte{stacked3, {0xc1, 0, 1}}},
	{"H264", ptH264, []byte{0x67, 1}, []byte{0x41, 1}, [2][]byte{}},
	{"VP9", ptVP9, []byte{0x88, 0x92, 0x67, 0}, []byte{0xc8, 0x92, 0x67, 0}, [2][]byte{}},
	{"AV1", ptAV1, []byte{0x18}, []byte{0x10}, [2][]byte{stacked3, {0xc1, 0, 1}}},
	{"AV1, ever a structure", ptAV1, []byte{0x18}, []byte{0x18}, [2][]byte{stacked3, stacked3}},
}

func TestForwardingAllocatesNothing(t *testing.T) {
	for _, row := range forwards {
		next := forwarding(t, row)
		for range 2000 { // the ring grows
			next()
		}
		if n := testing.AllocsPerRun(5000, next); n != 0 {
			t.Errorf("%s: %v allocations a packet, want 0", row.name, n)
		}
	}
}

// BenchmarkForwarding is one packet to one subscriber, without what encrypts and sends it.
func BenchmarkForwarding(b *testing.B) {
	for _, row := range forwards {
		b.Run(row.name, func(b *testing.B) {
			next := forwarding(b, row)
			b.ReportAllocs()
			for b.Loop() {
				next()
			}
		})
	}
}

// TestDescriptorsOfOffers: a client that offers the dependency descriptor by a number of its own is
// answered, and gets it by that, with the other extensions beside it however long it is.
func TestDescriptorsOfOffers(t *testing.T) {
	s := listen(t)
	const theirs = 9
	offer := whiptest.Player(t, "av").Offer()
	video := strings.Index(offer, "m=video")
	offer = offer[:video] + strings.Replace(offer[video:], "a=mid:", fmt.Sprintf("a=extmap:%d %s\r\na=extmap:10 %s\r\na=mid:", theirs, dependencyURI, captureTimeURI), 1)
	a, err := s.Accept(offer, true)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if !strings.Contains(a.Answer(), fmt.Sprintf("a=extmap:%d %s", theirs, dependencyURI)) {
		t.Fatalf("it is not answered:\n%s", a.Answer())
	}
	out := a.media.outlets[slices.IndexFunc(a.media.outlets, func(o *pionOutlet) bool { return o.kind == Video })]
	for _, ext := range [][]byte{{0xc1, 0, 1}, stacked3} {
		h := pion.Header{Version: 2, PayloadType: ptVP8}
		h.SetExtension(extDependency, ext)
		h.SetExtension(extCaptureTime, []byte("captured"))
		got := out.theirs(&h)
		raw, err := got.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		p, err := rtp.Parse(raw)
		if err != nil || !bytes.Equal(p.Extension(theirs), ext) || string(p.Extension(10)) != "captured" {
			t.Errorf("%d bytes: %x %q %v", len(ext), p.Extension(theirs), p.Extension(10), err)
		}
		a.media.numbers.in.Renumber(raw)
		if p, err = rtp.Parse(raw); err != nil || !bytes.Equal(p.Extension(extDependency), ext) {
			t.Errorf("%d bytes, as if they sent it: %x %v", len(ext), p.Extension(extDependency), err)
		}
	}
}
