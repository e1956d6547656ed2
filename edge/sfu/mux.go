package sfu

import (
	"errors"
	"net/netip"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/rtp"
)

// mux is the sockets, UDP and TCP, and what every connection on them has in common.
type mux struct {
	sockets  []Socket
	lane     *lane.Lane
	ice      *ice.MultiUDPMuxDefault
	tcp      *tcpMux
	settings webrtc.SettingEngine
}

func newMux(sockets []Socket) (*mux, error) {
	silent := silence{(&logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}).NewLogger("")}
	m := &mux{}
	at := make([]netip.AddrPort, len(sockets))
	for i, s := range sockets {
		at[i] = s.Bound
	}
	var err error
	if m.lane, err = lane.Listen(at); err != nil {
		return nil, err
	}
	var muxes []ice.UDPMux
	var tcp []*lane.Conn
	var rewrites []webrtc.ICEAddressRewriteRule
	log, conns := silent.NewLogger("ice"), m.lane.Conns()
	for i, s := range sockets {
		s.Bound = conns[2*i].At()
		if !s.Public.IsValid() {
			s.Public = s.Bound.Addr()
		}
		if s.Public != s.Bound.Addr() {
			rewrites = append(rewrites, webrtc.ICEAddressRewriteRule{Local: s.Bound.Addr().String(), External: []string{s.Public.String()}})
		}
		m.sockets = append(m.sockets, s)
		muxes = append(muxes, ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conns[2*i], Logger: log}))
		tcp = append(tcp, conns[2*i+1])
	}
	m.tcp = newTCPMux(tcp)
	m.ice = ice.NewMultiUDPMuxDefault(muxes...)

	s := &m.settings
	s.SetICEAddressRewriteRules(rewrites...) // fails beside the way that it replaces
	s.LoggerFactory = silent
	s.SetICEUDPMux(m.ice)
	s.SetICETCPMux(m.tcp)
	s.DisableActiveTCP(true) // else an answer could have the edge connect to anywhere
	s.SetNet(newAddresses(m.sockets))
	s.SetLite(true)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6})
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

// location is where a participant is, and by which of the lane's addresses it is reached.
type location struct {
	conn int
	at   netip.AddrPort
}

// locate says where ICE has that a participant is; false: where the lane is not.
func (m *mux) locate(address string, port uint16, tcp bool) (location, bool) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return location{}, false
	}
	addr = addr.Unmap()
	for i, s := range m.sockets {
		if s.Bound.Addr().Is4() != addr.Is4() {
			continue
		}
		conn := 2 * i
		if tcp {
			conn++
		}
		return location{conn, netip.AddrPortFrom(addr, port)}, true
	}
	return location{}, false
}

func (m *mux) Close() error {
	err := errors.Join(m.ice.Close(), m.tcp.Close())
	m.lane.Close()
	return err
}
