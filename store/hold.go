package store

import (
	"context"
	"maps"
	"time"
)

// Hold is an instance that a node keeps registered.
type Hold struct {
	TTL time.Duration
	// Self is the instance, asked for with each renewal: what changes slowly, as load
	// does, is in it.
	Self func() Instance
	// Applied is laid over the instance's Meta, and told at once when it changed: what
	// others wait for. Changed is when to look. Both may be nil.
	Applied func() map[string]string
	Changed <-chan struct{}
	// Told gets the outcome of each try, nil for a success.
	Told func(error)
}

const (
	// holdRetry is how soon what failed is tried again.
	holdRetry = time.Second
	// lastPatience bounds an exchange that is under way when the instance is to go, and
	// leavePatience the goodbye.
	lastPatience  = 5 * time.Second
	leavePatience = 2 * time.Second
)

// Keep registers the instance, renews its lease and tells what it applied until ctx ends;
// then it deregisters. Its error is that of deregistering: the lease ends by itself then.
func (h *Hold) Keep(ctx context.Context, st Store) error {
	var (
		lease   Lease
		said    Instance        // as it is registered
		changed <-chan struct{} // nil while nothing is: the retry is soon
	)
	timer := time.NewTimer(0)
	defer timer.Stop()
	exchange, stop := outlasting(ctx, lastPatience)
	defer stop()
	for ctx.Err() == nil {
		due := false
		select {
		case <-ctx.Done():
			continue
		case <-timer.C:
			due = true
		case <-changed:
		}
		next := said
		if due {
			next = h.Self()
		}
		next = h.laid(next)
		known := next.Addr == said.Addr && maps.Equal(next.Meta, said.Meta)
		var err error
		switch {
		case lease == nil:
			lease, err = st.Register(exchange, next, h.TTL)
		case !known:
			err = lease.Update(exchange, next)
		case due:
			err = lease.Renew(exchange)
		default:
			continue
		}
		if ctx.Err() != nil {
			continue
		}
		h.Told(err)
		if changed, said = h.Changed, next; err == nil {
			timer.Reset(h.TTL / 3)
			continue
		}
		changed, said = nil, Instance{}
		timer.Reset(min(h.TTL/3, holdRetry))
	}
	if lease == nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), leavePatience)
	defer cancel()
	return lease.Close(bounded)
}

// outlasting is a context that ends a while after ctx. A store does what it was asked to though
// nobody waits for the answer any more: a registration that is cut off may come to be after the
// goodbye that overtook it, and stay.
func outlasting(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return later, func() {
		stop()
		cancel()
	}
}

func (h *Hold) laid(in Instance) Instance {
	in.Meta = maps.Clone(in.Meta)
	if h.Applied == nil {
		return in
	}
	if in.Meta == nil {
		in.Meta = map[string]string{}
	}
	maps.Copy(in.Meta, h.Applied())
	return in
}
