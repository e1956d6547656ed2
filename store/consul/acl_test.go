package consul

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"bailiwick/store"
	"bailiwick/store/consultest"
)

// Nothing that a token may not read may look like nothing being there.
func TestACL(t *testing.T) {
	server, management := consultest.StartACL(t)
	all := connect(t, server, management)
	put(t, all, key, "down")
	lease, err := all.Register(t.Context(), store.Instance{ID: "de-fra-1", Service: "bailiwick-edge", Addr: netip.MustParseAddrPort("192.0.2.1:1")}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close(context.WithoutCancel(t.Context()))
	follow(t, all, "bailiwick/regions/").value(key, "down")
	follow(t, all, "bailiwick/empty/").until("an empty snapshot", func() bool { return true })

	powerless := token(t, all, ``)
	partly := token(t, all, `key_prefix "bailiwick/regions/de-" { policy = "read" }  service_prefix "" { policy = "read" }`)
	put(t, all, "bailiwick/regions/fr-par", "serving")
	for _, c := range []struct{ name, token string }{
		{"no token", ""},
		{"a token without rights", powerless},
		{"a token with some rights", partly}, // one region of two; services without their nodes
		{"an unknown token", "11111111-2222-3333-4444-555555555555"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := connect(t, server, c.token)
			if got, err := s.List(t.Context(), "bailiwick/regions/"); err == nil {
				t.Errorf("List: got %+v, want an error", got)
			}
			w := follow(t, s, "bailiwick/regions/")
			w.says(true)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var failure error
			s.WatchInstances(ctx, "bailiwick-edge", func(list []store.Instance) {
				t.Errorf("WatchInstances: got %+v, want an error", list)
			}, func(err error) { failure = err; cancel() })
			if failure == nil {
				t.Error("WatchInstances: up was told of no failure")
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.snaps) > 0 {
				t.Errorf("Watch: got %+v, want an error", w.snaps)
			}
			for _, err := range append(w.ups, failure) {
				if c.token == "" && err != nil && !strings.Contains(err.Error(), "CONSUL_HTTP_TOKEN") {
					t.Errorf("up: %v: want where a token goes", err)
				}
				if err == nil || c.token != "" && strings.Contains(err.Error(), c.token) {
					t.Errorf("up: got %v, want an error that does not hold the token", err)
				}
			}
		})
	}
	if _, err := connect(t, server, powerless).Get(t.Context(), "bailiwick/none"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get without rights: got %v, want an error that is not %v", err, store.ErrNotFound)
	}
}

// token makes a token with the given rules (HCL).
func token(t *testing.T, s *Store, rules string) string {
	t.Helper()
	acl := s.client.ACL()
	var policies []*api.ACLTokenPolicyLink
	if rules != "" {
		p, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "test", Rules: rules}, nil)
		if err != nil {
			t.Fatal(err)
		}
		policies = append(policies, &api.ACLTokenPolicyLink{ID: p.ID})
	}
	made, _, err := acl.TokenCreate(&api.ACLToken{Policies: policies}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made.SecretID
}
