package sim

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/failover"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/store"
)

// edge is package edge without its goroutines: rooms, joins and notices of one process.
type edge struct {
	n      *node
	id     region.EdgeID
	region region.ID
	addr   netip.AddrPort
	self   steer.Edge

	router  *router.Router
	rooms   []*room // in the order of their opening
	active  int
	told    map[consult.ID]time.Time
	seen    map[string]uint64
	due     []store.Entry
	mark    mark
	clears  bool
	placed  time.Duration // when the next placement may be written
	media   []*mediaRoom
	leaving bool   // it stops, and its rooms know
	emptied func() // a stopping edge has no room left
}

// mark is edge.mark.
type mark struct {
	rev, shown uint64
	stale      bool
	raised     time.Duration
}

// room is edge.room: it carries out what the failover machine says.
type room struct {
	e       *edge
	id      consult.ID
	t       *talk
	machine *failover.Room
	conns   []*conn
	counted bool
	over    bool
	poked   bool
	wakeAt  time.Time
	wakes   int
	wakesIn time.Duration
	sees    roomCheck
}

// conn is one client's connection to the room.
type conn struct {
	seat     failover.Seat
	wire     *wire
	token    consult.Token
	session  *session
	answered bool
	moved    bool // it was told to join elsewhere
	later    bool // the participant has a newer seat
	done     bool // nothing comes from it any more
	since    time.Duration
	told     time.Duration // when; 0: it was not
	here     time.Duration // since when the consult is here all the same
	gone     time.Duration // when the socket was lost; 0: it was not
}

func newEdge(n *node, reg region.ID) *edge {
	e := &edge{n: n, id: region.EdgeID(n.id), region: reg, addr: addr}
	e.self = steer.Edge{ID: e.id, Host: "https://" + n.id, Media: addr, Turn: addr, Addr4: addr.Addr(), Admits: n.s.Script.Admits}
	return e
}

func (e *edge) start() {
	e.rooms, e.active, e.told, e.seen, e.due, e.clears, e.placed, e.media, e.leaving, e.emptied = nil, 0, map[consult.ID]time.Time{}, map[string]uint64{}, nil, false, 0, nil, false, nil
	e.mark = mark{stale: true, raised: e.n.s.now - markEvery}
	e.router = router.New(router.Config{World: func() *steer.World { return e.n.cur }, Stores: store.Set{"": e.n.client}, Node: e.n.id, Self: e.id,
		Hosted: e.hosted, Hear: e.hear, Log: quiet})
	e.n.in(e.n.r.between(0, time.Second), e.pay)
}

// pay is Records.Run, and the mark's part of edge.clear.
func (e *edge) pay() {
	e.router.Records.Pay(context.Background(), e.n.time())
	e.raise()
	e.n.client.took()
	e.n.in(time.Second, e.pay)
}

const markEvery = 10 * time.Second

func (e *edge) raise() {
	m, key := &e.mark, consult.NoticesTo(e.id)+"edge"
	m.stale = e.router.Records.Heard("") || m.stale
	if e.n.s.now-m.raised < markEvery || !m.stale && m.shown == m.rev {
		return
	}
	is, err := e.n.client.CAS(nil, key, []byte("mine"), m.rev)
	if err == nil {
		m.rev, m.raised, m.stale = is.Rev, e.n.s.now, false
		return
	}
	if err != store.ErrConflict {
		return
	}
	if is, err = e.n.client.Get(nil, key); err == errUnreachable {
		return
	}
	if is.Rev < m.rev {
		e.n.s.note("restored", e.n.id, "", is.Rev)
		e.router.Records.Restored("")
		for _, rm := range e.rooms {
			e.n.in(e.n.r.between(0, 4*time.Second), func() { rm.happened(failover.Restored{}) })
		}
	}
	m.rev, m.stale = is.Rev, true
}

func (e *edge) count() (active, parked int) { return e.active, len(e.rooms) - e.active }

// reserve is the part of runners.enter that asks for seats: neither what moves nor what is urgent does.
func (e *edge) reserve(t *consult.Terms) bool {
	if t.Priority == consult.Routine && t.Epoch == 1 && t.Edge == e.id && e.self.Admits > 0 && e.active >= e.self.Admits {
		return false
	}
	e.active++
	return true
}

// seated is the room of a consult that somebody has a seat in here; nil: there is none.
func (e *edge) seated(id consult.ID) *room {
	if rm := e.find(id); e.n.alive && rm != nil && rm.machine.Seats() > 0 {
		return rm
	}
	return nil
}

func (e *edge) find(id consult.ID) *room {
	for _, rm := range e.rooms {
		if rm.id == id {
			return rm
		}
	}
	return nil
}

func (e *edge) hosted(id consult.ID) *consult.Placement {
	if rm := e.find(id); rm != nil {
		return rm.machine.Record()
	}
	return nil
}

// hear hands on what somebody else did to a consult.
func (e *edge) hear(n consult.Notice) {
	if n.Ended {
		e.markEnded(n.Consult)
	}
	e.n.s.note("hears", e.n.id, string(n.Consult)+" "+string(n.Edge), n.Epoch)
	if rm := e.find(n.Consult); rm != nil {
		e.n.in(0, func() { rm.happened(failover.Heard{Terms: n.Terms, Ended: n.Ended}) })
	}
}

func (e *edge) markEnded(id consult.ID) {
	if _, known := e.told[id]; !known {
		e.told[id] = e.n.time().Add(2 * consult.TokenLife)
		e.n.s.sees.heardEnd(e, id)
	}
}

// notices is edge.notices: a snapshot of what lies under the edge's own prefix.
func (e *edge) notices(s store.Snapshot) {
	mark := consult.NoticesTo(e.id) + "edge"
	now := make(map[string]uint64, len(s.Entries))
	for _, entry := range s.Entries {
		now[entry.Key] = entry.Rev
		if e.seen[entry.Key] == entry.Rev || entry.Key == mark {
			continue
		}
		if n, err := consult.ParseNotice(entry.Value); err == nil {
			if n.Ended {
				e.router.Records.LearnEnd(n.Consult, e.n.time())
			}
			e.hear(n)
		}
		e.mark.stale = true
		e.due = append(e.due, entry)
	}
	e.seen, e.mark.shown = now, now[mark]
	if len(e.due) > 0 && !e.clears {
		e.clears = true
		e.n.in(time.Second, e.clear)
	}
}

func (e *edge) clear() {
	e.clears = false
	for len(e.due) > 0 {
		n := min(len(e.due), store.MaxOps)
		if !e.remove(e.due[:n]) {
			break
		}
		e.due = e.due[n:]
	}
	e.n.client.took()
	if len(e.due) > 0 {
		e.clears = true
		e.n.in(time.Second, e.clear)
	}
}

func (e *edge) remove(entries []store.Entry) bool {
	var ops []store.Op
	for _, entry := range entries {
		ops = append(ops, store.Op{Verb: store.Delete, Key: entry.Key, Rev: entry.Rev})
	}
	_, err := e.n.client.Commit(nil, ops...)
	if err == nil || err == errUnreachable || len(ops) == 1 {
		return err != errUnreachable
	}
	for i := range entries {
		if !e.remove(entries[i : i+1]) {
			return false
		}
	}
	return true
}

// poke tells every room of a new World, each in a moment of its own.
func (e *edge) poke() {
	for _, rm := range e.rooms {
		if rm.poked {
			continue
		}
		rm.poked = true
		e.n.in(e.n.r.between(0, 4*time.Millisecond), func() {
			rm.poked = false
			rm.happened(failover.World{})
		})
	}
}

// hello is edge.join from the first message on.
func (e *edge) hello(w *wire) {
	t := &e.n.s.tickets[w.ticket]
	if code := e.verify(t); code != "" {
		e.n.s.sees.turned(e, t, code)
		w.refuse(code)
		return
	}
	rm := e.open(t.token.Consult)
	c := &conn{seat: e.n.s.sees.seat(), wire: w, token: t.token, since: e.n.s.now}
	w.conn, w.room = c, rm
	rm.join(c)
}

// verify is consult.Verify and edge.admit, with the signature taken for good where the
// key is known.
func (e *edge) verify(t *ticket) (code string) {
	now := e.n.time()
	key, published := e.n.cur.Keys[t.kid]
	unknown := t.kid != e.n.kid && (!published || len(key.Public) != 32)
	switch {
	case unknown && !(e.n.synced() && e.n.cur.StoreUp):
		return "store_unavailable"
	case unknown:
		return "token_invalid"
	case now.Before(t.issued.Add(-consult.Skew)):
		return "token_early"
	case !now.Before(t.token.Expires.Add(consult.Skew)):
		return "token_expired"
	case !t.token.Names(e.id):
		return "wrong_edge"
	}
	if _, ended := e.told[t.token.Consult]; ended {
		return string(failover.ConsultEnded)
	}
	return ""
}

func (e *edge) open(id consult.ID) *room {
	if rm := e.find(id); rm != nil {
		return rm
	}
	rm := &room{e: e, id: id, t: e.n.s.talk(id), machine: failover.New(e.id, e.region)}
	rm.sees.been = map[consult.ParticipantID]bool{}
	e.rooms = append(e.rooms, rm)
	if e.leaving {
		rm.step(failover.Stopping{})
	}
	return rm
}

// join asks the machine for a seat.
func (rm *room) join(c *conn) {
	rm.conns = append(rm.conns, c)
	full := false
	if !rm.counted && !c.wire.park {
		rm.counted = rm.e.reserve(&c.token.Terms)
		full = !rm.counted
	}
	rm.step(failover.Joined{Seat: c.seat, Token: c.token, Parked: c.wire.park, Stranded: c.wire.stranded, Full: full,
		Resumes: rm.e.holds(rm.id, c.token.Participant, c.wire.session)})
	rm.close()
}

// happened takes an event; Left and Lost end a connection.
func (rm *room) happened(ev failover.Event) {
	if rm.over {
		return
	}
	switch ev := ev.(type) {
	case failover.Left:
		rm.remove(ev.Seat, 0)
	case failover.Lost:
		if c := rm.conn(ev.Seat); c != nil && !rm.machine.Holds(ev.Seat) {
			rm.remove(ev.Seat, failover.ResumeGrace)
		}
	}
	rm.step(ev)
	rm.close()
}

// close ends a room that nobody is in.
func (rm *room) close() {
	if rm.over || !rm.machine.Empty() {
		return
	}
	rm.over = true
	e := rm.e
	e.rooms = slices.DeleteFunc(e.rooms, func(x *room) bool { return x == rm })
	if rm.counted {
		e.active--
	}
	for _, c := range rm.conns {
		rm.drop(c)
	}
	rm.conns = nil
	if len(e.rooms) == 0 && e.emptied != nil {
		e.n.in(0, e.emptied)
	}
}

func (rm *room) drop(c *conn) {
	c.done = true
	if c.session == nil {
		if !c.answered {
			c.answered = true
			c.wire.refuse(string(residency.RegionDraining))
		}
		return
	}
	c.wire.shut()
	rm.e.leaveMedia(c.session)
}

func (rm *room) conn(n failover.Seat) *conn {
	for _, c := range rm.conns {
		if c.seat == n {
			return c
		}
	}
	return nil
}

// remove closes a connection's media, after a while.
func (rm *room) remove(n failover.Seat, after time.Duration) {
	c := rm.conn(n)
	if c == nil {
		return
	}
	rm.conns = slices.DeleteFunc(rm.conns, func(x *conn) bool { return x == c })
	c.done = true
	if c.session == nil {
		return
	}
	rm.e.n.in(after, func() { rm.e.leaveMedia(c.session) })
}

// step feeds the machine and does what it says.
func (rm *room) step(ev failover.Event) {
	e := rm.e
	w, now := e.n.cur, e.n.time()
	before := rm.machine.Terms()
	rm.sees.before(rm)
	actions := rm.machine.Step(ev, w, now)
	e.n.s.sees.stepped(rm, ev, before, actions)
	for _, a := range actions {
		rm.do(a)
	}
	if rm.machine.Running() && !rm.counted {
		rm.counted = true
		e.active++
	} else if !rm.machine.Active() && rm.counted {
		rm.counted = false
		e.active--
	}
	rm.sleep()
}

// sleep wakes the machine when time alone changes something.
func (rm *room) sleep() {
	at := rm.machine.Wake()
	if at.Equal(rm.wakeAt) {
		return
	}
	if rm.wakeAt = at; at.IsZero() {
		return
	}
	n := rm.e.n
	n.in(max(at.Sub(n.time()), time.Millisecond), func() {
		if rm.over || !rm.wakeAt.Equal(at) {
			return
		}
		rm.wakeAt = time.Time{}
		if n.s.now-rm.wakesIn > time.Second {
			rm.wakes, rm.wakesIn = 0, n.s.now
		}
		if rm.wakes++; rm.wakes > 500 {
			n.s.fail("spin", "%s wakes the room of %s again and again", n.id, rm.id)
		}
		if n.time().Before(at) { // its clock was set back
			rm.sleep()
			return
		}
		rm.happened(failover.Time{})
		if !rm.over {
			rm.sleep()
		}
	})
}

// do carries one action out.
func (rm *room) do(a failover.Action) {
	e := rm.e
	s := e.n.s
	switch a := a.(type) {
	case failover.Admit:
		c := rm.conn(a.Seat)
		c.answered = true
		for _, x := range rm.conns {
			x.later = x.later || x != c && x.token.Participant == c.token.Participant
		}
		c.session = e.seatMedia(rm.id, c, a.Parked)
		s.note("admit", e.n.id, string(rm.id), uint64(a.Seat))
		c.wire.welcome(rm, &a.Terms)
	case failover.Refuse:
		c := rm.conn(a.Seat)
		rm.conns = slices.DeleteFunc(rm.conns, func(x *conn) bool { return x == c })
		c.done, c.answered = true, true
		s.note("refuse", e.n.id, string(rm.id)+" "+string(a.Verdict.Code), uint64(a.Seat))
		c.wire.refuse(string(a.Verdict.Code))
	case failover.Move:
		rm.move(a)
	case failover.Close:
		s.note("close", e.n.id, string(rm.id), uint64(a.Seat))
		if c := rm.conn(a.Seat); c != nil {
			if c.session == nil {
				c.answered = true
				c.wire.refuse("conflict")
			} else {
				c.wire.shut()
			}
			rm.remove(a.Seat, 0)
		}
	case failover.End:
		s.note("end", e.n.id, string(rm.id)+" "+a.Reason, 0)
		e.markEnded(rm.id)
		e.endMedia(rm.id, a.Reason)
		for _, c := range slices.Clone(rm.conns) {
			rm.remove(c.seat, 0)
		}
	case failover.Withdraw:
		s.note("withdraw", e.n.id, string(rm.id), uint64(a.EndsAt.Unix()))
	case failover.Place:
		s.note("place", e.n.id, string(rm.id)+" "+string(a.Terms.Edge)+" "+a.Reason, a.Terms.Epoch)
		rm.place(a)
	case failover.Read:
		rm.read()
	}
}

// move tells one client to join elsewhere.
func (rm *room) move(a failover.Move) {
	e, c := rm.e, rm.conn(a.Seat)
	_, to := e.n.cur.Edge(a.Token.Edge)
	e.n.s.note("move", e.n.id, string(rm.id)+" "+string(a.Token.Edge)+" "+a.Reason, a.Token.Epoch)
	if c.told = 0; a.Token.Edge != e.id {
		c.told = e.n.s.now
	}
	if to == nil {
		if c.session == nil {
			rm.conns = slices.DeleteFunc(rm.conns, func(x *conn) bool { return x == c })
			c.done, c.answered = true, true
			c.wire.refuse(string(residency.RegionUnhealthy))
		}
		return
	}
	t := e.n.sign(a.Token)
	if c.session == nil {
		rm.conns = slices.DeleteFunc(rm.conns, func(x *conn) bool { return x == c })
		c.done, c.answered = true, true
		c.wire.sendMove(&a, t, true)
		return
	}
	c.moved = a.Token.Edge != e.id
	c.wire.sendMove(&a, t, false)
}

// job is a placement on its way to the store.
type job struct {
	rm   *room
	a    failover.Place
	done bool
}

// place writes a placement in its turn.
func (rm *room) place(a failover.Place) {
	n := rm.e.n
	s := n.s
	j := &job{rm: rm, a: a}
	s.jobs = append(s.jobs, j)
	at := max(s.now+n.r.between(0, 10*time.Millisecond), rm.e.placed)
	rm.e.placed = at + 5*time.Millisecond
	inc := n.inc
	s.after(at-s.now, func() {
		s.jobs = slices.DeleteFunc(s.jobs, func(x *job) bool { return x == j })
		if n.alive && n.inc == inc {
			j.run()
		}
	})
}

func (j *job) run() {
	rm := j.rm
	n := rm.e.n
	if j.done || rm.over { // work: a room that is gone wants no answer, and asks nothing
		return
	}
	j.done = true
	n.client.took()
	out, p := rm.e.router.Records.Place(context.Background(), j.a.Terms, j.a.Notify, j.a.Lost)
	n.in(n.client.took(), func() {
		if p != nil && out == failover.Beaten {
			rm.happened(failover.Heard{Terms: p.Terms, Ended: p.Ended, Record: p})
		}
		rm.happened(failover.Wrote{Terms: j.a.Terms, Outcome: out})
	})
}

// overtake lets another node's placement reach the store in the middle of an exchange.
func (s *Sim) overtake(by *node) {
	if s.nested {
		return
	}
	for _, j := range s.jobs {
		if n := j.rm.e.n; !j.done && n != by && n.alive {
			s.nested = true
			s.note("overtake", n.id, string(j.rm.id), 0)
			j.run()
			s.nested = false
			return
		}
	}
}

func (rm *room) read() {
	n := rm.e.n
	n.in(n.r.between(0, 10*time.Millisecond), func() {
		if rm.over {
			return
		}
		n.client.took()
		p, recorded, err := rm.e.router.Records.Read(context.Background(), rm.id)
		n.in(n.client.took(), func() {
			if err == nil && (recorded || p.Ended) {
				rm.happened(failover.Heard{Terms: p.Terms, Ended: p.Ended, Record: p})
			}
		})
	})
}

// leave empties a stopping edge.
func (e *edge) leave(then func()) {
	e.leaving = true
	exit := func() {
		if e.n.alive {
			e.n.kill(false)
			then()
		}
	}
	for _, rm := range slices.Clone(e.rooms) {
		rm.happened(failover.Stopping{})
	}
	if len(e.rooms) == 0 {
		exit()
		return
	}
	e.emptied = exit
	e.n.in(linger, exit)
}

// die resets every socket. Whose machine is gone with it hears nothing.
func (e *edge) die() {
	for _, rm := range e.rooms {
		rm.over = true
		for _, c := range rm.conns {
			c.done = true
			c.wire.shut()
		}
	}
	e.rooms = nil
	for _, m := range e.media {
		for _, p := range m.parts {
			p.session.stop()
			p.media.stop()
		}
	}
	e.media = nil
}

// sign makes a ticket; its times are of the node's clock.
func (n *node) sign(t consult.Token) int {
	n.s.tickets = append(n.s.tickets, ticket{token: t, kid: n.kid, issued: n.time()})
	return len(n.s.tickets) - 1
}

// ticket is a join token as signed.
type ticket struct {
	token  consult.Token
	kid    string
	issued time.Time
}
