package e2e

import (
	"testing"

	"bailiwick/store/consultest"
)

// consulKV writes a key as an operator does.
func consulKV(t *testing.T, addr, key, value string) {
	t.Helper()
	if out, err := output(consultest.Binary(t), "kv", "put", "-http-addr", addr, key, value); err != nil {
		t.Fatalf("consul kv put %s %s: %v\n%s", key, value, err, out)
	}
}
