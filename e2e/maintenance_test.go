package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bailiwick/sim/page"
	"bailiwick/store/consultest"
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

// TestMaintenanceMovesTheCall: `consul maint` of an edge takes its calls elsewhere, too, and
// leaves no seat behind.
func TestMaintenanceMovesTheCall(t *testing.T) {
	d := deploy(t)
	c := newConsult(t, d.api(1), "DE", "DE")
	if c.Placement.Edge != "de-ber-1" {
		t.Fatalf("placed on %s", c.Placement.Edge)
	}
	var tabs []*tab
	for _, p := range c.Participants {
		tb, err := openTab(p.ID, http.DefaultClient, onLoopback, []page.Address{linked(p.URL, p.Token)}, func(string, ...any) {})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tb.shut(true) })
		tabs = append(tabs, tb)
	}
	ids := []string{"de-ber-1", "de-fra-1"}
	talkAt := func(here int) {
		t.Helper()
		took := eventually(t, "both hear each other on "+ids[here]+" alone", func() error {
			for i, tb := range tabs {
				if at, hears := tb.at(), tb.hears(); !strings.Contains(at, d.net+addrOf[ids[here]]) || !slices.Equal(hears, []string{tabs[1-i].name}) {
					return fmt.Errorf("%s is at %q and hears %v", tb.name, at, hears)
				}
			}
			held, left := rooms(t, d.api(here)), rooms(t, d.api(1-here))
			if held[ids[here]][c.ID] != 2 || len(left) != 0 {
				return fmt.Errorf("seats %v and %v", held, left)
			}
			return nil
		})
		t.Logf("on %s after %v", ids[here], took)
	}
	talkAt(0)
	if out, err := output(consultest.Binary(t), "maint", "-enable", "-service", "de-ber-1", "-reason", "upgrade", "-http-addr", d.servers[0].Addr()); err != nil {
		t.Fatalf("consul maint: %v\n%s", err, out)
	}
	talkAt(1)
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
