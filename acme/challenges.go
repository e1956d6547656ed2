package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bailiwick/store"
)

// Keys: challenges/NAME/VALUE holds when it was presented, acks/NODE the challenges
// that the node serves.
const (
	challengesPrefix = "bailiwick/acme/challenges/"
	acksPrefix       = "bailiwick/acme/acks/"
)

// Service is what DNS nodes register as.
const Service = "bailiwick-dns"

const (
	// challengeLife is how long a challenge is served at most: one left behind by a
	// node that died costs nothing.
	challengeLife = time.Hour
	// lease is how soon a DNS node that died is no longer waited for.
	lease = 15 * time.Second
	// maxValues of one name are served, of maxChallenges in all: what 200 regions have that
	// all renew at once, two of join and one of their own. An answer of thousands would cost
	// every query milliseconds, and whoever may present one challenge may present as many.
	maxValues, maxChallenges = 400, 1000
)

// challenge is one value of one name.
type challenge struct {
	name  string // canonical: lower case, with the final dot
	value string // 43 characters of base64url
	at    time.Time
}

// id is the challenge's key below challengesPrefix, and its word in an acknowledgement.
func (c challenge) id() string { return strings.TrimSuffix(c.name, ".") + "/" + c.value }

type storedChallenge struct {
	Presented time.Time `json:"presented"`
}

// parseChallenge reads an entry of the store. Only a challenge's own form is taken:
// nothing that is written there can make a DNS node say anything else.
func parseChallenge(key string, value []byte) (challenge, error) {
	name, txt, _ := strings.Cut(strings.TrimPrefix(key, challengesPrefix), "/")
	host, ok := strings.CutPrefix(name, "_acme-challenge.")
	if !ok || !hostname(host) || len(name) > 253 {
		return challenge{}, fmt.Errorf("challenge %.300q: want _acme-challenge. and a host name", name)
	}
	if len(txt) != 43 || strings.ContainsFunc(txt, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
	}) {
		return challenge{}, fmt.Errorf("challenge %s: want a value of 43 characters of base64url (RFC 8555 section 8.4)", name)
	}
	var s storedChallenge
	if len(value) > 1024 {
		return challenge{}, fmt.Errorf("challenge %s: %d bytes beside it", name, len(value))
	}
	if err := json.Unmarshal(value, &s); err != nil {
		return challenge{}, fmt.Errorf("challenge %s: %w", name, err)
	}
	return challenge{name: name + ".", value: txt, at: s.Presented.UTC()}, nil
}

// current reports whether the challenge is to be served. Clocks may differ a little.
func (c challenge) current(now time.Time) bool {
	age := now.Sub(c.at)
	return -challengeLife < age && age < challengeLife
}

// Challenges is the DNS node's side: what it is to answer for _acme-challenge names.
type Challenges struct {
	store store.Store
	node  string
	addr  netip.AddrPort
	log   *slog.Logger
	names atomic.Pointer[map[string][]string] // immutable
}

// NewChallenges is for the DNS node of that name, which answers on addr.
func NewChallenges(st store.Store, node string, addr netip.AddrPort, log *slog.Logger) *Challenges {
	c := &Challenges{store: st, node: node, addr: addr, log: log}
	c.names.Store(&map[string][]string{})
	return c
}

// Lookup returns the TXT values of a canonical name (lower case, with the final dot);
// nil when it has none. The caller does not change them. It takes no lock.
func (c *Challenges) Lookup(name string) []string { return (*c.names.Load())[name] }

// Run follows the store until ctx ends, whose error it returns. The node registers
// once it serves and has acknowledged what there is, so that whoever waits for it
// waits for no more than the next change.
func (c *Challenges) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := store.CheckKey(acksPrefix + c.node); err != nil {
		return err
	}
	snaps := make(chan store.Snapshot)
	wg.Go(func() {
		c.store.Watch(ctx, challengesPrefix, func(s store.Snapshot) {
			deliver(ctx, snaps, s)
		}, c.once("acme challenges not followed: those that are known are served"))
	})
	told := c.once("acme challenges not acknowledged: orders of certificates wait in vain")
	var (
		all   []challenge
		acked string // what the store was last told; empty: nothing yet
	)
	for timer := time.NewTimer(challengeLife); ; {
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case s := <-snaps:
			all = c.parse(s)
		case <-timer.C:
		}
		wait := c.apply(all)
		if ids := served(all, *c.names.Load()); ids != acked {
			err := c.acknowledge(ctx, ids)
			if told(err); err != nil {
				wait = time.Second // told again until it is heard
			} else {
				if acked == "" {
					wg.Go(func() { c.register(ctx) })
				}
				acked = ids
			}
		}
		timer.Reset(wait)
	}
}

func (c *Challenges) acknowledge(ctx context.Context, ids string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := c.store.Put(ctx, acksPrefix+c.node, []byte(ids))
	return err
}

// once logs an error when it begins, not each time that it is met again.
func (c *Challenges) once(message string) func(error) {
	failing := false
	return func(err error) {
		if err != nil && !failing {
			c.log.Warn(message, "err", err)
		}
		failing = err != nil
	}
}

func (c *Challenges) parse(s store.Snapshot) []challenge {
	all := make([]challenge, 0, len(s.Entries))
	var first error
	refused := 0
	for _, e := range s.Entries {
		ch, err := parseChallenge(e.Key, e.Value)
		if err == nil {
			all = append(all, ch)
		} else if refused++; first == nil {
			first = err
		}
	}
	if first != nil {
		c.log.Warn("acme challenges not served: what else is in the store is no challenge", "count", refused, "err", first)
	}
	return all
}

// apply serves what is current and returns how long that stands.
func (c *Challenges) apply(all []challenge) time.Duration {
	now, wait := time.Now(), challengeLife
	names, left := make(map[string][]string), maxChallenges
	for _, ch := range all {
		if ch.current(now) && left > 0 && len(names[ch.name]) < maxValues {
			left--
			names[ch.name] = append(names[ch.name], ch.value)
			wait = min(wait, ch.at.Add(challengeLife).Sub(now))
		}
	}
	if !maps.EqualFunc(names, *c.names.Load(), slices.Equal) {
		c.names.Store(&names)
	}
	return wait
}

// served words an acknowledgement.
func served(all []challenge, names map[string][]string) string {
	ids := make([]string, 0, len(all))
	for _, ch := range all {
		if slices.Contains(names[ch.name], ch.value) {
			ids = append(ids, ch.id())
		}
	}
	b, _ := json.Marshal(ids) // strings cannot fail
	return string(b)
}

// register holds the node's lease until ctx ends.
func (c *Challenges) register(ctx context.Context) {
	in := store.Instance{ID: c.node, Service: Service, Addr: c.addr}
	var l store.Lease
	told := c.once("dns node not registered: certificates are ordered without waiting for it")
	for {
		var err error
		if l == nil {
			l, err = c.store.Register(ctx, in, lease)
		} else {
			err = l.Renew(ctx)
		}
		if ctx.Err() == nil {
			told(err)
		}
		timer := time.NewTimer(lease / 3)
		select {
		case <-ctx.Done():
			timer.Stop()
			if l != nil {
				bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
				defer cancel()
				if err := l.Close(bounded); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					c.log.Warn("dns node not deregistered: its lease ends by itself", "err", err)
				}
			}
			return
		case <-timer.C:
		}
	}
}
