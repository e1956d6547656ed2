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

	// Of an Allocate: what RFC 8656 7.2 answers where pion says 508 or nothing of it, 0
	// where pion says it; and the family that was asked for besides and is not to be had.
	refusal stun.ErrorCode
	lacking byte
	refused bool // with refusal, and pion does not see it
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
	if r.signed && r.method == stun.MethodAllocate {
		g.readAllocate()
		if r.refusal == stun.CodeBadRequest && g.authentic() {
			r.refused = true // unanswered says so
			return false
		}
	}
	return true
}

// Address families as attributes write them (RFC 8656 18.8, 18.11), and attributes that
// package stun does not know.
const (
	familyIPv4, familyIPv6 = 1, 2

	attrAdditionalAddressFamily = stun.AttrType(0x8000)
	attrAddressErrorCode        = stun.AttrType(0x8001)
)

// readAllocate finds what this relay does not give: other transports than UDP, and the
// family that it does not relay in.
func (g *guard) readAllocate() {
	r := &g.req
	lacking := byte(familyIPv6)
	if g.s.cfg.Relay.Is6() {
		lacking = familyIPv4
	}
	// What is malformed or unknown pion answers.
	const udp, tcp = 17, 6
	requested := func(t stun.AttrType, value byte) bool {
		v, err := g.m.Get(t)
		return err == nil && len(v) == 4 && v[0] == value
	}
	switch {
	case requested(stun.AttrRequestedTransport, tcp):
		r.refusal = stun.CodeUnsupportedTransProto
		return
	case !requested(stun.AttrRequestedTransport, udp):
		return
	case requested(stun.AttrRequestedAddressFamily, lacking):
		r.refusal = stun.CodeAddrFamilyNotSupported
	}
	v, err := g.m.Get(attrAdditionalAddressFamily)
	if err != nil {
		return
	}
	pair, err := g.m.Get(stun.AttrEvenPort)
	reserves := err == nil && len(pair) > 0 && pair[0]&0x80 != 0
	if len(v) != 4 || v[0] != familyIPv6 || reserves || g.m.Contains(stun.AttrReservationToken) || g.m.Contains(stun.AttrRequestedAddressFamily) {
		r.refusal = stun.CodeBadRequest
		return
	}
	r.lacking = lacking
}

// authentic tells whether the request is signed by a credential that holds.
func (g *guard) authentic() bool {
	expires, _, err := parseUsername(g.req.username)
	return err == nil && time.Now().Before(expires) && stun.MessageIntegrity(g.s.key(g.req.username)).Check(&g.m) == nil
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
		if r.method == stun.MethodAllocate && r.lacking != 0 {
			return g.inOneFamily(b)
		}
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
	if code.GetFrom(&m) != nil {
		return b
	}
	switch {
	case r.method == stun.MethodChannelBind && code.Code == stun.CodeUnauthorized:
		// pion's answer to a peer that is not permitted. It was authenticated, so
		// 401 would have the client try again (RFC 8656 12.2 wants 403).
		return g.errorResponse(stun.CodeForbidden)
	case r.method == stun.MethodAllocate && code.Code == stun.CodeInsufficientCapacity && r.refusal != 0:
		// pion has one answer to whatever no relayed address was made for; a client that
		// is told 508 tries again later.
		return g.errorResponse(r.refusal)
	}
	return b
}

// inOneFamily is pion's success with the word that the other family is not to be had (RFC
// 8656 7.2, 18.12); pion knows no request for both.
func (g *guard) inOneFamily(b []byte) []byte {
	m := stun.Message{Raw: b}
	if m.Decode() != nil {
		return b
	}
	setters := []stun.Setter{&stun.Message{TransactionID: m.TransactionID}, m.Type}
	for _, a := range m.Attributes {
		if a.Type != stun.AttrMessageIntegrity && a.Type != stun.AttrFingerprint {
			setters = append(setters, a)
		}
	}
	code := stun.CodeAddrFamilyNotSupported
	reason := append([]byte{g.req.lacking, 0, byte(code / 100), byte(code % 100)}, "Address Family not Supported"...)
	out, err := stun.Build(append(setters, stun.RawAttribute{Type: attrAddressErrorCode, Value: reason}, stun.MessageIntegrity(g.s.key(g.req.username)))...)
	if err != nil {
		return b
	}
	return out.Raw
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
	if r.refused {
		g.s.refuse(Unsupported)
		return g.errorResponse(r.refusal)
	}
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
