package sim

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store"
)

const (
	leaseTTL  = 15 * time.Second // edge.leaseTTL
	holdRetry = time.Second      // store.holdRetry
	loadEvery = 250 * time.Millisecond
	linger    = 20 * time.Second
	lookEvery = 10 * time.Second // router's: whether the join key is still published
	keysAt    = "bailiwick/keys/"
	flagsAt   = "bailiwick/law/"
)

// node is a process with a World: steer/world.Writer without its goroutines. edge is nil
// in a DNS node.
type node struct {
	s    *Sim
	id   string
	slot int // in Sim.cuts
	r    *random
	edge *edge

	alive, stopping bool
	dark            bool // while it is dead its machine answers nothing at all
	inc             int  // starts so far
	born, died      time.Duration
	turned          time.Duration // when its way to the store, or what it thinks of a whole region, last changed
	offset          time.Duration // of its clock
	lag, flaky      int

	client  *client
	watches []*watch
	linkGen int
	heard   *world.Heard
	m       *region.Map
	cur     *steer.World
	folded  time.Time
	soon    time.Time
	wakeAt  time.Duration

	kid    string
	saved  *world.Saved         // the last-known-good file
	probes []health.Observation // scratch
	older  *world.Saved         // as it was a minute ago, and then
	oldAt  time.Duration

	said      map[string]string // the registration, as the store has it
	leaseGen  int
	failing   bool
	heardOf   bool   // there was a word to serve
	serial    uint64 // of a DNS node: the greatest answered
	bornClock int64
	deaf      time.Duration          // when it last could not hear the store
	out       [2]time.Duration       // since when an operator has its region, and itself, out
	jumped    time.Duration          // when its clock was last set
	met       map[region.EdgeID]bool // edges that it has known since it started
}

// time is the node's clock.
func (n *node) time() time.Time { return epoch.Add(n.s.now + n.offset) }

// in does it later, if the process is still the same.
func (n *node) in(d time.Duration, do func()) {
	inc := n.inc
	n.s.after(d, func() {
		if n.alive && n.inc == inc {
			do()
		}
	})
}

// synced is what closes Writer.Synced: a word of the store or of the file.
func (n *node) synced() bool {
	n.heardOf = n.heardOf || n.heard.Synced()
	return n.heardOf
}

// watch lays out what the node follows in the store.
func (n *node) watch() {
	kv := func(prefix string, take func(store.Snapshot)) {
		w := &watch{n: n, prefix: prefix}
		w.deliver = func() { take(store.Snapshot{Rev: n.s.store.index, Entries: n.s.store.under(prefix)}) }
		n.watches = append(n.watches, w)
	}
	kv(steer.ModesPrefix, func(s store.Snapshot) { n.changed(n.heard.Modes("", s, n.time())) })
	kv(keysAt, func(s store.Snapshot) { n.changed(n.heard.Keys("", s.Entries)) })
	kv(flagsAt, func(s store.Snapshot) { n.changed(n.heard.Flags("", s.Entries)) })
	w := &watch{n: n, prefix: world.Service}
	w.deliver = func() { n.changed(n.heard.Instances("", n.s.store.list(), n.time())) }
	n.watches = append(n.watches, w)
	if n.s.isEdge(n.id) {
		kv(consult.NoticesTo(region.EdgeID(n.id)), func(s store.Snapshot) { n.edge.notices(s) })
	}
}

func (s *Sim) isEdge(id string) bool { return len(id) > 4 }

func (n *node) start() {
	n.alive, n.stopping, n.dark = true, false, false
	n.inc++
	n.born, n.bornClock = n.s.now, n.time().Unix()
	n.s.lastCut = n.s.now
	n.s.note("start", n.id, "", uint64(n.inc))
	n.m = n.s.laws.m
	n.heard = world.NewHeard(n.m, residency.Shipped(), health.Production(), n.s.key, quiet, "")
	n.cur, n.soon, n.said, n.failing, n.heardOf = nil, time.Time{}, nil, false, n.saved != nil
	if n.saved != nil {
		n.heard.Restore(*n.saved, n.time())
	} else {
		n.kid = fmt.Sprintf("k%s-%d", n.id, n.inc)
	}
	n.s.sees.started(n)
	if n.edge != nil {
		n.edge.start()
	}
	n.fold()
	for _, w := range n.watches {
		w.pending = false
		w.wake()
	}
	if !n.linked() {
		n.link()
	}
	n.in(n.r.between(0, health.Production().Interval), n.tick)
	if n.edge != nil {
		n.in(n.r.between(10*time.Millisecond, 100*time.Millisecond), func() { n.lease(true) })
		n.in(n.r.between(10*time.Millisecond, 100*time.Millisecond), n.publish)
	}
}

// key is router.ParseKey, asked once of each value: every node reads every key.
func (s *Sim) key(value []byte) (steer.JoinKey, error) {
	if k, known := s.keys[string(value)]; known {
		return k, nil
	}
	k, err := router.ParseKey(value)
	if err == nil {
		s.keys[string(value)] = k
	}
	return k, err
}

// publish puts the join key into the store.
func (n *node) publish() {
	x := make([]byte, 32)
	copy(x, n.kid)
	value := fmt.Sprintf(`{"x":%q,"node":%q,"expires":%q}`, base64.RawURLEncoding.EncodeToString(x), n.id, n.time().Add(26*time.Hour).UTC().Format(time.RFC3339))
	_, err := n.client.Put(nil, keysAt+n.kid, []byte(value))
	n.client.took()
	if err != nil {
		n.in(time.Second, n.publish)
		return
	}
	n.in(lookEvery, n.published)
}

// published tells whether the key is still there: a restore may have lost it.
func (n *node) published() {
	if len(n.cur.Keys[n.kid].Public) == 0 && n.cur.StoreUp {
		n.publish()
		return
	}
	n.in(lookEvery, n.published)
}

// link hears, in a while, that the store went or came back.
func (n *node) link() {
	n.turned = n.s.now
	if !n.alive {
		return
	}
	n.linkGen++
	gen, up := n.linkGen, n.linked()
	d := n.r.between(time.Second, 10*time.Second)
	switch {
	case up:
		d = n.r.between(100*time.Millisecond, 3*time.Second)
	case n.s.store.away > 0:
		d = n.r.between(50*time.Millisecond, time.Second)
	}
	n.in(d, func() {
		if n.linkGen != gen || n.linked() != up {
			return
		}
		var err error
		if !up {
			err = errUnreachable
		}
		change := world.Same
		for _, part := range []string{steer.ModesPrefix, keysAt, flagsAt, world.Service} {
			change = max(change, n.heard.Reach("", part, err, n.time()))
		}
		if up {
			for _, w := range n.watches {
				w.deliver()
			}
		}
		n.changed(change)
	})
}

// tick lets time pass: Writer.keep and probe.Loop.
func (n *node) tick() {
	now := n.time()
	n.changed(n.heard.Tick(now))
	list := n.probes[:0]
	for i := range n.cur.Regions {
		for k := range n.cur.Regions[i].Edges {
			id := n.cur.Regions[i].Edges[k].ID
			o := health.Observation{Edge: id, Vantage: n.id, At: now}
			if e := n.s.node(string(id)); e != nil {
				o.OK = e.alive && (e == n || n.s.reaches(n.slot, e.slot) && n.s.reaches(e.slot, n.slot)) && e.synced()
			}
			list = append(list, o)
		}
	}
	n.probes = list
	n.changed(n.heard.Observe(now, list...))
	saved := n.heard.Save(now)
	if n.saved = &saved; n.older == nil || n.s.now-n.oldAt > time.Minute {
		n.older, n.oldAt = n.saved, n.s.now
	}
	n.in(health.Production().Interval, n.tick)
}

func (n *node) changed(change world.Change) {
	now := n.time()
	switch at := n.folded.Add(loadEvery); {
	case change == world.News, change == world.Load && !now.Before(at):
		n.fold()
	case change == world.Load && n.soon.IsZero():
		n.soon = at
		n.sleep()
	}
}

func (n *node) fold() {
	now := n.time()
	n.folded, n.soon = now, time.Time{}
	last := n.cur
	n.cur = n.heard.Fold(now)
	n.s.note("fold", n.id, "", n.cur.Generation)
	n.s.sees.folded(n, last)
	n.sleep()
	if n.edge == nil {
		return
	}
	if last != nil && (n.cur.Answers != last.Answers || !maps.Equal(n.cur.Away, last.Away)) {
		n.edge.poke()
	}
	if !n.failing {
		n.lease(false)
	}
}

// sleep folds again when time alone makes another World.
func (n *node) sleep() {
	at := n.cur.Wakes
	if !n.soon.IsZero() && n.soon.Before(at) {
		at = n.soon
	}
	due := n.s.now + max(at.Sub(n.time()), time.Millisecond)
	if n.wakeAt > n.s.now && n.wakeAt <= due {
		return
	}
	n.wakeAt = due
	n.in(due-n.s.now, func() {
		if n.wakeAt != due {
			return
		}
		n.wakeAt = 0
		if now := n.time(); !n.soon.IsZero() && !now.Before(n.soon) || !now.Before(n.cur.Wakes) {
			n.fold()
		} else {
			n.sleep()
		}
	})
}

// remap is a reload of the file.
func (n *node) remap() {
	n.in(n.r.between(300*time.Millisecond, 5*time.Second), func() {
		if n.m != n.s.laws.m {
			n.m = n.s.laws.m
			n.heard.SetMap(n.m)
			n.fold()
		}
	})
}

// lease is store.Hold: it keeps the edge registered, and tells what it applied.
func (n *node) lease(due bool) {
	if n.stopping {
		return
	}
	meta := n.said
	if due || meta == nil {
		if !due {
			return // not registered yet
		}
		self := n.edge.self
		self.Load.Consults, self.Load.Parked = n.edge.count()
		meta = world.Instance(&self, n.edge.region, n.edge.addr).Meta
	}
	meta = maps.Clone(meta)
	maps.Copy(meta, world.Applied(n.cur))
	known := n.said != nil && sameMeta(meta, n.said)
	if !due && known {
		return
	}
	n.leaseGen++
	gen, wait := n.leaseGen, leaseTTL/3
	arrives, answered := n.client.call()
	n.client.took()
	if arrives {
		in := store.Instance{ID: n.id, Service: world.Service, Addr: n.edge.addr, Meta: meta}
		if known && n.s.store.instance(n.id) != nil {
			in.Meta = nil // a renewal
		}
		n.s.store.register(in, leaseTTL)
	}
	if n.failing = !answered; n.failing {
		n.said, wait = nil, holdRetry
	} else {
		n.said = meta
	}
	n.in(wait, func() {
		if n.leaseGen == gen {
			n.lease(true)
		}
	})
}

// kill ends the process at once.
func (n *node) kill(dark bool) {
	if !n.alive {
		return
	}
	n.s.note("dead", n.id, "", 0)
	n.alive, n.dark, n.died = false, dark, n.s.now
	n.s.lastCut = n.s.now
	if n.edge != nil {
		n.edge.die()
	}
}

// stop is SIGTERM. then runs when the process has ended.
func (n *node) stop(then func()) {
	if !n.alive || n.stopping {
		then()
		return
	}
	n.s.note("stopping", n.id, "", 0)
	n.stopping = true
	n.s.lastCut = n.s.now
	if arrives, _ := n.client.call(); arrives {
		n.s.store.deregister(n.id)
	}
	n.in(n.client.took(), func() { n.edge.leave(then) })
}

// reload chooses the state that the next start finds.
func (n *node) remember(how string) {
	switch how {
	case "none":
		n.saved, n.older = nil, nil
	case "old":
		if n.older != nil {
			n.saved = n.older
		}
	}
}

// answer is the DNS node's answer for a consult of one, and its serial.
func (n *node) answer(kind string) (edges []region.EdgeID, serial uint64) {
	c := &steer.Client{Participants: kinds[kind].law[:1], Tenant: n.cur.Map.Tenants[kinds[kind].tenant], Key: steer.Key(kind)}
	at, located := region.Locate(kinds[kind].law[0])
	c.Places = []region.Place{{Jurisdiction: kinds[kind].law[0], Point: at, Located: located}}
	var d steer.Decision
	steer.Rank(n.cur, c, &d)
	if r, e := d.Best(); e != nil {
		edges = append(edges, e.ID)
		for _, k := range d.Candidates[1:] {
			if &n.cur.Regions[k.Region] == r && len(edges) < 2 {
				edges = append(edges, r.Edges[k.Edge].ID)
			}
		}
	}
	return edges, uint64(n.bornClock) + n.cur.Generation
}

var addr = netip.MustParseAddrPort("192.0.2.1:443")
