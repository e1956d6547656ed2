package router

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"bailiwick/consult"
	"bailiwick/exact"
	"bailiwick/store"
)

const (
	// housekeeping is how often the join key is published again and what has expired is swept.
	housekeeping = 10 * time.Minute
	// lookEvery is how often this node's World is asked whether the join key is still there.
	lookEvery = 10 * time.Second
	// sweptKey says when somebody last swept a store. Who moves it on by compare-and-swap
	// does: one node a round.
	sweptKey = "bailiwick/swept"
)

// Run keeps this process's join key published, pays what stores are owed, and takes its
// turn at sweeping, until ctx ends. Tokens it signs are of use once it has started.
func (r *Router) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.Records.Run(ctx) })
	for dc, st := range r.Stores {
		g.Go(func() error { return r.keepHouse(ctx, dc, st) })
	}
	return g.Wait()
}

// keepHouse does it for one datacenter. An outage is logged when it begins and when it is
// over.
func (r *Router) keepHouse(ctx context.Context, dc string, st store.Store) error {
	var failing time.Time // zero: not
	for wait := time.Duration(0); ; {
		err := r.keep(ctx, st, time.Now())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause := housekeeping - rand.N(housekeeping/10) // nodes do not come all at once
		switch {
		case err != nil:
			if failing.IsZero() { // of a whole outage, as the first failure says what there is to know
				failing = time.Now()
				r.Log.Error("join key not published, records not swept: trying again", "datacenter", dc, "err", err)
			}
			wait = min(max(2*wait, 200*time.Millisecond), 10*time.Second)
			pause = wait
		case !failing.IsZero():
			r.Log.Info("join key published and records swept again", "datacenter", dc, "after", time.Since(failing).Round(time.Millisecond))
			failing, wait = time.Time{}, 0
		}
		if err := r.rest(ctx, pause); err != nil {
			return err
		}
	}
}

// rest waits, or until the store turns out to lack the join key: one that was restored
// from a backup has lost what is younger, and other edges then refuse what this one signs.
func (r *Router) rest(ctx context.Context, pause time.Duration) error {
	until, look := time.NewTimer(pause), time.NewTicker(lookEvery)
	defer until.Stop()
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-until.C:
			return nil
		case <-look.C:
			if w := r.World(); w.StoreUp && len(w.Keys[r.Signer.KID].Public) == 0 {
				return nil
			}
		}
	}
}

func (r *Router) keep(ctx context.Context, st store.Store, now time.Time) error {
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := r.Signer.Publish(bounded, st, r.Node, now); err != nil {
		return err
	}
	mine, err := takeTurn(bounded, st, r.Node, now)
	if err != nil || !mine {
		return err
	}
	long, done := context.WithTimeout(ctx, housekeeping/2)
	defer done()
	return sweep(long, st, now)
}

// turn is the value of sweptKey.
type turn struct {
	Node string    `json:"node"`
	At   time.Time `json:"at"`
}

// takeTurn tells whether this node sweeps now: nobody has for a while, and nobody else took
// the turn meanwhile.
func takeTurn(ctx context.Context, st store.Store, node string, now time.Time) (bool, error) {
	e, err := st.Get(ctx, sweptKey)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	var last turn
	if err == nil && exact.Known(e.Value, &last) == nil && now.Sub(last.At).Abs() < housekeeping*8/10 {
		return false, nil
	}
	b, err := json.Marshal(turn{node, now.UTC()})
	if err != nil {
		return false, err
	}
	switch _, err = st.CAS(ctx, sweptKey, b, e.Rev); {
	case errors.Is(err, store.ErrConflict):
		return false, nil
	default:
		return err == nil, err
	}
}

// sweep deletes what has expired.
func sweep(ctx context.Context, st store.Store, now time.Time) error {
	for _, prefix := range []string{consult.KeyPrefix, consult.NoticesPrefix, KeysPrefix} {
		s, err := st.List(ctx, prefix)
		if err != nil {
			return err
		}
		for _, e := range s.Entries {
			if at := expiry(e); at.IsZero() || !now.After(at) {
				continue
			}
			// A conflict means that somebody renewed it.
			if _, err := st.Delete(ctx, e.Key, e.Rev); err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}

// expiry is zero of what cannot be read: nobody knows what it is for.
func expiry(e store.Entry) time.Time {
	switch {
	case strings.HasPrefix(e.Key, consult.KeyPrefix):
		if p, err := consult.ParsePlacement(e.Value); err == nil {
			return p.Expires
		}
	case strings.HasPrefix(e.Key, consult.NoticesPrefix):
		if n, err := consult.ParseNotice(e.Value); err == nil {
			return n.Expires
		}
	default:
		if k, err := ParseKey(e.Value); err == nil {
			return k.Expires
		}
	}
	return time.Time{}
}
