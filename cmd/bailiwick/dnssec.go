package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/store"
	"bailiwick/store/consul"
)

const (
	// keysEvery is how often the zone's keys are looked at, keysSoon the same while
	// there are none.
	keysEvery = time.Minute
	keysSoon  = time.Second
	// keysWait is how long a start waits for the store to have the keys.
	keysWait = 5 * time.Second
)

// signing keeps the keys of a DNS node's zone and gives each new set to the server.
// All nodes of a zone share the set through the store.
type signing struct {
	store store.Store
	zone  string
	path  string // of a copy for a start without the store; empty: none
	log   *slog.Logger
	swap  func(*dnssec.Signer)

	set     dnssec.Set // in force; without keys: none yet
	encoded []byte     // the same
	faults  string     // what was last said to be wrong with it
}

// signingPath is where a node keeps its copy of the keys; state may be empty.
func signingPath(state, zone string) string {
	if state == "" {
		return ""
	}
	return filepath.Join(state, strings.TrimSuffix(zone, ".")+".keys")
}

// start has the keys, if they are to be had, before the first query: an unsigned
// answer would be bogus once the parent has a DS.
func (k *signing) start(ctx context.Context) {
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

// run follows the store until ctx ends.
func (k *signing) run(ctx context.Context) error {
	for {
		every := keysEvery
		if k.set.Keys == nil {
			every = keysSoon
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
			k.look(ctx)
		}
	}
}

func (k *signing) look(ctx context.Context) {
	if err := k.step(ctx, time.Now()); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		k.log.Error("dnssec keys not renewed: those in force stay", "keys", len(k.set.Keys), "err", err)
	}
}

// step brings the stored keys a step on and takes them over. A store that has lost
// them gets those in force again: others would be without a DS.
func (k *signing) step(ctx context.Context, at time.Time) error {
	p := dnssec.DefaultPolicy()
	set, events, err := dnssec.Step(ctx, k.store, k.zone, func() (dnssec.Set, error) {
		if k.set.Keys != nil {
			return k.set, nil
		}
		return dnssec.NewSet(k.zone, dnssec.ECDSAP256, false, at)
	}, func(s dnssec.Set) (dnssec.Set, []dnssec.Event, error) { return dnssec.Next(s, at, p, nil) })
	if err != nil {
		return err
	}
	for _, ev := range events {
		k.log.Info("dnssec key", "zone", ev.Zone, "key", ev.Key, "role", ev.Role, "step", ev.What)
	}
	said := ""
	if err := set.Check(at, p); err != nil {
		said = err.Error()
	}
	if said != k.faults && said != "" {
		k.log.Warn("dnssec keys have findings: they are served", "err", said)
	}
	k.faults = said
	return k.use(set)
}

// use puts a set in force.
func (k *signing) use(set dnssec.Set) error {
	b, err := set.Encode()
	if err != nil || bytes.Equal(b, k.encoded) {
		return err
	}
	signer, err := dnssec.NewSigner(set, dnssec.DefaultPolicy())
	if err != nil {
		return err
	}
	k.swap(signer)
	k.set, k.encoded = set, b
	if k.path == "" {
		return nil
	}
	if err := set.WriteFile(k.path); err != nil {
		k.log.Warn("dnssec keys not copied to disk: a start without the store would be unsigned", "err", err)
	}
	return nil
}

// anchor is a line for dev's summary: what validates the zone without a parent.
func (k *signing) anchor() (string, error) {
	if k.set.Keys == nil {
		return "", nil
	}
	ds, err := k.set.DS(append(k.set.Wanted(), k.set.Keys[0])[0], dns.SHA256) // a first key is not wanted yet
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("  dnssec   trust anchor %s DS %d %d %d %s\n", ds.Hdr.Name, ds.KeyTag, ds.Algorithm, ds.DigestType, ds.Digest), nil
}

type dsCmd struct {
	Consul string `help:"Address of the Consul agent." default:"127.0.0.1:8500"`
	Map    string `help:"The region map, which names the zone." default:"regions.yaml" placeholder:"FILE"`
}

func (dsCmd) Help() string {
	return `Prints the DS records that the parent zone should have, with both digests: one is
enough. Nodes that run with --dnssec make the keys.

Example:
  bailiwick dns ds --consul 127.0.0.1:8500 --map regions.yaml`
}

func (c *dsCmd) Run(e *env) error {
	m, err := readMap(c.Map)
	if err != nil {
		return err
	}
	st, err := consul.New(c.Consul, "")
	if err != nil {
		return misuse{err}
	}
	ctx, cancel := context.WithTimeout(e.ctx, 10*time.Second)
	defer cancel()
	set, err := dnssec.Load(ctx, st, m.Zone)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: run a node with bailiwick dns --dnssec first", err)
	case err != nil:
		return err
	}
	text, err := dsRecords(set)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(e.stdout, text)
	return err
}

// dsRecords are lines of a zone file. While caches may hold unsigned answers they say
// until when.
func dsRecords(set dnssec.Set) (string, error) {
	var b strings.Builder
	wanted := set.Wanted()
	if len(wanted) == 0 {
		for _, k := range set.Keys {
			if k.Role == dnssec.ZSK || k.State != dnssec.Published {
				continue
			}
			wanted = append(wanted, k)
			_, ready := dnssec.DefaultPolicy().Due(k)
			fmt.Fprintf(&b, "; not for the parent before %s: caches may hold unsigned answers\n", ready.UTC().Format(time.RFC3339))
		}
	}
	for _, k := range wanted {
		for _, digest := range []uint8{dns.SHA256, dns.SHA384} {
			ds, err := set.DS(k, digest)
			if err != nil {
				return "", err
			}
			fmt.Fprintln(&b, ds)
		}
	}
	return b.String(), nil
}
