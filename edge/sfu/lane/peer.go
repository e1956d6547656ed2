package lane

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"bailiwick/datagram"
)

const (
	// ReplayWindow admits a packet that comes this much late, in packets: one that was asked
	// for again over a long path. The usual 64 would drop those as replays.
	ReplayWindow = 1024
	// maxSources bounds the streams of one peer: each has a window of its own. The most that
	// is negotiated is two videos of three layers with repair, and audio.
	maxSources = 32
	// tag is what SRTCP adds at most: index and authentication, by any profile.
	tag = 32
)

// Receiver takes what a peer sends, decrypted. It is called by the lane's workers, for one
// peer by one at a time; the packet is the lane's again after the call.
type Receiver interface {
	// RTP takes a packet, authentic and no replay.
	RTP(b *Batch, packet []byte, at time.Time)
	// RTCP takes a compound packet.
	RTCP(b *Batch, packet []byte, at time.Time)
}

// Peer is one participant's SRTP session, over whatever address it is at. It is safe for
// concurrent use.
type Peer struct {
	lane *Lane
	rx   Receiver
	keys Keys

	to     atomic.Pointer[destination]
	heard  atomic.Int64 // when, Unix ns
	closed bool         // under Lane.mu

	mu      sync.Mutex // the workers: two of them while the address changes
	in      *srtp.Context
	sources map[uint32]struct{}
	header  rtp.Header // scratch

	outMu sync.Mutex
	out   *srtp.Context // of RTCP alone
}

// destination is where a peer is, and by which of the lane's addresses.
type destination struct {
	id   uint64 // no other's
	conn int
	at   netip.AddrPort
}

// Keys are the master keys of one DTLS association (RFC 5764 section 4.2).
type Keys struct {
	Profile               srtp.ProtectionProfile
	Local, Remote         []byte // for what is sent, and what is received
	LocalSalt, RemoteSalt []byte
}

// Peer begins a session. Nothing passes before Move says where it is.
func (l *Lane) Peer(k Keys, rx Receiver) (*Peer, error) {
	in, err := srtp.CreateContext(k.Remote, k.RemoteSalt, k.Profile, srtp.SRTPReplayProtection(ReplayWindow), srtp.SRTCPReplayProtection(64))
	if err != nil {
		return nil, err
	}
	out, err := srtp.CreateContext(k.Local, k.LocalSalt, k.Profile)
	if err != nil {
		return nil, err
	}
	return &Peer{lane: l, rx: rx, keys: k, in: in, out: out, sources: map[uint32]struct{}{}}, nil
}

// Move says where the peer is now, and by which of the lane's addresses it is reached.
func (p *Peer) Move(conn int, at netip.AddrPort) {
	p.lane.change(func(m map[netip.AddrPort]*Peer) {
		if p.closed {
			return
		}
		p.forget(m)
		m[at] = p
		p.to.Store(&destination{p.lane.places.Add(1), conn, at})
	})
	p.catchUp(conn, at)
}

// catchUp takes what came from an address before it was known for the peer's.
func (p *Peer) catchUp(conn int, at netip.AddrPort) {
	now := time.Now()
	packets := p.lane.conns[conn].early.take(at, now)
	if len(packets) == 0 {
		return
	}
	p.lane.Lend(func(b *Batch) {
		for _, packet := range packets {
			p.receive(b, packet, now)
		}
	})
}

// forget leaves the address to who else has come to be there.
func (p *Peer) forget(m map[netip.AddrPort]*Peer) {
	if d := p.to.Load(); d != nil && m[d.at] == p {
		delete(m, d.at)
	}
}

// Close ends the session, and returns when no call of the Receiver is under way any more. It
// must not be called by one.
func (p *Peer) Close() {
	p.lane.change(func(m map[netip.AddrPort]*Peer) {
		p.closed = true
		p.forget(m)
		p.to.Store(nil)
	})
	p.mu.Lock()
	p.in = nil
	p.mu.Unlock()
}

// Heard is when the last authentic packet came. Before the first it is long ago.
func (p *Peer) Heard() time.Time { return time.Unix(0, p.heard.Load()) }

// receive takes one packet, and overwrites it.
func (p *Peer) receive(b *Batch, packet []byte, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in == nil {
		return
	}
	// RFC 5761 section 4: these payload types are RTCP's.
	if len(packet) > 1 && packet[1] >= 192 && packet[1] < 224 {
		plain, err := p.in.DecryptRTCP(packet, packet, nil)
		if err != nil {
			p.lane.failed.Add(1)
			return
		}
		p.heard.Store(at.UnixNano())
		p.rx.RTCP(b, plain, at)
		return
	}
	if len(packet) < 12 {
		p.lane.failed.Add(1)
		return
	}
	ssrc := binary.BigEndian.Uint32(packet[8:])
	_, known := p.sources[ssrc]
	if !known && len(p.sources) == maxSources {
		p.lane.failed.Add(1)
		return
	}
	plain, err := p.in.DecryptRTP(packet, packet, &p.header)
	if err != nil {
		p.lane.failed.Add(1)
		return
	}
	if !known {
		p.sources[ssrc] = struct{}{}
	}
	p.heard.Store(at.UnixNano())
	p.rx.RTP(b, plain, at)
}

// WriteRTCP encrypts and sends one compound packet; where the peer is nowhere it is lost.
func (p *Peer) WriteRTCP(plain []byte) error {
	d := p.to.Load()
	if d == nil {
		return net.ErrClosed
	}
	p.outMu.Lock()
	defer p.outMu.Unlock()
	packet, err := p.out.EncryptRTCP(make([]byte, 0, len(plain)+tag), plain, nil)
	if err != nil {
		return err
	}
	p.lane.sent.Add(wire(len(packet), d.at.Addr()))
	_, err = p.lane.conns[d.conn].sockets[0].WriteTo(packet, d.at)
	return err
}

// Sender is one stream towards a peer: the only one of its SSRC. It is for one goroutine at
// a time.
type Sender struct {
	peer   *Peer
	out    *srtp.Context
	header rtp.Header // scratch
}

// Sender begins a stream. There must be no other of that SSRC in the peer's life: its
// numbers are the nonces.
func (p *Peer) Sender() (*Sender, error) {
	out, err := srtp.CreateContext(p.keys.Local, p.keys.LocalSalt, p.keys.Profile)
	if err != nil {
		return nil, err
	}
	return &Sender{peer: p, out: out}, nil
}

// Write encrypts one packet into the batch; it keeps neither argument. Where the peer is nowhere
// the packet is lost.
func (s *Sender) Write(b *Batch, h *rtp.Header, payload []byte) error {
	d := s.peer.to.Load()
	if d == nil {
		return net.ErrClosed
	}
	buf := b.next()
	n := h.MarshalSize()
	if n+len(payload)+tag > datagram.MaxOut {
		return errTooLong
	}
	buf = buf[:n+len(payload)]
	if _, err := h.MarshalTo(buf); err != nil {
		return err
	}
	copy(buf[n:], payload)
	packet, err := s.out.EncryptRTP(buf, buf, &s.header)
	if err != nil {
		return err
	}
	b.put(packet, h.SSRC, d)
	return nil
}
