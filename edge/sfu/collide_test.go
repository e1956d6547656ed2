package sfu

import (
	"fmt"
	"strings"
	"testing"

	pion "github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// raw is a track that writes what it is told, whatever SSRC that has.
type raw struct {
	kind Kind
	w    webrtc.TrackLocalWriter
}

func (r *raw) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	r.w = c.WriteStream()
	return c.CodecParameters()[0], nil
}
func (r *raw) Unbind(webrtc.TrackLocalContext) error { return nil }
func (r *raw) ID() string                            { return r.kind.String() }
func (r *raw) RID() string                           { return "" }
func (r *raw) StreamID() string                      { return "raw" }
func (r *raw) Kind() webrtc.RTPCodecType             { return (&pionOutlet{kind: r.kind}).Kind() }

// writes has the client write packets of its own making from here on.
func (c *client) writes() func(ssrc uint32, pt uint8, seq uint16, payload []byte) {
	c.t.Helper()
	r := &raw{kind: Audio}
	if err := c.rtx[Audio].ReplaceTrack(r); err != nil {
		c.t.Fatal(err)
	}
	return func(ssrc uint32, pt uint8, seq uint16, payload []byte) {
		c.t.Helper()
		h := &pion.Header{Version: 2, Marker: true, PayloadType: pt, SSRC: ssrc, SequenceNumber: seq, Timestamp: 960 * uint32(seq)}
		if _, err := r.w.WriteRTP(h, payload); err != nil {
			c.t.Fatal(err)
		}
	}
}

// trio is a room of three in which everybody hears everybody.
func trio(t *testing.T) (s *SFU, a, b, c *client) {
	t.Helper()
	s = listen(t)
	a, b, c = join(t, s, "a"), join(t, s, "b"), join(t, s, "c")
	for _, from := range []*client{a, b, c} {
		for _, to := range []*client{a, b, c} {
			for _, k := range kinds[:Screen] {
				if from != to {
					to.routed(from, k)
				}
			}
		}
		from.listens(4)
	}
	return s, a, b, c
}

// listens waits until so many of the client's m-lines receive: pion loses streams that are earlier.
func (c *client) listens(n int) {
	c.t.Helper()
	eventually(c.t, c.id+": receivers", func() bool {
		ready := 0
		for _, tr := range c.pc.GetTransceivers() {
			if r := tr.Receiver(); r != nil && r.Track() != nil && r.Track().SSRC() != 0 {
				ready++
			}
		}
		return ready == n
	})
}

// sound checks that what came of one participant's kind is that, one number after another and each
// once, under an SSRC of ours.
func (c *client) sound(from string, k Kind, theirs ...uint32) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[uint16]string{}
	for _, p := range c.got[from+" "+k.String()] {
		if of, _, _ := carried(p.PayloadType); of != k {
			c.t.Errorf("%s: payload type %d in %s's %s", c.id, p.PayloadType, from, k)
		}
		if was, twice := seen[p.SequenceNumber]; twice && was != string(p.Payload) {
			c.t.Errorf("%s: number %d of %s's %s twice: one nonce for two packets", c.id, p.SequenceNumber, from, k)
		}
		seen[p.SequenceNumber] = string(p.Payload)
		for _, ssrc := range theirs {
			if p.SSRC == ssrc {
				c.t.Errorf("%s: %s's own SSRC came through", c.id, from)
			}
		}
	}
}

// TestTwoPublishersOfOneSSRC are two publishers: SSRCs are each connection's own.
func TestTwoPublishersOfOneSSRC(t *testing.T) {
	s, a, b, c := trio(t)
	for _, from := range []*client{a, b} {
		write := from.writes()
		for n := range uint16(20) {
			write(7, ptOpus, n, fmt.Appendf(nil, "%s%d.", from.id, n))
			write(8, ptVP8, n, vp8(n == 0, fmt.Sprintf("%s%d.", from.id, n)))
		}
	}
	for _, from := range []*client{a, b} {
		for _, k := range kinds[:Screen] {
			c.hears(from.id, k, from.id+"19.")
			c.sound(from.id, k, 7, 8)
			c.mu.Lock()
			if marks := c.heardLocked(from.id, k); len(marks) != 20 || strings.Count(strings.Join(marks, ""), from.id) != 20 {
				t.Errorf("%s's %s: %q", from.id, k, marks)
			}
			c.mu.Unlock()
		}
	}
	if st := s.Stats(); st.Malformed != 0 || st.Unauthentic != 0 {
		t.Errorf("%+v", st)
	}
}

// TestOneSSRCOfTwoKinds: an SSRC is what it was first. What else comes with it goes nowhere, and
// nothing else suffers.
func TestOneSSRCOfTwoKinds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		first  uint8
		others []uint8
	}{
		{"audio, then video", ptOpus, []uint8{ptVP8, ptVP8 + 1}},
		{"video, then audio", ptVP8, []uint8{ptOpus, ptRED}},
		{"video and its own repair", ptVP8, []uint8{ptVP8 + 1, ptH264 + 1}},
		{"repair, then video", ptVP8 + 1, []uint8{ptVP8, ptH264, ptOpus}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, a, b, c := trio(t)
			write := a.writes()
			is, repair, _ := carried(tt.first)
			n := uint16(0)
			for range 3 {
				write(9, tt.first, n, vp8(n == 0, fmt.Sprintf("first%d.", n)))
				n++
				for _, other := range tt.others {
					write(9, other, n, vp8(true, "other"))
					n++
				}
			}
			wrong := uint64(3 * len(tt.others))
			eventually(t, "end of what is wrong", func() bool { return s.Stats().Malformed == wrong })
			if !repair {
				c.hears("a", is, fmt.Sprintf("first%d.", n-uint16(len(tt.others))-1))
			}
			write(10, ptOpus, 1, []byte("voice."))
			write(11, ptVP8, 1, vp8(true, "face."))
			b.say(Audio, 1, []byte("b1."))
			c.hears("a", Audio, "voice.")
			c.hears("a", Video, "face.")
			c.hears("b", Audio, "b1.")
			for _, k := range kinds[:Screen] {
				c.sound("a", k, 9, 10, 11)
				c.mu.Lock()
				if marks := strings.Join(c.heardLocked("a", k), ""); strings.Contains(marks, "other") {
					t.Errorf("%s: %q", k, marks)
				}
				c.mu.Unlock()
			}
		})
	}
}

// TestPublishesUnderOurSSRC: a participant sends with the SSRCs that we send to it with. Each way
// has keys of its own.
func TestPublishesUnderOurSSRC(t *testing.T) {
	s, a, b, c := trio(t)
	b.say(Audio, 1, []byte("b1."))
	b.say(Video, 1, vp8(true, "b1."))
	a.hears("b", Audio, "b1.")
	a.hears("b", Video, "b1.")
	a.mu.Lock()
	voice, face := a.ssrc["b audio"], a.ssrc["b video"]
	a.mu.Unlock()
	write := a.writes()
	for n := range uint16(10) {
		write(voice, ptOpus, n, fmt.Appendf(nil, "a%d.", n))
		write(face, ptVP8, n, vp8(n == 0, fmt.Sprintf("a%d.", n)))
		b.say(Audio, 2+n, fmt.Appendf(nil, "b%d.", 2+n))
	}
	for _, k := range kinds[:Screen] {
		c.hears("a", k, "a9.")
		c.sound("a", k, voice, face)
	}
	a.hears("b", Audio, "b11.")
	a.sound("b", Audio)
	if st := s.Stats(); st.Malformed != 0 || st.Unauthentic != 0 {
		t.Errorf("%+v", st)
	}
}
