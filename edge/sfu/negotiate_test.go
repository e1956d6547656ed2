package sfu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
	"github.com/pion/turn/v5"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/signal"
)

// TestOffer holds what the first offer says to the protocol.
func TestOffer(t *testing.T) {
	s := listen(t)
	a := join(t, s, "a")
	a.mu.Lock()
	first := a.offers[0]
	a.mu.Unlock()
	priority := map[string]uint64{}
	for _, m := range regexp.MustCompile(`a=candidate:\S+ 1 (udp|tcp) (\d+) 127.0.0.1 (\d+) typ host( tcptype passive)?`).FindAllStringSubmatch(first, -1) {
		if m[3] == fmt.Sprint(s.Sockets()[0].Bound.Port()) && (m[1] == "tcp") == (m[4] != "") {
			priority[m[1]], _ = strconv.ParseUint(m[2], 10, 32)
		}
	}
	if n := strings.Count(first, "a=candidate:"); n != 2 || len(priority) != 2 || priority["tcp"] >= priority["udp"] {
		t.Errorf("%d candidates, %v, want UDP's and behind it TCP's:\n%s", n, priority, first)
	}
	for want, n := range map[string]int{"m=audio": 1, "m=video": 2, "m=application": 1, "max-message-size:16384": 1, "a=recvonly": 3, "a=ice-lite": 1, "a=setup:actpass": 4, "useinbandfec=1": 1,
		"VP8/90000": 2, "H264/90000": 2, "VP9/90000": 2, "AV1/90000": 2, "a=rtpmap:105 rtx": 2, "a=rtcp-fb:96 nack\r": 2, "a=rtcp-fb:111 transport-cc": 1, "a=rtcp-fb:111": 2, "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n": 1, "a=rtcp-fb:96 transport-cc": 2, "a=rtpmap:97 rtx": 2, "cryptex": 0,
		"a=rid:l recv\r": 1, "a=rid:m recv\r": 1, "a=rid:h recv\r": 1, "a=simulcast:recv l;m;h\r": 1, "a=rid": 3, "a=simulcast": 1,
		fmt.Sprintf("a=extmap:%d urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", extRID):                              2,
		fmt.Sprintf("a=extmap:%d urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", extRepairedRID):             2,
		fmt.Sprintf("a=extmap:%d http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time", extCaptureTime):      3,
		fmt.Sprintf("a=extmap:%d http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", extWide): 3,
		fmt.Sprintf("a=extmap:%d %s", extDependency, dependencyURI):                                                   2,
		fmt.Sprintf("a=extmap:%d urn:ietf:params:rtp-hdrext:ssrc-audio-level", extAudioLevel):                         1} {
		if got := strings.Count(first, want); got != n {
			t.Errorf("%q %d times, want %d:\n%s", want, got, n, first)
		}
	}
}

func TestBadAnswers(t *testing.T) {
	s := listen(t)
	offers := make(chan signal.Offer, 1)
	x, err := s.Join("room", Seat{Participant: "a"}, "", func(m any) {
		if o, ok := m.(signal.Offer); ok {
			offers <- o
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	o := <-offers
	good := goodAnswer(o.SDP)
	for name, a := range map[string]signal.Answer{
		"nonsense":           {SDP: "nonsense", Seq: o.Seq},
		"empty":              {Seq: o.Seq},
		"another offer's":    {SDP: good, Seq: o.Seq + 1},
		"too long":           {SDP: good + strings.Repeat("a=x\r\n", maxSDP/5), Seq: o.Seq},
		"an m-line short":    {SDP: good[:strings.Index(good, "m=video")], Seq: o.Seq},
		"an m-line too many": {SDP: good + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:4\r\n", Seq: o.Seq},
		"kinds swapped":      {SDP: strings.Replace(good, "m=audio", "m=video", 1), Seq: o.Seq},
		"another mid":        {SDP: strings.Replace(good, "a=mid:1", "a=mid:7", 1), Seq: o.Seq},
		"an offer":           {SDP: o.SDP, Seq: o.Seq},
		"no fingerprint":     {SDP: strings.ReplaceAll(good, "a=fingerprint", "a=x-fingerprint"), Seq: o.Seq},
		"no ICE":             {SDP: strings.ReplaceAll(good, "a=ice-ufrag", "a=x-ice-ufrag"), Seq: o.Seq},
	} {
		if err := x.Answer(a); !errors.Is(err, ErrBadAnswer) {
			t.Errorf("%s: %v, want %v", name, err, ErrBadAnswer)
		}
	}
	if err := x.Answer(signal.Answer{SDP: good, Seq: o.Seq}); err != nil {
		t.Errorf("a good one after all that: %v", err)
	}
	if err := x.Answer(signal.Answer{SDP: good, Seq: o.Seq}); !errors.Is(err, ErrBadAnswer) {
		t.Errorf("the same again: %v, want %v", err, ErrBadAnswer)
	}
}

// goodAnswer turns an offer into an answer to it.
func goodAnswer(offer string) string {
	return strings.NewReplacer("a=setup:actpass", "a=setup:active", "a=recvonly", "a=inactive", "a=ice-lite\r\n", "").Replace(offer)
}

func FuzzAnswer(f *testing.F) {
	f.Add("v=0\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		if checkAnswer(text, published[:]) == nil && len(text) > maxSDP {
			t.Errorf("%d bytes passed", len(text))
		}
	})
}

func TestListen(t *testing.T) {
	rows := []struct {
		name  string
		bound []string // with the public address behind a slash, where there is one
		want  []string // offered, without ports; none: an error
	}{
		{"loopback", []string{"127.0.0.1"}, []string{"127.0.0.1"}},
		{"IPv6", []string{"::1"}, []string{"::1"}},
		{"both families", []string{"127.0.0.1", "::1"}, []string{"127.0.0.1", "::1"}},
		{"behind NAT", []string{"127.0.0.1/192.0.2.7"}, []string{"192.0.2.7"}},
		{"both behind NAT", []string{"127.0.0.1/192.0.2.7", "::1/2001:db8::7"}, []string{"192.0.2.7", "2001:db8::7"}},
		{"one of both behind NAT", []string{"127.0.0.1/192.0.2.7", "::1"}, []string{"192.0.2.7", "::1"}},
		{"unspecified", []string{"0.0.0.0/192.0.2.7"}, nil},
		{"somebody else's", []string{"192.0.2.7"}, nil},
		{"the second somebody else's", []string{"127.0.0.1", "2001:db8::7"}, nil},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var cfg Config
			for _, text := range r.bound {
				at, public, _ := strings.Cut(text, "/")
				s := Socket{Bound: netip.AddrPortFrom(netip.MustParseAddr(at), 0)}
				if public != "" {
					s.Public = netip.MustParseAddr(public)
				}
				cfg.Sockets = append(cfg.Sockets, s)
			}
			s, err := Listen(cfg)
			if r.want == nil {
				if err == nil {
					s.Close()
					t.Fatal("listens")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			offers := make(chan signal.Offer, 1)
			x, err := s.Join("room", Seat{Participant: "a"}, "", func(m any) {
				if o, ok := m.(signal.Offer); ok {
					offers <- o
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			sdp := (<-offers).SDP
			for i, want := range r.want {
				if at := s.Sockets()[i]; at.Bound.Port() == 0 || !strings.Contains(sdp, fmt.Sprintf(" %s %d typ host", want, at.Bound.Port())) {
					t.Errorf("no candidate of %+v with %s:\n%s", at, want, sdp)
				}
			}
			tcp := 0
			for i, want := range r.want {
				if at := s.Sockets()[i].Bound; at.Addr() != netip.IPv6Loopback() { // which pion has by UDP alone
					tcp++
					if !strings.Contains(sdp, fmt.Sprintf(" %s %d typ host tcptype passive", want, at.Port())) {
						t.Errorf("no candidate of %s in TCP:\n%s", want, sdp)
					}
				}
			}
			if n := strings.Count(sdp, "a=candidate:"); n != len(r.want)+tcp {
				t.Errorf("%d candidates, want %v alone, and %d of TCP:\n%s", n, r.want, tcp, sdp)
			}
		})
	}
}

// TestRelayOnly: a client behind a TURN relay, with nothing but the relay.
func TestRelayOnly(t *testing.T) {
	s := listen(t)
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	relay, err := turn.NewServer(turn.ServerConfig{Realm: "test",
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, turn.GenerateAuthKey(a.Username, "test", "secret"), true
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: conn,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Close() })
	a := join(t, s, "a")
	b := dial(t, s, Seat{Participant: "b"}, "", func(cfg *setup) {
		cfg.ICEServers = []webrtc.ICEServer{{URLs: []string{"turn:" + conn.LocalAddr().String() + "?transport=udp"}, Username: "b", Credential: "secret"}}
		cfg.ICETransportPolicy = webrtc.ICETransportPolicyRelay
	})
	b.await("connection", func() bool { return b.up })
	a.routed(b, Audio)
	b.routed(a, Audio)
	a.say(Audio, 1, []byte("through"))
	b.say(Audio, 1, []byte("and back"))
	b.hears("a", Audio, "through")
	a.hears("b", Audio, "and back")
}

// quiet is a transport that carries nothing.
type quiet struct {
	h     handler
	opens int
	mu    sync.Mutex
	sent  []rtcp.Packet
	keeps bool
	wrote []pion.Packet // where it keeps them
}

func (q *quiet) Open(i int, _ Kind, _ string) (outlet, error) {
	q.opens++
	return &quietLine{q, uint32(i)}, nil
}
func (q *quiet) Shut(int) error                            { return nil }
func (q *quiet) Offer() (string, error)                    { return "offer", nil }
func (q *quiet) Answer(string) error                       { return nil }
func (q *quiet) Send(Label, []byte, <-chan struct{}) error { return nil }
func (q *quiet) Close() error                              { return nil }
func (q *quiet) Padding(int, time.Time) int                { return 0 }

func (q *quiet) WriteRTCP(p []rtcp.Packet) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sent = append(q.sent, p...)
	return nil
}

// was gives what was sent since the first n.
func (q *quiet) was(n int) []rtcp.Packet {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.sent[n:])
}

type quietLine struct {
	*quiet
	ssrc uint32
}

func (q *quietLine) SSRC() uint32           { return q.ssrc }
func (q *quietLine) Doubles() bool          { return false }
func (q *quietLine) Repair() (uint32, bool) { return q.ssrc + 100, true }
func (q *quietLine) WriteRTP(_ *lane.Batch, h *pion.Header, payload []byte, _ time.Time) error {
	if q.keeps {
		q.wrote = append(q.wrote, pion.Packet{Header: h.Clone(), Payload: slices.Clone(payload)})
	}
	return nil
}

// TestOffersAreCoalesced: one offer is open at a time, and what happens meanwhile is
// one more.
func TestOffersAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietly()
		defer s.Close()
		var offers []signal.Offer
		a, err := s.Join("room", Seat{Participant: "a"}, "", func(m any) {
			if o, ok := m.(signal.Offer); ok {
				offers = append(offers, o)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, id := range []string{"b", "c", "d"} {
			if _, err := s.Join("room", Seat{Participant: id}, "", func(any) {}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if len(offers) != 1 {
			t.Fatalf("%d offers while one is open, want 1", len(offers))
		}
		answer := func(o signal.Offer) {
			t.Helper()
			if err := a.Answer(signal.Answer{SDP: answerTo(o.Tracks), Seq: o.Seq}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		answer(offers[0])
		if len(offers) != 2 || offers[1].Seq != offers[0].Seq+1 || len(offers[1].Tracks) != 6 {
			t.Fatalf("after the answer: %d offers, the last with %d tracks; want 2 and 6", len(offers), len(offers[len(offers)-1].Tracks))
		}
		answer(offers[1])
		a.State(signal.State{Mic: true})
		synctest.Wait()
		if len(offers) != 2 {
			t.Errorf("%d offers, want no other while nothing changes", len(offers))
		}
	})
}

// pair is of somebody who shares no screen.
var pair = []signal.Track{{Kind: "audio"}, {Kind: "video"}}

// answerTo is an answer with m-lines for those beside the first four.
func answerTo(tracks []signal.Track) string {
	b := strings.Builder{}
	b.WriteString("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:sha-256 AA\r\n")
	mlines := published[:]
	for _, t := range tracks {
		mlines = append(mlines, strings.Replace(t.Kind, "screen", "video", 1))
	}
	for i, kind := range mlines {
		fmt.Fprintf(&b, "m=%s 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:%d\r\n", kind, i)
	}
	return b.String()
}

// sessions are of people in one room of quiet transports, all connected.
func sessions(t *testing.T, s *SFU, n int) (all []*Session) {
	t.Helper()
	return sessionsAs(t, s, Seat{}, n)
}

// sessionsAs seats them as seat, by numbers.
func sessionsAs(t *testing.T, s *SFU, seat Seat, n int) (all []*Session) {
	t.Helper()
	for i := range n {
		offers := make(chan signal.Offer, 1)
		seat.Participant = fmt.Sprint(i)
		x, err := s.Join("room", seat, "", func(m any) {
			if o, ok := m.(signal.Offer); ok {
				offers <- o
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for len(offers) > 0 {
			o := <-offers
			if err := x.Answer(signal.Answer{SDP: answerTo(o.Tracks), Seq: o.Seq}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		x.connected(true)
		all = append(all, x)
	}
	return all
}

// sharer is of somebody connected who shares a screen.
func sharer(t *testing.T, s *SFU) *Session {
	t.Helper()
	offers := make(chan signal.Offer, 1)
	x, err := s.Join("room", Seat{Participant: "sharer"}, "", func(m any) {
		if o, ok := m.(signal.Offer); ok {
			offers <- o
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	o := <-offers
	if err := x.Answer(signal.Answer{SDP: answerTo(nil), Seq: o.Seq}); err != nil {
		t.Fatal(err)
	}
	x.connected(true)
	x.State(signal.State{Mic: true, Camera: true, ReceiveVideo: true, Screen: true})
	return x
}

func quietly() *SFU {
	return &SFU{cfg: Config{MaxParticipants: 6}, rooms: map[string]*room{}, unmux: func() error { return nil },
		connect: func(h handler, _ uint32, _ bool) (transport, error) { return &quiet{h: h}, nil }}
}

// TestRepair: what a publisher sends again is the packet that was lost, and what a subscriber
// asks for comes as a packet of its own, whose number is no other's.
func TestRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietly()
		defer s.Close()
		all := sessions(t, s, 2)
		all[0].Answer(signal.Answer{SDP: answerTo(pair), Seq: 2}) // with 1's m-lines
		from, to := &pionTransport{handler: all[0], path: newPath(1), inlets: map[uint32]inlet{}}, all[1].media.(*quiet)
		to.keeps = true
		say := func(ssrc uint32, pt uint8, seq uint16, payload []byte) {
			raw, err := (&pion.Packet{Header: pion.Header{Version: 2, Marker: true, PayloadType: pt, SSRC: ssrc, SequenceNumber: seq, Timestamp: 960 * uint32(seq)}, Payload: payload}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			from.RTP(nil, raw, time.Now())
		}
		say(8, ptVP8+1, 70, []byte{0, 2, 0}) // of a stream that has not begun
		say(9, ptVP8, 1, vp8(true, "1"))
		say(9, ptVP8, 3, vp8(false, "3"))
		lost, _ := (&pion.Packet{Header: pion.Header{Version: 2, Marker: true, PayloadType: ptVP8 + 1, SSRC: 8, SequenceNumber: 71, Timestamp: 1920}, Payload: append([]byte{0, 2}, vp8(false, "2")...)}).Marshal()
		from.RTP(nil, lost, time.Now())
		say(8, ptVP8+1, 72, nil) // fills the path
		if len(to.wrote) != 3 {
			t.Fatalf("%d packets sent on, want 3", len(to.wrote))
		}
		first := to.wrote[0].SequenceNumber
		for i, want := range []uint16{0, 2, 1} {
			p := to.wrote[i]
			if p.SequenceNumber-first != want || p.PayloadType != ptVP8 || p.Timestamp-to.wrote[0].Timestamp != 960*uint32(want) || string(p.Payload[2:]) != fmt.Sprint(want+1) {
				t.Errorf("%d: %v", i, p)
			}
		}
		for range 2 {
			all[1].control(nil, &rtcp.TransportLayerNack{MediaSSRC: to.wrote[0].SSRC, Nacks: rtcp.NackPairsFromSequenceNumbers([]uint16{first + 1})}, time.Now())
		}
		if len(to.wrote) != 5 {
			t.Fatalf("%d packets sent on, want 3 and 2 again", len(to.wrote))
		}
		for i, p := range to.wrote[3:] {
			if p.SSRC != to.wrote[0].SSRC+100 || p.PayloadType != ptVP8+1 || p.SequenceNumber != to.wrote[3].SequenceNumber+uint16(i) || p.Timestamp != to.wrote[2].Timestamp ||
				binary.BigEndian.Uint16(p.Payload) != first+1 || string(p.Payload[4:]) != "2" {
				t.Errorf("again: %v", p)
			}
		}
	})
}

// TestPacketPathAllocatesNothing: from the lane's worker to the subscriber's
// outlet, with everything between.
func TestPacketPathAllocatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietly()
		defer s.Close()
		a := sharer(t, s)
		sessions(t, s, 5)
		from := &pionTransport{handler: a, path: newPath(1), inlets: map[uint32]inlet{}}
		from.screens.Store(&[]uint32{uint32(Screen)})
		for _, k := range kinds {
			p := pion.Packet{Header: pion.Header{Version: 2, PayloadType: []uint8{ptOpus, ptVP8, ptVP8}[k], SSRC: uint32(k)}, Payload: vp8(true, "x")}
			if k == Audio {
				p.SetExtension(extAudioLevel, []byte{20})
			}
			raw, _ := p.Marshal()
			seq := uint16(0)
			send := func() {
				seq++
				raw[2], raw[3] = byte(seq>>8), byte(seq)
				from.RTP(nil, raw, time.Now())
			}
			for range 1000 {
				send() // warm
			}
			if n := testing.AllocsPerRun(1000, send); n != 0 {
				t.Errorf("%s: %v allocations a packet, want 0", k, n)
			}
		}
		if want := uint64(3 * 2001 * 5); s.Stats().PacketsOut != want {
			t.Errorf("%d packets out, want %d", s.Stats().PacketsOut, want)
		}
	})
}
