package sfu

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	pion "github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/whiptest"
)

// accepted seats a client that offers.
func accepted(t *testing.T, s *SFU, c *whiptest.Client, seat Seat, of string) (*Accepted, *Session) {
	t.Helper()
	offer := c.Offer()
	if passive {
		offer = strings.ReplaceAll(offer, "setup:actpass", "setup:passive")
	}
	a, err := s.Accept(offer, seat.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	x, err := a.Join("room", seat, of, func(any) {})
	if err != nil {
		a.Close()
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	c.Take(a.Answer())
	c.Up()
	eventually(t, "decision who carries the media", func() bool {
		a.media.mu.Lock()
		defer a.media.mu.Unlock()
		if a.media.decided && (a.media.peer == nil) != passive {
			t.Fatalf("carried by the lane: %t", a.media.peer != nil)
		}
		return a.media.decided
	})
	return a, x
}

func write(t *testing.T, to *webrtc.TrackLocalStaticRTP, seq uint16, payload []byte, extensions ...[]byte) {
	t.Helper()
	p := &pion.Packet{Header: pion.Header{Version: 2, Marker: true, SequenceNumber: seq, Timestamp: uint32(seq) * 960}, Payload: payload}
	for _, b := range extensions {
		if err := p.SetExtension(whiptest.Levels, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.WriteRTP(p); err != nil {
		t.Fatal(err)
	}
}

// Whatever a client calls its codecs, extensions and m-lines, others get them by our names, and
// a player by its own.
func TestAcceptedPublishesAndPlays(t *testing.T) {
	for _, kinds := range []string{"av", "va"} {
		t.Run(kinds, func(t *testing.T) {
			s := listen(t)
			b := join(t, s, "b")
			pub := whiptest.Publisher(t, kinds)
			_, x := accepted(t, s, pub, Seat{Participant: "a", Role: "patient"}, "")
			b.await("a with camera and microphone", func() bool {
				return len(b.peers) == 1 && b.peers[0].Connected && b.peers[0].Mic && b.peers[0].Camera
			})
			play := whiptest.Player(t, kinds)
			_, y := accepted(t, s, play, Seat{Participant: "v", Viewer: true}, "a")
			for _, k := range []Kind{Audio, Video} {
				eventually(t, "route to b", func() bool { return carries(x.pub.tracks[k], b.x) })
				eventually(t, "route to the player", func() bool { return carries(x.pub.tracks[k], y) })
			}
			for seq := range uint16(3) {
				write(t, pub.Audio, seq, fmt.Appendf(nil, "word %d", seq), []byte{0x80 | byte(seq)})
				write(t, pub.Video, seq, vp8(seq == 0, fmt.Sprint("face ", seq)))
			}
			b.hears("a", Audio, "word 2")
			b.hears("a", Video, "face 2")
			if p := play.Hears("audio", "word 2"); p.PayloadType != 96 || len(p.GetExtension(whiptest.Levels)) != 1 || p.GetExtension(whiptest.Levels)[0] != 0x82 {
				t.Errorf("the player got %v", p)
			}
			if p := play.Hears("video", "face 2"); p.PayloadType != 111 {
				t.Errorf("the player got %v", p)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			if p := b.got["a audio"][2]; p.PayloadType != ptOpus || len(p.GetExtension(extAudioLevel)) != 1 || p.GetExtension(extAudioLevel)[0] != 0x82 {
				t.Errorf("b got %v", p)
			}
			if len(b.tracks) != 2 {
				t.Errorf("b has m-lines of a viewer: %v", b.tracks)
			}
			if st := s.Stats(); st.Malformed != 0 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

// TestPlainAccepted: a client that insists on being DTLS server is carried by pion.
func TestPlainAccepted(t *testing.T) {
	passive = true
	defer func() { passive = false }()
	t.Run("publishes and plays", TestAcceptedPublishesAndPlays)
	t.Run("follows", TestPlayerFollowsAParticipant)
}

func TestTheirNumbersAllocateNothing(t *testing.T) {
	n := &numbers{}
	n.out.Types[ptOpus], n.out.Extensions[extAudioLevel], n.out.Extensions[extWide] = 96, 1, 4
	o := &pionOutlet{numbers: n}
	h := &pion.Header{Version: 2, PayloadType: ptOpus}
	h.SetExtension(extAudioLevel, []byte{1})
	h.SetExtension(extWide, []byte{2, 3})
	var got *pion.Header
	if a := testing.AllocsPerRun(100, func() { got = o.theirs(h) }); a != 0 {
		t.Errorf("%v allocations a packet", a)
	}
	if got.PayloadType != 96 || len(got.GetExtension(1)) != 1 || len(got.GetExtension(4)) != 2 || len(got.Extensions) != 2 || h.PayloadType != ptOpus {
		t.Errorf("%v of %v", got, h)
	}
	if h.PayloadType = ptVP8; o.theirs(h) != nil {
		t.Error("VP8 goes to who does not take it")
	}
}

// Who is played may come again, by another connection.
func TestPlayerFollowsAParticipant(t *testing.T) {
	s := listen(t)
	a := join(t, s, "a")
	play := whiptest.Player(t, "av")
	_, y := accepted(t, s, play, Seat{Participant: "v", Viewer: true}, "") // the only other one
	eventually(t, "route", func() bool { return carries(a.x.pub.tracks[Audio], y) })
	a.say(Audio, 10, []byte("first"))
	first := play.Hears("audio", "first")
	a.x.Close()
	again := join(t, s, "a")
	eventually(t, "route of the new one", func() bool { return carries(again.x.pub.tracks[Audio], y) })
	again.say(Audio, 5000, []byte("second"))
	if second := play.Hears("audio", "second"); second.SSRC != first.SSRC || second.SequenceNumber != first.SequenceNumber+1 {
		t.Errorf("numbers %d %d of SSRC %d %d", first.SequenceNumber, second.SequenceNumber, first.SSRC, second.SSRC)
	}
	for name, row := range map[string]string{"nobody": "x", "a viewer": "v"} {
		a, err := s.Accept(whiptest.Player(t, "a").Offer(), true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Join("room", Seat{Participant: "w", Viewer: true}, row, func(any) {}); !errors.Is(err, ErrNotLive) {
			t.Errorf("to play %s: %v", name, err)
		}
		a.Close()
	}
}

func TestAcceptedRestartsICE(t *testing.T) {
	s := listen(t)
	b := join(t, s, "b")
	pub := whiptest.Publisher(t, "av")
	a, x := accepted(t, s, pub, Seat{Participant: "a"}, "")
	b.routed2(x, Audio)
	write(t, pub.Audio, 1, []byte("before"))
	b.hears("a", Audio, "before")
	was := a.Answer()
	mine := pub.Fragment()
	value := func(text, key string) string {
		_, rest, _ := strings.Cut(text, "a="+key+":")
		v, _, _ := strings.Cut(rest, "\r\n")
		return v
	}
	theirs, err := a.Restart(value(mine, "ice-ufrag"), value(mine, "ice-pwd"))
	if err != nil {
		t.Fatal(err)
	}
	if u := value(theirs, "ice-ufrag"); u == "" || u == value(was, "ice-ufrag") || strings.Count(theirs, "a=candidate:") != 1 || !strings.HasSuffix(theirs, "a=end-of-candidates\r\n") {
		t.Fatalf("fragment\n%s", theirs)
	}
	pub.Restarted(theirs)
	// Each is lost until the new pair is there.
	eventually(t, "media after the restart", func() bool {
		write(t, pub.Audio, 2, []byte("after"))
		b.mu.Lock()
		defer b.mu.Unlock()
		return strings.Contains(strings.Join(b.heardLocked("a", Audio), " "), "after")
	})
}

// routed2 is routed, for a session that no client of ours has.
func (c *client) routed2(from *Session, k Kind) {
	c.t.Helper()
	eventually(c.t, "route", func() bool { return carries(from.pub.tracks[k], c.x) })
}

func TestUnusableOffers(t *testing.T) {
	s := listen(t)
	good := whiptest.Publisher(t, "av").Offer()
	play := whiptest.Player(t, "av").Offer()
	one := whiptest.Publisher(t, "a").Offer()
	for name, row := range map[string]struct {
		offer string
		plays bool
		want  string
	}{
		"empty":              {"", false, "sdp"},
		"garbage":            {"v=0\r\nhello", false, "sdp"},
		"no m-line":          {good[:strings.Index(good, "m=")], false, "no m-line"},
		"too long":           {good + strings.Repeat("a=x\r\n", maxSDP/5), false, "limit 65536"},
		"wants to receive":   {play, false, "recvonly: want sendonly"},
		"wants to send":      {good, true, "sendonly: want recvonly"},
		"two of a kind":      {one + one[strings.Index(one, "m="):], false, "a second audio"},
		"data":               {one + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\n", false, "want audio and video alone"},
		"no bundle":          {strings.Replace(good, "a=group:BUNDLE", "a=group:LS", 1), false, "BUNDLE"},
		"a bundle of one":    {strings.Replace(good, " my-video", "", 1), false, "BUNDLE"},
		"no mid":             {strings.ReplaceAll(good, "a=mid:my-video\r\n", ""), false, "no mid"},
		"mids alike":         {strings.ReplaceAll(good, "my-video", "my-audio"), false, "twice"},
		"no rtcp-mux":        {strings.ReplaceAll(good, "a=rtcp-mux\r\n", ""), false, "rtcp-mux"},
		"no ufrag":           {strings.ReplaceAll(good, "a=ice-ufrag", "a=x"), false, "ice-ufrag"},
		"no fingerprint":     {strings.ReplaceAll(good, "a=fingerprint", "a=x"), false, "fingerprint"},
		"setup of an answer": {strings.ReplaceAll(good, "setup:actpass", "setup:holdconn"), false, "setup"},
		"no codec of ours":   {strings.NewReplacer("opus/48000", "speex/48000").Replace(good), false, "audio: no codec"},
		"only H.265":         {strings.NewReplacer("VP8/90000", "H265/90000", "VP9/90000", "XX/90000", "H264/90000", "YY/90000").Replace(good), false, "video: no codec"},
		"a port of 0":        {strings.Replace(good, "m=video 9", "m=video 0", 1), false, "port 0"},
	} {
		a, err := s.Accept(row.offer, row.plays)
		if err == nil {
			a.Close()
		}
		if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v: want %q", name, err, row.want)
		}
	}
	if r := s.Rooms(); len(r) != 0 {
		t.Errorf("rooms %v", r)
	}
}

// What goes both ways is answered one way, and layers are not taken.
func TestOffersAreNarrowed(t *testing.T) {
	s := listen(t)
	good := whiptest.Publisher(t, "av").Offer()
	both := strings.ReplaceAll(good, "a=sendonly", "a=sendrecv") + "a=rid:q send\r\na=rid:f send\r\na=simulcast:send q;f\r\n"
	a, err := s.Accept(both, false)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if n := strings.Count(a.Answer(), "a=recvonly"); n != 2 || strings.Contains(a.Answer(), "simulcast") || strings.Contains(a.Answer(), "a=rid") ||
		!strings.Contains(a.Answer(), "a=setup:passive") || !strings.Contains(a.Answer(), "a=ice-lite") {
		t.Errorf("answer\n%s", a.Answer())
	}
}

// FuzzOffer: an offer of a stranger's is refused or answered, and nothing falls over.
func FuzzOffer(f *testing.F) {
	f.Add("v=0\r\n", false)
	f.Fuzz(func(t *testing.T, text string, plays bool) {
		o, err := readOffer(text, plays)
		switch {
		case err != nil && !errors.Is(err, ErrUnusable):
			t.Errorf("%v: not ErrUnusable", err)
		case err != nil:
			return
		}
		again, err := o.text()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readOffer(again, plays); len(again) <= maxSDP && err != nil {
			t.Errorf("%v in what was narrowed:\n%s", err, again)
		}
		o.restarted("ufrag", "pwd")
		readNumbers(again)
		fragment(again)
	})
}
