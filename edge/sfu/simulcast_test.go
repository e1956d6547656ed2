package sfu

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pion "github.com/pion/rtp"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/sfu/rtp"
)

// named is a packet with the names that it comes with.
func named(t testing.TB, ssrc uint32, pt uint8, seq uint16, rid, repaired string, payload []byte) []byte {
	t.Helper()
	h := pion.Header{Version: 2, Marker: true, PayloadType: pt, SSRC: ssrc, SequenceNumber: seq, Timestamp: 3000 * uint32(seq)}
	for id, name := range map[uint8]string{extRID: rid, extRepairedRID: repaired} {
		if name != "" {
			h.SetExtension(id, []byte(name))
		}
	}
	raw, err := (&pion.Packet{Header: h, Payload: payload}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// described is a packet of AV1 with its dependency descriptor.
func described(t testing.TB, ssrc uint32, seq uint16, ext []byte) []byte {
	t.Helper()
	h := pion.Header{Version: 2, Marker: true, PayloadType: ptAV1, SSRC: ssrc, SequenceNumber: seq, Timestamp: 3000 * uint32(seq)}
	h.SetExtension(extDependency, ext)
	raw, err := (&pion.Packet{Header: h, Payload: []byte{0x10, 1}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestStreamsAreBoundByName: once, by the first packet that says of which layer it is; what is
// sent again is of the layer that it names, and a name that was not offered is nobody's.
func TestStreamsAreBoundByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietly()
		defer s.Close()
		a := sessions(t, s, 1)[0]
		from := &pionTransport{handler: a, path: newPath(1), inlets: map[uint32]inlet{}}
		from.layered.Store(true)
		track := a.pub.tracks[Video]
		come := func() (n [layer.Layers]int) {
			for of, e := range track.layers {
				if e != nil {
					if r, ok := e.rx.Report(time.Now()); ok {
						n[of] = int(uint16(r.LastSequenceNumber))
					}
				}
			}
			return n
		}
		for i, row := range []struct {
			what string
			raw  []byte
			want [layer.Layers]int // newest numbers
		}{
			{"without a name", named(t, 11, ptVP8, 1, "", "", vp8(true, "?")), [3]int{}},
			{"the highest", named(t, 13, ptVP8, 7, "h", "", vp8(true, "h")), [3]int{0, 0, 7}},
			{"the same, named later", named(t, 11, ptVP8, 2, "l", "", vp8(true, "l")), [3]int{2, 0, 7}},
			{"bound, without a name", named(t, 11, ptVP8, 3, "", "", vp8(false, "l")), [3]int{3, 0, 7}},
			{"bound, by another name", named(t, 11, ptVP8, 4, "h", "", vp8(false, "l")), [3]int{4, 0, 7}},
			{"a name that was not offered", named(t, 14, ptVP8, 9, "x", "", vp8(true, "x")), [3]int{4, 0, 7}},
			{"a long name", named(t, 15, ptVP8, 9, "hhhhhhhhhhhhhhhh", "", vp8(true, "x")), [3]int{4, 0, 7}},
			{"repair without a name", named(t, 21, ptVP8+1, 1, "", "", append([]byte{0, 9}, vp8(false, "h")...)), [3]int{4, 0, 7}},
			{"repair of the highest", named(t, 23, ptVP8+1, 1, "", "h", append([]byte{0, 8}, vp8(false, "h")...)), [3]int{4, 0, 8}},
			{"repair of one that never came", named(t, 22, ptVP8+1, 1, "", "m", append([]byte{0, 5}, vp8(false, "m")...)), [3]int{4, 0, 8}},
			{"repair of nothing", named(t, 23, ptVP8+1, 2, "", "h", nil), [3]int{4, 0, 8}},
		} {
			from.RTP(nil, row.raw, time.Now())
			if got := come(); got != row.want {
				t.Errorf("%d, %s: newest %v, want %v", i, row.what, got, row.want)
			}
		}
		if p, ok := track.copyOf(2, 2, nil); !ok {
			t.Error("what was repaired is in no ring")
		} else if q, err := rtp.Parse(p); err != nil || q.SSRC != 13 || q.PayloadType != ptVP8 || string(q.Payload[2:]) != "h" {
			t.Errorf("repaired: %+v %v", q, err)
		}
	})
}

func TestAnsweredLayers(t *testing.T) {
	answer := func(lines string) string {
		return "v=0\r\ns=-\r\nm=audio 9 X 111\r\na=mid:0\r\na=rid:l send\r\nm=video 9 X 96\r\na=mid:1\r\n" + lines + "a=sendonly\r\n"
	}
	for name, row := range map[string]struct {
		lines, want string
		layers      bool
	}{
		"one stream":           {"", "", false},
		"three layers":         {"a=rid:l send\r\na=rid:m send\r\na=rid:h send\r\na=simulcast:send l;m;h\r\n", "l m h", true},
		"two":                  {"a=rid:l send\r\na=rid:m send\r\na=simulcast:send l;m\r\n", "l m", true},
		"with restrictions":    {"a=rid:l send max-width=320\r\na=simulcast:send l\r\n", "l", true},
		"what pion answers":    {"a=rid:l recv\r\na=rid:m recv\r\na=simulcast:recv l;m\r\n", "", false},
		"names of its own":     {"a=rid:q send\r\na=rid:" + strings.Repeat("h", 1000) + " send\r\na=simulcast:send q\r\n", "", false},
		"one name many times":  {strings.Repeat("a=rid:h send\r\n", 100), "h", true},
		"nothing of a name":    {"a=rid:\r\na=rid: \r\na=rid\r\na=simulcast:\r\n", "", false},
		"neither send nor not": {"a=rid:l\r\na=rid:m sendrecv\r\n", "", false},
	} {
		plain, layers := answeredLayers(answer(row.lines))
		var got []string
		for line := range strings.Lines(plain) {
			if rid, ok := strings.CutPrefix(line, "a=rid:"); ok {
				got = append(got, strings.Fields(rid)[0])
			}
		}
		if strings.Join(got, " ") != row.want || layers != row.layers || strings.Contains(plain, "a=simulcast") {
			t.Errorf("%s: %v %t, want %s %t", name, got, layers, row.want, row.layers)
		}
	}
}

func FuzzAnsweredLayers(f *testing.F) {
	f.Add("v=0\r\nm=audio 9 X 0\r\nm=video 9 X 0\r\na=rid:l send\r\na=simulcast:send l;m;h\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		plain, layers := answeredLayers(text)
		n := 0
		for line := range strings.Lines(plain) {
			if isLayers(line) {
				n++
				if !slices.ContainsFunc(rids[:], func(rid string) bool { return line == "a=rid:"+rid+" send\r\n" }) {
					t.Errorf("left: %q", line)
				}
			}
		}
		if n > layer.Layers || layers != (n > 0) {
			t.Errorf("%d layers, %t", n, layers)
		}
		if again, same := answeredLayers(plain); again != plain || same != layers {
			t.Errorf("a second time: %q, was %q", again, plain)
		}
	})
}

// counted is a handler that counts what is bound.
type counted struct {
	*Session
	t     *testing.T
	bound map[uint32]bool
}

func (c *counted) stream(s source) inlet {
	if c.bound[s.SSRC] {
		c.t.Errorf("%+v is bound twice", s)
	}
	c.bound[s.SSRC] = true
	return c.Session.stream(s)
}

// FuzzStream takes packets of a stranger as the lane gives them: lengths in one octet each, and
// then so many octets.
func FuzzStream(f *testing.F) {
	var all []byte
	for _, raw := range [][]byte{named(f, 1, ptVP8, 1, "l", "", vp8(true, "l")), named(f, 2, ptVP8+1, 1, "", "h", []byte{0, 1, 0x10}), named(f, 3, ptH264, 1, "", "", []byte{0x67})} {
		all = append(append(all, byte(len(raw))), raw...)
	}
	f.Add(all, true)
	f.Add(all, false)
	var stack []byte // VP9 of two layers, AV1 with a structure, and without
	for _, raw := range [][]byte{
		named(f, 5, ptVP9, 1, "", "", []byte{0xab, 0x81, 1, 0, 5, 0x18, 1, 0x40, 0, 0xb4, 1}), named(f, 5, ptVP9, 2, "", "", []byte{0xac, 0x81, 1, 3, 5, 1}),
		described(f, 6, 1, stacked3), described(f, 6, 2, []byte{0xc8, 0, 0x3a}), described(f, 6, 3, []byte{0xff}), named(f, 6, ptAV1, 4, "", "", []byte{0x18, 1}),
	} {
		stack = append(append(stack, byte(len(raw))), raw...)
	}
	f.Add(stack, true)
	f.Add(stack, false)
	for _, raw := range [][]byte{named(f, 50, ptVP8, 1, "l", "", vp8(true, "s")), named(f, 50, ptVP8, 3, "", "", vp8(false, "s"))} {
		all = append(append(all, byte(len(raw))), raw...)
	}
	f.Add(all, true)
	f.Fuzz(func(t *testing.T, all []byte, layered bool) {
		pub := newPublisher(func() {}, new(counters))
		pub.sent = new(volume)
		h := &counted{&Session{sfu: &SFU{}, pub: pub}, t, map[uint32]bool{}}
		pub.media = &quiet{}
		out := &quietLine{&quiet{keeps: true}, 77}
		l := &line{kind: Video, ready: true}
		l.init(out, pub.count)
		l.begin(pub.tracks[Video])
		l.layers.Want(layer.Layers-1, temporals-1)
		pub.tracks[Video].lines.Store(&[]*line{l})
		from := &pionTransport{handler: h, path: newPath(1), inlets: map[uint32]inlet{}}
		from.layered.Store(layered)
		from.screens.Store(&[]uint32{50})
		var b *lane.Batch
		at := time.Unix(0, 0)
		for len(all) > 0 {
			n := min(int(all[0]), len(all)-1)
			packet := all[1 : 1+n]
			all = all[1+n:]
			at = at.Add(5 * time.Millisecond)
			from.RTP(b, slices.Clone(packet), at)
		}
		spent := map[uint16]bool{}
		for _, p := range out.wrote {
			if spent[p.SequenceNumber] {
				t.Errorf("number %d is spent twice", p.SequenceNumber)
			}
			spent[p.SequenceNumber] = true
		}
		if len(out.wrote) > 0 {
			newest := out.wrote[len(out.wrote)-1].SequenceNumber
			l.resendOne(b, newest, at)
			if p := out.wrote[len(out.wrote)-1]; p.SSRC == 177 && binary.BigEndian.Uint16(p.Payload) != newest {
				t.Errorf("%d again, want %d", binary.BigEndian.Uint16(p.Payload), newest)
			}
		}
	})
}
