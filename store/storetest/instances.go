package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bailiwick/store"
)

// A lease short enough to wait for its end, and long enough that a busy machine
// renews it in time.
const shortTTL = 1500 * time.Millisecond

func edge(service, id string) store.Instance {
	return store.Instance{
		ID: id, Service: service, Addr: netip.MustParseAddrPort("192.0.2.1:8080"),
		Meta: map[string]string{"region": "de-fra", "host": "http://192.0.2.1:8080"},
	}
}

func register(t *testing.T, s store.Store, in store.Instance, ttl time.Duration) store.Lease {
	t.Helper()
	l, err := s.Register(t.Context(), in, ttl)
	if err != nil {
		t.Fatalf("Register(%s): %v", in.ID, err)
	}
	t.Cleanup(func() { l.Close(context.WithoutCancel(t.Context())) }) // twice is once
	return l
}

// lists accepts a list of instances by its "ID status" words.
func lists(want string) func([]store.Instance) bool {
	return func(list []store.Instance) bool {
		words := make([]string, len(list))
		for i, in := range list {
			words[i] = in.ID + " " + string(in.Status)
		}
		return strings.Join(words, ", ") == want
	}
}

func testInstances(t *testing.T, s store.Store) {
	ctx, service := t.Context(), unique()
	w := watchInstances(t, s, service)
	if got := w.until("the first list", anything); len(got) != 0 {
		t.Errorf("first list: got %v, want an empty one", got)
	}
	select {
	case err := <-w.up:
		want(t, "up after the first list", err, nil)
	case <-time.After(patience):
		t.Error("up was not told of the first contact")
	}
	in := edge(service, "de-fra-1")
	l := register(t, s, in, time.Minute)
	in.Status = store.Passing
	registered := w.until("the instance", lists("de-fra-1 passing"))[0]
	if got, want := fmt.Sprintf("%+v", registered), fmt.Sprintf("%+v", in); got != want {
		t.Errorf("instance: got %s, want %s", got, want)
	}
	registered.Meta["region"] = "spoiled" // the watcher's own copy

	next := in
	next.Addr = netip.MustParseAddrPort("[2001:db8::1]:9090")
	next.Meta = map[string]string{"used": "3"}
	want(t, "Update", l.Update(ctx, next), nil)
	next.Meta["used"] = "spoiled" // the caller's again
	got := w.until("the update", func(list []store.Instance) bool { return len(list) == 1 && list[0].Meta["used"] == "3" })[0]
	if got.ID != in.ID || got.Service != service || got.Addr != next.Addr || got.Status != store.Passing || len(got.Meta) != 1 {
		t.Errorf("instance after Update: got %+v", got)
	}
	late := watchInstances(t, s, service)
	late.until("the instance in a later watch", lists("de-fra-1 passing"))
	want(t, "Close", l.Close(ctx), nil)
	w.until("its end", lists(""))
	late.until("its end", lists(""))

	register(t, s, in, time.Minute)
	got = w.until("the instance, registered again", lists("de-fra-1 passing"))[0]
	if !maps.Equal(got.Meta, in.Meta) {
		t.Errorf("meta of the instance registered again: got %v, want %v", got.Meta, in.Meta)
	}
}

func testExpiry(t *testing.T, s store.Store) {
	ctx, service := t.Context(), unique()
	w := watchInstances(t, s, service)
	began := time.Now()
	l := register(t, s, edge(service, "a"), shortTTL)
	keeps := register(t, s, edge(service, "b"), shortTTL)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		tick := time.NewTicker(shortTTL / 6)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if err := keeps.Renew(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("Renew: %v", err)
				}
			}
		}
	}()
	w.until("both", lists("a passing, b passing"))
	got := w.until("the end of a lease", lists("a critical, b passing"))
	if took := time.Since(began); took < shortTTL {
		t.Errorf("a lease of %s ended after %s", shortTTL, took)
	}
	if got[0].Meta["region"] != "de-fra" {
		t.Errorf("a critical instance lost its meta: %v", got[0].Meta)
	}
	want(t, "Renew of an expired lease", l.Renew(ctx), nil)
	w.until("the renewal", lists("a passing, b passing"))
	w.until("the end of the renewed lease", lists("a critical, b passing"))
	want(t, "Update of an expired lease", l.Update(ctx, edge(service, "a")), nil)
	w.until("the update, which renews", lists("a passing, b passing"))
	w.until("the end of the updated lease", lists("a critical, b passing"))
	want(t, "Close of an expired lease", l.Close(ctx), nil)
	w.until("its end", lists("b passing"))
}

func testServices(t *testing.T, s store.Store) {
	service := unique()
	w := watchInstances(t, s, service)
	for _, id := range []string{"c", "a", "b.1"} {
		register(t, s, edge(service, id), time.Minute)
	}
	register(t, s, edge(service+"-other", "d"), time.Minute)
	w.until("three", lists("a passing, b.1 passing, c passing"))
}

// A process that was started again takes the place of the one before.
func testReplaced(t *testing.T, s store.Store) {
	service := unique()
	w := watchInstances(t, s, service)
	register(t, s, edge(service, "a"), time.Minute)
	w.until("the instance", lists("a passing"))
	in := edge(service, "a")
	in.Meta = map[string]string{"region": "de-ber"}
	register(t, s, in, shortTTL)
	w.until("the replacement", func(list []store.Instance) bool {
		return lists("a passing")(list) && list[0].Meta["region"] == "de-ber"
	})
	w.until("the end of the second lease, whose TTL counts", lists("a critical"))
	l := register(t, s, in, time.Minute)
	w.until("the replacement of a critical one", lists("a passing"))
	want(t, "Close", l.Close(t.Context()), nil)
	w.until("its end", lists(""))
}

func testForgotten(t *testing.T, s store.Store) {
	ctx, service := t.Context(), unique()
	w := watchInstances(t, s, service)
	l := register(t, s, edge(service, "a"), shortTTL)
	want(t, "Update", l.Update(ctx, store.Instance{Addr: netip.MustParseAddrPort("192.0.2.9:1"), Meta: map[string]string{"used": "4"}}), nil)
	other := register(t, s, edge(service, "a"), time.Minute)
	w.until("the instance", lists("a passing"))
	want(t, "Close by another holder", other.Close(ctx), nil)
	w.until("its end", lists(""))
	want(t, "Renew of a forgotten lease", l.Renew(ctx), nil)
	got := w.until("the instance, registered again", lists("a passing"))[0]
	if got.Addr.Port() != 1 || got.Meta["used"] != "4" {
		t.Errorf("registered again: got %+v, want what Update said", got)
	}
	w.until("the end of the lease", lists("a critical"))
}

func testClosed(t *testing.T, s store.Store) {
	ctx, service := t.Context(), unique()
	w := watchInstances(t, s, service)
	l := register(t, s, edge(service, "a"), time.Minute)
	w.until("the instance", lists("a passing"))
	want(t, "Close", l.Close(ctx), nil)
	w.until("its end", lists(""))
	if err := l.Renew(ctx); err == nil {
		t.Error("Renew of a closed lease: got no error")
	}
	if err := l.Update(ctx, edge(service, "a")); err == nil {
		t.Error("Update of a closed lease: got no error")
	}
	register(t, s, edge(service, "b"), time.Minute)
	got := w.until("the next list", anything)
	if !lists("b passing")(got) {
		t.Errorf("after calls on a closed lease: got %+v, want b alone", got)
	}
	want(t, "second Close", l.Close(ctx), nil)
}

func testInstancesRefused(t *testing.T, s store.Store) {
	service := unique()
	many := make(map[string]string)
	for i := range 65 {
		many[fmt.Sprint("k", i)] = "v"
	}
	for _, c := range []struct {
		name   string
		ttl    time.Duration
		change func(*store.Instance)
	}{
		{"no ID", time.Minute, func(in *store.Instance) { in.ID = "" }},
		{"a slash in the ID", time.Minute, func(in *store.Instance) { in.ID = "a/b" }},
		{"no service", time.Minute, func(in *store.Instance) { in.Service = "" }},
		{"no address", time.Minute, func(in *store.Instance) { in.Addr = netip.AddrPort{} }},
		{"every address", time.Minute, func(in *store.Instance) { in.Addr = netip.MustParseAddrPort("0.0.0.0:53") }},
		{"65 pairs of meta", time.Minute, func(in *store.Instance) { in.Meta = many }},
		{"a long meta value", time.Minute, func(in *store.Instance) { in.Meta["a"] = strings.Repeat("v", 513) }},
		{"a space in a meta key", time.Minute, func(in *store.Instance) { in.Meta["a b"] = "" }},
		{"no TTL", 0, func(*store.Instance) {}},
	} {
		in := edge(service, "a")
		c.change(&in)
		if _, err := s.Register(t.Context(), in, c.ttl); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("Register with %s: got error %v, want a refusal", c.name, err)
		}
	}
	full := edge(service, "full")
	delete(many, "k64")
	many["k0"] = strings.Repeat("v", 512)
	full.Meta = many
	register(t, s, full, time.Minute)
	w := watchInstances(t, s, service)
	got := w.until("an instance with all the meta allowed", lists("full passing"))[0]
	if !maps.Equal(got.Meta, many) {
		t.Errorf("meta: got %d pairs, want the %d registered", len(got.Meta), len(many))
	}
	if err := s.WatchInstances(t.Context(), "a/b", func([]store.Instance) {}, func(error) {}); err == nil {
		t.Error("WatchInstances of a service that cannot be: got no error")
	}
}
