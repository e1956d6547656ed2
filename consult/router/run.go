package router

import (
	"context"
	"strings"
	"time"

	"bailiwick/consult"
)

// housekeeping is how often the join key is published again and expired records
// are swept.
const housekeeping = 10 * time.Minute

// Run keeps this process's join key published and sweeps expired placements and
// keys, until ctx ends. Tokens it signs are of use once it has started. An outage of the
// store is logged when it begins and when it is over.
func (r *Router) Run(ctx context.Context) error {
	t := time.NewTicker(housekeeping)
	defer t.Stop()
	var failing time.Time // zero: not
	for wait := time.Duration(0); ; {
		err := r.keep(ctx, time.Now())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			if !failing.IsZero() {
				r.Log.Info("join key published and records swept again", "after", time.Since(failing).Round(time.Millisecond))
				failing = time.Time{}
			}
			wait = 0
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-t.C:
			}
			continue
		}
		if failing.IsZero() { // of a whole outage, as the first failure says what there is to know
			failing = time.Now()
			r.Log.Error("join key not published, records not swept: trying again", "err", err)
		}
		wait = min(max(2*wait, 200*time.Millisecond), 10*time.Second)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (r *Router) keep(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := r.Signer.Publish(ctx, r.Store, r.Node, now); err != nil {
		return err
	}
	for _, prefix := range []string{consult.KeyPrefix, KeysPrefix} {
		s, err := r.Store.List(ctx, prefix)
		if err != nil {
			return err
		}
		for _, e := range s.Entries {
			var expires time.Time
			if p, err := consult.ParsePlacement(e.Value); err == nil && strings.HasPrefix(e.Key, consult.KeyPrefix) {
				expires = p.Expires
			} else if k, err := ParseKey(e.Value); err == nil {
				expires = k.Expires
			}
			if !expires.IsZero() && now.After(expires) {
				r.Store.Delete(ctx, e.Key, e.Rev) // a conflict means that somebody renewed it
			}
		}
	}
	return nil
}
