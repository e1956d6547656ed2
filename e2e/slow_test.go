package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"bailiwick/acme/certtest"
	"bailiwick/store/consultest"
	"bailiwick/tools/exectest"
	"bailiwick/tools/pathtest"
	"bailiwick/web/webtest"
)

// The path of a satellite and an old cell: what one packet waits each way, and what goes
// through in a second. A WebSocket over TLS takes more than 3 s there.
var slow = pathtest.Shape{Rate: 64_000, Delay: 400 * time.Millisecond, Queue: 3 * time.Second} // those paths buffer as much

// slowEdges stand on the near side of that path, one a region.
var slowEdges = map[string]string{"de-ber": "10.77.1.1", "de-fra": "10.77.2.1"}

// A patient behind such a path and a clinician whose processor is taken away for seconds
// both get to media, each on an attempt that took its time, and leave no seat elsewhere:
// a page that gives up what is not welcomed within 3 s never gets there.
func TestSlowPathAndBusyPage(t *testing.T) {
	if !alone(t) {
		return
	}
	api := slowWorld(t)
	began := time.Now()
	c := &twoPages{consultReply: newConsult(t, api, "DE", "DE")}
	c.patient, c.clinician = slowPage(t, c.Participants[0].URL), busyPage(t, c.Participants[1].URL)
	for _, p := range []struct {
		name string
		ctx  context.Context
	}{{"patient", c.patient}, {"clinician", c.clinician}} {
		webtest.Wait(t, p.ctx, `document.documentElement.dataset.state === "audio-only"`)
		t.Logf("%s is in the call %v after both opened the link", p.name, time.Since(began).Round(time.Second))
		first := flowOf(t, p.ctx)
		eventually(t, p.name+" hears the other", func() error {
			if now := flowOf(t, p.ctx); now.Audio < first.Audio+25 || now.Energy <= first.Energy {
				return fmt.Errorf("from %+v to %+v", first, now)
			}
			return nil
		})
	}
	c.on(t, api, roomOf(t, api, c.ID))
	t.Logf("connections made: patient %d, clinician %d", flowOf(t, c.patient).Made, flowOf(t, c.clinician).Made)
}

// roomOf waits until both are on one edge, and names it.
func roomOf(t *testing.T, api, consult string) string {
	t.Helper()
	found := ""
	eventually(t, "both are on one edge", func() error {
		all := rooms(t, api)
		for edge, ids := range all {
			if ids[consult] == 2 {
				found = edge
				return nil
			}
		}
		return fmt.Errorf("rooms %v", all)
	})
	return found
}

// slowWorld runs two edges with TLS in the test's namespace, and gives the API of one.
func slowWorld(t *testing.T) string {
	t.Helper()
	for _, args := range []string{"link set lo up", "addr add 10.77.0.1/16 dev lo"} {
		ip(t, args)
	}
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.txt")
	names := []string{}
	for region, at := range slowEdges {
		names = append(names, at, region+"-1.edge.media.example")
	}
	pair := certtest.SelfSigned(t, time.Time{}, time.Now().Add(time.Hour), names...)
	write(t, keys, "dev\n")
	cert, key := pair.Write(t, dir)
	before := http.DefaultTransport
	http.DefaultTransport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pair.Roots()}}
	t.Cleanup(func() { http.DefaultTransport = before })
	consul := consultest.Start(t)
	for region, at := range slowEdges {
		start(t, "edge", "--id", region+"-1", "--region", region, "--listen", at+":443", "--host", "https://"+at, "--media", at+":7882", "--turn", at+":3478",
			"--turns", at+":5349", "--tls-cert", cert, "--tls-key", key, "--tls-root", cert, "--api-keys", keys, "--consul", consul.Addr(),
			"--probe-interval", "250ms", "--linger", "1s")
	}
	api := "https://" + slowEdges["de-ber"]
	eventually(t, "both edges are usable", func() error {
		var s status
		call(t, "GET", api+"/v1/status", "", &s)
		up := 0
		for _, r := range s.Regions {
			for _, e := range r.Edges {
				if e.Health == "up" {
					up++
				}
			}
		}
		if up != len(slowEdges) {
			return fmt.Errorf("%d edges are up: %+v", up, s.Regions)
		}
		return nil
	})
	return api
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := output(exectest.Need(t, "ip", "iproute2"), strings.Fields(args)...); err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
}

// slowPage joins, by sound alone, in a browser that has a network namespace of its own
// behind the slow path.
func slowPage(t *testing.T, url string) context.Context {
	t.Helper()
	path := pathtest.New(t, 0, slow, 1)
	program := path.Program(t, exectest.Need(t, "chromium", "chromium"))
	return soundPage(t, webtest.BrowserAt(t, program, "ignore-certificate-errors", "autoplay-policy=no-user-gesture-required"), url)
}

// busyPage joins, by sound alone, in a page that has no processor for four seconds at a
// time until it is in the call.
func busyPage(t *testing.T, url string) context.Context {
	t.Helper()
	ctx := webtest.Browser(t, "ignore-certificate-errors", "allow-loopback-in-peer-connection", "autoplay-policy=no-user-gesture-required")
	webtest.Script(t, ctx, `addEventListener("click", (e) => {
		if (!e.target.closest("#join")) return;
		const hog = () => {
			if (document.documentElement.dataset.state !== "link") return;
			for (const until = performance.now() + 4000; performance.now() < until;);
			setTimeout(hog, 100);
		};
		setTimeout(hog, 20);
	}, true)`)
	return soundPage(t, ctx, url)
}

func soundPage(t *testing.T, ctx context.Context, url string) context.Context {
	t.Helper()
	webtest.Script(t, ctx, watchPeers)
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	webtest.Click(t, ctx, "#link-sound")
	webtest.Click(t, ctx, "#join")
	t.Cleanup(func() {
		if t.Failed() {
			shoot(t, ctx)
		}
	})
	return ctx
}
