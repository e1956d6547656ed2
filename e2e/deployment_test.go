package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bailiwick/store/consultest"
	"bailiwick/tools/nettest"
	"bailiwick/web/webtest"
)

// deployment is what runs in production: a DNS node and two edges on a real
// three-server Consul, a process each.
type deployment struct {
	t       *testing.T
	servers []*consultest.Server
	net     string
	state   string
	dns     *process
	edges   map[string]*process
	args    map[string][]string
}

func deploy(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{t: t, servers: consultest.StartCluster(t, 3, "performance { raft_multiplier = 5 }"), net: nettest.Net(t), state: t.TempDir(), edges: map[string]*process{}, args: map[string][]string{}}
	keys := filepath.Join(d.state, "keys.txt")
	if err := os.WriteFile(keys, []byte("# backends\ndev\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.startDNS()
	for i, id := range []string{"de-ber-1", "de-fra-1"} {
		at := fmt.Sprintf("%s.%d.1", d.net, i+1)
		d.args[id] = []string{"edge", "--id", id, "--region", strings.TrimSuffix(id, "-1"), "--listen", at + ":8080", "--media", at + ":7882", "--turn", at + ":3478",
			"--api-keys", keys, "--consul", d.servers[i].Addr(), "--state", d.state, "--probe-interval", "250ms", "--linger", "5s"}
		d.edges[id] = start(t, d.args[id]...)
	}
	d.answers("de-ber-1", "both edges are up")
	eventually(t, "both edges know each other", func() error {
		for i := range 2 {
			if n := d.known(i); n != 2 {
				return fmt.Errorf("edge %d knows %d edges", i, n)
			}
		}
		return nil
	})
	return d
}

func (d *deployment) startDNS() {
	d.dns = start(d.t, "dns", "--node", "dns-1", "--listen", d.net+".0.1:8053", "--consul", d.servers[2].Addr(), "--state", d.state, "--http", d.net+".0.1:8080",
		"--probe-interval", "250ms", "--map", d.mapFile())
}

// mapFile is the shipped map with a place for the test's addresses, which no geo
// database of a test has.
func (d *deployment) mapFile() string {
	path := filepath.Join(d.state, "regions.yaml")
	b, err := os.ReadFile("../regions.yaml")
	if err != nil {
		d.t.Fatal(err)
	}
	text, own, found := strings.Cut(string(b), "\ngeo: []\n")
	if !found {
		d.t.Fatal("regions.yaml has no empty geo list to fill")
	}
	b = []byte(text + "\ngeo:\n  - {prefix: 192.0.2.0/24, country: DE, at: [52.52, 13.405]}\n  - {prefix: 198.51.100.0/24, country: AE}\n" + own)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

func (d *deployment) api(i int) string { return fmt.Sprintf("http://%s.%d.1:8080", d.net, i+1) }

// known counts the edges in an edge's world.
func (d *deployment) known(i int) int {
	var s status
	call(d.t, "GET", d.api(i)+"/v1/status", "", &s)
	n := 0
	for _, r := range s.Regions {
		n += len(r.Edges)
	}
	return n
}

var addrOf = map[string]string{"de-ber-1": ".1.1", "de-fra-1": ".2.1"}

// answers waits until a German client is answered the edge ("" is none).
func (d *deployment) answers(edge, why string) {
	d.t.Helper()
	want := "none.edge.media.example." // an alias of nothing
	if edge != "" {
		want = d.net + addrOf[edge]
	}
	took := eventually(d.t, why+": DNS answers "+edge, func() error {
		if now := strings.Join(dig(d.t, d.net+".0.1", "join.media.example", "A", "+subnet=192.0.2.1"), " "); now != want {
			return fmt.Errorf("answer %q, want %q", now, want)
		}
		return nil
	})
	d.t.Logf("%s: DNS answers %q after %v", why, edge, took)
}

// Point 6: points 1 to 4 on a deployment.
func TestDeployment(t *testing.T) {
	d := deploy(t)

	// Point 1: the scope is set, and an unlawful place gets no address.
	if full := digFull(t, d.net+".0.1", "join.media.example", "A", "+subnet=192.0.2.1"); !strings.Contains(full, "CLIENT-SUBNET: 192.0.2.1/32/24") {
		t.Errorf("no ECS scope of /24 in\n%s", full)
	}
	if full := digFull(t, d.net+".0.1", "join.media.example", "A", "+subnet=198.51.100.1"); !strings.Contains(full, "EDE: 18 (Prohibited)") || !strings.Contains(full, "ANSWER: 1,") || !strings.Contains(full, "\tCNAME\tnone.edge.media.example.") {
		t.Errorf("a client in AE got\n%s", full)
	}

	// Points 2 and 3: a call, relayed.
	c := openCall(t, d.api(1), "?relay=1")
	if f, _ := c.goesOn(t); f.Pair != "relay" {
		t.Errorf("flow %+v is not relayed", f)
	}
	if c.Placement.Edge != "de-ber-1" {
		t.Fatalf("placed on %s", c.Placement.Edge)
	}
	c.on(t, d.api(0), "de-ber-1")

	// Point 4: the operator's word, by consul kv put.
	consulKV(t, d.servers[0].Addr(), "bailiwick/regions/de-ber", "down")
	d.answers("de-fra-1", "de-ber is down")
	c.on(t, d.api(1), "de-fra-1")
	c.goesOn(t)
	consulKV(t, d.servers[0].Addr(), "bailiwick/regions/de-ber", "serving")
	d.answers("de-ber-1", "de-ber serves again")

	// Stopping an edge takes it out of answers and placements, and its call moves.
	d.edges["de-fra-1"].cmd.Process.Signal(os.Interrupt)
	c.on(t, d.api(0), "de-ber-1")
	c.goesOn(t)
	d.edges["de-fra-1"].stop()
	consulKV(t, d.servers[0].Addr(), "bailiwick/regions/de-ber", "draining")
	d.answers("", "de-ber drains and de-fra has stopped")
	// DNS has heard it; the edge hears it from another server of the cluster.
	eventually(t, "the edge knows that its region drains", func() error {
		var s status
		call(t, "GET", d.api(0)+"/v1/status", "", &s)
		for _, r := range s.Regions {
			if r.ID == "de-ber" && r.Mode == "draining" {
				return nil
			}
		}
		return fmt.Errorf("status %+v", s.Regions)
	})
	var problem struct{ Code string }
	body := `{"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}]}`
	if code := call(t, "POST", d.api(0)+"/v1/consults", body, &problem); code != http.StatusServiceUnavailable || problem.Code != "region_draining" {
		t.Errorf("placing with nowhere to go: %d %s", code, problem.Code)
	}
	c.goesOn(t) // nothing lawful is better: the call stays
	consulKV(t, d.servers[0].Addr(), "bailiwick/regions/de-ber", "serving")
	d.answers("de-ber-1", "de-ber serves again")
}

// Point 6, the rest: Consul going away changes nothing that was known.
func TestDeploymentWithoutConsul(t *testing.T) {
	d := deploy(t)
	c := openCall(t, d.api(0), "")
	c.goesOn(t)
	consulKV(t, d.servers[0].Addr(), "bailiwick/regions/fr-par", "down")
	eventually(t, "the DNS node has written its last known good", func() error {
		b, err := os.ReadFile(filepath.Join(d.state, "dns-1.json"))
		if err == nil && !strings.Contains(string(b), "fr-par") {
			err = fmt.Errorf("no fr-par in it yet")
		}
		return err
	})
	for _, s := range d.servers {
		s.Kill()
	}
	eventually(t, "the nodes notice", func() error {
		var s status
		if call(t, "GET", d.api(0)+"/v1/status", "", &s); s.Store != "stale" {
			return fmt.Errorf("store is %s", s.Store)
		}
		return nil
	})
	d.answers("de-ber-1", "Consul is gone")
	c.goesOn(t)
	made := struct{ Recorded bool }{true}
	if code := call(t, "POST", d.api(0)+"/v1/consults", `{"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}]}`, &made); code != 201 || made.Recorded {
		t.Errorf("placing without Consul: %d, recorded %v; want 201 and not", code, made.Recorded)
	}
	// A page that reloads joins again from its token alone.
	webtest.Eval[bool](t, c.patient, "window.before = true, location.reload(), true")
	webtest.Wait(t, c.patient, `!window.before && document.querySelector("#call") && !document.querySelector("#call").hidden`)
	c.goesOn(t)

	// A cold start without Consul serves the last known good.
	d.dns.stop()
	d.startDNS()
	d.answers("de-ber-1", "a cold start without Consul")
}
