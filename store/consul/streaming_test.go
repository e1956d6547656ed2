package consul

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bailiwick/store"
	"bailiwick/store/consultest"
)

// TestInstancesOfAStreamingAgent: an agent that streams, as all do unless told not to,
// never says that it knows a leader. A store that is well must not look out of reach.
func TestInstancesOfAStreamingAgent(t *testing.T) {
	s := connect(t, consultest.Start(t, "use_streaming_backend = true\nrpc { enable_streaming = true }"), "")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	lists, ups, done := make(chan []store.Instance), make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		s.WatchInstances(ctx, "bailiwick-edge",
			func(list []store.Instance) { hand(ctx, lists, list) }, func(err error) { hand(ctx, ups, err) })
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-lists // of none; what comes later comes of a blocking query, which streams
	for _, id := range []string{"de-fra-1", "de-fra-2"} {
		if _, err := s.Register(ctx, store.Instance{ID: id, Service: "bailiwick-edge", Addr: netip.MustParseAddrPort("192.0.2.1:443")}, time.Minute); err != nil {
			t.Fatal(err)
		}
		for seen, said := false, false; !seen || !said; {
			select {
			case list := <-lists:
				seen = slices.ContainsFunc(list, func(in store.Instance) bool { return in.ID == id })
				said = false // of this list it comes after it
			case err := <-ups:
				if said = true; err != nil {
					t.Fatalf("of a leader that is well: %v", err)
				}
			case <-ctx.Done():
				t.Fatalf("waited %s for %s", patience, id)
			}
		}
	}
}

func hand[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}
