package sfu

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/signal"
)

func TestTwoHearEachOtherAndNotThemselves(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	for _, k := range kinds[:Screen] {
		a.routed(b, k)
		b.routed(a, k)
		a.say(k, 65535, vp8(true, "a1"), vp8(false, "a2"))
		b.say(k, 7, vp8(true, "b1"))
	}
	for _, k := range kinds[:Screen] {
		b.hears("a", k, "a2")
		a.hears("b", k, "b1")
	}
	for _, c := range []*client{a, b} {
		c.mu.Lock()
		for from, packets := range c.got {
			if strings.HasPrefix(from, c.id+" ") || strings.HasPrefix(from, "nobody") {
				t.Errorf("%s heard %d packets of %s", c.id, len(packets), from)
			}
		}
		c.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.got["a video"]; p[1].SequenceNumber != p[0].SequenceNumber+1 || p[1].Timestamp-p[0].Timestamp != 960 {
		t.Errorf("numbers %d %d, timestamps %d %d", p[0].SequenceNumber, p[1].SequenceNumber, p[0].Timestamp, p[1].Timestamp)
	}
}

func TestSixHearEachOther(t *testing.T) {
	s := listen(t)
	var all []*client
	for i := range 6 {
		all = append(all, dial(t, s, Seat{Participant: fmt.Sprint("p", i)}, ""))
	}
	for _, c := range all {
		c.await("ten m-lines", func() bool { return len(c.tracks) == 10 })
		c.await("everybody connected", func() bool {
			return c.up && len(c.peers) == 5 && !slices.ContainsFunc(c.peers, func(p signal.Peer) bool { return !p.Connected })
		})
	}
	for _, from := range all {
		for _, to := range all {
			if from != to {
				to.routed(from, Audio)
				to.routed(from, Video)
			}
		}
		from.say(Audio, 1, []byte("hello of "+from.id))
		from.say(Video, 1, vp8(true, "face of "+from.id))
	}
	for _, from := range all {
		for _, to := range all {
			if from != to {
				to.hears(from.id, Audio, "hello of "+from.id)
				to.hears(from.id, Video, "face of "+from.id)
			}
		}
	}
	_, err := s.Join("room", Seat{Participant: "p6"}, "", func(any) {})
	if !errors.Is(err, ErrRoomFull) {
		t.Errorf("a seventh: %v, want %v", err, ErrRoomFull)
	}
	want := RoomStats{ID: "room", Participants: 6, Connected: 6, Audio: 6, Video: 6, Packets: 60}
	got := s.Rooms()
	if len(got) == 1 {
		want.Bytes = got[0].Bytes
	}
	if len(got) != 1 || got[0] != want || want.Bytes == 0 {
		t.Errorf("rooms %+v, want %+v", got, want)
	}
	if st := s.Stats(); st.PacketsIn != 12 || st.PacketsOut != 60 || st.Malformed != 0 {
		t.Errorf("stats %+v, want 12 packets in and 60 out", st)
	}
}

func TestStateIsTold(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	b.await("a", func() bool {
		return slices.Equal(b.peers, []signal.Peer{{Participant: "a", Role: "patient", Connected: true}})
	})
	a.x.State(signal.State{Mic: true, Camera: true, ReceiveVideo: true})
	b.await("a's camera", func() bool { return len(b.peers) == 1 && b.peers[0].Mic && b.peers[0].Camera })
	a.x.State(signal.State{Camera: true, ReceiveVideo: true})
	b.await("a's mute", func() bool { return len(b.peers) == 1 && !b.peers[0].Mic && b.peers[0].Camera })
}

func TestParked(t *testing.T) {
	s := listen(t)
	a := join(t, s, "a")
	b := dial(t, s, Seat{Participant: "b", Parked: true}, "")
	b.await("connection", func() bool { return b.up })
	b.await("m-lines of a", func() bool { return len(b.tracks) == 2 })
	a.await("m-lines of b", func() bool { return len(a.tracks) == 2 })
	a.await("b, not connected", func() bool { return len(a.peers) == 1 && !a.peers[0].Connected })
	if carries(a.x.pub.tracks[Audio], b.x) || carries(b.x.pub.tracks[Audio], a.x) {
		t.Fatal("a parked seat hears or is heard")
	}
	offers := s.Stats().Offers
	b.x.Unpark()
	b.routed(a, Audio)
	a.routed(b, Audio)
	a.say(Audio, 1, []byte("hello"))
	b.say(Audio, 1, []byte("here"))
	b.hears("a", Audio, "hello")
	a.hears("b", Audio, "here")
	a.await("b connected", func() bool { return len(a.peers) == 1 && a.peers[0].Connected })
	if n := s.Stats().Offers; n != offers {
		t.Errorf("%d offers to unpark, want none", n-offers)
	}
}

// TestWithoutChecks: whose checks are lost and whose media come is there; who sends neither is not.
func TestWithoutChecks(t *testing.T) {
	s := listen(t)
	a := dial(t, s, Seat{Participant: "a"}, "", func(s *setup) { s.SetICETimeouts(0, 0, 0) })
	b := join(t, s, "b")
	a.await("connection", func() bool { return a.up })
	a.routed(b, Audio)
	b.routed(a, Audio)
	there := func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.peers) == 1 && b.peers[0].Connected
	}
	pion := a.x.media.(*pionTransport).pc
	seq, missed := uint16(1), time.Time{}
	for end := time.Now().Add(patience); missed.IsZero() || time.Since(missed) < lostAfter*3/2; seq++ {
		if time.Now().After(end) {
			t.Fatal("pion never missed the checks")
		}
		a.say(Audio, seq, []byte("here"))
		b.say(Audio, seq, []byte("there"))
		time.Sleep(20 * time.Millisecond) // as voices do
		if missed.IsZero() && pion.ConnectionState() == webrtc.PeerConnectionStateDisconnected {
			missed = time.Now()
		}
		if seq > 50 && !there() {
			t.Fatalf("a is gone after %d packets", seq)
		}
	}
	a.say(Audio, seq, []byte("still"))
	b.say(Audio, seq, []byte("still"))
	a.hears("b", Audio, "still")
	b.hears("a", Audio, "still")
	b.await("a's silence", func() bool { return len(b.peers) == 1 && !b.peers[0].Connected })
}

// TestViewer hears and is not heard, and nobody gets m-lines for it.
func TestViewer(t *testing.T) {
	s := listen(t)
	a := join(t, s, "a")
	b := dial(t, s, Seat{Participant: "b", Viewer: true}, "")
	b.await("connection", func() bool { return b.up })
	b.routed(a, Audio)
	a.say(Audio, 1, []byte("hello"))
	b.hears("a", Audio, "hello")
	a.await("b, without tracks", func() bool { return len(a.peers) == 1 && a.peers[0].Connected && len(a.tracks) == 0 })
	b.say(Audio, 1, []byte("here"))
	b.say(Audio, 2, []byte("is nobody"))
	a.x.Leave() // after which nothing more can come
	if st := s.Stats(); st.PacketsOut != 1 {
		t.Errorf("%d packets forwarded, want a's alone", st.PacketsOut)
	}
}

// TestLeaveAndReuse: a leaver's m-lines go inactive and carry the next who joins,
// under another SSRC.
func TestLeaveAndReuse(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	a.routed(b, Audio)
	b.say(Audio, 1, []byte("b1"))
	a.hears("b", Audio, "b1")
	b.x.Close()
	a.await("an empty room", func() bool { return len(a.tracks) == 0 && len(a.peers) == 0 })
	a.mu.Lock()
	if n := strings.Count(a.offers[len(a.offers)-1], "a=inactive"); n != 2 {
		t.Errorf("%d inactive m-lines, want 2", n)
	}
	a.mu.Unlock()
	c := join(t, s, "c")
	a.await("m-lines of c", func() bool {
		return slices.Equal(a.tracks, []signal.Track{{MID: "4", Participant: "c", Kind: "audio"}, {MID: "5", Participant: "c", Kind: "video"}})
	})
	a.routed(c, Audio)
	c.say(Audio, 1, []byte("c1"))
	a.hears("c", Audio, "c1")
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ssrc["b audio"] == a.ssrc["c audio"] {
		t.Error("the reused m-line keeps its SSRC")
	}
	if last := a.offers[len(a.offers)-1]; strings.Count(last, "m=") != 6 {
		t.Errorf("%d m-lines, want 6:\n%s", strings.Count(last, "m="), last)
	}
}

func TestReplaced(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	a2 := dial(t, s, Seat{Participant: "a"}, "another")
	a.await("end", func() bool { return a.ended == "replaced" })
	if a2.x.ID() == a.x.ID() || a2.x.ID() == "another" {
		t.Errorf("the new session is called %q, the replaced one %q", a2.x.ID(), a.x.ID())
	}
	a2.await("connection", func() bool { return a2.up })
	b.routed(a2, Audio)
	a.x.Close() // late: it must not take the new one's seat
	a.x.State(signal.State{Mic: true})
	a2.say(Audio, 9, []byte("again"))
	b.hears("a", Audio, "again")
	if r := s.Rooms(); len(r) != 1 || r[0].Participants != 2 {
		t.Errorf("rooms %+v, want one with two seats", r)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.peers[0].Mic {
		t.Error("the replaced session still changes the seat's state")
	}
}

// TestResumed: the same session in a new connection. The earlier one carries media
// until the new one is up, and others see one stream throughout.
func TestResumed(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	a.x.State(signal.State{Mic: true, ReceiveVideo: true})
	b.routed(a, Audio)
	b.routed(a, Video)
	a.say(Audio, 65000, []byte("one"))
	a.say(Video, 65000, vp8(true, "one"))
	b.hears("a", Audio, "one")
	b.hears("a", Video, "one")
	offers := s.Stats().Offers

	gate := make(chan struct{})
	a2 := dial(t, s, Seat{Participant: "a"}, a.x.ID(), func(set *setup) {
		set.SetIPFilter(func(ip net.IP) bool { <-gate; return ip.IsLoopback() })
	})
	a.say(Audio, 65001, []byte("two"))
	b.hears("a", Audio, "two")
	close(gate)
	a2.await("connection", func() bool { return a2.up })
	b.routed(a2, Audio)
	b.routed(a2, Video)
	if a2.x.ID() != a.x.ID() {
		t.Errorf("session %q, want %q", a2.x.ID(), a.x.ID())
	}
	a2.awaitControl("keyframe request", func(rtcp.Packet) bool { return true }, func() { a2.say(Video, 5, vp8(false, "lost")) })
	a2.say(Audio, 5, []byte("three"))
	a2.say(Video, 6, vp8(true, "two"))
	b.hears("a", Audio, "three")
	b.hears("a", Video, "two")
	a.x.Close()
	if n := s.Stats().Offers - offers; n != 1 {
		t.Errorf("%d offers, want the new session's alone", n)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range kinds[:Screen] {
		p := b.got["a "+k.String()]
		for i := range p[1:] {
			if p[i+1].SequenceNumber != p[i].SequenceNumber+1 || int32(p[i+1].Timestamp-p[i].Timestamp) <= 0 {
				t.Errorf("%s: %d at %d follows %d at %d", k, p[i+1].SequenceNumber, p[i+1].Timestamp, p[i].SequenceNumber, p[i].Timestamp)
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended != "" {
		t.Errorf("the resumed client was told %q", a.ended)
	}
	if !b.peers[0].Mic {
		t.Error("the resumed seat forgot its state")
	}
}

func TestEnd(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	s.End("room", signal.Ended{Type: signal.TypeEnded, Reason: "done"})
	s.End("nowhere", signal.Ended{Type: signal.TypeEnded, Reason: "done"})
	for _, c := range []*client{a, b} {
		c.await("end", func() bool { return c.ended == "done" })
		<-c.x.closed
	}
	if r := s.Rooms(); len(r) != 0 {
		t.Errorf("rooms %+v, want none", r)
	}
	if err := a.x.Answer(signal.Answer{SDP: "late", Seq: 9}); err != nil {
		t.Errorf("an answer that crossed the end: %v, want nothing", err)
	}
}

// TestNothingStays: after everybody has gone, in every way there is, no goroutine
// is left over.
func TestNothingStays(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("life", func(t *testing.T) {
		s := listen(t)
		a, b := join(t, s, "a"), join(t, s, "b")
		b.routed(a, Audio)
		dial(t, s, Seat{Participant: "a"}, a.x.ID())
		c := join(t, s, "c")
		c.x.Close()
		never, err := s.Join("room", Seat{Participant: "never answers"}, "", func(any) {})
		if err != nil {
			t.Fatal(err)
		}
		never.Close()
		if _, err := s.Join("another", Seat{Participant: "stays"}, "", func(any) {}); err != nil {
			t.Fatal(err)
		}
		s.End("room", signal.Ended{Type: signal.TypeEnded, Reason: "done"})
		s.Close()
		if _, err := s.Join("room", Seat{Participant: "late"}, "", func(any) {}); !errors.Is(err, ErrClosed) {
			t.Errorf("join after close: %v, want %v", err, ErrClosed)
		}
	})
	eventually(t, "end of every goroutine", func() bool { return runtime.NumGoroutine() <= before })
	if t.Failed() {
		buf := make([]byte, 1<<20)
		t.Logf("%s", buf[:runtime.Stack(buf, true)])
	}
}
