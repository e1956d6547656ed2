package sim

import (
	"fmt"
	"slices"
	"time"

	"bailiwick/consult"
)

// mediaRoom is what edge/sfu knows of a consult: who has the seat, and whose media pass.
type mediaRoom struct {
	id    consult.ID
	parts []*part
}

type part struct {
	who            consult.ParticipantID
	parked         bool
	session, media *session // as in edge/sfu: who talks, and who carries media
}

// session is one transport.
type session struct {
	id      string
	conn    *conn
	room    *mediaRoom
	part    *part
	up      bool
	stopped bool
}

func (x *session) stop() {
	if !x.stopped {
		x.stopped = true
		x.conn.wire.touch()
	}
}

func (e *edge) mediaRoom(id consult.ID) *mediaRoom {
	for _, m := range e.media {
		if m.id == id {
			return m
		}
	}
	return nil
}

// holds is SFU.Holds.
func (e *edge) holds(id consult.ID, who consult.ParticipantID, session string) bool {
	m := e.mediaRoom(id)
	return m != nil && session != "" && slices.ContainsFunc(m.parts, func(p *part) bool { return p.who == who && p.session.id == session })
}

// seatMedia is SFU.Join.
func (e *edge) seatMedia(id consult.ID, c *conn, parked bool) *session {
	m := e.mediaRoom(id)
	if m == nil {
		m = &mediaRoom{id: id}
		e.media = append(e.media, m)
	}
	x := &session{id: fmt.Sprint("s", c.seat), conn: c, room: m}
	i := slices.IndexFunc(m.parts, func(p *part) bool { return p.who == c.token.Participant })
	if i < 0 {
		i = len(m.parts)
		m.parts = append(m.parts, &part{who: c.token.Participant})
	}
	p := m.parts[i]
	x.part = p
	earlier, carries := p.session, p.media
	p.parked, p.session, p.media = parked, x, x
	switch {
	case earlier == nil:
	case c.wire.session == earlier.id:
		x.id = earlier.id
		if carries.up {
			p.media = carries
		}
	default:
		earlier.conn.wire.sendEnded("replaced")
	}
	for _, old := range []*session{earlier, carries} {
		if old != nil && old != p.media {
			old.stop()
		}
	}
	m.touch()
	return x
}

// connect is the transport of a session that comes up.
func (x *session) connect() {
	if x.stopped || x.up {
		return
	}
	x.up = true
	if p := x.part; p.session == x && p.media != x {
		p.media.stop()
		p.media = x
	}
	x.room.touch()
}

// leaveMedia is Session.Close.
func (e *edge) leaveMedia(x *session) {
	x.stop()
	p, m := x.part, x.room
	switch x {
	case p.session:
		p.media.stop()
		m.parts = slices.DeleteFunc(m.parts, func(q *part) bool { return q == p })
	case p.media:
		p.media = p.session
	}
	if len(m.parts) == 0 {
		e.media = slices.DeleteFunc(e.media, func(q *mediaRoom) bool { return q == m })
	}
	m.touch()
}

// endMedia is SFU.End.
func (e *edge) endMedia(id consult.ID, reason string) {
	m := e.mediaRoom(id)
	if m == nil {
		return
	}
	e.media = slices.DeleteFunc(e.media, func(q *mediaRoom) bool { return q == m })
	for _, p := range m.parts {
		p.session.conn.wire.sendEnded(reason)
		p.session.stop()
		p.media.stop()
	}
	m.parts = nil
}

// touch lets everybody here look at their counters.
func (m *mediaRoom) touch() {
	for _, p := range m.parts {
		p.session.conn.wire.touch()
		p.media.conn.wire.touch()
	}
}

// flows tells whether a session's packets pass now.
func (x *session) flows() bool {
	w := x.conn.wire
	return x.up && !x.stopped && w.mediaPath()
}

// hears counts whom a session's client hears.
func (x *session) hears() (n int) {
	if !x.flows() || x.part.media != x || x.part.parked {
		return 0
	}
	for _, q := range x.room.parts {
		if q != x.part && !q.parked && q.media.flows() {
			n++
		}
	}
	return n
}

// pollEvery is how often a page looks at its counters.
const pollEvery = 250 * time.Millisecond
