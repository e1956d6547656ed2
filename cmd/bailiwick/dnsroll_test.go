package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"bailiwick/geodns/dnssec"
	"bailiwick/store"
	"bailiwick/store/consul"
	"bailiwick/store/consultest"
)

// TestRollOfAYoungKey: a refusal names the verb that tells when.
func TestRollOfAYoungKey(t *testing.T) {
	server := consultest.Start(t)
	st, err := consul.New(server.Addr(), "")
	if err != nil {
		t.Fatal(err)
	}
	set, err := dnssec.NewSet("media.example", dnssec.ECDSAP256, false, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := set.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Store(st).Put(t.Context(), dnssec.StoreKey("media.example"), b); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	code := run(context.Background(), []string{"dns", "roll", "--map", shippedMap, "--consul", server.Addr()}, strings.NewReader(""), &stdout, &stderr)
	if code != exitFinding || !strings.Contains(stderr.String(), "first key is not yet active: bailiwick dns keys shows") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}
