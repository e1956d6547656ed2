package rtp

import (
	"bytes"
	"testing"

	"github.com/pion/rtp"
)

func TestParse(t *testing.T) {
	full := []byte{0xb1, 0xe0, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 7, // V=2 P X CC=1, M, PT 96
		0, 0, 0, 1, // CSRC
		0xbe, 0xde, 0, 1, 0x10, '0', 0x20, 0x85, // MID "0", audio level
		1, 2, 3, 0, 2} // payload, padding
	rows := []struct {
		name string
		in   []byte
		want Packet
		ok   bool
	}{
		{name: "everything there is", in: full, ok: true,
			want: Packet{SSRC: 7, Timestamp: 9, Seq: 0x1234, PayloadType: 96, Marker: true, Payload: []byte{1, 2, 3}}},
		{name: "header alone", in: []byte{0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, ok: true, want: Packet{SSRC: 1, Seq: 1, PayloadType: 111}},
		{name: "padding alone", in: []byte{0xa0, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 3}, ok: true, want: Packet{SSRC: 1, Seq: 1, PayloadType: 96}},
		{name: "empty", in: nil},
		{name: "too short", in: full[:11]},
		{name: "version 1", in: append([]byte{0x40}, full[1:]...)},
		{name: "CSRC cut", in: full[:15]},
		{name: "extension header cut", in: full[:18]},
		{name: "extension cut", in: full[:22]},
		{name: "padding longer than the rest", in: []byte{0xa0, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2}},
		{name: "padding of zero", in: []byte{0xa0, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0}},
		{name: "padding without a byte", in: []byte{0xa0, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}},
		{name: "larger than an Ethernet", in: append([]byte{0x80, 96}, make([]byte, MaxPacket)...)},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got, err := Parse(r.in)
			if (err == nil) != r.ok {
				t.Fatalf("err %v, want ok %t", err, r.ok)
			}
			if got.SSRC != r.want.SSRC || got.Timestamp != r.want.Timestamp || got.Seq != r.want.Seq || got.PayloadType != r.want.PayloadType ||
				got.Marker != r.want.Marker || !bytes.Equal(got.Payload, r.want.Payload) {
				t.Errorf("got %+v, want %+v", got, r.want)
			}
		})
	}
	p, _ := Parse(full)
	for id, want := range map[uint8]string{1: "0", 2: "\x85", 3: ""} {
		if got := string(p.Extension(id)); got != want {
			t.Errorf("extension %d: %q, want %q", id, got, want)
		}
	}
	two, _ := Parse([]byte{0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0x00, 0, 3, 2, 1, 0x85, 0, 1, 0, 3, 3, 1, 2, 3, 4})
	for id, want := range map[uint8]string{1: "", 2: "\x85", 3: "\x01\x02\x03", 4: ""} {
		if got := string(two.Extension(id)); got != want {
			t.Errorf("two-byte extension %d: %q, want %q", id, got, want)
		}
	}
}

// FuzzParse holds Parse to pion's parser wherever both accept.
func FuzzParse(f *testing.F) {
	f.Add([]byte{0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		p.Extension(2)
		H264Keyframe(p.Payload)
		var want rtp.Packet
		if err != nil || want.Unmarshal(b) != nil {
			return
		}
		if p.Seq != want.SequenceNumber || p.Timestamp != want.Timestamp || p.SSRC != want.SSRC || p.Marker != want.Marker ||
			p.PayloadType != want.PayloadType || !bytes.Equal(p.Payload, want.Payload) {
			t.Errorf("got %+v, pion has %+v", p, want)
		}
		if got, want := p.Extension(2), want.GetExtension(2); want != nil && (p.profile == rtp.ExtensionProfileOneByte || p.profile>>4 == 0x100) && !bytes.Equal(got, want) {
			t.Errorf("extension %x, pion has %x", got, want)
		}
	})
}

func TestKeyframe(t *testing.T) {
	rows := []struct {
		name string
		is   func([]byte) bool
		in   []byte
		want bool
	}{
		{"h264 SPS", H264Keyframe, []byte{0x67, 1}, true},
		{"h264 SPS in a STAP-A", H264Keyframe, []byte{0x78, 0, 1, 0x09, 0, 2, 0x67, 1}, true},
		{"h264 STAP-A without one", H264Keyframe, []byte{0x78, 0, 1, 0x09}, false},
		{"h264 STAP-A cut", H264Keyframe, []byte{0x78, 0, 9, 0x09, 1}, false},
		{"h264 slice", H264Keyframe, []byte{0x41, 1}, false},
		{"h264 IDR without SPS", H264Keyframe, []byte{0x65, 1}, false},
		{"h264 empty", H264Keyframe, nil, false},
	}
	for _, r := range rows {
		if got := r.is(r.in); got != r.want {
			t.Errorf("%s: %t, want %t", r.name, got, r.want)
		}
	}
}
