package sfu

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pion "github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/layer"
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
	theirs, err := a.Restart(value(mine, "ice-ufrag"), value(mine, "ice-pwd"))
	if err != nil {
		t.Fatal(err)
	}
	if u := value(theirs, "ice-ufrag"); u == "" || u == value(was, "ice-ufrag") || strings.Count(theirs, "a=candidate:") != 2 || !strings.HasSuffix(theirs, "a=end-of-candidates\r\n") {
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

// value is what an SDP says of a key first.
func value(text, key string) string {
	_, rest, _ := strings.Cut(text, "a="+key+":")
	v, _, _ := strings.Cut(rest, "\r\n")
	return v
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

// What goes both ways is answered one way.
func TestOffersAreNarrowed(t *testing.T) {
	s := listen(t)
	both := strings.ReplaceAll(whiptest.Publisher(t, "av").Offer(), "a=sendonly", "a=sendrecv")
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

// TestOfferedLayers: which are taken of those that an offer has, the lowest first, and what is answered.
func TestOfferedLayers(t *testing.T) {
	s := listen(t)
	one := whiptest.Publisher(t, "v").Offer()
	const sends = "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=rid:e send\r\n"
	for name, row := range map[string]struct{ lines, answer, layers string }{
		"none":                       {"", "", ""},
		"three, by a page":           {sends + "a=simulcast:send q;h;f\r\n", "q;h;f", "q h f"},
		"three, the best first":      {sends + "a=simulcast:send f;h;q\r\n", "f;h;q", "q h f"},
		"as OBS has them":            {"a=rid:0 send\r\na=rid:1 send\r\na=rid:2 send\r\na=simulcast:send 0;1;2\r\n", "0;1;2", "2 1 0"},
		"four":                       {sends + "a=simulcast:send f;h;q;e\r\n", "f;h;q", "q h f"},
		"one":                        {sends + "a=simulcast:send h\r\n", "h", "h"},
		"said before its names":      {"a=simulcast:send q;h\r\n" + sends, "q;h", "q h"},
		"alternatives and a pause":   {sends + "a=simulcast:send q,e;~h,f\r\n", "q;h", "q h"},
		"both ways":                  {sends + "a=rid:r recv\r\na=simulcast:recv r send q;h\r\n", "q;h", "q h"},
		"restricted":                 {"a=rid:q send max-width=320;max-height=180\r\na=simulcast:send q\r\n", "q", "q"},
		"the wrong way":              {"a=rid:r recv\r\na=simulcast:recv r\r\n", "", ""},
		"one name twice":             {sends + "a=simulcast:send q;q;h\r\n", "q;h", "q h"},
		"names that are not there":   {sends + "a=simulcast:send q;x;h\r\n", "q;h", "q h"},
		"names that are none":        {"a=rid:q send\r\na=rid:o\u0308 send\r\na=rid:aaaaaaaaaaaaaaaaa send\r\na=simulcast:send o\u0308;aaaaaaaaaaaaaaaaa;q\r\n", "q", "q"},
		"nonsense":                   {"a=rid:\r\na=rid\r\na=simulcast:\r\na=simulcast:send\r\na=simulcast:send ;;;\r\n", "", ""},
		"names, and no list":         {sends, "", ""},
		"packets that do not say it": {sends + "a=simulcast:send q;h;f\r\n", "", ""},
	} {
		offer := one + row.lines
		if name == "packets that do not say it" {
			offer = strings.ReplaceAll(offer, "sdes:rtp-stream-id", "sdes:x")
		}
		o, err := readOffer(offer, false)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a, err := s.Accept(offer, false)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		answer := a.Answer()
		a.Close()
		if got := strings.Join(o.layers, " "); got != row.layers {
			t.Errorf("%s: layers %q, want %q", name, got, row.layers)
		}
		if got := strings.TrimPrefix(value(answer, "simulcast"), "recv "); got != row.answer || row.answer == "" && strings.Contains(answer, "a=rid") {
			t.Errorf("%s: answered %q, want %q:\n%s", name, got, row.answer, answer)
		}
		for rid := range strings.SplitSeq(row.answer, ";") {
			if rid != "" && strings.Count(answer, "a=rid:"+rid+" recv\r\n") != 1 {
				t.Errorf("%s: no a=rid of %s:\n%s", name, rid, answer)
			}
		}
	}
	play := whiptest.Player(t, "v").Offer() + "a=rid:q recv\r\na=simulcast:recv q\r\n"
	if o, err := readOffer(play, true); err != nil || o.layers != nil {
		t.Errorf("a player's: %v, %v", o, err)
	}
}

// TestAcceptedLayers: of a client that offers layers everybody gets the one that their connection carries,
// whatever it calls them and whoever carries them.
func TestAcceptedLayers(t *testing.T) {
	for name, row := range map[string]struct {
		rids  []string // as they are offered
		low   int      // of these
		plain bool
	}{
		"a page":               {[]string{"q", "h", "f"}, 0, false},
		"OBS":                  {[]string{"0", "1", "2"}, 2, false},
		"a page, without lane": {[]string{"q", "h", "f"}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			passive = row.plain
			defer func() { passive = false }()
			s := listen(t)
			pub := whiptest.Layered(t, row.rids...)
			_, x := accepted(t, s, pub, Seat{Participant: "a"}, "")
			rich, poor := whiptest.Player(t, "v"), whiptest.Player(t, "v")
			_, y := accepted(t, s, rich, Seat{Participant: "v", Viewer: true}, "a")
			_, z := accepted(t, s, poor, Seat{Participant: "w", Viewer: true}, "a")
			for _, v := range []*Session{y, z} {
				eventually(t, "route", func() bool { return carries(x.pub.tracks[Video], v) })
			}
			newest := func(c *whiptest.Client) int {
				all := c.Got("video")
				if len(all) == 0 {
					return -1
				}
				b := all[len(all)-1].Payload
				return int(b[len(b)-1])
			}
			out := encoders()
			tick := time.NewTicker(time.Second / 30)
			defer tick.Stop()
			end := time.Now().Add(patience)
			for n := 0; newest(rich) != 2 || newest(poor) != 0 || n < 60; n++ {
				if <-tick.C; time.Now().After(end) {
					t.Fatalf("the rich one gets %d, the poor one %d, after %d frames; %+v", newest(rich), newest(poor), n, s.Stats())
				}
				if n%5 == 0 {
					y.carries(s.lane.Batch(), carriage{rate: 10_000_000}, time.Now())
					z.carries(s.lane.Batch(), carriage{rate: 250_000}, time.Now())
				}
				for of := range out { // from the lowest
					at := of
					if row.low != 0 {
						at = 2 - of
					}
					o := &out[of]
					o.key = o.key || n%30 == 0
					packets := o.frame(n)
					for i, b := range packets {
						h := pion.Header{Version: 2, Marker: i == len(packets)-1, SequenceNumber: o.seq, Timestamp: uint32(of)*1_000_000 + 3000*uint32(n)}
						h.SetExtension(whiptest.MID, []byte("my-video"))
						h.SetExtension(whiptest.RID, []byte(row.rids[at]))
						o.seq++
						if err := pub.Layers[at].WriteRTP(&pion.Packet{Header: h, Payload: b}); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			for of := range layer.Layers {
				if x.pub.tracks[Video].layers[of] == nil {
					t.Errorf("layer %d never came", of)
				}
			}
			if st := s.Stats(); st.Malformed > 0 {
				t.Errorf("stats %+v", st)
			}
		})
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
		if same, err := readOffer(again, plays); len(again) <= maxSDP && (err != nil || !slices.Equal(same.layers, o.layers)) {
			t.Errorf("%v in what was narrowed, of layers %q:\n%s", err, o.layers, again)
		}
		if len(o.layers) > layer.Layers || len(o.layers) > 0 && plays {
			t.Errorf("layers %q", o.layers)
		}
		o.restarted("ufrag", "pwd")
		readNumbers(again)
		fragment(again)
	})
}
