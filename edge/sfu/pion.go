package sfu

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/rtp"
)

const (
	// lostAfter is when a silent connection counts as down. It is never given up: it
	// lives until its session closes, and goes on as soon as packets come again.
	lostAfter = 5 * time.Second
	// replayWindow admits a packet that comes this much late, in packets: one that was
	// asked for again over a long path. pion's 64 would drop those as replays.
	replayWindow = 1024
	socketBuffer = 4 << 20 // bytes; the system may grant less
)

// mux is the UDP sockets and what every connection on them has in common.
type mux struct {
	sockets  []Socket
	ice      *ice.MultiUDPMuxDefault
	settings webrtc.SettingEngine
}

func newMux(sockets []Socket) (*mux, error) {
	// pion's log lines name clients' addresses.
	silent := &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
	m := &mux{}
	var muxes []ice.UDPMux
	var rewrites []webrtc.ICEAddressRewriteRule
	for _, s := range sockets {
		conn, err := bind(s.Bound)
		if err != nil {
			for _, open := range muxes {
				open.Close()
			}
			return nil, fmt.Errorf("media address %s: %w", s.Bound, err)
		}
		at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
		s.Bound = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		if !s.Public.IsValid() {
			s.Public = s.Bound.Addr()
		}
		if s.Public != s.Bound.Addr() {
			rewrites = append(rewrites, webrtc.ICEAddressRewriteRule{Local: s.Bound.Addr().String(), External: []string{s.Public.String()}})
		}
		m.sockets = append(m.sockets, s)
		muxes = append(muxes, ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn, Logger: silent.NewLogger("ice")}))
	}
	m.ice = ice.NewMultiUDPMuxDefault(muxes...)

	s := &m.settings
	s.SetICEAddressRewriteRules(rewrites...) // fails beside the way that it replaces
	s.LoggerFactory = silent
	s.SetICEUDPMux(m.ice)
	s.SetLite(true)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	s.SetIncludeLoopbackCandidate(true) // only a mux that listens on loopback has one
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetICETimeouts(lostAfter, 0, 2*time.Second)
	// As offerer pion is DTLS server, so this order decides: GCM costs half of CM.
	s.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	// ICE has proved the address already; HelloVerify would cost a round trip.
	s.SetDTLSInsecureSkipHelloVerify(true)
	s.SetSRTPReplayProtectionWindow(replayWindow)
	s.SetReceiveMTU(rtp.MaxPacket)
	s.SetFireOnTrackBeforeFirstRTP(true)
	s.DisableMediaEngineCopy(true) // one engine a connection; see connect
	return m, nil
}

func bind(at netip.AddrPort) (*net.UDPConn, error) {
	if at.Addr().IsUnspecified() {
		return nil, errors.New("unspecified: name the interface's")
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	conn.SetReadBuffer(socketBuffer)
	conn.SetWriteBuffer(socketBuffer)
	return conn, nil
}

func (m *mux) Close() error { return m.ice.Close() }

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

// pionTransport is a transport on one webrtc.PeerConnection.
type pionTransport struct {
	handler handler
	api     *webrtc.API
	pc      *webrtc.PeerConnection
	outs    []*webrtc.RTPTransceiver // from m-line 2 on

	mu      sync.Mutex
	closed  bool
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
	t := &pionTransport{handler: h}
	t.api = webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(m.settings),
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
	var changes sync.Mutex
	t.pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) {
		// pion calls this on a new goroutine each time: only what is now can be told.
		changes.Lock()
		defer changes.Unlock()
		h.connected(t.pc.ConnectionState() == webrtc.PeerConnectionStateConnected)
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

// spawn runs a reader that Close waits for.
func (t *pionTransport) spawn(read func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.readers.Go(read)
	}
}

func (t *pionTransport) readPackets(remote *webrtc.TrackRemote) {
	kind := Audio
	if remote.Kind() == webrtc.RTPCodecTypeVideo {
		kind = Video
	}
	buf := make([]byte, rtp.MaxPacket)
	for {
		n, _, err := remote.Read(buf)
		if n > 0 { // with an error too: a payload type that pion does not know
			t.handler.packet(kind, buf[:n], time.Now())
		} else if err != nil {
			return
		}
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
		packets, err := rtcp.Unmarshal(buf[:n])
		if err != nil {
			continue // an unknown or broken packet costs its compound, no more
		}
		now := time.Now()
		for _, p := range packets {
			if about := p.DestinationSSRC(); len(about) > 0 && about[0] == ssrc {
				t.handler.control(p, now)
			}
		}
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
		if sender, err = t.api.NewRTPSender(o, t.pc.SCTP().Transport()); err != nil {
			return nil, err
		}
		if err := t.outs[i].SetSender(sender, o); err != nil {
			return nil, err
		}
	}
	o.ssrc = uint32(sender.GetParameters().Encodings[0].SSRC)
	t.spawn(func() { t.readControl(o.ssrc, sender.Read) })
	return o, nil
}

func (t *pionTransport) Shut(i int) error {
	return t.pc.RemoveTrack(t.outs[i-firstLine].Sender())
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

func (t *pionTransport) WriteRTCP(packets []rtcp.Packet) error { return t.pc.WriteRTCP(packets) }

func (t *pionTransport) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	err := t.pc.GracefulClose()
	t.readers.Wait()
	return err
}

// pionOutlet is a webrtc.TrackLocal: pion binds it to an m-line, the room writes.
type pionOutlet struct {
	kind   Kind
	stream string
	ssrc   uint32
	writer atomic.Pointer[webrtc.TrackLocalWriter]
}

func (o *pionOutlet) SSRC() uint32 { return o.ssrc }

func (o *pionOutlet) WriteRTP(h *pion.Header, payload []byte) error {
	w := o.writer.Load()
	if w == nil {
		return net.ErrClosed
	}
	_, err := (*w).WriteRTP(h, payload)
	return err
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
