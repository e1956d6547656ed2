package sfu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/rtp"
)

const (
	// lostAfter is when a silent connection counts as down. It is never given up: it
	// lives until its session closes, and goes on as soon as packets come again.
	lostAfter = 5 * time.Second
	keepalive = 2 * time.Second
)

// captureTimeURI is when the sender's clock says that something was captured, on which a
// recording or a measure of delay relies.
const captureTimeURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"

const mimeRED = "audio/red"

// dependencyURI is the dependency descriptor, which describes frames whose payload does not, or
// cannot be read.
const dependencyURI = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"

// media registers what every offer says. Registration order gives extensions their
// IDs: see extMID and those after it. What is sealed is VP8 alone: H.264 is cut into packets by what
// is in a frame, and what RED repeats is not taken apart before it is opened.
func media(sealed bool) (*webrtc.MediaEngine, error) {
	m := &webrtc.MediaEngine{}
	wide := webrtc.RTCPFeedback{Type: "transport-cc"}
	feedback := []webrtc.RTCPFeedback{wide, {Type: "goog-remb"}, {Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"}}
	const audio, video = webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo
	err := errors.Join(
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptOpus, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: clockRate[Audio], Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1;usedtx=1",
			RTCPFeedback: []webrtc.RTCPFeedback{wide, {Type: "nack"}}}}, audio),
		// VP8 first: everybody has it, and it has no profiles to disagree about.
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptVP8, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeVP8, ClockRate: clockRate[Video], RTCPFeedback: feedback}}, video),
		m.RegisterCodec(repair(ptVP8), video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESMidURI}, audio),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESMidURI}, video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.AudioLevelURI}, audio),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.TransportCCURI}, audio),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.TransportCCURI}, video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESRTPStreamIDURI}, video, webrtc.RTPTransceiverDirectionRecvonly),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESRepairRTPStreamIDURI}, video, webrtc.RTPTransceiverDirectionRecvonly),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: captureTimeURI}, audio),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: captureTimeURI}, video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: dependencyURI}, video),
	)
	if sealed {
		return m, err
	}
	return m, errors.Join(err,
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptRED, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: mimeRED, ClockRate: clockRate[Audio], Channels: 2, SDPFmtpLine: fmt.Sprintf("%d/%[1]d", ptOpus)}}, audio),
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptH264, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeH264, ClockRate: clockRate[Video], RTCPFeedback: feedback,
			SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}}, video),
		m.RegisterCodec(repair(ptH264), video),
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptVP9, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeVP9, ClockRate: clockRate[Video], RTCPFeedback: feedback, SDPFmtpLine: "profile-id=0"}}, video),
		m.RegisterCodec(repair(ptVP9), video),
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptAV1, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeAV1, ClockRate: clockRate[Video], RTCPFeedback: feedback, SDPFmtpLine: "level-idx=5;profile=0;tier=0"}}, video),
		m.RegisterCodec(repair(ptAV1), video))
}

// repair is the retransmission of a codec (RFC 4588 section 8.6).
func repair(pt webrtc.PayloadType) webrtc.RTPCodecParameters {
	return webrtc.RTPCodecParameters{PayloadType: pt + 1, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeRTX, ClockRate: clockRate[Video], SDPFmtpLine: fmt.Sprint("apt=", pt)}}
}

// pionTransport is a transport on one webrtc.PeerConnection. Its media pass the lane where
// the lane can have their keys, else pion: once decided that stays, for both number what they
// encrypt from zero.
type pionTransport struct {
	handler handler
	mux     *mux
	api     *webrtc.API
	pc      *webrtc.PeerConnection
	path    *path
	numbers *numbers                 // the client's; nil where it answered, and keeps ours
	names   []string                 // the client's, of its layers; nil where it answered, and keeps ours
	layered atomic.Bool              // the participant sends simulcast
	screens atomic.Pointer[[]uint32] // what its answer says are streams of its screen; nil: it shares none

	handshake lane.Handshake
	channels  [len(labels)]*channel

	mu      sync.Mutex
	closed  bool
	decided bool
	peer    *lane.Peer               // nil: pion carries the media, or nothing is decided
	at      location                 // where the participant is; the zero value: nowhere yet
	outs    []*webrtc.RTPTransceiver // from firstLine on
	outlets []*pionOutlet            // all that were ever opened and not shut
	inlets  map[uint32]inlet         // the lane's workers'
	packet  rtp.Packet               // theirs too: scratch
	readers sync.WaitGroup
	gone    chan struct{} // closed with closed

	telling  sync.Mutex // the handler whether media pass
	placed   location   // where the lane was told that the participant is
	doubting bool       // doubt runs

	plain sync.Mutex  // pion's readers, one at a time
	batch *lane.Batch // theirs; nil before the first
}

// connect makes a connection. It has a webrtc.API of its own, which shares the media
// engine with it: Open makes senders outside the PeerConnection's own methods. The
// empty interceptor registry is not the default: with none given pion installs
// interceptors that write RTCP of their own. ssrc is that of the feedback which it sends.
func (m *mux) connect(h handler, ssrc uint32, sealed bool) (transport, error) {
	t, err := m.open(h, ssrc, m.settings, sealed)
	if err != nil {
		return nil, err
	}
	for i, section := range published {
		if i == dataLine {
			continue
		}
		tr, err := t.pc.AddTransceiverFromKind(webrtc.NewRTPCodecType(section), webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
		if err == nil {
			err = tr.SetMid(strconv.Itoa(i))
		}
		if err != nil {
			t.pc.Close()
			return nil, err
		}
	}
	if err := t.data(); err != nil {
		t.pc.Close()
		return nil, err
	}
	return t, nil
}

// open makes a connection without m-lines.
func (m *mux) open(h handler, ssrc uint32, settings webrtc.SettingEngine, sealed bool) (*pionTransport, error) {
	engine, err := media(sealed)
	if err != nil {
		return nil, err
	}
	t := &pionTransport{handler: h, mux: m, path: newPath(ssrc), inlets: map[uint32]inlet{}, gone: make(chan struct{})}
	t.handshake.Overhear(&settings)
	t.api = webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(settings),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	t.pc, err = t.api.NewPeerConnection(webrtc.Configuration{
		BundlePolicy: webrtc.BundlePolicyMaxBundle, RTCPMuxPolicy: webrtc.RTCPMuxPolicyRequire,
		RTPHeaderEncryptionPolicy: webrtc.RTPHeaderEncryptionPolicyDisable})
	if err != nil {
		return nil, err
	}
	t.dtls().ICETransport().OnSelectedCandidatePairChange(t.moved)
	t.dtls().OnStateChange(func(s webrtc.DTLSTransportState) {
		if s == webrtc.DTLSTransportStateConnected {
			t.secured()
		}
	})
	t.pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) { t.tell() })
	t.pc.OnTrack(func(remote *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		t.mu.Lock()
		lane := t.peer != nil
		t.mu.Unlock()
		if lane {
			return
		}
		read := r.Read
		if rid := remote.RID(); rid != "" {
			read = func(b []byte) (int, interceptor.Attributes, error) { return r.ReadSimulcast(b, rid) }
		}
		t.spawn(func() { t.readPackets(remote, r.RTPTransceiver().Mid()) })
		t.spawn(func() { t.readControl(uint32(remote.SSRC()), read) })
	})
	return t, nil
}

func (t *pionTransport) dtls() *webrtc.DTLSTransport { return t.pc.SCTP().Transport() }

// secured takes the keys when DTLS is up, and decides who carries the media. Like moved it is
// called while pion may hold any of its locks, and must ask it nothing.
func (t *pionTransport) secured() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.decided || t.closed {
		return
	}
	t.decided = true
	keys, err := t.handshake.Keys()
	if err == nil {
		t.peer, err = t.mux.lane.Peer(keys, t)
	}
	for _, o := range t.outlets {
		t.begin(o)
	}
	t.follow()
}

// begin gives an outlet to who carries the media.
func (t *pionTransport) begin(o *pionOutlet) {
	if t.peer != nil {
		o.peer.Store(t.peer)
	} else if !t.closed {
		o.plain.Store(true)
		t.readers.Go(func() { t.readControl(o.ssrc, o.read) })
	}
}

// moved is told where the participant is.
func (t *pionTransport) moved(pair *webrtc.ICECandidatePair) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.mux.locate(pair.Remote); ok {
		t.at = at
		t.follow()
	}
}

// follow has the lane send where the participant is, once both are known. On a goroutine of its
// own, for it asks pion, and hears the participant's first packets.
func (t *pionTransport) follow() {
	if t.decided && !t.closed {
		t.readers.Go(t.tell)
	}
}

// tell has the lane follow the participant, and says whether media pass. It is called on a new
// goroutine each time: only what is now can be told.
func (t *pionTransport) tell() {
	t.telling.Lock()
	defer t.telling.Unlock()
	t.mu.Lock()
	decided, peer, at := t.decided, t.peer, t.at
	t.mu.Unlock()
	if peer != nil && at != t.placed {
		t.placed = at
		peer.Move(at.conn, at.at)
	}
	state := t.pc.ConnectionState()
	up := state == webrtc.PeerConnectionStateConnected
	// Of what comes pion sees the checks alone, and a path that loses some media loses two of
	// those on end: nobody is gone whose packets come.
	if peer != nil && state == webrtc.PeerConnectionStateDisconnected {
		up = time.Since(peer.Heard()) < lostAfter
		if !t.doubting {
			t.doubting = true
			t.spawn(t.doubt)
		}
	}
	t.handler.connected(up && decided && (peer == nil || t.placed != location{}))
}

// doubt looks again at a participant of whom pion hears nothing.
func (t *pionTransport) doubt() {
	select {
	case <-time.After(lostAfter):
		t.telling.Lock()
		t.doubting = false
		t.telling.Unlock()
		t.tell()
	case <-t.gone:
	}
}

// RTP is the lane's.
func (t *pionTransport) RTP(b *lane.Batch, raw []byte, at time.Time) {
	t.ours(raw)
	p := &t.packet
	var err error
	*p, err = rtp.Parse(raw)
	kind, repair, ok := carried(p.PayloadType)
	if err != nil || !ok {
		t.handler.malformed()
		return
	}
	in, bound := t.inlets[p.SSRC]
	if !bound { // the lane bounds how many there are
		var src source
		if src, bound = t.source(p, kind, repair); bound {
			in = t.handler.stream(src)
			t.inlets[p.SSRC] = in
		}
	}
	t.arrived(p, at)
	if in != nil {
		in.packet(b, p, raw, at)
	}
}

// ours gives a packet our numbers, in place.
func (t *pionTransport) ours(raw []byte) {
	if t.numbers != nil {
		t.numbers.in.Renumber(raw)
	}
}

// source tells what a new stream is by its first packet. It reports false where that does not
// say of which layer it is: names come with packets until one is known to have arrived.
func (t *pionTransport) source(p *rtp.Packet, kind Kind, repair bool) (s source, ok bool) {
	s = source{SSRC: p.SSRC, Kind: kind, Repair: repair}
	name := uint8(extRID)
	if repair {
		name = extRepairedRID
	}
	if kind == Audio {
		return s, true
	}
	if t.isScreen(p) {
		s.Kind = Screen
		return s, true
	}
	rid := p.Extension(name)
	if rid == nil {
		return s, !t.layered.Load()
	}
	s.Layer, s.Named = t.layerOf(rid), true
	return s, true
}

func (t *pionTransport) layerOf(rid []byte) int {
	if t.names != nil {
		return layerOf(t.names, rid)
	}
	return layerOf(rids[:], rid)
}

// arrived tells the participant what came, from time to time.
func (t *pionTransport) arrived(p *rtp.Packet, at time.Time) {
	ext := p.Extension(extWide)
	if len(ext) != 2 {
		return
	}
	if reports := t.path.arrived(ext, p.SSRC, at); len(reports) > 0 {
		t.WriteRTCP(reports)
	}
}

// RTCP is the lane's.
func (t *pionTransport) RTCP(b *lane.Batch, compound []byte, at time.Time) {
	t.hear(b, compound, 0, at)
}

// hear takes a compound packet apart. Of what pion read it takes what is about one SSRC first.
func (t *pionTransport) hear(b *lane.Batch, compound []byte, about uint32, at time.Time) {
	for len(compound) >= 4 {
		n := 4 * (1 + int(binary.BigEndian.Uint16(compound[2:])))
		if n > len(compound) {
			return
		}
		one := compound[:n]
		compound = compound[n:]
		if isFeedback(one) {
			if about == 0 || n >= 12 && binary.BigEndian.Uint32(one[8:]) == about {
				t.handler.carries(b, t.path.feedback(one, at), at)
			}
			continue
		}
		packets, err := rtcp.Unmarshal(one)
		if err != nil {
			continue // unknown or broken
		}
		for _, p := range packets {
			if of := p.DestinationSSRC(); about == 0 || len(of) > 0 && of[0] == about {
				t.handler.control(b, p, at)
			}
		}
	}
}

// spawn runs a reader that Close waits for.
func (t *pionTransport) spawn(read func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.readers.Go(read)
	}
}

// readPackets carries one of pion's streams, of an m-line.
func (t *pionTransport) readPackets(remote *webrtc.TrackRemote, mid string) {
	kind := Audio
	if remote.Kind() == webrtc.RTPCodecTypeVideo {
		kind = Video
	}
	src := source{SSRC: uint32(remote.SSRC()), Kind: kind} // pion mends it itself
	if mid == screenMID && t.screens.Load() != nil {
		src.Kind = Screen
	} else if rid := remote.RID(); rid != "" {
		src.Layer, src.Named = t.layerOf([]byte(rid)), true
	}
	in := t.handler.stream(src)
	if in == nil {
		return
	}
	buf := make([]byte, rtp.MaxPacket)
	var p rtp.Packet
	for {
		n, _, err := remote.Read(buf)
		if n == 0 && err != nil {
			return
		}
		t.ours(buf[:n])
		// With an error too: a payload type that pion does not know.
		p, err = rtp.Parse(buf[:n])
		if k, repair, ok := carried(p.PayloadType); err != nil || !ok || repair || k != kind {
			t.handler.malformed()
			continue
		}
		t.plainly(func(batch *lane.Batch, now time.Time) {
			t.arrived(&p, now)
			in.packet(batch, &p, buf[:n], now)
		})
	}
}

// readControl reads the RTCP that pion sorts under one SSRC. It sorts a packet that
// is about several under each of them: the first one's reader takes it.
func (t *pionTransport) readControl(ssrc uint32, read func([]byte) (int, interceptor.Attributes, error)) {
	buf := make([]byte, rtp.MaxPacket)
	for {
		n, _, err := read(buf)
		if err != nil {
			return
		}
		t.plainly(func(batch *lane.Batch, now time.Time) { t.hear(batch, buf[:n], ssrc, now) })
	}
}

// plainly does for one of pion's readers what the lane's workers do for a burst.
func (t *pionTransport) plainly(do func(*lane.Batch, time.Time)) {
	t.plain.Lock()
	defer t.plain.Unlock()
	if t.batch == nil {
		t.batch = t.mux.lane.Batch()
	}
	do(t.batch, time.Now())
	t.batch.Flush()
}

func (t *pionTransport) Open(i int, kind Kind, participant string) (outlet, error) {
	o := &pionOutlet{kind: kind, stream: participant, path: t.path}
	var sender *webrtc.RTPSender
	if i -= firstLine; i == len(t.outs) {
		tr, err := t.pc.AddTransceiverFromTrack(o, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return nil, err
		}
		if err := tr.SetMid(strconv.Itoa(firstLine + i)); err != nil {
			return nil, err
		}
		t.outs = append(t.outs, tr)
		sender = tr.Sender()
	} else {
		// PeerConnection.AddTrack would pick any idle m-line, the first ones included. A
		// new sender has a new SSRC: a browser may have dropped the rollover counter of
		// the old one with its m-line.
		var err error
		if sender, err = t.api.NewRTPSender(o, t.dtls()); err != nil {
			return nil, err
		}
		if err := t.outs[i].SetSender(sender, o); err != nil {
			return nil, err
		}
	}
	encoding := sender.GetParameters().Encodings[0]
	o.ssrc, o.repair, o.read = uint32(encoding.SSRC), uint32(encoding.RTX.SSRC), sender.Read
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outlets = append(t.outlets, o)
	if t.decided {
		t.begin(o)
	}
	return o, nil
}

func (t *pionTransport) Shut(i int) error {
	sender := t.outs[i-firstLine].Sender()
	t.mu.Lock()
	t.outlets = slices.DeleteFunc(t.outlets, func(o *pionOutlet) bool { return sender.Track() == webrtc.TrackLocal(o) })
	t.mu.Unlock()
	return t.pc.RemoveTrack(sender)
}

func (t *pionTransport) Offer() (string, error) {
	offer, err := t.pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(t.pc)
	if err := t.pc.SetLocalDescription(offer); err != nil {
		return "", err
	}
	<-gathered // asks nobody: the mux's sockets are the only candidates
	d := t.pc.LocalDescription()
	if d == nil {
		return "", webrtc.ErrConnectionClosed
	}
	return offerLayers(dataThird(oneCandidate(d.SDP))), nil
}

func (t *pionTransport) Answer(text string) error {
	text, layered := answeredLayers(text)
	t.layered.Store(layered)
	t.screens.Store(answeredScreen(text))
	if err := t.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: text}); err != nil {
		return fmt.Errorf("sdp: %w", err)
	}
	return nil
}

func (t *pionTransport) Padding(want int, now time.Time) int { return t.path.padding(want, now) }

func (t *pionTransport) WriteRTCP(packets []rtcp.Packet) error {
	t.mu.Lock()
	peer, decided := t.peer, t.decided
	t.mu.Unlock()
	switch {
	case !decided:
		return net.ErrClosed
	case peer == nil:
		return t.pc.WriteRTCP(packets)
	}
	raw, err := rtcp.Marshal(packets)
	if err != nil {
		return err
	}
	return peer.WriteRTCP(raw)
}

func (t *pionTransport) Close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.gone)
	}
	peer := t.peer
	t.mu.Unlock()
	if peer != nil {
		peer.Close()
	}
	err := t.pc.GracefulClose()
	t.readers.Wait()
	return err
}
