package layer

import (
	"bytes"
	"testing"

	"github.com/pion/rtp/codecs"

	"bailiwick/edge/sfu/rtp"
)

func TestDescribe(t *testing.T) {
	for _, row := range []struct {
		name   string
		codec  Codec
		in     []byte
		marker bool
		want   Descriptor
	}{
		// The examples of RFC 7741 section 4.6.
		{"vp8 4.6.1: keyframe in a single packet", VP8, []byte{0x90, 0x80, 0x11, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x41}, true,
			Descriptor{Start: true, End: true, Keyframe: true, Picture: 17, Bits: 7, Width: 640, Height: 480, pictureAt: 2}},
		{"vp8 4.6.2: interframe without a picture ID", VP8, []byte{0x10, 0x01}, true, Descriptor{Start: true, End: true}},
		{"vp8 4.6.3: first partition", VP8, []byte{0x90, 0x80, 0x11, 0x01}, false, Descriptor{Start: true, Picture: 17, Bits: 7, pictureAt: 2}},
		{"vp8 4.6.3: second partition", VP8, []byte{0x91, 0x80, 0x11, 0x00}, true, Descriptor{End: true, Picture: 17, Bits: 7, pictureAt: 2}},
		{"vp8 4.6.4: later fragment", VP8, []byte{0x80, 0x80, 0x11, 0x00}, false, Descriptor{Picture: 17, Bits: 7, pictureAt: 2}},
		{"vp8 4.6.5: long picture ID", VP8, []byte{0x90, 0x80, 0x92, 0x67, 0x01}, false, Descriptor{Start: true, Picture: 4711, Bits: 15, pictureAt: 2}},
		{"vp8 with everything", VP8, []byte{0xb0, 0xf0, 0x80, 0x01, 0x63, 0xbf, 0x01}, false,
			Descriptor{Start: true, Temporal: 2, Sync: true, Picture: 1, Bits: 15, Base: 0x63, pictureAt: 2, baseAt: 4}},
		{"vp8, TID without TL0PICIDX", VP8, []byte{0x90, 0x20, 0x40, 0x01}, false, Descriptor{Start: true, Temporal: 1}},
		{"vp8, KEYIDX without TID", VP8, []byte{0x90, 0x10, 0xff, 0x01}, false, Descriptor{Start: true}},
		{"vp8 keyframe without its start code", VP8, []byte{0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2b, 0x80, 0x02, 0xe0, 0x01}, false,
			Descriptor{Start: true, Keyframe: true}},
		{"vp8 keyframe cut in its size", VP8, []byte{0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80}, false, Descriptor{Start: true, Keyframe: true}},
		{"vp8 empty", VP8, nil, true, Descriptor{End: true}},
		{"vp8 without the extension", VP8, []byte{0x90}, false, Descriptor{}},
		{"vp8 without the picture ID", VP8, []byte{0x90, 0x80}, false, Descriptor{}},
		{"vp8 with half a picture ID", VP8, []byte{0x90, 0x80, 0x80}, false, Descriptor{}},
		{"vp8 without TL0PICIDX", VP8, []byte{0x90, 0x40}, false, Descriptor{}},
		{"vp8 without TID", VP8, []byte{0x90, 0x60, 0x01}, false, Descriptor{}},
		{"vp8 without a payload", VP8, []byte{0x90, 0x80, 0x11}, false, Descriptor{}},

		{"h264 SPS", H264, []byte{0x67, 1}, false, Descriptor{Start: true, Keyframe: true}},
		{"h264 SPS in a STAP-A", H264, []byte{0x78, 0, 1, 0x09, 0, 2, 0x67, 1}, false, Descriptor{Start: true, Keyframe: true}},
		{"h264 slice", H264, []byte{0x41, 1}, true, Descriptor{End: true}},
		{"h264 empty", H264, nil, false, Descriptor{}},

		{"vp9 keyframe, non-flexible, with a structure", VP9, // I L B V, Z; two layers, three pictures in a group
			[]byte{0xab, 0x92, 0x67, 0x00, 0x05, 0x38, 0x01, 0x40, 0x00, 0xb4, 0x02, 0x80, 0x01, 0x68, 0x03, 0x14, 0x01, 0x44, 0x01, 0x54, 0x02, 0xaa}, false,
			Descriptor{Start: true, Keyframe: true, Fresh: true, Picture: 4711, Bits: 15, Fixed: true, Base: 5, Width: 640, Height: 360, Tallest: 1, pictureAt: 1, baseAt: 4}},
		{"vp9 upper layer of it", VP9, []byte{0xac, 0x92, 0x67, 0x03, 0x05, 0xaa}, true, // I L B E; SID 1, D
			Descriptor{Start: true, End: true, Fresh: true, Spatial: 1, Picture: 4711, Bits: 15, Fixed: true, Base: 5, pictureAt: 1, baseAt: 4}},
		{"vp9 switching up point", VP9, []byte{0xe4, 0x11, 0x34, 0x05, 0xaa}, false, // I P L E; TID 1, U, SID 2
			Descriptor{End: true, Spatial: 2, Temporal: 1, Up: true, Picture: 17, Bits: 7, Fixed: true, Base: 5, pictureAt: 1, baseAt: 3}},
		{"vp9 flexible, two references", VP9, []byte{0xf8, 0x11, 0x20, 0x03, 0x04, 0xaa}, false, // I P L F B
			Descriptor{Start: true, Temporal: 1, Picture: 17, Bits: 7, Fixed: true, pictureAt: 1}},
		{"vp9 without anything", VP9, []byte{0x4c, 0xaa}, true, Descriptor{Start: true, End: true, Fixed: true}},
		{"vp9 with four references", VP9, []byte{0xf8, 0x11, 0x20, 0x03, 0x03, 0x03, 0x02, 0xaa}, false, Descriptor{}},
		{"vp9 flexible without a picture ID", VP9, []byte{0x58, 0x02, 0xaa}, false, Descriptor{}},
		{"vp9 without the layer", VP9, []byte{0xa8, 0x11}, false, Descriptor{}},
		{"vp9 without TL0PICIDX", VP9, []byte{0xa8, 0x11, 0x00}, false, Descriptor{}},
		{"vp9 cut in its references", VP9, []byte{0xf8, 0x11, 0x20, 0x03}, false, Descriptor{}},
		{"vp9 without the structure", VP9, []byte{0xaa, 0x11, 0x00, 0x05}, false, Descriptor{}},
		{"vp9 cut in its sizes", VP9, []byte{0x0a, 0x30, 1, 2, 3, 4, 5, 6, 7}, false, Descriptor{}},
		{"vp9 cut in its group", VP9, []byte{0x0a, 0x08, 0x02, 0x04, 0x01, 0x0c, 0x01}, false, Descriptor{}},
		{"vp9 without a payload", VP9, []byte{0x0c}, false, Descriptor{}},
		{"vp9 empty", VP9, nil, true, Descriptor{End: true}},

		{"another codec", Unknown, []byte{0x10, 0x00}, true, Descriptor{End: true}},
	} {
		if got := Describe(row.codec, &rtp.Packet{Payload: row.in, Marker: row.marker}); got != row.want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", row.name, got, row.want)
		}
	}
}

func TestWrite(t *testing.T) {
	for _, row := range []struct {
		name     string
		codec    Codec
		in, want []byte
		origin   rtp.Origin
	}{
		{"vp8, 15 bits", VP8, []byte{0x90, 0xe0, 0x92, 0x67, 7, 0x40, 1}, []byte{0x90, 0xe0, 0x80, 0x05, 9, 0x40, 1}, rtp.Origin{Picture: 0x8005, Base: 9}},
		{"vp8, 7 bits", VP8, []byte{0x90, 0xe0, 0x11, 7, 0x40, 1}, []byte{0x90, 0xe0, 0x05, 9, 0x40, 1}, rtp.Origin{Picture: 0x85, Base: 9}},
		{"vp8, nothing to write", VP8, []byte{0x10, 1}, []byte{0x10, 1}, rtp.Origin{Picture: 5, Base: 9}},
		{"vp9", VP9, []byte{0xa8, 0x11, 0x00, 0x05, 0xaa}, []byte{0xa8, 0x7f, 0x00, 0xff, 0xaa}, rtp.Origin{Picture: 0x7f, Base: 255}},
		{"h264", H264, []byte{0x67, 1}, []byte{0x67, 1}, rtp.Origin{Picture: 5, Base: 9}},
		{"left out", VP8, []byte{0x10, 1}, nil, rtp.Origin{Empty: true}},
	} {
		d := Describe(row.codec, &rtp.Packet{Payload: row.in})
		if got := d.Write(bytes.Clone(row.in), row.origin); !bytes.Equal(got, row.want) {
			t.Errorf("%s: %x, want %x", row.name, got, row.want)
		}
	}
}

// FuzzDescribe holds what is read to pion's parsers wherever both accept, and what is written
// to what is read again.
func FuzzDescribe(f *testing.F) {
	f.Add(uint8(VP8), []byte{0x90, 0xe0, 0x92, 0x67, 7, 0x40, 1})
	f.Fuzz(func(t *testing.T, c uint8, b []byte) {
		codec := Codec(c)
		d := Describe(codec, &rtp.Packet{Payload: b})
		o := rtp.Origin{Picture: 0x1234, Base: 0x56}
		again := Describe(codec, &rtp.Packet{Payload: d.Write(bytes.Clone(b), o)})
		want := d
		if d.Bits > 0 {
			want.Picture = o.Picture & (1<<d.Bits - 1)
		}
		if d.baseAt != 0 {
			want.Base = o.Base
		}
		if again != want {
			t.Errorf("written %+v, read again %+v", want, again)
		}
		switch codec {
		case VP8:
			var p codecs.VP8Packet
			if rest, err := p.Unmarshal(b); err == nil && len(rest) > 0 {
				if d.Picture != p.PictureID&0x7fff || d.Base != p.TL0PICIDX || d.Temporal != p.TID || d.Sync != (p.Y == 1) ||
					d.Start != (p.S == 1 && p.PID == 0) || d.Keyframe != (d.Start && rest[0]&1 == 0) {
					t.Errorf("got %+v, pion has %+v", d, p)
				}
			}
		case VP9:
			var p codecs.VP9Packet
			if rest, err := p.Unmarshal(b); err == nil && len(rest) > 0 && (p.I || !p.F) {
				if d.Picture != p.PictureID || d.Base != p.TL0PICIDX || d.Temporal != p.TID || d.Up != p.U || d.Spatial != p.SID ||
					d.Start != p.B || d.End != p.E || d.Fresh == p.P {
					t.Errorf("got %+v, pion has %+v", d, p)
				}
			}
		}
	})
}
