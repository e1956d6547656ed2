package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"bailiwick/store"
)

// reapAfter keeps "down" from looking like "never was" for a long weekend.
const reapAfter = "72h"

// Register implements store.Store: a service of the agent with a TTL check, born
// passing. The agent remembers it and tells the servers when it can, so that it
// succeeds without a leader too.
func (s *Store) Register(ctx context.Context, in store.Instance, ttl time.Duration) (store.Lease, error) {
	if err := store.CheckInstance(in); err != nil {
		return nil, err
	}
	if ttl <= 0 {
		return nil, fmt.Errorf("consul: instance %s: lease of %s", in.ID, ttl)
	}
	l := &lease{store: s, id: in.ID, service: in.Service, ttl: ttl, turn: make(chan struct{}, 1)}
	if err := l.Update(ctx, in); err != nil {
		return nil, err
	}
	return l, nil
}

// lease makes its calls one after the other: a renewal that finds the check gone
// must not register again what Close has just taken out.
type lease struct {
	store       *Store
	id, service string
	ttl         time.Duration

	turn   chan struct{} // holds one: whose turn it is; guards what follows
	in     store.Instance
	closed bool
}

// Renew implements store.Lease. The check's output never changes, so that renewing
// costs the servers nothing.
func (l *lease) Renew(ctx context.Context) error {
	return l.inTurn(ctx, func() error {
		err := l.pass(ctx)
		if unknown(err) { // the agent lost its state
			return l.register(ctx)
		}
		return err
	})
}

func (l *lease) pass(ctx context.Context) error {
	q := &api.QueryOptions{}
	if err := l.store.client.Agent().UpdateTTLOpts(checkID(l.id), "", api.HealthPassing, q.WithContext(ctx)); err != nil {
		return l.store.fail(ctx, "renew "+l.id, err)
	}
	return nil
}

// Update implements store.Lease. It renews too.
func (l *lease) Update(ctx context.Context, in store.Instance) error {
	in.ID, in.Service, in.Meta = l.id, l.service, maps.Clone(in.Meta)
	if err := store.CheckInstance(in); err != nil {
		return err
	}
	return l.inTurn(ctx, func() error {
		l.in = in // also when the agent is out of reach: the next renewal may find it empty
		return l.register(ctx)
	})
}

// Close implements store.Lease. It may be tried again after an error; after a
// success it does nothing.
func (l *lease) Close(ctx context.Context) error {
	return l.enter(ctx, func() error {
		if l.closed {
			return nil
		}
		q := &api.QueryOptions{}
		err := l.store.client.Agent().ServiceDeregisterOpts(l.id, q.WithContext(ctx))
		if err != nil && !unknown(err) {
			return l.store.fail(ctx, "deregister "+l.id, err)
		}
		l.closed = true
		return nil
	})
}

// register also passes the check: one that the agent knows already keeps its
// status, whatever the registration says.
func (l *lease) register(ctx context.Context) error {
	opts := api.ServiceRegisterOpts{}
	err := l.store.client.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{
		ID:      l.id,
		Name:    l.service,
		Address: l.in.Addr.Addr().String(),
		Port:    int(l.in.Addr.Port()),
		Meta:    l.in.Meta,
		Check: &api.AgentServiceCheck{
			CheckID:                        checkID(l.id),
			Name:                           "lease",
			TTL:                            l.ttl.String(),
			Status:                         api.HealthPassing,
			DeregisterCriticalServiceAfter: reapAfter,
		},
	}, opts.WithContext(ctx))
	if err != nil {
		return l.store.fail(ctx, "register "+l.id, err)
	}
	return l.pass(ctx)
}

func (l *lease) inTurn(ctx context.Context, do func() error) error {
	return l.enter(ctx, func() error {
		if l.closed {
			return fmt.Errorf("consul: instance %s: its lease is closed", l.id)
		}
		return do()
	})
}

func (l *lease) enter(ctx context.Context, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
		return do()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func checkID(id string) string { return "service:" + id }

func unknown(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

// WatchInstances implements store.Store. Every check of the instance and of its
// node counts: the lease, an operator's own checks, serf. A warning passes.
// `consul maint`, of the service or of the node, is the instance's Maintenance.
func (s *Store) WatchInstances(ctx context.Context, service string, fn func([]store.Instance), up func(error)) error {
	if err := store.CheckService(service); err != nil {
		return err
	}
	return watch[[]store.Instance]{
		store: s,
		what:  "watch service " + service,
		fetch: func(q *api.QueryOptions) ([]store.Instance, *api.QueryMeta, error) {
			q.Near = "_agent" // such a query does not stream: see the package comment
			list, meta, err := s.client.Health().Service(service, "", false, q)
			return instances(list), meta, err
		},
		same:    store.EqualInstances,
		deliver: func(list []store.Instance, _ uint64) { fn(store.CloneInstances(list)) },
		up:      up,
	}.run(ctx)
}

// instances returns one instance for each ID, in the order of IDs.
func instances(list []*api.ServiceEntry) []store.Instance {
	type ranked struct {
		store.Instance
		index uint64
	}
	all := make([]ranked, 0, len(list))
	for _, e := range list {
		all = append(all, ranked{instance(e), e.Service.ModifyIndex})
	}
	slices.SortFunc(all, func(a, b ranked) int {
		return cmp.Or(
			strings.Compare(a.ID, b.ID),
			strings.Compare(string(b.Status), string(a.Status)), // passing, maintenance, critical
			cmp.Compare(b.index, a.index))                       // newer first
	})
	out := make([]store.Instance, 0, len(all))
	for i, r := range all {
		if i == 0 || r.ID != all[i-1].ID {
			out = append(out, r.Instance)
		}
	}
	return out
}

// instance leaves the address zero where somebody registered a host name: the
// observer that needs it says so of this one instance.
func instance(e *api.ServiceEntry) store.Instance {
	in := store.Instance{ID: e.Service.ID, Service: e.Service.Service, Meta: maps.Clone(e.Service.Meta), Status: store.Critical}
	addr, err := netip.ParseAddr(cmp.Or(e.Service.Address, e.Node.Address))
	if err == nil && 0 <= e.Service.Port && e.Service.Port <= math.MaxUint16 {
		in.Addr = netip.AddrPortFrom(addr, uint16(e.Service.Port))
	}
	switch e.Checks.AggregatedStatus() {
	case api.HealthPassing, api.HealthWarning:
		in.Status = store.Passing
	case api.HealthMaint:
		in.Status = store.Maintenance
	}
	return in
}
