package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bailiwick/store"
	"bailiwick/store/consul"
	"bailiwick/store/consultest"
	"bailiwick/tools/exectest"
)

// TestNodesOnAllAddressesRegister: Consul refuses 0.0.0.0, on which nodes listen in
// production; who is not registered gets no patients, and certificates do not wait for it.
func TestNodesOnAllAddressesRegister(t *testing.T) {
	server := consultest.Start(t)
	keys := filepath.Join(t.TempDir(), "keys.txt")
	if err := os.WriteFile(keys, []byte("dev\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		service, id, addr string
		args              []string
	}{
		{"bailiwick-edge", "de-fra-1", "127.0.0.1", []string{"edge", "--id", "de-fra-1", "--region", "de-fra", "--listen", "0.0.0.0:0", "--public", "127.0.0.1",
			"--media", "127.0.0.1:0", "--turn", "127.0.0.1:0", "--api-keys", keys, "--linger", "0s"}},
		{"bailiwick-dns", "dns-1", "192.0.2.53", []string{"dns", "--node", "dns-1", "--listen", "0.0.0.0:0", "--ns", "192.0.2.53"}},
		{"bailiwick-dns", nodeOf(host), "192.0.2.53", []string{"dns", "--listen", "0.0.0.0:0", "--ns", "192.0.2.53"}},
	} {
		t.Run(c.service, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan string, 1)
			go func() {
				var stdout, stderr strings.Builder
				code := run(ctx, append(c.args, "--map", shippedMap, "--consul", server.Addr()), strings.NewReader(""), &stdout, &stderr)
				ended <- fmt.Sprintf("exit code %d\n%s", code, stderr.String())
			}()
			st, err := consul.New(server.Addr(), "")
			if err != nil {
				t.Fatal(err)
			}
			watch, enough := context.WithTimeout(ctx, exectest.Patience)
			var got netip.AddrPort
			st.WatchInstances(watch, c.service, func(list []store.Instance) {
				for _, in := range list {
					if in.ID == c.id && in.Status == store.Passing {
						got = in.Addr
						enough()
					}
				}
			}, func(error) {})
			enough()
			stop()
			if said := <-ended; got.Addr().String() != c.addr || got.Port() == 0 {
				t.Errorf("registered at %v, want %s; %s", got, c.addr, said)
			}
		})
	}
}
