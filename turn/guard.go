package turn

import (
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v4"
)

// guard stands between one connection and pion. pion handles a request in the
// goroutine that read it and answers before it reads again; so what the last
// request was is plain state of that goroutine, and a request that was not answered
// by the next read never will be.
type guard struct {
	s   *Server
	m   stun.Message // reused by each packet
	req request
}

// request is what pion does not pass on of the request it is handling.
type request struct {
	waiting  bool // not answered yet
	src      netip.Addr
	id       [stun.TransactionIDSize]byte
	method   stun.Method
	signed   bool
	username string
	peers    []netip.AddrPort
}

// admit looks at a packet before pion does; false drops it.
func (g *guard) admit(b []byte, src netip.Addr) bool {
	g.req = request{peers: g.req.peers[:0]}
	if !stun.IsMessage(b) {
		return true // ChannelData, or noise that pion drops
	}
	g.m.Raw = b
	if g.m.Decode() != nil || g.m.Type.Class != stun.ClassRequest {
		return true
	}
	r := &g.req
	r.waiting, r.src, r.id, r.method = true, src, g.m.TransactionID, g.m.Type.Method
	r.signed = g.m.Contains(stun.AttrMessageIntegrity)
	if r.method == stun.MethodBinding {
		return true
	}
	if !r.signed && !g.s.limit.has(src, time.Now()) {
		g.s.refuse(Strangers)
		r.waiting = false
		return false
	}
	if name, err := g.m.Get(stun.AttrUsername); err == nil {
		r.username = string(name)
	}
	g.readPeers()
	return true
}

func (g *guard) readPeers() {
	// An address that cannot be read ends the list, here and in pion.
	_ = g.m.ForEach(stun.AttrXORPeerAddress, func(m *stun.Message) error {
		var peer stun.XORMappedAddress
		if err := peer.GetFromAs(m, stun.AttrXORPeerAddress); err != nil {
			return err
		}
		if a, ok := netip.AddrFromSlice(peer.IP); ok {
			g.req.peers = append(g.req.peers, netip.AddrPortFrom(a.Unmap(), uint16(peer.Port)))
		}
		return nil
	})
}

// permits is pion's PermissionHandler, which gets no port: the port is taken from
// the request being handled.
func (g *guard) permits(ip net.IP) bool {
	a, _ := netip.AddrFromSlice(ip)
	a = a.Unmap()
	for _, peer := range g.req.peers {
		if peer.Addr() == a && g.s.cfg.Permit(peer) {
			return true
		}
	}
	g.s.refuse(Peer)
	return false
}

// outgoing looks at a packet of pion's for the client, and gives what to send
// instead; nil sends nothing. Relayed data passes here too, from other goroutines,
// and touches no state.
func (g *guard) outgoing(b []byte) []byte {
	const response, isError = 0x01, 0x10 // class bits of the type, RFC 8489 5
	if len(b) < 2 || b[0]&0xC0 != 0 || b[0]&response == 0 {
		return b // ChannelData or an indication
	}
	r := &g.req
	r.waiting = false
	if b[1]&isError == 0 {
		return b
	}
	m := stun.Message{Raw: b}
	if m.Decode() != nil {
		return b
	}
	if !m.Contains(stun.AttrMessageIntegrity) {
		// The client is a stranger: 401, 438, 400 or 420.
		if !g.s.limit.take(r.src, time.Now()) {
			g.s.refuse(Strangers)
			return nil
		}
		return b
	}
	var code stun.ErrorCodeAttribute
	if r.method == stun.MethodChannelBind && code.GetFrom(&m) == nil && code.Code == stun.CodeUnauthorized {
		// pion's answer to a peer that is not permitted. It was authenticated, so
		// 401 would have the client try again (RFC 8656 12.2 wants 403).
		return g.errorResponse(stun.CodeForbidden)
	}
	return b
}

// unanswered gives the answer to a request on which pion stayed silent. pion says
// nothing to an authenticated request for an allocation that does not exist, and
// the client would wait for half a minute; RFC 8656 5 wants 437.
func (g *guard) unanswered() []byte {
	r := &g.req
	if !r.waiting || !r.signed {
		return nil
	}
	r.waiting = false
	switch r.method {
	case stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind:
		g.s.refuse(NoAllocation)
		return g.errorResponse(stun.CodeAllocMismatch)
	}
	return nil
}

// errorResponse answers the request being handled, signed with its user's key.
func (g *guard) errorResponse(code stun.ErrorCode) []byte {
	r := &g.req
	m, err := stun.Build(&stun.Message{TransactionID: r.id}, stun.NewType(r.method, stun.ClassErrorResponse),
		code, stun.MessageIntegrity(g.s.key(r.username)))
	if err != nil {
		return nil
	}
	return m.Raw
}
