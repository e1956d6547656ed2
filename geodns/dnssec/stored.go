package dnssec

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"bailiwick/store"
)

// maxTries is how often a change is made again upon what another node wrote meanwhile.
const maxTries = 8

// StoreKey is where the key set of a zone is: a key file (see [Parse]). Who can read
// it can sign the zone; restrict it by the store's own access rules.
func StoreKey(zone string) string {
	return "bailiwick/dnssec/" + strings.TrimSuffix(strings.ToLower(zone), ".")
}

// Load reads the zone's set. It returns [store.ErrNotFound] where there is none.
func Load(ctx context.Context, st store.Store, zone string) (Set, error) {
	s, _, err := load(ctx, st, zone)
	return s, err
}

func load(ctx context.Context, st store.Store, zone string) (Set, uint64, error) {
	e, err := st.Get(ctx, StoreKey(zone))
	if err != nil {
		return Set{}, 0, fmt.Errorf("dnssec keys of %s: %w", zone, err)
	}
	s, err := Parse(e.Value)
	if err != nil {
		return Set{}, 0, fmt.Errorf("%s: %w", e.Key, err)
	}
	if StoreKey(s.Zone) != e.Key {
		return Set{}, 0, fmt.Errorf("%s: dnssec keys of another zone: %s", e.Key, s.Zone)
	}
	return s, e.Rev, nil
}

// Step brings the stored set a step on and returns it as it is stored then: change is
// [Next] or [Roll] with its arguments bound, and may be called again when another node
// was first, on what that node wrote. Any number of nodes may call it as often as they
// like; one of them takes each step. A zone without a set gets the one that first
// makes. The events are those of this node's own write.
func Step(ctx context.Context, st store.Store, zone string, first func() (Set, error), change func(Set) (Set, []Event, error)) (Set, []Event, error) {
	for range maxTries {
		s, rev, err := load(ctx, st, zone)
		var events []Event
		switch {
		case errors.Is(err, store.ErrNotFound):
			if s, err = first(); err == nil {
				for _, k := range s.Keys {
					events = append(events, Event{s.Zone, k.Tag, k.Role, string(k.State), k.latest()})
				}
			}
		case err == nil:
			s, events, err = change(s)
		}
		if err != nil || len(events) == 0 {
			return s, nil, err
		}
		b, err := s.Encode()
		if err != nil {
			return Set{}, nil, err
		}
		if _, err := Parse(b); err != nil { // no node could read it, nor this one after a restart
			return Set{}, nil, fmt.Errorf("dnssec keys of %s: a step that no node could read is not written: %w", zone, err)
		}
		if _, err = st.CAS(ctx, StoreKey(zone), b, rev); err == nil {
			return s, events, nil
		} else if !errors.Is(err, store.ErrConflict) {
			return Set{}, nil, fmt.Errorf("dnssec keys of %s: %w", zone, err)
		}
	}
	return Set{}, nil, fmt.Errorf("dnssec keys of %s: %w after %d tries", zone, store.ErrConflict, maxTries)
}
