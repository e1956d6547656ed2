package consul

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"bailiwick/store"
	"bailiwick/store/consultest"
)

// An operator's `consul maint` is no failed check: it is told apart, and neither a
// renewal nor an update, nor a new process of that ID, ends it.
func TestMaintenance(t *testing.T) {
	s := connect(t, consultest.Start(t), "")
	agent := s.client.Agent()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	statuses, done := make(chan store.Status), make(chan struct{})
	go func() {
		defer close(done)
		s.WatchInstances(ctx, "bailiwick-edge", func(list []store.Instance) {
			if len(list) == 1 {
				hand(ctx, statuses, list[0].Status)
			}
		}, func(error) {})
	}()
	t.Cleanup(func() { cancel(); <-done })
	becomes := func(when string, want store.Status) {
		t.Helper()
		last := store.Status("none")
		for last != want {
			select {
			case last = <-statuses:
			case <-ctx.Done():
				t.Fatalf("%s: got %s, want %s", when, last, want)
			}
		}
	}
	stays := func(when string, want store.Status) {
		t.Helper()
		list, _, err := s.client.Health().Service("bailiwick-edge", "", false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := instances(list); len(got) != 1 || got[0].Status != want {
			t.Errorf("%s: got %+v, want %s", when, got, want)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	in := store.Instance{ID: "de-fra-1", Service: "bailiwick-edge", Addr: netip.MustParseAddrPort("192.0.2.1:443")}
	l, err := s.Register(ctx, in, time.Minute)
	do(err)
	becomes("registered", store.Passing)
	do(agent.EnableServiceMaintenance(in.ID, "a new disk"))
	becomes("service in maintenance", store.Maintenance)
	do(l.Renew(ctx))
	stays("renewed in maintenance", store.Maintenance)
	in.Meta = map[string]string{"used": "3"}
	do(l.Update(ctx, in))
	stays("updated in maintenance", store.Maintenance)
	l, err = s.Register(ctx, in, time.Second)
	do(err)
	stays("registered again in maintenance", store.Maintenance)
	do(agent.DisableServiceMaintenance(in.ID))
	becomes("service out of maintenance, its lease over", store.Critical)
	do(agent.EnableNodeMaintenance("a new machine"))
	becomes("node in maintenance", store.Maintenance)
	do(l.Renew(ctx))
	do(agent.DisableNodeMaintenance())
	becomes("node out of maintenance", store.Passing)
	do(l.Close(ctx))
}
