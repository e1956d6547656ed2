package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
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

	mu        sync.Mutex
	presented map[string]uint64 // revisions, by challenge
}

var (
	_ acmez.Solver = (*Solver)(nil)
	_ acmez.Waiter = (*Solver)(nil)
)

func newSolver(st store.Store) *Solver {
	return &Solver{store: st, bound: time.Minute, presented: map[string]uint64{}}
}

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
	id := challengeOf(ch).id()
	e, err := s.store.Put(ctx, challengesPrefix+id, b)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.presented[id] = e.Rev
	return nil
}

// CleanUp implements acmez.Solver.
func (s *Solver) CleanUp(ctx context.Context, ch acmeapi.Challenge) error {
	id := challengeOf(ch).id()
	s.mu.Lock()
	delete(s.presented, id)
	s.mu.Unlock()
	_, err := s.store.Delete(ctx, challengesPrefix+id, 0)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// Wait implements acmez.Waiter: every DNS node whose lease holds says in it that it has
// applied the challenge. Its error names those that have not.
func (s *Solver) Wait(ctx context.Context, ch acmeapi.Challenge) error {
	s.mu.Lock()
	rev := s.presented[challengeOf(ch).id()]
	s.mu.Unlock()
	if rev == 0 {
		return fmt.Errorf("acme challenge of %s: waited for before it was presented", ch.Identifier.Value)
	}
	bounded, cancel := context.WithTimeout(ctx, s.bound)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	nodes := make(chan []store.Instance)
	wg.Go(func() {
		s.store.WatchInstances(bounded, Service, func(list []store.Instance) { deliver(bounded, nodes, list) }, func(error) {})
	})
	var (
		list  []store.Instance
		heard bool // of the nodes
	)
	for {
		select {
		case list = <-nodes:
			heard = true
		case <-bounded.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return s.late(list, rev, heard)
		}
		if passing, missing := waiting(list, rev); passing > 0 && len(missing) == 0 {
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

// waiting counts the nodes that matter and names those that have yet to apply rev.
func waiting(list []store.Instance, rev uint64) (passing int, missing []string) {
	for _, in := range list {
		if in.Status != store.Passing {
			continue
		}
		passing++
		if applied, err := strconv.ParseUint(in.Meta[appliedMeta], 10, 64); err != nil || applied < rev {
			missing = append(missing, in.ID)
		}
	}
	return passing, missing
}

func (s *Solver) late(list []store.Instance, rev uint64, heard bool) error {
	passing, missing := waiting(list, rev)
	switch {
	case !heard:
		return fmt.Errorf("acme challenge: the store has not said within %s which DNS nodes there are", s.bound)
	case passing == 0:
		return fmt.Errorf("acme challenge: no DNS node is registered as %s: run bailiwick dns with the same store", Service)
	}
	return fmt.Errorf("acme challenge: not served by DNS node %s after %s: is it alive, can it read %s and write its own service %s?",
		strings.Join(missing, ", "), s.bound, challengesPrefix, Service)
}
