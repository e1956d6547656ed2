package sfu

import (
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"bailiwick/edge/sfu/red"
	"bailiwick/edge/sfu/rtp"
)

// TestVoiceGoesOnceMore: where a path loses packets, each brings what came before it, unless a queue
// stands; and a client that sends so is understood by those who take none of it.
func TestVoiceGoesOnceMore(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	b.routed(a, Audio)
	seq := uint16(0)
	say := func(mark string, loss float64, queue time.Duration) (pt uint8, payload string) {
		t.Helper()
		b.x.carries(s.lane.Batch(), carriage{1_000_000, loss, queue, 0}, time.Now())
		seq++
		a.say(Audio, seq, []byte(mark))
		b.hears("a", Audio, mark)
		b.mu.Lock()
		defer b.mu.Unlock()
		all := b.got["a audio"]
		last := all[len(all)-1]
		return last.PayloadType, string(last.Payload)
	}
	for _, c := range []struct {
		mark     string
		loss     float64
		queue    time.Duration
		pt       uint8
		contains int // bytes of payload
	}{
		{"one", 0, 0, ptOpus, 3},
		{"two", 0.02, 0, ptOpus, 3},
		{"six", 0.05, 0, ptRED, 4 + 1 + 3 + 3},
		{"ten", 0.02, 0, ptRED, 4 + 1 + 3 + 3}, // it goes on until hardly any is lost
		{"may", 0.15, 0, ptRED, 4 + 4 + 1 + 3 + 3 + 3},
		{"not", 0.15, stands + 1, ptOpus, 3}, // it may be what is sent
		{"nor", 0.15, 0, ptOpus, 3},          // nor soon after,
		{"end", 0, 0, ptOpus, 3},
	} {
		pt, payload := say(c.mark, c.loss, c.queue)
		if pt != c.pt || len(payload) != c.contains {
			t.Errorf("%s at %v of loss, %s of queue: type %d, %q", c.mark, c.loss, c.queue, pt, payload)
		}
		if pt == ptRED {
			p := rtp.Packet{PayloadType: ptRED, Payload: []byte(payload)}
			if !undouble(&p) || p.PayloadType != ptOpus || string(p.Payload) != c.mark {
				t.Errorf("%s: taken apart %+v", c.mark, p)
			}
		}
	}
	var h red.History
	for _, broken := range [][]byte{{}, {0x80 | ptOpus}, h.Wrap(nil, 0, ptVP8, 1, 1, []byte("x"))} {
		if p := (rtp.Packet{PayloadType: ptRED, Payload: broken}); undouble(&p) {
			t.Errorf("%x is taken for RED with Opus", broken)
		}
	}
}

// TestVoiceIsAskedFor: what of a voice was lost on a short way is asked for, and sent on late; on a
// long one it is not.
func TestVoiceIsAskedFor(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	b.routed(a, Audio)
	say := func(seq uint16, mark string) {
		t.Helper()
		a.say(Audio, seq, []byte(mark))
		b.hears("a", Audio, mark)
	}
	a.x.pub.rtt.Store(int64(soon + time.Millisecond))
	say(1, "one")
	say(3, "three")
	a.x.pub.rtt.Store(int64(30 * time.Millisecond))
	say(4, "four")
	say(6, "six")
	nack := a.awaitControl("NACK", func(p rtcp.Packet) bool { _, ok := p.(*rtcp.TransportLayerNack); return ok }).(*rtcp.TransportLayerNack)
	if got := nack.Nacks[0].PacketList(); !slices.Equal(got, []uint16{5}) {
		t.Errorf("asked for %v, want 5", got)
	}
	say(5, "five")
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.got["a audio"]
	if five, six := all[len(all)-1], all[len(all)-2]; five.SequenceNumber+1 != six.SequenceNumber || string(five.Payload) != "five" {
		t.Errorf("five came as %d after six as %d", five.SequenceNumber, six.SequenceNumber)
	}
}

// TestThinVoice: who speaks to somebody on a poor connection is told to take less, until that is
// better for a while.
func TestThinVoice(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	b.routed(a, Audio)
	is := func(what string, want ...int) {
		t.Helper()
		a.await(what, func() bool { return slices.Equal(a.voices, want) })
	}
	b.x.carries(s.lane.Batch(), carriage{rate: thin - 1}, time.Now())
	is("request for a thin voice", thinVoice)
	b.x.carries(s.lane.Batch(), carriage{rate: thick + 1}, time.Now())
	b.x.room.mu.Lock()
	if !b.x.thin {
		t.Error("it is well at once")
	}
	b.x.slim = b.x.slim.Add(-long)
	b.x.room.mu.Unlock()
	b.x.carries(s.lane.Batch(), carriage{rate: thick + 1}, time.Now())
	is("word that it may take more", thinVoice, 0)
	if len(b.voices) > 0 {
		t.Errorf("who hears was told %v", b.voices)
	}
}
