package dnssec

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bailiwick/store"
)

// conflicting loses the first writes to another node.
type conflicting struct {
	store.Store
	left int
	lost func()
}

func (c *conflicting) CAS(ctx context.Context, key string, value []byte, rev uint64) (store.Entry, error) {
	if c.left > 0 {
		c.left--
		c.lost()
	}
	return c.Store.CAS(ctx, key, value, rev)
}

func firstSet(now time.Time) func() (Set, error) {
	return func() (Set, error) { return NewSet("media.example", Ed25519, false, now) }
}

func nextAt(now time.Time) func(Set) (Set, []Event, error) {
	return func(s Set) (Set, []Event, error) { return Next(s, now, scenarioPolicy(), nil) }
}

// TestNodesAgree: nodes that start at once have one key set, and one of them takes a step.
func TestNodesAgree(t *testing.T) {
	st := store.NewMemory()
	if _, err := Load(t.Context(), st, "media.example"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("empty store: got %v", err)
	}
	for _, at := range []time.Time{epoch, epoch.Add(3 * time.Hour)} {
		var mu sync.Mutex
		var tags []uint16
		var words []string
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				s, events, err := Step(t.Context(), st, "media.example", firstSet(at), nextAt(at))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				tags = append(tags, s.Keys[0].Tag)
				for _, e := range events {
					words = append(words, e.What)
				}
			})
		}
		wg.Wait()
		if tags = slices.Compact(tags); len(tags) != 1 {
			t.Errorf("nodes have the keys %d", tags)
		}
		want := string(Published)
		if at != epoch {
			want = string(Ready)
		}
		if !slices.Equal(words, []string{want}) {
			t.Errorf("steps %q, want one: %s", words, want)
		}
	}
	s, err := Load(t.Context(), st, "media.example")
	if err != nil || s.Keys[0].State != Ready {
		t.Errorf("stored: %v, %v", s, err)
	}
}

func TestStepConflicts(t *testing.T) {
	ready := epoch.Add(3 * time.Hour)
	for _, c := range []struct {
		name   string
		losses int
		want   string // of the error
	}{
		{"once", 1, ""},
		{"for ever", 1 << 20, "after 8 tries"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := store.NewMemory()
			if _, _, err := Step(t.Context(), st, "media.example", firstSet(epoch), nextAt(epoch)); err != nil {
				t.Fatal(err)
			}
			other := &conflicting{Store: st, left: c.losses, lost: func() {
				e, err := st.Get(t.Context(), StoreKey("media.example"))
				if err == nil {
					_, err = st.Put(t.Context(), e.Key, append(e.Value, ' '))
				}
				if err != nil {
					t.Error(err)
				}
			}}
			s, events, err := Step(t.Context(), other, "media.example", firstSet(ready), nextAt(ready))
			if (err != nil) != (c.want != "") || err != nil && (!errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if err == nil && (len(events) != 1 || s.Keys[0].State != Ready) {
				t.Errorf("got %v, %v", s, events)
			}
		})
	}
}

func TestStepKeepsWhatItCannotRead(t *testing.T) {
	st := store.NewMemory()
	for _, value := range []string{"nonsense", `{"version":9}`} {
		if _, err := st.Put(t.Context(), StoreKey("media.example"), []byte(value)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Step(t.Context(), st, "media.example", firstSet(epoch), nextAt(epoch)); err == nil {
			t.Errorf("%s: no error", value)
		}
		if e, err := st.Get(t.Context(), StoreKey("media.example")); err != nil || string(e.Value) != value {
			t.Errorf("%s was overwritten: %s, %v", value, e.Value, err)
		}
	}
	b, err := func() ([]byte, error) { s, _ := newSigner(t, Ed25519, false); return s.Encode() }()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), StoreKey("other.example"), b); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(t.Context(), st, "other.example"); err == nil || !strings.Contains(err.Error(), "another zone") {
		t.Errorf("keys of another zone: got %v", err)
	}
}

// TestStepWritesNothingUnreadable: the name of who confirms a DS comes from the
// environment, and its octets may be any.
func TestStepWritesNothingUnreadable(t *testing.T) {
	st := store.NewMemory()
	if _, _, err := Step(t.Context(), st, "media.example", firstSet(epoch), nextAt(epoch)); err != nil {
		t.Fatal(err)
	}
	before, err := st.Get(t.Context(), StoreKey("media.example"))
	if err != nil {
		t.Fatal(err)
	}
	for name, by := range map[string]string{"too long": strings.Repeat("a", maxActor+1), "longer as JSON": strings.Repeat("\xff", maxActor)} {
		_, _, err := Step(t.Context(), st, "media.example", firstSet(epoch), func(s Set) (Set, []Event, error) {
			s = s.clone()
			s.Serial++
			s.Keys[0].DSBy = by
			return s, []Event{{Zone: s.Zone, Key: s.Keys[0].Tag, Role: CSK, What: dsSeen, At: epoch}}, nil
		})
		if err == nil || !strings.Contains(err.Error(), "is not written: ") {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
		if after, err := st.Get(t.Context(), StoreKey("media.example")); err != nil || string(after.Value) != string(before.Value) {
			t.Errorf("%s: the stored set is another one, %v", name, err)
		}
	}
}
