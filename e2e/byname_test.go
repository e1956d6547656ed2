package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"bailiwick/store/consultest"
	"bailiwick/web/webtest"
)

// joinPage is where everybody opens the consult page: a name, and no edge's.
const joinPage = "http://join.media.example:8080"

// named is a deployment that is known by its names only.
type named struct {
	t      *testing.T
	consul *consultest.Server
}

func deployNamed(t *testing.T) *named {
	t.Helper()
	n := &named{t, consultest.Start(t, "performance { raft_multiplier = 5 }")}
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.txt")
	write(t, keys, "dev\n")
	common := []string{"--map", n.mapFile(dir), "--consul", n.consul.Addr(), "--state", dir, "--probe-interval", "250ms"}
	start(t, append([]string{"dns", "--node", "dns-1", "--listen", authority + ":53"}, common...)...)
	for id, at := range edgeAddr {
		start(t, append([]string{"edge", "--id", id, "--region", strings.TrimSuffix(id, "-1"), "--listen", at + ":8080", "--media", at + ":7882",
			"--turn", at + ":3478", "--host", "http://" + id + ".edge.media.example:8080", "--api-keys", keys, "--linger", "1s"}, common...)...)
	}
	// Asked too early, the resolver would keep an answer of before for its TTL.
	n.knows(berlin, "de-ber-1")
	n.knows(paris, "fr-par-1")
	for id := range edgeAddr {
		eventually(t, id+" knows all edges", func() error {
			var s status
			call(t, "GET", "http://"+edgeAddr[id]+":8080/v1/status", "", &s)
			known := 0
			for _, r := range s.Regions {
				known += len(r.Edges)
			}
			if known != len(edgeAddr) {
				return fmt.Errorf("%d", known)
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
func link(t *testing.T, of string) string {
	t.Helper()
	u, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	return joinPage + u.Path + "#" + u.Fragment
}

// lands opens a join link, joins, and fails the test where the page came from another
// edge or its media do not go there.
func lands(t *testing.T, url, edge string) context.Context {
	t.Helper()
	ctx := openPage(t, url, "unsafely-treat-insecure-origin-as-secure="+joinPage)
	from := webtest.Eval[string](t, ctx, `fetch("/v1/status", {headers: {Authorization: "Bearer dev"}}).then((r) => r.json()).then((s) => s.node)`)
	if from != edge {
		t.Errorf("the page talks to %s, want %s", from, edge)
	}
	return ctx
}

// A consult by name alone: browsers that know nothing but the resolver of their access
// network land on the nearest lawful edge, and after a region's mode changed a fresh
// page lands on the neighbour.
func TestByNameAlone(t *testing.T) {
	if !alone(t) {
		return
	}
	internet(t)
	n := deployNamed(t)
	n.nearest(berlin, "de-ber-1")
	n.nearest(paris, "fr-par-1")

	c := &twoPages{consultReply: newConsult(t, joinPage, "DE", "DE")}
	if c.Placement.Edge != "de-ber-1" {
		t.Fatalf("placed on %s, want the edge that DNS answers", c.Placement.Edge)
	}
	patient, clinician := link(t, c.Participants[0].URL), link(t, c.Participants[1].URL)
	c.patient, c.clinician = lands(t, patient, "de-ber-1"), lands(t, clinician, "de-ber-1")
	n.heard(c, "de-ber-1")

	// The patient hangs up and goes. What a browser knew of the name goes with it.
	webtest.Eval[bool](t, c.patient, `document.querySelector("#leave").click(), true`)
	n.seats(c, map[string]int{"de-ber-1": 1})
	if err := chromedp.Cancel(c.patient); err != nil {
		t.Fatal(err)
	}

	consulKV(t, n.consul.Addr(), "bailiwick/regions/de-ber", "down")
	n.nearest(berlin, "de-fra-1")
	c.patient = lands(t, patient, "de-fra-1")
	n.heard(c, "de-fra-1")
}

// heard waits until both hear and see each other, on that edge alone.
func (n *named) heard(c *twoPages, edge string) {
	n.t.Helper()
	n.seats(c, map[string]int{edge: 2})
	p, k := c.goesOn(n.t)
	for name, f := range map[string]flow{"patient": p, "clinician": k} {
		if f.Remote != edgeAddr[edge]+":7882" {
			n.t.Errorf("the %s's media come from %s, want %s", name, f.Remote, edge)
		}
	}
}

// seats waits until the edges have that many participants of the consult, those that
// are not named none.
func (n *named) seats(c *twoPages, want map[string]int) {
	n.t.Helper()
	eventually(n.t, fmt.Sprintf("seats %v", want), func() error {
		got := map[string]int{}
		for id := range edgeAddr {
			if k := rooms(n.t, "http://"+id+".edge.media.example:8080")[id][c.ID]; k > 0 {
				got[id] = k
			}
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}
