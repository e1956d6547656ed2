package acme

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"

	"bailiwick/store"
	"bailiwick/store/consul"
	"bailiwick/store/consultest"
)

func newStorage(t *testing.T, st store.Store, region string, s *Secret, dir string) *Storage {
	t.Helper()
	got, err := NewStorage(st, region, s, dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// The semantics that certmagic wants of a Storage, over memory and real Consul.
func TestStorage(t *testing.T) {
	for _, row := range []struct {
		name string
		open func(t *testing.T) store.Store
	}{
		{"memory", func(*testing.T) store.Store { return store.NewMemory() }},
		{"consul", func(t *testing.T) store.Store {
			st, err := consul.New(consultest.Start(t).Addr(), "")
			if err != nil {
				t.Fatal(err)
			}
			return st
		}},
	} {
		t.Run(row.name, func(t *testing.T) { testStorage(t, row.open(t)) })
	}
}

func testStorage(t *testing.T, st store.Store) {
	ctx := t.Context()
	var s certmagic.Storage = newStorage(t, st, "de-fra", secret(t, 1), t.TempDir())
	other := newStorage(t, st, "de-ber", secret(t, 1), "")
	for _, key := range []string{"a/x.crt", "a/x.key", "a/b/y.json", "ab", "c"} {
		if err := s.Store(ctx, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Store(ctx, "c", []byte("other")); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		path      string
		recursive bool
		want      []string
	}{
		{"", false, []string{"a", "ab", "c"}},
		{"", true, []string{"a/b/y.json", "a/x.crt", "a/x.key", "ab", "c"}},
		{"a", false, []string{"a/b", "a/x.crt", "a/x.key"}},
		{"a", true, []string{"a/b/y.json", "a/x.crt", "a/x.key"}},
	} {
		got, err := s.List(ctx, row.path, row.recursive)
		if slices.Sort(got); err != nil || !slices.Equal(got, row.want) {
			t.Errorf("List(%q, %v): got %q, %v, want %q", row.path, row.recursive, got, err, row.want)
		}
	}
	if got, err := s.List(ctx, "none", true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List of nothing: got %q, %v, want %v", got, err, fs.ErrNotExist)
	}
	for _, row := range []struct {
		key              string
		exists, terminal bool
	}{{"a", true, false}, {"a/x.crt", true, true}, {"a/x", false, false}, {"d", false, false}} {
		info, err := s.Stat(ctx, row.key)
		if got := s.Exists(ctx, row.key); got != row.exists || (err == nil) != row.exists {
			t.Errorf("%s: Exists got %v, Stat %v, want %v", row.key, got, err, row.exists)
		}
		if info.IsTerminal != row.terminal || row.terminal && info.Size != int64(len(row.key)) {
			t.Errorf("Stat(%s): got %+v", row.key, info)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat(%s): got %v, want %v", row.key, err, fs.ErrNotExist)
		}
	}
	if got, err := s.Load(ctx, "a/x.crt"); err != nil || string(got) != "a/x.crt" {
		t.Errorf("Load: got %q, %v", got, err)
	}
	if _, err := s.Load(ctx, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of a directory: got %v, want %v", err, fs.ErrNotExist)
	}
	if err := errors.Join(s.Delete(ctx, "a"), s.Delete(ctx, "a"), s.Delete(ctx, "c")); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if got, err := s.List(ctx, "", true); err != nil || !slices.Equal(got, []string{"ab"}) {
		t.Errorf("List after Delete: got %q, %v", got, err)
	}
	if got, err := other.Load(ctx, "c"); err != nil || string(got) != "other" {
		t.Errorf("another region's: got %q, %v", got, err)
	}
	if err := s.Store(ctx, "big", make([]byte, store.MaxValue)); err == nil {
		t.Error("Store of a value that the store does not take once it is sealed: got no error")
	}
	testStorageLock(t, s)
}

func testStorageLock(t *testing.T, s certmagic.Storage) {
	t.Helper()
	ctx := t.Context()
	if err := s.Lock(ctx, "issue_*.example"); err != nil {
		t.Fatal(err)
	}
	bounded, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := s.Lock(bounded, "issue_*.example"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock of a held one: got %v", err)
	}
	if err := s.Unlock(ctx, "issue_*.example"); err != nil {
		t.Error(err)
	}
	if err := s.Unlock(ctx, "issue_*.example"); err == nil {
		t.Error("Unlock of what is not held: got no error")
	}
	if err := errors.Join(s.Lock(ctx, "issue_*.example"), s.Unlock(ctx, "issue_*.example")); err != nil {
		t.Error(err)
	}
}

// The folder has the sealed bytes alone, for its owner alone, and answers only while
// the store cannot.
func TestCache(t *testing.T) {
	ctx, st, dir := t.Context(), store.NewMemory(), t.TempDir()
	s := newStorage(t, st, "de-fra", secret(t, 1), dir)
	if err := s.Store(ctx, "certificates/a", []byte("PRIVATE")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "de-fra", "certificates", "a.sealed")
	b, err := os.ReadFile(file)
	if err != nil || bytes.Contains(b, []byte("PRIVATE")) {
		t.Fatalf("cached: got %q, %v", b, err)
	}
	for path, want := range map[string]fs.FileMode{file: 0o600, filepath.Dir(file): 0o700, filepath.Join(dir, "de-fra"): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("mode of %s: got %v, %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
	written, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ctx, "certificates/a"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || !os.SameFile(info, written) {
		t.Errorf("the copy of a value that is the same: written again, %v", err)
	}
	away := newStorage(t, unreachable{st}, "de-fra", secret(t, 1), dir)
	if got, err := away.Load(ctx, "certificates/a"); err != nil || string(got) != "PRIVATE" {
		t.Errorf("Load without the store: got %q, %v", got, err)
	}
	if _, err := away.Load(ctx, "certificates/b"); !errors.Is(err, errGone) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of what nobody has: got %v, want %v and no %v", err, errGone, fs.ErrNotExist)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Load(ended, "certificates/a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Load with an ended context: got %v", err)
	}
	elsewhere := newStorage(t, st, "de-fra", secret(t, 1), t.TempDir())
	if err := elsewhere.Store(ctx, "certificates/a", []byte("newer")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(ctx, "certificates/a"); err != nil || string(got) != "newer" {
		t.Errorf("Load with the store: got %q, %v", got, err)
	}
	if got, err := away.Load(ctx, "certificates/a"); err != nil || string(got) != "newer" {
		t.Errorf("Load without the store, after it: got %q, %v", got, err)
	}
	if err := elsewhere.Delete(ctx, "certificates/a"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ctx, "certificates/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of what the store lost: got %v", err)
	}
	if err := s.Delete(ctx, "certificates/a"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the copy of what was deleted: got %v, want none", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a disk that takes nothing
		t.Fatal(err)
	}
	if err := s.Store(ctx, "certificates/a", []byte("served")); err != nil {
		t.Errorf("Store without a disk: %v", err)
	}
	if got, err := s.Load(ctx, "certificates/a"); err != nil || string(got) != "served" {
		t.Errorf("Load without a disk: got %q, %v", got, err)
	}
	if err := s.Store(ctx, "../../escape", nil); err == nil {
		t.Error("a key that leaves the folder: got no error")
	}
}

// hung is a store that never answers.
type hung struct{ store.Store }

func (hung) Get(ctx context.Context, _ string) (store.Entry, error) {
	<-ctx.Done()
	return store.Entry{}, ctx.Err()
}

// A store that hangs is waited for a little, then the copy answers.
func TestCacheOfAHungStore(t *testing.T) {
	dir, st := t.TempDir(), store.NewMemory()
	synctest.Test(t, func(t *testing.T) {
		if err := newStorage(t, st, "de-fra", secret(t, 1), dir).Store(t.Context(), "certificates/a", []byte("kept")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		got, err := newStorage(t, hung{st}, "de-fra", secret(t, 1), dir).Load(ctx, "certificates/a")
		if took := time.Since(began); err != nil || string(got) != "kept" || took != patience {
			t.Errorf("got %q, %v after %s, want the copy after %s", got, err, took, patience)
		}
	})
}

func TestSeal(t *testing.T) {
	s := secret(t, 1)
	sealed := s.seal("a/key", []byte("value"))
	if got, err := s.open("a/key", sealed); err != nil || string(got) != "value" {
		t.Errorf("open: got %q, %v", got, err)
	}
	if bytes.Equal(sealed, s.seal("a/key", []byte("value"))) {
		t.Error("sealed twice: the same bytes")
	}
	if _, err := s.open("another/key", sealed); !errors.Is(err, errSealed) {
		t.Errorf("moved to another key: got %v, want %v", err, errSealed)
	}
	if _, err := secret(t, 2).open("a/key", sealed); !errors.Is(err, errSealed) {
		t.Errorf("another secret: got %v, want %v", err, errSealed)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := s.open("a/key", bad); err == nil {
			t.Errorf("byte %d changed: got no error", i)
		}
		if _, err := s.open("a/key", sealed[:i]); err == nil {
			t.Errorf("cut after %d bytes: got no error", i)
		}
	}
}

func TestReadSecret(t *testing.T) {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i * 37)
	}
	for _, row := range []struct{ name, text, err string }{
		{"base64", base64.StdEncoding.EncodeToString(key) + "\n", ""},
		{"base64 for URLs, unpadded", base64.RawURLEncoding.EncodeToString(key), ""},
		{"hex", "  " + hex.EncodeToString(key) + "\r\n", ""},
		{"upper-case hex", strings.ToUpper(hex.EncodeToString(key)), ""},
		{"empty", "", "0 bytes, not 32"},
		{"16 bytes", hex.EncodeToString(key[:16]), "16 bytes, not 32"},
		{"33 bytes", base64.StdEncoding.EncodeToString(append(key, 0)), "33 bytes, not 32"},
		{"words", "correct horse battery staple", "28 characters that are neither"},
	} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := ReadSecret(path)
		if row.err == "" {
			sealer, _ := NewSecret(key)
			if err != nil {
				t.Errorf("%s: %v", row.name, err)
			} else if _, err := s.open("k", sealer.seal("k", nil)); err != nil {
				t.Errorf("%s: another key was read: %v", row.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), row.err) || !strings.Contains(err.Error(), "openssl rand") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want one with %q, the file and how to make one", row.name, err, row.err)
		}
		if text := strings.TrimSpace(row.text); err != nil && text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error holds the secret", row.name)
		}
	}
	if _, err := ReadSecret(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "openssl rand") {
		t.Errorf("no file: got %v", err)
	}
}

func TestNames(t *testing.T) {
	sets := map[string]string{}
	for _, region := range []string{"de-fra", "de-ber", "us-iad"} {
		names := Names("Media.Example.", region)
		if want := []string{"*." + region + ".edge.media.example", "*.edge.media.example", "*.join.media.example", "join.media.example"}; !slices.Equal(names, slices.Sorted(slices.Values(want))) {
			t.Errorf("Names of %s: got %q, want %q", region, names, want)
		}
		tidied, err := tidy(names)
		if err != nil || !slices.Equal(tidied, names) {
			t.Errorf("Names of %s: got %q tidied, %v: want nothing that a CA would refuse", region, tidied, err)
		}
		set := strings.Join(names, " ")
		if sets[set] != "" {
			t.Errorf("%s and %s have the same set, of which a CA issues five a week", region, sets[set])
		}
		sets[set] = region
	}
	for _, row := range []struct {
		name  string
		names string
		want  string
	}{
		{"covered by a wildcard", "a.zone.example *.zone.example b.a.zone.example", "*.zone.example b.a.zone.example"},
		{"an apex is not covered", "example.org *.example.org", "*.example.org example.org"},
		{"twice", "B.example a.example. b.example", "a.example b.example"},
	} {
		got, err := tidy(strings.Fields(row.names))
		if err != nil || strings.Join(got, " ") != row.want {
			t.Errorf("%s: got %q, %v, want %q", row.name, got, err, row.want)
		}
	}
}
