package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"testing"
)

// TestMaintenance: an operator's word in Consul takes an edge out, for the service or for its
// machine; the leases of all nodes say when a mode is in force.
func TestMaintenance(t *testing.T) {
	d := deploy(t)
	maint := func(what string, on bool) {
		t.Helper()
		consulCall(t, http.MethodPut, fmt.Sprintf("http://%s/v1/agent/%s?enable=%v&reason=upgrade", d.servers[0].Addr(), what, on), nil)
	}
	maint("service/maintenance/de-ber-1", true)
	d.answers("de-fra-1", "de-ber-1 is in maintenance")
	maint("service/maintenance/de-ber-1", false)
	d.answers("de-ber-1", "it is over")
	maint("maintenance", true)
	d.answers("de-fra-1", "the machine of de-ber-1 is in maintenance")
	maint("maintenance", false)
	d.answers("de-ber-1", "it is over too")

	consulKV(t, d.servers[1].Addr(), "bailiwick/regions/fr-par", "draining")
	var written []struct{ ModifyIndex uint64 }
	consulCall(t, http.MethodGet, "http://"+d.servers[1].Addr()+"/v1/kv/bailiwick/regions/fr-par?consistent", &written)
	for _, service := range []string{"bailiwick-edge", "bailiwick-dns"} {
		took := eventually(t, service+" says that it is applied", func() error {
			var nodes []struct {
				Service struct {
					ID   string
					Meta map[string]string
				}
			}
			consulCall(t, http.MethodGet, "http://"+d.servers[1].Addr()+"/v1/health/service/"+service, &nodes)
			for _, n := range nodes {
				if rev, err := strconv.ParseUint(n.Service.Meta["applied"], 10, 64); err != nil || rev < written[0].ModifyIndex {
					return fmt.Errorf("%s has applied %q, want %d", n.Service.ID, n.Service.Meta["applied"], written[0].ModifyIndex)
				}
			}
			if len(nodes) == 0 {
				return fmt.Errorf("nobody is registered")
			}
			return nil
		})
		t.Logf("%s after %v", service, took)
	}
}

// consulCall asks Consul over HTTP.
func consulCall(t *testing.T, method, url string, into any) {
	t.Helper()
	q, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, url, r.Status)
	}
	if into != nil {
		if err := json.NewDecoder(r.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
}
