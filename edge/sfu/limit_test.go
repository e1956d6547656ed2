package sfu

import (
	"slices"
	"testing"

	"bailiwick/edge/sfu/ladder"
	"bailiwick/edge/signal"
)

// told waits until the client has been told so much of the others' video, and no more.
func (c *client) told(want ...string) {
	c.t.Helper()
	c.await("quality", func() bool { return len(c.quality) >= len(want) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.quality, want) {
		c.t.Errorf("%s was told %q, want %q", c.id, c.quality, want)
	}
	c.quality = nil
}

// A room that is limited to audio keeps it, without a gap in its numbers, and its video begins
// with a keyframe when it is back. Everybody is told, once each.
func TestLimit(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	for _, k := range kinds[:Screen] {
		b.routed(a, k)
	}
	a.say(Audio, 1, []byte("one"))
	a.say(Video, 1, vp8(true, "seen"))
	b.hears("a", Audio, "one")
	b.hears("a", Video, "seen")

	s.Limit("another room", ladder.Audio)
	s.Limit("room", ladder.Spatial)
	s.Limit("room", ladder.Spatial)
	a.told("b reduced edge")
	b.told("a reduced edge")
	s.Limit("room", ladder.Audio)
	a.told("b off edge")
	b.told("a off edge")
	a.say(Video, 2, vp8(true, "unseen"))
	a.say(Audio, 2, []byte("two"))
	b.hears("a", Audio, "two")

	late := join(t, s, "late")
	late.told("a off edge", "b off edge")
	b.told("late off edge")

	s.Limit("room", ladder.Full)
	b.routed(a, Video)
	b.told("a full ", "late full ")
	a.say(Video, 3, vp8(false, "no key"), vp8(true, "seen again"))
	b.hears("a", Video, "seen again")
	b.mu.Lock()
	defer b.mu.Unlock()
	if marks := b.heardLocked("a", Video); !slices.Equal(marks, []string{"seen", "seen again"}) {
		t.Errorf("video %q", marks)
	}
	if p := b.got["a audio"]; p[1].SequenceNumber != p[0].SequenceNumber+1 {
		t.Errorf("audio numbers %d, %d", p[0].SequenceNumber, p[1].SequenceNumber)
	}
}

// Who turned video off is told so, and not that the edge is busy.
func TestChosenQuality(t *testing.T) {
	s := listen(t)
	a, b := join(t, s, "a"), join(t, s, "b")
	s.Limit("room", ladder.Audio)
	a.told("b off edge")
	b.told("a off edge")
	a.x.State(signal.State{Mic: true, Camera: true})
	a.told("b off chosen")
	a.x.State(signal.State{Mic: true, ReceiveVideo: true})
	a.told("b off edge")
	b.told("a off chosen")
	s.Limit("room", ladder.Full)
	a.told("b full ")
	a.x.State(signal.State{Mic: true, Camera: true, ReceiveVideo: true})
	b.told("a full ")
}
