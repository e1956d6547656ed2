package edge

import (
	"context"
	"errors"
	"sync"
	"time"

	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/edge/sfu"
	"bailiwick/edge/signal"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/store"
)

// moveGrace is how long media goes on here after a client was told to move.
const moveGrace = 10 * time.Second

// rooms are the consults that this edge holds now, one supervisor each.
type rooms struct {
	edge   *Edge
	ctx    context.Context // of the supervisors
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu   sync.Mutex
	byID map[consult.ID]*room
	idle chan struct{} // closed while there is no room
}

// room is one consult on this edge.
type room struct {
	id     consult.ID
	edge   region.EdgeID // where the newest placement known says that it is
	epoch  uint64
	placed *consult.Placement // that placement; nil while only the token is known
	cancel context.CancelFunc
	token  consult.Token // of the first to join: the law of every participant
	seats  map[consult.ParticipantID]*seat
}

type seat struct {
	session *sfu.Session
	out     *outbox
}

func newRooms(e *Edge) *rooms {
	r := &rooms{edge: e, byID: map[consult.ID]*room{}, idle: make(chan struct{})}
	close(r.idle)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

func (r *rooms) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.byID)
}

// open gives the consult's room, a new one unless the edge is full.
func (r *rooms) open(t *consult.Token) (*room, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rm := r.byID[t.Consult]; rm != nil {
		return rm, true
	}
	if r.edge.cfg.Admits > 0 && len(r.byID) >= r.edge.cfg.Admits || r.ctx.Err() != nil {
		return nil, false
	}
	rm := &room{id: t.Consult, edge: t.Edge, epoch: t.Epoch, token: *t, seats: map[consult.ParticipantID]*seat{}}
	ctx, cancel := context.WithCancel(r.ctx)
	rm.cancel = cancel
	if len(r.byID) == 0 {
		r.idle = make(chan struct{})
	}
	r.byID[t.Consult] = rm
	r.group.Go(func() { r.supervise(ctx, rm) })
	return rm, true
}

// takeSeat notes who holds a seat. One who comes back with an older token than the
// placement that the room already knows is told to move at once.
func (r *rooms) takeSeat(rm *room, t *consult.Token, s *sfu.Session, out *outbox) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rm.seats[t.Participant] = &seat{session: s, out: out}
	if p := rm.placed; p != nil && p.Edge != r.edge.cfg.ID && p.Epoch > t.Epoch {
		r.moveLocked(rm, p, t.Participant, "placed")
	}
}

// leaveSeat frees the seat unless a newer connection of the same participant has it.
func (r *rooms) leaveSeat(rm *room, who consult.ParticipantID, s *sfu.Session) {
	s.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if held := rm.seats[who]; held != nil && held.session == s {
		delete(rm.seats, who)
	}
	r.closeIfEmptyLocked(rm)
}

func (r *rooms) closeIfEmpty(rm *room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closeIfEmptyLocked(rm)
}

func (r *rooms) closeIfEmptyLocked(rm *room) {
	if len(rm.seats) > 0 || r.byID[rm.id] != rm {
		return
	}
	delete(r.byID, rm.id)
	rm.cancel()
	if len(r.byID) == 0 {
		close(r.idle)
	}
}

// supervise keeps one room where its placement says: it follows the placement in
// the store and this edge's world, and moves the room when either says so. It
// waits for neither: with the store gone, the call goes on here.
func (r *rooms) supervise(ctx context.Context, rm *room) {
	placements := make(chan consult.Placement, 1)
	var watching sync.WaitGroup
	watching.Go(func() {
		r.edge.cfg.Store.Watch(ctx, rm.id.Key(), func(s store.Snapshot) {
			if len(s.Entries) != 1 {
				return // swept, or a store that forgot: a running call is not ended by that
			}
			p, err := consult.ParsePlacement(s.Entries[0].Value)
			if err != nil {
				r.edge.cfg.Log.Error("placement not readable: the call stays", "consult", rm.id, "err", err)
				return
			}
			select { // conflate: the newest wins
			case <-placements:
			default:
			}
			placements <- p
		}, func(error) {})
	})
	defer watching.Wait()
	changed, cancel := r.edge.cfg.World.Subscribe()
	defer cancel()
	for {
		r.reconsider(ctx, rm)
		select {
		case <-ctx.Done():
			return
		case p := <-placements:
			r.follow(rm, p, "placed")
		case <-changed:
		}
	}
}

// follow does what a placement says.
func (r *rooms) follow(rm *room, p consult.Placement, reason string) {
	if p.Ended {
		r.edge.sfu.End(string(rm.id), "done")
		return
	}
	r.mu.Lock()
	newer := p.Epoch > rm.epoch
	if newer {
		rm.epoch, rm.edge, rm.placed = p.Epoch, p.Edge, &p
	}
	defer r.mu.Unlock()
	if newer && p.Edge != r.edge.cfg.ID {
		r.moveLocked(rm, &p, "", reason)
	}
}

// reconsider places the consult anew where this edge may not, or should not, hold
// it any longer. Where nothing lawful is better, the call stays: a call is never
// dropped to empty a region.
func (r *rooms) reconsider(ctx context.Context, rm *room) {
	reason := r.reason(rm)
	if reason == "" {
		return
	}
	r.mu.Lock()
	epoch := rm.epoch
	r.mu.Unlock()
	p, err := r.edge.router.Replace(ctx, rm.id, epoch)
	switch {
	case err == nil:
		r.follow(rm, p, reason)
	case errors.Is(err, router.ErrRefused), ctx.Err() != nil:
	default:
		r.edge.cfg.Log.Error("consult not moved: it stays", "consult", rm.id, "reason", reason, "err", err)
	}
}

// reason is why the room should be elsewhere, empty when it is well here.
func (r *rooms) reason(rm *room) string {
	w := r.edge.cfg.World.Current()
	i := w.RegionIndex(r.edge.cfg.Region)
	if i < 0 {
		return "region_unknown"
	}
	reg := &w.Regions[i]
	if v := steer.Permits(w, reg, rm.token.Placement().Client(w.Map)); !v.Permitted() {
		return string(v.Code)
	}
	if reg.Mode != steer.Serving {
		return "region_" + reg.Mode.String()
	}
	r.mu.Lock()
	placed := rm.edge
	r.mu.Unlock()
	if placed != r.edge.cfg.ID && !w.Usable(placed) {
		return "primary_lost" // this standby took the call over
	}
	if r.edge.leaving.Load() {
		return "edge_stopping"
	}
	return ""
}

// moveLocked tells everybody in the room (or only one) to join at the placement's
// edge, each with a token of their own; media goes on here until they have left or
// the grace is over.
func (r *rooms) moveLocked(rm *room, p *consult.Placement, only consult.ParticipantID, reason string) {
	w := r.edge.cfg.World.Current()
	reg, to := w.Edge(p.Edge)
	if to == nil {
		r.edge.cfg.Log.Error("consult placed on an edge that this node does not know: it stays", "consult", rm.id, "to", p.Edge)
		return
	}
	now := time.Now()
	for i, who := range p.Participants {
		s := rm.seats[who.ID]
		if s == nil || only != "" && who.ID != only {
			continue
		}
		t := p.Token(i, now)
		token, err := r.edge.router.Signer.Sign(&t, now)
		if err != nil {
			r.edge.cfg.Log.Error("move token not signed", "consult", rm.id, "err", err)
			continue
		}
		s.out.moved.Store(true)
		s.out.put(signal.Move{Type: signal.TypeMove, URL: router.WebSocketURL(to.Host), Token: token, Epoch: p.Epoch,
			Reason: reason, Place: place(w, reg.ID)})
		time.AfterFunc(moveGrace, func() {
			s.out.over.Store(true)
			s.out.stop()
		})
	}
	r.edge.cfg.Log.Info("consult moves", "consult", rm.id, "to", p.Edge, "epoch", p.Epoch, "reason", reason)
}

// leave empties the edge: every room is placed elsewhere where the law and the
// world allow it, and has up to linger to go.
func (r *rooms) leave(ctx context.Context, linger time.Duration) {
	if linger > 0 {
		r.edge.leaving.Store(true)
		r.mu.Lock()
		list := make([]*room, 0, len(r.byID))
		for _, rm := range r.byID {
			list = append(list, rm)
		}
		idle := r.idle
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, linger)
		defer cancel()
		for _, rm := range list {
			r.reconsider(ctx, rm)
		}
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	r.cancel()
}

// wait returns once every supervisor has ended.
func (r *rooms) wait() {
	r.cancel()
	r.group.Wait()
}
