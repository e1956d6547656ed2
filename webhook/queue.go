package webhook

import (
	"container/heap"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"bailiwick/consult"
	"bailiwick/region"
)

const (
	// maxEvents and maxBytes are what a queue holds: an hour of a full edge's, or so. Of what is
	// left a tenant gets another place while it has fewer: one backend that is dead leaves the
	// others half.
	maxEvents = 20_000
	maxBytes  = 16 << 20
	// life is how long an event is tried.
	life = 24 * time.Hour
	// abreast are the tries at one tenant's backend at once: a slow one holds up none but its own.
	abreast = 4
	// again is the wait before the second try; it doubles up to againMost. Half of it is chance.
	again     = 5 * time.Second
	againMost = 5 * time.Minute
	// goodbye is how long a queue that stops goes on with what it has not tried yet.
	goodbye = 5 * time.Second
	// maxSeen IDs are remembered of what is told once.
	maxSeen = 20_000
)

// Config of a queue.
type Config struct {
	// Path of the journal; empty: the queue ends with the process.
	Path string
	// Hook is where a tenant's events go now. It is asked at each event and each try.
	Hook func(tenant string) (region.Webhook, bool)
	// Roots that backends' certificates are verified by, nil: the system's.
	Roots *x509.CertPool
	Log   *slog.Logger
}

// Queue holds events until they are delivered. Put and Stats are safe for concurrent use.
type Queue struct {
	cfg     Config
	log     *slog.Logger
	client  *http.Client
	journal *journal // Run's
	arrived chan struct{}
	results chan result

	// Run's alone.
	tenants map[string]*tenant
	done    []string // IDs that are not in the journal yet
	faulty  bool     // the journal is not what it should be
	pause   time.Duration

	mu       sync.Mutex
	incoming []*pending
	held     map[string]int // events, by tenant
	events   int
	bytes    int
	closed   bool
	seen     map[string]bool // IDs of what is told once
	seenIDs  []string        // oldest first
	stats    Stats
}

// Outcome is what became of an event. The list is closed.
type Outcome uint8

const (
	Delivered Outcome = iota
	Expired           // given up after its life
	Full              // never queued: there was no place
	Unwanted          // its tenant has no webhook any more
	Outcomes
)

func (o Outcome) String() string { return [...]string{"delivered", "expired", "full", "unwanted"}[o] }

// Stats are counters, and what is queued now.
type Stats struct {
	Queued, Bytes int
	Events        map[Type][Outcomes]uint64
	Failures      [Failures]uint64 // tries, by why
	Undurable     uint64           // writes to the journal that failed
}

// pending is an event until it is done with.
type pending struct {
	Event
	at   time.Time // queued
	done bool
}

// chain are the events of one consult, in their order: the next is tried once the one before
// is done with.
type chain struct {
	events []*pending
	tries  int
	due    time.Time
	index  int // in its tenant's heap; -1: it is being tried
}

// tenant is one backend's part.
type tenant struct {
	chains  map[consult.ID]*chain
	ready   chains
	busy    int
	failing bool // its last try failed: said once
}

type result struct {
	tenant string
	chain  *chain
	err    *failed
}

// Open makes a queue, with what its journal holds of the process before.
func Open(cfg Config) (*Queue, error) {
	q := &Queue{cfg: cfg, log: cfg.Log, client: client(cfg.Roots), arrived: make(chan struct{}, 1), results: make(chan result),
		pause: again, tenants: map[string]*tenant{}, held: map[string]int{}, seen: map[string]bool{}}
	q.stats.Events = map[Type][Outcomes]uint64{}
	if cfg.Path == "" {
		return q, nil
	}
	j, list, skipped, err := openJournal(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("webhooks: %w", err)
	}
	q.journal = j
	if skipped > 0 {
		q.log.Warn("lines of the webhooks' journal could not be read: their events are lost", "path", cfg.Path, "lines", skipped)
	}
	for _, p := range list {
		q.holds(p)
		q.remember(p.id)
		q.chain(p)
	}
	return q, nil
}

func (q *Queue) holds(p *pending) {
	q.held[p.tenant]++
	q.events++
	q.bytes += len(p.body)
}

// remember notes an ID; false: it was there.
func (q *Queue) remember(id string) bool {
	if q.seen[id] {
		return false
	}
	if len(q.seenIDs) >= maxSeen {
		delete(q.seen, q.seenIDs[0])
		q.seenIDs = q.seenIDs[1:]
	}
	q.seen[id], q.seenIDs = true, append(q.seenIDs, id)
	return true
}

// Put queues an event, if its tenant has a webhook and there is room. It never waits.
func (q *Queue) Put(e Event) {
	if _, wanted := q.cfg.Hook(e.tenant); !wanted {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || !q.remember(e.id) {
		return
	}
	if q.held[e.tenant] >= maxEvents-q.events || q.bytes+len(e.body) > maxBytes {
		q.count(e.kind, Full)
		return
	}
	p := &pending{Event: e, at: time.Now()}
	q.holds(p)
	q.incoming = append(q.incoming, p)
	select {
	case q.arrived <- struct{}{}:
	default:
	}
}

func (q *Queue) count(t Type, o Outcome) {
	n := q.stats.Events[t]
	n[o]++
	q.stats.Events[t] = n
}

// Stats reads them.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Queued, s.Bytes = q.events, q.bytes
	s.Events = map[Type][Outcomes]uint64{}
	for _, t := range types {
		s.Events[t] = q.stats.Events[t]
	}
	return s
}

// Close closes a queue that was never run.
func (q *Queue) Close() error { return q.journal.close() }

// Run delivers until ctx ends, and then for a moment what was not tried yet. What is queued
// by then is in the journal.
func (q *Queue) Run(ctx context.Context) error {
	tries, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop, over, stopping := ctx.Done(), (<-chan time.Time)(nil), false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		q.take()
		next := q.dispatch(tries, time.Now())
		if stopping && q.said() {
			break
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case <-stop:
			stop, over, stopping = nil, time.After(goodbye), true
		case <-over:
			over = nil
			cancel() // said is true once the tries have returned
			for _, t := range q.tenants {
				t.ready = nil
			}
		case <-q.arrived:
		case r := <-q.results:
			q.finish(r, time.Now())
		case <-timer.C:
		}
	}
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.take()
	return q.journal.close()
}

// said tells whether everything was tried once, and nothing is being tried.
func (q *Queue) said() bool {
	for _, t := range q.tenants {
		if t.busy > 0 {
			return false
		}
		for _, c := range t.ready {
			if c.tries == 0 {
				return false
			}
		}
	}
	return true
}

// take puts what has come in its consult's chain, and into the journal, all of it with one wait
// for the disk. Where that fails it is delivered from memory, and the journal written anew next.
func (q *Queue) take() {
	q.mu.Lock()
	fresh := q.incoming
	q.incoming = nil
	q.mu.Unlock()
	for _, p := range fresh {
		q.chain(p)
	}
	j := q.journal
	if j == nil || len(fresh)+len(q.done) == 0 {
		return
	}
	var err error
	if q.faulty || j.size > 2*maxBytes || j.size > maxLine && len(q.tenants) == 0 {
		err = j.rewrite(q.all())
	} else {
		err = j.append(fresh, q.done)
	}
	q.done = q.done[:0]
	if err == nil {
		q.faulty = false
		return
	}
	if !q.faulty {
		q.log.Error("webhook events not on disk: they end with this process", "err", err)
	}
	q.faulty = true
	q.mu.Lock()
	q.stats.Undurable++
	q.mu.Unlock()
}

// all that is queued, oldest first within each consult.
func (q *Queue) all() (list []*pending) {
	for _, t := range q.tenants {
		for _, c := range t.chains {
			list = append(list, c.events...)
		}
	}
	return list
}

func (q *Queue) chain(p *pending) {
	t := q.tenants[p.tenant]
	if t == nil {
		t = &tenant{chains: map[consult.ID]*chain{}}
		q.tenants[p.tenant] = t
	}
	c := t.chains[p.consult]
	if c == nil {
		c = &chain{due: p.at}
		t.chains[p.consult] = c
		heap.Push(&t.ready, c)
	}
	c.events = append(c.events, p)
}

// dispatch tries what is due, and says when the next is.
func (q *Queue) dispatch(ctx context.Context, now time.Time) (next time.Time) {
	for name, t := range q.tenants {
		for t.busy < abreast && len(t.ready) > 0 && !t.ready[0].due.After(now) {
			c := heap.Pop(&t.ready).(*chain)
			p := c.events[0]
			h, wanted := q.cfg.Hook(name)
			switch {
			case !wanted:
				q.over(name, t, c, Unwanted)
			case now.Sub(p.at) > life:
				q.log.Error("webhook event given up: its backend took it at no try of 24 hours", "tenant", name, "consult", p.consult, "event", string(p.kind), "id", p.id)
				q.over(name, t, c, Expired)
			default:
				t.busy++
				go func() {
					q.results <- result{name, c, send(ctx, q.client, h, p.id, p.body, now)}
				}()
			}
		}
		if t.busy < abreast && len(t.ready) > 0 && (next.IsZero() || t.ready[0].due.Before(next)) {
			next = t.ready[0].due
		}
	}
	return next
}

// finish takes a try's result.
func (q *Queue) finish(r result, now time.Time) {
	t, c := q.tenants[r.tenant], r.chain
	t.busy--
	if r.err == nil {
		if t.failing {
			t.failing = false
			q.log.Info("webhook events are delivered again", "tenant", r.tenant)
		}
		q.over(r.tenant, t, c, Delivered)
		return
	}
	if !t.failing && !errors.Is(r.err.err, context.Canceled) {
		t.failing = true
		q.log.Warn("webhook event not delivered: tried again for 24 hours", "tenant", r.tenant, "consult", c.events[0].consult, "id", c.events[0].id, "err", r.err)
	}
	q.mu.Lock()
	q.stats.Failures[r.err.why]++
	q.mu.Unlock()
	wait := min(q.pause<<min(c.tries, 10), againMost)
	c.tries++
	c.due = now.Add(wait/2 + rand.N(wait/2))
	heap.Push(&t.ready, c)
}

// over is done with the first event of a chain.
func (q *Queue) over(name string, t *tenant, c *chain, o Outcome) {
	p := c.events[0]
	c.events, c.tries = c.events[1:], 0
	if !p.unstored {
		q.done = append(q.done, p.id)
	}
	q.mu.Lock()
	q.events--
	q.bytes -= len(p.body)
	if q.held[name]--; q.held[name] == 0 {
		delete(q.held, name)
	}
	q.count(p.kind, o)
	q.mu.Unlock()
	if len(c.events) > 0 {
		c.due = c.events[0].at
		heap.Push(&t.ready, c)
		return
	}
	if delete(t.chains, p.consult); len(t.chains) == 0 {
		delete(q.tenants, name)
	}
}

// chains is a heap of those that wait, by when they are due.
type chains []*chain

func (h chains) Len() int           { return len(h) }
func (h chains) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h chains) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *chains) Push(x any)        { *h = append(*h, x.(*chain)) }
func (h *chains) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return c
}
