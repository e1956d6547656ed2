package edge

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"bailiwick/consult"
	"bailiwick/failover"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/webhook"
)

// teller tells a consult's backend what becomes of it on this edge: what it has told is
// compared with how things are, after each step of the machine. It is its runner's alone.
type teller struct {
	of    webhook.Consult // as it was when it last looked
	here  map[consult.ParticipantID]consult.Role
	sent  map[consult.ParticipantID]bool // told to go to another edge
	place struct {                       // the last that was asked for here
		epoch    uint64
		from, to region.EdgeID
		reason   string
	}
	over string // why the consult has ended; empty: it has not
}

// note looks at what the machine wants done.
func (t *teller) note(actions []failover.Action, e *Edge) {
	for _, a := range actions {
		switch a := a.(type) {
		case failover.Place:
			t.place.epoch, t.place.from, t.place.to = a.Terms.Epoch, a.Terms.Edge, a.Terms.Edge
		case failover.Record: // follows where it is a move
			if ev := a.Evidence; ev.Did == consult.Placed {
				t.place.from, t.place.reason = ev.From, ev.Reason
			}
		case failover.Move:
			if t.sent == nil {
				t.sent = map[consult.ParticipantID]bool{}
			}
			t.sent[a.Token.Participant] = a.Token.Edge != e.cfg.ID
		case failover.End:
			t.over = a.Reason
		}
	}
}

// degraded tells the backend of a step of the ladder; anybody may.
func (rm *runner) degraded(at time.Time, step, reason string) {
	if c := rm.backend.Load(); c != nil {
		rm.edge().cfg.Webhooks.Put(c.Degraded(at, step, reason))
	}
}

// tell hands on what has changed.
func (rm *runner) tell(w *steer.World, now time.Time) {
	e, t := rm.edge(), &rm.told
	if e.cfg.Webhooks == nil {
		return
	}
	was, terms := t.of.Epoch, rm.machine.Terms()
	if terms.Epoch == 0 {
		return
	}
	here := rm.machine.Present()
	if terms.Epoch == was && maps.Equal(here, t.here) && t.over == "" {
		return
	}
	c := webhook.Consult{Tenant: terms.Tenant, ID: rm.id, Epoch: terms.Epoch, Edge: e.cfg.ID, Region: e.cfg.Region, Unstored: true}
	if i := w.RegionIndex(e.cfg.Region); i >= 0 {
		c.Unstored = !steer.Stores(w, &w.Regions[i], terms.Client(w.Map))
	}
	t.of = c
	rm.backend.Store(&c)
	put := e.cfg.Webhooks.Put
	if len(here) > 0 && len(t.here) == 0 {
		put(c.Started(now))
	}
	for _, who := range slices.Sorted(maps.Keys(here)) {
		if _, known := t.here[who]; !known {
			put(c.Joined(now, who, here[who]))
			delete(t.sent, who)
		}
	}
	if p := &t.place; terms.Epoch != was && p.epoch == terms.Epoch && p.to == terms.Edge && p.from != p.to {
		put(c.Moved(now, p.from, p.to, p.reason))
	}
	if t.over != "" {
		put(c.Ended(now, t.over))
		t.here, t.over = nil, ""
		return
	}
	for _, who := range slices.Sorted(maps.Keys(t.here)) {
		if _, is := here[who]; !is {
			put(c.Left(now, who, t.here[who], t.why(who)))
		}
	}
	t.here = here
}

// why a participant left.
func (t *teller) why(who consult.ParticipantID) string {
	if t.sent[who] {
		return "moved"
	}
	return "gone"
}

// tellClosed is for who still has a seat when the edge closes.
func (rm *runner) tellClosed(now time.Time) {
	t := &rm.told
	for _, who := range slices.Sorted(maps.Keys(t.here)) {
		why := t.why(who)
		if why == "gone" {
			why = "edge_stopped"
		}
		rm.edge().cfg.Webhooks.Put(t.of.Left(now, who, t.here[who], why))
	}
	t.here = nil
}

// tellBackends runs the queue of events until the function that it returns is called, which
// waits for it: rooms tell of their end.
func (e *Edge) tellBackends() (stop func()) {
	if e.cfg.Webhooks == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.cfg.Webhooks.Run(ctx); err != nil {
			e.cfg.Log.Error("webhooks' journal not closed", "err", err)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}
