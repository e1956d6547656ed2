package web_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/signal"
	"bailiwick/tools/exectest"
	"bailiwick/web"
)

var (
	frankfurt = signal.Place{Region: "de-fra", City: "Frankfurt am Main", Country: "DE"}
	berlin    = signal.Place{Region: "de-ber", City: "Berlin", Country: "DE"}
	paris     = signal.Place{Region: "fr-par", City: "Paris", Country: "FR"}
	clinician = signal.Peer{Participant: "p2", Role: "clinician", Mic: true, Camera: true, Connected: true}
)

// fakeEdge serves the pages and speaks the join protocol as its test tells it to:
// for the states that need a fault. The calls of e2e have the real edge.
type fakeEdge struct {
	*httptest.Server
	seats chan *seat // one for each hello
	// lost is the path of a file that does not arrive.
	lost atomic.Pointer[string]
	// status answers GET /v1/status.
	status func() (int, string)
}

// newEdge starts an edge whose pages may connect to it and to the others.
func newEdge(t *testing.T, others ...*fakeEdge) *fakeEdge {
	t.Helper()
	e := &fakeEdge{seats: make(chan *seat, 64)}
	mux := http.NewServeMux()
	var connect []string
	for _, o := range others {
		connect = append(connect, o.URL, o.ws())
	}
	pages := web.Handler(connect)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if lost := e.lost.Load(); lost != nil && *lost == r.URL.Path {
			http.NotFound(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /v1/join", e.join)
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		code, body := e.status()
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	})
	e.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		e.CloseClientConnections()
		e.Close()
	})
	return e
}

func (e *fakeEdge) ws() string { return strings.Replace(e.URL, "http", "ws", 1) }

// link is the consult page of one consult, for a participant of that role.
func (e *fakeEdge) link(consult, role string) string {
	claims, _ := json.Marshal(map[string]string{"role": role, "cst": consult})
	b64 := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf("%s/c/%s#%s.%s.%s", e.URL, consult, b64([]byte("{}")), b64(claims), b64([]byte("sig")))
}

// seat is one WebSocket of the page, welcomed by nobody yet.
type seat struct {
	t        *testing.T
	ws       *websocket.Conn
	hello    signal.Hello
	frame    atomic.Int64 // how long the newest packet of the page's voice is, ms
	states   chan signal.State
	views    chan signal.View
	profiles chan string
	left     chan struct{} // closed by a leave
	gone     chan struct{} // closed when the socket ends
	silent   chan struct{} // closed when the page ends the media
	answer   chan signal.Answer
	pc       *webrtc.PeerConnection

	welcomed bool
}

func (s *seat) isGone() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

func (e *fakeEdge) join(w http.ResponseWriter, r *http.Request) {
	// The page may come from the other edge's origin.
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{signal.Subprotocol}, InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(signal.MaxMessage)
	s := &seat{
		ws: ws, states: make(chan signal.State, 64), views: make(chan signal.View, 1024), profiles: make(chan string, 4), left: make(chan struct{}),
		gone: make(chan struct{}), silent: make(chan struct{}), answer: make(chan signal.Answer, 4),
	}
	defer close(s.gone)
	for {
		_, frame, err := ws.Read(r.Context())
		if err != nil {
			return
		}
		// The real decoder: the page's own messages are held to the protocol.
		m, err := signal.Decode(frame)
		if err != nil {
			ws.Close(websocket.StatusPolicyViolation, err.Error())
			return
		}
		switch m.Type {
		case signal.TypeHello:
			s.hello = *m.Hello
			e.seats <- s
		case signal.TypeState:
			s.states <- *m.State
		case signal.TypeView:
			s.views <- *m.View
		case signal.TypeAnswer:
			s.answer <- *m.Answer
		case signal.TypeProfile:
			s.profiles <- m.Profile.Profile
		case signal.TypeLeave:
			close(s.left)
		}
	}
}

// seat waits for the page's newest hello: a leg that the page gave up meanwhile, slow
// for want of a processor, gets no answer.
func (e *fakeEdge) seat(t *testing.T) *seat {
	t.Helper()
	over := time.After(exectest.Patience)
	for {
		select {
		case s := <-e.seats:
			if len(e.seats) > 0 || s.isGone() {
				continue
			}
			s.t = t
			return s
		case <-over:
			t.Fatal("edge: no hello")
			return nil
		}
	}
}

// carry takes the call on a leg, or on the page's newest where that is nil or gives up:
// welcome where there was none yet, peers, media.
func (e *fakeEdge) carry(t *testing.T, s *seat, place signal.Place, peers []signal.Peer, standby ...signal.Standby) *seat {
	t.Helper()
	for range 10 {
		if s == nil || s.isGone() {
			s = e.seat(t)
		}
		if !s.welcomed {
			s.welcome(place, standby...)
		}
		s.peers(peers...)
		err := s.media()
		if err == nil {
			return s
		}
		t.Logf("edge: media: %v", err)
		s = nil
	}
	t.Fatal("edge: the page gave up ten legs")
	return nil
}

func (s *seat) send(message any) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), exectest.Patience)
	defer cancel()
	if err := wsjson.Write(ctx, s.ws, message); err != nil {
		s.t.Logf("edge: send %T: %v", message, err) // the page has hung up: what the test waits for says whether it may
	}
}

func (s *seat) welcome(place signal.Place, standby ...signal.Standby) {
	s.t.Helper()
	s.welcomed = true
	s.send(signal.Welcome{
		Type: signal.TypeWelcome, Participant: "p1", Session: "session-" + place.Region, Consult: "c1", Epoch: 1,
		Place: place, ICEServers: []signal.ICEServer{}, Standby: standby, Profile: "face",
	})
}

func (s *seat) peers(peers ...signal.Peer) {
	s.t.Helper()
	s.send(signal.Peers{Type: signal.TypePeers, Peers: append([]signal.Peer{}, peers...)})
}

func refusal(code, jurisdiction string, citation ...string) signal.Refused {
	return signal.Refused{Type: signal.TypeRefused, Code: code, Title: code, Jurisdiction: jurisdiction, Citation: citation, ID: "3f2a"}
}

// tell says the message on the leg and on each newer one, until the page shows the text:
// a page that had no media for want of a processor has another leg on its way.
func (e *fakeEdge) tell(p tab, s *seat, message any, text string) {
	p.t.Helper()
	s.send(message)
	shown := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		for {
			select {
			case newer := <-e.seats:
				newer.t = s.t
				newer.send(message)
			case <-shown:
				return
			}
		}
	})
	defer telling.Wait()
	defer close(shown)
	p.shows(text)
}

// wait fails the test unless the channel closes.
func (s *seat) wait(what string, c <-chan struct{}) {
	s.t.Helper()
	select {
	case <-c:
	case <-time.After(exectest.Patience):
		s.t.Errorf("edge: no %s", what)
	}
}

// shows waits until the page says that it shows the videos so.
func (s *seat) shows(want ...signal.Viewed) {
	s.t.Helper()
	var got []signal.Viewed
	for over := time.After(exectest.Patience); !slices.Equal(got, want); {
		select {
		case v := <-s.views:
			got = v.Videos
		case <-over:
			s.t.Fatalf("edge: the page says that it shows %+v, want %+v", got, want)
		}
	}
}

// profile is the next one that the page asks for.
func (s *seat) profile() string {
	s.t.Helper()
	select {
	case p := <-s.profiles:
		return p
	case <-time.After(exectest.Patience):
		s.t.Fatal("edge: no profile")
		return ""
	}
}

// says waits until the page's voice comes in packets so long, in ms.
func (s *seat) says(frame int64) {
	s.t.Helper()
	for end := time.Now().Add(exectest.Patience); s.frame.Load() != frame; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("edge: a voice of packets of %d ms, want %d", s.frame.Load(), frame)
		}
	}
}

// state waits for what the page says next that it sends and wants.
func (s *seat) state() signal.State {
	s.t.Helper()
	select {
	case state := <-s.states:
		return state
	case <-time.After(exectest.Patience):
		s.t.Fatal("edge: no state")
		return signal.State{}
	}
}

// media offers a connection and sends the page's own sound and picture back as
// those of p2, until the test ends or mute is called. It fails where the page hangs up.
func (s *seat) media() error {
	s.t.Helper()
	err := s.offer()
	if s.pc != nil {
		s.t.Cleanup(s.mute)
	}
	return err
}

// mute closes the media as a killed edge would: without a word to the page.
func (s *seat) mute() { s.pc.Close() }

func (s *seat) offer() error {
	var engine webrtc.SettingEngine
	engine.SetLite(true)
	engine.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(engine)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return err
	}
	s.pc = pc
	echo, err := echoes(pc)
	if err != nil {
		return err
	}
	var once sync.Once
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateClosed || state == webrtc.PeerConnectionStateFailed {
			once.Do(func() { close(s.silent) })
		}
	})
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		if track.Kind() == webrtc.RTPCodecTypeVideo {
			pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(track.SSRC())}})
		}
		var last rtp.Header
		for {
			packet, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			if last.SequenceNumber+1 == packet.SequenceNumber && track.Kind() == webrtc.RTPCodecTypeAudio {
				s.frame.Store(int64(packet.Timestamp-last.Timestamp) / 48)
			}
			last = packet.Header
			if err := echo[track.Kind()].WriteRTP(packet); err != nil {
				return
			}
		}
	})
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(offer); err != nil {
		return err
	}
	over := time.After(exectest.Patience)
	select {
	case <-gathered:
	case <-over:
		return errors.New("no candidates")
	}
	s.send(signal.Offer{Type: signal.TypeOffer, Seq: 1, SDP: pc.LocalDescription().SDP, Tracks: []signal.Track{
		{MID: "2", Participant: "p2", Kind: "audio"}, {MID: "3", Participant: "p2", Kind: "video"},
	}})
	select {
	case answer := <-s.answer:
		return pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer.SDP})
	case <-s.gone:
		return errors.New("the page hung up")
	case <-over:
		return errors.New("no answer")
	}
}

// echoes lays out the m-lines: 0 and 1 receive, 2 and 3 send.
func echoes(pc *webrtc.PeerConnection) (map[webrtc.RTPCodecType]*webrtc.TrackLocalStaticRTP, error) {
	mime := map[webrtc.RTPCodecType]string{webrtc.RTPCodecTypeAudio: webrtc.MimeTypeOpus, webrtc.RTPCodecTypeVideo: webrtc.MimeTypeVP8}
	kinds := []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo}
	echo := map[webrtc.RTPCodecType]*webrtc.TrackLocalStaticRTP{}
	for _, kind := range kinds {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			return nil, err
		}
	}
	for _, kind := range kinds {
		track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime[kind]}, kind.String(), "p2")
		if err != nil {
			return nil, err
		}
		echo[kind] = track
		if _, err := pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}); err != nil {
			return nil, err
		}
	}
	return echo, nil
}
