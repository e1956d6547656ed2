package turn

import "sync/atomic"

// Reason is why something was refused or dropped. The set is closed.
type Reason uint8

const (
	UnknownUser  Reason = iota // a username that is none of ours, or another realm
	Expired                    // a credential past its expiry
	Forged                     // a message integrity that does not hold
	Strangers                  // a source without budget: not answered
	UserQuota                  // one participant's allocations
	TotalQuota                 // the server's allocations
	Unsupported                // a transport or family that is not relayed
	Peer                       // CreatePermission or ChannelBind for a peer that is not permitted
	Packet                     // a packet to or from a peer that is not permitted, dropped
	NoAllocation               // a request for an allocation that does not exist: 437
	Connection                 // a TCP connection beyond the limits
	Handshake                  // a TLS handshake that failed or took too long
	Reasons                    // how many there are
)

func (r Reason) String() string {
	return [...]string{"unknown_user", "expired", "forged", "strangers", "user_quota", "total_quota",
		"unsupported", "peer", "packet", "no_allocation", "connection", "handshake"}[r]
}

// Stats counts since Listen; the allocations are those of now.
type Stats struct {
	Allocations int
	Connections int             // TCP, TLS or not
	ToPeers     uint64          // bytes of payload relayed from clients
	FromPeers   uint64          // bytes of payload relayed to clients
	Refused     [Reasons]uint64 // indexed by Reason
}

type counters struct {
	toPeers, fromPeers atomic.Uint64
	refused            [Reasons]atomic.Uint64
}

func (c *counters) refuse(r Reason) { c.refused[r].Add(1) }

// Stats is a snapshot of the counters.
func (s *Server) Stats() Stats {
	st := Stats{ToPeers: s.toPeers.Load(), FromPeers: s.fromPeers.Load()}
	st.Connections, _ = s.crowd.Count()
	for r := range st.Refused {
		st.Refused[r] = s.refused[r].Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Allocations = s.total
	return st
}
