package router

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bailiwick/consult"
	"bailiwick/failover"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/store"
)

// lossy is a memory store that can be out of reach, or hang: faults that a memory store
// does not have.
type lossy struct {
	*store.Memory
	gone, hung atomic.Bool
	mute       atomic.Bool // does what it is asked, and its answer is lost
	commits    atomic.Int64
}

var errGone = errors.New("connection refused")

func (l *lossy) fault(ctx context.Context) error {
	if l.hung.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if l.gone.Load() {
		return errGone
	}
	return nil
}

func (l *lossy) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := l.fault(ctx); err != nil {
		return store.Entry{}, err
	}
	return l.Memory.Get(ctx, key)
}

func (l *lossy) Commit(ctx context.Context, ops ...store.Op) (uint64, error) {
	if err := l.fault(ctx); err != nil {
		return 0, err
	}
	l.commits.Add(1)
	rev, err := l.Memory.Commit(ctx, ops...)
	if l.mute.Load() {
		return 0, errGone
	}
	return rev, err
}

func (l *lossy) CAS(ctx context.Context, key string, value []byte, rev uint64) (store.Entry, error) {
	if err := l.fault(ctx); err != nil {
		return store.Entry{}, err
	}
	return l.Memory.CAS(ctx, key, value, rev)
}

func (l *lossy) Put(ctx context.Context, key string, value []byte) (store.Entry, error) {
	if err := l.fault(ctx); err != nil {
		return store.Entry{}, err
	}
	return l.Memory.Put(ctx, key, value)
}

func newLossy() *lossy { return &lossy{Memory: store.NewMemory()} }

// Losing the store stops no new patient: the consult is made, read and ended from what
// this node knows, and recorded when the store is back.
func TestStoreAway(t *testing.T) {
	for name, away := range map[string]func(*lossy, bool){
		"refuses": func(l *lossy, on bool) { l.gone.Store(on) },
		"hangs":   func(l *lossy, on bool) { l.hung.Store(on) },
	} {
		t.Run(name, func(t *testing.T) {
			st := newLossy()
			f := start(t, st)
			away(st, true)
			var c, running Reply
			if code := f.call(t, "POST", "/v1/consults", "secret", two("DE", "DE"), &c); code != http.StatusCreated || c.Recorded {
				t.Fatalf("POST: %d, recorded %v; want 201 and false", code, c.Recorded)
			}
			if c.Placement.Edge != "de-ber-1" || c.Participants[0].Token == "" {
				t.Errorf("POST gives %+v", c)
			}
			if code := f.call(t, "GET", "/v1/consults/"+string(c.ID), "secret", "", &running); code != http.StatusOK || running.Recorded || running.Placement.Edge != "de-ber-1" {
				t.Errorf("GET: %d %+v", code, running)
			}
			var other Reply
			f.call(t, "POST", "/v1/consults", "secret", two("DE", "DE"), &other)
			var ended Reply
			if code := f.call(t, "DELETE", "/v1/consults/"+string(other.ID), "secret", "", &ended); code != http.StatusAccepted || !ended.Ended || ended.Recorded {
				t.Errorf("DELETE: %d %+v, want 202 and not recorded", code, ended)
			}
			if f.call(t, "GET", "/v1/consults/"+string(other.ID), "secret", "", &running); !running.Ended {
				t.Error("the consult that was ended without the store runs on")
			}
			for _, method := range []string{"GET", "DELETE"} {
				var p problem.Document
				if code := f.call(t, method, "/v1/consults/cunknown", "secret", "", &p); code != 503 || p.Code != "store_unavailable" {
					t.Errorf("%s of what this node does not know: %d %s", method, code, p.Code)
				}
			}
			away(st, false)
			f.Records.Pay(t.Context(), time.Now())
			if p, _, err := load(t.Context(), st, c.ID); err != nil || p.Edge != "de-ber-1" || p.Ended || len(p.Participants) != 2 {
				t.Errorf("with the store back the record is %+v, %v", p, err)
			}
			if p, _, err := load(t.Context(), st, other.ID); err != nil || !p.Ended {
				t.Errorf("with the store back the ended record is %+v, %v", p, err)
			}
			if n, err := st.List(t.Context(), consult.NoticesPrefix); err != nil || len(n.Entries) != 2 {
				t.Errorf("edges were told of the end by %+v, %v; want primary and standby", n, err)
			}
			if code := f.call(t, "POST", "/v1/consults", "secret", two("DE", "DE"), &c); code != http.StatusCreated || !c.Recorded {
				t.Errorf("with the store back: %d, recorded %v", code, c.Recorded)
			}
		})
	}
}

// A write whose answer was lost may have happened: writing again is no conflict.
func TestLateAnswerIsNoConflict(t *testing.T) {
	st := newLossy()
	f := start(t, st)
	p := place(t, f)
	again := *p
	if err := f.Records.owe(p.Consult, func(d *debt) { d.create = &again }); err != nil {
		t.Fatal(err)
	}
	f.Records.Pay(t.Context(), time.Now())
	if f.Records.owes(p.Consult) {
		t.Error("what is in the store is owed still")
	}
}

func TestOwedIsBounded(t *testing.T) {
	r := NewRecords("", nil, nil, slog.New(slog.DiscardHandler))
	var err error
	for i := 0; i <= maxOwed && err == nil; i++ {
		err = r.owe(consult.ID(newID("c")), func(*debt) {})
	}
	if !errors.Is(err, errOwed) || len(r.owed) != maxOwed {
		t.Errorf("%d are owed, then %v", len(r.owed), err)
	}
}

func moved(p *consult.Placement, edge region.EdgeID) consult.Terms {
	t := p.Terms
	t.Edge, t.Epoch = edge, t.Epoch+1
	return t
}

func TestPlaceWritesTheNextEpochOnce(t *testing.T) {
	st := newLossy()
	f := start(t, st)
	p := place(t, f)
	edges := []region.EdgeID{"de-fra-1", "us-iad-1"}
	outs := make([]failover.Outcome, 20)
	var all sync.WaitGroup
	for i := range outs {
		all.Go(func() { outs[i], _ = f.Records.Place(t.Context(), moved(p, edges[i%2]), nil, nil) })
	}
	all.Wait()
	held, _, err := load(t.Context(), st, p.Consult)
	if err != nil || held.Epoch != 2 || held.Edge != "de-fra-1" || held.Region != "de-fra" {
		t.Fatalf("the record is %+v, %v; want epoch 2 at the edge that everybody prefers", held, err)
	}
	for i, out := range outs {
		if edges[i%2] == "de-fra-1" && out != failover.Written {
			t.Errorf("the writer of what is in the record was told %v", out)
		}
	}
	if out, now := f.Records.Place(t.Context(), moved(p, "us-iad-1"), nil, nil); out != failover.Beaten || now == nil || now.Edge != "de-fra-1" {
		t.Errorf("who comes late gets %v, %+v", out, now)
	}
}

func TestPlaceTellsWhoIsConcerned(t *testing.T) {
	st := newLossy()
	f := start(t, st)
	p := place(t, f)
	f.Records.Place(t.Context(), moved(p, "de-fra-1"), []region.EdgeID{"de-ber-1"}, nil)
	e, err := st.Get(t.Context(), consult.NoticeKey("de-ber-1", p.Consult))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := consult.ParseNotice(e.Value); err != nil || n.Epoch != 2 || n.Edge != "de-fra-1" || n.Ended {
		t.Errorf("notice %+v, %v", n, err)
	}
	// Terms between the record's and these were never written, and their placer is gone: the
	// edges that the record named until now have heard nothing yet.
	later := moved(p, "us-iad-1")
	later.Epoch = 4
	f.Records.Place(t.Context(), later, []region.EdgeID{"fr-par-1"}, nil) // of terms between
	e, err = st.Get(t.Context(), consult.NoticeKey("de-fra-1", p.Consult))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := consult.ParseNotice(e.Value); err != nil || n.Epoch != 4 || n.Edge != "us-iad-1" {
		t.Errorf("the edge that the record named is told %+v, %v", n, err)
	}

	// Somebody may still be where it was first, and cannot get away: the end is told there.
	if _, _, err := f.Records.End(t.Context(), p.Consult, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, edge := range []region.EdgeID{"de-ber-1", "de-fra-1", "fr-par-1", "us-iad-1"} {
		e, err := st.Get(t.Context(), consult.NoticeKey(edge, p.Consult))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := consult.ParseNotice(e.Value); err != nil || !n.Ended {
			t.Errorf("%s is told %+v of the end, %v", edge, n, err)
		}
	}
}

// A restored store lacks what is younger than its backup. What this node made lately, or knows
// to have ended, is there again; what it would have to guess about is not.
func TestRestoredStoreIsToldAgain(t *testing.T) {
	st := newLossy()
	f := start(t, st)
	made, ended, heard, back, late := place(t, f), place(t, f), place(t, f), place(t, f), place(t, f)
	taken := map[consult.ID]store.Entry{}
	for _, p := range []*consult.Placement{made, ended, heard, back, late} {
		e, err := st.Get(t.Context(), p.Consult.Key())
		if err != nil {
			t.Fatal(err)
		}
		taken[p.Consult] = e
	}
	now := time.Now()
	for _, p := range []*consult.Placement{ended, back} {
		if _, _, err := f.Records.End(t.Context(), p.Consult, now); err != nil {
			t.Fatal(err)
		}
	}
	f.Records.LearnEnd(heard.Consult, now)
	old := *late
	old.Created = now.Add(-consult.TokenLife)
	f.Records.remember(&old)

	all, err := st.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all.Entries {
		if _, err := st.Delete(t.Context(), e.Key, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.Memory.Put(t.Context(), back.Consult.Key(), taken[back.Consult].Value); err != nil {
		t.Fatal(err)
	}
	f.Records.Restored("elsewhere")
	f.Records.Pay(t.Context(), now)
	if _, _, err := load(t.Context(), st, made.Consult); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another datacenter's restore had this one checked: %v", err)
	}
	st.gone.Store(true) // it is not back yet
	f.Records.Restored("")
	f.Records.Pay(t.Context(), now)
	st.gone.Store(false)
	f.Records.Pay(t.Context(), now)
	if p, _, err := load(t.Context(), st, made.Consult); err != nil || p.Ended || p.Edge != made.Edge || len(p.Participants) != 2 {
		t.Errorf("what was made is %+v, %v", p, err)
	}
	for name, p := range map[string]*consult.Placement{"what was ended here": ended, "what is heard to have ended": heard, "what ended after the backup": back} {
		if held, _, err := load(t.Context(), st, p.Consult); err != nil || !held.Ended {
			t.Errorf("%s is %+v, %v; want its end on record", name, held, err)
		}
		if e, err := st.Get(t.Context(), consult.NoticeKey("de-ber-1", p.Consult)); err != nil {
			t.Errorf("%s: nobody is told: %v", name, err)
		} else if n, err := consult.ParseNotice(e.Value); err != nil || !n.Ended {
			t.Errorf("%s: told %+v, %v", name, n, err)
		}
	}
	if p, _, err := load(t.Context(), st, late.Consult); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a consult of hours ago, which may be over, is made again: %+v, %v", p, err)
	}
}

// An end that is owed may find no record, whose maker has yet to write it, or to write it
// again: it must find the end.
func TestEndWithoutARecord(t *testing.T) {
	st := newLossy()
	f := start(t, st)
	p := place(t, f)
	st.gone.Store(true)
	if _, recorded, err := f.Records.End(t.Context(), p.Consult, time.Now()); err != nil || recorded {
		t.Fatalf("without the store: recorded %v, %v", recorded, err)
	}
	st.gone.Store(false)
	if _, err := st.Delete(t.Context(), p.Consult.Key(), 0); err != nil {
		t.Fatal(err)
	}
	f.Records.Pay(t.Context(), time.Now())
	if held, _, err := load(t.Context(), st, p.Consult); err != nil || !held.Ended {
		t.Errorf("the record is %+v, %v; want an end", held, err)
	}
	if _, err := st.Get(t.Context(), consult.NoticeKey("de-ber-1", p.Consult)); err != nil {
		t.Errorf("nobody is told: %v", err)
	}
	if err := write(t.Context(), st, p, 0, nil); !errors.Is(err, store.ErrConflict) {
		t.Errorf("its maker writes over the end: %v", err)
	}
}

// Checking is paced, whatever a node remembers.
func TestRestoredStoreIsAskedInTurn(t *testing.T) {
	st := newLossy()
	f := start(t, st)
	for range 2*checked + 1 {
		place(t, f)
	}
	f.Records.Restored("")
	for _, want := range []int{checked, checked, 1, 0} {
		before := st.commits.Load()
		f.Records.Pay(t.Context(), time.Now())
		if n := st.commits.Load() - before; n != int64(want) {
			t.Errorf("%d records were written at once, want %d", n, want)
		}
	}
}

// A room has a record that was lost made again, and not one that is there.
func TestPlaceMakesALostRecordAgain(t *testing.T) {
	st := newLossy()
	f := start(t, st)
	p := place(t, f)
	lost := p.Copy()
	lost.Left = []region.EdgeID{"fr-par-1"}
	next := moved(p, "us-iad-1")
	for _, t2 := range []consult.Terms{p.Terms, next} { // as it was, and moved since
		if _, err := st.Delete(t.Context(), p.Consult.Key(), 0); err != nil {
			t.Fatal(err)
		}
		if out, _ := f.Records.Place(t.Context(), t2, nil, nil); out != failover.Unwritten {
			t.Errorf("without the lost record: %v", out)
		}
		if out, _ := f.Records.Place(t.Context(), t2, nil, &lost); out != failover.Written {
			t.Errorf("with the lost record: %v", out)
		}
		held, _, err := load(t.Context(), st, p.Consult)
		if err != nil || held.Epoch != t2.Epoch || held.Edge != t2.Edge || len(held.Participants) != 2 || !held.Expires.Equal(p.Expires) {
			t.Errorf("made again as %+v, %v, want %+v", held, err, t2)
		}
		if _, err := st.Get(t.Context(), consult.NoticeKey("fr-par-1", p.Consult)); err != nil {
			t.Errorf("an edge that it had left is not told: %v", err)
		}
	}
	if !slices.Equal(lost.Left, []region.EdgeID{"fr-par-1"}) {
		t.Errorf("the room's record was changed: %+v", lost)
	}
	if _, _, err := f.Records.End(t.Context(), p.Consult, time.Now()); err != nil {
		t.Fatal(err)
	}
	if out, now := f.Records.Place(t.Context(), moved(p, "de-fra-1"), nil, &lost); out != failover.Beaten || now == nil || !now.Ended {
		t.Errorf("what has ended is placed again: %v, %+v", out, now)
	}
}

func TestPlaceOfWhatHasEnded(t *testing.T) {
	f := start(t, newLossy())
	p := place(t, f)
	if _, _, err := f.Records.End(t.Context(), p.Consult, time.Now()); err != nil {
		t.Fatal(err)
	}
	if out, now := f.Records.Place(t.Context(), moved(p, "de-fra-1"), nil, nil); out != failover.Beaten || now == nil || !now.Ended {
		t.Errorf("got %v, %+v; want the end", out, now)
	}
}

// Of a placement whose answer was lost either nothing has happened or all: who is left where
// the consult was has heard of it.
func TestLateAnswerIsTold(t *testing.T) {
	st := newLossy()
	f := start(t, st)
	p := place(t, f)
	st.mute.Store(true)
	if out, _ := f.Records.Place(t.Context(), moved(p, "us-iad-1"), nil, nil); out != failover.Unwritten {
		t.Fatalf("without an answer: %v", out)
	}
	e, err := st.Get(t.Context(), consult.NoticeKey("de-ber-1", p.Consult))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := consult.ParseNotice(e.Value); err != nil || n.Epoch != 2 || n.Edge != "us-iad-1" {
		t.Errorf("the edge that it left is told %+v, %v", n, err)
	}
	if held, _, err := load(t.Context(), st, p.Consult); err != nil || held.Epoch != 2 {
		t.Errorf("the record is %+v, %v", held, err)
	}
}

// An end is on record and told in one write, or neither is, however many edges it is told to.
func TestEndIsOneWrite(t *testing.T) {
	st := newLossy()
	f := start(t, st)
	p := place(t, f)
	many := []region.EdgeID{"e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8"}
	if out, _ := f.Records.Place(t.Context(), moved(p, "us-iad-1"), many, nil); out != failover.Written {
		t.Fatalf("Place: %v", out)
	}
	before := st.commits.Load()
	ended, recorded, err := f.Records.End(t.Context(), p.Consult, time.Now())
	if err != nil || !recorded {
		t.Fatalf("End: %v, %v", recorded, err)
	}
	if n := st.commits.Load() - before; n != 1 {
		t.Errorf("an end of a consult that %d edges hear of took %d writes, want 1", len(ended.Concerned()), n)
	}
	record, err := st.Get(t.Context(), p.Consult.Key())
	if err != nil {
		t.Fatal(err)
	}
	for _, edge := range ended.Concerned() {
		if e, err := st.Get(t.Context(), consult.NoticeKey(edge, p.Consult)); err != nil || e.Rev != record.Rev {
			t.Errorf("%s is told at revision %d, %v; the record's is %d", edge, e.Rev, err, record.Rev)
		}
	}
}

func TestPlaceWithoutARecordOrStore(t *testing.T) {
	st := newLossy()
	f := start(t, st)
	p := place(t, f)
	unknown := moved(p, "de-fra-1")
	unknown.Consult = "cunknown"
	if out, _ := f.Records.Place(t.Context(), unknown, nil, nil); out != failover.Unwritten {
		t.Errorf("without a record: %v", out)
	}
	st.gone.Store(true)
	if out, _ := f.Records.Place(t.Context(), moved(p, "de-fra-1"), nil, nil); out != failover.Unwritten {
		t.Errorf("without a store: %v", out)
	}
}

// A DELETE that was answered by nobody is sent again, and tells the edges again.
func TestEndIsToldAgain(t *testing.T) {
	st := newLossy()
	f := start(t, st)
	p := place(t, f)
	for range 2 {
		if _, recorded, err := f.Records.End(t.Context(), p.Consult, time.Now()); err != nil || !recorded {
			t.Fatalf("End: %v, %v", recorded, err)
		}
		for _, edge := range []region.EdgeID{"de-ber-1", "de-fra-1"} {
			if _, err := st.Delete(t.Context(), consult.NoticeKey(edge, p.Consult), 0); err != nil {
				t.Errorf("%s was not told: %v", edge, err)
			}
		}
	}
}

func TestKeepPublishesAndOneNodeSweeps(t *testing.T) {
	st := newLossy()
	f, g := start(t, st), start(t, st)
	p := place(t, f)
	old := *p
	old.Consult, old.Expires = "cold", time.Now().Add(-time.Minute)
	if err := write(t.Context(), st, &old, 0, []region.EdgeID{"de-ber-1"}); err != nil {
		t.Fatal(err)
	}
	if err := f.keep(t.Context(), st, time.Now()); err != nil {
		t.Fatal(err)
	}
	e, err := st.Get(t.Context(), KeysPrefix+f.Signer.KID)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := ParseKey(e.Value); err != nil || string(k.Public) != string(f.Signer.Public()) {
		t.Errorf("published key %+v, %v", k, err)
	}
	for _, key := range []string{old.Consult.Key(), consult.NoticeKey("de-ber-1", old.Consult)} {
		if _, err := st.Get(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s has expired and was not swept: %v", key, err)
		}
	}
	if _, err := st.Get(t.Context(), p.Consult.Key()); err != nil {
		t.Errorf("a placement in use was swept: %v", err)
	}
	if mine, err := takeTurn(t.Context(), st, "other", time.Now()); err != nil || mine {
		t.Errorf("a second node sweeps the same round: %v, %v", mine, err)
	}
	if err := g.keep(t.Context(), st, time.Now().Add(48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Get(t.Context(), KeysPrefix+g.Signer.KID); err != nil {
		t.Errorf("a node swept its own key: %v", err)
	}
	if _, err := st.Get(t.Context(), KeysPrefix+f.Signer.KID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the key of a node that is gone for days stays: %v", err)
	}
}

// A node that starts while the store is away signs with the key that every edge knows.
func TestSignerOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "join.key")
	first, err := OpenSigner(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenSigner(path)
	if err != nil || again.KID != first.KID || !slices.Equal(again.Public(), first.Public()) {
		t.Errorf("after a start the key is %s, %v; was %s", again.KID, err, first.KID)
	}
	for name, content := range map[string]string{"empty": "", "another file": `{"a":1}`, "a short seed": `{"kid":"` + first.KID + `","seed":"AAAA"}`,
		"a name with a slash": `{"kid":"k/../../regions/x","seed":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`} {
		if err := store.WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenSigner(path); err == nil {
			t.Errorf("%s was taken for a key", name)
		}
	}
}
