package nameserver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bailiwick/exact"
	"bailiwick/geodns/cookie"
	"bailiwick/store"
)

const (
	// cookieKey holds the secrets of DNS cookies, the same for every DNS node, so that
	// a resolver may meet any of them (RFC 9018 section 5).
	cookieKey = "bailiwick/dns/cookie"
	// cookieRoll is how long one secret makes cookies, cookieNotice how long before
	// that every node is told it, cookieGrace how long after it verifies them.
	cookieRoll   = 24 * time.Hour
	cookieNotice = 10 * time.Minute
	cookieGrace  = time.Hour
	cookieCheck  = time.Minute
)

// cookieRing is the value under cookieKey, oldest first.
type cookieRing []cookieSecret

type cookieSecret struct {
	Key  []byte    `json:"key"`  // 16 octets
	From time.Time `json:"from"` // when it begins to make cookies
}

func parseRing(b []byte) (cookieRing, error) {
	var r cookieRing
	if err := exact.Known(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w: delete it, and the nodes make a new one", cookieKey, err)
	}
	for i, c := range r {
		if len(c.Key) != 16 || i > 0 && !c.From.After(r[i-1].From) {
			return nil, fmt.Errorf("%s: secret %d: want 16 octets and rising times: delete it, and the nodes make a new one", cookieKey, i)
		}
	}
	if len(r) == 0 || len(r) > 8 {
		return nil, fmt.Errorf("%s: %d secrets: want 1 to 8: delete it, and the nodes make a new one", cookieKey, len(r))
	}
	return r, nil
}

// secrets are those in use at an instant: the one that makes cookies, then all
// others that may be met.
func (r cookieRing) secrets(at time.Time) (list cookie.Secrets) {
	maker := 0
	for i, c := range r {
		if !c.From.After(at) {
			maker = i
		}
	}
	list = cookie.Secrets{[16]byte(r[maker].Key)}
	for i, c := range r {
		if i != maker && (i > maker || at.Before(r[i+1].From.Add(cookieGrace))) {
			list = append(list, [16]byte(c.Key))
		}
	}
	return list
}

// roll adds the next secret when it is due, and forgets those whose cookies have
// all expired. due is false where nothing changes.
func (r cookieRing) roll(at time.Time) (next cookieRing, due bool) {
	// A node whose clock was ahead may have told one that begins in a year, and until then
	// none would follow it.
	for len(r) > 1 && r[len(r)-1].From.After(at.Add(cookieRoll)) {
		r = r[:len(r)-1]
	}
	from := at
	if n := len(r); n > 0 {
		if from = r[n-1].From.Add(cookieRoll); at.Before(from.Add(-cookieNotice)) {
			return r, false
		}
		if early := at.Add(cookieNotice); from.Before(early) { // every node was off
			from = early
		}
	}
	for i, c := range r {
		if i+1 == len(r) || at.Before(r[i+1].From.Add(cookieGrace)) {
			next = append(next, c)
		}
	}
	key := make([]byte, 16)
	rand.Read(key) // never fails
	return append(next, cookieSecret{key, from}), true
}

// cookies keeps the ring of a DNS node. Until the store has spoken it is one secret
// of its own.
type cookies struct {
	store store.Store
	log   *slog.Logger
	ring  atomic.Pointer[cookieRing]
	now   atomic.Pointer[cookie.Secrets] // of the ring, recomputed as time passes
}

func newCookies(st store.Store, log *slog.Logger, at time.Time) *cookies {
	c := &cookies{store: st, log: log}
	own, _ := cookieRing(nil).roll(at)
	c.set(own, at)
	return c
}

func (c *cookies) set(r cookieRing, at time.Time) {
	now := r.secrets(at)
	c.ring.Store(&r)
	c.now.Store(&now)
}

// Secrets is what [geodns.Config] asks for.
func (c *cookies) Secrets() cookie.Secrets { return *c.now.Load() }

// run follows the store and rolls the secret; several nodes that do so at once
// agree by compare-and-swap.
func (c *cookies) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	changed := make(chan struct{}, 1)
	g.Go(func() error {
		return c.store.Watch(ctx, cookieKey, func(store.Snapshot) {
			select {
			case changed <- struct{}{}:
			default:
			}
		}, func(error) {})
	})
	g.Go(func() error {
		t := time.NewTicker(cookieCheck)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
			case <-t.C:
			}
			if err := c.step(ctx, time.Now()); err != nil && ctx.Err() == nil {
				c.log.Warn("dns cookie secret not renewed: the last one stays in force", "err", err)
			}
		}
	})
	return g.Wait()
}

// step takes over what the store holds and rolls it when due. Without the store's
// word the ring in force goes on.
func (c *cookies) step(ctx context.Context, at time.Time) error {
	c.set(*c.ring.Load(), at)
	e, err := c.store.Get(ctx, cookieKey)
	var held cookieRing
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return err
	default:
		if held, err = parseRing(e.Value); err != nil {
			return err
		}
		c.set(held, at)
	}
	next, due := held.roll(at)
	if !due {
		return nil
	}
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	switch _, err := c.store.CAS(ctx, cookieKey, b, e.Rev); {
	case errors.Is(err, store.ErrConflict): // another node was first; its watch tells
		return nil
	case err != nil:
		return err
	}
	c.set(next, at)
	return nil
}
