package sfu

import (
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"bailiwick/edge/signal"
)

// Session is one client's connection in one seat. Its methods are safe for
// concurrent use and do nothing once it is closed or another has taken its seat.
type Session struct {
	sfu   *SFU
	room  *room
	who   *participant
	id    string
	sink  Sink
	media transport
	ssrc  uint32 // of its RTCP, where no line's serves
	rtt   atomic.Int64

	done   chan struct{} // closed by stopLocked
	closed chan struct{} // closed when the transport has closed
	dirty  chan struct{} // something may have to be negotiated
	tracks [2]*track     // what it publishes

	// Guarded by room.mu.
	stopped bool
	up      bool
	lines   []*line // of m-lines 2 and on
	told    bool
	peers   []signal.Peer // last told

	neg     sync.Mutex // held while the transport negotiates
	seq     int        // of the last offer
	waiting bool       // for its answer
	mlines  []Kind     // that it had
}

// firstLine is the m-line of lines[0].
const firstLine = 2

func random32() uint32 {
	var b [4]byte
	crand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])
}

// ID names the session: its client gives it back to resume.
func (x *Session) ID() string { return x.id }

// Unpark takes the seat: from here on the participant is heard and hears. Nothing
// is negotiated, so it is as fast as the message.
func (x *Session) Unpark() {
	x.seated(func(p *participant) { p.parked = false })
}

// State takes what the client sends and wants now.
func (x *Session) State(s signal.State) {
	x.seated(func(p *participant) { p.state = s })
}

// connected is the transport's. A session that resumes an earlier one takes over
// from it here.
func (x *Session) connected(up bool) {
	if x.room == nil {
		return // Join found no seat
	}
	x.update(func() {
		if up && !x.up {
			x.sfu.count.connected.Add(1)
		}
		x.up = up
		if p := x.who; up && p.session == x && p.media != x {
			p.media.stopLocked()
			p.media = x
		}
	})
}

// seated changes the seat, unless another session has it.
func (x *Session) seated(change func(*participant)) {
	x.update(func() {
		if x.who.session == x {
			change(x.who)
		}
	})
}

func (x *Session) update(change func()) {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	if x.stopped {
		return
	}
	change()
	x.room.refreshLocked()
}

// Leave gives the seat up. The connection closes by itself.
func (x *Session) Leave() { x.sfu.leave(x) }

// Close gives the seat up and returns when the connection is closed.
func (x *Session) Close() {
	x.Leave()
	<-x.closed
}

func (x *Session) stopLocked() {
	if x.stopped {
		return
	}
	x.stopped = true
	for _, t := range x.tracks {
		t.lines.Store(nil)
	}
	close(x.done)
}

// lineLocked is the negotiated line that carries p's media of kind k to x.
func (x *Session) lineLocked(p *participant, k Kind) *line {
	for _, l := range x.lines {
		if l.who == p && l.kind == k && l.ready {
			return l
		}
	}
	return nil
}

func (x *Session) tellPeersLocked(seats []*participant) {
	peers := make([]signal.Peer, 0, len(seats))
	for _, p := range seats {
		if p != x.who {
			peers = append(peers, signal.Peer{Participant: p.id, Role: p.role, Mic: p.state.Mic, Camera: p.state.Camera, Connected: p.up()})
		}
	}
	if x.told && slices.Equal(x.peers, peers) {
		return
	}
	x.told, x.peers = true, peers
	x.sink(signal.Peers{Type: signal.TypePeers, Peers: peers})
}

// kick wakes run; many kicks are one.
func (x *Session) kick() {
	select {
	case x.dirty <- struct{}{}:
	default:
	}
}

// run negotiates and reports until the session stops.
func (x *Session) run() {
	defer close(x.closed)
	defer x.media.Close()
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	again := time.NewTimer(0) // when a keyframe may be asked for again
	defer again.Stop()
	for {
		if wait := x.tracks[Video].askKeyframe(time.Now()); wait > 0 {
			again.Reset(wait)
		}
		select {
		case <-x.done:
			return
		case <-x.dirty:
			if err := x.offer(); err != nil {
				// The client sees nothing new; what it has goes on.
				x.sfu.log.Error("offer not made", "room", x.room.id, "err", err)
			}
		case now := <-tick.C:
			x.report(now)
		case <-again.C:
		}
	}
}

// offer sends an offer when there is something new and the last one is answered.
func (x *Session) offer() error {
	x.neg.Lock()
	defer x.neg.Unlock()
	if x.waiting {
		return nil // Answer kicks again
	}
	x.room.mu.Lock()
	next, changed := x.planLocked()
	stopped := x.stopped
	x.room.mu.Unlock()
	if stopped || !changed && x.seq > 0 {
		return nil
	}
	if err := x.apply(next); err != nil {
		return err
	}
	sdp, err := x.media.Offer()
	if err != nil {
		return err
	}
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	x.lines = next
	if x.stopped {
		return nil
	}
	x.seq++
	x.waiting = true
	x.mlines = append(x.mlines[:0], Audio, Video)
	m := signal.Offer{Type: signal.TypeOffer, SDP: sdp, Seq: x.seq, Tracks: []signal.Track{}}
	for i, l := range next {
		x.mlines = append(x.mlines, l.kind)
		if l.who != nil {
			m.Tracks = append(m.Tracks, signal.Track{MID: strconv.Itoa(firstLine + i), Participant: l.who.id, Kind: l.kind.String()})
		}
	}
	x.sfu.count.offers.Add(1)
	x.sink(m)
	return nil
}

// planLocked lists the lines as they should be: those of leavers without anybody,
// one for each kind of everybody else's media, in an idle m-line where there is one.
func (x *Session) planLocked() (next []*line, changed bool) {
	next = slices.Clone(x.lines)
	for i, l := range next {
		if l.who != nil && !slices.Contains(x.room.seats, l.who) {
			next[i] = &line{kind: l.kind}
			changed = true
		}
	}
	for _, p := range x.room.seats {
		for _, k := range kinds {
			if p == x.who || slices.ContainsFunc(next, func(l *line) bool { return l.who == p && l.kind == k }) {
				continue
			}
			i := slices.IndexFunc(next, func(l *line) bool { return l.who == nil && l.kind == k })
			if i < 0 {
				i = len(next)
				next = append(next, nil)
			}
			next[i] = &line{kind: k, who: p}
			changed = true
		}
	}
	return next, changed
}

// apply makes the transport's m-lines what the plan says. A new *line is a change.
func (x *Session) apply(next []*line) error {
	for i, l := range next {
		var was *line
		if i < len(x.lines) {
			was = x.lines[i]
		}
		if l == was {
			continue
		}
		if was != nil && was.who != nil {
			if err := x.media.Shut(firstLine + i); err != nil {
				return fmt.Errorf("m-line %d: shut: %w", firstLine+i, err)
			}
		}
		if l.who == nil {
			continue
		}
		out, err := x.media.Open(firstLine+i, l.kind, l.who.id)
		if err != nil {
			return fmt.Errorf("m-line %d: open: %w", firstLine+i, err)
		}
		l.init(x, out)
	}
	return nil
}

// Answer applies the client's answer. Its errors wrap ErrBadAnswer: the client
// should be refused.
func (x *Session) Answer(a signal.Answer) error {
	if err := x.answer(a); err != nil {
		x.sfu.count.badAnswers.Add(1)
		return fmt.Errorf("%w: %w", ErrBadAnswer, err)
	}
	return nil
}

func (x *Session) answer(a signal.Answer) error {
	x.neg.Lock()
	defer x.neg.Unlock()
	select {
	case <-x.done:
		return nil // replaced or ended: it will hear so
	default:
	}
	if !x.waiting || a.Seq != x.seq {
		return fmt.Errorf("seq %d: no such offer is open", a.Seq)
	}
	if err := checkAnswer(a.SDP, x.mlines); err != nil {
		return err
	}
	if err := x.media.Answer(a.SDP); err != nil {
		select {
		case <-x.done:
			return nil
		default:
		}
		return err
	}
	x.waiting = false
	x.update(func() {
		for _, l := range x.lines {
			l.ready = l.who != nil
		}
	})
	return nil
}
