package edge

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/edge/signal"
	"bailiwick/health"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store"
)

// rewind takes a store back to what it had, as far as a store that is up can be: revisions
// go on, so the mark, whose revision would go back, is taken out.
func rewind(t *testing.T, st *store.Memory, to store.Snapshot, mark string) {
	t.Helper()
	was := map[string]store.Entry{}
	for _, e := range to.Entries {
		was[e.Key] = e
	}
	now, err := st.List(t.Context(), "bailiwick/")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range now.Entries {
		old, there := was[e.Key]
		switch {
		case !there || e.Key == mark:
			_, err = st.Delete(t.Context(), e.Key, 0)
		case old.Rev != e.Rev:
			_, err = st.Put(t.Context(), e.Key, old.Value)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
	}
}

// The mark is newer than whatever an edge read, wrote or was told, and costs nothing while
// there is nothing of that.
func TestMark(t *testing.T) {
	text, err := os.ReadFile("../regions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := region.Parse("regions.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := router.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		st := store.NewMemory()
		w, err := world.New(world.Config{Map: m, Law: residency.Shipped(), Stores: store.Set{"": st}, Health: health.Production(), ParseKey: router.ParseKey, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		e := &Edge{cfg: Config{ID: "de-ber-1", Region: "de-ber", World: w, Log: slog.New(slog.DiscardHandler)}}
		e.rooms = newRunners(e)
		e.router = router.New(router.Config{World: w.Current, Stores: store.Set{"": st}, Signer: signer, Self: "de-ber-1", Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- e.notices(ctx, "", st) }()
		defer func() { cancel(); <-done; e.rooms.wait() }()

		const key = consult.NoticesPrefix + "de-ber-1/edge"
		at := func() uint64 {
			e, err := st.Get(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			return e.Rev
		}
		later := func(what string, rev uint64) {
			t.Helper()
			time.Sleep(markEvery + takenEvery)
			synctest.Wait()
			if now := at(); now <= rev {
				t.Errorf("%s at %d: the mark is of %d", what, rev, now)
			}
		}
		synctest.Wait()
		first := at()
		time.Sleep(time.Hour)
		synctest.Wait()
		if now := at(); now != first {
			t.Errorf("in an hour of nothing the mark went from %d to %d", first, now)
		}

		p := &consult.Placement{Terms: consult.Terms{Consult: "c1", Jurisdictions: []residency.Jurisdiction{"DE"}, Edge: "de-ber-1", Epoch: 1}, Region: "de-ber",
			Participants: []consult.Participant{{ID: "p", Role: "patient"}}, Created: time.Now(), Expires: time.Now().Add(consult.Life)}
		if _, err := e.router.Records.Create(ctx, p); err != nil {
			t.Fatal(err)
		}
		record, err := st.Get(ctx, p.Consult.Key())
		if err != nil {
			t.Fatal(err)
		}
		later("a record was made", record.Rev)
		read := at()
		if _, _, err := e.router.Records.Read(ctx, "c1"); err != nil {
			t.Fatal(err)
		}
		later("a record was read", read)
		notice, err := st.Put(ctx, consult.NoticeKey("de-ber-1", "c2"), []byte(`{"consult":"c2","jurisdictions":["DE"],"edge":"de-fra-1","epoch":2,"expires":"2100-01-01T00:00:00Z"}`))
		if err != nil {
			t.Fatal(err)
		}
		later("a notice was put", notice.Rev)
		if _, err := st.Get(ctx, notice.Key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the notice that was taken is there still: %v", err)
		}

		// Without it the store is one of before, whoever made it so.
		rewind(t, st, store.Snapshot{}, key)
		time.Sleep(markEvery + takenEvery)
		synctest.Wait()
		e.router.Records.Pay(ctx, time.Now())
		if _, err := st.Get(ctx, p.Consult.Key()); err != nil {
			t.Errorf("the record that the store lost is not made again: %v", err)
		}
		later("the store was restored", 1)
	})
}

// A mark never covers an older one: that would hide that the store was restored.
func TestMarkIsRaisedOnItself(t *testing.T) {
	st := store.NewMemory()
	m := &mark{key: "m/edge"}
	raise := func(what string, want bool) (rev uint64) {
		t.Helper()
		is, rev, err := m.raise(t.Context(), st)
		if err != nil || is != want {
			t.Fatalf("%s: raised %v to %d, %v", what, is, rev, err)
		}
		if e, err := st.Get(t.Context(), m.key); err == nil && e.Rev != rev {
			t.Errorf("%s: told %d, the store has %d", what, rev, e.Rev)
		}
		return rev
	}
	m.rev = raise("the first", true)
	m.rev = raise("the second", true)
	if m.rev++; raise("one that the store has older", false) >= m.rev {
		t.Error("an older mark looks newer")
	}
	if _, err := st.Delete(t.Context(), m.key, 0); err != nil {
		t.Fatal(err)
	}
	if rev := raise("one that is not there", false); rev != 0 {
		t.Errorf("told %d of none", rev)
	}
}

// With the store restored to before a call was made and moved, its record is as the call is.
func TestRestoredStore(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	before := f.list()
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	made := f.list() // the record at epoch 1
	f.mode("de-ber", "draining")
	there := f.dial("de-fra")
	there.hello(s.next(signal.TypeMove).Token, "")
	there.next(signal.TypeWelcome)
	s.send(`{"type":"leave"}`)
	f.mode("de-ber", "serving")
	kept := f.consult("de-ber")
	stays := f.dial("de-ber")
	stays.hello(kept.Participants[0].Token, "")
	stays.next(signal.TypeWelcome)
	over := f.consult("de-ber")
	if code := f.call("de-ber", "DELETE", "/v1/consults/"+over.ID, "", "dev", nil); code != 204 {
		t.Fatalf("DELETE: %d", code)
	}

	f.record("at first", c.ID, "de-fra-1", 2)
	for name, to := range map[string]store.Snapshot{"to epoch 1": made, "to nothing": before} {
		for _, mark := range []string{"de-ber-1", "de-fra-1"} {
			rewind(t, f.st, to, consult.NoticesPrefix+mark+"/edge")
		}
		f.record(name, c.ID, "de-fra-1", 2)
		f.record(name, kept.ID, "de-ber-1", 1)
		for _, mark := range []region.EdgeID{"de-ber-1", "de-fra-1"} {
			f.marked(mark)
		}
		f.until("the keys are there again", func(w *steer.World) bool { return len(w.Keys) == 2 })
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // no event tells
		e, err := f.st.Get(t.Context(), consult.ID(over.ID).Key())
		if err == nil {
			if p, err := consult.ParsePlacement(e.Value); err == nil && p.Ended {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the end is not on record again: %s, %v", e.Value, err)
		}
	}
}

// marked waits until an edge has its mark in the store.
func (f *fixture) marked(edge region.EdgeID) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	found := false
	f.st.Watch(ctx, consult.NoticesTo(edge), func(s store.Snapshot) {
		for _, e := range s.Entries {
			if e.Key == consult.NoticesTo(edge)+"edge" {
				found = true
				cancel()
			}
		}
	}, func(error) {})
	if !found {
		f.t.Fatalf("%s has no mark within %v", edge, patience)
	}
}

func (f *fixture) list() store.Snapshot {
	f.t.Helper()
	s, err := f.st.List(f.t.Context(), "bailiwick/")
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// record waits until the record says where the consult is.
func (f *fixture) record(when, id string, edge region.EdgeID, epoch uint64) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // no event tells
		e, err := f.st.Get(f.t.Context(), consult.ID(id).Key())
		if err == nil {
			if p, err := consult.ParsePlacement(e.Value); err == nil && p.Edge == edge && p.Epoch == epoch && !p.Ended && len(p.Participants) == 2 {
				return
			}
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: the record is %s, %v; want it on %s at %d", when, e.Value, err, edge, epoch)
		}
	}
}
