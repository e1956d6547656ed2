package sfu

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/whiptest"
	"bailiwick/tools/exectest"
	"bailiwick/tools/pathtest"
)

// overTCP is a client that UDP does not reach.
func overTCP(s *setup) {
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6})
}

// byTCP tells how ICE has the edge reach a participant.
func byTCP(t *pionTransport) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at.conn%2 == 1
}

// TestOverTCP: who has TCP alone hears and is heard by who has UDP, whoever carries the media.
func TestOverTCP(t *testing.T) {
	for name, plain := range map[string]bool{"lane": false, "pion": true} {
		t.Run(name, func(t *testing.T) {
			passive = plain
			defer func() { passive = false }()
			s := listen(t)
			a, b := join(t, s, "a", overTCP), join(t, s, "b")
			for _, k := range kinds[:Screen] {
				b.routed(a, k)
				a.routed(b, k)
				for n := range uint16(10) {
					a.say(k, n, vp8(n == 0, fmt.Sprintf("a%d.", n)))
					b.say(k, n, vp8(n == 0, fmt.Sprintf("b%d.", n)))
				}
				b.hears("a", k, "a9.")
				a.hears("b", k, "b9.")
				a.sound("b", k)
			}
			if !byTCP(a.x.media.(*pionTransport)) || byTCP(b.x.media.(*pionTransport)) {
				t.Error("a is not reached by TCP, or b is")
			}
			if st := s.Stats(); st.Streams != 1 || st.StreamsRefused != 0 {
				t.Errorf("%d connections are open and %d were refused, want a's", st.Streams, st.StreamsRefused)
			}
		})
	}
}

// TestChangesBetweenUDPAndTCP: by ICE restarts a participant comes over to TCP and back while it speaks and
// is spoken to: all goes on under one count of numbers.
func TestChangesBetweenUDPAndTCP(t *testing.T) {
	s := listen(t)
	b := join(t, s, "b")
	both := func(set *webrtc.SettingEngine) {
		set.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeTCP4})
	}
	pub, play := whiptest.Publisher(t, "a", both), whiptest.Player(t, "a", both)
	a, x := accepted(t, s, pub, Seat{Participant: "a"}, "")
	v, y := accepted(t, s, play, Seat{Participant: "v", Viewer: true}, "b")
	b.routed2(x, Audio)
	eventually(t, "route to the player", func() bool { return carries(b.x.pub.tracks[Audio], y) })
	seq := uint16(0)
	for i, only := range []string{"tcp", "udp", "tcp"} {
		for _, one := range []struct {
			*whiptest.Client
			*Accepted
		}{{pub, a}, {play, v}} {
			mine := one.Fragment()
			theirs, err := one.Restart(value(mine, "ice-ufrag"), value(mine, "ice-pwd"))
			if err != nil {
				t.Fatal(err)
			}
			// What else the answer says is as if it were blocked.
			one.Restarted(without(theirs, only))
			eventually(t, "path over "+only, func() bool { return byTCP(one.media) == (only == "tcp") })
		}
		said := fmt.Sprintf("said %d", i)
		eventually(t, "sound over "+only, func() bool {
			seq++
			write(t, pub.Audio, seq, []byte(said))
			b.say(Audio, seq, []byte(said))
			b.mu.Lock()
			defer b.mu.Unlock()
			return strings.Contains(strings.Join(b.heardLocked("a", Audio), " "), said)
		})
		play.Hears("audio", said)
	}
	b.sound("a", Audio)
	seen := map[uint16]string{}
	for _, p := range play.Got("audio") {
		if was, twice := seen[p.SequenceNumber]; twice && was != string(p.Payload) {
			t.Errorf("number %d twice: one nonce for two packets", p.SequenceNumber)
		}
		seen[p.SequenceNumber] = string(p.Payload)
	}
	if st := s.Stats(); st.Unauthentic != 0 {
		t.Errorf("%+v", st)
	}
}

// TestTCPIsForWhomItNames: what comes over a connection is for whom the last check over it names, also where a
// connection from the same place, behind one NAT, was another's. Of who names nobody nothing is kept.
func TestTCPIsForWhomItNames(t *testing.T) {
	l, err := lane.Listen([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := newTCPMux(l.Conns()[1:])
	defer m.Close()
	at := m.conns[0].At()
	ends := map[string]net.PacketConn{}
	for _, name := range []string{"one", "other"} {
		if ends[name], err = m.GetConnByUfrag(name, false, at.Addr().AsSlice()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.GetConnByUfrag("one", false, net.IPv4(192, 0, 2, 1)); err == nil {
		t.Error("an address that is not the media's")
	}
	conn, err := net.Dial("tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := func(b []byte) {
		t.Helper()
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(name string) []byte {
		return stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername(name+":me")).Raw
	}
	hears := func(name string, want []byte) {
		t.Helper()
		b := make([]byte, 2000)
		n, from, err := ends[name].ReadFrom(b)
		if err != nil || !bytes.Equal(b[:n], want) || from.String() != conn.LocalAddr().String() {
			t.Errorf("%s hears %x of %s, %v; want %x", name, b[:n], from, err, want)
		}
	}
	handshake := []byte{22, 254, 253, 1}
	send(handshake)       // nobody's yet
	send(check("nobody")) // nor is that
	for _, name := range []string{"one", "other", "one"} {
		last := check(name)
		send(last)
		send(handshake)
		hears(name, last)
		hears(name, handshake)
	}
	ends["one"].Close()
	if n, _, err := ends["one"].ReadFrom(nil); err == nil {
		t.Errorf("%d bytes of who is gone", n)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.from) != 0 || len(m.ends) != 1 {
		t.Errorf("%d places and %d names are remembered, want the other's name", len(m.from), len(m.ends))
	}
}

// TestConnectsNowhere: who offers a TCP candidate to connect to has the edge knock nowhere.
func TestConnectsNowhere(t *testing.T) {
	s := listen(t)
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	offer := whiptest.Publisher(t, "a").Offer() + fmt.Sprintf("a=candidate:1 1 tcp 1 127.0.0.1 %d typ host tcptype passive\r\n", l.Addr().(*net.TCPAddr).Port)
	a, err := s.Accept(offer, false)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	l.SetDeadline(time.Now().Add(time.Second)) // it would at once
	if conn, err := l.Accept(); err == nil {
		t.Errorf("%s connects", conn.RemoteAddr())
	}
}

// without drops the candidates of other protocols, in what value reads.
func without(text, but string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "a=candidate:") || strings.Contains(line, " "+but+" ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestChromiumWithoutUDP: real browsers whose network lets no UDP through see and hear each other, over
// either family.
func TestChromiumWithoutUDP(t *testing.T) {
	exectest.Need(t, "chromium", "chromium")
	ip, nft := exectest.Need(t, "ip", "iproute2"), exectest.Need(t, "nft", "nftables")
	if !pathtest.Alone(t) {
		return
	}
	for _, args := range []string{ip + " link set lo up", ip + " link add eth0 type veth peer name far0", ip + " link set eth0 up", ip + " link set far0 up",
		ip + " addr add 10.0.0.5/24 dev eth0", ip + " addr add fd00::5/64 dev eth0 nodad",
		nft + " add table inet walled", nft + " add chain inet walled out { type filter hook output priority 0; }", nft + " add rule inet walled out meta l4proto udp drop"} {
		f := strings.Fields(args)
		if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
	for _, at := range []string{"10.0.0.5", "fd00::5"} {
		t.Run(at, func(t *testing.T) {
			s := listenAt(t, at)
			srv := serveBrowsers(t, s)
			browser := chromium(t)
			a, b := open(t, browser, srv.URL, "a", ""), open(t, browser, srv.URL, "b", "")
			a.until("hearing b", func(r browserReport) bool { return r.hears("b") })
			r := b.until("hearing a", func(r browserReport) bool { return r.hears("a") })
			b.until("hearing and seeing a go on", func(n browserReport) bool {
				return n.Received["a"]["audio"].Packets > r.Received["a"]["audio"].Packets+100 && n.Received["a"]["video"].Frames > r.Received["a"]["video"].Frames
			})
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, p := range s.rooms["room"].seats {
				if !byTCP(p.media.media.(*pionTransport)) {
					t.Errorf("%s is not reached by TCP", p.id)
				}
			}
			if st := s.Stats(); st.Malformed > 0 || st.BadAnswers > 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}
