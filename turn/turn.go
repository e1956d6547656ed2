// Package turn is the TURN relay of an edge (RFC 8656), on pion/turn v5.
//
// It is a closed relay: it carries ciphertext to and from the peers that
// Config.Permit names and to nothing else, so it is of no use to whoever steals a
// credential, and no packet of a consult touches a hop that the law did not judge.
// Permit is asked for a peer's address and port at CreatePermission and ChannelBind
// and again for every packet, either way: what ceases to be lawful ceases at once.
//
// pion holds the protocol. Wrappers of its connections hold what it lacks: the port
// in permissions, a budget for strangers before they are authenticated, 437 for a
// lost allocation and 403 for a refused channel, quotas, byte counts, and an end
// to each allocation no later than its credential's. Relaying over TCP to peers (RFC
// 6062) is refused. ChannelData of at most four bytes over TCP waits for the next
// frame, in pion; WebRTC sends none so short.
//
// One Server relays in one address family, Config.Relay's. For both, listen twice.
package turn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/logging"
	pion "github.com/pion/turn/v5"

	"bailiwick/crowd"
)

// Config describes one relay.
type Config struct {
	Addr   netip.AddrPort // listens on UDP and TCP; port 0 picks one port for both
	Relay  netip.Addr     // address of relayed transport addresses; one of this machine, and only peers need to reach it
	Realm  string
	Secret []byte // of the TURN REST credentials
	// Local is where this machine reaches the peers that clients know by another address,
	// since a 1:1 NAT is between; packets come from there alone. Permit is asked of what
	// clients know.
	Local map[netip.AddrPort]netip.AddrPort
	// Permit says whether packets may go to and come from a peer. It is asked for
	// every packet, from several goroutines, and must not block. Addresses are
	// unmapped. CreatePermission is judged with the port that it carries, which
	// RFC 8656 10.1 lets a client leave arbitrary: browsers send the candidate's.
	Permit func(peer netip.AddrPort) bool
	Log    *slog.Logger // nil: discarded

	// TLS makes TURN over TLS listen on TLSAddr too (RFC 8656 3.1), with the
	// certificate that it gives at each handshake; nil: there is none. Of it the
	// certificates and cipher settings are used; versions, ALPN are this package's.
	TLS     *tls.Config
	TLSAddr netip.AddrPort

	// Limits; 0 is the default.
	PerUser     int // allocations of one participant, 32: each interface and transport takes one, a reload leaves them behind for 10 minutes
	Allocations int // in all, 8192: each is a socket
	Connections int // TCP connections, TLS or not, 8192; each source its share, as package crowd has it
}

// Defaults of the limits.
const (
	defaultPerUser     = 32
	defaultAllocations = 8192
	defaultConnections = 8192
)

// Server is one relay. Its methods are safe for concurrent use.
type Server struct {
	cfg     Config
	addr    netip.AddrPort
	tlsAddr netip.AddrPort
	pion    *pion.Server
	limit   *limiter
	crowd   *crowd.Crowd
	streams []*streams                        // TCP, and with TLS its own listener and what Serve is given
	given   *given                            // nil without TLS
	peers   map[netip.AddrPort]netip.AddrPort // Config.Local the other way round
	stop    sync.Once
	fail    error // of stop
	counters

	mu     sync.Mutex
	closed bool
	users  map[string]int // allocations of each participant
	total  int
	relays sync.WaitGroup
}

// Listen opens the relay's listeners and serves until Close. An error names what
// cannot be used.
func Listen(cfg Config) (*Server, error) {
	cfg.Relay = cfg.Relay.Unmap()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("turn: %w", err)
	}
	udp, tcp, err := open(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("turn: listen: %w", err)
	}
	var secure net.Listener
	if cfg.TLS != nil {
		secure, err = net.ListenTCP(network("tcp", cfg.TLSAddr.Addr()), net.TCPAddrFromAddrPort(cfg.TLSAddr))
	}
	var s *Server
	if err == nil {
		s, err = serve(cfg, udp, tcp, secure)
	}
	if err != nil {
		udp.Close()
		tcp.Close()
		if secure != nil {
			secure.Close()
		}
		return nil, fmt.Errorf("turn: %w", err)
	}
	return s, nil
}

func (c *Config) check() error {
	switch {
	case !c.Addr.IsValid():
		return errors.New("no address to listen on")
	case !c.Relay.IsValid() || c.Relay.IsUnspecified():
		return errors.New("no relay address: name the one that peers see")
	case c.Realm == "":
		return errors.New("no realm")
	case len(c.Secret) == 0:
		return errors.New("no secret: every credential could be forged")
	case c.TLS != nil && !c.TLSAddr.IsValid():
		return errors.New("no address to listen on with TLS")
	case c.Permit == nil:
		return errors.New("no permitted peers: an open relay is not offered")
	}
	// The first allocation would be late to learn this.
	probe, err := net.ListenUDP(network("udp", c.Relay), net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.Relay, 0)))
	if err != nil {
		return fmt.Errorf("relay address %s: %w: it must be one of this machine's", c.Relay, err)
	}
	return probe.Close()
}

// serve relays between the listeners, secure where there is TLS; it takes them over
// unless it fails.
func serve(cfg Config, udp net.PacketConn, tcp, secure net.Listener) (*Server, error) {
	setDefault(&cfg.PerUser, defaultPerUser)
	setDefault(&cfg.Allocations, defaultAllocations)
	setDefault(&cfg.Connections, defaultConnections)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, addr: addrPort(udp.LocalAddr()), limit: newLimiter(), users: map[string]int{}, peers: map[netip.AddrPort]netip.AddrPort{}}
	for peer, at := range cfg.Local {
		s.peers[at] = peer
	}
	s.crowd = crowd.New(cfg.Connections)
	s.streams = []*streams{newStreams(s, tcp, nil)}
	if secure != nil {
		s.tlsAddr = addrPort(secure.Addr())
		s.given = newGiven(secure.Addr())
		s.streams = append(s.streams, newStreams(s, secure, secureConfig(cfg.TLS)), newStreams(s, s.given, nil))
	}
	var listeners []pion.ListenerConfig
	for _, l := range s.streams {
		listeners = append(listeners, pion.ListenerConfig{Listener: l, RelayAddressGenerator: relays{s}, PermissionHandler: l.permits})
	}
	packets := &datagrams{PacketConn: udp, g: guard{s: s}}
	var err error
	s.pion, err = pion.NewServer(pion.ServerConfig{
		Realm:        cfg.Realm,
		AuthHandler:  s.authenticate,
		QuotaHandler: func(username, _ string, _ net.Addr) bool { return s.hasRoom(username) },
		EventHandler: pion.EventHandler{
			OnAuth: func(_, _ net.Addr, _, _, _, _ string, ok bool) {
				if !ok {
					s.refuse(Forged)
				}
			},
			OnAllocationCreated: func(src, dst net.Addr, _, _, _ string, _ net.Addr, _ int) { s.allocated(src, dst, true) },
			OnAllocationDeleted: func(src, dst net.Addr, _, _, _ string) { s.allocated(src, dst, false) },
		},
		PacketConnConfigs: []pion.PacketConnConfig{{PacketConn: packets, RelayAddressGenerator: relays{s},
			PermissionHandler: func(_ net.Addr, peer net.IP) bool { return packets.g.permits(peer) }}},
		ListenerConfigs: listeners,
		// Without REQUESTED-ADDRESS-FAMILY a client gets IPv4 (RFC 8656 7.2) where
		// the relay has it, else the listener's family.
		StrictAddressFamily: cfg.Relay.Is4(),
		InboundMTU:          maxFrame,
		// pion logs client addresses and user names; the counters say what matters.
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled},
	})
	return s, err
}

func setDefault(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

// Addr is what the relay listens on, UDP and TCP.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// TLSAddr is what TURN over TLS listens on; invalid without.
func (s *Server) TLSAddr() netip.AddrPort { return s.tlsAddr }

// Close ends every allocation and returns once their sockets are closed.
func (s *Server) Close() error {
	s.stop.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.fail = s.pion.Close()
		for _, l := range s.streams {
			l.closeAll()
		}
		s.relays.Wait()
	})
	return s.fail
}

// authenticate is pion's AuthHandler. The user ID is the whole username, so that an
// allocation belongs to one credential (RFC 8656 5) and its expiry is known.
func (s *Server) authenticate(ra *pion.RequestAttributes) (userID string, key []byte, ok bool) {
	expires, _, err := parseUsername(ra.Username)
	switch {
	case err != nil || ra.Realm != s.cfg.Realm:
		s.refuse(UnknownUser)
	case !time.Now().Before(expires):
		s.refuse(Expired)
	default:
		return ra.Username, s.key(ra.Username), true
	}
	return "", nil, false
}

func (s *Server) key(username string) []byte {
	return pion.GenerateAuthKey(username, s.cfg.Realm, password(s.cfg.Secret, username))
}

// hasRoom tells whether one more allocation fits; reserve decides.
func (s *Server) hasRoom(username string) bool {
	_, participant, _ := parseUsername(username)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roomLocked(participant)
}

func (s *Server) roomLocked(participant string) bool {
	switch {
	case s.closed:
		return false
	case s.total >= s.cfg.Allocations:
		s.refuse(TotalQuota)
		return false
	case s.users[participant] >= s.cfg.PerUser:
		s.refuse(UserQuota)
		return false
	}
	return true
}

// reserve counts an allocation in; release counts it out.
func (s *Server) reserve(participant string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.roomLocked(participant) {
		return false
	}
	s.users[participant]++
	s.total++
	s.relays.Add(1)
	return true
}

func (s *Server) release(participant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[participant]--; s.users[participant] == 0 {
		delete(s.users, participant)
	}
	s.total--
	s.relays.Done()
}
