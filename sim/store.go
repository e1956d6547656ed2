package sim

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"bailiwick/consult"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store"
)

// storage is the store as everybody shares it: one cluster that answers at once, or does
// not answer. Entries are sorted, and a backup shares them until the next write.
type storage struct {
	s         *Sim
	r         *random
	entries   []store.Entry
	shared    bool   // a backup has them too
	rev       uint64 // of the last write ever
	index     uint64 // of the last write that is in: a restore takes it back
	instances []*instance
	left      map[string]time.Duration // when an edge deregistered that is not back
	history   []past
	placed    map[uint64]*consult.Placement // the records by their revisions, read once
	modes     map[uint64]steer.ModeRecord   // likewise
	away      int                           // refuses connections
	hangs     int                           // takes them, and answers nothing
	modeAt    time.Duration                 // when a mode was last written, or restored
	keyAt     time.Duration                 // likewise of join keys
}

type instance struct {
	store.Instance
	expires  time.Duration
	critical bool
	maint    int
}

// past is what a backup of that moment holds.
type past struct {
	at        time.Duration
	entries   []store.Entry
	index     uint64
	instances []instance
}

func (st *storage) find(key string) (int, bool) {
	return slices.BinarySearchFunc(st.entries, key, func(e store.Entry, key string) int { return strings.Compare(e.Key, key) })
}

func (st *storage) read(key string) (value []byte, found bool) {
	i, found := st.find(key)
	if !found {
		return nil, false
	}
	return st.entries[i].Value, true
}

// record is a consult's; nil where there is none.
func (st *storage) record(id consult.ID) *consult.Placement {
	if i, found := st.find(id.Key()); found {
		return st.placed[st.entries[i].Rev]
	}
	return nil
}

func (st *storage) under(prefix string) []store.Entry {
	from, _ := st.find(prefix)
	to := from
	for to < len(st.entries) && strings.HasPrefix(st.entries[to].Key, prefix) {
		to++
	}
	return slices.Clone(st.entries[from:to]) // values are never changed
}

func (st *storage) put(key string, value []byte) store.Entry {
	st.rev++
	st.index = st.rev
	e := store.Entry{Key: key, Value: value, Rev: st.rev}
	i, found := st.find(key)
	if strings.HasPrefix(key, consult.KeyPrefix) {
		p, err := consult.ParsePlacement(value)
		if err != nil {
			st.s.fail("record", "%s: %v", key, err)
			return e
		}
		st.placed[st.rev] = &p
		var old *consult.Placement
		if found {
			old = st.placed[st.entries[i].Rev]
		}
		st.s.sees.wrote(st.s, old, &p)
	}
	st.own()
	if found {
		st.entries[i] = e
	} else {
		st.entries = slices.Insert(st.entries, i, e)
	}
	st.changed(key)
	return e
}

func (st *storage) delete(key string) uint64 {
	i, found := st.find(key)
	if found {
		st.rev++
		st.index = st.rev
		st.own()
		st.entries = slices.Delete(st.entries, i, i+1)
		st.changed(key)
	}
	return st.index
}

// own makes the entries nobody else's, before one is changed.
func (st *storage) own() {
	if st.shared {
		st.entries, st.shared = slices.Clone(st.entries), false
	}
}

func (st *storage) remember() {
	st.shared = true
	p := past{at: st.s.now, entries: st.entries, index: st.index, instances: make([]instance, 0, len(st.instances))}
	for _, in := range st.instances {
		p.instances = append(p.instances, *in)
	}
	st.history = append(st.history, p)
}

// changed wakes who watches the key. Backups are taken each second: see look.
func (st *storage) changed(key string) {
	st.s.note("wrote", key, "", st.rev)
	if strings.HasPrefix(key, steer.ModesPrefix) {
		st.modeAt = st.s.now
	}
	if strings.HasPrefix(key, keysAt) {
		st.keyAt = st.s.now
	}
	for _, n := range st.s.nodes {
		for _, w := range n.watches {
			if strings.HasPrefix(key, w.prefix) {
				w.wake()
			}
		}
	}
}

func (st *storage) instance(id string) *instance {
	for _, in := range st.instances {
		if in.ID == id {
			return in
		}
	}
	return nil
}

// register renews a lease, and takes what is new of the instance.
func (st *storage) register(in store.Instance, ttl time.Duration) {
	delete(st.left, in.ID)
	is := st.instance(in.ID)
	if is == nil {
		is = &instance{}
		st.instances = append(st.instances, is)
	}
	news := is.ID == "" || is.critical || in.Meta != nil && !sameMeta(in.Meta, is.Meta)
	if in.Meta != nil || is.ID == "" {
		is.Instance = in
		slices.SortFunc(st.instances, func(a, b *instance) int { return strings.Compare(a.ID, b.ID) })
	}
	is.critical, is.expires = false, st.s.now+ttl
	if news {
		st.roster()
	}
	st.s.after(ttl, func() {
		if st.instance(in.ID) == is && !is.critical && st.s.now >= is.expires {
			is.critical = true
			st.s.note("lapsed", in.ID, "", 0)
			st.roster()
		}
	})
}

func sameMeta(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

func (st *storage) deregister(id string) {
	st.instances = slices.DeleteFunc(st.instances, func(in *instance) bool { return in.ID == id })
	st.left[id] = st.s.now
	st.roster()
}

// roster wakes who watches the instances.
func (st *storage) roster() {
	for _, n := range st.s.nodes {
		for _, w := range n.watches {
			if w.prefix == world.Service {
				w.wake()
			}
		}
	}
}

// list is what a watcher of the instances is told.
func (st *storage) list() []store.Instance {
	list := make([]store.Instance, len(st.instances))
	for i, in := range st.instances {
		list[i] = in.Instance
		switch list[i].Status = store.Passing; {
		case in.maint > 0:
			list[i].Status = store.Maintenance
		case in.critical:
			list[i].Status = store.Critical
		}
	}
	return list
}

// restore takes the store back to the backup of then.
func (st *storage) restore(then time.Duration) {
	i := len(st.history) - 1
	for i > 0 && st.history[i].at > then {
		i--
	}
	p := st.history[i]
	st.s.sees.restored(st.s, p.entries)
	st.entries, st.shared, st.index, st.modeAt, st.keyAt = p.entries, true, p.index, st.s.now, st.s.now
	maint := map[string]int{}
	for _, in := range st.instances {
		maint[in.ID] = in.maint
	}
	clear(st.left) // who left by a restore did not say so
	st.instances = nil
	for _, in := range p.instances {
		in.maint = maint[in.ID] // an operator's own undoing counts on it
		in.expires = st.s.now + leaseTTL
		st.instances = append(st.instances, &in)
		st.register(store.Instance{ID: in.ID}, leaseTTL)
	}
	for _, n := range st.s.nodes {
		for _, w := range n.watches {
			w.wake()
		}
	}
}

// watch is one node's blocking query.
type watch struct {
	n       *node
	prefix  string
	pending bool
	told    []store.Entry // at the last delivery
	rev     uint64
	deliver func()
}

// wake delivers soon, conflated.
func (w *watch) wake() {
	if w.pending || !w.n.alive {
		return
	}
	w.pending = true
	r := w.n.s.store.r
	d := r.between(time.Millisecond, 60*time.Millisecond)
	if r.chance(0.03) || w.n.lag > 0 {
		d = r.between(500*time.Millisecond, 4*time.Second)
	}
	inc := w.n.inc
	w.n.s.after(d, func() {
		w.pending = false
		if w.n.alive && w.n.inc == inc && w.n.linked() {
			w.deliver()
		}
	})
}

// errUnreachable is the answer of a store that gives none.
var errUnreachable = errors.New("store out of reach")

// client is a node's way to the store. It answers at once in virtual time; what an
// exchange would have lasted is added to cost, and who asked gets the answer so late.
type client struct {
	n    *node
	cost time.Duration
}

// linked tells whether the node can talk with the store, both ways.
func (n *node) linked() bool {
	st := n.s.store
	return st.away == 0 && st.hangs == 0 && n.s.reaches(n.slot, len(n.s.nodes)) && n.s.reaches(len(n.s.nodes), n.slot)
}

// call tells whether a request arrives, and whether its answer does.
func (c *client) call() (arrives, answered bool) {
	st, n := c.n.s.store, c.n
	arrives = st.away == 0 && st.hangs == 0 && n.s.reaches(n.slot, len(n.s.nodes))
	answered = arrives && n.s.reaches(len(n.s.nodes), n.slot)
	if n.flaky > 0 && arrives {
		switch x := n.r.n(10); {
		case x < 2:
			arrives, answered = false, false
		case x < 5:
			answered = false // the write happened
		}
	}
	switch {
	case answered:
		c.cost += n.r.between(time.Millisecond, 15*time.Millisecond)
	case st.away > 0:
		c.cost += time.Millisecond
	default:
		c.cost += time.Second
	}
	return arrives, answered
}

func (c *client) took() time.Duration {
	d := c.cost
	c.cost = 0
	return d
}

func (c *client) Get(_ context.Context, key string) (store.Entry, error) {
	if _, ok := c.call(); !ok {
		return store.Entry{}, errUnreachable
	}
	st := c.n.s.store
	i, found := st.find(key)
	if !found {
		return store.Entry{}, store.ErrNotFound
	}
	return st.entries[i], nil
}

// CAS may be overtaken: another node's placement that is on its way gets there first.
func (c *client) CAS(_ context.Context, key string, value []byte, rev uint64) (store.Entry, error) {
	if strings.HasPrefix(key, consult.KeyPrefix) && c.n.r.chance(0.25) {
		c.n.s.overtake(c.n)
	}
	arrives, answered := c.call()
	if !arrives {
		return store.Entry{}, errUnreachable
	}
	st := c.n.s.store
	i, found := st.find(key)
	if found && st.entries[i].Rev != rev || !found && rev != 0 {
		if !answered {
			return store.Entry{}, errUnreachable
		}
		return store.Entry{}, store.ErrConflict
	}
	e := st.put(key, bytes.Clone(value))
	if !answered {
		return store.Entry{}, errUnreachable
	}
	return e, nil
}

// Commit may be overtaken as CAS may.
func (c *client) Commit(_ context.Context, ops ...store.Op) (uint64, error) {
	if strings.HasPrefix(ops[0].Key, consult.KeyPrefix) && c.n.r.chance(0.25) {
		c.n.s.overtake(c.n)
	}
	arrives, answered := c.call()
	if !arrives {
		return 0, errUnreachable
	}
	st := c.n.s.store
	var err error
	for _, op := range ops {
		var rev uint64
		if i, found := st.find(op.Key); found {
			rev = st.entries[i].Rev
		}
		switch {
		case op.Verb == store.Delete && rev == 0:
			err = store.ErrNotFound
		case op.Verb == store.CAS && rev != op.Rev, op.Verb == store.Delete && op.Rev != 0 && rev != op.Rev:
			err = store.ErrConflict
		}
	}
	for _, op := range ops {
		switch {
		case err != nil:
		case op.Verb == store.Delete:
			st.delete(op.Key)
		default:
			st.put(op.Key, bytes.Clone(op.Value))
		}
	}
	if !answered {
		return 0, errUnreachable
	}
	return st.index, err
}

func (c *client) Put(_ context.Context, key string, value []byte) (store.Entry, error) {
	arrives, answered := c.call()
	if !arrives {
		return store.Entry{}, errUnreachable
	}
	e := c.n.s.store.put(key, bytes.Clone(value))
	if !answered {
		return store.Entry{}, errUnreachable
	}
	return e, nil
}

func (c *client) Delete(_ context.Context, key string, rev uint64) (uint64, error) {
	arrives, answered := c.call()
	if !arrives {
		return 0, errUnreachable
	}
	st := c.n.s.store
	i, found := st.find(key)
	var err error
	switch {
	case !found:
		err = store.ErrNotFound
	case rev != 0 && st.entries[i].Rev != rev:
		err = store.ErrConflict
	default:
		st.delete(key)
	}
	if !answered {
		return 0, errUnreachable
	}
	return st.index, err
}

func (c *client) List(_ context.Context, prefix string) (store.Snapshot, error) {
	if _, ok := c.call(); !ok {
		return store.Snapshot{}, errUnreachable
	}
	return store.Snapshot{Rev: c.n.s.store.index, Entries: c.n.s.store.under(prefix)}, nil
}

// The simulation keeps watches and leases itself, and locks nothing.

func (c *client) Watch(context.Context, string, func(store.Snapshot), func(error)) error {
	return errors.ErrUnsupported
}

func (c *client) Register(context.Context, store.Instance, time.Duration) (store.Lease, error) {
	return nil, errors.ErrUnsupported
}

func (c *client) WatchInstances(context.Context, string, func([]store.Instance), func(error)) error {
	return errors.ErrUnsupported
}

func (c *client) Lock(context.Context, string) (store.Lock, error) {
	return nil, errors.ErrUnsupported
}
