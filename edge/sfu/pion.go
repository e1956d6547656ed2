package sfu

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
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

// media registers what every offer says. Registration order gives extensions their
// IDs: MID 1, audio level 2.
func media() (*webrtc.MediaEngine, error) {
	m := &webrtc.MediaEngine{}
	feedback := []webrtc.RTCPFeedback{{Type: "goog-remb"}, {Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"}}
	const audio, video = webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo
	err := errors.Join(
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptOpus, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: clockRate[Audio], Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1;usedtx=1"}}, audio),
		// VP8 first: everybody has it, and it has no profiles to disagree about.
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptVP8, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeVP8, ClockRate: clockRate[Video], RTCPFeedback: feedback}}, video),
		m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: ptH264, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeH264, ClockRate: clockRate[Video], RTCPFeedback: feedback,
			SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}}, video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESMidURI}, audio),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESMidURI}, video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.AudioLevelURI}, audio),
	)
	return m, err
}

// pionTransport is a transport on one webrtc.PeerConnection. Its media pass the lane where
// the lane can have their keys, else pion: once decided that stays, for both number what they
// encrypt from zero.
type pionTransport struct {
	handler handler
	mux     *mux
	api     *webrtc.API
	pc      *webrtc.PeerConnection
	ice     *webrtc.ICETransport
	keys    lane.Handshake

	mu      sync.Mutex
	closed  bool
	decided bool
	peer    *lane.Peer               // nil: pion carries the media, or nothing is decided
	outs    []*webrtc.RTPTransceiver // from m-line 2 on
	outlets []*pionOutlet            // all that were ever opened and not shut
	inlets  map[uint32]inlet         // the lane's workers'
	readers sync.WaitGroup
}

// connect makes a connection. It has a webrtc.API of its own, which shares the media
// engine with it: Open makes senders outside the PeerConnection's own methods. The
// empty interceptor registry is not the default: with none given pion installs
// interceptors that write RTCP of their own.
func (m *mux) connect(h handler) (transport, error) {
	engine, err := media()
	if err != nil {
		return nil, err
	}
	t := &pionTransport{handler: h, mux: m, inlets: map[uint32]inlet{}}
	settings := m.settings
	t.keys.Overhear(&settings)
	t.api = webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(settings),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	t.pc, err = t.api.NewPeerConnection(webrtc.Configuration{
		BundlePolicy: webrtc.BundlePolicyMaxBundle, RTCPMuxPolicy: webrtc.RTCPMuxPolicyRequire,
		RTPHeaderEncryptionPolicy: webrtc.RTPHeaderEncryptionPolicyDisable})
	if err != nil {
		return nil, err
	}
	for i, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		tr, err := t.pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
		if err == nil {
			err = tr.SetMid(strconv.Itoa(i))
		}
		if err != nil {
			t.pc.Close()
			return nil, err
		}
	}
	t.ice = t.dtls().ICETransport()
	t.ice.OnSelectedCandidatePairChange(t.moved)
	t.dtls().OnStateChange(func(s webrtc.DTLSTransportState) { // holds the DTLS transport's lock
		if s == webrtc.DTLSTransportStateConnected {
			t.decide()
		}
	})
	var changes sync.Mutex
	t.pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) {
		// pion calls this on a new goroutine each time: only what is now can be told.
		changes.Lock()
		defer changes.Unlock()
		up := t.pc.ConnectionState() == webrtc.PeerConnectionStateConnected
		if up {
			t.decide()
		}
		h.connected(up)
	})
	t.pc.OnTrack(func(remote *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		if remote.RID() != "" {
			return // simulcast was not offered
		}
		t.spawn(func() { t.readPackets(remote) })
		t.spawn(func() { t.readControl(uint32(remote.SSRC()), r.Read) })
	})
	return t, nil
}

func (t *pionTransport) dtls() *webrtc.DTLSTransport { return t.pc.SCTP().Transport() }

// decide gives the media to the lane, or to pion where the lane can not have them: where the
// participant is DTLS server, or is reached through something else than the lane's sockets.
func (t *pionTransport) decide() {
	pair, err := t.ice.GetSelectedCandidatePair()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.decided || t.closed {
		return
	}
	t.decided = true
	conn, at := t.place(pair)
	keys, none := t.keys.Keys()
	if err != nil || none != nil || conn < 0 {
		for _, o := range t.outlets {
			o.plain.Store(true)
		}
		return
	}
	peer, err := t.mux.lane.Peer(keys, t)
	if err != nil {
		return // no profile that was offered: nothing passes
	}
	t.peer = peer
	for _, o := range t.outlets {
		o.begin(peer)
	}
	peer.Move(conn, at)
}

// moved follows the participant to another address.
func (t *pionTransport) moved(pair *webrtc.ICECandidatePair) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if conn, at := t.place(pair); t.peer != nil && !t.closed && conn >= 0 {
		t.peer.Move(conn, at)
	}
}

// place is where the other end of a pair is; conn is -1 where no socket of the lane goes.
func (t *pionTransport) place(pair *webrtc.ICECandidatePair) (conn int, at netip.AddrPort) {
	if pair == nil || pair.Remote.Protocol != webrtc.ICEProtocolUDP {
		return -1, at
	}
	addr, err := netip.ParseAddr(pair.Remote.Address)
	if err != nil {
		return -1, at
	}
	addr = addr.Unmap()
	return t.mux.conn(addr), netip.AddrPortFrom(addr, pair.Remote.Port)
}

// RTP is the lane's.
func (t *pionTransport) RTP(b *lane.Batch, raw []byte, at time.Time) {
	p, err := rtp.Parse(raw)
	kind, ok := carried(p.PayloadType)
	if err != nil || !ok {
		t.handler.malformed()
		return
	}
	in, bound := t.inlets[p.SSRC]
	if !bound { // the lane bounds how many there are
		in = t.handler.stream(source{p.SSRC, kind})
		t.inlets[p.SSRC] = in
	}
	if in != nil {
		in.packet(b, &p, raw, at)
	}
}

// RTCP is the lane's.
func (t *pionTransport) RTCP(b *lane.Batch, raw []byte, at time.Time) {
	packets, err := rtcp.Unmarshal(raw)
	if err != nil {
		return // an unknown or broken packet costs its compound, no more
	}
	for _, p := range packets {
		t.handler.control(b, p, at)
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

// readPackets carries one of pion's streams.
func (t *pionTransport) readPackets(remote *webrtc.TrackRemote) {
	kind := Audio
	if remote.Kind() == webrtc.RTPCodecTypeVideo {
		kind = Video
	}
	in := t.handler.stream(source{uint32(remote.SSRC()), kind})
	if in == nil {
		return
	}
	batch := t.mux.lane.Batch()
	buf := make([]byte, rtp.MaxPacket)
	for {
		n, _, err := remote.Read(buf)
		if n == 0 && err != nil {
			return
		}
		// With an error too: a payload type that pion does not know.
		p, err := rtp.Parse(buf[:n])
		if k, ok := carried(p.PayloadType); err != nil || !ok || k != kind {
			t.handler.malformed()
			continue
		}
		in.packet(batch, &p, buf[:n], time.Now())
		batch.Flush()
	}
}

// readControl reads the RTCP that pion sorts under one SSRC. It sorts a packet that
// is about several under each of them: the first one's reader takes it.
func (t *pionTransport) readControl(ssrc uint32, read func([]byte) (int, interceptor.Attributes, error)) {
	batch := t.mux.lane.Batch()
	buf := make([]byte, rtp.MaxPacket)
	for {
		n, _, err := read(buf)
		if err != nil {
			return
		}
		packets, err := rtcp.Unmarshal(buf[:n])
		if err != nil {
			continue
		}
		now := time.Now()
		for _, p := range packets {
			if about := p.DestinationSSRC(); len(about) > 0 && about[0] == ssrc {
				t.handler.control(batch, p, now)
			}
		}
		batch.Flush()
	}
}

func (t *pionTransport) Open(i int, kind Kind, participant string) (outlet, error) {
	o := &pionOutlet{kind: kind, stream: participant}
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
		// PeerConnection.AddTrack would pick any idle m-line, the first two included. A
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
	o.ssrc = uint32(sender.GetParameters().Encodings[0].SSRC)
	t.spawn(func() { t.readControl(o.ssrc, sender.Read) })
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outlets = append(t.outlets, o)
	switch {
	case t.peer != nil:
		o.begin(t.peer)
	case t.decided:
		o.plain.Store(true)
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
	return oneCandidate(d.SDP), nil
}

// oneCandidate drops the candidates of component 2: RTCP is multiplexed.
func oneCandidate(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(line, "a=candidate:") && f[1] != "1" {
			continue
		}
		b.WriteString(line)
	}
	return b.String()
}

func (t *pionTransport) Answer(text string) error {
	if err := t.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: text}); err != nil {
		return fmt.Errorf("sdp: %w", err)
	}
	return nil
}

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
	t.closed = true
	peer := t.peer
	t.mu.Unlock()
	if peer != nil {
		peer.Close()
	}
	err := t.pc.GracefulClose()
	t.readers.Wait()
	return err
}

// pionOutlet is a webrtc.TrackLocal: pion binds it to an m-line, the room writes.
type pionOutlet struct {
	kind   Kind
	stream string
	ssrc   uint32
	sender atomic.Pointer[lane.Sender]
	plain  atomic.Bool // pion carries the media
	writer atomic.Pointer[webrtc.TrackLocalWriter]
}

// begin makes the lane carry the outlet.
func (o *pionOutlet) begin(p *lane.Peer) {
	if s, err := p.Sender(); err == nil { // Peer has made a context of the same keys
		o.sender.Store(s)
	}
}

func (o *pionOutlet) SSRC() uint32 { return o.ssrc }

func (o *pionOutlet) WriteRTP(b *lane.Batch, h *pion.Header, payload []byte) error {
	if s := o.sender.Load(); s != nil {
		return s.Write(b, h, payload)
	}
	if w := o.writer.Load(); w != nil && o.plain.Load() {
		_, err := (*w).WriteRTP(h, payload)
		return err
	}
	return net.ErrClosed
}

// Bind is called when an answer has accepted the m-line. Which of its codecs a
// packet has is the packet's business.
func (o *pionOutlet) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	codecs := c.CodecParameters()
	if len(codecs) == 0 {
		return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
	}
	w := c.WriteStream()
	o.writer.Store(&w)
	return codecs[0], nil
}

func (o *pionOutlet) Unbind(webrtc.TrackLocalContext) error {
	o.writer.Store(nil)
	return nil
}

func (o *pionOutlet) ID() string       { return o.kind.String() }
func (o *pionOutlet) RID() string      { return "" }
func (o *pionOutlet) StreamID() string { return o.stream }

func (o *pionOutlet) Kind() webrtc.RTPCodecType {
	if o.kind == Video {
		return webrtc.RTPCodecTypeVideo
	}
	return webrtc.RTPCodecTypeAudio
}
