package sfu

import (
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/rtp"
)

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
	// What ICE chose: the places that the participant nominated, the last one last, and when a
	// check came from the chosen one.
	nominated []location
	checked   time.Time
	packet    rtp.Packet // theirs too: scratch
	readers   sync.WaitGroup
	gone      chan struct{} // closed with closed

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
	settings.SetICEBindingRequestHandler(func(_ *stun.Message, _, remote ice.Candidate, _ *ice.CandidatePair) bool {
		from, ok := m.locate(remote.Address(), uint16(remote.Port()), remote.NetworkType().IsTCP())
		return ok && t.back(from, time.Now())
	})
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
