package sfu

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/signal"
)

const patience = 10 * time.Second // until a test gives up on an event

func listen(t *testing.T) *SFU {
	t.Helper()
	s, err := Listen(Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// client is a WebRTC endpoint that speaks the join protocol by function calls.
type client struct {
	t       *testing.T
	id      string
	session *Session
	pc      *webrtc.PeerConnection
	send    [2]*webrtc.TrackLocalStaticRTP
	senders [2]*webrtc.RTPSender

	messages chan any
	peers    chan signal.Peers
	ended    chan string
	heard    chan heard
	up       chan struct{}

	mu     sync.Mutex
	tracks map[string]signal.Track // by MID
}

type heard struct {
	from, kind string
	packet     *rtp.Packet
	mid        string
	ssrc       uint32
}

func newClient(t *testing.T, s *SFU, id, session string, parked bool) (*client, error) {
	t.Helper()
	// A client without interceptors: what it does not send, nobody sends for it.
	media := &webrtc.MediaEngine{}
	if err := codecs(media); err != nil {
		t.Fatal(err)
	}
	var set webrtc.SettingEngine
	set.SetIncludeLoopbackCandidate(true)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithSettingEngine(set), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, id: id, pc: pc, messages: make(chan any, 100), peers: make(chan signal.Peers, 100), ended: make(chan string, 1),
		heard: make(chan heard, 1000), up: make(chan struct{}), tracks: map[string]signal.Track{}}
	t.Cleanup(func() { pc.Close() })
	var once sync.Once
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(c.up) })
		}
	})
	pc.OnTrack(func(r *webrtc.TrackRemote, rx *webrtc.RTPReceiver) { c.listen(r, rx) })
	c.session, err = s.Join("room", Seat{Participant: id, Role: "patient", Parked: parked}, session, func(m any) { c.messages <- m })
	if err != nil {
		return c, err
	}
	go c.run()
	return c, nil
}

func join(t *testing.T, s *SFU, id string) *client {
	t.Helper()
	c, err := newClient(t, s, id, "", false)
	if err != nil {
		t.Fatal(err)
	}
	c.connect()
	return c
}

func (c *client) connect() {
	c.t.Helper()
	select {
	case <-c.up:
	case <-time.After(patience):
		c.t.Fatalf("%s did not connect", c.id)
	}
}

func (c *client) run() {
	for m := range c.messages {
		switch m := m.(type) {
		case signal.Offer:
			if err := c.answer(m); err != nil {
				c.t.Errorf("%s: answer: %v", c.id, err)
				return
			}
		case signal.Peers:
			c.peers <- m
		case signal.Ended:
			c.ended <- m.Reason
			return
		}
	}
}

func (c *client) answer(o signal.Offer) error {
	c.mu.Lock()
	clear(c.tracks)
	for _, t := range o.Tracks {
		c.tracks[t.MID] = t
	}
	c.mu.Unlock()
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: o.SDP}); err != nil {
		return err
	}
	if c.send[0] == nil {
		for kind, mime := range []string{webrtc.MimeTypeOpus, webrtc.MimeTypeVP8} {
			track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime}, Kind(kind).String(), c.id)
			if err != nil {
				return err
			}
			// The first transceiver of the kind is the m-line that the edge receives on.
			if c.senders[kind], err = c.pc.AddTrack(track); err != nil {
				return err
			}
			c.send[kind] = track
		}
	}
	a, err := c.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(a); err != nil {
		return err
	}
	<-gathered
	return c.session.Answer(signal.Answer{SDP: c.pc.LocalDescription().SDP, Seq: o.Seq})
}

func (c *client) listen(r *webrtc.TrackRemote, rx *webrtc.RTPReceiver) {
	mid := rx.RTPTransceiver().Mid()
	for {
		p, _, err := r.ReadRTP()
		if err != nil {
			return
		}
		c.mu.Lock()
		who := c.tracks[mid]
		c.mu.Unlock()
		select {
		case c.heard <- heard{who.Participant, r.Kind().String(), p, mid, uint32(r.SSRC())}:
		default:
		}
	}
}

// publish sends numbered packets of one kind until the test ends.
func (c *client) publish(kind Kind) {
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := uint16(1); ; n++ {
			c.send[kind].WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: n, Timestamp: uint32(n) * 960},
				Payload: []byte{0x10, 0, 0, byte(n)}})
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	c.t.Cleanup(func() { close(stop); done.Wait() })
}

// hear waits for a packet that fits.
func (c *client) hear(what string, fits func(heard) bool) heard {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case h := <-c.heard:
			if h.from == c.id {
				c.t.Fatalf("%s heard itself", c.id)
			}
			if fits(h) {
				return h
			}
		case <-deadline:
			c.t.Fatalf("%s did not hear %s", c.id, what)
		}
	}
}

func from(id, kind string) func(heard) bool {
	return func(h heard) bool { return h.from == id && h.kind == kind }
}

// see waits for a peers message that fits.
func (c *client) see(what string, fits func([]signal.Peer) bool) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case m := <-c.peers:
			if fits(m.Peers) {
				return
			}
		case <-deadline:
			c.t.Fatalf("%s did not see %s", c.id, what)
		}
	}
}

func TestTwoHearEachOther(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	a.publish(Audio)
	a.publish(Video)
	b.publish(Audio)
	b.hear("a's audio", from("a", "audio"))
	b.hear("a's video", from("a", "video"))
	a.hear("b's audio", from("b", "audio"))
	rooms := s.Rooms()
	if len(rooms) != 1 || rooms[0].ID != "room" || rooms[0].Participants != 2 || rooms[0].Tracks != 3 {
		t.Errorf("rooms %+v, want one with 2 participants and 3 tracks", rooms)
	}
	if st := s.Stats(); st.PacketsIn == 0 || st.PacketsOut == 0 {
		t.Errorf("stats %+v count nothing", st)
	}
}

func TestSixHearEachOther(t *testing.T) {
	s := listen(t)
	ids := []string{"a", "b", "c", "d", "e", "f"}
	var all []*client
	for _, id := range ids {
		all = append(all, join(t, s, id))
	}
	for _, c := range all {
		c.publish(Audio)
	}
	for _, c := range all {
		for _, id := range ids {
			if id != c.id {
				c.hear(id+"'s audio", from(id, "audio"))
			}
		}
	}
	if _, err := s.Join("room", Seat{Participant: "g"}, "", func(any) {}); !errors.Is(err, ErrRoomFull) {
		t.Errorf("seventh join: %v, want ErrRoomFull", err)
	}
}

func TestSequenceGoesOnWhenThePublisherReconnects(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	a.publish(Audio)
	first := b.hear("a", from("a", "audio"))
	again, err := newClient(t, s, "a", a.session.ID(), false)
	if err != nil {
		t.Fatal(err)
	}
	again.connect()
	again.publish(Audio)
	source := s.room("room").track("a", Audio)
	for source == nil || source.session != again.session {
		b.hear("a", from("a", "audio")) // an event a packet: no clock is asked
		source = s.room("room").track("a", Audio)
	}
	last := b.hear("a after the reconnect", from("a", "audio"))
	if last.ssrc != first.ssrc || last.mid != first.mid {
		t.Errorf("stream is %d on %s, was %d on %s: the subscriber sees the reconnect", last.ssrc, last.mid, first.ssrc, first.mid)
	}
	if d := int16(last.packet.SequenceNumber - first.packet.SequenceNumber); d <= 0 || d > 2000 {
		t.Errorf("sequence went from %d to %d", first.packet.SequenceNumber, last.packet.SequenceNumber)
	}
	if again.session.ID() != a.session.ID() {
		t.Error("a resumption must keep the session")
	}
	select {
	case why := <-a.ended:
		t.Errorf("a resumption told the earlier connection %q", why)
	default:
	}
}

func TestSeatIsReplaced(t *testing.T) {
	s := listen(t)
	a := join(t, s, "a")
	join(t, s, "b")
	join(t, s, "a")
	select {
	case why := <-a.ended:
		if why != "replaced" {
			t.Errorf("ended %q, want replaced", why)
		}
	case <-time.After(patience):
		t.Fatal("the first holder was not told")
	}
	if n := s.Rooms()[0].Participants; n != 2 {
		t.Errorf("%d participants, want 2", n)
	}
}

func TestLeaveAndEnd(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	a.see("b", func(p []signal.Peer) bool { return len(p) == 1 && p[0].Participant == "b" && p[0].Connected })
	b.session.Close()
	a.see("b leave", func(p []signal.Peer) bool { return len(p) == 0 })
	s.End("room", "done")
	select {
	case why := <-a.ended:
		if why != "done" {
			t.Errorf("ended %q, want done", why)
		}
	case <-time.After(patience):
		t.Fatal("nobody was told of the end")
	}
	a.session.Close()
	if len(s.Rooms()) != 0 {
		t.Errorf("rooms %+v remain", s.Rooms())
	}
}

func TestParkedNeitherSendsNorHears(t *testing.T) {
	s := listen(t)
	a := join(t, s, "a")
	a.publish(Audio)
	b, err := newClient(t, s, "b", "", true)
	if err != nil {
		t.Fatal(err)
	}
	b.connect()
	b.publish(Audio)
	if r := s.room("room"); r.track("a", Audio).subscribers() != 0 {
		t.Error("a parked seat hears")
	}
	a.see("nobody while b is parked", func(p []signal.Peer) bool { return len(p) == 0 })
	b.session.Unpark()
	a.see("b", func(p []signal.Peer) bool { return len(p) == 1 })
	a.hear("b", from("b", "audio"))
	b.hear("a", from("a", "audio"))
}

func TestAudioOnlyReceivesNoVideo(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	a.publish(Video)
	a.publish(Audio)
	b.hear("video", from("a", "video"))
	b.session.State(signal.State{Mic: true, ReceiveVideo: false})
	a.see("b's camera off", func(p []signal.Peer) bool { return len(p) == 1 && !p[0].Camera })
	if n := s.room("room").track("a", Video).subscribers(); n != 0 {
		t.Errorf("%d subscribers to video after b wanted none", n)
	}
	b.hear("audio", from("a", "audio"))
	b.session.State(signal.State{Mic: true, ReceiveVideo: true})
	if n := s.room("room").track("a", Video).subscribers(); n != 1 {
		t.Errorf("%d subscribers to video after b wanted it again", n)
	}
}

func TestNACKIsAnsweredAndPLIForwarded(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	asked := make(chan rtcp.Packet, 10)
	go func() {
		for {
			packets, _, err := a.senders[Video].ReadRTCP()
			if err != nil {
				return
			}
			for _, p := range packets {
				if _, ok := p.(*rtcp.PictureLossIndication); ok {
					select {
					case asked <- p:
					default:
					}
				}
			}
		}
	}()
	a.publish(Video)
	h := b.hear("video", from("a", "video"))
	select {
	case <-asked: // b's subscription needs a keyframe
	case <-time.After(patience):
		t.Fatal("the publisher was not asked for a keyframe")
	}
	for before := s.Stats().Retransmitted; s.Stats().Retransmitted == before; {
		b.pc.WriteRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{MediaSSRC: h.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers([]uint16{h.packet.SequenceNumber})}})
		b.hear("more video", from("a", "video"))
	}
	b.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: h.ssrc}})
	for before := s.Stats().KeyframeRequests; s.Stats().KeyframeRequests == before; {
		b.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: h.ssrc}})
		b.hear("more video", from("a", "video"))
	}
}

func TestMalformedAnswerIsAnError(t *testing.T) {
	s := listen(t)
	offers := make(chan signal.Offer, 1)
	x, err := s.Join("room", Seat{Participant: "a"}, "", func(m any) {
		if o, ok := m.(signal.Offer); ok {
			offers <- o
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	o := <-offers
	if err := x.Answer(signal.Answer{SDP: "nonsense", Seq: o.Seq}); err == nil {
		t.Error("nonsense was taken for an answer")
	}
	if err := x.Answer(signal.Answer{SDP: "nonsense", Seq: o.Seq - 1}); err != nil {
		t.Errorf("an answer to an older offer must be ignored, got %v", err)
	}
}

func (s *SFU) room(id string) *room {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms[id]
}

func (r *room) track(who string, kind Kind) *published {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seats[who].tracks[kind]
}

func (p *published) subscribers() int {
	if p == nil || p.subs.Load() == nil {
		return 0
	}
	return len(*p.subs.Load())
}
