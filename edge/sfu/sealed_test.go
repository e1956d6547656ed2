package sfu

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"

	"bailiwick/edge/signal"
)

const tagged = 0x010203

// frameOf is what SFrame makes of a frame, to who has no key: a header, and noise.
func frameOf(tag uint32, mark string) []byte {
	return append([]byte{0xb8, byte(tag >> 16), byte(tag >> 8), byte(tag), 1, 0x40}, mark...)
}

// structure is a dependency descriptor of a keyframe: Chromium's, of VP8.
var structure, _ = hex.DecodeString("c000018002044eaaaf2860414d34538a0940404fc02cc0")

// TestSealed: what is encrypted goes on, audio as it is, and video from the keyframe on that its
// dependency descriptor tells of; nothing is read of its payload.
func TestSealed(t *testing.T) {
	synctest.Test(t, testSealed)
}

func testSealed(t *testing.T) {
	s := quietly()
	defer s.Close()
	told := 0
	all := sessionsAs(t, s, Seat{Sealed: true, InClear: func() { told++ }}, 2)
	all[0].Answer(signal.Answer{SDP: answerTo(pair), Seq: 2}) // with 1's m-lines
	from := &pionTransport{handler: all[0], path: newPath(1), inlets: map[uint32]inlet{}}
	to := all[1].media.(*quiet)
	to.keeps = true
	all[0].State(signal.State{Mic: true, Camera: true, ReceiveVideo: true, KID: tagged})
	send := func(pt uint8, ssrc uint32, seq uint16, ext, payload []byte) (n int) {
		t.Helper()
		h := pion.Header{Version: 2, PayloadType: pt, SSRC: ssrc, SequenceNumber: seq, Timestamp: uint32(seq) * 3000, Marker: true}
		if ext != nil {
			h.SetExtension(extDependency, ext)
		}
		raw, err := (&pion.Packet{Header: h, Payload: payload}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		before := len(to.wrote)
		from.RTP(nil, raw, time.Now())
		for _, p := range to.wrote[before:] {
			if ext != nil && len(p.GetExtension(extDependency)) != len(ext) {
				t.Errorf("%x went on with the dependency descriptor %x", ext, p.GetExtension(extDependency))
			}
			if !bytes.Equal(p.Payload, payload) {
				t.Errorf("%x went on as %x", payload, p.Payload)
			}
		}
		return len(to.wrote) - before
	}
	vp8 := func(frame []byte) []byte { return append([]byte{0x10}, frame...) }
	for i, row := range []struct {
		name         string
		pt           uint8
		ext, payload []byte
		want         int
	}{
		{"sound", ptOpus, nil, frameOf(tagged, "sound"), 1},
		{"sound in the clear", ptOpus, nil, []byte{0x78, 1, 2, 3, 4, 5}, 0},
		{"sound under another's KID", ptOpus, nil, frameOf(tagged+1, "sound"), 0},
		{"a picture before the keyframe, which VP8 would take for one", ptVP8, []byte{0xc0, 0, 0}, vp8(frameOf(tagged, "\x00")), 0},
		{"the keyframe", ptVP8, structure, vp8(frameOf(tagged, "key")), 1},
		{"a picture", ptVP8, []byte{0xc2, 0, 2}, vp8(frameOf(tagged, "picture")), 1},
		{"a keyframe in the clear", ptVP8, structure, vp8([]byte{0x10, 0x1e, 0, 0x9d, 1, 0x2a, 0, 0, 0, 0}), 0},
		{"the rest of one", ptVP8, []byte{0x42, 0, 3}, append([]byte{0x00}, "clear"...), 0},
		{"a payload descriptor that is cut short", ptVP8, nil, []byte{0x90}, 0},
		{"H.264", ptH264, structure, frameOf(tagged, "h264"), 0},
		{"sound again", ptOpus, nil, frameOf(tagged, "again"), 1},
	} {
		if got := send(row.pt, map[uint8]uint32{ptOpus: 11, ptVP8: 22, ptH264: 33}[row.pt], uint16(100+i), row.ext, row.payload); got != row.want {
			t.Errorf("%s: %d packets went on, want %d", row.name, got, row.want)
		}
	}
	if n := s.Stats().InClear; n != 6 || told != 1 {
		t.Errorf("%d packets in the clear, told %d times; want 6 and 1", n, told)
	}
	// What is asked for again has the same extension.
	key := to.wrote[1]
	all[1].control(nil, &rtcp.TransportLayerNack{MediaSSRC: key.SSRC, Nacks: rtcp.NackPairsFromSequenceNumbers([]uint16{key.SequenceNumber})}, time.Now())
	again := to.wrote[len(to.wrote)-1]
	if again.SSRC != key.SSRC+100 || !bytes.Equal(again.Payload[2:], key.Payload) || !bytes.Equal(again.GetExtension(extDependency), key.GetExtension(extDependency)) {
		t.Errorf("again: %v, of %v", again, key)
	}
	// Who has said no KID may send nothing.
	silent := &pionTransport{handler: all[1], path: newPath(2), inlets: map[uint32]inlet{}}
	raw, _ := (&pion.Packet{Header: pion.Header{Version: 2, PayloadType: ptOpus, SSRC: 44}, Payload: frameOf(0, "")}).Marshal()
	silent.RTP(nil, raw, time.Now())
	if n := s.Stats().InClear; n != 7 {
		t.Errorf("%d packets in the clear, want 7", n)
	}
}

// TestSealedOffer: VP8 alone; all offers have the dependency descriptor, as extDependency says.
func TestSealedOffer(t *testing.T) {
	s := listen(t)
	for _, sealed := range []bool{false, true} {
		c := dial(t, s, Seat{Participant: fmt.Sprint(sealed), Sealed: sealed}, "")
		c.await("offer", func() bool { return len(c.offers) > 0 })
		offer := c.offers[0]
		for _, codec := range []string{"H264", "VP9", "AV1"} {
			if got := strings.Contains(offer, codec); got == sealed {
				t.Errorf("sealed %v: %s is offered: %v", sealed, codec, got)
			}
		}
		if !strings.Contains(offer, fmt.Sprintf("a=extmap:%d %s", extDependency, dependencyURI)) {
			t.Errorf("sealed %v: the dependency descriptor is not offered\n%s", sealed, offer)
		}
	}
}

// TestInClear: a client that encrypts nothing is found out, whoever carries its media.
func TestInClear(t *testing.T) {
	s := listen(t)
	told := make(chan struct{})
	c := dial(t, s, Seat{Participant: "a", Sealed: true, InClear: func() { close(told) }}, "")
	c.await("connection", func() bool { return c.up })
	c.x.State(signal.State{Mic: true, KID: tagged})
	for seq := uint16(1); ; seq++ {
		c.say(Audio, seq, []byte("clear"))
		select {
		case <-told:
			return
		case <-time.After(20 * time.Millisecond): // what comes before the keys do is lost
		}
		if seq > 3000 {
			t.Fatalf("nobody is told: %+v", s.Stats())
		}
	}
}
