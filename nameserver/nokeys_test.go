package nameserver

import (
	"path/filepath"
	"strings"
	"testing"

	"bailiwick/store"
)

// TestNoKeysIsNotCalledServing: who reads the log of a node that answers nothing must not be
// told that answers go on.
func TestNoKeysIsNotCalledServing(t *testing.T) {
	f := newFaulty(t, store.NewMemory(), filepath.Join(t.TempDir(), "zone.keys"))
	f.store.gone.Store(true)
	f.look(t.Context())
	if got := f.log.String(); !strings.Contains(got, "dnssec has no keys: nothing is answered") || strings.Contains(got, "answers go on") || strings.Contains(got, "0 keys") {
		t.Errorf("without keys it says\n%s", got)
	}
	f.store.gone.Store(false)
	f.look(t.Context())
	f.log.Reset()
	f.store.gone.Store(true)
	f.look(t.Context())
	if got := f.log.String(); !strings.Contains(got, "answers go on") || !strings.Contains(got, "1 keys in force stay") {
		t.Errorf("with keys it says\n%s", got)
	}
}
