package sfu

import (
	"sync/atomic"
	"time"

	"bailiwick/edge/sfu/speaker"
	"bailiwick/edge/signal"
)

// loudness adds up how loud a voice is by what its packets say (RFC 6464): how many there were in the
// upper half, and their sum, 0 to 127 each, in the lower.
type loudness struct{ sum atomic.Uint64 }

func (l *loudness) add(level []byte) {
	if len(level) == 1 {
		l.sum.Add(1<<32 | (speaker.Loudest - uint64(level[0]&0x7f)))
	}
}

// take is the mean since it was last taken; of nothing 0. More packets make nobody louder.
func (l *loudness) take() int {
	sum := l.sum.Swap(0)
	if sum == 0 {
		return 0
	}
	return int(uint32(sum)) / int(sum>>32)
}

// floor is who has it in a room. It is guarded by room.mu.
type floor struct {
	speaker  speaker.Speaker
	levels   []speaker.Level // scratch
	listened time.Time
}

// listenLocked finds out who speaks, and tells everybody. It is called whenever somebody reports, so
// that nothing runs where nobody is; what comes too soon is left to the next.
func (r *room) listenLocked(now time.Time) {
	if now.Sub(r.listened) < speaker.Every {
		return
	}
	r.listened, r.levels = now, r.levels[:0]
	for _, p := range r.seats {
		loud := p.media.pub.tracks[Audio].loud.take()
		if p.viewer || !p.up() || p.stated && !p.state.Mic {
			continue
		}
		r.levels = append(r.levels, speaker.Level{ID: p.id, Loud: loud})
	}
	r.speaker.Listen(r.levels, now)
	for _, p := range r.seats {
		p.session.tellSpeakerLocked()
	}
}

// tellSpeakerLocked tells the client who speaks, if it was told otherwise.
func (x *Session) tellSpeakerLocked() {
	if who := x.room.speaker.Who(); who != x.speaker && !x.who.parked && !x.stopped {
		x.speaker = who
		x.sink(signal.Speaker{Type: signal.TypeSpeaker, Participant: who})
	}
}
