package sfu

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
)

// channels are a client's data channels, by the numbers that both sides know.
type channels [len(labels)]*webrtc.DataChannel

// withData opens the client's channels before it answers, and has what comes told.
func withData(t *testing.T, s *SFU, seat Seat, told func(l Label, message []byte)) (*client, channels) {
	t.Helper()
	var dcs channels
	opened := make(chan struct{}, len(dcs))
	c := dial(t, s, seat, "")
	for _, l := range labels {
		id, negotiated, ordered, once := uint16(l), true, l == Reliable, uint16(0)
		init := &webrtc.DataChannelInit{ID: &id, Negotiated: &negotiated, Ordered: &ordered}
		if l == Unreliable {
			init.MaxRetransmits = &once
		}
		dc, err := c.pc.CreateDataChannel("", init)
		if err != nil {
			t.Fatal(err)
		}
		dc.OnOpen(func() { opened <- struct{}{} })
		dc.OnMessage(func(m webrtc.DataChannelMessage) { told(l, m.Data) })
		dcs[l] = dc
	}
	c.await("connection", func() bool { return c.up })
	for range dcs {
		select {
		case <-opened:
		case <-time.After(patience):
			t.Fatalf("%s: a data channel does not open", seat.Participant)
		}
	}
	return c, dcs
}

type message struct {
	label    Label
	from, is string
}

// heardOf makes told of what a channel gives.
func heardOf(t *testing.T, in chan<- message) func(Label, []byte) {
	return func(l Label, b []byte) {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			t.Errorf("%s: a message without a sender: %q", l, b)
			return
		}
		in <- message{l, string(b[1 : 1+b[0]]), string(b[1+b[0]:])}
	}
}

func framed(to, says string) []byte {
	return append(append([]byte{byte(len(to))}, to...), says...)
}

func receive(t *testing.T, from <-chan message) message {
	t.Helper()
	select {
	case m := <-from:
		return m
	case <-time.After(patience):
		t.Fatal("no message")
	}
	panic("unreachable")
}

func TestData(t *testing.T) {
	s := listen(t)
	heard := map[string]chan message{}
	all := map[string]channels{}
	for _, id := range []string{"a", "b", "c"} {
		heard[id] = make(chan message, 100)
		_, all[id] = withData(t, s, Seat{Participant: id, Role: "patient"}, heardOf(t, heard[id]))
	}
	withData(t, s, Seat{Participant: "d", Parked: true}, func(_ Label, m []byte) { t.Errorf("a parked seat was told %q", m) })
	for _, l := range labels {
		// Everybody else, one, somebody parked, nobody.
		for _, to := range []string{"", "b", "d", "nobody"} {
			if err := all["a"][l].Send(framed(to, l.String()+" to "+to)); err != nil {
				t.Fatal(err)
			}
		}
		for id, want := range map[string][]string{"b": {"to ", "to b"}, "c": {"to "}} {
			var got []string
			for range want {
				m := receive(t, heard[id])
				if m.label != l || m.from != "a" {
					t.Errorf("%s heard %+v by %s", id, m, l)
				}
				got = append(got, strings.TrimPrefix(m.is, l.String()+" "))
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%s heard %q of %s, want %q", id, got, l, want)
			}
		}
	}
	for _, broken := range [][]byte{{}, {5, 'a'}, {255}, framed("", strings.Repeat("x", MaxMessage-1))} {
		if err := all["a"][Reliable].Send(broken); err != nil {
			t.Fatal(err)
		}
	}
	all["a"][Reliable].Send(framed("", "after it"))
	for _, id := range []string{"b", "c"} {
		if m := receive(t, heard[id]); m.is != "after it" {
			t.Errorf("%s heard %.40q, want what came after what is broken", id, m.is)
		}
	}
	if n := s.Stats().Malformed; n != 4 {
		t.Errorf("%d messages broken, want 4", n)
	}
	if len(heard["a"]) > 0 {
		t.Errorf("a heard itself: %+v", <-heard["a"])
	}
}

func FuzzData(f *testing.F) {
	f.Add([]byte{})
	f.Add(framed("", "all"))
	f.Add(framed("b", ""))
	f.Add([]byte{255, 'b'})
	f.Fuzz(func(t *testing.T, message []byte) {
		who, says, ok := address(message)
		if ok && !bytes.Equal(framed(string(who), string(says)), message) {
			t.Errorf("%q to %q: %q", message, who, says)
		}
	})
}

// TestDataWaitsForWhoIsSlow: who takes nothing makes who sends wait, and nothing grows.
func TestDataWaitsForWhoIsSlow(t *testing.T) {
	s := listen(t)
	_, a := withData(t, s, Seat{Participant: "a"}, func(Label, []byte) {})
	hold, got := make(chan struct{}), make(chan int, 4096)
	b, _ := withData(t, s, Seat{Participant: "b"}, func(_ Label, m []byte) {
		<-hold
		got <- len(m)
	})
	b.x.rate.Store(1 << 40) // what is measured here is not the pace
	const parts = 400
	part := framed("b", string(bytes.Repeat([]byte("p"), MaxMessage-100)))
	for range parts {
		if err := a[Reliable].Send(part); err != nil {
			t.Fatal(err)
		}
	}
	// The sender's own buffer is where they wait.
	eventually(t, "standstill", func() bool {
		before := a[Reliable].BufferedAmount()
		time.Sleep(200 * time.Millisecond) // that nothing moves is no event
		return a[Reliable].BufferedAmount() == before
	})
	if waits := a[Reliable].BufferedAmount(); waits < parts*uint64(len(part))/2 {
		t.Errorf("%d bytes of %d wait at who sends: the rest is in the edge", waits, parts*len(part))
	}
	close(hold)
	for range parts {
		select {
		case <-got:
		case <-time.After(patience):
			t.Fatal("the rest does not come")
		}
	}
	if n := s.Stats().MessagesLost; n != 0 {
		t.Errorf("%d messages lost", n)
	}
}

// TestDataThird: the first offer's m-lines are those of every other.
func TestDataThird(t *testing.T) {
	s := listen(t)
	a := join(t, s, "a")
	b := join(t, s, "b")
	a.await("b's m-lines", func() bool { return len(a.tracks) == 2 })
	for _, c := range []*client{a, b} {
		c.mu.Lock()
		last := c.offers[len(c.offers)-1]
		c.mu.Unlock()
		for i, want := range []string{"audio", "video", "application", "video", "audio", "video"} {
			_, lines := sections(last)
			if len(lines) != 6 || !strings.HasPrefix(lines[i], "m="+want+" ") || !strings.Contains(lines[i], "\r\na=mid:"+string(rune('0'+i))+"\r\n") {
				t.Fatalf("%s: m-line %d is no %s:\n%s", c.id, i, want, last)
			}
		}
		if !strings.Contains(last, "a=group:BUNDLE 0 1 2 3 4 5\r\n") {
			t.Errorf("%s: no group of six:\n%s", c.id, last)
		}
	}
}
