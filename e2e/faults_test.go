package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"bailiwick/store/consultest"
	"bailiwick/tools/nettest"
)

// Consul absent at the start: the node runs, says so, promises nothing, and takes
// Consul up when it comes. Only then it prints ready.
func TestConsulAbsentAtStart(t *testing.T) {
	server := consultest.Start(t)
	server.Kill()
	n := nettest.Net(t)
	p := launch(t, "dns", "--listen", n+".0.1:8053", "--http", n+".0.1:8080", "--consul", server.Addr(), "--state", t.TempDir(), "--probe-interval", "250ms")
	eventually(t, "the log names the Consul that is missing", func() error {
		if log := p.stderr.String(); !strings.Contains(log, "out of reach") || !strings.Contains(log, server.Addr()) {
			return fmt.Errorf("log %q", log)
		}
		return nil
	})
	if full := digFull(t, n+".0.1", "de.join.media.example", "A"); !strings.Contains(full, "NOERROR") || !strings.Contains(full, "ANSWER: 0") || !strings.Contains(full, "region_unhealthy") {
		t.Errorf("without any word of an edge DNS answers\n%s", full)
	}
	if code, body := get(t, "http://"+n+".0.1:8080/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "no word from the store") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, _ := get(t, "http://"+n+".0.1:8080/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d", code)
	}
	eventually(t, "it says that it waits", func() error {
		if log := p.stderr.String(); !strings.Contains(log, "not ready: waiting for a first word of Consul") {
			return fmt.Errorf("log %q", log)
		}
		return nil
	})
	if out := p.stdout.String(); out != "" {
		t.Errorf("without any word of Consul it prints\n%s", out)
	}
	server.Restart()
	p.ready()
	eventually(t, "the node takes Consul up", func() error {
		if code, body := get(t, "http://"+n+".0.1:8080/readyz"); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// An edge that is killed says nothing to anybody: its clients find the standby by
// themselves, and the world follows once lease and probes agree.
func TestKilledEdge(t *testing.T) {
	d := deploy(t)
	c := openCall(t, d.api(1), "")
	c.goesOn(t)
	if c.Placement.Edge != "de-ber-1" {
		t.Fatalf("placed on %s", c.Placement.Edge)
	}
	began := time.Now()
	d.edges["de-ber-1"].cmd.Process.Kill()
	<-d.edges["de-ber-1"].exited
	c.on(t, d.api(1), "de-fra-1")
	c.goesOn(t)
	t.Logf("both are on the standby and hear each other %v after the kill", time.Since(began).Round(time.Millisecond))
	d.answers("de-fra-1", "de-ber-1 was killed")
	eventually(t, "the placement follows", func() error {
		var p consultReply
		call(t, "GET", d.api(1)+"/v1/consults/"+c.ID, "", &p)
		if p.Placement.Edge != "de-fra-1" || p.Placement.Epoch != 2 {
			return fmt.Errorf("placement %+v", p.Placement)
		}
		return nil
	})
	c.goesOn(t)
}
