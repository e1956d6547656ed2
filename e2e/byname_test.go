package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"bailiwick/acme/pebbletest"
	"bailiwick/store/consultest"
	"bailiwick/tools/exectest"
	"bailiwick/web/webtest"
)

// joinPage is where everybody opens the consult page: a name, and no edge's.
const joinPage = "https://join.media.example"

// ofEdge is where an edge is asked by itself.
func ofEdge(id string) string { return "https://" + id + ".edge.media.example" }

// named is a deployment that is known by its names only, and serves TLS only, with
// certificates that a CA issued to it by ACME.
type named struct {
	t      *testing.T
	consul *consultest.Server
	ca     *pebbletest.CA
}

func deployNamed(t *testing.T, root *rootZone) *named {
	t.Helper()
	n := &named{t, consultest.Start(t), pebbletest.Start(t, pebbletest.Config{IP: acmeServer, DNS: authority + ":53"})}
	dir := t.TempDir()
	keys, secret, seal := filepath.Join(dir, "keys.txt"), filepath.Join(dir, "secret.txt"), make([]byte, 32)
	rand.Read(seal)
	write(t, keys, "dev\n")
	write(t, secret, fmt.Sprintf("%x", seal))
	world := n.mapFile(dir)
	node := func(id string, args ...string) {
		start(t, append(args, "--map", world, "--consul", n.consul.Addr(), "--state", filepath.Join(dir, id), "--probe-interval", "250ms",
			"--acme", n.ca.Directory, "--acme-root", n.ca.APIRootFile, "--acme-secret", secret, "--tls-root", n.ca.RootFile)...)
	}
	node("dns-1", "dns", "--node", "dns-1", "--listen", authority+":53", "--dot", authority+":853", "--dnssec")
	// One by one: the CA asks over TCP only, 12 times at once for each edge, and a client
	// has 32 connections to a DNS node.
	for id, at := range edgeAddr {
		node(id, "edge", "--id", id, "--region", strings.TrimSuffix(id, "-1"), "--listen", at+":443", "--media", at+":7882",
			"--turn", at+":3478", "--turns", at+":5349", "--api-keys", keys, "--metrics", at+":9100", "--linger", "1s")
	}
	ds, code := run(t, "dns", "ds", "--consul", n.consul.Addr())
	if code != 0 {
		t.Fatalf("dns ds: exit code %d: %s", code, ds)
	}
	root.delegate(ds)
	trusted(t, n.ca)
	// Asked too early, the resolver would keep an answer of before for its TTL.
	n.knows(berlin, "de-ber-1")
	n.knows(paris, "fr-par-1")
	for id := range edgeAddr {
		eventually(t, id+" has probed all edges", func() error {
			var s status
			call(t, "GET", ofEdge(id)+"/v1/status", "", &s)
			up := 0
			for _, r := range s.Regions {
				for _, e := range r.Edges {
					if e.Health == "up" {
						up++
					}
				}
			}
			if up != len(edgeAddr) {
				return fmt.Errorf("%d", up)
			}
			return nil
		})
	}
	return n
}

// knows waits until the authority itself has that edge for the clients of a network.
func (n *named) knows(client, edge string) {
	n.t.Helper()
	eventually(n.t, "the zone has "+edge+" for "+client, func() error {
		got := strings.Join(dig(n.t, authority, "join.media.example", "A", "-p", "53", "+subnet="+client), " ")
		if got != edgeAddr[edge] {
			return fmt.Errorf("answer %q", got)
		}
		return nil
	})
}

// mapFile is the shipped map, with places for that internet's addresses.
func (n *named) mapFile(dir string) string {
	n.t.Helper()
	b, err := os.ReadFile("../regions.yaml")
	if err != nil {
		n.t.Fatal(err)
	}
	before, after, found := strings.Cut(string(b), "\ngeo: []\n")
	if !found {
		n.t.Fatal("regions.yaml has no empty geo list to fill")
	}
	path := filepath.Join(dir, "regions.yaml")
	write(n.t, path, before+"\ngeo:"+places+after)
	return path
}

// nearest waits until the resolver of an access network answers its clients that edge.
func (n *named) nearest(from, edge string) {
	n.t.Helper()
	took := eventually(n.t, from+" is answered "+edge, func() error {
		got, err := resolve(from, "join.media.example")
		if err == nil && got != edgeAddr[edge] {
			err = fmt.Errorf("answer %q, want %q", got, edgeAddr[edge])
		}
		return err
	})
	n.t.Logf("%s: join.media.example is %s after %v", from, edge, took)
}

// link is a join link by the name that steers.
func link(t *testing.T, of, query string) string {
	t.Helper()
	u, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	return joinPage + u.Path + query + "#" + u.Fragment
}

// lands opens a join link, joins, and fails the test where the page came from another
// edge, or not by HTTP/2.
func lands(t *testing.T, url, edge string, flags ...string) context.Context {
	t.Helper()
	ctx := openPage(t, url, flags...)
	from := webtest.Eval[string](t, ctx, `fetch("/v1/status", {headers: {Authorization: "Bearer dev"}}).then((r) => r.json()).then((s) => s.node)`)
	if from != edge {
		t.Errorf("the page talks to %s, want %s", from, edge)
	}
	if over := webtest.Eval[string](t, ctx, `performance.getEntriesByType("navigation")[0].nextHopProtocol`); over != "h2" {
		t.Errorf("the page came over %s, want h2", over)
	}
	return ctx
}

// A consult by name alone, over TLS from end to end: browsers that know nothing but the
// validating resolver of their access network and the CA land on the nearest lawful
// edge, and after a region's mode changed a fresh page lands on the neighbour. The
// certificates are those that the edges ordered, through challenges that this
// deployment's own DNS node answered.
func TestByNameAlone(t *testing.T) {
	if !alone(t) {
		return
	}
	n := deployNamed(t, internet(t))
	n.nearest(berlin, "de-ber-1")
	n.nearest(paris, "fr-par-1")
	n.secure()
	if err := chromedp.Do(webtest.Browser(t), chromedp.Navigate(joinPage)); err == nil || !strings.Contains(err.Error(), "ERR_CERT_AUTHORITY_INVALID") {
		t.Errorf("before the CA is trusted: %v, want ERR_CERT_AUTHORITY_INVALID", err)
	}
	trust(t, n.ca)

	c := &twoPages{consultReply: newConsult(t, joinPage, "DE", "DE")}
	if c.Placement.Edge != "de-ber-1" {
		t.Fatalf("placed on %s, want the edge that DNS answers", c.Placement.Edge)
	}
	own := c.Participants[1].URL
	if want := ofEdge("de-ber-1") + "/c/" + c.ID + "#"; !strings.HasPrefix(own, want) {
		t.Fatalf("the link of %s is another's, want %s…", c.Participants[1].Role, want)
	}
	c.patient = n.behindAFirewall(link(t, c.Participants[0].URL, "?relay=1"), "de-ber-1")
	c.clinician = lands(t, own, "de-ber-1")
	n.relayed(n.heard(c, "de-ber-1"))
	n.goes(c)

	consulKV(t, n.consul.Addr(), "bailiwick/regions/de-ber", "down")
	n.nearest(berlin, "de-fra-1")
	c.patient = lands(t, link(t, c.Participants[0].URL, ""), "de-fra-1")
	n.heard(c, "de-fra-1")
}

// behindAFirewall opens a link in a network that lets nothing out but the web: the
// browser uses no UDP, and of TCP the ports of TURN are closed.
func (n *named) behindAFirewall(url, edge string) context.Context {
	n.t.Helper()
	webOnly(n.t)
	return lands(n.t, url, edge, "webrtc-ip-handling-policy=disable_non_proxied_udp")
}

// relayed fails the test unless the patient's media go through TURN over TLS on the
// HTTPS port.
func (n *named) relayed(patient, _ flow) {
	n.t.Helper()
	if want := "turns:de-ber-1.edge.media.example:443?transport=tcp"; patient.Pair != "relay" || patient.Relay != want {
		n.t.Errorf("the patient's media go by %s %s, want relay %s", patient.Pair, patient.Relay, want)
	}
	if metric(n.t, "http://"+edgeAddr["de-ber-1"]+":9100", "bailiwick_turn_allocations")["de-ber-1"] == 0 {
		n.t.Error("the edge knows of no allocation")
	}
}

// goes has the patient hang up, open the name without a link, and close the browser:
// what it knew of the name goes with it.
func (n *named) goes(c *twoPages) {
	n.t.Helper()
	webtest.Eval[bool](n.t, c.patient, `document.querySelector("#leave").click(), true`)
	n.seats(c, map[string]int{"de-ber-1": 1})
	if err := chromedp.Do(c.patient, chromedp.Navigate(joinPage+"/")); err != nil {
		n.t.Fatal(err)
	}
	webtest.Wait(n.t, c.patient, `document.querySelector("h1").textContent === "Open the link from your invitation"`)
	if err := chromedp.Cancel(c.patient); err != nil {
		n.t.Fatal(err)
	}
}

// secure asks what a browser does not show: the resolver has validated, and the DNS
// node serves TLS with its own name's certificate.
func (n *named) secure() {
	n.t.Helper()
	if full := digFull(n.t, berlin, "join.media.example", "A", "-p", "53", "+dnssec"); !regexp.MustCompile(`;; flags:[^;]* ad\b`).MatchString(full) {
		n.t.Errorf("the resolver has not validated:\n%s", full)
	}
	kdig := exectest.Need(n.t, "kdig", "knot-dnsutils")
	eventually(n.t, "the DNS node serves TLS with a certificate of its name", func() error {
		out, err := output(kdig, "@"+authority, "-p", "853", "+retry=0", "+timeout=60", "+tls-ca="+n.ca.RootFile, "+tls-hostname=ns1.media.example",
			"+subnet="+berlin+"/24", "join.media.example", "A", "+short")
		if err != nil || strings.TrimSpace(string(out)) != edgeAddr["de-ber-1"] {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
}

// heard waits until both hear and see each other, on that edge alone.
func (n *named) heard(c *twoPages, edge string) (patient, clinician flow) {
	n.t.Helper()
	n.seats(c, map[string]int{edge: 2})
	patient, clinician = c.goesOn(n.t)
	for name, f := range map[string]flow{"patient": patient, "clinician": clinician} {
		if f.Remote != edgeAddr[edge]+":7882" {
			n.t.Errorf("the %s's media come from %s, want %s", name, f.Remote, edge)
		}
	}
	return patient, clinician
}

// seats waits until the edges have that many participants of the consult, those that
// are not named none.
func (n *named) seats(c *twoPages, want map[string]int) {
	n.t.Helper()
	eventually(n.t, fmt.Sprintf("seats %v", want), func() error {
		got := map[string]int{}
		for id := range edgeAddr {
			if k := rooms(n.t, ofEdge(id))[id][c.ID]; k > 0 {
				got[id] = k
			}
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}
