package lane

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pion/rtp"

	"bailiwick/datagram"
)

func framed(packets ...[]byte) (b []byte) {
	for _, p := range packets {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
	}
	return b
}

// dialed is a participant's TCP connection, and where the lane has it.
func dialed(t *testing.T, c *Conn, from string) (*net.TCPConn, netip.AddrPort) {
	t.Helper()
	conn, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.ParseIP(from)}, net.TCPAddrFromAddrPort(c.At()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	at := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	return conn, netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// admitted waits until the lane has a connection, which it may be slower to accept than the system.
func admitted(t *testing.T, c *Conn, at netip.AddrPort) *stream {
	t.Helper()
	for began := time.Now(); time.Since(began) < patience; time.Sleep(time.Millisecond) { // no event that a test sees
		if x := c.out.(*streams).find(at); x != nil {
			return x
		}
	}
	t.Fatalf("the connection of %s is not let in", at)
	return nil
}

// next reads one datagram of a connection.
func next(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(head))
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestStream: what is media passes over TCP as it does over UDP, and what is not goes to and comes
// from pion, however it is cut into segments.
func TestStream(t *testing.T) {
	for _, at := range []string{"127.0.0.1", "::1"} {
		l := open(t, netip.AddrPortFrom(netip.MustParseAddr(at), 0).String())
		k, c := keys(1), l.Conns()[1]
		if c.At() != l.Conns()[0].At() {
			t.Fatalf("TCP at %s, UDP at %s", c.At(), l.Conns()[0].At())
		}
		a, h := meet(t, k), hear()
		conn, from := dialed(t, c, at)
		peer, err := l.Peer(k, h)
		if err != nil {
			t.Fatal(err)
		}
		peer.Move(1, from)
		s, err := peer.Sender(9)
		if err != nil {
			t.Fatal(err)
		}
		h.answer = func(b *Batch, p []byte) {
			if err := s.Write(b, &rtp.Header{Version: 2, SSRC: 9, SequenceNumber: uint16(len(p))}, p[12:]); err != nil {
				t.Error(err)
			}
		}
		stun := []byte{0, 1, 0, 0}
		all := framed(a.packet(5, 1, "one"), stun, nil, a.packet(5, 2, "other"))
		for _, cut := range [][]byte{all[:1], all[1:20], all[20:]} {
			if _, err := conn.Write(cut); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"one", "other"} {
			if p := await(t, want, h.rtp); string(p[12:]) != want {
				t.Errorf("heard %q, want %q", p[12:], want)
			}
			p, err := a.in.DecryptRTP(nil, next(t, conn), nil)
			if err != nil || string(p[12:]) != want {
				t.Errorf("it received %q, %v; want %q", p, err, want)
			}
		}
		b := make([]byte, 10)
		if n, who, err := c.ReadFromAddrPort(b); err != nil || !bytes.Equal(b[:n], stun) || who != from {
			t.Errorf("pion reads %x of %s, %v", b[:n], who, err)
		}
		if _, err := c.WriteToAddrPort([]byte{20, 1}, from); err != nil {
			t.Error(err)
		}
		if got := next(t, conn); !bytes.Equal(got, []byte{20, 1}) {
			t.Errorf("it received %x", got)
		}
		if _, err := c.WriteToAddrPort([]byte{0x80, 0}, from); err == nil || l.Blocked() != 1 {
			t.Errorf("pion's media: %v, %d blocked", err, l.Blocked())
		}
	}
}

// TestChangesBetweenUDPAndTCP: there and back, under one count of numbers: what is sent by the one is no
// nonce of the other's, and only where the peer is now does nothing else send under its keys.
func TestChangesBetweenUDPAndTCP(t *testing.T) {
	l := open(t, "127.0.0.1:0")
	k := keys(1)
	a, h := meet(t, k), hear()
	conn, tcp := dialed(t, l.Conns()[1], "127.0.0.1")
	admitted(t, l.Conns()[1], tcp)
	peer, err := l.Peer(k, h)
	if err != nil {
		t.Fatal(err)
	}
	s, err := peer.Sender(9)
	if err != nil {
		t.Fatal(err)
	}
	b := l.Batch()
	seen := map[string]bool{}
	seq := uint16(65533) // the numbers begin again on the way
	for i := range 6 {
		receive := a.next
		if by := i % 2; by == 1 {
			peer.Move(1, tcp)
			receive = func() []byte { return next(t, conn) }
		} else {
			peer.Move(0, a.at())
		}
		for guarded, at := range []netip.AddrPort{a.at(), tcp} {
			was := l.Blocked()
			l.Conns()[guarded].WriteToAddrPort([]byte{0xbf, byte(i)}, at)
			if blocked := l.Blocked() > was; blocked != (guarded == i%2) {
				t.Errorf("%d: blocked at %d: %t", i, guarded, blocked)
			} else if !blocked && guarded == 1 {
				next(t, conn)
			} else if !blocked {
				a.next()
			}
		}
		if err := s.Write(b, &rtp.Header{Version: 2, SSRC: 9, SequenceNumber: seq}, []byte("same")); err != nil {
			t.Fatal(err)
		}
		b.Flush()
		seq++
		packet := receive()
		if text := string(packet[12:]); seen[text] { // one plaintext: one nonce would make it the same
			t.Errorf("%d: %x once more", i, text)
		} else {
			seen[text] = true
		}
		if plain, err := a.in.DecryptRTP(nil, packet, nil); err != nil || string(plain[12:]) != "same" {
			t.Errorf("%d: %q, %v", i, plain, err)
		}
		if err := peer.WriteRTCP([]byte{0x80, 201, 0, 1, 0, 0, 0, 9}); err != nil {
			t.Error(err)
		}
		packet = receive()
		if index := string(packet[len(packet)-4:]); seen[index] {
			t.Errorf("%d: RTCP of index %x once more", i, index)
		} else {
			seen[index] = true
		}
		if _, err := a.in.DecryptRTCP(nil, packet, nil); err != nil {
			t.Errorf("%d: RTCP: %v", i, err)
		}
	}
	if len(*l.peers.Load()) != 1 {
		t.Error("the peer is at two places")
	}
}

// TestSlowReader: who does not read holds up nobody and has a bound to what waits for them, and
// their connection ends.
func TestSlowReader(t *testing.T) {
	quick := usual
	quick.piece = 2 * time.Second
	l := openOn(t, quick, "127.0.0.1:0")
	k := keys(1)
	conn, at := dialed(t, l.Conns()[1], "127.0.0.1")
	peer, err := l.Peer(k, hear())
	if err != nil {
		t.Fatal(err)
	}
	peer.Move(1, at)
	s, err := peer.Sender(9)
	if err != nil {
		t.Fatal(err)
	}
	streams := l.Conns()[1].out.(*streams)
	x := admitted(t, l.Conns()[1], at)
	b := l.Batch()
	began, longest := time.Now(), time.Duration(0)
	for seq := uint16(0); streams.find(at) != nil; seq++ {
		was := time.Now()
		if err := s.Write(b, &rtp.Header{Version: 2, SSRC: 9, SequenceNumber: seq}, make([]byte, 1100)); err != nil {
			t.Fatal(err)
		}
		b.Flush()
		longest = max(longest, time.Since(was))
		x.mu.Lock()
		waits := cap(x.out)
		x.mu.Unlock()
		if waits > 2*backlog {
			t.Fatalf("%d bytes wait", waits)
		}
		if time.Since(began) > patience {
			t.Fatal("it is still there")
		}
	}
	if longest > quick.piece/2 {
		t.Errorf("a write took %v of %v", longest, time.Since(began))
	}
	if open, _ := l.Streams(); open != 0 {
		t.Errorf("%d are open", open)
	}
	if _, err := io.Copy(io.Discard, conn); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it reads on until %v, want it reset", err)
	}
}

// TestFlood: one source gets its share of the connections and no more, others are let in beside it, and
// who is not answered goes again.
func TestFlood(t *testing.T) {
	few := usual
	few.most, few.unanswered = 8, 5*time.Second
	l := openOn(t, few, "127.0.0.1:0")
	c := l.Conns()[1]
	// ends waits until the edge has closed it.
	ends := func(conn *net.TCPConn) {
		t.Helper()
		if n, err := conn.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d, %v, want it closed", n, err)
		}
	}
	begin := time.Now()
	var held []*net.TCPConn
	for i := range 4 {
		conn, _ := dialed(t, c, "127.0.0.1")
		switch i { // what they say is no better than nothing
		case 1:
			conn.Write([]byte{0})
		case 2:
			conn.Write([]byte{1, 0, 'h', 'a', 'l', 'f'})
		case 3:
			conn.Write(framed([]byte("whole"), []byte{0x80, 111}))
		}
		held = append(held, conn)
	}
	for range 4 {
		conn, _ := dialed(t, c, "127.0.0.1")
		ends(conn)
	}
	other, at := dialed(t, c, "127.0.0.2")
	admitted(t, c, at)
	if open, refused := l.Streams(); time.Since(begin) < few.unanswered && (open != 5 || refused != 4) {
		t.Errorf("%d are open and %d were refused, want 5 and 4", open, refused)
	}
	long, _ := dialed(t, c, "127.0.0.3")
	long.Write([]byte{byte((datagram.MaxIn + 1) >> 8), byte((datagram.MaxIn + 1) & 255)})
	ends(long) // at once
	// The one that is answered outlives those that are not.
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for _, conn := range held {
			ends(conn)
		}
	}()
	for answers, going := 0, true; going; answers++ {
		if _, err := c.WriteToAddrPort([]byte{0, 1}, at); err != nil {
			t.Fatalf("after %d answers: %v", answers, err)
		}
		next(t, other)
		select {
		case <-ended:
			going = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	ends(other) // and then goes too
}

func TestSharesThePort(t *testing.T) {
	l := open(t, "127.0.0.1:0")
	at := l.Conns()[0].At()
	if _, err := Listen([]netip.AddrPort{at}); err == nil {
		t.Error("one address for two")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := Listen([]netip.AddrPort{netip.MustParseAddrPort(taken.Addr().String())}); err == nil {
		t.Error("the TCP port is another's, and it listens")
	}
}

// FuzzFrames: what is read of a stream is what was written into it, however it comes apart, and
// nothing is kept for what is longer than a datagram.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{}, uint8(1))
	f.Add(framed([]byte("one"), nil, []byte("two")), uint8(1))
	f.Add([]byte{0, 5, 'h', 'a', 'l', 'f'}, uint8(3))
	f.Add(append(framed([]byte("fine")), 0xff, 0xff, 1, 2, 3), uint8(200))
	f.Add([]byte{datagram.MaxIn >> 8, datagram.MaxIn & 255}, uint8(255))
	f.Add([]byte{(datagram.MaxIn + 1) >> 8, (datagram.MaxIn + 1) & 255}, uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8) {
		var want [][]byte
		long := false
		for rest := stream; len(rest) >= 2; {
			n := int(rest[0])<<8 | int(rest[1])
			if long = n > datagram.MaxIn; long || len(rest) < 2+n {
				break
			}
			want = append(want, rest[2:2+n])
			rest = rest[2+n:]
		}
		r := bufio.NewReaderSize(&pieces{stream, max(1, int(cut))}, readAhead)
		var got [][]byte
		for {
			one, err := frame(r)
			if err != nil {
				if errors.Is(err, errFrame) != long {
					t.Errorf("%v, and one too long: %t", err, long)
				}
				break
			}
			for ; one != nil; one = whole(r) {
				got = append(got, bytes.Clone(one))
				r.Discard(2 + len(one))
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%x\ngives %x\nwant  %x", stream, got, want)
		}
	})
}

// pieces is read a few bytes at a time.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.n)], p.b)
	p.b = p.b[n:]
	return n, nil
}
