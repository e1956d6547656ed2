package turn

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	pion "github.com/pion/turn/v5"
)

// relays makes the sockets of allocations: pion's RelayAddressGenerator.
type relays struct{ s *Server }

func (relays) Validate() error { return nil }

var (
	errUnsupported = errors.New("only UDP of the relay's address family is relayed")
	errQuota       = errors.New("no allocation is left")
)

// AllocatePacketConn opens a relayed transport address. An error makes pion answer
// 508 (Insufficient Capacity), which the guard makes 440 or 442 where that is why.
func (g relays) AllocatePacketConn(conf pion.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	s := g.s
	listen := func(port int) (*net.UDPConn, error) {
		at := netip.AddrPortFrom(s.cfg.Relay, uint16(port))
		return net.ListenUDP(network("udp", s.cfg.Relay), net.UDPAddrFromAddrPort(at))
	}
	if conf.UserID == "" { // pion looks for an even port, and closes this at once
		conn, err := listen(0)
		if err != nil {
			return nil, nil, err
		}
		return conn, conn.LocalAddr(), nil
	}
	expires, participant, err := parseUsername(conf.UserID)
	if err != nil || conf.Network != network("udp", s.cfg.Relay) {
		s.refuse(Unsupported)
		return nil, nil, errUnsupported
	}
	if !s.reserve(participant) {
		return nil, nil, errQuota
	}
	conn, err := listen(conf.RequestedPort)
	if err != nil {
		s.release(participant)
		s.cfg.Log.Error("turn relay socket not opened", "err", err)
		return nil, nil, err
	}
	// pion lets a client ask for an hour from its last refresh, but drops the
	// allocation when reading fails: here, at the credential's end.
	if err := conn.SetReadDeadline(expires); err != nil {
		conn.Close()
		s.release(participant)
		return nil, nil, err
	}
	return &relay{UDPConn: conn, s: s, participant: participant}, conn.LocalAddr(), nil
}

// AllocateListener refuses relaying over TCP, RFC 6062.
func (g relays) AllocateListener(pion.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	g.s.refuse(Unsupported)
	return nil, nil, errUnsupported
}

// AllocateConn refuses relaying over TCP, RFC 6062.
func (g relays) AllocateConn(pion.AllocateConnConfig) (net.Conn, error) {
	g.s.refuse(Unsupported)
	return nil, errUnsupported
}

// relay is one relayed transport address. pion permits addresses and ignores ports;
// here every packet is judged by both.
type relay struct {
	*net.UDPConn
	s           *Server
	participant string
	once        sync.Once

	// The reader's last peer: an allocation hears from one or two, and pion only
	// reads the address.
	last     netip.AddrPort
	lastAddr *net.UDPAddr
}

// ReadFrom gives the next packet of a permitted peer.
func (r *relay) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, peer, err := r.ReadFromUDPAddrPort(b)
		if err != nil {
			return 0, nil, err
		}
		peer, ok := r.s.known(netip.AddrPortFrom(peer.Addr().Unmap().WithZone(""), peer.Port()))
		if !ok || !r.s.cfg.Permit(peer) {
			r.s.refuse(Packet)
			continue
		}
		r.s.fromPeers.Add(uint64(n))
		if peer != r.last {
			r.last, r.lastAddr = peer, net.UDPAddrFromAddrPort(peer)
		}
		return n, r.lastAddr, nil
	}
}

// WriteTo drops and counts what is for a peer that is not permitted.
func (r *relay) WriteTo(b []byte, addr net.Addr) (int, error) {
	peer := addrPort(addr)
	if !r.s.cfg.Permit(peer) {
		r.s.refuse(Packet)
		return len(b), nil
	}
	r.s.toPeers.Add(uint64(len(b))) // before the peer can answer
	if at, ok := r.s.cfg.Local[peer]; ok {
		peer = at
	}
	return r.WriteToUDPAddrPort(b, peer)
}

// known is the peer at an address as clients know it; false: who is elsewhere claims to be one.
func (s *Server) known(at netip.AddrPort) (peer netip.AddrPort, ok bool) {
	if peer, ok := s.peers[at]; ok {
		return peer, true
	}
	_, elsewhere := s.cfg.Local[at]
	return at, !elsewhere
}

// Close never fails: pion stops closing the others at the first error.
func (r *relay) Close() error {
	r.once.Do(func() {
		r.UDPConn.Close()
		r.s.release(r.participant)
	})
	return nil
}
