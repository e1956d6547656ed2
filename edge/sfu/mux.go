package sfu

import (
	"net/netip"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/transport/v5/stdnet"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/rtp"
)

// mux is the UDP sockets and what every connection on them has in common.
type mux struct {
	sockets  []Socket
	lane     *lane.Lane
	ice      *ice.MultiUDPMuxDefault
	settings webrtc.SettingEngine
}

func newMux(sockets []Socket) (*mux, error) {
	silent := silence{(&logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}).NewLogger("")}
	interfaces, err := stdnet.NewNet() // pion would ask the kernel for them at each join, and keep them
	if err != nil {
		return nil, err
	}
	m := &mux{}
	at := make([]netip.AddrPort, len(sockets))
	for i, s := range sockets {
		at[i] = s.Bound
	}
	if m.lane, err = lane.Listen(at); err != nil {
		return nil, err
	}
	var muxes []ice.UDPMux
	var rewrites []webrtc.ICEAddressRewriteRule
	for i, conn := range m.lane.Conns() {
		s := sockets[i]
		s.Bound = conn.At()
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
	s.SetNet(interfaces)
	s.SetICEUDPMux(m.ice)
	s.SetLite(true)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	s.SetIncludeLoopbackCandidate(true) // only a mux that listens on loopback has one
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetICETimeouts(lostAfter, 0, keepalive)
	// As offerer pion is DTLS server, so this order decides: GCM costs half of CM.
	s.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	// ICE has proved the address already; HelloVerify would cost a round trip.
	s.SetDTLSInsecureSkipHelloVerify(true)
	s.SetSRTPReplayProtectionWindow(lane.ReplayWindow)
	s.SetReceiveMTU(rtp.MaxPacket)
	s.SetFireOnTrackBeforeFirstRTP(true)
	s.DetachDataChannels()
	s.SetSCTPMaxMessageSize(MaxMessage)
	s.SetSCTPMaxReceiveBufferSize(unread)
	s.DisableMediaEngineCopy(true) // one engine a connection; see connect
	return m, nil
}

// silence is one logger for all of pion, whose log lines name clients' addresses.
type silence struct{ logging.LeveledLogger }

func (s silence) NewLogger(string) logging.LeveledLogger { return s.LeveledLogger }

// conn is the index of the lane's address that a participant at that one uses; -1: none.
func (m *mux) conn(remote netip.Addr) int {
	for i, s := range m.sockets {
		if remote.IsValid() && s.Bound.Addr().Is4() == remote.Is4() {
			return i
		}
	}
	return -1
}

func (m *mux) Close() error {
	err := m.ice.Close()
	m.lane.Close()
	return err
}
