package edge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/edge/sfu"
	"bailiwick/edge/signal"
	"bailiwick/failover"
	"bailiwick/problem"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/webhook"
)

// runner runs the failover machine of one consult: one goroutine, to which everything that
// happens comes through the inbox, joins too. It decides nothing.
type runner struct {
	rooms *runners
	id    consult.ID
	inbox chan any      // *joining, or a failover.Event; never buffered
	world chan struct{} // conflated: there is a new World, or doubt
	doubt atomic.Bool   // the store was restored
	done  chan struct{} // closed when the inbox is read no more
	// record is what is known of the consult, for those who ask.
	record atomic.Pointer[consult.Placement]

	mu       sync.Mutex
	timeline []router.Line

	chosen  consult.Profile                 // by a clinician, in the call; empty: none was
	present atomic.Pointer[consult.Profile] // the one in force, for those who ask
	machine *failover.Room
	conns   map[failover.Seat]*conn
	counted atomic.Bool // as a load of the edge

	withdrawn bool // the law's countdown runs
	told      teller
	backend   atomic.Pointer[webhook.Consult] // what it tells of; nil: there is nobody to tell
}

// conn is one client's connection to the room.
type conn struct {
	*joining
	session *sfu.Session // nil until it was admitted
}

// joining is a client who waits to be answered.
type joining struct {
	seat     failover.Seat
	token    consult.Token
	hello    *signal.Hello
	out      *outbox
	answer   chan answer // of one
	answered bool
	// take seats the client's media.
	take func(room string, seat sfu.Seat, session string, sink sfu.Sink) (*sfu.Session, error)
	// polite: a seat that is taken is not taken over.
	polite bool
}

// answer is one of three: a seat, a refusal, or a message that sends the client elsewhere.
type answer struct {
	room    *runner
	session *sfu.Session
	welcome signal.Welcome
	refused *problem.Document
	move    *signal.Move
	to      *steer.Edge // of move
}

// seats numbers the connections of this process.
var seats atomic.Uint64

func newRunner(r *runners, id consult.ID) *runner {
	return &runner{rooms: r, id: id, inbox: make(chan any), world: make(chan struct{}, 1), done: make(chan struct{}),
		machine: failover.New(r.edge.cfg.ID, r.edge.cfg.Region), conns: map[failover.Seat]*conn{}}
}

// put hands an event to the room, if it is still there.
func (rm *runner) put(ev any) {
	select {
	case rm.inbox <- ev:
	case <-rm.done:
	}
}

// poke tells of a new World.
func (rm *runner) poke() {
	select {
	case rm.world <- struct{}{}:
	default:
	}
}

func (rm *runner) run(ctx context.Context, stopping bool) {
	defer rm.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	if stopping {
		rm.step(failover.Stopping{})
	}
	for first := true; first || !rm.machine.Empty(); first = false {
		switch at := rm.machine.Wake(); {
		case first: // whoever it was opened for may have gone
			timer.Reset(helloTimeout)
		case at.IsZero():
			timer.Stop()
		default:
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return
		case <-rm.world:
			if rm.doubt.Swap(false) {
				rm.step(failover.Restored{})
			} else {
				rm.step(failover.World{})
			}
		case <-timer.C:
			rm.step(failover.Time{})
		case ev := <-rm.inbox:
			switch ev := ev.(type) {
			case *joining:
				rm.join(ev)
			case choice:
				rm.choose(ev)
			case failover.Event:
				rm.happened(ev)
			}
		}
	}
}

func (rm *runner) close() {
	rm.rooms.forget(rm)
	rm.countdown(false)
	if rm.counted.Load() {
		rm.rooms.release()
		rm.edge().pressure.end(rm.id)
	}
	for _, c := range rm.conns {
		c.drop()
	}
	rm.tellClosed(time.Now())
}

// join asks the machine for a seat.
func (rm *runner) join(j *joining) {
	if j.polite && rm.taken(j.token.Participant) {
		(&conn{joining: j}).reply(answer{refused: problem.New(problem.SeatTaken, "the participant is here already, by another connection")})
		return
	}
	rm.conns[j.seat] = &conn{joining: j}
	in := open
	if !rm.counted.Load() && !j.hello.Park {
		in = rm.rooms.enter(&j.token.Terms)
		if in == open || in == voice {
			rm.load(&j.token.Terms, in)
		}
	}
	rm.step(failover.Joined{Seat: j.seat, Token: j.token, Parked: j.hello.Park, Stranded: j.hello.Stranded, Full: in == full, Busy: in == busy,
		Resumes: rm.edge().sfu.Holds(string(rm.id), string(j.token.Participant), j.hello.Session)})
}

// load has the consult, which is counted in, be a load.
func (rm *runner) load(t *consult.Terms, in entry) {
	profile := t.Profile
	if rm.chosen != "" {
		profile = rm.chosen
	}
	rm.counted.Store(true)
	rm.edge().pressure.begin(rm, t, profile, in)
}

// happened takes an event that some connection may end with.
func (rm *runner) happened(ev failover.Event) {
	switch ev := ev.(type) {
	case failover.Left:
		rm.remove(ev.Seat, 0)
	case failover.Lost:
		if c := rm.conns[ev.Seat]; c != nil && !rm.machine.Holds(ev.Seat) {
			// Superseded: what it carries goes on until the new connection does.
			rm.remove(ev.Seat, failover.ResumeGrace)
		}
	}
	rm.step(ev)
}

// remove closes a connection's media, after a while.
func (rm *runner) remove(n failover.Seat, after time.Duration) {
	c := rm.conns[n]
	if c == nil {
		return
	}
	delete(rm.conns, n)
	switch {
	case c.session == nil:
	case after > 0:
		time.AfterFunc(after, c.session.Close)
	default:
		c.session.Leave()
		rm.rooms.group.Go(c.session.Close) // it waits for the transport
	}
}

// drop ends a connection with its room.
func (c *conn) drop() {
	if c.session == nil {
		c.reply(answer{refused: problem.New(residency.RegionDraining, "this edge is closing")})
		return
	}
	c.out.over.Store(true)
	c.out.stop()
	c.session.Close()
}

func (c *conn) reply(a answer) {
	if !c.answered {
		c.answered = true
		c.answer <- a
	}
}

func (rm *runner) edge() *Edge { return rm.rooms.edge }

// step feeds the machine, does what it says, and tells of it.
func (rm *runner) step(ev failover.Event) {
	w, now := rm.edge().cfg.World.Current(), time.Now()
	rm.turn(ev, w, now)
	rm.tell(w, now)
}

func (rm *runner) turn(ev failover.Event, w *steer.World, now time.Time) {
	actions := rm.machine.Step(ev, w, now)
	rm.told.note(actions, rm.edge())
	rm.record.Store(rm.known(now)) // whoever is answered may ask for it at once
	rm.show()
	var failed []failover.Seat
	for _, a := range actions {
		if n, ok := rm.do(a, w, now); !ok {
			failed = append(failed, n)
		}
	}
	if rm.machine.Running() && !rm.counted.Load() { // one who unparks is admitted, full or not
		t := rm.machine.Terms()
		rm.rooms.add()
		rm.load(&t, open)
	} else if !rm.machine.Active() && rm.counted.Load() {
		rm.counted.Store(false)
		rm.rooms.release()
		rm.edge().pressure.end(rm.id)
	}
	for _, n := range failed {
		rm.remove(n, 0)
		rm.turn(failover.Left{Seat: n}, w, now)
	}
}

// known is the consult's record, or what the tokens tell of it where the record was not to be
// had: enough to show and to end it.
func (rm *runner) known(now time.Time) *consult.Placement {
	if p := rm.machine.Record(); p != nil {
		return p
	}
	t := rm.machine.Terms()
	if t.Epoch == 0 {
		return nil
	}
	p := &consult.Placement{Terms: t, Region: rm.edge().cfg.Region, Created: now, Expires: now.Add(consult.Life)}
	for _, c := range rm.conns {
		p.Participants = append(p.Participants, consult.Participant{ID: c.token.Participant, Role: c.token.Role})
	}
	return p
}

// do carries one action out. ok is false where a seat could not be given.
func (rm *runner) do(a failover.Action, w *steer.World, now time.Time) (n failover.Seat, ok bool) {
	e := rm.edge()
	switch a := a.(type) {
	case failover.Admit:
		return a.Seat, rm.admit(a, w, now)
	case failover.Refuse:
		c := rm.conns[a.Seat]
		delete(rm.conns, a.Seat)
		c.reply(answer{refused: refusal(w, a.Verdict)})
	case failover.Move:
		rm.move(a, w, now)
	case failover.Close:
		if c := rm.conns[a.Seat]; c != nil {
			if c.session == nil {
				c.reply(answer{refused: problem.New(problem.Conflict, "the seat was asked for again, by a newer connection")})
			}
			c.out.over.Store(true)
			c.out.stop()
			rm.remove(a.Seat, 0)
		}
	case failover.End:
		rm.rooms.markEnded(rm.id, now)
		rm.countdown(false)
		ended := signal.Ended{Type: signal.TypeEnded, Reason: a.Reason}
		if a.Reason == "law" {
			ended.Code, ended.Citation = string(a.Verdict.Code), a.Verdict.Citation()
		}
		e.sfu.End(string(rm.id), ended)
		for n := range rm.conns {
			rm.remove(n, 0)
		}
	case failover.Withdraw:
		m := signal.Withdrawal{Type: signal.TypeWithdrawal}
		if !a.EndsAt.IsZero() {
			at := a.EndsAt.UTC().Truncate(time.Second)
			m.Code, m.Citation, m.EndsAt = string(a.Verdict.Code), a.Verdict.Citation(), &at
			m.Seconds = int(max(0, a.EndsAt.Sub(now).Round(time.Second)/time.Second))
		}
		rm.countdown(m.EndsAt != nil)
		for _, c := range rm.conns {
			if c.session != nil {
				c.out.put(m)
			}
		}
	case failover.Place:
		rm.place(a)
	case failover.Read:
		rm.read()
	case failover.Record:
		e.record(a.Evidence)
	}
	return 0, true
}

// countdown keeps count of the rooms that the law has left no place.
func (rm *runner) countdown(runs bool) {
	if runs != rm.withdrawn {
		rm.withdrawn = runs
		if runs {
			rm.rooms.withdrawn.Add(1)
		} else {
			rm.rooms.withdrawn.Add(-1)
		}
	}
}

// refusal words why somebody may not be here.
func refusal(w *steer.World, v residency.Verdict) *problem.Document {
	switch v.Code {
	case failover.ConsultEnded:
		return problem.New(v.Code, "ask for a new link")
	case residency.RegionFull:
		return problem.New(v.Code, "this edge is at its limit, and no other may take the consult")
	}
	return problem.Unlawful(w, v)
}

func (rm *runner) admit(a failover.Admit, w *steer.World, now time.Time) bool {
	e, c := rm.edge(), rm.conns[a.Seat]
	session, err := c.take(string(rm.id), sfu.Seat{Participant: string(c.token.Participant), Role: string(c.token.Role), Parked: a.Parked,
		Layers: slices.Contains(c.hello.Features, "layers"), Sealed: c.token.E2EE, InClear: func() { rm.inClear(c.joining) }},
		c.hello.Session, c.out.put)
	if errors.Is(err, sfu.ErrRoomFull) {
		c.reply(answer{refused: problem.New(problem.RoomFull, "a consult takes at most 6 participants")})
		return false
	}
	if errors.Is(err, sfu.ErrNotLive) {
		c.reply(answer{refused: problem.New(problem.NotLive, "whom to play is not here; without ?participant=ID there must be one other participant")})
		return false
	}
	if err != nil {
		p := problem.New(problem.Internal, "")
		e.cfg.Log.Error("join failed", "consult", rm.id, "err", err, "problem", p.ID)
		c.reply(answer{refused: p})
		return false
	}
	c.session = session
	e.sfu.Profile(string(rm.id), allotted(rm.profile()))
	e.pressure.limit(rm.id)
	a.Terms.Profile = rm.profile().Kept()
	c.reply(answer{room: rm, session: session, welcome: e.welcome(w, &a.Terms, &c.token, session.ID(), now)})
	return true
}

// inClear refuses who sends what is not encrypted in a consult that is, end to end. What it sent
// has gone no further.
func (rm *runner) inClear(j *joining) {
	p := problem.New(problem.NotEncrypted, "media came that are not encrypted under the client's KIDs: they are dropped, and the seat is given up")
	rm.edge().cfg.Log.Error("media in the clear in an end-to-end encrypted consult", "consult", rm.id, "problem", p.ID)
	rm.edge().refusals.add(p.Code)
	j.out.put(refusedBy(p))
}

// move tells one client to join elsewhere.
func (rm *runner) move(a failover.Move, w *steer.World, now time.Time) {
	e, c := rm.edge(), rm.conns[a.Seat]
	reg, to := w.Edge(a.Token.Edge)
	if to == nil {
		e.cfg.Log.Error("consult placed on an edge that this node does not know", "consult", rm.id, "to", a.Token.Edge)
		if c.session == nil {
			delete(rm.conns, a.Seat)
			c.reply(answer{refused: problem.New(residency.RegionUnhealthy, "the consult is at "+string(a.Token.Edge)+", which this edge does not know")})
		}
		return
	}
	a.Token.Profile = rm.profile().Kept() // where the consult goes on it is as it was
	token, err := e.router.Signer.Sign(&a.Token, now)
	if err != nil {
		e.cfg.Log.Error("move token not signed", "consult", rm.id, "err", err)
		return
	}
	m := signal.Move{Type: signal.TypeMove, URL: router.WebSocketURL(to.Host), Token: token, Epoch: a.Token.Epoch, Reason: a.Reason, Place: place(w, reg.ID)}
	if c.session == nil {
		delete(rm.conns, a.Seat)
		c.reply(answer{move: &m, to: to})
		return
	}
	c.out.moved.Store(a.Token.Edge != e.cfg.ID)
	c.out.put(m)
}

// place writes a placement in its turn.
func (rm *runner) place(a failover.Place) {
	rm.work(rm.rooms.places, func(ctx context.Context) {
		out, p := rm.edge().router.Records.Place(ctx, a.Terms, a.Notify, a.Lost)
		if out == failover.Written {
			rm.edge().cfg.Log.Info("consult placed", "consult", rm.id, "to", a.Terms.Edge, "epoch", a.Terms.Epoch, "reason", a.Reason)
		}
		if p != nil && out == failover.Beaten {
			rm.put(failover.Heard{Terms: p.Terms, Ended: p.Ended, Record: p})
		}
		rm.put(failover.Wrote{Terms: a.Terms, Outcome: out})
	})
}

// read asks for the record; where there is none nobody is told.
func (rm *runner) read() {
	rm.work(rm.rooms.reads, func(ctx context.Context) {
		p, recorded, err := rm.edge().router.Records.Read(ctx, rm.id)
		if err == nil && (recorded || p.Ended) {
			rm.put(failover.Heard{Terms: p.Terms, Ended: p.Ended, Record: p})
		}
	})
}

// work queues a job of the room's, without making the room wait for it.
func (rm *runner) work(jobs chan<- func(context.Context), job func(context.Context)) {
	rm.rooms.group.Go(func() {
		select {
		case jobs <- job:
		case <-rm.done:
		case <-rm.rooms.ctx.Done():
		}
	})
}
