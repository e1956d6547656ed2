package sfu

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	house "bailiwick/edge/sfu/rtp"
)

// engine makes pion connections on one mux.
type engine struct {
	mux ice.UDPMux
	api *webrtc.API
}

// newEngine sets pion up. The interceptor registry is empty on purpose: RTCP is
// this package's, and the defaults would answer behind its back.
func newEngine(conn net.PacketConn, log *slog.Logger) (*engine, error) {
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	mux := webrtc.NewICEUDPMux(quiet.NewLogger("mux"), conn)
	media := &webrtc.MediaEngine{}
	if err := codecs(media); err != nil {
		return nil, err
	}
	var set webrtc.SettingEngine
	set.LoggerFactory = quiet
	set.SetLite(true)
	set.SetICEUDPMux(mux)
	set.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	set.SetIncludeLoopbackCandidate(true)
	set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	set.SetReceiveMTU(house.MaxPacket)
	set.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	return &engine{mux: mux, api: webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithSettingEngine(set),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{}))}, nil
}

func (e *engine) Close() error { return e.mux.Close() }

// codecs offers Opus, and VP8 before H.264: every browser has both, and VP8 needs
// no profile to match.
func codecs(m *webrtc.MediaEngine) error {
	video := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}}
	var errs []error
	add := func(kind webrtc.RTPCodecType, pt webrtc.PayloadType, c webrtc.RTPCodecCapability) {
		errs = append(errs, m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: c, PayloadType: pt}, kind))
	}
	add(webrtc.RTPCodecTypeAudio, 111, webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2,
		SDPFmtpLine: "minptime=10;useinbandfec=1;usedtx=1"})
	add(webrtc.RTPCodecTypeVideo, 96, webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: video})
	add(webrtc.RTPCodecTypeVideo, 102, webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeH264, ClockRate: 90000, RTCPFeedback: video,
		SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"})
	return errors.Join(errs...)
}

// pionTransport is a transport on webrtc.PeerConnection.
type pionTransport struct {
	pc   *webrtc.PeerConnection
	to   events
	once sync.Once
	outs sync.WaitGroup
}

func (e *engine) connect(to events) (*pionTransport, error) {
	pc, err := e.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	t := &pionTransport{pc: pc, to: to}
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			pc.Close()
			return nil, err
		}
	}
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateConnected:
			to.Connected(true)
		case webrtc.PeerConnectionStateDisconnected, webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			to.Connected(false)
		}
	})
	pc.OnTrack(t.track)
	return t, nil
}

// track runs for the life of one published track.
func (t *pionTransport) track(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	kind := Audio
	if remote.Kind() == webrtc.RTPCodecTypeVideo {
		kind = Video
	}
	c := remote.Codec()
	sink := t.to.Track(kind, uint32(remote.SSRC()), c.MimeType, c.ClockRate)
	if sink == nil {
		return
	}
	defer sink.Ended()
	var reports sync.WaitGroup
	reports.Go(func() {
		for {
			packets, _, err := receiver.ReadRTCP()
			if err != nil {
				return
			}
			for _, p := range packets {
				if sr, ok := p.(*rtcp.SenderReport); ok && sr.SSRC == uint32(remote.SSRC()) {
					sink.SenderReport(sr, time.Now())
				}
			}
		}
	})
	defer reports.Wait()
	buf := make([]byte, house.MaxPacket)
	var h rtp.Header
	for {
		n, _, err := remote.Read(buf)
		if errors.Is(err, io.ErrShortBuffer) {
			continue // nothing that large is media of ours
		}
		if err != nil {
			return
		}
		h = rtp.Header{CSRC: h.CSRC[:0], Extensions: h.Extensions[:0]}
		size, err := h.Unmarshal(buf[:n])
		if err != nil {
			continue
		}
		end := n
		if h.Padding && n > size {
			end = max(size, n-int(buf[n-1]))
		}
		sink.RTP(&h, buf[:n], buf[size:end], time.Now())
	}
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
	<-gathered // the mux's addresses: nothing is asked of the network
	return t.pc.LocalDescription().SDP, nil
}

func (t *pionTransport) Answer(sdp string) error {
	return t.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp})
}

func (t *pionTransport) WriteRTCP(packets []rtcp.Packet) error { return t.pc.WriteRTCP(packets) }

func (t *pionTransport) Close() error {
	var err error
	t.once.Do(func() { err = t.pc.Close() })
	t.outs.Wait()
	return err
}

func (t *pionTransport) AddOut(kind Kind, stream string) (out, error) {
	o := &pionOut{kind: kind, stream: stream}
	tr, err := t.pc.AddTransceiverFromTrack(o, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		return nil, err
	}
	o.transceiver = tr
	sender := tr.Sender()
	t.outs.Go(func() {
		for {
			packets, _, err := sender.ReadRTCP()
			if err != nil {
				return
			}
			t.to.Feedback(o, packets)
		}
	})
	return o, nil
}

// pionOut is a webrtc.TrackLocal that is bound once and then sends whichever
// publisher the room gives it.
type pionOut struct {
	kind        Kind
	stream      string
	transceiver *webrtc.RTPTransceiver
	bound       atomic.Pointer[binding]
}

type binding struct {
	ssrc   uint32
	codecs []webrtc.RTPCodecParameters
	w      webrtc.TrackLocalWriter
}

func (o *pionOut) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	list := slices.Clone(c.CodecParameters())
	if len(list) == 0 {
		return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
	}
	o.bound.Store(&binding{ssrc: uint32(c.SSRC()), codecs: list, w: c.WriteStream()})
	return list[0], nil
}

func (o *pionOut) Unbind(webrtc.TrackLocalContext) error {
	o.bound.Store(nil)
	return nil
}

func (o *pionOut) ID() string       { return o.stream + "-" + o.kind.String() }
func (o *pionOut) RID() string      { return "" }
func (o *pionOut) StreamID() string { return o.stream }
func (o *pionOut) Kind() webrtc.RTPCodecType {
	if o.kind == Video {
		return webrtc.RTPCodecTypeVideo
	}
	return webrtc.RTPCodecTypeAudio
}

func (o *pionOut) MID() string { return o.transceiver.Mid() }

func (o *pionOut) SSRC() uint32 {
	if b := o.bound.Load(); b != nil {
		return b.ssrc
	}
	return 0
}

func (o *pionOut) Write(codec string, h *rtp.Header, payload []byte) error {
	b := o.bound.Load()
	if b == nil {
		return nil
	}
	for i := range b.codecs {
		if b.codecs[i].MimeType == codec {
			h.SSRC, h.PayloadType = b.ssrc, uint8(b.codecs[i].PayloadType)
			_, err := b.w.WriteRTP(h, payload)
			return err
		}
	}
	return nil
}
