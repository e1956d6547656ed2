package acme

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bailiwick/exact"
	"bailiwick/store"
)

// challengesPrefix is that of NAME/VALUE, which holds when it was presented.
const challengesPrefix = "bailiwick/acme/challenges/"

// Service is what DNS nodes register as. Meta appliedMeta is the store's revision up to
// which the node serves the challenges. It is not that of the regions' modes: a prefix that
// nobody writes to keeps its revision, and the least of both would stand still for ever.
const (
	Service     = "bailiwick-dns"
	appliedMeta = "applied_challenges"
)

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

// id is the challenge's key below challengesPrefix.
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
	if err := exact.Known(value, &s); err != nil {
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

	applied atomic.Uint64 // what the lease says: see appliedMeta
	changed chan struct{} // the lease has something new to say
	further func() map[string]string
	changes func() (<-chan struct{}, func())
}

// NewChallenges is for the DNS node of that name, which answers on addr.
func NewChallenges(st store.Store, node string, addr netip.AddrPort, log *slog.Logger) *Challenges {
	c := &Challenges{store: st, node: node, addr: addr, log: log, changed: make(chan struct{}, 1)}
	c.names.Store(&map[string][]string{})
	return c
}

// Carry makes the node's lease say more: further is asked when the channel that changes
// subscribes to fires. Call it before Run.
func (c *Challenges) Carry(further func() map[string]string, changes func() (<-chan struct{}, func())) {
	c.further, c.changes = further, changes
}

// Lookup returns the TXT values of a canonical name (lower case, with the final dot);
// nil when it has none. The caller does not change them. It takes no lock.
func (c *Challenges) Lookup(name string) []string { return (*c.names.Load())[name] }

// Run follows the store until ctx ends, whose error it returns. The node registers
// once it serves what there is, so that whoever waits for it waits for no more than the
// next change.
func (c *Challenges) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	snaps := make(chan store.Snapshot)
	wg.Go(func() {
		c.store.Watch(ctx, challengesPrefix, func(s store.Snapshot) {
			deliver(ctx, snaps, s)
		}, c.once("acme challenges not followed: those that are known are served"))
	})
	if c.changes != nil {
		wg.Go(func() { c.relay(ctx) })
	}
	var (
		all   []challenge
		last  store.Snapshot
		known bool
	)
	for timer := time.NewTimer(challengeLife); ; {
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case s := <-snaps:
			if known && store.EqualEntries(s.Entries, last.Entries) && s.Rev >= last.Rev {
				last.Rev = s.Rev
				continue // nobody waits for a revision that changed nothing
			}
			all, last = c.parse(s), s
		case <-timer.C:
		}
		wait, whole := c.apply(all)
		timer.Reset(wait)
		// What is beyond the bounds is not served: the orders of that must not go on. A
		// revision that went back is that of a store built anew from a backup.
		if whole && last.Rev != c.applied.Load() {
			c.applied.Store(last.Rev)
			c.say()
		}
		if !known {
			known = true
			wg.Go(func() { c.register(ctx) })
		}
	}
}

// say makes the lease be told anew.
func (c *Challenges) say() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *Challenges) relay(ctx context.Context) {
	changed, cancel := c.changes()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			c.say()
		}
	}
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

// apply serves what is current and returns how long that stands, and whether it is all.
func (c *Challenges) apply(all []challenge) (wait time.Duration, whole bool) {
	now := time.Now()
	names, left := make(map[string][]string), maxChallenges
	wait, whole = challengeLife, true
	for _, ch := range all {
		if !ch.current(now) {
			continue
		}
		wait = min(wait, ch.at.Add(challengeLife).Sub(now))
		if left == 0 || len(names[ch.name]) == maxValues {
			whole = false
			continue
		}
		left--
		names[ch.name] = append(names[ch.name], ch.value)
	}
	if !maps.EqualFunc(names, *c.names.Load(), slices.Equal) {
		c.names.Store(&names)
	}
	return wait, whole
}

// register holds the node's lease until ctx ends.
func (c *Challenges) register(ctx context.Context) {
	h := store.Hold{TTL: lease, Changed: c.changed, Applied: c.meta,
		Self: func() store.Instance { return store.Instance{ID: c.node, Service: Service, Addr: c.addr} },
		Told: c.once("dns node not registered: certificates are ordered without waiting for it, or wait in vain")}
	if err := h.Keep(ctx, c.store); err != nil {
		c.log.Warn("dns node not deregistered: its lease ends by itself", "err", err)
	}
}

func (c *Challenges) meta() map[string]string {
	meta := map[string]string{appliedMeta: strconv.FormatUint(c.applied.Load(), 10)}
	if c.further != nil {
		maps.Copy(meta, c.further())
	}
	return meta
}
