package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bailiwick/store"
	"bailiwick/store/consul"
	"bailiwick/store/consultest"
	"bailiwick/tools/nettest"
)

var policies = regexp.MustCompile("(?m)^<!-- policy: (\\w+) -->\n```hcl\n((?:.*\n)*?)```$")

// TestConsulRunbook: the policies of docs/operations/consul.md are enough, and keep apart
// what is to be kept apart.
func TestConsulRunbook(t *testing.T) {
	text, err := os.ReadFile("../docs/operations/consul.md")
	if err != nil {
		t.Fatal(err)
	}
	server, management := consultest.StartACL(t)
	tokens := map[string]string{}
	for _, p := range policies.FindAllStringSubmatch(string(text), -1) {
		tokens[p[1]] = tokenOf(t, server.Addr(), management, p[1], p[2])
	}
	if tokens["dns"] == "" || tokens["edge"] == "" {
		t.Fatalf("policies of %d kinds, want dns and edge", len(tokens))
	}

	n, keys := nettest.Net(t), filepath.Join(t.TempDir(), "keys.txt")
	write(t, keys, "dev\n")
	t.Setenv("CONSUL_HTTP_TOKEN", tokens["dns"])
	node := start(t, "dns", "--node", "dns-1", "--listen", n+".0.1:8053", "--http", n+".0.1:8081", "--consul", server.Addr(), "--dnssec", "--probe-interval", "250ms")
	t.Setenv("CONSUL_HTTP_TOKEN", tokens["edge"])
	edge := start(t, "edge", "--id", "de-fra-1", "--region", "de-fra", "--listen", n+".1.1:8080", "--media", n+".1.1:7882", "--turn", n+".1.1:3478",
		"--api-keys", keys, "--consul", server.Addr(), "--probe-interval", "250ms", "--linger", "1s")
	eventually(t, "the edge is answered", func() error {
		if now := strings.Join(dig(t, n+".0.1", "de.join.media.example", "A"), " "); now != n+".1.1" {
			return fmt.Errorf("answer %q", now)
		}
		return nil
	})
	eventually(t, "a consult is placed", func() error {
		q, err := http.NewRequest(http.MethodPost, "http://"+n+".1.1:8080/v1/consults",
			strings.NewReader(`{"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer dev")
		r, err := client.Do(q)
		if err != nil {
			return err
		}
		r.Body.Close()
		if r.StatusCode != http.StatusCreated {
			return errors.New(r.Status)
		}
		return nil
	})
	for _, p := range []*process{node, edge} {
		if log := p.stderr.String(); strings.Contains(log, "ermission denied") || strings.Contains(log, "may not read") || strings.Contains(log, "out of reach") {
			t.Errorf("%s:\n%s", p.name, log)
		}
	}
	orders(t, server.Addr(), tokens)
	strangers(t, server.Addr(), tokens)
}

// orders does in the store what an order of a certificate does.
func orders(t *testing.T, addr string, tokens map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	edge, dns := as(t, addr, tokens["edge"]), as(t, addr, tokens["dns"])
	const challenge = "bailiwick/acme/challenges/_acme-challenge.join.media.example/x"
	l, err := edge.Lock(ctx, "bailiwick/acme/locks/de-fra/order")
	if err != nil {
		t.Fatal(err)
	}
	_, put := edge.Put(ctx, challenge, []byte("{}"))
	_, account := edge.Put(ctx, "bailiwick/acme/regions/de-fra/accounts/ca", []byte("x"))
	_, list := dns.List(ctx, "bailiwick/acme/challenges/")
	_, in := dns.Register(ctx, store.Instance{ID: "dns-1", Service: "bailiwick-dns", Addr: netip.MustParseAddrPort("192.0.2.53:53"), Meta: map[string]string{"applied_challenges": "7"}}, time.Minute)
	heard := make(chan error, 1)
	watch, stop := context.WithCancel(ctx)
	go edge.WatchInstances(watch, "bailiwick-dns", func([]store.Instance) {}, func(err error) {
		select {
		case heard <- err:
		default:
		}
	})
	nodes := <-heard
	stop()
	_, gone := edge.Delete(ctx, challenge, 0)
	if err := errors.Join(put, account, list, in, nodes, gone, l.Unlock(ctx)); err != nil {
		t.Error(err)
	}
}

// strangers are keys that a kind of node must not read.
func strangers(t *testing.T, addr string, tokens map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for key, who := range map[string]string{
		"bailiwick/acme/regions/de-fra/accounts/ca": "dns",
		"bailiwick/acme/regions/us-iad/accounts/ca": "edge",
		"bailiwick/dnssec/media.example":            "edge",
		"bailiwick/dns/cookie":                      "edge",
		"bailiwick/consults/x":                      "dns",
	} {
		if _, err := as(t, addr, tokens[who]).Get(ctx, key); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s may read %s: %v", who, key, err)
		}
	}
}

func as(t *testing.T, addr, token string) *consul.Store {
	t.Helper()
	s, err := consul.New(addr, token)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tokenOf makes a token with one policy.
func tokenOf(t *testing.T, addr, management, name, rules string) string {
	t.Helper()
	var made struct{ SecretID string }
	for _, step := range []struct {
		path string
		body map[string]any
	}{
		{"policy", map[string]any{"Name": name, "Rules": rules}},
		{"token", map[string]any{"Policies": []map[string]string{{"Name": name}}}},
	} {
		b, err := json.Marshal(step.body)
		if err != nil {
			t.Fatal(err)
		}
		q, err := http.NewRequest(http.MethodPut, "http://"+addr+"/v1/acl/"+step.path, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("X-Consul-Token", management)
		r, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(r.Body).Decode(&made)
		r.Body.Close()
		if r.StatusCode != http.StatusOK || err != nil {
			t.Fatalf("%s %s: %s, %v", step.path, name, r.Status, err)
		}
	}
	return made.SecretID
}
