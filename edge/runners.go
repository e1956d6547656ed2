package edge

import (
	"context"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/failover"
)

const (
	// placers write placements side by side, each at most once a placePause: a full edge
	// that is drained tells 1,600 rooms in some 8 s and leaves the store to others.
	placers    = 4
	placePause = 20 * time.Millisecond
	// woken rooms at once, a pause between: a full edge hears of a new World in 4 s. Were it
	// told at once, all its rooms would wait for the store together, and those that placers
	// cannot serve within failover's patience of 5 s would move in one moment. With a store
	// that is slow all have been told when that is over, in turn still.
	woken     = 10
	wakePause = 25 * time.Millisecond
	// readers ask for the records of rooms that have just been opened.
	readers = 2
	// maxTold consults whose end was heard are remembered, so that nobody joins them.
	maxTold = 100_000
)

// runners are the consults that this edge holds now, a goroutine each.
type runners struct {
	edge      *Edge
	ctx       context.Context // of the rooms
	cancel    context.CancelFunc
	group     sync.WaitGroup
	withdrawn atomic.Int64 // rooms that the law has left no place, and that go on for a while

	places chan func(context.Context) // placements to write, for placers
	reads  chan func(context.Context)
	doubts chan string // datacenters whose store was restored

	mu       sync.Mutex
	byID     map[consult.ID]*runner
	idle     chan struct{} // closed while there is no room
	active   int           // rooms that somebody is in who is not parked
	stopping bool
	told     map[consult.ID]time.Time // consults that have ended, until when a token may be good
	toldIDs  []consult.ID             // oldest first
}

func newRunners(e *Edge) *runners {
	r := &runners{edge: e, byID: map[consult.ID]*runner{}, idle: make(chan struct{}), told: map[consult.ID]time.Time{},
		places: make(chan func(context.Context)), reads: make(chan func(context.Context)), doubts: make(chan string)}
	close(r.idle)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	for range placers {
		r.group.Go(func() { r.work(r.places, placePause) })
	}
	for range readers {
		r.group.Go(func() { r.work(r.reads, 0) })
	}
	r.group.Go(r.follow)
	return r
}

// work does what it is given, a pause at least between the beginnings.
func (r *runners) work(jobs <-chan func(context.Context), pause time.Duration) {
	for {
		select {
		case <-r.ctx.Done():
			return
		case job := <-jobs:
			next := time.After(pause)
			job(r.ctx)
			select {
			case <-r.ctx.Done():
				return
			case <-next:
			}
		}
	}
}

// restored has every room of a datacenter make its record true again, in turn.
func (r *runners) restored(dc string) {
	select {
	case r.doubts <- dc:
	case <-r.ctx.Done():
	}
}

// follow wakes every room, in turn, when there is a World that may decide otherwise, or a
// store went, came back or was restored. Worlds that come meanwhile make no room wait longer.
func (r *runners) follow() {
	changed, cancel := r.edge.cfg.World.Subscribe()
	defer cancel()
	var due []*runner
	tick := time.NewTicker(wakePause) // by the clock: what waking takes makes nobody late
	defer tick.Stop()
	var next <-chan time.Time // nil while none is due
	queued := map[*runner]bool{}
	queue := func(concerns func(*runner) bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, rm := range r.byID {
			if concerns(rm) && !queued[rm] {
				due, queued[rm] = append(due, rm), true
			}
		}
	}
	reloaded := false // by a map that not every room has heard of
	for last := r.edge.cfg.World.Current(); ; {
		select {
		case <-r.ctx.Done():
			return
		case <-changed:
			w := r.edge.cfg.World.Current()
			if w.Answers == last.Answers && maps.Equal(w.Away, last.Away) {
				continue
			}
			reloaded = reloaded || w.MapDigest != last.MapDigest
			last = w
			queue(func(*runner) bool { return true })
			if next != nil {
				continue
			}
			tick.Reset(wakePause)
		case dc := <-r.doubts:
			queue(func(rm *runner) bool {
				is := rm.id.Datacenter() == dc
				if is {
					rm.doubt.Store(true)
				}
				return is
			})
			if next != nil {
				continue
			}
			tick.Reset(wakePause)
		case <-next:
		}
		for _, rm := range due[:min(woken, len(due))] {
			delete(queued, rm)
			rm.poke()
		}
		due, next = due[min(woken, len(due)):], nil
		switch {
		case len(due) > 0:
			next = tick.C
		case reloaded:
			reloaded = false
			r.edge.Warn("after the reload", last)
		}
	}
}

// running are the rooms that somebody is in who is not parked.
func (r *runners) running() (list []*runner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rm := range r.byID {
		if rm.counted.Load() {
			list = append(list, rm)
		}
	}
	return list
}

// count are the consults that are a load, and the rooms that only wait.
func (r *runners) count() (active, parked int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.active, len(r.byID) - r.active
}

// join hands a client to its consult's room and waits for the answer. A room that closes
// at that moment has not seen it: there will be a new one.
func (r *runners) join(ctx context.Context, j *joining) (answer, bool) {
	for {
		rm := r.open(j.token.Consult)
		if rm == nil {
			return answer{}, false
		}
		select {
		case rm.inbox <- j:
			select {
			case a := <-j.answer:
				return a, true
			case <-ctx.Done(): // the client is gone; the room hears so
				rm.put(failover.Lost{Seat: j.seat})
				return answer{}, false
			}
		case <-rm.done:
		case <-ctx.Done():
			return answer{}, false
		}
	}
}

// open gives the consult's room, a new one where there is none; nil once the edge closes.
func (r *runners) open(id consult.ID) *runner {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rm := r.byID[id]; rm != nil {
		return rm
	}
	if r.ctx.Err() != nil {
		return nil
	}
	rm := newRunner(r, id)
	if len(r.byID) == 0 {
		r.idle = make(chan struct{})
	}
	r.byID[id] = rm
	stopping := r.stopping
	r.group.Go(func() { rm.run(r.ctx, stopping) })
	return rm
}

// spawn runs what ends with the edge; false once that closes.
func (r *runners) spawn(do func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return false
	}
	r.group.Go(do)
	return true
}

// forget is a room's last act. From then on its inbox takes nothing.
func (r *runners) forget(rm *runner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, rm.id)
	close(rm.done)
	if len(r.byID) == 0 {
		close(r.idle)
	}
}

func (r *runners) find(id consult.ID) *runner {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[id]
}

// hosted is what is known of a consult that runs here; nil where it does not.
func (r *runners) hosted(id consult.ID) *consult.Placement {
	if rm := r.find(id); rm != nil {
		return rm.record.Load()
	}
	return nil
}

// live is what is known of a consult that runs here beside its record; nil where it does not.
func (r *runners) live(id consult.ID) *router.Live {
	rm := r.find(id)
	if rm == nil || !rm.counted.Load() {
		return nil
	}
	l := &router.Live{Video: r.edge.pressure.step(id), Events: rm.lines(), Networks: map[consult.ParticipantID]router.Network{}}
	for _, n := range r.edge.sfu.Networks(string(id)) {
		net := router.Network{RTT: int(n.RTT.Milliseconds()), Down: n.Rate / 1000,
			Lost: percent(n.Down.Lost), Jitter: int(n.Down.Jitter.Milliseconds()), UpLost: percent(n.Up.Lost), UpJit: int(n.Up.Jitter.Milliseconds()),
			MOS: percent(n.MOS)}
		for _, p := range n.Played {
			net.Plays = append(net.Plays, router.Played{Participant: consult.ParticipantID(p.Participant), Height: p.Height,
				Frozen: percent(p.Frozen), Concealed: percent(p.Concealed), MOS: percent(p.MOS)})
		}
		l.Networks[consult.ParticipantID(n.Participant)] = net
	}
	if p := rm.present.Load(); p != nil {
		l.Profile = *p
	}
	return l
}

// percent leaves two digits after the point.
func percent(v float64) float64 { return math.Round(100*v) / 100 }

// hear hands on what somebody else did to a consult.
func (r *runners) hear(n consult.Notice) {
	if n.Ended {
		r.markEnded(n.Consult, time.Now())
	}
	if rm := r.find(n.Consult); rm != nil {
		rm.put(failover.Heard{Terms: n.Terms, Ended: n.Ended})
	}
}

// markEnded keeps the end of a consult as long as somebody may have a token of it.
func (r *runners) markEnded(id consult.ID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.told[id]; known {
		return
	}
	for len(r.toldIDs) > 0 && (len(r.toldIDs) >= maxTold || now.After(r.told[r.toldIDs[0]])) {
		delete(r.told, r.toldIDs[0])
		r.toldIDs = r.toldIDs[1:]
	}
	r.told[id], r.toldIDs = now.Add(2*consult.TokenLife), append(r.toldIDs, id)
}

// ended tells whether the end of a consult was heard here.
func (r *runners) ended(id consult.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, is := r.told[id]
	return is
}

// leave empties the edge: every room is placed elsewhere where the law and the world allow
// it, and has up to linger to go.
func (r *runners) leave(ctx context.Context, linger time.Duration) {
	if linger > 0 {
		r.mu.Lock()
		r.stopping = true
		list := make([]*runner, 0, len(r.byID))
		for _, rm := range r.byID {
			list = append(list, rm)
		}
		idle := r.idle
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, linger)
		defer cancel()
		for i, rm := range list {
			rm.put(failover.Stopping{})
			if i%woken == woken-1 {
				sleep(ctx, wakePause)
			}
		}
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	r.cancel()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// wait returns once every room has ended.
func (r *runners) wait() {
	r.cancel()
	r.group.Wait()
}
