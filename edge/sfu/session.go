package sfu

import (
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bailiwick/edge/sfu/lane"
	"bailiwick/edge/sfu/layer"
	"bailiwick/edge/signal"
)

// Session is one client's connection in one seat: who is there, and over what. What it
// sends is its publisher's, and what it receives its negotiator's. Its methods are safe for
// concurrent use and do nothing once it is closed or another has taken its seat.
type Session struct {
	sfu   *SFU
	room  *room
	who   *participant
	id    string
	sink  Sink
	media transport
	pub   *publisher
	neg   negotiator
	talk  negotiation  // neg, or another's that fills neg.lines
	rate  atomic.Int64 // that the connection carries towards the client, bit/s; 0: not known
	want  atomic.Int64 // that it would have to, for all that could be sent; 0: no more
	obeys bool         // the client takes signal.Layers

	done   chan struct{} // closed by stopLocked
	closed chan struct{} // closed when the transport has closed
	dirty  chan struct{} // something may have to be negotiated, or asked for
	// probing has run go on with what a feedback began.
	probing chan struct{}

	pacing sync.Mutex
	free   time.Time // when the next data may go to the client

	// Guarded by room.mu.
	stopped bool
	speaker string // last told
	up      bool
	came    bool // was up once
	told    bool
	peers   []signal.Peer         // last told
	videos  map[*participant]told // of the others
	asks    mask                  // the layers that the client was last told to send
	allocation
	voices
	brake
}

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
	x.pub.kid.Store(s.KID)
	x.seated(func(p *participant) { p.state, p.stated = s, true })
}

// View takes how large the client shows what it is sent.
func (x *Session) View(v signal.View) {
	x.room.mu.Lock()
	defer x.room.mu.Unlock()
	if x.stopped || x.who.session != x {
		return
	}
	x.who.view = v.Videos
	x.who.media.allocateLocked(time.Now())
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
		x.up, x.came = up, x.came || up
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
	x.pub.silence()
	close(x.done)
}

func (x *Session) tellPeersLocked(seats []*participant) {
	peers := make([]signal.Peer, 0, len(seats))
	for _, p := range seats {
		if p != x.who {
			peers = append(peers, signal.Peer{Participant: p.id, Role: p.role, Mic: p.state.Mic, Camera: p.state.Camera, Screen: p.state.Screen, Connected: p.up()})
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
	probe := time.NewTimer(probeEvery)
	defer probe.Stop()
	var probed time.Time // when something was due last
	for {
		var wait time.Duration
		for _, k := range []Kind{Video, Screen} {
			if w := x.pub.tracks[k].askKeyframe(time.Now()); w > 0 && (wait == 0 || w < wait) {
				wait = w
			}
		}
		if wait > 0 {
			again.Reset(wait)
		}
		select {
		case <-x.done:
			return
		case <-x.dirty:
			x.slow(time.Now())
			x.bound(false)
			if err := x.offer(); err != nil {
				// The client sees nothing new; what it has goes on.
				x.sfu.log.Error("offer not made", "room", x.room.id, "err", err)
			}
		case now := <-tick.C:
			x.report(now)
		case <-again.C:
		case <-x.probing:
			probed = time.Now()
			probe.Reset(probeEvery)
		case now := <-probe.C:
			x.sfu.lend(func(b *lane.Batch) {
				if x.probe(b, now) {
					probed = now
				}
			})
			if now.Sub(probed) < probeFor {
				probe.Reset(probeEvery)
			}
		}
	}
}

// offer sends an offer when there is something new and the last one is answered.
func (x *Session) offer() error {
	return x.talk.offer(x)
}

// Answer applies the client's answer. Its errors wrap ErrBadAnswer: the client
// should be refused.
func (x *Session) Answer(a signal.Answer) error {
	if err := x.talk.answer(x, a); err != nil {
		x.sfu.count.badAnswers.Add(1)
		return fmt.Errorf("%w: %w", ErrBadAnswer, err)
	}
	return nil
}

// stream is the transport's.
func (x *Session) stream(src source) inlet {
	if src.Layer < 0 || src.Layer >= layer.Layers {
		return nil
	}
	s := stream{x.pub.tracks[src.Kind], src.Layer}
	if src.Named {
		s.track.layered.Store(true)
		s.track.stacked.Store(false)
	}
	if src.Repair {
		return &repairs{stream: s}
	}
	return &s
}

// carries is the transport's.
func (x *Session) carries(b *lane.Batch, c carriage, at time.Time) {
	x.rate.Store(int64(c.rate))
	if rtt := x.pub.rtt.Load(); 0 < c.trip && int64(c.trip) < rtt { // reports come late on a poor path
		x.pub.rtt.Store(int64(c.trip))
	}
	x.room.mu.Lock()
	x.loss = c.loss
	if c.queue > stands {
		x.crowded = at
	}
	x.allocateLocked(at)
	x.room.listenLocked(at)
	x.room.mu.Unlock()
	if x.probe(b, at) {
		select {
		case x.probing <- struct{}{}:
		default:
		}
	}
}

func (x *Session) malformed() {
	x.sfu.count.packetsIn.Add(1)
	x.sfu.count.malformed.Add(1)
}
