package nameserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/store"
)

const (
	// keysEvery is how often the zone's keys are looked at, keysSoon the same while
	// there are none.
	keysEvery = time.Minute
	keysSoon  = time.Second
	// keysWait is how long a start waits for the store to have the keys.
	keysWait = 5 * time.Second
	// parentEvery is how often the parent is asked while no key waits for it.
	parentEvery = 15 * time.Minute
	// clockJump is how far the clock may move against the time that has passed.
	clockJump = time.Hour
)

// Signing is how a zone is signed.
type Signing struct {
	Policy    dnssec.Policy
	Algorithm dnssec.Algorithm // of the first keys
	Split     bool             // the first keys are a KSK and a ZSK
	Parent    []netip.AddrPort // the parent's servers, asked for the DS; empty: they are not known
}

// keeper keeps the keys of a DNS node's zone and gives each new set to the server.
// All nodes of a zone share the set through the store. One goroutine uses it.
type keeper struct {
	Signing
	store   store.Store
	zone    string
	path    string // of a copy for a start without the store; empty: none
	log     *slog.Logger
	swap    func(*dnssec.Signer)
	metrics *metrics // may be nil
	// parent asks what the parent's servers say; nil: they are not known.
	parent func(context.Context, time.Time) (*dnssec.Parent, error)
	every  time.Duration // that the keys are looked at
	// clock is the time, and how long this process runs.
	clock func() (now time.Time, running time.Duration)

	set     dnssec.Set // in force; without keys: none yet
	encoded []byte     // the same
	signer  atomic.Pointer[dnssec.Signer]
	faults  string // what was last said to be wrong

	began    time.Time     // by the clock, when it was first read
	running  time.Duration // the same, of the process
	asked    time.Time     // when the parent was last asked
	observed *dnssec.Parent
	unheard  error // why it was not heard
}

// newKeeper is of a zone whose server follows: path and swap are the caller's to set.
func newKeeper(how Signing, zone string, st store.Store, log *slog.Logger) *keeper {
	started := time.Now()
	k := &keeper{Signing: how, zone: zone, store: st, log: log, every: keysEvery,
		clock: func() (time.Time, time.Duration) { now := time.Now(); return now.Round(0), now.Sub(started) }}
	if len(how.Parent) > 0 {
		k.parent = func(ctx context.Context, now time.Time) (*dnssec.Parent, error) {
			return askParent(ctx, zone, how.Parent, now)
		}
	}
	return k
}

// keysPath is where a node keeps its copy of the keys; state may be empty.
func keysPath(state, zone string) string {
	if state == "" {
		return ""
	}
	return filepath.Join(state, strings.TrimSuffix(zone, ".")+".keys")
}

// start has the keys, if they are to be had soon.
func (k *keeper) start(ctx context.Context) {
	if k.path != "" {
		set, err := dnssec.ReadFile(k.path)
		if err == nil && dnssec.StoreKey(set.Zone) != dnssec.StoreKey(k.zone) {
			err = fmt.Errorf("%s: keys of another zone: %s", k.path, set.Zone)
		}
		if err == nil {
			err = k.use(set)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.log.Warn("dnssec keys on disk not used: the store's are waited for", "err", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	k.look(ctx)
}

// await returns once there are keys, or with ctx's error. An unsigned answer would be
// bogus once the parent has a DS; of a server that is silent resolvers turn to another.
// Little is lost by it: a node that has neither the store nor its state knows no edge.
func (k *keeper) await(ctx context.Context) error {
	for k.set.Keys == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(keysSoon):
			k.look(ctx)
		}
	}
	return nil
}

// signed tells whether there are keys. It may be called at any time.
func (k *keeper) signed() bool { return k.signer.Load() != nil }

// run follows the store until ctx ends.
func (k *keeper) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(k.every):
			k.look(ctx)
		}
	}
}

// look takes a step and tells what is wrong, once for each change of it.
func (k *keeper) look(ctx context.Context) {
	now, running := k.clock()
	jumped := k.jumped(now, running)
	if jumped == nil {
		k.ask(ctx, now)
	}
	findings := []error{jumped, k.unheard}
	if err := k.step(ctx, now, jumped == nil && !errors.Is(k.unheard, errWrongClock)); err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return
		}
		if k.set.Keys != nil {
			err = fmt.Errorf("%w: %d keys in force stay", err, len(k.set.Keys))
		}
		findings = append(findings, err)
	}
	if k.set.Keys != nil {
		findings = append(findings, k.set.Check(now, k.Policy))
		if k.observed != nil {
			findings = append(findings, k.set.CheckParent(k.observed))
		}
	}
	n, said := countErrors(errors.Join(findings...))
	if said != k.faults && k.set.Keys == nil {
		k.log.Error("dnssec has no keys: nothing is answered until it has, for that would be bogus", "err", said)
	} else if said != k.faults && said != "" {
		k.log.Warn("dnssec has findings: answers go on", "count", n, "err", said)
	} else if said != k.faults {
		k.log.Info("dnssec has no findings any more")
	}
	k.faults = said
	k.metrics.observe(k.set, n)
}

// countErrors is how many errors are joined, and their text.
func countErrors(err error) (n int, text string) {
	if err == nil {
		return 0, ""
	}
	list, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return 1, err.Error()
	}
	for _, e := range list.Unwrap() {
		m, _ := countErrors(e)
		n += m
	}
	return n, err.Error()
}

// jumped says when the clock moved otherwise than time did since the start. Such a node
// serves and follows the others, and leaves the steps to them: a key could be removed
// while caches still count on it.
func (k *keeper) jumped(now time.Time, running time.Duration) error {
	if k.began.IsZero() {
		k.began, k.running = now, running
	}
	off := now.Sub(k.began) - (running - k.running)
	if off.Abs() <= clockJump {
		return nil
	}
	return fmt.Errorf("dnssec %s: the clock jumped by %s: this node takes no step of a roll: set it right, or restart the node if it is right now",
		k.zone, off.Round(time.Minute))
}

// ask asks the parent: often while a key waits for its word, else seldom.
func (k *keeper) ask(ctx context.Context, now time.Time) {
	if k.parent == nil {
		return
	}
	waits := k.set.Keys == nil
	for _, key := range k.set.Keys {
		waits = waits || key.State == dnssec.Ready
	}
	if since := now.Sub(k.asked); !waits && 0 <= since && since < parentEvery {
		return
	}
	k.asked = now
	k.observed, k.unheard = k.parent(ctx, now)
}

// step brings the stored keys a step on and takes them over; without roll it takes
// them over only. A store that has lost the keys, or got older ones from a backup or
// from a node that was away, gets those in force again.
func (k *keeper) step(ctx context.Context, now time.Time, roll bool) error {
	set, events, err := dnssec.Step(ctx, k.store, k.zone, func() (dnssec.Set, error) { return k.first(now, roll) },
		func(s dnssec.Set) (dnssec.Set, []dnssec.Event, error) {
			switch {
			case k.set.Keys != nil && s.Serial < k.set.Serial:
				return k.set, []dnssec.Event{{Zone: k.set.Zone, Key: k.set.Keys[0].Tag, Role: k.set.Keys[0].Role, What: "restored", At: now}}, nil
			case !roll:
				return s, nil, nil
			}
			return dnssec.Next(s, now, k.Policy, k.observed)
		})
	if err != nil {
		return err
	}
	for _, ev := range events {
		k.log.Info("dnssec key", "zone", ev.Zone, "key", ev.Key, "role", ev.Role, "step", ev.What)
	}
	return k.use(set)
}

// first is the set for a store that has none.
func (k *keeper) first(now time.Time, roll bool) (dnssec.Set, error) {
	switch {
	case k.set.Keys != nil:
		return k.set, nil
	case k.observed != nil && len(k.observed.DS) > 0:
		return dnssec.Set{}, fmt.Errorf("dnssec %s: the parent has a DS and there are no keys: new ones would be refused by validators: restore a node's key file, or have the parent remove the DS first", k.zone)
	case k.unheard != nil || !roll:
		return dnssec.Set{}, fmt.Errorf("dnssec %s: no keys are made before the parent says that it has no DS, by a clock that is right", k.zone)
	}
	return dnssec.NewSet(k.zone, k.Algorithm, k.Split, now)
}

// use puts a set in force.
func (k *keeper) use(set dnssec.Set) error {
	b, err := set.Encode()
	if err != nil || bytes.Equal(b, k.encoded) {
		return err
	}
	signer, err := dnssec.NewSigner(set, k.Policy)
	if err != nil {
		return err
	}
	k.swap(signer)
	k.signer.Store(signer)
	k.set, k.encoded = set, b
	if k.path == "" {
		return nil
	}
	if err := set.WriteFile(k.path); err != nil {
		k.log.Warn("dnssec keys not copied to disk: a start without the store would wait for it", "err", err)
	}
	return nil
}

// anchor is what validates the zone without a parent; nil without keys.
func (k *keeper) anchor() (*dns.DS, error) {
	if k.set.Keys == nil {
		return nil, nil
	}
	return k.set.DS(append(k.set.Wanted(), k.set.Keys[0])[0], dns.SHA256) // a first key is not wanted yet
}
