package sfu

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pion/rtcp"

	house "bailiwick/edge/sfu/rtp"
	"bailiwick/edge/signal"
)

// room is one consult's participants on this SFU.
type room struct {
	id  string
	sfu *SFU

	mu    sync.Mutex
	seats map[string]*participant
}

// participant is the holder of one seat. During a resumption it has two sessions:
// the earlier one carries media until the newer one is up.
type participant struct {
	id, role string
	parked   bool
	state    signal.State
	session  *Session
	earlier  *Session
	tracks   [2]*published // newest of each kind
}

// Session is one connection of one participant.
type Session struct {
	id        string
	room      *room
	who       *participant
	transport transport
	sink      Sink
	connected bool
	closed    bool

	pairs       []*pair
	seq         int
	outstanding bool // an offer waits for its answer
	stale       bool // what was offered is no longer what is wanted
}

// pair is two m-lines that show one other participant, or nobody yet.
type pair struct {
	shows *participant
	subs  [2]*subscription
}

func (r *room) joinLocked(seat Seat, session string, sink Sink) (*Session, error) {
	p := r.seats[seat.Participant]
	if p == nil {
		if len(r.seats) >= r.sfu.cfg.MaxParticipants {
			return nil, ErrRoomFull
		}
		p = &participant{id: seat.Participant, role: seat.Role, parked: seat.Parked, state: signal.State{Mic: true, Camera: true, ReceiveVideo: true}}
	}
	x := &Session{id: newSessionID(), room: r, who: p, sink: sink}
	resumes := p.session != nil && session != "" && p.session.id == session
	if resumes {
		x.id = session
	}
	t, err := r.sfu.engine.connect(x)
	if err != nil {
		return nil, fmt.Errorf("room %s: connect: %w", r.id, err)
	}
	x.transport = t
	r.seats[p.id] = p
	if p.earlier != nil {
		r.closeSessionLocked(p.earlier)
		p.earlier = nil
	}
	if old := p.session; old != nil {
		if resumes {
			p.earlier = old
		} else {
			old.tell(signal.Ended{Type: signal.TypeEnded, Reason: "replaced"})
			r.closeSessionLocked(old)
		}
	}
	p.session, p.parked = x, seat.Parked
	r.changedLocked()
	return x, nil
}

// tell hands one message to the client; nothing follows a closed session.
func (x *Session) tell(m any) {
	if !x.closed {
		x.sink(m)
	}
}

// ID is the session's name, which its client gives back to resume.
func (x *Session) ID() string { return x.id }

// Answer applies the client's answer to the offer of the same seq; an answer to an
// older offer is ignored.
func (x *Session) Answer(a signal.Answer) error {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	if x.closed || !x.outstanding || a.Seq != x.seq {
		return nil
	}
	if err := x.transport.Answer(a.SDP); err != nil {
		return err
	}
	x.outstanding = false
	for _, p := range x.pairs {
		for _, s := range p.subs {
			if s.from != nil && s.from.kind == Video {
				s.from.askKeyframe(time.Now())
			}
		}
	}
	if x.stale {
		x.offerLocked()
	}
	return nil
}

// State takes what the client sends and wants.
func (x *Session) State(s signal.State) {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	if x.closed {
		return
	}
	x.who.state = s
	x.room.changedLocked()
}

// Unpark takes the seat: from here on the participant sends and hears.
func (x *Session) Unpark() {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	if x.closed || !x.who.parked {
		return
	}
	x.who.parked = false
	x.room.changedLocked()
}

// Close leaves the seat, unless a newer session has it.
func (x *Session) Close() {
	x.room.mu.Lock()
	x.room.leaveLocked(x)
	empty := len(x.room.seats) == 0
	x.room.mu.Unlock()
	if empty {
		x.room.sfu.forget(x.room)
	}
}

func (r *room) leaveLocked(x *Session) {
	p := x.who
	r.closeSessionLocked(x)
	switch {
	case p.earlier == x:
		p.earlier = nil
	case p.session == x:
		if p.earlier != nil {
			r.closeSessionLocked(p.earlier)
		}
		if r.seats[p.id] == p {
			delete(r.seats, p.id)
			r.changedLocked()
		}
	}
}

// closeSessionLocked ends one connection; its tracks end with it. The transport
// closes outside the lock: its readers call back into the room.
func (r *room) closeSessionLocked(x *Session) {
	if x.closed {
		return
	}
	x.closed = true
	for _, t := range x.who.tracks {
		if t != nil && t.session == x {
			r.unpublishLocked(t)
		}
	}
	for _, p := range x.pairs {
		p.showLocked(nil)
	}
	r.sfu.closing.Go(func() { x.transport.Close() })
}

// changedLocked brings every session to what the room is now: who it shows, what
// it may receive, who is there. It is level-triggered and idempotent.
func (r *room) changedLocked() {
	for _, id := range r.orderLocked() {
		x := r.seats[id].session
		if x.assignLocked() || x.seq == 0 {
			x.offerLocked()
		}
		r.subscribeLocked(x)
	}
	r.tellPeersLocked()
}

func (r *room) orderLocked() []string {
	ids := make([]string, 0, len(r.seats))
	for id := range r.seats {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// assignLocked gives every other seated participant a pair of m-lines and reports
// whether the offer must be renewed.
func (x *Session) assignLocked() bool {
	changed := false
	want := map[*participant]bool{}
	if !x.who.parked {
		for _, p := range x.room.seats {
			if p != x.who && !p.parked {
				want[p] = true
			}
		}
	}
	for _, p := range x.pairs {
		if p.shows != nil && !want[p.shows] {
			p.showLocked(nil)
			changed = true
		}
		delete(want, p.shows)
	}
	for _, id := range x.room.orderLocked() {
		who := x.room.seats[id]
		if !want[who] {
			continue
		}
		p := x.freePairLocked()
		if p == nil {
			return changed
		}
		p.showLocked(who)
		changed = true
	}
	if len(x.pairs) == 0 { // room for the first other, so that it needs no new m-line
		x.freePairLocked()
	}
	return changed
}

// freePairLocked finds two idle m-lines or adds them; nil when the transport fails.
func (x *Session) freePairLocked() *pair {
	for _, p := range x.pairs {
		if p.shows == nil {
			return p
		}
	}
	p := &pair{}
	for kind := Audio; kind <= Video; kind++ {
		o, err := x.transport.AddOut(kind, fmt.Sprintf("peer%d", len(x.pairs)))
		if err != nil {
			x.room.sfu.cfg.Log.Error("media line not added", "consult", x.room.id, "err", err)
			return nil
		}
		p.subs[kind] = &subscription{out: o, session: x}
	}
	x.pairs = append(x.pairs, p)
	return p
}

// showLocked points the pair at another participant, or at nobody.
func (p *pair) showLocked(who *participant) {
	p.shows = who
	if who == nil {
		for _, s := range p.subs {
			s.takeLocked(nil)
		}
	}
}

// takeLocked moves a subscription to another track.
func (s *subscription) takeLocked(t *published) {
	s.mu.Lock()
	from := s.from
	s.from = t
	s.mu.Unlock()
	if from == t {
		return
	}
	if from != nil {
		from.editLocked(func(list []*subscription) []*subscription {
			return slices.DeleteFunc(list, func(o *subscription) bool { return o == s })
		})
	}
	if t != nil {
		t.editLocked(func(list []*subscription) []*subscription { return append(list, s) })
		if t.kind == Video {
			t.askKeyframe(time.Now())
		}
	}
}

func (p *published) editLocked(f func([]*subscription) []*subscription) {
	var list []*subscription
	if old := p.subs.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = f(list)
	p.subs.Store(&list)
}

// subscribeLocked connects the session's m-lines to the tracks they should carry.
func (r *room) subscribeLocked(x *Session) {
	for _, p := range x.pairs {
		for kind := Audio; kind <= Video; kind++ {
			var t *published
			if p.shows != nil && (kind == Audio || x.who.state.ReceiveVideo) {
				t = p.shows.tracks[kind]
			}
			p.subs[kind].takeLocked(t)
		}
	}
}

// offerLocked sends a new offer, or notes that one is due once the outstanding one
// is answered.
func (x *Session) offerLocked() {
	if x.closed {
		return
	}
	if x.outstanding {
		x.stale = true
		return
	}
	sdp, err := x.transport.Offer()
	if err != nil {
		x.room.sfu.cfg.Log.Error("offer not made", "consult", x.room.id, "err", err)
		return
	}
	x.seq++
	x.outstanding, x.stale = true, false
	m := signal.Offer{Type: signal.TypeOffer, SDP: sdp, Seq: x.seq, Tracks: []signal.Track{}}
	for _, p := range x.pairs {
		if p.shows == nil {
			continue
		}
		for kind, s := range p.subs {
			m.Tracks = append(m.Tracks, signal.Track{MID: s.out.MID(), Participant: p.shows.id, Kind: Kind(kind).String()})
		}
	}
	x.tell(m)
}

func (r *room) tellPeersLocked() {
	for _, to := range r.seats {
		m := signal.Peers{Type: signal.TypePeers, Peers: []signal.Peer{}}
		for _, id := range r.orderLocked() {
			p := r.seats[id]
			if p == to || p.parked || to.parked {
				continue
			}
			m.Peers = append(m.Peers, signal.Peer{Participant: p.id, Role: p.role, Mic: p.state.Mic, Camera: p.state.Camera,
				Connected: p.session.connected || p.earlier != nil && p.earlier.connected})
		}
		to.session.tell(m)
	}
}

func (r *room) snapshotLocked() Room {
	s := Room{ID: r.id, Participants: len(r.seats)}
	for _, p := range r.seats {
		if p.session.connected {
			s.Connected++
		}
		for _, t := range p.tracks {
			if t != nil {
				s.Tracks++
			}
		}
	}
	return s
}

func (r *room) endLocked(reason string) {
	for _, p := range r.seats {
		p.session.tell(signal.Ended{Type: signal.TypeEnded, Reason: reason})
	}
	r.closeLocked()
}

func (r *room) closeLocked() {
	for id, p := range r.seats {
		r.closeSessionLocked(p.session)
		if p.earlier != nil {
			r.closeSessionLocked(p.earlier)
		}
		delete(r.seats, id)
	}
}

// dropIfEmptyLocked forgets a room that a failed join made.
func (r *room) dropIfEmptyLocked() {
	if len(r.seats) == 0 {
		r.sfu.closing.Go(func() { r.sfu.forget(r) })
	}
}

// Connected follows the transport: once the newer of two sessions is up, the
// earlier one closes.
func (x *Session) Connected(up bool) {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	if x.closed || x.connected == up {
		return
	}
	x.connected = up
	if p := x.who; up && p.session == x && p.earlier != nil {
		x.room.closeSessionLocked(p.earlier)
		p.earlier = nil
	}
	x.room.tellPeersLocked()
}

// Track begins one published track. A participant has one of each kind; a newer
// one takes the older one's place.
func (x *Session) Track(kind Kind, ssrc uint32, codec string, clockRate uint32) packets {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	if x.closed {
		return nil
	}
	t := &published{session: x, kind: kind, ssrc: ssrc, codec: codec, frame: clockRate / 50, ring: &house.Ring{}, stats: house.Stats{ClockRate: clockRate}}
	if kind == Video {
		t.frame = clockRate / 30
	}
	x.who.tracks[kind] = t
	for _, p := range x.room.seats {
		x.room.subscribeLocked(p.session)
	}
	return t
}

func (r *room) unpublishLocked(t *published) {
	if t.session.who.tracks[t.kind] != t {
		return
	}
	t.session.who.tracks[t.kind] = nil
	for _, p := range r.seats {
		r.subscribeLocked(p.session)
	}
}

// Feedback answers a subscriber's RTCP.
func (x *Session) Feedback(o out, packets []rtcp.Packet) {
	x.room.mu.Lock()
	var sub *subscription
	for _, p := range x.pairs {
		for _, s := range p.subs {
			if s.out == o {
				sub = s
			}
		}
	}
	x.room.mu.Unlock()
	if sub != nil {
		sub.feedback(packets)
	}
}
