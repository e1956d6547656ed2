package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"bailiwick/consult"
	"bailiwick/failover"
	"bailiwick/region"
	"bailiwick/sim/page"
)

// talk is one consult, from its making to its end.
type talk struct {
	s       *Sim
	name    string // in scripts: c1
	kind    string
	id      consult.ID
	made    bool
	by      *node // whose router made it, and which of its lives
	byInc   int
	links   []int         // tickets of the participants, first ones
	at      region.EdgeID // that the links open
	persons []*person
	sees    talkCheck
}

// person is one participant: who they are, how the network is for them, and the pages
// that they have open.
type person struct {
	t      *talk
	i      int
	r      *random
	cuts   [][2]int // by edge: of signalling, of media
	tabs   []*tab
	wants  bool    // to be in the call
	ghosts []*wire // parked seats
}

// tab is one page with its storage: main.js and leg.js.
type tab struct {
	p      *person
	name   string
	page   *page.State
	shown  bool
	wires  []*wire
	timers map[string]uint64 // the newest of each name
	made   uint64
	lazy   bool           // the gap timer waits for the current leg to fall silent
	kept   []page.Address // sessionStorage
	wasUp  bool           // the current leg carried media at the last look
}

// wire is one leg's socket and transport, the client's end and the edge's.
type wire struct {
	tab      *tab
	leg      int
	e        *node
	inc      int // of the edge's process, once connected
	ticket   int
	session  string
	stranded bool
	park     bool

	room *room
	conn *conn

	dropped   bool // by the page: nothing is told to it any more
	open      bool // the edge's end of the socket
	closed    bool // the page was told
	toPage    []func()
	toEdge    []func()
	pageAt    time.Duration // in order
	edgeAt    time.Duration
	looks     bool // a look is due
	lastAlive bool
	lastHeard int
	silent    int
}

func (s *Sim) talk(id consult.ID) *talk {
	for _, t := range s.talks {
		if t.id == id {
			return t
		}
	}
	return nil
}

func (p *person) name() string { return fmt.Sprint(p.t.name, ".", p.i) }

func joinURL(edge region.EdgeID) string { return "wss://" + string(edge) + "/v1/join" }

func (s *Sim) edgeOf(url string) *node {
	return s.node(strings.TrimSuffix(strings.TrimPrefix(url, "wss://"), "/v1/join"))
}

// open opens the link: a fresh page, or one that has a seat to take up.
func (p *person) open(from []page.Address) *tab {
	tb := &tab{p: p, name: fmt.Sprint(p.name(), "#", len(p.tabs)), page: page.New(), shown: true, timers: map[string]uint64{}}
	p.tabs = append(p.tabs, tb)
	if from == nil {
		from = []page.Address{{URL: joinURL(p.t.at), Token: fmt.Sprint(p.t.links[p.i])}}
	}
	tb.kept = from
	tb.tell(&page.Event{Type: "open", Granted: true, Addresses: from})
	tb.tell(&page.Event{Type: "devices"})
	if tb.page.Step == "ready" {
		tb.tell(&page.Event{Type: "join"})
	}
	return tb
}

// shut closes a tab: a clean end of its sockets, or none at all.
func (tb *tab) shut(clean bool) {
	tb.shown = false
	for _, w := range tb.wires {
		if !w.dropped {
			w.dropped = true
			w.hangUp(clean)
		}
	}
	tb.wires = nil
}

func (tb *tab) ms() int64 { return int64(tb.p.t.s.now/time.Millisecond) + 1 }

// tell is dispatch.
func (tb *tab) tell(e *page.Event) {
	s := tb.p.t.s
	if !tb.shown {
		return
	}
	s.note("page", tb.name, e.Type, uint64(e.Leg))
	was := tb.page.InCall()
	fx := page.Step(tb.page, e, tb.ms()) // carrying one out is never a step
	for i := range fx {
		tb.perform(&fx[i])
	}
	if tb.page.Step == "stopped" {
		s.sees.stopped(tb, was, e)
	}
}

func (tb *tab) perform(fx *page.Effect) {
	s := tb.p.t.s
	switch fx.Do {
	case "connect":
		tb.connect(fx)
	case "adopt":
		if w := tb.wire(fx.Leg); w != nil {
			tb.wasUp = true
			w.touch()
		}
	case "drop", "leave":
		w := tb.wire(fx.Leg)
		if w == nil {
			return
		}
		w.dropped = true
		tb.wires = slices.DeleteFunc(tb.wires, func(x *wire) bool { return x == w })
		if fx.Do == "leave" {
			w.sendLeave()
		}
		w.hangUp(true)
	case "save":
		tb.kept = slices.Clone(tb.page.Addresses)
	case "forget":
		tb.kept = slices.Clone(tb.page.Addresses)
		for i := range tb.kept {
			tb.kept[i].Session = ""
		}
		if fx.Token {
			tb.kept = nil
		}
	case "cancel":
		tb.timers[fx.Name] = 0
		if fx.Name == "gap" {
			tb.lazy = false
		}
	case "timer":
		if fx.Name == "notice" || fx.Name == "peers" {
			return
		}
		tb.made++
		made := tb.made
		tb.timers[fx.Name] = made
		if fx.Name == "gap" {
			tb.lazy = false
		}
		name := fx.Name
		s.after(time.Duration(fx.MS)*time.Millisecond, func() {
			if tb.shown && tb.timers[name] == made {
				tb.ring(name)
			}
		})
	}
}

// ring is a timer that is over. A page looks at its counters four times a second, and
// while media pass that only moves its clock on: the looks that change nothing are made up
// for here, and the gap timer sleeps until the media stop.
func (tb *tab) ring(name string) {
	if w := tb.currentWire(); name == "gap" && w != nil && (tb.wasUp || w.alive()) {
		tb.lazy = true
		return
	}
	tb.tell(&page.Event{Type: "timer", Name: name, Dice: tb.p.r.float()})
}

func (tb *tab) wire(id int) *wire {
	for _, w := range tb.wires {
		if w.leg == id {
			return w
		}
	}
	return nil
}

func (tb *tab) currentWire() *wire {
	if l := tb.page.Current(); l != nil {
		return tb.wire(l.ID)
	}
	return nil
}

// alive tells whether the leg's connection lives: bytes come from the edge.
func (w *wire) alive() bool { return w.conn != nil && w.conn.session != nil && w.conn.session.flows() }

// touch lets the page look at the leg's counters soon.
func (w *wire) touch() {
	if w.looks || w.dropped || w.tab == nil {
		return
	}
	w.looks = true
	s := w.tab.p.t.s
	s.after(w.tab.p.r.between(50*time.Millisecond, pollEvery), func() {
		w.looks = false
		w.look()
	})
}

func (w *wire) look() {
	tb := w.tab
	if w.dropped || !tb.shown || w.conn == nil || w.conn.session == nil {
		return
	}
	l := tb.page.Leg(w.leg)
	if l == nil {
		return
	}
	alive, heard := w.alive(), w.conn.session.hears()
	changed := alive != w.lastAlive || heard != w.lastHeard
	if l.Current {
		if tb.wasUp && !alive { // its clock stood at the last packet
			tb.tell(&page.Event{Type: "pulse", Leg: w.leg, Alive: true, Heard: heard})
			if tb.lazy {
				tb.perform(&page.Effect{Do: "timer", Name: "gap", MS: page.Gaps[0]})
			}
		}
		tb.wasUp = alive
	}
	w.lastAlive, w.lastHeard = alive, heard
	if changed || alive && (!l.Current || tb.page.Gap > 0) {
		tb.tell(&page.Event{Type: "pulse", Leg: w.leg, Alive: alive, Heard: heard})
	}
	if l := tb.page.Leg(w.leg); alive && l != nil && !l.Current && !w.looks {
		w.looks = true
		tb.p.t.s.after(time.Second, func() { // it waits for others to arrive
			w.looks = false
			w.look()
		})
	}
}

func (p *person) sigPath(e *node) bool { return p.cuts[e.slot][0] == 0 }

func (w *wire) mediaPath() bool {
	return w.tab.p.cuts[w.e.slot][1] == 0 && w.e.alive && w.e.inc == w.inc
}

// latency is one way's.
func (w *wire) latency() time.Duration {
	return w.tab.p.r.between(8*time.Millisecond, 60*time.Millisecond)
}

func (tb *tab) connect(fx *page.Effect) {
	s := tb.p.t.s
	w := &wire{tab: tb, leg: fx.Leg, e: s.edgeOf(fx.Address.URL), session: fx.Address.Session, stranded: fx.Stranded}
	fmt.Sscan(fx.Address.Token, &w.ticket)
	tb.wires = append(tb.wires, w)
	w.dial(3*w.latency(), time.Second)
}

// dial tries to connect; a lost packet is sent again after 1, 3 and 7 s.
func (w *wire) dial(d, again time.Duration) {
	s := w.tab.p.t.s
	s.after(d, func() {
		if w.dropped || w.open {
			return
		}
		switch {
		case !w.tab.p.sigPath(w.e), !w.e.alive && w.e.dark:
			w.dial(again, 2*again)
		case !w.e.alive:
			w.close()
		default:
			w.open, w.inc = true, w.e.inc
			w.tab.tell(&page.Event{Type: "opened", Leg: w.leg})
			w.up(func() { w.e.edge.hello(w) })
		}
	})
}

// up carries one message to the edge, in order, while the path is there.
func (w *wire) up(do func()) {
	s := w.tab.p.t.s
	w.edgeAt = max(w.edgeAt, s.now+w.latency())
	s.after(w.edgeAt-s.now, func() {
		if len(w.toEdge) > 0 || !w.tab.p.sigPath(w.e) {
			w.toEdge = append(w.toEdge, do)
			return
		}
		if w.open && w.e.alive && w.e.inc == w.inc {
			do()
		}
	})
}

// down carries one to the page.
func (w *wire) down(do func()) {
	s := w.tab.p.t.s
	w.pageAt = max(w.pageAt, s.now+w.latency())
	s.after(w.pageAt-s.now, func() {
		if len(w.toPage) > 0 || !w.tab.p.sigPath(w.e) {
			w.toPage = append(w.toPage, do)
			return
		}
		if !w.dropped {
			do()
		}
	})
}

// pathChanged flushes what waited, or begins to count silence.
func (w *wire) pathChanged() {
	s := w.tab.p.t.s
	w.touch()
	if w.tab.p.sigPath(w.e) {
		edge, back := w.toEdge, w.toPage
		w.toEdge, w.toPage = nil, nil
		for _, do := range edge {
			w.up(do)
		}
		for _, do := range back {
			w.down(do)
		}
		return
	}
	w.silent++
	silent := w.silent
	s.after(w.tab.p.r.between(15*time.Second, 25*time.Second), func() {
		if w.silent == silent && w.open && !w.tab.p.sigPath(w.e) && w.e.alive && w.e.inc == w.inc {
			w.lose() // the edge's pings were not answered
		}
	})
}

// lose is the edge's end of a socket that ended without a word.
func (w *wire) lose() {
	if !w.open {
		return
	}
	w.open = false
	w.toEdge = nil
	if w.conn != nil && !w.conn.done {
		w.conn.gone = w.tab.p.t.s.now
		w.room.happened(failover.Lost{Seat: w.conn.seat})
	}
	w.close()
}

// reset breaks the socket at both ends.
func (w *wire) reset() {
	if w.open && w.e.alive && w.e.inc == w.inc {
		w.lose()
	}
}

// shut is the edge that closes the socket.
func (w *wire) shut() {
	if w.open {
		w.open = false
		w.close()
	}
}

// close tells the page that the socket is closed.
func (w *wire) close() {
	if w.e.dark {
		return
	}
	w.down(func() {
		if !w.closed {
			w.closed = true
			w.tab.tell(&page.Event{Type: "closed", Leg: w.leg, Dice: w.tab.p.r.float()})
		}
	})
}

// sendLeave gives the seat up.
func (w *wire) sendLeave() {
	if w.open {
		w.up(func() {
			if w.conn != nil && !w.conn.done {
				w.open = false
				w.conn.gone = w.tab.p.t.s.now
				w.room.happened(failover.Left{Seat: w.conn.seat})
			}
		})
	}
}

// hangUp is the page's end that closes: with a closing handshake, or by dying.
func (w *wire) hangUp(clean bool) {
	if !w.open {
		return
	}
	if w.conn != nil && w.conn.session != nil && clean {
		w.conn.session.stop() // RTCPeerConnection.close: nothing comes any more
	}
	w.up(func() {
		c := w.conn
		w.open = false
		if c == nil || c.done {
			return
		}
		c.gone = w.tab.p.t.s.now
		if c.moved && clean {
			w.room.happened(failover.Left{Seat: c.seat})
			return
		}
		w.room.happened(failover.Lost{Seat: c.seat})
	})
}

// What the edge says.

func (w *wire) refuse(code string) {
	w.down(func() {
		e := &page.Event{Type: "refused", Leg: w.leg, Dice: w.tab.p.r.float()}
		e.Refusal.Code = code
		w.tab.tell(e)
	})
	w.shut()
}

func (w *wire) sendEnded(reason string) {
	w.down(func() { w.tab.tell(&page.Event{Type: "ended", Leg: w.leg, Reason: reason}) })
	if c := w.conn; c != nil {
		w.e.in(time.Millisecond, func() {
			w.shut()
			if !c.done {
				w.room.happened(failover.Left{Seat: c.seat}) // over: it has nothing to come back for
			}
		})
	}
}

func (w *wire) welcome(rm *room, t *consult.Terms) {
	n := rm.e.n
	c := w.conn
	e := &page.Event{Type: "welcome", Leg: w.leg, Session: c.session.id, Epoch: t.Epoch,
		Place: page.Place{Region: string(rm.e.region), Country: strings.ToUpper(string(rm.e.region[:2]))}}
	there := c.token
	there.Terms = *t
	token := fmt.Sprint(n.sign(there))
	for _, id := range append(slices.Clone(t.Standby), t.Edge) {
		if _, to := n.cur.Edge(id); to != nil && id != rm.e.id {
			e.Standby = append(e.Standby, page.Address{Edge: string(id), URL: joinURL(id), Token: token})
		}
	}
	w.down(func() {
		w.tab.tell(e)
		w.negotiate(n.r.between(80*time.Millisecond, 600*time.Millisecond), 0)
	})
}

// negotiate brings the media up, as long as the path lets it.
func (w *wire) negotiate(d, waited time.Duration) {
	s := w.tab.p.t.s
	s.after(d, func() {
		x := w.conn.session
		if w.dropped || x == nil || x.stopped || x.up {
			return
		}
		if w.mediaPath() {
			w.tab.tell(&page.Event{Type: "progress", Leg: w.leg})
			x.connect()
			return
		}
		if waited > 25*time.Second { // ICE has failed
			if l := w.tab.page.Leg(w.leg); l != nil && !l.Current {
				w.tab.tell(&page.Event{Type: "closed", Leg: w.leg, Dice: w.tab.p.r.float()})
			}
			return
		}
		w.negotiate(500*time.Millisecond, waited+d)
	})
}

func (w *wire) sendMove(a *failover.Move, ticket int, over bool) {
	to := a.Token.Edge
	e := &page.Event{Type: "move", Leg: w.leg, Edge: string(to), URL: joinURL(to), Token: fmt.Sprint(ticket), Epoch: a.Token.Epoch, Dice: w.tab.p.r.float()}
	w.down(func() { w.tab.tell(e) })
	if over {
		w.shut()
	}
}

// The backend.

func (s *Sim) make(name, kind string, by *node) {
	t := &talk{s: s, name: name, kind: kind, id: consult.ID(fmt.Sprintf("c%d%s", s.Script.Seed, name))}
	p := placement(kind)
	recorded, refused, err := by.edge.router.Make(context.Background(), p, t.id, by.time().Truncate(time.Second))
	by.client.took()
	s.sees.made(s, t, p, by, recorded, refused, err)
	if refused != nil || err != nil {
		return
	}
	t.made, t.at, t.by, t.byInc = true, p.Edge, by, by.inc
	for i := range p.Participants {
		t.links = append(t.links, by.sign(p.Token(i, by.time())))
		t.persons = append(t.persons, &person{t: t, i: i, r: newRand(s.Script.Seed, fmt.Sprint(name, ".", i)), cuts: make([][2]int, len(s.nodes))})
	}
	s.talks = append(s.talks, t)
	s.note("made", string(t.id), string(p.Edge), p.Epoch)
}

// end asks a node to end the consult, and another one if that cannot.
func (t *talk) end(by *node, tries int) {
	if t.sees.ended {
		return
	}
	s := t.s
	if by.alive {
		_, recorded, err := by.edge.router.End(context.Background(), t.id, by.time())
		by.client.took()
		s.note("delete", by.id, string(t.id), uint64(tries))
		if err == nil {
			s.sees.ended(t, by, recorded)
			return
		}
	}
	if tries < 40 {
		next := s.edges[(by.slot+1)%len(s.edges)]
		s.after(2*time.Second, func() { t.end(next, tries+1) })
	}
}
