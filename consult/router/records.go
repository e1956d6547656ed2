package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"bailiwick/consult"
	"bailiwick/failover"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/store"
)

const (
	// storeTimeout bounds each exchange with a store, shortTimeout one that somebody waits for.
	storeTimeout = 3 * time.Second
	shortTimeout = time.Second
	// payEvery is how often what a store has not taken is offered again.
	payEvery = time.Second
	// checked records are asked for in each payEvery after a restore.
	checked = 50
	// maxOwed writes wait for a store, maxKnown placements are known without one.
	maxOwed  = 20_000
	maxKnown = 20_000
)

var (
	// errOwed: as many writes wait for the store as are kept.
	errOwed = errors.New("too many consults wait for the store")
	// errAway: the store cannot be asked, and this node does not know the consult.
	errAway = errors.New("store out of reach, and the consult is not known to this node")
	// errUnreadable: the store answered, with something that is no placement.
	errUnreadable = errors.New("record not readable")
)

// Records are the placements in the stores, and what this node knows of them while a store
// is away: what it made, ended or held. What such a store should have taken is written when
// it is back. Safe for concurrent use.
type Records struct {
	self   region.EdgeID // is told of nothing that it writes; empty: no edge
	stores store.Set
	world  func() *steer.World
	log    *slog.Logger

	mu    sync.Mutex
	known map[consult.ID]*consult.Placement // none is ever changed
	order []consult.ID                      // oldest first
	owed  map[consult.ID]*debt
	fails map[string]time.Time // since when a store has not answered
	heard map[string]bool      // stores that took or had a record since somebody asked
	doubt []consult.ID         // known, of a store that was restored: it may have lost them
}

// debt is what a store has yet to be told of one consult.
type debt struct {
	create *consult.Placement // nil: it has a record
	ended  bool
}

// NewRecords uses the stores by their datacenters' names. self is the edge of this process,
// if it has one.
func NewRecords(self region.EdgeID, stores store.Set, world func() *steer.World, log *slog.Logger) *Records {
	return &Records{self: self, stores: stores, world: world, log: log, known: map[consult.ID]*consult.Placement{}, owed: map[consult.ID]*debt{},
		fails: map[string]time.Time{}, heard: map[string]bool{}}
}

// reach is the store of a consult's record; nil while it is known to be away.
func (r *Records) reach(id consult.ID) store.Store {
	dc := id.Datacenter()
	st := r.stores[dc]
	if st == nil || !r.world().Reaches(dc) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fails[dc].IsZero() {
		return nil // pay finds out when it is back
	}
	return st
}

// note keeps what an exchange told of the store. Who gave up waiting tells nothing.
func (r *Records) note(id consult.ID, err error) {
	answers := []error{nil, store.ErrNotFound, store.ErrConflict, errUnreadable}
	r.mu.Lock()
	defer r.mu.Unlock()
	dc := id.Datacenter()
	switch {
	case slices.ContainsFunc(answers, func(a error) bool { return errors.Is(err, a) }):
		delete(r.fails, dc)
		r.heard[dc] = r.heard[dc] || err == nil
	case !errors.Is(err, context.Canceled) && r.fails[dc].IsZero():
		r.fails[dc] = time.Now()
		r.log.Error("consult records out of reach: consults go on, and are recorded later", "datacenter", dc, "err", err)
	}
}

func (r *Records) remember(p *consult.Placement) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, is := r.known[p.Consult]; !is {
		r.order = append(r.order, p.Consult)
		if len(r.order) > maxKnown {
			delete(r.known, r.order[0])
			r.order = r.order[1:]
		}
	}
	r.known[p.Consult] = p
}

// Create records a new placement. recorded is false where the store is away: it is told
// later. The only error is that too much waits for the store already.
func (r *Records) Create(ctx context.Context, p *consult.Placement) (recorded bool, err error) {
	r.remember(p)
	if st := r.reach(p.Consult); st != nil {
		bounded, cancel := context.WithTimeout(ctx, shortTimeout)
		defer cancel()
		err := write(bounded, st, p, 0, nil)
		if r.note(p.Consult, err); err == nil {
			return true, nil
		}
	}
	return false, r.owe(p.Consult, func(d *debt) { d.create = p })
}

// owe adds to what the store has yet to be told.
func (r *Records) owe(id consult.ID, add func(*debt)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.owed[id]
	if d == nil {
		if len(r.owed) >= maxOwed {
			return errOwed
		}
		d = &debt{}
		r.owed[id] = d
	}
	add(d)
	return nil
}

// Read is the record as the store has it, or, with the store away, as this node knows it.
// store.ErrNotFound where the store has none.
func (r *Records) Read(ctx context.Context, id consult.ID) (p *consult.Placement, recorded bool, err error) {
	if st := r.reach(id); st != nil {
		bounded, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		p, _, err := load(bounded, st, id)
		if r.note(id, err); err == nil {
			return &p, true, nil
		}
		if errors.Is(err, errUnreadable) || errors.Is(err, store.ErrNotFound) && !r.owes(id) {
			return nil, false, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.known[id]; p != nil {
		return p, false, nil
	}
	return nil, false, errAway
}

// Learn keeps what an edge of this process knows of a consult that it holds.
func (r *Records) Learn(p *consult.Placement) {
	r.mu.Lock()
	held := r.known[p.Consult]
	r.mu.Unlock()
	if held == nil || p.Supersedes(&held.Terms) {
		r.remember(p)
	}
}

// LearnEnd keeps that a consult has ended that was made or held here.
func (r *Records) LearnEnd(id consult.ID, now time.Time) {
	r.mu.Lock()
	held := r.known[id]
	r.mu.Unlock()
	if held != nil && !held.Ended {
		ended := held.Copy()
		ended.End(now)
		r.remember(&ended)
	}
}

// Heard tells whether a store took or had any record since it was last asked.
func (r *Records) Heard(dc string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard := r.heard[dc]
	delete(r.heard, dc)
	return heard
}

// Restored is told of a store that was taken back to an older state. What this node made or
// ended is asked for again, in turn, and written where it is lost.
func (r *Records) Restored(dc string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := func(id consult.ID) bool { return id.Datacenter() == dc }
	r.doubt = slices.DeleteFunc(r.doubt, of)
	for _, id := range r.order {
		if of(id) {
			r.doubt = append(r.doubt, id)
		}
	}
}

// check owes a restored store some of what it may have lost. A consult that runs is made
// again while its first tokens are good: later a room has it and sees to its record, or it is
// over, and this node need not have heard so.
func (r *Records) check(now time.Time) {
	r.mu.Lock()
	var list []*consult.Placement
	for _, id := range r.doubt[:min(checked, len(r.doubt))] {
		if p := r.known[id]; p != nil && now.Before(p.Expires) && (p.Ended || now.Before(p.Created.Add(consult.TokenLife))) {
			list = append(list, p)
		}
	}
	r.doubt = r.doubt[min(checked, len(r.doubt)):]
	r.mu.Unlock()
	for _, p := range list {
		r.owe(p.Consult, func(d *debt) {
			if d.ended = d.ended || p.Ended; !d.ended {
				d.create = p
			}
		})
	}
}

func (r *Records) owes(id consult.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owed[id] != nil
}

// Place writes terms into the record by compare-and-swap, unless it has newer ones, and
// tells the edges of notify and those that the record knows: where terms between the two
// were never written, they are others. A record that is not there is made again from lost,
// if that is given. p is the record as it stands, where it is known.
func (r *Records) Place(ctx context.Context, t consult.Terms, notify []region.EdgeID, lost *consult.Placement) (out failover.Outcome, p *consult.Placement) {
	st := r.reach(t.Consult)
	if st == nil {
		return failover.Unwritten, nil
	}
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for {
		held, rev, err := load(bounded, st, t.Consult)
		if errors.Is(err, store.ErrNotFound) && lost != nil {
			held, rev, err = lost.Copy(), 0, nil
		}
		if r.note(t.Consult, err); err != nil {
			return failover.Unwritten, nil
		}
		edges := r.others(notify, held.Concerned())
		switch {
		case held.Ended || held.Supersedes(&t):
			return failover.Beaten, &held
		case t.Supersedes(&held.Terms):
			to := held.Region
			if reg, _ := r.world().Edge(t.Edge); reg != nil {
				to = reg.ID
			}
			held.Move(&t, to, notify)
			err = write(bounded, st, &held, rev, r.others(edges, held.Concerned()))
		case rev == 0:
			err = write(bounded, st, &held, rev, edges)
		default:
			err = tell(bounded, st, &held, edges)
		}
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if r.note(t.Consult, err); err != nil {
			return failover.Unwritten, nil // whoever placed it tries again, while anybody is there
		}
		return failover.Written, &held
	}
}

// others are the edges of both lists, without this process's own.
func (r *Records) others(a, b []region.EdgeID) []region.EdgeID {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(e region.EdgeID) bool { return e == r.self })
}

// End ends a consult: its record says so, and the edges that may have people of it are
// told. It may be repeated, and tells again. recorded is false with the store away, where
// only this node knows of the end until it is back.
func (r *Records) End(ctx context.Context, id consult.ID, now time.Time) (p *consult.Placement, recorded bool, err error) {
	if st := r.reach(id); st != nil {
		bounded, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		p, err := r.end(bounded, st, id, now)
		r.note(id, err)
		if err == nil {
			return p, true, nil
		}
		if errors.Is(err, store.ErrNotFound) && !r.owes(id) {
			return nil, false, err
		}
	}
	r.mu.Lock()
	held := r.known[id]
	r.mu.Unlock()
	if held == nil {
		return nil, false, errAway
	}
	ended := held.Copy()
	ended.End(now)
	r.remember(&ended)
	return &ended, false, r.owe(id, func(d *debt) { d.ended = true })
}

// end writes the end into the record.
func (r *Records) end(ctx context.Context, st store.Store, id consult.ID, now time.Time) (*consult.Placement, error) {
	for {
		p, rev, err := load(ctx, st, id)
		if err != nil {
			return nil, err
		}
		if p.Ended {
			err = tell(ctx, st, &p, p.Concerned())
		} else {
			p.End(now)
			err = write(ctx, st, &p, rev, p.Concerned())
		}
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r.remember(&p)
		return &p, nil
	}
}

// Run pays what is owed until ctx ends.
func (r *Records) Run(ctx context.Context) error {
	t := time.NewTicker(payEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		r.Pay(ctx, time.Now())
	}
}

// Pay offers each store what it has not taken, and stops at the first refusal of each.
// [Records.Run] calls it.
func (r *Records) Pay(ctx context.Context, now time.Time) {
	r.check(now)
	r.mu.Lock()
	due := map[string][]consult.ID{}
	for dc := range r.fails {
		due[dc] = nil
	}
	for id := range r.owed {
		due[id.Datacenter()] = append(due[id.Datacenter()], id)
	}
	r.mu.Unlock()
	for _, dc := range slices.Sorted(maps.Keys(due)) {
		st := r.stores[dc]
		if st == nil {
			continue
		}
		if err := r.ping(ctx, dc, st); err != nil {
			continue
		}
		slices.Sort(due[dc])
		for _, id := range due[dc] {
			if err := r.payOne(ctx, st, id, now); err != nil {
				r.note(id, err)
				break
			}
		}
	}
}

// ping asks a store that failed whether it is back.
func (r *Records) ping(ctx context.Context, dc string, st store.Store) error {
	r.mu.Lock()
	since := r.fails[dc]
	r.mu.Unlock()
	if since.IsZero() {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, shortTimeout)
	defer cancel()
	if _, err := st.Get(bounded, sweptKey); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	r.mu.Lock()
	delete(r.fails, dc)
	r.mu.Unlock()
	r.log.Info("consult records can be reached again", "datacenter", dc, "after", time.Since(since).Round(time.Millisecond))
	return nil
}

// payOne tells the store of one consult what it was not told.
func (r *Records) payOne(ctx context.Context, st store.Store, id consult.ID, now time.Time) error {
	r.mu.Lock()
	d := r.owed[id]
	var work debt
	if d != nil {
		work = *d
		delete(r.owed, id)
	}
	r.mu.Unlock()
	if d == nil {
		return nil
	}
	err := r.settle(ctx, st, id, &work, now)
	if err != nil {
		r.owe(id, func(again *debt) { // beside what came to be owed meanwhile
			if work.create != nil {
				again.create = work.create
			}
			again.ended = again.ended || work.ended
		})
	}
	return err
}

func (r *Records) settle(ctx context.Context, st store.Store, id consult.ID, d *debt, now time.Time) error {
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if d.create != nil && now.Before(d.create.Expires) {
		// A conflict is a record that is there: the write had happened after all.
		if err := write(bounded, st, d.create, 0, nil); err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
		d.create = nil
	}
	if d.ended {
		_, err := r.end(bounded, st, id, now)
		if errors.Is(err, store.ErrNotFound) {
			err = r.leave(bounded, st, id, now)
		}
		return err
	}
	return nil
}

// leave puts the end of a consult where its record is not: who makes that, late or again,
// finds that it is over.
func (r *Records) leave(ctx context.Context, st store.Store, id consult.ID, now time.Time) error {
	r.mu.Lock()
	p := r.known[id]
	r.mu.Unlock()
	if p == nil || !p.Ended || !now.Before(p.Expires) {
		return nil
	}
	return write(ctx, st, p, 0, p.Concerned())
}

func load(ctx context.Context, st store.Store, id consult.ID) (consult.Placement, uint64, error) {
	e, err := st.Get(ctx, id.Key())
	if err != nil {
		return consult.Placement{}, 0, err
	}
	p, err := consult.ParsePlacement(e.Value)
	if err != nil {
		err = fmt.Errorf("%w: %s: %v", errUnreadable, e.Key, err)
	}
	return p, e.Rev, err
}

// write puts a record in the place of the one at rev, and tells edges of it.
func write(ctx context.Context, st store.Store, p *consult.Placement, rev uint64, edges []region.EdgeID) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return tell(ctx, st, p, edges, store.Op{Verb: store.CAS, Key: p.Consult.Key(), Value: b, Rev: rev})
}

// tell makes the changes of a record, if any, and writes notices of it to edges, all at once:
// none misses what is on record. Notices beyond what fits, to more edges than a consult is
// ever at, come after.
func tell(ctx context.Context, st store.Store, p *consult.Placement, edges []region.EdgeID, ops ...store.Op) error {
	b, err := json.Marshal(p.Notice())
	if err != nil {
		return err
	}
	for _, e := range edges {
		ops = append(ops, store.Op{Verb: store.Put, Key: consult.NoticeKey(e, p.Consult), Value: b})
	}
	for some := range slices.Chunk(ops, store.MaxOps) {
		if _, err := st.Commit(ctx, some...); err != nil {
			return err
		}
	}
	return nil
}
