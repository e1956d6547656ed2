package nameserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/geodns/dnssec"
	"bailiwick/store"
)

var faultsEpoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// switched is a store that can be cut off.
type switched struct {
	store.Store
	gone atomic.Bool
}

func (s *switched) Get(ctx context.Context, key string) (store.Entry, error) {
	if s.gone.Load() {
		return store.Entry{}, errors.New("unreachable")
	}
	return s.Store.Get(ctx, key)
}

// faulty is a node in a time of its own, which looks each simulated minute and answers
// what the server would.
type faulty struct {
	*keeper
	t       *testing.T
	store   *switched
	parent  *dnssec.Parent
	unheard error
	log     bytes.Buffer
	running time.Duration
	wrong   time.Duration // of the clock
	cache   *dnssec.Signatures
	metrics *prometheus.Registry
}

// testSigning signs with one key of Ed25519, and knows no parent.
func testSigning() *Signing {
	return &Signing{Policy: dnssec.DefaultPolicy(), Algorithm: dnssec.Ed25519}
}

func newFaulty(t *testing.T, st store.Store, path string) *faulty {
	f := &faulty{t: t, store: &switched{Store: st}, parent: &dnssec.Parent{TTL: time.Hour, By: "parent"}, cache: dnssec.NewSignatures(100), metrics: prometheus.NewRegistry()}
	f.keeper = newKeeper(*testSigning(), "media.example", f.store, slog.New(slog.NewTextHandler(&f.log, nil)))
	f.path, f.swap = path, func(*dnssec.Signer) {}
	f.keeper.parent = func(context.Context, time.Time) (*dnssec.Parent, error) {
		if f.unheard != nil {
			return nil, f.unheard
		}
		return f.parent, nil
	}
	f.clock = func() (time.Time, time.Duration) { return f.now(), f.running }
	if err := f.register(f.metrics, f.cache.Expires); err != nil {
		t.Fatal(err)
	}
	return f
}

// now is what its clock says, true what time it is.
func (f *faulty) now() time.Time  { return f.true().Add(f.wrong) }
func (f *faulty) true() time.Time { return faultsEpoch.Add(f.running) }

// pass lets time pass, looking every ten minutes. At each hour an answer is signed, and
// must be valid by the node's own clock with the margin left.
func (f *faulty) pass(d time.Duration) {
	f.t.Helper()
	for end := f.running + d; f.running < end; {
		f.running += 10 * time.Minute
		f.look(context.Background())
		if f.running%time.Hour == 0 {
			f.answers()
		}
	}
}

func (f *faulty) answers() {
	f.t.Helper()
	s := f.signer.Load()
	if s == nil {
		f.t.Fatal("no answer: no keys")
	}
	now := f.now()
	for _, set := range [][]dns.RR{s.Apex[dns.TypeDNSKEY], {testRR("join.media.example. 5 A 192.0.2.1")}, {dnssec.NSEC(dnssec.Name{Owner: "nope.media.example.", TTL: 5})}} {
		sigs, _, err := f.cache.Sign(s, set, now)
		if err != nil || len(sigs) == 0 {
			f.t.Fatalf("at %s: not signed: %v", now, err)
		}
		for _, rr := range sigs {
			sig := rr.(*dns.RRSIG)
			begins, ends := time.Unix(int64(sig.Inception), 0), time.Unix(int64(sig.Expiration), 0)
			if begins.After(now.Add(-time.Hour)) || ends.Sub(now) < f.Policy.Margin() {
				f.t.Fatalf("at %s: %s is valid from %s to %s", now, set[0], begins, ends)
			}
		}
	}
}

// findings are what the metric says, and it must be what was logged last.
func (f *faulty) findings(want int, words ...string) {
	f.t.Helper()
	if got := f.value("bailiwick_dnssec_findings"); len(got) != 1 || got[0] != float64(want) {
		f.t.Errorf("%v findings, want %d: %s", got, want, f.faults)
	}
	for _, w := range words {
		if !strings.Contains(f.faults, w) || !strings.Contains(f.log.String(), w) {
			f.t.Errorf("findings %q, log\n%s\nwant %q in both", f.faults, f.log.String(), w)
		}
	}
}

// value are those of one metric, by label.
func (f *faulty) value(name string) (values []float64) {
	f.t.Helper()
	families, err := f.metrics.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, m := range families {
		if m.GetName() == name {
			for _, v := range m.GetMetric() {
				values = append(values, v.GetGauge().GetValue())
			}
		}
	}
	return values
}

// delegate gives the parent the DS that is wanted.
func (f *faulty) delegate() {
	f.t.Helper()
	f.parent.DS = nil
	for _, k := range f.set.Wanted() {
		ds, err := f.set.DS(k, dns.SHA256)
		if err != nil {
			f.t.Fatal(err)
		}
		f.parent.DS = append(f.parent.DS, ds)
	}
}

// delegated is a node of a zone that is delegated since yesterday.
func delegated(t *testing.T, st store.Store, path string) *faulty {
	f := newFaulty(t, st, path)
	f.look(context.Background())
	f.pass(3 * time.Hour)
	f.delegate()
	f.pass(26 * time.Hour)
	if states(f.set) != "csk/15 active" {
		t.Fatal(f.set.Keys)
	}
	f.findings(0)
	return f
}

func (f *faulty) roll() {
	f.t.Helper()
	_, _, err := dnssec.Step(context.Background(), f.store, f.zone, nil, func(s dnssec.Set) (dnssec.Set, []dnssec.Event, error) {
		return dnssec.Roll(s, f.now(), dnssec.CSK, 0)
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// TestStoreLost: without the store for a month everything stays signed, and the roll
// goes on afterwards.
func TestStoreLost(t *testing.T) {
	f := delegated(t, store.NewMemory(), "")
	f.roll()
	f.pass(time.Hour)
	f.store.gone.Store(true)
	f.pass(time.Hour)
	f.findings(1, "unreachable")
	f.pass(30 * 24 * time.Hour)
	f.findings(1, "unreachable")
	if n := strings.Count(f.log.String(), "unreachable"); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
	f.store.gone.Store(false)
	f.pass(10 * time.Minute)
	if f.findings(0); states(f.set) != "csk/15 active, csk/15 ready" {
		t.Error(f.set.Keys)
	}
}

// waiting are the states of a roll whose parent has just got the new DS.
const waiting = "csk/15 active, csk/15 ready+ds"

// rolling is a node in the middle of such a roll.
func rolling(t *testing.T, st store.Store) *faulty {
	t.Helper()
	f := delegated(t, st, "")
	f.roll()
	f.pass(3 * time.Hour)
	f.delegate()
	f.pass(time.Hour)
	if states(f.set) != waiting {
		t.Fatal(f.set.Keys)
	}
	return f
}

// TestClockJumps: a year ahead and a year back, in the middle of a roll whose parent
// has just got the new DS, takes no step, and answers go on.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			f := rolling(t, store.NewMemory())
			f.wrong = jump
			f.pass(2 * time.Hour)
			want := 1 // the clock
			if jump < 0 {
				want = 3 // and two keys from the future
			}
			f.findings(want, "the clock jumped by")
			if states(f.set) != waiting {
				t.Fatalf("a step was taken: %v", f.set.Keys)
			}
			f.wrong = 0
			f.pass(time.Hour)
			if f.findings(0); states(f.set) != waiting {
				t.Fatalf("after it: %v", f.set.Keys)
			}
			f.pass(24 * time.Hour)
			if states(f.set) != "csk/15 removed, csk/15 active" {
				t.Errorf("the roll did not end: %v", f.set.Keys)
			}
		})
	}
}

// TestClockWrongFromTheStart: a node that starts two days ahead, in the middle of a roll,
// does not see a jump. The parent's signatures tell, and it takes no step.
func TestClockWrongFromTheStart(t *testing.T) {
	st := store.NewMemory()
	f := rolling(t, st)
	g := newFaulty(t, st, "")
	g.running, g.wrong, g.unheard = f.running, 48*time.Hour, fmt.Errorf("a signature that has ended: %w", errWrongClock)
	g.pass(time.Hour)
	if g.findings(1, "is this node's clock right?"); states(g.set) != waiting {
		t.Fatalf("a step was taken: %v", g.set.Keys)
	}
	g.wrong, g.unheard, g.parent = 0, nil, f.parent
	g.began = time.Time{} // it restarts
	if g.pass(25 * time.Hour); states(g.set) != "csk/15 removed, csk/15 active" {
		t.Errorf("the roll did not end: %v", g.set.Keys)
	}
}

// TestSlowClock: within the hour that signatures allow nothing is said or held up.
func TestSlowClock(t *testing.T) {
	f := delegated(t, store.NewMemory(), "")
	f.wrong = -50 * time.Minute
	f.roll()
	f.pass(5 * time.Hour)
	if f.findings(0); states(f.set) != "csk/15 active, csk/15 ready" {
		t.Error(f.set.Keys)
	}
}

// TestOldKeys: a node that was off for months, with keys that are gone since, does not
// bring them back: neither beside a running node whose store was lost, nor alone.
func TestOldKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	st := store.NewMemory()
	f := delegated(t, st, path)
	old := f.set
	for range 2 {
		f.roll()
		f.pass(3 * time.Hour)
		f.delegate()
		f.pass(26 * time.Hour)
	}
	if err := old.WriteFile(path); err != nil { // the backup
		t.Fatal(err)
	}
	empty := store.NewMemory() // a new Consul
	away := newFaulty(t, empty, path)
	away.running, away.parent = f.running, f.parent
	away.start(context.Background())
	away.findings(1, "the parent has the DS of", "and no key of this set: validators refuse the zone")
	away.answers()

	f.store.Store, f.path = empty, ""
	f.pass(10 * time.Minute)
	if f.findings(0); f.set.Serial <= old.Serial || !strings.Contains(f.log.String(), "step=restored") {
		t.Fatalf("serial %d, of the old %d", f.set.Serial, old.Serial)
	}
	away.pass(10 * time.Minute)
	if away.findings(0); away.set.Serial != f.set.Serial {
		t.Errorf("the old node has serial %d, want %d", away.set.Serial, f.set.Serial)
	}
}

// TestNoNewKeysUnderADS: with nothing in the store and no file, keys are made only when
// the parent positively has no DS.
func TestNoNewKeysUnderADS(t *testing.T) {
	other := delegated(t, store.NewMemory(), "")
	for _, c := range []struct {
		name    string
		parent  *dnssec.Parent
		unheard error
		want    string
		made    bool
	}{
		{"the parent has one", other.parent, nil, "restore a node's key file", false},
		{"the parent is silent", nil, errors.New("parent 192.0.2.53: timeout"), "no keys are made before the parent says", false},
		{"the parent has none", &dnssec.Parent{}, nil, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFaulty(t, store.NewMemory(), "")
			f.parent, f.unheard = c.parent, c.unheard
			f.start(context.Background())
			if f.signed() != c.made || !strings.Contains(f.faults, c.want) {
				t.Errorf("keys %v, findings %q, want %q", f.set.Keys, f.faults, c.want)
			}
		})
	}
}

// TestWaitsForKeys: a start without store and file waits, and ends when the store is back.
func TestWaitsForKeys(t *testing.T) {
	f := newFaulty(t, store.NewMemory(), "")
	f.store.gone.Store(true)
	f.start(context.Background())
	if f.signed() {
		t.Fatal("keys from nowhere")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.await(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	f.store.gone.Store(false)
	if err := f.await(context.Background()); err != nil || !f.signed() {
		t.Errorf("got %v, signed %t", err, f.signed())
	}
}

// TestSigningMetrics has the values that an alert is made of.
func TestSigningMetrics(t *testing.T) {
	f := newFaulty(t, store.NewMemory(), "")
	const expires = "bailiwick_dnssec_signature_expires_timestamp_seconds"
	if got := f.value(expires); len(got) != 1 || got[0] != 0 {
		t.Errorf("without keys: %v, want 0", got)
	}
	f.look(context.Background())
	f.pass(3 * time.Hour)
	first := f.value(expires)[0] - float64(f.now().Unix())
	if p := f.Policy; first < p.Refresh.Seconds() || first > p.Validity.Seconds() {
		t.Errorf("signatures end in %v s, want %s to %s", first, p.Refresh, p.Validity)
	}
	if got := fmt.Sprint(f.value("bailiwick_dnssec_keys")); got != "[0 0 1 0 0]" { // active published ready retired signing
		t.Errorf("keys by state: %v, want one ready", got)
	}
}
