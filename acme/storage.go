package acme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"bailiwick/store"
)

// The keys of all regions, and of their locks.
const (
	regionsPrefix = "bailiwick/acme/regions/"
	locksPrefix   = "bailiwick/acme/locks/"
)

// patience is how long the store is waited for before the cache answers.
const patience = 5 * time.Second

// Storage is a certmagic.Storage for one region: values are sealed, kept in the store,
// and copied as they are into a local folder, from which Load answers while the store
// is out of reach. It is safe for concurrent use; one process uses a folder.
type Storage struct {
	store  store.Store
	region string
	secret *Secret
	dir    string // empty: no copies
	log    *slog.Logger

	mu    sync.Mutex
	locks map[string]store.Lock // held through Lock, by name

	disk sync.Mutex // store.WriteFile is for one writer
}

var _ certmagic.Storage = (*Storage)(nil)

// NewStorage keeps the region's values. dir may be empty; it is made when missing.
func NewStorage(st store.Store, region string, secret *Secret, dir string, log *slog.Logger) (*Storage, error) {
	if err := store.CheckKey(regionsPrefix + region); err != nil || strings.Contains(region, "/") {
		return nil, fmt.Errorf("acme: region %q: want one segment of a key", region)
	}
	if secret == nil {
		return nil, errors.New("acme: no secret: " + howSecret)
	}
	if dir != "" {
		dir = filepath.Join(dir, region)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("acme cache: %w", err)
		}
	}
	return &Storage{store: st, region: region, secret: secret, dir: dir, log: log, locks: map[string]store.Lock{}}, nil
}

func (s *Storage) prefix() string { return regionsPrefix + s.region + "/" }

// Store implements certmagic.Storage.
func (s *Storage) Store(ctx context.Context, key string, value []byte) error {
	full := s.prefix() + key
	sealed := s.secret.seal(full, value)
	if err := store.CheckValue(full, sealed); err != nil {
		return err
	}
	if s.dir != "" {
		if _, err := s.path(key); err != nil {
			return err
		}
	}
	if _, err := s.store.Put(ctx, full, sealed); err != nil {
		return err
	}
	s.copy(key, sealed)
	return nil
}

// Load implements certmagic.Storage. What the store positively lacks does not exist,
// whatever the cache has; its copy stays until Delete.
func (s *Storage) Load(ctx context.Context, key string) ([]byte, error) {
	full := s.prefix() + key
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e, err := s.store.Get(bounded, full)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		value, missing := s.cached(key)
		if errors.Is(missing, fs.ErrNotExist) {
			return nil, err
		}
		return value, missing
	}
	value, err := s.secret.open(full, e.Value)
	if err != nil {
		return nil, err
	}
	s.copy(key, e.Value)
	return value, nil
}

// Delete implements certmagic.Storage: the key, or all keys below it.
func (s *Storage) Delete(ctx context.Context, key string) error {
	keys, err := s.List(ctx, key, true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, k := range append(keys, key) {
		if _, err := s.store.Delete(ctx, s.prefix()+k, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		s.forget(k)
	}
	return nil
}

// Exists implements certmagic.Storage: as a key or a directory of keys. It says no
// when the store cannot be asked.
func (s *Storage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List implements certmagic.Storage; without recursive it names the keys and
// directories directly in path. It never answers from the cache, which may lack some.
func (s *Storage) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	under := s.prefix()
	if path != "" {
		under += path + "/"
	}
	snap, err := s.store.List(ctx, under)
	if err != nil {
		return nil, err
	}
	if len(snap.Entries) == 0 {
		return nil, fmt.Errorf("%w: %s", fs.ErrNotExist, under)
	}
	var keys []string
	for _, e := range snap.Entries {
		rest := strings.TrimPrefix(e.Key, under)
		if !recursive {
			rest, _, _ = strings.Cut(rest, "/")
		}
		keys = append(keys, strings.TrimPrefix(under+rest, s.prefix()))
	}
	return slices.Compact(keys), nil
}

// Stat implements certmagic.Storage. The store keeps no time of change.
func (s *Storage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	e, err := s.store.Get(ctx, s.prefix()+key)
	switch {
	case err == nil:
		value, err := s.secret.open(e.Key, e.Value)
		return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, err
	case !errors.Is(err, store.ErrNotFound):
		return certmagic.KeyInfo{}, err
	}
	if _, err := s.List(ctx, key, true); err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key}, nil
}

// Lock implements certmagic.Locker on the store's locks.
func (s *Storage) Lock(ctx context.Context, name string) error {
	l, err := s.lock(ctx, name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locks[name] = l
	return nil
}

// Unlock implements certmagic.Locker.
func (s *Storage) Unlock(ctx context.Context, name string) error {
	s.mu.Lock()
	l := s.locks[name]
	delete(s.locks, name)
	s.mu.Unlock()
	if l == nil {
		return fmt.Errorf("acme: lock %s is not held", name)
	}
	return l.Unlock(ctx)
}

func (s *Storage) lock(ctx context.Context, name string) (store.Lock, error) {
	return s.store.Lock(ctx, locksPrefix+s.region+"/"+word(name))
}

// follow calls fn when the value of key may have changed, until ctx ends.
func (s *Storage) follow(ctx context.Context, key string, fn func()) {
	s.store.Watch(ctx, s.prefix()+key, func(store.Snapshot) { fn() }, func(error) {})
}

// cached is Load from the folder alone.
func (s *Storage) cached(key string) ([]byte, error) {
	path, err := s.path(key)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("acme cache: %w", err)
	}
	value, err := s.secret.open(s.prefix()+key, b)
	if err != nil {
		return nil, fmt.Errorf("acme cache %s: %w", path, err)
	}
	return value, nil
}

// copy keeps a sealed value in the folder. A full disk takes nothing from service: it
// is told of, and counts when a start finds no store.
func (s *Storage) copy(key string, sealed []byte) {
	path, err := s.path(key)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	if err == nil {
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, sealed) {
			return
		}
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = store.WriteFile(path, sealed)
	}
	if err != nil {
		s.log.Warn("acme value not copied to disk: a start without the store would lack it", "key", key, "err", err)
	}
}

func (s *Storage) forget(key string) {
	if path, err := s.path(key); err == nil {
		os.Remove(path)
	}
}

// path is fs.ErrNotExist without a folder.
func (s *Storage) path(key string) (string, error) {
	if s.dir == "" {
		return "", fmt.Errorf("acme: no cache: %w", fs.ErrNotExist)
	}
	local, err := filepath.Localize(key)
	if err != nil {
		return "", fmt.Errorf("acme cache: key %q: %w", key, err)
	}
	return filepath.Join(s.dir, local+".sealed"), nil
}
