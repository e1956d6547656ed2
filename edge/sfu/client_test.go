package sfu

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/signal"
	"bailiwick/tools/exectest"
	"bailiwick/tools/piontest"
)

// patience is when a test gives an event up. Nothing waits that long unless it fails.
const patience = exectest.Patience

func listen(t *testing.T) *SFU { return listenAt(t, "127.0.0.1") }

func listenAt(t *testing.T, addresses ...string) *SFU {
	t.Helper()
	cfg := Config{Log: slog.New(slog.DiscardHandler)}
	for _, a := range addresses {
		cfg.Sockets = append(cfg.Sockets, Socket{Bound: netip.AddrPortFrom(netip.MustParseAddr(a), 0)})
	}
	s, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if n := s.Stats().Blocked; n != 0 {
			t.Errorf("pion wrote %d packets under the lane's keys: two packets may have had one nonce", n)
		}
	})
	return s
}

// passive makes every client of a test answer as DTLS server, so that pion carries the media
// instead of the lane.
var passive bool

// TestPlain runs what media do once more, without the lane.
func TestPlain(t *testing.T) {
	passive = true
	defer func() { passive = false }()
	for name, test := range map[string]func(*testing.T){"two": TestTwoHearEachOtherAndNotThemselves, "six": TestSixHearEachOther, "parked": TestParked,
		"leave": TestLeaveAndReuse, "replaced": TestReplaced, "resume": TestResumed, "relay": TestRelayOnly,
		"audio only": TestAudioOnly, "NACK": TestNACK, "keyframes": TestKeyframeRequestsAreForwardedAndThrottled, "reports": TestReports, "simulcast": TestSimulcast, "screen": TestScreen} {
		t.Run(name, test)
	}
}

// client is a WebRTC endpoint that speaks the protocol by function calls. It has no
// interceptors: it sends what the test sends.
type client struct {
	t    *testing.T
	id   string
	pc   *webrtc.PeerConnection
	x    *Session
	send [len(kinds)]*webrtc.TrackLocalStaticRTP
	more [layer.Layers]*webrtc.TrackLocalStaticRTP // of a video in layers, the first of which is send's

	layered bool
	frames  int
	screens bool
	rtx     [len(kinds)]*webrtc.RTPSender

	inbox chan any // from the sink, in order

	mu      sync.Mutex
	changed chan struct{} // closed and renewed at each change of what follows
	up      bool
	tracks  []signal.Track
	offers  []string
	peers   []signal.Peer
	quality []string
	ended   string
	voices  []int                     // rates that it was told
	screen  []int                     // the same, of its screen
	speaker []string                  // whom it was told
	got     map[string][]*pion.Packet // by "participant kind"
	ssrc    map[string]uint32
	control []rtcp.Packet // about what it sends
	failed  error
}

type clientOption func(*setup)

// setup is what options change of a client.
type setup struct {
	webrtc.SettingEngine
	webrtc.Configuration
	interceptor.Registry
	layered bool // it sends three layers
	screens bool // it may share its screen
}

// reporting has the client say what arrives.
func reporting(s *setup) {
	f, _ := twcc.NewSenderInterceptor()
	s.Registry.Add(f)
}

func layered(s *setup) { s.layered = true }

func sharing(s *setup) { s.screens = true }

func dial(t *testing.T, s *SFU, seat Seat, session string, opts ...clientOption) *client {
	t.Helper()
	engine, err := media(seat.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	set := setup{SettingEngine: piontest.Loopback()}
	if passive {
		set.SetAnsweringDTLSRole(webrtc.DTLSRoleServer)
	}
	for _, o := range opts {
		o(&set)
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(set.SettingEngine),
		webrtc.WithInterceptorRegistry(&set.Registry)).NewPeerConnection(set.Configuration)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, id: seat.Participant, pc: pc, layered: set.layered, screens: set.screens, inbox: make(chan any, 256), changed: make(chan struct{}),
		got: map[string][]*pion.Packet{}, ssrc: map[string]uint32{}}
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		c.change(func() { c.up = s == webrtc.PeerConnectionStateConnected })
	})
	pc.OnTrack(func(r *webrtc.TrackRemote, rx *webrtc.RTPReceiver) { c.receive(r, rx.RTPTransceiver().Mid()) })
	if c.x, err = s.Join("room", seat, session, func(m any) { c.inbox <- m }); err != nil {
		pc.Close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); c.x.Close(); pc.GracefulClose() })
	return c
}

func join(t *testing.T, s *SFU, id string, opts ...clientOption) *client {
	t.Helper()
	c := dial(t, s, Seat{Participant: id, Role: "patient"}, "", opts...)
	c.await("connection", func() bool { return c.up })
	media := c.x.media.(*pionTransport)
	eventually(t, "decision who carries the media of "+id, func() bool {
		media.mu.Lock()
		defer media.mu.Unlock()
		if media.decided && (media.peer == nil) != passive {
			t.Fatalf("%s: carried by the lane: %t", id, media.peer != nil)
		}
		return media.decided
	})
	return c
}

// change makes a change that awaiters see.
func (c *client) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

// await returns once cond, which is called under the client's lock, holds.
func (c *client) await(what string, cond func() bool) {
	c.t.Helper()
	if !c.within(patience, cond) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.t.Fatalf("%s: no %s; failed=%v ended=%q tracks=%v peers=%v got=%v", c.id, what, c.failed, c.ended, c.tracks, c.peers, counts(c.got))
	}
}

func counts(got map[string][]*pion.Packet) map[string]int {
	n := map[string]int{}
	for k, v := range got {
		n[k] = len(v)
	}
	return n
}

func (c *client) within(d time.Duration, cond func() bool) bool {
	timeout := time.After(d)
	for {
		c.mu.Lock()
		ok, changed := cond(), c.changed
		c.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-timeout:
			return false
		}
	}
}

func (c *client) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-c.inbox:
			switch m := m.(type) {
			case signal.Offer:
				if err := c.answer(m); err != nil {
					c.change(func() { c.failed = err })
				}
			case signal.Peers:
				c.change(func() { c.peers = m.Peers })
			case signal.Quality:
				c.change(func() { c.quality = append(c.quality, fmt.Sprintf("%s %s %s", m.Participant, m.Video, m.Cause)) })
			case signal.Voice:
				c.change(func() { c.voices = append(c.voices, m.Rate) })
			case signal.Screen:
				c.change(func() { c.screen = append(c.screen, m.Rate) })
			case signal.Speaker:
				c.change(func() { c.speaker = append(c.speaker, m.Participant) })
			case signal.Ended:
				c.change(func() { c.ended = m.Reason })
			}
		}
	}
}

func (c *client) answer(o signal.Offer) error {
	c.change(func() { c.tracks, c.offers = o.Tracks, append(c.offers, o.SDP) })
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: o.SDP}); err != nil {
		return err
	}
	if c.rtx[0] == nil {
		if err := c.publish(); err != nil {
			return err
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
	sdp := c.pc.LocalDescription().SDP
	if !c.screens { // as browsers answer what they send nothing to; pion would say sendonly
		head, lines := sections(sdp)
		lines[screenLine] = strings.Replace(lines[screenLine], "a=sendonly", "a=inactive", 1)
		sdp = head + strings.Join(lines, "")
	}
	return c.x.Answer(signal.Answer{SDP: sdp, Seq: o.Seq})
}

func (c *client) publish() error {
	for i, mime := range []string{webrtc.MimeTypeOpus, webrtc.MimeTypeVP8, webrtc.MimeTypeVP8} {
		if kinds[i] == Screen && !c.screens {
			continue // the m-line is answered as by who knows of no screens
		}
		of := [][]func(*webrtc.TrackLocalStaticRTP){{}}
		if c.layered && kinds[i] == Video {
			of = nil
			for _, rid := range rids {
				of = append(of, []func(*webrtc.TrackLocalStaticRTP){webrtc.WithRTPStreamID(rid)})
			}
		}
		var track *webrtc.TrackLocalStaticRTP
		var sender *webrtc.RTPSender
		for layer, options := range of {
			t, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime}, kinds[i].String(), c.id, options...)
			if err != nil {
				return err
			}
			if layer == 0 {
				track = t
				sender, err = c.pc.AddTrack(t)
			} else {
				err = sender.AddEncoding(t)
			}
			if err != nil {
				return err
			}
			c.more[layer] = t
		}
		c.mu.Lock()
		c.send[i], c.rtx[i] = track, sender
		c.mu.Unlock()
		for _, e := range sender.GetParameters().Encodings {
			read := sender.ReadRTCP
			if e.RID != "" {
				read = func() ([]rtcp.Packet, interceptor.Attributes, error) { return sender.ReadSimulcastRTCP(e.RID) }
			}
			go c.listen(uint32(e.SSRC), read)
		}
	}
	return nil
}

// listen takes the RTCP that is about one stream of what it sends.
func (c *client) listen(ssrc uint32, read func() ([]rtcp.Packet, interceptor.Attributes, error)) {
	for {
		packets, _, err := read()
		if err != nil {
			return
		}
		for _, p := range packets {
			if about := p.DestinationSSRC(); len(about) > 0 && about[0] == ssrc {
				c.change(func() { c.control = append(c.control, p) })
			}
		}
	}
}

func (c *client) receive(r *webrtc.TrackRemote, mid string) {
	for {
		p, _, err := r.ReadRTP()
		if err != nil {
			return
		}
		c.change(func() {
			from := "nobody"
			for _, t := range c.tracks {
				if t.MID == mid {
					from = t.Participant + " " + t.Kind
				}
			}
			c.got[from] = append(c.got[from], p)
			c.ssrc[from] = uint32(r.SSRC())
		})
	}
}

// vp8 is a payload: the first byte of a frame, key or not, and a mark to know it by.
func vp8(key bool, mark string) []byte {
	b := []byte{0x10, 0x01}
	if key {
		b[1] = 0
	}
	return append(b, mark...)
}

// say sends packets numbered from seq on.
func (c *client) say(k Kind, seq uint16, payloads ...[]byte) {
	c.t.Helper()
	for i, b := range payloads {
		c.write(k, seq+uint16(i), (uint32(seq)+uint32(i))*960, b)
	}
}

func (c *client) write(k Kind, seq uint16, ts uint32, b []byte) {
	c.t.Helper()
	err := c.send[k].WriteRTP(&pion.Packet{Header: pion.Header{Version: 2, SequenceNumber: seq, Timestamp: ts, Marker: true}, Payload: b})
	if err != nil {
		c.t.Fatal(err)
	}
}

// heard lists the marks of what came of one participant's kind.
func (c *client) heardLocked(from string, k Kind) (marks []string) {
	for _, p := range c.got[from+" "+k.String()] {
		b := p.Payload
		if k != Audio && len(b) >= 2 {
			b = b[2:]
		}
		marks = append(marks, string(b))
	}
	return marks
}

// hears waits for a packet with that mark.
func (c *client) hears(from string, k Kind, mark string) {
	c.t.Helper()
	c.await(fmt.Sprintf("%s %q from %s", k, mark, from), func() bool {
		return strings.Contains(strings.Join(c.heardLocked(from, k), " "), mark)
	})
}

// line waits until the session's line for one participant's kind is routed: from
// then on what that one says is forwarded.
func (c *client) routed(from *client, k Kind) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if carries(from.x.pub.tracks[k], c.x) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s is never sent %s of %s", c.id, k, from.id)
		}
		time.Sleep(time.Millisecond) // the route is set in no event that a test sees
	}
}

func carries(t *track, x *Session) bool {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	lines := t.fanout()
	return slices.ContainsFunc(x.neg.lines, func(l *line) bool { return slices.Contains(lines, l) })
}

// eventually polls what has no event.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("no %s", what)
			return
		}
	}
}

// awaitControl returns a packet about what the client sends; each try is made
// before looking.
func (c *client) awaitControl(what string, is func(rtcp.Packet) bool, tries ...func()) (found rtcp.Packet) {
	c.t.Helper()
	for _, try := range tries {
		try()
	}
	c.await(what, func() bool {
		i := slices.IndexFunc(c.control, is)
		if i >= 0 {
			found = c.control[i]
			c.control = slices.Delete(c.control, 0, i+1)
		}
		return i >= 0
	})
	return found
}

// awaitControlOn returns a sender report about what the client receives.
func (c *client) awaitControlOn(from, what string) (sr *rtcp.SenderReport) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for _, tr := range c.pc.GetTransceivers() {
		r := tr.Receiver()
		if r == nil || r.Track() == nil || uint32(r.Track().SSRC()) != c.ssrc[from] {
			continue
		}
		deadline, _ := ctx.Deadline()
		r.SetReadDeadline(deadline)
		for {
			packets, _, err := r.ReadRTCP()
			if err != nil {
				c.t.Fatalf("%s: no %s: %v", c.id, what, err)
			}
			for _, p := range packets {
				if sr, ok := p.(*rtcp.SenderReport); ok && sr.SSRC == c.ssrc[from] {
					return sr
				}
			}
		}
	}
	c.t.Fatalf("%s: receives nothing of %s", c.id, from)
	return nil
}

func (c *client) feedback(p rtcp.Packet) {
	c.t.Helper()
	if err := c.pc.WriteRTCP([]rtcp.Packet{p}); err != nil {
		c.t.Fatal(err)
	}
}
