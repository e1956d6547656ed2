package sfu

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bailiwick/edge/sfu/allot"
	"bailiwick/edge/sfu/ladder"
	"bailiwick/edge/signal"
)

// room is one consult's participants.
type room struct {
	id   string
	sent volume

	mu      sync.Mutex
	seats   []*participant // in the order of their joining
	step    ladder.Step    // what the edge's load leaves it of its video
	profile allot.Profile
	floor
}

// volume is what was forwarded: packets, and bytes of payload.
type volume struct{ packets, bytes atomic.Uint64 }

func (v *volume) add(packets, bytes uint64) {
	v.packets.Add(packets)
	v.bytes.Add(bytes)
}

// participant is one seat and who holds it. Others' lines are bound to the
// participant, so a session that takes the seat over goes on in them.
type participant struct {
	id, role string
	parked   bool
	viewer   bool
	state    signal.State
	stated   bool // state is the client's word
	played   []signal.Played
	view     []signal.Viewed
	session  *Session // talks to the client
	media    *Session // carries media: session, or the one that it resumes
}

// up: media passes and the participant takes part.
func (p *participant) up() bool { return p.media.up && !p.parked }

// sends tells whether the others are to have lines for it.
func (p *participant) sends(k Kind) bool { return !p.viewer && (k != Screen || p.state.Screen) }

// width is what it shows a video with, in pixels of its device; said is false where it has not told.
func (p *participant) width(of *participant, k Kind) (w int, said bool) {
	for _, v := range p.view {
		if v.Participant == of.id && v.Screen == (k == Screen) {
			return max(v.Width, 1), true // what is out of sight may be back at once
		}
	}
	return 0, false
}

func (p *participant) hears(k Kind) bool {
	return p.up() && (k == Audio || p.state.ReceiveVideo)
}

func (r *room) join(seat Seat, session string, x *Session, limit int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.seats, func(p *participant) bool { return p.id == seat.Participant })
	if i < 0 {
		if len(r.seats) >= limit {
			return ErrRoomFull
		}
		i = len(r.seats)
		r.seats = append(r.seats, &participant{id: seat.Participant, state: signal.State{ReceiveVideo: true}})
	}
	p := r.seats[i]
	x.room, x.who = r, p
	x.pub.sent = &r.sent
	earlier, carries := p.session, p.media
	x.obeys = seat.Layers
	p.role, p.parked, p.viewer, p.session, p.media = seat.Role, seat.Parked, seat.Viewer, x, x
	switch {
	case earlier == nil:
	case session == earlier.id:
		x.id = earlier.id
		if carries.up {
			p.media = carries
		}
	default:
		p.state, p.stated, p.view = signal.State{ReceiveVideo: true}, false, nil
		earlier.sink(signal.Ended{Type: signal.TypeEnded, Reason: "replaced"})
	}
	for _, s := range []*Session{earlier, carries} {
		if s != nil && s != p.media {
			s.stopLocked()
		}
	}
	r.refreshLocked()
	return nil
}

func (r *room) holds(who, session string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.seats, func(p *participant) bool { return p.id == who && p.session.id == session })
}

// leave reports whether the room is empty now.
func (r *room) leave(x *Session) (empty bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x.stopLocked()
	p := x.who
	switch x {
	case p.session:
		p.media.stopLocked()
		r.seats = slices.DeleteFunc(r.seats, func(q *participant) bool { return q == p })
		r.refreshLocked()
	case p.media: // the one that resumes it is on its way
		p.media = p.session
		r.refreshLocked()
	}
	return len(r.seats) == 0
}

// end stops every session; with a word for them it tells them first.
func (r *room) end(why *signal.Ended) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.seats {
		if why != nil {
			p.session.sink(*why)
		}
		p.session.stopLocked()
		p.media.stopLocked()
	}
	r.seats = nil
}

// refreshLocked derives everything that follows from who is here and how they are:
// who hears whom, what must be negotiated, what each is told. It is level-triggered
// and idempotent: whoever changes something calls it.
func (r *room) refreshLocked() {
	for _, p := range r.seats {
		for _, k := range kinds {
			r.routeLocked(p, k)
		}
	}
	now := time.Now()
	for _, p := range r.seats {
		p.media.allocateLocked(now)
	}
	for _, p := range r.seats {
		p.media.demandLocked(now)
		p.session.kick()
		p.session.tellPeersLocked(r.seats)
		p.session.tellSpeakerLocked()
		p.session.tellQualityLocked(r.seats, now)
	}
}

// routeLocked sets the lines that carry one participant's track. A line that joins
// begins anew: without a gap in its numbers, and with a keyframe.
func (r *room) routeLocked(p *participant, k Kind) {
	t := p.media.pub.tracks[k]
	var to []*line
	if !p.parked && (k == Audio || r.step != ladder.Audio) {
		for _, q := range r.seats {
			if l := lineTo(q.media.neg.lines, p, k); l != nil {
				if l.on = q.hears(k); l.on {
					to = append(to, l)
				}
			}
		}
	}
	from := t.fanout()
	if slices.Equal(from, to) {
		return
	}
	for _, l := range to {
		if !slices.Contains(from, l) {
			l.begin(t)
		}
	}
	t.lines.Store(&to)
}

func (r *room) snapshot() RoomStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := RoomStats{ID: r.id, Participants: len(r.seats), Packets: r.sent.packets.Load(), Bytes: r.sent.bytes.Load()}
	for _, p := range r.seats {
		if p.up() {
			s.Connected++
		}
		if p.media.pub.tracks[Audio].published() {
			s.Audio++
		}
		if p.media.pub.tracks[Video].published() {
			s.Video++
		}
	}
	return s
}
