// Package piontest sets pion up as the client of a test.
package piontest

import (
	"math"
	"net"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"
)

// Loopback is a client that has loopback's addresses alone, says nothing, answers as DTLS client
// as browsers do (pion would not, to who is ICE-lite), and waits for an edge that a busy machine
// keeps from answering: left to itself pion gives a pair up after eight checks, 1.6 s, and never
// tries it again.
func Loopback() webrtc.SettingEngine {
	var s webrtc.SettingEngine
	s.LoggerFactory = &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
	s.SetIncludeLoopbackCandidate(true)
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	s.SetAnsweringDTLSRole(webrtc.DTLSRoleClient)
	s.SetICEMaxBindingRequests(math.MaxUint16)
	s.SetICETimeouts(5*time.Second, 3*time.Minute, 2*time.Second)
	return s
}
