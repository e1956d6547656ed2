package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3"
	acmeapi "github.com/mholt/acmez/v3/acme"

	"bailiwick/store"
)

// Solver solves DNS-01 through the store: RFC 8555 section 8.4.
type Solver struct {
	store store.Store
	bound time.Duration // of a Wait
}

var (
	_ acmez.Solver = (*Solver)(nil)
	_ acmez.Waiter = (*Solver)(nil)
)

func newSolver(st store.Store) *Solver { return &Solver{store: st, bound: time.Minute} }

func challengeOf(ch acmeapi.Challenge) challenge {
	name := strings.ToLower(strings.TrimSuffix(ch.DNS01TXTRecordName(), ".")) + "."
	return challenge{name: name, value: ch.DNS01KeyAuthorization()}
}

// Present implements acmez.Solver. It also sweeps away what dead nodes left.
func (s *Solver) Present(ctx context.Context, ch acmeapi.Challenge) error {
	now := time.Now().UTC()
	snap, err := s.store.List(ctx, challengesPrefix)
	if err != nil {
		return err
	}
	for _, e := range snap.Entries {
		if old, err := parseChallenge(e.Key, e.Value); err == nil && !old.current(now) {
			s.store.Delete(ctx, e.Key, e.Rev) // whoever comes next tries again
		}
	}
	b, err := json.Marshal(storedChallenge{Presented: now})
	if err != nil {
		return err
	}
	_, err = s.store.Put(ctx, challengesPrefix+challengeOf(ch).id(), b)
	return err
}

// CleanUp implements acmez.Solver.
func (s *Solver) CleanUp(ctx context.Context, ch acmeapi.Challenge) error {
	_, err := s.store.Delete(ctx, challengesPrefix+challengeOf(ch).id(), 0)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// Wait implements acmez.Waiter: every DNS node whose lease holds has acknowledged
// that it serves the challenge. Its error names those that have not.
func (s *Solver) Wait(ctx context.Context, ch acmeapi.Challenge) error {
	id := challengeOf(ch).id()
	bounded, cancel := context.WithTimeout(ctx, s.bound)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	nodes, acks := make(chan []store.Instance), make(chan store.Snapshot)
	wg.Go(func() {
		s.store.WatchInstances(bounded, Service, func(list []store.Instance) { deliver(bounded, nodes, list) }, func(error) {})
	})
	wg.Go(func() {
		s.store.Watch(bounded, acksPrefix, func(snap store.Snapshot) { deliver(bounded, acks, snap) }, func(error) {})
	})
	var (
		list  []store.Instance
		snap  store.Snapshot
		heard bool // of the nodes
	)
	for {
		select {
		case list = <-nodes:
			heard = true
		case snap = <-acks:
		case <-bounded.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return s.late(list, snap, id, heard)
		}
		if passing, missing := waiting(list, snap, id); passing > 0 && len(missing) == 0 {
			return nil
		}
	}
}

func deliver[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}

// waiting counts the nodes that matter and names those that have yet to acknowledge.
func waiting(list []store.Instance, snap store.Snapshot, id string) (passing int, missing []string) {
	for _, in := range list {
		if in.Status != store.Passing {
			continue
		}
		passing++
		if !acknowledged(snap, in.ID, id) {
			missing = append(missing, in.ID)
		}
	}
	return passing, missing
}

func acknowledged(snap store.Snapshot, node, id string) bool {
	for _, e := range snap.Entries {
		if e.Key == acksPrefix+node {
			ids, err := parseAck(e.Value)
			return err == nil && slices.Contains(ids, id)
		}
	}
	return false
}

// parseAck reads what a DNS node serves.
func parseAck(b []byte) ([]string, error) {
	if len(b) > 256<<10 {
		return nil, fmt.Errorf("acknowledgement of %d bytes", len(b))
	}
	var ids []string
	err := json.Unmarshal(b, &ids)
	return ids, err
}

func (s *Solver) late(list []store.Instance, snap store.Snapshot, id string, heard bool) error {
	passing, missing := waiting(list, snap, id)
	switch {
	case !heard:
		return fmt.Errorf("acme challenge: the store has not said within %s which DNS nodes there are", s.bound)
	case passing == 0:
		return fmt.Errorf("acme challenge: no DNS node is registered as %s: run bailiwick dns with the same store", Service)
	}
	return fmt.Errorf("acme challenge: not served by DNS node %s after %s: is it alive, and can it write %s?",
		strings.Join(missing, ", "), s.bound, acksPrefix)
}
