// Package store is the control plane's contract: a small key-value store with
// compare-and-swap and watches, instances that live as long as their lease, and
// locks that end with their holder.
//
// It is not a database and not on any hot path: no packet, query or join waits
// for it. Every implementation passes the one suite in storetest.
//
// Watches are level-triggered and conflated: a watcher always gets the newest
// full snapshot and never a queue of deltas. An empty snapshot means that the
// store positively holds nothing; an unreachable store delivers nothing at all.
package store

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

var (
	// ErrNotFound is returned by Get and Delete for a key that does not exist.
	ErrNotFound = errors.New("store: no such key")
	// ErrConflict is returned by CAS and Delete when the revision moved on.
	ErrConflict = errors.New("store: revision conflict")
)

// MaxValue is the largest value in bytes that every implementation takes
// (Consul's own limit).
const MaxValue = 512 << 10

// MaxOps changes, and MaxCommit bytes of values, are the most that a Commit takes: far below
// what Consul does.
const (
	MaxOps    = 30
	MaxCommit = 256 << 10
)

// Op is one change of a Commit, with the words of the method that makes it alone.
type Op struct {
	Verb  Verb
	Key   string
	Value []byte // of a Put or CAS
	Rev   uint64 // of a CAS or Delete
}

// Verb names what an Op does.
type Verb uint8

// The verbs are the methods that write.
const (
	Put Verb = iota
	CAS
	Delete
)

// Entry is one key as read. Value is the caller's own copy.
type Entry struct {
	Key   string
	Value []byte
	Rev   uint64 // opaque, larger after each write of this key; never 0
}

// Snapshot is every entry under a prefix at one instant, ordered by key.
type Snapshot struct {
	// Rev is the store's: every write and delete under the prefix whose revision is no
	// larger is in the snapshot, and no entry's is larger. Revisions of different stores
	// do not compare.
	Rev     uint64
	Entries []Entry
}

// Status is what the store (not the observer) says of an instance.
type Status string

const (
	Passing  Status = "passing"  // the lease is being renewed and every check passes
	Critical Status = "critical" // the lease ran out or a check fails; the instance is still registered
	// Maintenance is an operator's word, whatever the checks say: the instance or its
	// machine was taken out (`consul maint`). Embedded stores have no such word.
	Maintenance Status = "maintenance"
)

// Instance is one registered process. Meta holds the words of docs/protocol.md
// and is at most 64 pairs of at most 512 bytes.
type Instance struct {
	ID      string // unique in the service: the edge ID
	Service string
	Addr    netip.AddrPort // its HTTP address
	Meta    map[string]string
	Status  Status // set by the store, ignored by Register
}

// Store is safe for concurrent use. Every method returns ctx.Err() promptly when
// its context ends, and an error (never a made-up empty answer) when the store
// cannot be reached.
type Store interface {
	// Get returns ErrNotFound for an absent key. It may be stale by the time it
	// takes a write to reach a watcher.
	Get(ctx context.Context, key string) (Entry, error)

	// CAS writes value if the key's revision is still rev; rev 0 means that the
	// key must not exist. It returns the entry as written, or ErrConflict.
	CAS(ctx context.Context, key string, value []byte, rev uint64) (Entry, error)

	// Put writes value whatever is there.
	Put(ctx context.Context, key string, value []byte) (Entry, error)

	// Delete removes the key if its revision is still rev; rev 0 removes whatever
	// is there. ErrNotFound when there is nothing. It returns the revision of the
	// removal: a Snapshot of any prefix of the key with no smaller Rev lacks it, or
	// holds it as it was written later.
	Delete(ctx context.Context, key string, rev uint64) (uint64, error)

	// Commit makes all the changes, each of a key of its own, or none: ErrConflict or
	// ErrNotFound is of one of them. It returns the revision of every entry that it wrote,
	// which is that of the removals too. After any other error all of it may have happened.
	Commit(ctx context.Context, ops ...Op) (uint64, error)

	// List returns everything under prefix at one instant.
	List(ctx context.Context, prefix string) (Snapshot, error)

	// Watch calls fn with the current snapshot and then with each newer one until
	// ctx ends, whose error it returns. Calls are sequential; a slow fn misses
	// snapshots, never the newest. Soon after a write or delete under prefix returned
	// a revision, a snapshot is delivered whose Rev is no smaller, also when its
	// entries are those of the snapshot before (a key that came and went): who waits
	// for an acknowledgement needs no more. It retries for ever by itself; each
	// failure and each recovery is told to up (nil after a successful contact), so
	// that an observer knows how old its word is.
	Watch(ctx context.Context, prefix string, fn func(Snapshot), up func(error)) error

	// Register announces the instance for as long as the lease is renewed. A
	// registration of the same ID is replaced.
	Register(ctx context.Context, in Instance, ttl time.Duration) (Lease, error)

	// WatchInstances is Watch for the instances of one service, critical ones
	// included, ordered by ID.
	WatchInstances(ctx context.Context, service string, fn func([]Instance), up func(error)) error

	// Lock waits until nobody holds the lock of that key and takes it. Of all
	// processes on one store one holds it. The key is the lock's alone: a store may
	// keep an entry there while it is held, so nothing else is written there. ctx
	// bounds the waiting; a lock that was taken is held until Unlock or Lost.
	Lock(ctx context.Context, key string) (Lock, error)
}

// Lock is one lock that is held.
type Lock interface {
	// Lost is closed when the lock can no longer be answered for, at the latest
	// when somebody else could take it: stop then what it protects. It never is
	// where only the death of this process could lose the lock.
	Lost() <-chan struct{}
	// Fence grows with each holder of this lock. What the lock protects elsewhere
	// takes it along, and refuses a holder whose number is smaller than one it has
	// seen: that one was replaced and does not know it yet.
	Fence() uint64
	// Unlock gives the lock up, lost or not; only the first call does anything.
	// After an error the lock ends by itself, as if the holder had died.
	Unlock(ctx context.Context) error
}

// Lease keeps one instance registered.
type Lease interface {
	// Renew must be called at least every ttl/3; a lease that the store forgot
	// (a restart) is registered again.
	Renew(ctx context.Context) error
	// Update replaces the instance's Addr and Meta.
	Update(ctx context.Context, in Instance) error
	// Close deregisters at once: the instance was taken out, it did not fail.
	Close(ctx context.Context) error
}
