package sfu

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/signal"
)

// lines counts the m-lines towards a client that carry somebody.
func (c *client) lines(kind string) int {
	n := 0
	for _, t := range c.tracks {
		if t.Kind == kind {
			n++
		}
	}
	return n
}

// A screen comes beside the camera's video, in a line of its own while it is shared, whichever of the
// two spoke first; and goes again.
func TestScreen(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a", sharing), join(t, s, "b")
	b.routed(a, Video)
	b.mu.Lock()
	if n := b.lines("screen"); n != 0 {
		t.Errorf("%d m-lines for a screen that nobody shares", n)
	}
	b.mu.Unlock()
	on := signal.State{Mic: true, Camera: true, ReceiveVideo: true}
	with := on
	with.Screen = true
	a.x.State(with)
	b.await("word that a shares", func() bool { return len(b.peers) == 1 && b.peers[0].Screen && b.lines("screen") == 1 })
	a.await("how much its screen may take", func() bool { return len(a.screen) > 0 && a.screen[0] >= leastVideo })
	b.routed(a, Screen)
	a.say(Screen, 1, vp8(true, "s1"), vp8(false, "s2"))
	a.say(Video, 1, vp8(true, "v1"), vp8(false, "v2"))
	b.hears("a", Screen, "s2")
	b.hears("a", Video, "v2")

	// A keyframe and lost packets are asked for where they belong.
	ssrc := uint32(a.rtx[Screen].GetParameters().Encodings[0].SSRC)
	b.mu.Lock()
	of := b.ssrc["a screen"]
	b.mu.Unlock()
	a.awaitControl("keyframe request of the screen", func(p rtcp.Packet) bool {
		pli, ok := p.(*rtcp.PictureLossIndication)
		return ok && pli.MediaSSRC == ssrc
	}, func() { b.feedback(&rtcp.PictureLossIndication{MediaSSRC: of}) })
	a.say(Screen, 4, vp8(false, "s4"))
	a.awaitControl("NACK of the screen", func(p rtcp.Packet) bool {
		nack, ok := p.(*rtcp.TransportLayerNack)
		return ok && nack.MediaSSRC == ssrc && slices.Contains(nack.Nacks[0].PacketList(), 3)
	})

	a.x.State(on)
	b.await("the end of the screen", func() bool { return !b.peers[0].Screen && b.lines("screen") == 0 && b.lines("video") == 1 })
	a.say(Screen, 5, vp8(true, "unseen"))
	a.say(Video, 3, vp8(false, "v3"))
	b.hears("a", Video, "v3")

	a.x.State(with)
	b.await("the screen again", func() bool { return b.lines("screen") == 1 })
	b.routed(a, Screen)
	a.say(Screen, 6, vp8(false, "no key"), vp8(true, "again"))
	b.hears("a", Screen, "again")
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, want := range map[Kind]string{Screen: "s1 s2 s4 again", Video: "v1 v2 v3"} {
		if got := strings.Join(b.heardLocked("a", k), " "); got != want {
			t.Errorf("%s %q, want %q", k, got, want)
		}
	}
	for i, sdp := range b.offers {
		if n := strings.Count(sdp, "m=video"); n > 4 {
			t.Errorf("offer %d has %d m-lines of video", i, n)
		}
	}
	if n := s.Stats().BadAnswers; n != 0 {
		t.Errorf("%d bad answers", n)
	}
}

// Who answers the m-line of screens as nobody's goes on as before, whatever its state says: there is
// a line of which nothing comes.
func TestScreenThatDoesNotCome(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b", sharing)
	a.x.State(signal.State{Mic: true, Camera: true, ReceiveVideo: true, Screen: true})
	b.routed(a, Screen)
	a.say(Video, 1, vp8(true, "face"))
	b.hears("a", Video, "face")
	b.x.State(signal.State{Mic: true, Camera: true, ReceiveVideo: true, Screen: true})
	a.routed(b, Screen)
	b.say(Screen, 1, vp8(true, "shared"))
	a.hears("b", Screen, "shared")
}

// In layers or not, by its m-line or by the answer: the camera is never taken for the screen.
func TestScreenBesideLayers(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a", layered, sharing), join(t, s, "b")
	a.x.State(signal.State{Mic: true, Camera: true, ReceiveVideo: true, Screen: true})
	b.routed(a, Screen)
	b.routed(a, Video)
	a.say(Screen, 1, vp8(true, "screen"))
	b.hears("a", Screen, "screen")
	pub := a.x.pub
	if pub.tracks[Screen].layered.Load() || pub.tracks[Video].published() {
		t.Error("the screen was taken for the camera")
	}
}

// A poor connection shows the screen and lets faces be small; its sender is told to stay within that.
// What others receive of the faces is theirs.
func TestScreenComesBeforeFaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietly()
		defer s.Close()
		f := filmOf(t, s, append([]*Session{sharer(t, s)}, sessions(t, s, 2)...))
		f.all[1].Answer(signal.Answer{SDP: answerTo(append([]signal.Track{{Kind: "audio"}, {Kind: "video"}, {Kind: "screen"}}, pair...)), Seq: 2}) // with the last one's m-lines
		f.all[0].room.mu.Lock()
		for _, x := range f.all[1:] {
			x.sink = func(any) {} // no offer is answered any more
		}
		f.all[0].room.mu.Unlock()
		f.from.screens.Store(&[]uint32{})
		f.rates[1] = 800_000
		f.run(15 * time.Second)
		if poor, rich := f.views[1].current(), f.views[2].current(); poor != 1 || rich != 1 {
			t.Errorf("before anything comes of the screen: layers %d and %d, want 1, and 1 that is shown small", poor, rich)
		}
		f.screen.likes, f.screen.key = 1_200_000, true
		f.run(15 * time.Second)
		was := [...]int{f.views[1].screen, f.views[2].screen}
		f.run(5 * time.Second)
		for i, was := range was {
			rate := (f.views[1+i].screen - was) * 8 / 5
			if rate < 300_000 || rate > 650_000 {
				t.Errorf("%d sees %d bit/s of the screen, want what the poorest connection carries beside a voice and a face", i+1, rate)
			}
		}
		if poor, rich := f.views[1].current(), f.views[2].current(); poor != 0 || rich != 1 {
			t.Errorf("with the screen: layers %d and %d, want 0 and 1", poor, rich)
		}

		// One that stands still leaves what it does not need.
		f.screen.likes = 20_000
		f.run(15 * time.Second)
		if poor := f.views[1].current(); poor != 1 {
			t.Errorf("while the screen stands still: layer %d, want 1", poor)
		}
		f.rates[1] = 180_000
		f.screen.likes = 1_200_000
		f.run(10 * time.Second)
		frames, shown := f.views[1].frames, f.views[1].screen
		f.run(2 * time.Second)
		if f.views[1].frames != frames || f.views[1].screen == shown {
			t.Errorf("on the poorest connection: %d frames of the face and %d bytes of the screen, want the screen alone", f.views[1].frames-frames, f.views[1].screen-shown)
		}
		f.all[0].State(signal.State{Mic: true, Camera: true, ReceiveVideo: true})
		synctest.Wait()
		f.rates[1] = 10_000_000
		f.run(90 * time.Second)
		if poor, rich := f.views[1].current(), f.views[2].current(); poor != 2 || rich != 2 {
			t.Errorf("without a screen: layers %d and %d, want 2", poor, rich)
		}
	})
}

// A browser takes REMB for all that it sends: a camera without layers is not bound to its own share
// while a screen goes beside it.
func TestScreenBesideOneStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietly()
		defer s.Close()
		f := filmOf(t, s, append([]*Session{sharer(t, s)}, sessions(t, s, 1)...))
		f.from.screens.Store(&[]uint32{})
		f.from.layered.Store(false)
		f.single = true
		f.rates[1] = 900_000
		f.screen.likes, f.screen.key = 600_000, true
		f.run(10 * time.Second)
		var bound int
		for _, p := range f.all[0].media.(*quiet).was(0) {
			if remb, ok := p.(*rtcp.ReceiverEstimatedMaximumBitrate); ok {
				bound = int(remb.Bitrate)
			}
		}
		if camera := bound - f.screen.may; f.screen.may < 600_000 || camera < leastVideo || bound > 900_000 {
			t.Errorf("bound to %d bit/s in all, of which %d for the screen: want most of what is there for the screen, and both within it", bound, f.screen.may)
		}
	})
}

func TestAnsweredScreen(t *testing.T) {
	answer := func(lines string) string {
		return "v=0\r\nm=audio 9 X 0\r\nm=video 9 X 0\r\na=ssrc:9 cname:x\r\nm=application 9 X 0\r\nm=video 9 X 0\r\n" + lines + "m=video 9 X 0\r\na=ssrc:8 cname:x\r\n"
	}
	for name, row := range map[string]struct {
		text string
		want []uint32
		none bool
	}{
		"inactive":       {text: answer("a=inactive\r\na=ssrc:1 cname:x\r\n"), none: true},
		"the wrong way":  {text: answer("a=recvonly\r\n"), none: true},
		"rejected":       {text: strings.Replace(answer("a=sendonly\r\n"), "m=application 9 X 0\r\nm=video 9 ", "m=application 9 X 0\r\nm=video 0 ", 1), none: true},
		"no such m-line": {text: "v=0\r\nm=audio 9 X 0\r\nm=video 9 X 0\r\n", none: true},
		"with repair":    {text: answer("a=sendonly\r\na=ssrc-group:FID 1 2\r\na=ssrc:1 cname:x\r\na=ssrc:1 msid:x y\r\na=ssrc:2 cname:x\r\n"), want: []uint32{1, 2}},
		"unnamed":        {text: answer("a=sendonly\r\n")},
		"nonsense":       {text: answer("a=sendonly\r\na=ssrc:\r\na=ssrc:x y\r\na=ssrc:99999999999 y\r\n")},
		"a flood":        {text: answer("a=sendonly\r\n" + strings.Repeat("a=ssrc:1 x\r\na=ssrc:2 x\r\n", 1000)), want: []uint32{1, 2, 1, 2}},
	} {
		of := answeredScreen(row.text)
		if (of == nil) != row.none || of != nil && !slices.Equal(*of, row.want) {
			t.Errorf("%s: %v, want %v", name, of, row.want)
		}
	}
}

func FuzzAnsweredScreen(f *testing.F) {
	f.Add("v=0\r\nm=audio 9 X 0\r\nm=video 9 X 0\r\nm=application 9 X 0\r\nm=video 9 X 0\r\na=sendonly\r\na=ssrc:1 cname:x\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		if of := answeredScreen(text); of != nil && len(*of) > maxScreens {
			t.Errorf("%d streams", len(*of))
		}
	})
}
