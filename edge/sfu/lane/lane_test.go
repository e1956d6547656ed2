package lane

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"bailiwick/tools/exectest"
)

// patience is when a test gives an event up. Nothing waits that long unless it fails.
const patience = exectest.Patience

func open(t *testing.T, at ...string) *Lane { return openOn(t, usual, at...) }

func openOn(t *testing.T, terms terms, at ...string) *Lane {
	t.Helper()
	var list []netip.AddrPort
	for _, a := range at {
		list = append(list, netip.MustParseAddrPort(a))
	}
	l, err := listen(list, terms)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// participant is the other end: a socket and the same keys.
type participant struct {
	*net.UDPConn
	t       *testing.T
	in, out *srtp.Context
}

func keys(secret byte) Keys {
	key := func(b byte, n int) []byte { return bytes.Repeat([]byte{secret, b}, n/2) }
	return Keys{srtp.ProtectionProfileAeadAes128Gcm, key(1, 16), key(2, 16), key(3, 12), key(4, 12)}
}

func meet(t *testing.T, k Keys) *participant {
	t.Helper()
	p := &participant{t: t}
	var err error
	if p.UDPConn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	p.SetReadDeadline(time.Now().Add(patience))
	p.in, err = srtp.CreateContext(k.Local, k.LocalSalt, k.Profile)
	if err == nil {
		p.out, err = srtp.CreateContext(k.Remote, k.RemoteSalt, k.Profile)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *participant) at() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.LocalAddr().(*net.UDPAddr).AddrPort().Port())
}

// packet is encrypted by the participant.
func (p *participant) packet(ssrc uint32, seq uint16, payload string) []byte {
	raw, err := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: ssrc, SequenceNumber: seq}, Payload: []byte(payload)}).Marshal()
	if err == nil {
		raw, err = p.out.EncryptRTP(nil, raw, nil)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return raw
}

func (p *participant) send(c *Conn, b []byte) {
	if _, err := p.WriteToUDPAddrPort(b, c.At()); err != nil {
		p.t.Fatal(err)
	}
}

// next is the next packet that the participant receives.
func (p *participant) next() []byte {
	p.t.Helper()
	b := make([]byte, 2000)
	n, err := p.Read(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return b[:n]
}

// heard takes what a peer sends, and answers each with what answer does.
type heard struct {
	rtp, rtcp chan []byte
	answer    func(*Batch, []byte)
}

func hear() *heard { return &heard{rtp: make(chan []byte, 100), rtcp: make(chan []byte, 100)} }

func (h *heard) RTP(b *Batch, p []byte, _ time.Time) {
	if h.answer != nil {
		h.answer(b, p)
	}
	h.rtp <- bytes.Clone(p)
}
func (h *heard) RTCP(_ *Batch, p []byte, _ time.Time) { h.rtcp <- bytes.Clone(p) }

func await[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("no ", what)
	}
	return v
}

// TestThereAndBack: media go in to the receiver and out of a sender, in both families' way of
// writing an address; what is none goes to pion.
func TestThereAndBack(t *testing.T) {
	l := open(t, "127.0.0.1:0")
	k := keys(1)
	a, h := meet(t, k), hear()
	peer, err := l.Peer(k, h)
	if err != nil {
		t.Fatal(err)
	}
	out, err := peer.Sender(7)
	if err != nil {
		t.Fatal(err)
	}
	h.answer = func(b *Batch, _ []byte) {
		if err := out.Write(b, &rtp.Header{Version: 2, SSRC: 7, SequenceNumber: 1}, []byte("and back")); err != nil {
			t.Error(err)
		}
	}
	peer.Move(0, a.at())
	a.send(l.Conns()[0], a.packet(5, 1, "there"))
	if p := await(t, "packet", h.rtp); string(p[12:]) != "there" {
		t.Errorf("heard %q", p)
	}
	plain, err := a.in.DecryptRTP(nil, a.next(), nil)
	if err != nil || string(plain[12:]) != "and back" {
		t.Errorf("%q, %v", plain, err)
	}
	if err := peer.WriteRTCP([]byte{0x80, 201, 0, 1, 0, 0, 0, 9}); err != nil {
		t.Fatal(err)
	}
	if plain, err := a.in.DecryptRTCP(nil, a.next(), nil); err != nil || len(plain) != 8 {
		t.Errorf("RTCP %x, %v", plain, err)
	}

	a.send(l.Conns()[0], []byte{0, 1, 0, 0}) // STUN's first byte
	b := make([]byte, 2000)
	if n, from, err := l.Conns()[0].ReadFromAddrPort(b); err != nil || n != 4 || from != a.at() {
		t.Errorf("pion reads %d bytes of %s, %v", n, from, err)
	}
	if n, err := l.Conns()[0].WriteTo([]byte{20, 1}, net.UDPAddrFromAddrPort(a.at())); n != 2 || err != nil {
		t.Errorf("pion writes %d, %v", n, err)
	}
	if got := a.next(); !bytes.Equal(got, []byte{20, 1}) {
		t.Errorf("of pion %x", got)
	}
}

// TestNotTheirs: what is forged, replayed, of a source too many or of somebody who is gone
// reaches no receiver.
func TestNotTheirs(t *testing.T) {
	l := open(t, "127.0.0.1:0")
	c := l.Conns()[0]
	k := keys(1)
	a, stranger, h := meet(t, k), meet(t, keys(2)), hear()
	peer, err := l.Peer(k, h)
	if err != nil {
		t.Fatal(err)
	}
	peer.Move(0, a.at())
	good := a.packet(5, 1, "good")
	for _, bad := range [][]byte{stranger.packet(5, 2, "forged"), {0x80, 0, 0}, {0x80, 200, 0, 0}, append(bytes.Clone(good[:20]), 1, 2, 3), good, good} {
		a.send(c, bad) // the first good one passes
	}
	for i := range uint32(maxSources + 5) {
		a.send(c, a.packet(100+i, 1, "more"))
	}
	a.send(c, a.packet(5, 3, "last"))
	for p := await(t, "packet", h.rtp); string(p[12:]) != "last"; p = await(t, "last packet", h.rtp) {
		if s := string(p[12:]); s != "good" && s != "more" {
			t.Errorf("heard %q", s)
		}
	}
	if got, want := l.Failed(), uint64(5+6); got != want {
		t.Errorf("%d failed, want %d", got, want)
	}

	stranger.send(c, stranger.packet(5, 4, "from another address")) // nobody is there: pion's
	if n, from, err := c.ReadFromAddrPort(make([]byte, 2000)); n == 0 || from != stranger.at() || err != nil {
		t.Errorf("pion reads %d of %s, %v", n, from, err)
	}
	peer.Move(0, stranger.at())
	stranger.send(c, a.packet(5, 5, "moved"))
	if p := await(t, "packet after the move", h.rtp); string(p[12:]) != "moved" {
		t.Errorf("heard %q", p)
	}
	peer.Close()
	stranger.send(c, a.packet(5, 6, "gone"))
	c.ReadFromAddrPort(make([]byte, 2000))
	if len(h.rtp) > 0 {
		t.Errorf("heard %q after Close", <-h.rtp)
	}
	if err := peer.WriteRTCP([]byte{0x80, 201, 0, 1, 0, 0, 0, 9}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("RTCP to who is gone: %v", err)
	}
}

// TestEarly: what comes before the peer is known is heard once it is, in its order; what is
// somebody else's, or old, is not.
func TestEarly(t *testing.T) {
	l := open(t, "127.0.0.1:0")
	c, k := l.Conns()[0], keys(1)
	a, other, h := meet(t, k), meet(t, k), hear()
	for i := range uint16(3) {
		a.send(c, a.packet(5, i+1, fmt.Sprint("early ", i)))
		c.ReadFromAddrPort(make([]byte, 2000)) // pion has it too
	}
	other.send(c, a.packet(6, 1, "another's"))
	c.ReadFromAddrPort(make([]byte, 2000))
	peer, err := l.Peer(k, h)
	if err != nil {
		t.Fatal(err)
	}
	peer.Move(0, a.at())
	a.send(c, a.packet(5, 4, "last"))
	for _, want := range []string{"early 0", "early 1", "early 2", "last"} {
		if p := await(t, want, h.rtp); string(p[12:]) != want {
			t.Errorf("heard %q, want %q", p[12:], want)
		}
	}
	peer.Close()
	peer.Move(0, other.at())
	if len(h.rtp) > 0 || len(*l.peers.Load()) != 0 {
		t.Errorf("%d heard and %d peers after Close", len(h.rtp), len(*l.peers.Load()))
	}
}

// TestGuard: nothing else may send under a peer's keys, by whatever name its address goes.
func TestGuard(t *testing.T) {
	l := open(t, "127.0.0.1:0")
	a := meet(t, keys(1))
	peer, err := l.Peer(keys(1), hear())
	if err != nil {
		t.Fatal(err)
	}
	c := l.Conns()[0]
	if _, err := c.WriteTo([]byte{0x80, 0}, a.LocalAddr()); err != nil {
		t.Errorf("to who is no peer: %v", err)
	}
	peer.Move(0, a.at())
	mapped := netip.AddrPortFrom(netip.AddrFrom16(a.at().Addr().As16()), a.at().Port())
	for i, to := range []netip.AddrPort{a.at(), mapped} {
		if _, err := c.WriteToAddrPort([]byte{0xbf, 0}, to); err == nil || l.Blocked() != uint64(i+1) {
			t.Errorf("to %s: %v, %d blocked", to, err, l.Blocked())
		}
	}
	if got := a.next(); got[0] != 0x80 {
		t.Errorf("it received %x", got)
	}
	if len(*l.peers.Load()) != 1 {
		t.Error("not one peer")
	}
	peer.Close()
	if len(*l.peers.Load()) != 0 {
		t.Error("the peer is still there")
	}
}

// TestSharesNoNonce: no two senders of a peer have one SSRC, and none writes with another's.
func TestSharesNoNonce(t *testing.T) {
	l := open(t, "127.0.0.1:0")
	k := keys(1)
	peer, err := l.Peer(k, hear())
	if err != nil {
		t.Fatal(err)
	}
	peer.Move(0, meet(t, k).at())
	first, err := peer.Sender(7, 8)
	if err != nil {
		t.Fatal(err)
	}
	for _, ssrcs := range [][]uint32{{7}, {8}, {9, 8}, {9, 9}} {
		if _, err := peer.Sender(ssrcs...); !errors.Is(err, ErrShared) {
			t.Errorf("%d: %v, want %v", ssrcs, err, ErrShared)
		}
	}
	second, err := peer.Sender(9)
	if err != nil {
		t.Fatal(err)
	}
	b := l.Batch()
	for _, w := range []struct {
		by   *Sender
		ssrc uint32
		want error
	}{{first, 7, nil}, {first, 8, nil}, {second, 9, nil}, {first, 9, ErrShared}, {second, 7, ErrShared}, {second, 10, ErrShared}} {
		if err := w.by.Write(b, &rtp.Header{Version: 2, SSRC: w.ssrc, SequenceNumber: 1}, []byte("x")); !errors.Is(err, w.want) {
			t.Errorf("%d by the sender of %d: %v, want %v", w.ssrc, w.by.ssrcs, err, w.want)
		}
	}
	b.Flush()
}

// TestReportersAreBounded: who reports as ever another source is not remembered for ever.
func TestReportersAreBounded(t *testing.T) {
	l := open(t, "127.0.0.1:0")
	k := keys(1)
	a, h := meet(t, k), hear()
	peer, err := l.Peer(k, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxReporters + 36 {
		packet, err := a.out.EncryptRTCP(nil, []byte{0x80, 201, 0, 1, 0, 0, 1, byte(i)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		peer.receive(l.Batch(), packet, time.Now())
	}
	if len(h.rtcp) != maxReporters || l.Failed() != 36 || len(peer.reporters) != maxReporters {
		t.Errorf("%d of %d reporters are heard, %d failed, %d are remembered; want %d, 36", len(h.rtcp), maxReporters+36, l.Failed(), len(peer.reporters), maxReporters)
	}
}

// TestHeardWhateverTheClock: when a peer was heard is on the clock that nobody sets.
func TestHeardWhateverTheClock(t *testing.T) {
	l := open(t, "127.0.0.1:0")
	k := keys(1)
	peer, err := l.Peer(k, hear())
	if err != nil {
		t.Fatal(err)
	}
	if !peer.Heard().IsZero() {
		t.Errorf("heard at %v, and nothing came", peer.Heard())
	}
	before := time.Now()
	peer.receive(l.Batch(), meet(t, k).packet(5, 1, "x"), before)
	if at := peer.Heard(); !at.Equal(before) || !strings.Contains(at.String(), " m=") {
		t.Errorf("heard at %v, want %v of the monotonic clock", at, before)
	}
}

// TestAllocatesNothing: in, and out to forty.
func TestAllocatesNothing(t *testing.T) {
	l := open(t, "127.0.0.1:0")
	k := keys(1)
	a := meet(t, k)
	var outs []*Sender
	for range 40 {
		p, err := l.Peer(keys(2), hear())
		if err != nil {
			t.Fatal(err)
		}
		p.Move(0, a.at())
		s, err := p.Sender(9)
		if err != nil {
			t.Fatal(err)
		}
		outs = append(outs, s)
	}
	b := l.Batch()
	h := &rtp.Header{Version: 2, SSRC: 9}
	payload := make([]byte, 1100)
	x := &fan{func(p []byte) {
		h.SequenceNumber++
		for _, s := range outs {
			s.Write(b, h, payload)
		}
		b.Flush()
	}}
	peer, err := l.Peer(k, x)
	if err != nil {
		t.Fatal(err)
	}
	var packets [][]byte
	for i := range uint16(200) {
		packets = append(packets, a.packet(5, i+1, string(payload)))
	}
	now, i := time.Now(), 0
	n := testing.AllocsPerRun(100, func() {
		peer.receive(b, packets[i], now)
		i++
	})
	if n != 0 || l.Failed() > 0 {
		t.Errorf("%v allocations a packet, %d failed; want none", n, l.Failed())
	}
}

type fan struct{ do func([]byte) }

func (f *fan) RTP(_ *Batch, p []byte, _ time.Time) { f.do(p) }
func (f *fan) RTCP(*Batch, []byte, time.Time)      {}

// TestHandshake: keys come of a 1.2 handshake alone that was heard whole, once.
func TestHandshake(t *testing.T) {
	suite := uint16(dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)
	hello := handshake.MessageServerHello{CipherSuiteID: &suite,
		Extensions: []extension.Extension{&extension.UseSRTP{ProtectionProfiles: []extension.SRTPProtectionProfile{extension.SRTP_AEAD_AES_128_GCM}}}}
	line := []byte(fmt.Sprintf("CLIENT_RANDOM %x %x\n", bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 48)))
	var h Handshake
	if _, err := h.Keys(); !errors.Is(err, ErrNoKeys) {
		t.Errorf("nothing heard: %v", err)
	}
	h.Write(line)
	if _, err := h.Keys(); !errors.Is(err, ErrNoKeys) {
		t.Errorf("no hello: %v", err)
	}
	h.hello(&hello)
	h.Write([]byte("SERVER_TRAFFIC_SECRET_0 00 00\n"))
	if _, err := h.Keys(); !errors.Is(err, ErrNoKeys) {
		t.Errorf("DTLS 1.3: %v", err)
	}
	h.hello(&hello)
	h.Write(line)
	k, err := h.Keys()
	if err != nil || k.Profile != srtp.ProtectionProfileAeadAes128Gcm || len(k.Local) != 16 || len(k.RemoteSalt) != 12 || bytes.Equal(k.Local, k.Remote) {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := h.Keys(); !errors.Is(err, ErrNoKeys) {
		t.Errorf("the same once more: %v", err)
	}
}

func FuzzReceive(f *testing.F) {
	for _, b := range [][]byte{{}, {0x80}, {0x80, 200, 0, 0}, {0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0xbe, 0xde, 0xff, 0xff}} {
		f.Add(b)
	}
	l, err := Listen(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		p, err := l.Peer(keys(1), &fan{func(b []byte) { t.Errorf("%x is taken for authentic", b) }})
		if err != nil {
			t.Fatal(err)
		}
		if isMedia(packet) {
			p.receive(nil, packet, time.Time{})
		}
	})
}
