package lane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
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
	// maxReporters bounds the sources of its RTCP, which have windows too.
	maxReporters = 64
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
	heard  atomic.Int64 // when, in ns since the lane began, for clocks are set; 0: never
	closed bool         // under Lane.mu

	mu        sync.Mutex // the workers: two of them while the address changes
	in        *srtp.Context
	sources   map[uint32]struct{}
	reporters map[uint32]struct{}
	header    rtp.Header // scratch

	outMu sync.Mutex
	out   *srtp.Context       // of RTCP alone
	taken map[uint32]struct{} // by senders, for good
}

// destination is where a peer is, and by which of the lane's addresses.
type destination struct {
	id uint64 // no other's
	place
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
	return &Peer{lane: l, rx: rx, keys: k, in: in, out: out,
		sources: map[uint32]struct{}{}, reporters: map[uint32]struct{}{}, taken: map[uint32]struct{}{}}, nil
}

// Move says where the peer is now, and by which of the lane's addresses it is reached.
func (p *Peer) Move(conn int, at netip.AddrPort) {
	p.lane.change(func(m map[place]*Peer) {
		if p.closed {
			return
		}
		p.forget(m)
		to := place{conn, at}
		m[to] = p
		p.to.Store(&destination{p.lane.places.Add(1), to})
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
func (p *Peer) forget(m map[place]*Peer) {
	if d := p.to.Load(); d != nil && m[d.place] == p {
		delete(m, d.place)
	}
}

// Close ends the session, and returns when no call of the Receiver is under way any more. It
// must not be called by one.
func (p *Peer) Close() {
	p.lane.change(func(m map[place]*Peer) {
		p.closed = true
		p.forget(m)
		p.to.Store(nil)
	})
	p.mu.Lock()
	p.in = nil
	p.mu.Unlock()
}

// Heard is when the last authentic packet came. Before the first it is long ago.
func (p *Peer) Heard() time.Time {
	since := p.heard.Load()
	if since == 0 {
		return time.Time{}
	}
	return p.lane.began.Add(time.Duration(since))
}

// receive takes one packet, and overwrites it.
func (p *Peer) receive(b *Batch, packet []byte, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in == nil {
		return
	}
	// RFC 5761 section 4: these payload types are RTCP's.
	control := len(packet) > 1 && packet[1] >= 192 && packet[1] < 224
	of, most, least, place := p.sources, maxSources, 12, 8
	if control {
		of, most, least, place = p.reporters, maxReporters, 8, 4
	}
	if len(packet) < least {
		p.lane.failed.Add(1)
		return
	}
	ssrc := binary.BigEndian.Uint32(packet[place:])
	_, known := of[ssrc]
	if !known && len(of) == most {
		p.lane.failed.Add(1)
		return
	}
	var plain []byte
	var err error
	if control {
		plain, err = p.in.DecryptRTCP(packet, packet, nil)
	} else {
		plain, err = p.in.DecryptRTP(packet, packet, &p.header)
	}
	if err != nil {
		p.lane.failed.Add(1)
		return
	}
	if !known {
		of[ssrc] = struct{}{}
	}
	p.heard.Store(max(1, int64(at.Sub(p.lane.began))))
	if control {
		p.rx.RTCP(b, plain, at)
	} else {
		p.rx.RTP(b, plain, at)
	}
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
	_, err = p.lane.conns[d.conn].out.WriteTo(packet, d.at)
	return err
}

// Sender is one stream towards a peer and its repair stream: the only one of their SSRCs. It is
// for one goroutine at a time.
type Sender struct {
	peer   *Peer
	out    *srtp.Context
	ssrcs  []uint32
	header rtp.Header // scratch
}

// ErrShared is that a stream has the SSRC of another: its numbers would be the other's nonces.
var ErrShared = errors.New("ssrc: another stream of the peer has or had it")

// Sender begins a stream with these SSRCs; no other of the peer's, ever, may have one of them.
func (p *Peer) Sender(ssrcs ...uint32) (*Sender, error) {
	p.outMu.Lock()
	defer p.outMu.Unlock()
	for i, ssrc := range ssrcs {
		if _, taken := p.taken[ssrc]; taken || slices.Contains(ssrcs[:i], ssrc) {
			return nil, fmt.Errorf("%d: %w", ssrc, ErrShared)
		}
	}
	out, err := srtp.CreateContext(p.keys.Local, p.keys.LocalSalt, p.keys.Profile)
	if err != nil {
		return nil, err
	}
	for _, ssrc := range ssrcs {
		p.taken[ssrc] = struct{}{}
	}
	return &Sender{peer: p, out: out, ssrcs: ssrcs}, nil
}

// Write encrypts one packet into the batch; it keeps neither argument. Where the peer is nowhere
// the packet is lost.
func (s *Sender) Write(b *Batch, h *rtp.Header, payload []byte) error {
	d := s.peer.to.Load()
	if d == nil {
		return net.ErrClosed
	}
	if !slices.Contains(s.ssrcs, h.SSRC) {
		return fmt.Errorf("%d: %w", h.SSRC, ErrShared)
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
