// Package consul is the Store on a Consul datacenter, through the HTTP API of one
// agent, and the only package that imports Consul's client.
//
// Keys are Consul's keys and Entry.Rev is ModifyIndex, so that `consul kv put`
// and the UI are part of the control plane. It is not a cache and answers nothing
// from memory: what survives a lost Consul is its caller's business.
//
// The traps of the API that it stands over:
//
//   - An empty answer proves nothing. A token that may not read gets "200 []" or
//     404, told only by X-Consul-Results-Filtered-By-ACLs, and a request without
//     any token not even by that. Both are errors here, and so is an answer
//     without an index, which no Consul gave.
//   - A server that is behind (a follower that lags, or that was cut off before it
//     heard that a write was committed) gives a stale answer in which keys are
//     missing. The first answer of a watch, and each one older than what was
//     delivered, is therefore asked for in the consistent mode, in which only a
//     leader that has caught up answers.
//   - After that watches allow stale answers, which go on when the leader is lost.
//     Such an answer comes without a known leader and counts as a failure to up.
//   - Agents stream the health of services by default, and a streamed answer never
//     names a known leader, nor tells when there is none. Asking for an order by
//     distance, which streams cannot give, gets a blocking query.
//   - An index can move with nothing changed, and go back after a restore. Values
//     are compared, and an answer that goes back is believed of a leader only.
//   - A blocking query has no deadline of its own and hangs on a stopped agent.
//   - Writing what is already there does not raise ModifyIndex; PUT does not say
//     which index it wrote, and a transaction, which does say, takes only three
//     quarters of MaxValue; a CAS that the cluster retried after losing its leader
//     reports the conflict with itself. Small values are hence written by transactions,
//     and each write carries a random number in the key's Flags, by which one that is
//     large, or was refused, is found again with the next read.
//   - A delete does not say at which index it was made, and a read of the absent key
//     answers the whole table's, which a list of its prefix may not reach for long. A
//     transaction is made at one index: it first writes the key, which says.
//   - A list's index is that of the newest key or tombstone under its prefix. Tombstones
//     are reaped after some 15 minutes, and the index goes back; a list of nothing
//     answers the whole table's index, and moves with any other key. Both keep the
//     promise of store.Snapshot.Rev, and a watch tells of each move forward.
//   - An agent serves 200 connections of one address at most, and answers the rest with
//     429. Over plain HTTP a blocking query has a connection to itself. A store hence has
//     at most 8, of which blocking queries take 6; see docs/adr/0009-eight-connections.md.
//   - Registering a service again leaves a critical check critical, and with
//     replace-existing-checks ends an operator's `consul maint -service`: it is a check.
//   - A dead instance that Consul reaps looks like one that was taken out. Reaping
//     is put off for 72 h.
//   - A service ID is unique on its agent only. Of two agents that hold the same
//     ID (an edge that moved) the better status is reported, then the newer.
//   - A session outlives its TTL by up to as much again, and a lock that it loses
//     stays shut for its lock-delay. The holder counts its TTL from before its last
//     renewal, so it knows of the loss before anybody else can have the lock.
//   - Consul unescapes the path of a key twice; see store.CheckKey.
package consul

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"bailiwick/store"
)

// Store is a store.Store. It is safe for concurrent use and needs no closing.
type Store struct {
	addr   string
	client *api.Client
	token  bool          // whether requests carry one
	blocks chan struct{} // holds one for each connection that a blocking query may have
	poll   time.Duration // between the queries of a watch that may not block
	wait   time.Duration // of a blocking query
	grace  time.Duration // beyond wait and its jitter, until the agent counts as hung
	hold   time.Duration // TTL of a lock's session
}

// New returns the store behind the agent at addr: host:port, http://…, https://…
// or unix://…. token may be empty; then CONSUL_HTTP_TOKEN and
// CONSUL_HTTP_TOKEN_FILE apply, as do Consul's variables for TLS. It contacts
// nobody: an unreachable agent shows in the first call. others are agents of the same
// datacenter, as host:port, to whom connections go where none can be made to addr.
func New(addr, token string, others ...string) (*Store, error) {
	if addr == "" {
		return nil, errors.New("consul: no address of an agent")
	}
	config := &api.Config{Address: addr, Token: token, Transport: api.DefaultConfig().Transport}
	config.Transport.MaxConnsPerHost, config.Transport.MaxIdleConnsPerHost = connections, connections
	if socket, ok := strings.CutPrefix(addr, "unix://"); ok { // for which the client would pool nothing
		config.Address = "localhost"
		config.Transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	if len(others) > 0 {
		config.Transport.Proxy, config.Transport.DialContext = nil, firstOf(append([]string{addr}, others...))
	}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("consul %s: %w", addr, err)
	}
	// NewClient leaves the token that it chose in config.
	return &Store{
		addr: strings.Join(append([]string{addr}, others...), ", "), client: client, token: config.Token != "",
		blocks: make(chan struct{}, connections-unblocked), poll: time.Second,
		wait: 30 * time.Second, grace: 5 * time.Second, hold: 15 * time.Second,
	}, nil
}

// firstOf dials the first of the addresses that takes a connection.
func firstOf(addrs []string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 3 * time.Second}
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var failed error
		for _, addr := range addrs {
			c, err := dialer.DialContext(ctx, network, addr)
			if err == nil || ctx.Err() != nil {
				return c, err
			}
			failed = errors.Join(failed, err)
		}
		return nil, failed
	}
}

// String names the agents.
func (s *Store) String() string { return s.addr }

const (
	connections = 8 // to the agent, of one store
	unblocked   = 2 // of them no blocking query takes: reads and writes pass
)

// turn is a watch's right to block. The zero turn has none yet.
type turn struct{ held bool }

// pause readies a watch for its next query, which may block if it returns true. A watch
// that has a turn keeps it until it ends: the first six of a store never poll. Others
// wait for the poll's time, or until a turn is free.
func (s *Store) pause(ctx context.Context, t *turn) (bool, error) {
	if t.held {
		return true, nil
	}
	timer := time.NewTimer(s.poll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case s.blocks <- struct{}{}:
		t.held = true
	case <-timer.C:
	}
	return t.held, nil
}

// end gives the turn back.
func (s *Store) end(t *turn) {
	if t.held {
		<-s.blocks
	}
}

// Get implements store.Store. It is linearizable: a CAS loop makes progress.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Entry{}, err
	}
	pair, _, err := s.get(ctx, key)
	if err != nil {
		return store.Entry{}, err
	}
	if pair == nil {
		return store.Entry{}, fmt.Errorf("%w: %s", store.ErrNotFound, key)
	}
	return entry(pair), nil
}

// get returns a nil pair and the store's index for an absent key.
func (s *Store) get(ctx context.Context, key string) (*api.KVPair, uint64, error) {
	q := &api.QueryOptions{RequireConsistent: true}
	pair, meta, err := s.client.KV().Get(key, q.WithContext(ctx))
	if err == nil {
		err = s.trust(meta, false)
	}
	if err != nil {
		return nil, 0, s.fail(ctx, "read "+key, err)
	}
	return pair, meta.LastIndex, nil
}

// CAS implements store.Store. After an error other than ErrConflict the write may
// have happened.
func (s *Store) CAS(ctx context.Context, key string, value []byte, rev uint64) (store.Entry, error) {
	return s.write(ctx, store.Op{Verb: store.CAS, Key: key, Value: value, Rev: rev}, func(pair *api.KVPair, q *api.WriteOptions) (bool, error) {
		pair.ModifyIndex = rev
		ok, _, err := s.client.KV().CAS(pair, q)
		return ok, err
	})
}

// Put implements store.Store. After an error the write may have happened.
func (s *Store) Put(ctx context.Context, key string, value []byte) (store.Entry, error) {
	return s.write(ctx, store.Op{Verb: store.Put, Key: key, Value: value}, func(pair *api.KVPair, q *api.WriteOptions) (bool, error) {
		_, err := s.client.KV().Put(pair, q)
		return true, err
	})
}

// write makes the operation by a transaction, which tells the revision, or a large one by
// put, after which the key is read back.
func (s *Store) write(ctx context.Context, op store.Op, put func(*api.KVPair, *api.WriteOptions) (bool, error)) (store.Entry, error) {
	if err := errors.Join(store.CheckKey(op.Key), store.CheckValue(op.Key, op.Value)); err != nil {
		return store.Entry{}, err
	}
	if len(op.Value) <= store.MaxCommit {
		rev, err := s.Commit(ctx, op)
		if err != nil {
			return store.Entry{}, err
		}
		return store.Entry{Key: op.Key, Value: bytes.Clone(op.Value), Rev: rev}, nil
	}
	mark, q := newMark(), &api.WriteOptions{}
	ok, err := put(&api.KVPair{Key: op.Key, Value: op.Value, Flags: mark}, q.WithContext(ctx))
	if err != nil {
		return store.Entry{}, s.fail(ctx, "write "+op.Key, err)
	}
	now, index, err := s.get(ctx, op.Key)
	switch {
	case err != nil:
		return store.Entry{}, err
	case now != nil && now.Flags == mark:
		return entry(now), nil
	case !ok:
		return store.Entry{}, fmt.Errorf("%w: %s", store.ErrConflict, op.Key)
	case now != nil:
		// Written, and overwritten already: any revision that ours is not above
		// and that is not the present one tells the caller so at its next CAS.
		index = now.ModifyIndex - 1
	}
	return store.Entry{Key: op.Key, Value: bytes.Clone(op.Value), Rev: index}, nil
}

// newMark is what a write carries in its key's Flags; 0 would leave them alone.
func newMark() uint64 { return rand.Uint64() | 1 }

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, rev uint64) (uint64, error) {
	return s.Commit(ctx, store.Op{Verb: store.Delete, Key: key, Rev: rev})
}

// Commit implements store.Store. Of several deletes at once exactly one succeeds: Consul's
// own calls an absent key a success, one that is asked for its index before does not.
func (s *Store) Commit(ctx context.Context, ops ...store.Op) (uint64, error) {
	if err := store.CheckOps(ops); err != nil {
		return 0, err
	}
	mark := newMark()
	var all []*api.KVTxnOp
	var of []*store.Op // whose they are
	add := func(op *store.Op, made api.KVTxnOp) { all, of = append(all, &made), append(of, op) }
	for i := range ops {
		op := &ops[i]
		switch op.Verb {
		case store.Put:
			add(op, api.KVTxnOp{Verb: api.KVSet, Key: op.Key, Value: op.Value, Flags: mark})
		case store.CAS:
			add(op, api.KVTxnOp{Verb: api.KVCAS, Key: op.Key, Value: op.Value, Flags: mark, Index: op.Rev})
		case store.Delete:
			if op.Rev == 0 {
				add(op, api.KVTxnOp{Verb: api.KVGet, Key: op.Key})
			} else {
				add(op, api.KVTxnOp{Verb: api.KVCheckIndex, Key: op.Key, Index: op.Rev})
			}
			if i == 0 { // a write tells the index, which deletes do not
				add(op, api.KVTxnOp{Verb: api.KVSet, Key: op.Key, Flags: mark})
			}
			add(op, api.KVTxnOp{Verb: api.KVDelete, Key: op.Key})
		default:
			return 0, fmt.Errorf("consul: %s: unknown verb %d", op.Key, op.Verb)
		}
	}
	rev, at, refused, err := s.transact(ctx, all...)
	switch {
	case err != nil:
		return 0, s.fail(ctx, "write "+ops[0].Key, err)
	case refused == nil:
		return rev, nil
	}
	op := of[at]
	now, _, err := s.get(ctx, op.Key)
	switch {
	case err != nil:
		return 0, err
	case now != nil && now.Flags == mark: // refused to the cluster's own retry
		return now.ModifyIndex, nil
	}
	if because := outdated(op, now, refused); because != nil {
		return 0, fmt.Errorf("%w: %s", because, op.Key)
	}
	return 0, s.fail(ctx, "write "+op.Key, refused)
}

// outdated is the reason where an operation was refused for what the key is, or was, if it
// came and went since; nil where it was refused for something else.
func outdated(op *store.Op, now *api.KVPair, refused error) error {
	var rev uint64
	if now != nil {
		rev = now.ModifyIndex
	}
	says := func(text string) bool { return strings.Contains(refused.Error(), text) }
	switch {
	case op.Verb == store.Delete && (now == nil || says("doesn't exist")):
		return store.ErrNotFound
	case op.Verb == store.Delete && op.Rev != 0 && rev != op.Rev, op.Verb == store.CAS && (rev != op.Rev || says("index is stale")):
		return store.ErrConflict
	}
	return nil
}

// transact makes operations at one revision, which it returns, or none of them: refused is
// why, and at which one.
func (s *Store) transact(ctx context.Context, ops ...*api.KVTxnOp) (rev uint64, at int, refused, err error) {
	var all api.TxnOps
	for _, op := range ops {
		all = append(all, &api.TxnOp{KV: op})
	}
	q := &api.QueryOptions{}
	ok, res, _, err := s.client.Txn().Txn(all, q.WithContext(ctx))
	switch {
	case err != nil:
		return 0, 0, nil, err
	case !ok && len(res.Errors) > 0 && res.Errors[0].OpIndex < len(ops):
		return 0, res.Errors[0].OpIndex, errors.New(res.Errors[0].What), nil
	case !ok:
		return 0, 0, errors.New("transaction refused"), nil
	}
	for _, r := range res.Results { // a write's is the newest
		rev = max(rev, r.KV.ModifyIndex)
	}
	return rev, 0, nil, nil
}

// List implements store.Store. It is linearizable.
func (s *Store) List(ctx context.Context, prefix string) (store.Snapshot, error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return store.Snapshot{}, err
	}
	q := &api.QueryOptions{RequireConsistent: true}
	pairs, meta, err := s.client.KV().List(prefix, q.WithContext(ctx))
	if err == nil {
		err = s.trust(meta, true)
	}
	if err != nil {
		return store.Snapshot{}, s.fail(ctx, "list "+prefix, err)
	}
	return snapshot(pairs, meta.LastIndex), nil
}

// trust refuses an answer that may lack something, or is not Consul's at all.
// Only a list can lack something: of one key Consul says 403.
func (s *Store) trust(meta *api.QueryMeta, list bool) error {
	switch {
	case meta.LastIndex == 0:
		return errors.New("answer without X-Consul-Index: is this address Consul's HTTP API?")
	case list && meta.ResultsFilteredByACLs:
		return errors.New("the token may not read everything asked for: grant key_prefix, service_prefix and node_prefix read")
	case list && !s.token && meta.DefaultACLPolicy == "deny":
		return errors.New("no token, and Consul's ACLs deny by default: an empty answer would prove nothing; put one into CONSUL_HTTP_TOKEN, or name its file in CONSUL_HTTP_TOKEN_FILE")
	}
	return nil
}

// fail says which agent failed at what. The client's errors hold no token.
func (s *Store) fail(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("consul %s: %s: %w", s.addr, doing, err)
}

func entry(pair *api.KVPair) store.Entry {
	return store.Entry{Key: pair.Key, Value: bytes.Clone(pair.Value), Rev: pair.ModifyIndex}
}

// snapshot leaves out the empty keys ending in a slash by which Consul's UI marks
// a folder.
func snapshot(pairs api.KVPairs, index uint64) store.Snapshot {
	snap := store.Snapshot{Rev: index, Entries: make([]store.Entry, 0, len(pairs))}
	for _, pair := range pairs {
		if !strings.HasSuffix(pair.Key, "/") {
			snap.Entries = append(snap.Entries, entry(pair))
		}
	}
	return snap
}
