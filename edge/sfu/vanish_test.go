package sfu

import (
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	pion "github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/signal"
)

// faint is a client's socket that sends so many datagrams of DTLS, and then no more: of DTLS, or
// of anything.
type faint struct {
	net.PacketConn
	handshakes atomic.Int64 // left
	whole      bool         // nothing at all goes out after those
	swallowed  atomic.Int64
}

func (f *faint) WriteTo(b []byte, to net.Addr) (int, error) {
	dtls := len(b) > 0 && b[0] >= 20 && b[0] <= 63 // RFC 7983 section 7
	if dtls && f.handshakes.Add(-1) < 0 || f.whole && f.handshakes.Load() < 0 {
		f.swallowed.Add(1)
		return len(b), nil
	}
	return f.PacketConn.WriteTo(b, to)
}

// vanishing joins somebody who does so.
func vanishing(t *testing.T, s *SFU, id string, handshakes int64, whole bool) (*client, *faint) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &faint{PacketConn: conn, whole: whole}
	f.handshakes.Store(handshakes)
	mux := webrtc.NewICEUDPMux(nil, f)
	t.Cleanup(func() { mux.Close(); conn.Close() }) // after dial's
	return dial(t, s, Seat{Participant: id}, "", func(set *setup) { set.SetICEUDPMux(mux) }), f
}

// TestVanishesMidHandshake: those who never come further than some step of it cost the others
// nothing, and leave nothing behind.
func TestVanishesMidHandshake(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("life", func(t *testing.T) {
		s := listen(t)
		a, b := join(t, s, "a"), join(t, s, "b")
		a.routed(b, Audio)
		b.routed(a, Audio)
		said := 0
		talk := func() {
			t.Helper()
			said++
			a.say(Audio, uint16(said), fmt.Appendf(nil, "a%d.", said))
			b.say(Audio, uint16(said), fmt.Appendf(nil, "b%d.", said))
			b.hears("a", Audio, fmt.Sprintf("a%d.", said))
			a.hears("b", Audio, fmt.Sprintf("b%d.", said))
		}
		round := func() {
			t.Run("round", func(t *testing.T) {
				none, err := s.Join("room", Seat{Participant: "never answers"}, "", func(any) {})
				if err != nil {
					t.Fatal(err)
				}
				defer none.Close()
				for _, v := range []struct {
					name       string
					handshakes int64
					whole      bool
				}{{"only checks", 0, false}, {"a ClientHello", 1, false}, {"a ClientHello, and is gone", 1, true}} {
					c, f := vanishing(t, s, v.name, v.handshakes, v.whole)
					eventually(t, v.name+": silence", func() bool { return f.swallowed.Load() > 0 })
					talk()
					if c.x.Up() || c.within(0, func() bool { return c.up }) {
						t.Errorf("%s: counts as connected", v.name)
					}
				}
				a.await("the four who are not connected", func() bool {
					n := 0
					for _, p := range a.peers {
						if !p.Connected {
							n++
						}
					}
					return n == 4
				})
				if r := s.Rooms(); len(r) != 1 || r[0].Participants != 6 || r[0].Connected != 2 {
					t.Errorf("rooms %+v, want one of six of whom two are connected", r)
				}
				talk()
			})
			talk()
			a.await("a room of two", func() bool {
				return len(a.peers) == 1 && slices.ContainsFunc(a.tracks, func(tr signal.Track) bool { return tr.Participant == "b" })
			})
			for _, c := range []*client{a, b} { // what they keep of it is no matter here
				c.change(func() { c.offers, c.control, c.got = nil, nil, map[string][]*pion.Packet{} })
			}
		}
		round()
		warm, heap := runtime.NumGoroutine(), inUse()
		const rounds = 5
		for range rounds {
			round()
		}
		eventually(t, "end of every vanished one's goroutines", func() bool { return runtime.NumGoroutine() <= warm })
		// One that stays is some 400 kB.
		if grown := int64(inUse()) - int64(heap); grown > rounds*4*100_000 {
			t.Errorf("%d kB more after %d of them", grown/1000, rounds*4)
		}
	})
	eventually(t, "end of every goroutine", func() bool { return runtime.NumGoroutine() <= before })
	if t.Failed() {
		buf := make([]byte, 1<<20)
		t.Logf("%s", buf[:runtime.Stack(buf, true)])
	}
}

// inUse is the heap that is reachable.
func inUse() uint64 {
	runtime.GC()
	runtime.GC() // what the first found to be finalized, and pools' second half
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
