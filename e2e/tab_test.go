package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/signal"
	"bailiwick/sim/page"
	"bailiwick/tools/piontest"
)

// tab is a consult page without a browser, of which forty would not run on two cores: the
// page's own rule as sim/page has it, and what main.js and leg.js do around it, on real
// WebSockets and real WebRTC. It speaks and listens, and sees nothing.
type tab struct {
	name  string // that its voice carries
	http  *http.Client
	peer  peerMaker
	note  func(format string, args ...any)
	ctx   context.Context
	stop  context.CancelFunc
	works sync.WaitGroup // all that runs
	parts sync.WaitGroup // of it, sockets that say goodbye
	inbox chan func()
	began time.Time
	voice *webrtc.TrackLocalStaticRTP

	// Of the loop.
	state  *page.State
	legs   map[int]*leg
	timers map[string]*time.Timer
	kept   []page.Address // sessionStorage
	cut    bool           // it stopped while the call played
	shown  bool
}

// linked is where a join link leads: joinURL of link.js.
func linked(link, token string) page.Address {
	origin, _, _ := strings.Cut(link, "/c/")
	return page.Address{URL: "ws" + strings.TrimPrefix(origin, "http") + "/v1/join", Token: token}
}

// peerMaker makes an RTCPeerConnection, which may use those servers.
type peerMaker func([]signal.ICEServer) (*webrtc.PeerConnection, error)

// openTab opens a page at a link's address, or with the seat that an earlier load kept.
func openTab(name string, via *http.Client, peer peerMaker, from []page.Address, note func(string, ...any)) (*tab, error) {
	voice, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "audio", name)
	if err != nil {
		return nil, err
	}
	tb := &tab{name: name, http: via, peer: peer, note: note, inbox: make(chan func()), began: time.Now(), voice: voice,
		state: page.New(), legs: map[int]*leg{}, timers: map[string]*time.Timer{}, kept: from, shown: true}
	tb.ctx, tb.stop = context.WithCancel(context.Background())
	tb.works.Go(tb.run)
	tb.works.Go(tb.speak)
	tb.do(func() {
		tb.tell(page.Event{Type: "open", Granted: true, Addresses: from})
		tb.tell(page.Event{Type: "devices"})
		if tb.state.Step == "ready" {
			tb.tell(page.Event{Type: "join"})
		}
	})
	return tb, nil
}

// shut closes the page, after its Leave button was pressed or without that, and gives what
// it has kept for the next.
func (tb *tab) shut(leave bool) (kept []page.Address) {
	tb.do(func() {
		defer func() { kept = tb.kept }()
		if leave {
			tb.tell(page.Event{Type: "leave"})
		}
		tb.shown = false
		for _, l := range tb.legs {
			l.close(false)
		}
		for _, t := range tb.timers {
			t.Stop()
		}
	})
	tb.parts.Wait()
	tb.stop()
	tb.works.Wait()
	return kept
}

func (tb *tab) run() {
	for {
		select {
		case <-tb.ctx.Done():
			return
		case f := <-tb.inbox:
			f()
		}
	}
}

// post has the loop do something, unless the page is gone.
func (tb *tab) post(f func()) {
	select {
	case tb.inbox <- f:
	case <-tb.ctx.Done():
	}
}

// do is post for who waits until it is done.
func (tb *tab) do(f func()) {
	done := make(chan struct{})
	tb.post(func() {
		defer close(done)
		f()
	})
	select {
	case <-done:
	case <-tb.ctx.Done():
	}
}

// speak is the microphone: a packet each 20 ms, which says who speaks. It goes to every leg,
// as a browser's track does.
func (tb *tab) speak() {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	said := append([]byte{0xf8}, tb.name...) // an Opus TOC: one frame of 20 ms
	for n := uint16(0); ; n++ {
		select {
		case <-tb.ctx.Done():
			return
		case <-tick.C:
		}
		// A leg that closes at this moment is an error for that leg alone.
		tb.voice.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: n, Timestamp: uint32(n) * 960}, Payload: said})
	}
}

// tell is dispatch of main.js.
func (tb *tab) tell(e page.Event) {
	if !tb.shown {
		return
	}
	e.Dice = rand.Float64()
	was := *tb.state
	for _, fx := range page.Step(tb.state, &e, time.Since(tb.began).Milliseconds()+1) {
		tb.perform(&fx)
		if fx.Do != "timer" && fx.Do != "cancel" && fx.Do != "save" {
			tb.note("%s: %s of leg %d %s%s: %s leg %d %s", tb.name, e.Type, e.Leg, e.Reason, e.Refusal.Code, fx.Do, fx.Leg, fx.Address.URL)
		}
	}
	if s := tb.state; was.InCall() && was.Gap == 0 && s.Step == "stopped" && s.Text != "ended.left" {
		tb.cut = true
	}
	if s := tb.state; s.Name != was.Name || s.Step != was.Step || s.Gap != was.Gap {
		tb.note("%s: %s of leg %d %s%s: %s %s %s", tb.name, e.Type, e.Leg, e.Reason, e.Refusal.Code, s.Name, s.Step, s.Text)
	}
}

func (tb *tab) perform(fx *page.Effect) {
	l := tb.legs[fx.Leg]
	switch fx.Do {
	case "connect":
		tb.connect(fx)
	case "adopt":
		if l != nil {
			l.current.Store(true)
		}
	case "drop", "leave":
		if l != nil {
			delete(tb.legs, fx.Leg)
			l.close(fx.Do == "leave")
		}
	case "save":
		tb.kept = slices.Clone(tb.state.Addresses)
	case "forget":
		tb.kept = nil
		if !fx.Token {
			tb.kept = slices.Clone(tb.state.Addresses)
			for i := range tb.kept {
				tb.kept[i].Session = ""
			}
		}
	case "cancel":
		if t := tb.timers[fx.Name]; t != nil {
			t.Stop()
			delete(tb.timers, fx.Name)
		}
	case "timer":
		tb.wake(fx.Name, time.Duration(fx.MS)*time.Millisecond)
	}
}

// wake rings the timer of a name later, in place of an earlier one.
func (tb *tab) wake(name string, d time.Duration) {
	if t := tb.timers[name]; t != nil {
		t.Stop()
	}
	due := time.Now().Add(d)
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		tb.post(func() {
			if tb.timers[name] == t {
				tb.tell(page.Event{Type: "timer", Name: name, Late: time.Since(due).Milliseconds()})
			}
		})
	})
	tb.timers[name] = t
}

// hears lists whose voices the page plays now.
func (tb *tab) hears() (who []string) {
	tb.do(func() {
		if c := tb.state.Current(); c != nil && tb.legs[c.ID] != nil {
			who = tb.legs[c.ID].hears()
		}
	})
	return who
}

// at is the URL of the leg that the page plays; "" where it plays none.
func (tb *tab) at() (url string) {
	tb.do(func() {
		if c := tb.state.Current(); c != nil {
			url = c.Address.URL
		}
	})
	return url
}

// stopped gives the sentence of a page that stands still, "" while it does not, and whether
// the call was playing until then.
func (tb *tab) stopped() (text string, cut bool) {
	tb.do(func() {
		if tb.state.Step == "stopped" {
			text, cut = tb.state.Text, tb.cut
		}
	})
	return text, cut
}

// heardFor is how long a voice counts as heard after its last packet.
const heardFor = time.Second

// leg is leg.js: a WebSocket and the connection that is negotiated over it.
type leg struct {
	tab     *tab
	id      int
	ctx     context.Context
	stop    context.CancelFunc
	current atomic.Bool
	bytes   atomic.Int64 // received, of RTP and RTCP
	expects atomic.Bool  // somebody else here sends

	mu     sync.Mutex
	conn   *websocket.Conn // nil until open
	pc     *webrtc.PeerConnection
	tracks []signal.Track
	voices map[string]time.Time // last packet by participant, as the offer has it
	names  map[string]time.Time // and by what the packet itself says

	sends bool // it was attached; of the reader
}

func (tb *tab) connect(fx *page.Effect) {
	l := &leg{tab: tb, id: fx.Leg, voices: map[string]time.Time{}, names: map[string]time.Time{}}
	l.ctx, l.stop = context.WithCancel(tb.ctx)
	tb.legs[l.id] = l
	to, stranded := fx.Address, fx.Stranded
	tb.works.Go(func() {
		if err := l.listen(to, stranded); err != nil {
			tb.note("%s: leg %d to %s: %v", tb.name, l.id, to.URL, err)
		}
		l.tell(page.Event{Type: "closed"})
	})
}

// tell hands an event to the page, unless that has dropped the leg.
func (l *leg) tell(e page.Event) {
	e.Leg = l.id
	select {
	case l.tab.inbox <- func() {
		if l.ctx.Err() == nil {
			l.tab.tell(e)
		}
	}:
	case <-l.ctx.Done():
	}
}

// close ends the leg, which tells nothing any more. It does not wait.
func (l *leg) close(leave bool) {
	l.mu.Lock()
	conn, pc := l.conn, l.pc
	l.mu.Unlock()
	if conn == nil {
		l.stop()
		return
	}
	l.tab.parts.Go(func() {
		defer l.stop()
		if leave {
			conn.Write(l.ctx, websocket.MessageText, []byte(`{"type":"leave"}`)) // who does not hear it will miss us
		}
		if pc != nil {
			pc.Close()
		}
		conn.Close(websocket.StatusGoingAway, "") // waits 10 s at most
	})
}

func (l *leg) send(m any) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return l.conn.Write(l.ctx, websocket.MessageText, b)
}

// listen connects, and reads until the socket closes.
func (l *leg) listen(to page.Address, stranded bool) error {
	conn, _, err := websocket.Dial(l.ctx, to.URL, &websocket.DialOptions{HTTPClient: l.tab.http, Subprotocols: []string{signal.Subprotocol}})
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(signal.MaxMessage)
	l.mu.Lock()
	l.conn = conn
	l.mu.Unlock()
	hello := struct {
		Type signal.Type `json:"type"`
		signal.Hello
	}{signal.TypeHello, signal.Hello{Token: to.Token, Session: to.Session, Stranded: stranded, Features: []string{"move-first"}}}
	if err := l.send(hello); err != nil {
		return err
	}
	l.tell(page.Event{Type: "opened"})
	for {
		_, frame, err := conn.Read(l.ctx)
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			return nil
		}
		if err == nil {
			err = l.take(frame)
		}
		if err != nil {
			return err
		}
	}
}

// take is onmessage.
func (l *leg) take(frame []byte) error {
	var m struct {
		signal.Welcome
		SDP    string         `json:"sdp"`
		Seq    int            `json:"seq"`
		Tracks []signal.Track `json:"tracks"`
		Peers  []signal.Peer  `json:"peers"`
		URL    string         `json:"url"`
		Token  string         `json:"token"`
		Reason string         `json:"reason"`
		Code   string         `json:"code"`
	}
	if err := json.Unmarshal(frame, &m); err != nil {
		return err
	}
	switch m.Type {
	case signal.TypeWelcome:
		e := page.Event{Type: "welcome", Session: m.Session, Epoch: m.Epoch, Place: page.Place{Region: m.Place.Region, Country: m.Place.Country}}
		for _, s := range m.Standby {
			e.Standby = append(e.Standby, page.Address{Edge: s.Edge, URL: s.URL, Token: s.Token})
		}
		return l.welcome(e, m.ICEServers)
	case signal.TypeOffer:
		return l.answer(m.SDP, m.Seq, m.Tracks)
	case signal.TypePeers:
		e := page.Event{Type: "peers"}
		for _, p := range m.Peers {
			e.Peers = append(e.Peers, page.Peer{Participant: p.Participant, Connected: p.Connected})
		}
		l.expects.Store(slices.ContainsFunc(m.Peers, func(p signal.Peer) bool { return p.Connected && (p.Mic || p.Camera) }))
		l.tell(e)
	case signal.TypeMove:
		l.tell(page.Event{Type: "move", Edge: edgeOf(m.Token), URL: m.URL, Token: m.Token, Epoch: m.Epoch})
	case signal.TypeEnded:
		l.tell(page.Event{Type: "ended", Reason: m.Reason})
	case signal.TypeRefused:
		e := page.Event{Type: "refused"}
		e.Refusal.Code = m.Code
		l.tell(e)
	}
	return nil
}

// edgeOf is what a join token says of its edge.
func edgeOf(token string) string {
	var claims struct{ Edge string }
	if parts := strings.Split(token, "."); len(parts) == 3 {
		if b, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			json.Unmarshal(b, &claims) // a token of another shape names no edge
		}
	}
	return claims.Edge
}

func (l *leg) welcome(e page.Event, servers []signal.ICEServer) error {
	pc, err := l.tab.peer(servers)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.pc = pc
	l.mu.Unlock()
	l.tab.works.Go(func() {
		<-l.ctx.Done() // the media of a leg may outlive its socket
		pc.GracefulClose()
	})
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateFailed && !l.current.Load() {
			l.tell(page.Event{Type: "closed"})
		} else if s != webrtc.PeerConnectionStateClosed {
			l.tell(page.Event{Type: "progress"})
		}
	})
	pc.OnTrack(func(r *webrtc.TrackRemote, rx *webrtc.RTPReceiver) {
		go l.count(rx.Read) // GracefulClose ends both
		l.hear(r, rx.RTPTransceiver().Mid())
	})
	l.tell(e)
	if err := l.send(map[string]any{"type": "state", "mic": true, "camera": false, "receive_video": false}); err != nil {
		return err
	}
	l.tab.works.Go(func() { l.look(pc) })
	return nil
}

// onLoopback is an RTCPeerConnection that knows loopback alone.
func onLoopback([]signal.ICEServer) (*webrtc.PeerConnection, error) {
	set := piontest.Loopback()
	set.SetICETimeouts(5*time.Second, 25*time.Second, 2*time.Second) // the page is told of what failed
	return newPeer(set, webrtc.Configuration{})
}

func newPeer(set webrtc.SettingEngine, cfg webrtc.Configuration) (*webrtc.PeerConnection, error) {
	engine := &webrtc.MediaEngine{}
	err := errors.Join(engine.RegisterDefaultCodecs(),
		engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESMidURI}, webrtc.RTPCodecTypeAudio))
	if err != nil {
		return nil, err
	}
	set.LoggerFactory = &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
	set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	set.SetICEMaxBindingRequests(math.MaxUint16) // a busy machine answers late
	return webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(set),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{})).NewPeerConnection(cfg)
}

func (l *leg) answer(offer string, seq int, tracks []signal.Track) error {
	if l.pc == nil {
		return fmt.Errorf("an offer before the welcome")
	}
	l.tell(page.Event{Type: "progress"})
	if err := l.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return err
	}
	if err := l.attach(); err != nil {
		return err
	}
	l.mu.Lock()
	l.tracks = tracks
	l.mu.Unlock()
	a, err := l.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(l.pc)
	if err := l.pc.SetLocalDescription(a); err != nil {
		return err
	}
	select {
	case <-gathered:
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
	err = l.send(map[string]any{"type": signal.TypeAnswer, "sdp": l.pc.LocalDescription().SDP, "seq": seq})
	l.tell(page.Event{Type: "progress"})
	return err
}

// attach puts the microphone, and a camera that is off, into m-lines 0 and 1.
func (l *leg) attach() error {
	if l.sends {
		return nil
	}
	l.sends = true
	camera, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8}, "video", l.tab.name)
	if err != nil {
		return err
	}
	for _, track := range []webrtc.TrackLocal{l.tab.voice, camera} {
		sender, err := l.pc.AddTrack(track)
		if err != nil {
			return err
		}
		l.tab.works.Go(func() { l.count(sender.Read) })
	}
	return nil
}

// count counts what comes of RTCP, until the connection closes.
func (l *leg) count(read func([]byte) (int, interceptor.Attributes, error)) {
	for buf := make([]byte, 1500); ; {
		n, _, err := read(buf)
		if err != nil {
			return
		}
		l.bytes.Add(int64(n))
	}
}

// hear takes the packets of one track.
func (l *leg) hear(r *webrtc.TrackRemote, mid string) {
	for {
		p, _, err := r.ReadRTP()
		if err != nil {
			return
		}
		l.bytes.Add(int64(p.MarshalSize()))
		if len(p.Payload) == 0 {
			continue
		}
		l.mu.Lock()
		now := time.Now()
		l.names[string(p.Payload[1:])] = now
		for _, t := range l.tracks {
			if t.MID == mid {
				l.voices[t.Participant] = now
			}
		}
		l.mu.Unlock()
	}
}

// hears lists who was heard lately, by the packets themselves.
func (l *leg) hears() (who []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, at := range l.names {
		if time.Since(at) < heardFor {
			who = append(who, name)
		}
	}
	slices.Sort(who)
	return who
}

// look tells the page how its media are, as often as leg.js does.
func (l *leg) look(pc *webrtc.PeerConnection) {
	for last := int64(0); ; {
		every := 50 * time.Millisecond
		if l.current.Load() {
			every = 250 * time.Millisecond
		}
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(every):
		}
		bytes := l.bytes.Load()
		grew := bytes > last
		last = bytes
		heard := 0
		l.mu.Lock()
		for _, at := range l.voices {
			if time.Since(at) < heardFor {
				heard++
			}
		}
		l.mu.Unlock()
		up := pc.ConnectionState() == webrtc.PeerConnectionStateConnected
		alive := up && (grew || !l.expects.Load())
		if l.current.Load() {
			alive = grew || up && !l.expects.Load()
		}
		if grew && !alive {
			l.tell(page.Event{Type: "progress"})
		}
		l.tell(page.Event{Type: "pulse", Alive: alive, Heard: heard})
	}
}
