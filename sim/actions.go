package sim

import (
	"context"
	"slices"
	"strconv"
	"time"

	"bailiwick/failover"
	"bailiwick/region"
	"bailiwick/sim/page"
	"bailiwick/steer"
	"bailiwick/steer/world"
)

// verbs are those of scripts, with the number of their arguments.
var verbs = map[string]int{
	"make": 3, "join": 2, "leave": 2, "reload": 2, "tab": 2, "crash": 2, "reset": 2, "retry": 2, "park": 4, "end": 2, "get": 2,
	"kill": 3, "freeze": 3, "stop": 3, "cut": 3, "part": 3, "far": 5, "store": 2, "restore": 1, "flaky": 2, "lag": 2, "dns": 2,
	"mode": 4, "maint": 2, "jump": 2, "paper": 3, "flag": 1, "region": 2,
}

// act does one action. What names something that is not there does nothing: a shrunk
// schedule has many of those.
func (s *Sim) act(a *Action) {
	arg := a.Args
	last, _ := time.ParseDuration(arg[len(arg)-1])
	switch a.Verb {
	case "make":
		if n := s.node(arg[2]); n != nil && n.alive && s.named(arg[0]) == nil {
			s.make(arg[0], arg[1], n)
		}
	case "join", "leave", "reload", "tab", "crash", "reset", "retry", "park":
		if p := s.person(arg[0], arg[1]); p != nil {
			p.act(a.Verb, arg)
		}
	case "end":
		if t := s.named(arg[0]); t != nil && s.node(arg[1]) != nil {
			t.sees.asked = true
			t.end(s.node(arg[1]), 0)
		}
	case "get":
		if t, n := s.named(arg[0]), s.node(arg[1]); t != nil && n != nil && n.alive {
			p, recorded, err := n.edge.router.Look(context.Background(), t.id)
			n.client.took()
			s.sees.looked(s, t, p, recorded, err)
		}
	case "kill", "freeze":
		if n := s.node(arg[0]); n != nil && n.alive {
			d, _ := time.ParseDuration(arg[1])
			n.kill(a.Verb == "freeze")
			n.remember(arg[2])
			s.back(n, d)
		}
	case "stop":
		if n := s.node(arg[0]); n != nil && n.alive && !n.stopping && n.edge != nil {
			d, _ := time.ParseDuration(arg[1])
			n.stop(func() {
				n.remember(arg[2])
				s.back(n, d)
			})
		}
	case "cut":
		s.cut(arg[0], arg[1], last)
	case "part":
		s.cut(arg[0], arg[1], last)
		s.cut(arg[1], arg[0], last)
	case "far":
		if p := s.person(arg[0], arg[1]); p != nil {
			p.far(arg[2], arg[3], last)
		}
	case "store":
		what := &s.store.away
		if arg[0] == "hang" {
			what = &s.store.hangs
		}
		s.count(what, last, func() {
			for _, n := range s.nodes {
				n.link()
			}
		})
	case "restore":
		if s.store.away+s.store.hangs == 0 {
			s.store.restore(s.now - last)
		}
	case "flaky":
		if n := s.node(arg[0]); n != nil {
			s.count(&n.flaky, last, nil)
		}
	case "lag":
		if n := s.node(arg[0]); n != nil {
			s.count(&n.lag, last, nil)
		}
	case "dns":
		s.lookups(last)
	case "mode":
		s.mode(region.ID(arg[0]), arg[1], arg[2], arg[3])
	case "maint":
		if in := s.store.instance(arg[0]); in != nil {
			s.maintain(arg[0], 1)
			s.lasts(last, func() { s.maintain(arg[0], -1) })
		}
	case "jump":
		if n := s.node(arg[0]); n != nil {
			s.jump(n, last)
			s.lasts(40*time.Second, func() { s.jump(n, -last) })
		}
	case "paper":
		s.paper(arg[0], arg[1], last)
	case "flag":
		s.flag(false)
		s.lasts(last, func() { s.flag(true) })
	case "region":
		s.laws.gone[region.ID(arg[0])]++
		s.remap()
		s.lasts(last, func() {
			s.laws.gone[region.ID(arg[0])]--
			s.remap()
		})
	}
}

// count is a fault that lasts, and may be under way twice.
func (s *Sim) count(what *int, d time.Duration, changed func()) {
	add := func(by int) {
		*what += by
		s.lastCut = s.now
		if changed != nil {
			changed()
		}
	}
	add(1)
	s.lasts(d, func() { add(-1) })
}

// back starts a dead process again.
func (s *Sim) back(n *node, d time.Duration) {
	if s.healed {
		d = min(d, time.Second)
	}
	s.lasts(d, func() {
		if !n.alive {
			n.start()
		}
	})
}

func (s *Sim) cut(from, to string, d time.Duration) {
	at := func(name string) int {
		if n := s.node(name); n != nil {
			return n.slot
		}
		return len(s.nodes)
	}
	f, t := at(from), at(to)
	if f == t {
		return
	}
	s.count(&s.cuts[f][t], d, func() {
		for _, i := range []int{f, t} {
			if (f == len(s.nodes) || t == len(s.nodes)) && i < len(s.nodes) {
				s.nodes[i].link()
			}
		}
	})
}

// mode is an operator's word, written where the store is.
func (s *Sim) mode(id region.ID, mode, span, how string) {
	d, _ := time.ParseDuration(span)
	operator := &client{n: &node{s: s, id: "operator", slot: len(s.nodes), r: s.store.r}}
	rec := steer.ModeRecord{Mode: mode, Reason: "sim"}
	switch how {
	case "expires":
		rec.ExpiresAt = s.time().Add(d)
	case "drill":
		rec.Drill = "d1"
	}
	if world.SetMode(nil, operator, id, rec) != nil {
		return
	}
	s.note("mode", string(id), mode, 0)
	s.lasts(d, func() {
		if how != "expires" || s.healing() {
			s.serve(id)
		}
	})
}

// serve takes the operator's word back, as soon as the store is there to take it.
func (s *Sim) serve(id region.ID) {
	operator := &client{n: &node{s: s, id: "operator", slot: len(s.nodes), r: s.store.r}}
	if world.SetMode(nil, operator, id, steer.ModeRecord{Mode: "serving"}) != nil {
		s.after(2*time.Second, func() { s.serve(id) })
	}
}

// healing: every fault that is undone now is undone before its time.
func (s *Sim) healing() bool { return s.now >= s.Script.Ends() }

func (s *Sim) maintain(id string, by int) {
	if in := s.store.instance(id); in != nil {
		in.maint = max(0, in.maint+by)
		s.store.roster()
	}
}

func (s *Sim) jump(n *node, by time.Duration) {
	n.offset += by
	s.lastCut = s.now
	s.sees.jumped(n, by)
	if n.edge != nil && n.alive {
		for _, rm := range n.edge.rooms {
			rm.wakeAt = time.Time{}
			rm.sleep()
		}
	}
	if n.alive {
		n.wakeAt = 0
		n.sleep()
	}
}

func (s *Sim) paper(name, how string, d time.Duration) {
	l := &s.laws
	if how == "expires" {
		l.expires[name] = s.time().Add(d / 2)
	} else {
		l.expires[name] = time.Time{}
	}
	s.remap()
	s.lasts(d, func() {
		delete(l.expires, name)
		s.remap()
	})
}

// remap is a new map, which every node reads in a while.
func (s *Sim) remap() {
	s.laws.publish()
	for _, n := range s.nodes {
		if n.alive {
			n.remap()
		}
	}
}

func (s *Sim) flag(on bool) {
	s.store.put(flagsAt+"dpf_valid", strconv.AppendBool(nil, on))
}

func (s *Sim) named(name string) *talk {
	for _, t := range s.talks {
		if t.name == name {
			return t
		}
	}
	return nil
}

func (s *Sim) person(name, i string) *person {
	t := s.named(name)
	k, err := strconv.Atoi(i)
	if t == nil || err != nil || k >= len(t.persons) {
		return nil
	}
	return t.persons[k]
}

// shown is the person's page that was opened last and is still there.
func (p *person) shown() *tab {
	for _, tb := range slices.Backward(p.tabs) {
		if tb.shown && tb.page.Step != "stopped" {
			return tb
		}
	}
	return nil
}

func (p *person) act(verb string, arg []string) {
	tb := p.shown()
	s := p.t.s
	if verb == "join" {
		if tb == nil {
			p.wants = true
			p.open(nil)
		}
		return
	}
	if tb == nil {
		return
	}
	switch verb {
	case "leave":
		p.wants = false
		for _, tb := range p.tabs {
			tb.tell(&page.Event{Type: "leave"})
			tb.shut(true)
		}
	case "reload":
		kept := slices.Clone(tb.kept)
		tb.shut(true)
		if len(kept) > 0 {
			s.after(p.r.between(200*time.Millisecond, 2*time.Second), func() {
				if p.wants && p.shown() == nil {
					p.open(kept)
				}
			})
		}
	case "tab": // the link, opened once more
		p.open(nil)
	case "crash":
		p.wants = false
		for _, tb := range p.tabs {
			tb.shut(false)
		}
	case "reset":
		for _, w := range slices.Clone(tb.wires) {
			w.reset()
		}
	case "retry":
		tb.tell(&page.Event{Type: "retry"})
	case "park":
		if e := s.node(arg[2]); e != nil {
			d, _ := time.ParseDuration(arg[3])
			tb.park(e, d)
		}
	}
}

// park holds a parked seat on another edge for a while, as pages will with failover: its
// token is the newest that the page has for that edge.
func (tb *tab) park(e *node, d time.Duration) {
	s := tb.p.t.s
	token := ""
	for _, a := range tb.page.Addresses {
		if s.edgeOf(a.URL) == e {
			token = a.Token
		}
	}
	there := slices.ContainsFunc(tb.wires, func(w *wire) bool { return w.e == e })
	if token == "" || tb.currentWire() == nil || there || !e.alive || !tb.p.sigPath(e) {
		return
	}
	ghost := &tab{p: tb.p, name: tb.name + "-parked", page: page.New(), timers: map[string]uint64{}}
	w := &wire{tab: ghost, leg: 1, e: e, inc: e.inc, park: true, open: true, dropped: true}
	w.ticket, _ = strconv.Atoi(token)
	w.up(func() { e.edge.hello(w) })
	s.lasts(d, func() {
		w.up(func() {
			if w.conn != nil && !w.conn.done {
				w.open = false
				w.conn.gone = s.now
				w.room.happened(failover.Left{Seat: w.conn.seat})
			}
		})
	})
	tb.p.ghosts = append(tb.p.ghosts, w)
}

// far is a path that is broken for this one person.
func (p *person) far(where, what string, d time.Duration) {
	s := p.t.s
	for _, e := range s.edges {
		if where != "all" && e.id != where {
			continue
		}
		add := func(by int) {
			if what != "media" {
				p.cuts[e.slot][0] += by
			}
			if what != "signal" {
				p.cuts[e.slot][1] += by
			}
			p.t.sees.cut = s.now
			for _, tb := range p.tabs {
				for _, w := range tb.wires {
					if w.e == e {
						w.pathChanged()
						if w.conn != nil && w.conn.session != nil {
							w.conn.session.room.touch()
						}
					}
				}
			}
			for _, w := range p.ghosts {
				if w.e == e && w.open {
					w.pathChanged()
				}
			}
		}
		add(1)
		s.lasts(d, func() { add(-1) })
	}
}

// lookups asks every DNS node again and again, through a resolver that keeps answers.
func (s *Sim) lookups(d time.Duration) {
	for _, n := range s.nodes {
		if n.edge != nil {
			continue
		}
		for _, kind := range []string{"de", "fr", "ae", "ie"} {
			for at := time.Duration(0); at < d; at += 3 * time.Second {
				s.after(at, func() {
					if n.alive {
						s.sees.resolved(n, kind)
					}
				})
			}
		}
	}
}
