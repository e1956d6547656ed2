package nameserver

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/store"
)

// silent is a store that nobody reaches.
type silent struct{ store.Store }

func (silent) Get(context.Context, string) (store.Entry, error) {
	return store.Entry{}, errors.New("unreachable")
}

// signed is a node, and the signer it has in force.
type signed struct {
	*keeper
	signer *dnssec.Signer
	swaps  int
}

func newSigned(st store.Store, path string) *signed {
	n := &signed{keeper: newKeeper(Signing{Policy: dnssec.DefaultPolicy(), Algorithm: dnssec.ECDSAP256}, "media.example", st, slog.New(slog.DiscardHandler))}
	n.path = path
	n.swap = func(k *dnssec.Signer) { n.signer, n.swaps = k, n.swaps+1 }
	return n
}

func (n *signed) mustStep(t *testing.T, at time.Time) {
	t.Helper()
	if err := n.step(context.Background(), at, true); err != nil {
		t.Fatal(err)
	}
}

// keys are the key records of the signer in force.
func (n *signed) keys() (text string) {
	for _, rr := range n.signer.Apex[dns.TypeDNSKEY] {
		text += rr.String() + "\n"
	}
	return text
}

func TestNodesShareTheKeys(t *testing.T) {
	st, at := store.NewMemory(), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	a, b := newSigned(st, ""), newSigned(st, "")
	a.mustStep(t, at)
	b.mustStep(t, at)
	if a.keys() != b.keys() || len(a.set.Keys) != 1 || a.set.Keys[0].Algorithm != dnssec.ECDSAP256 || a.set.Keys[0].Role != dnssec.CSK {
		t.Fatalf("got %v and %v, want one key of algorithm 13 for both", a.set.Keys, b.set.Keys)
	}
	a.mustStep(t, at.Add(time.Minute))
	if a.swaps != 1 {
		t.Errorf("swapped %d times with nothing changed", a.swaps-1)
	}
	a.mustStep(t, at.Add(3*time.Hour))
	b.mustStep(t, at.Add(3*time.Hour))
	if a.signer.Apex[dns.TypeCDS] == nil || b.signer.Apex[dns.TypeCDS] == nil || a.swaps != 2 {
		t.Errorf("after 3 h the parent is not asked for the DS, or swapped %d times", a.swaps)
	}
}

func TestKeysWithoutTheStore(t *testing.T) {
	st, at := store.NewMemory(), time.Now()
	path := filepath.Join(t.TempDir(), "keys")
	n := newSigned(st, path)
	n.mustStep(t, at)
	want := n.keys()

	n.store = silent{}
	if err := n.step(context.Background(), at.Add(time.Hour), true); err == nil || n.keys() != want {
		t.Errorf("store gone: got %v and %s, want an error and the keys before", err, n.keys())
	}
	cold := newSigned(silent{}, path)
	if cold.start(context.Background()); cold.signer == nil || cold.keys() != want {
		t.Error("a start without the store does not sign with the copy")
	}
	none := newSigned(silent{}, "")
	if none.start(context.Background()); none.signer != nil {
		t.Error("signs with keys from nowhere")
	}
	// A store that comes back empty gets the keys that the parent's DS is of.
	fresh := store.NewMemory()
	cold.store = fresh
	cold.mustStep(t, at.Add(time.Hour))
	other := newSigned(fresh, "")
	if other.mustStep(t, at.Add(time.Hour)); other.keys() != want {
		t.Errorf("after the store lost them: got %s, want %s", other.keys(), want)
	}
}

func TestKeysOfAnotherZone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	newSigned(store.NewMemory(), path).mustStep(t, time.Now())
	n := newSigned(silent{}, path)
	n.zone = "other.example"
	if n.start(context.Background()); n.signer != nil {
		t.Error("signs with the keys of another zone")
	}
}
