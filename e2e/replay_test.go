package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bailiwick/acme/certtest"
	"bailiwick/sim"
	"bailiwick/sim/page"
	"bailiwick/store/consultest"
	"bailiwick/tools/logtest"
	"bailiwick/tools/nettest"
)

// sideBySide replays run at once. They mostly wait: each is a minute or two of a few idle
// processes and some voices.
const sideBySide = 12

// TestWorstSchedules plays what the simulation found to take longest (sim/replay.go) with real
// edges, a real Consul and real media. What the simulation wrote again by hand, rooms,
// notices, joins, the SFU and the store, is the product's own here.
func TestWorstSchedules(t *testing.T) {
	consultest.Binary(t)
	files, err := filepath.Glob("../sim/testdata/worst/*.replay")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d replays, want 20: %v", len(files), err)
	}
	var all []*replay
	for _, file := range files {
		r, err := readReplay(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	slices.SortStableFunc(all, func(a, b *replay) int { return cmp.Compare(b.length(), a.length()) }) // they end together
	next := make(chan *replay)
	var players sync.WaitGroup
	for range sideBySide {
		players.Go(func() {
			for r := range next {
				t.Run(r.name, r.play)
			}
		})
	}
	for _, r := range all {
		next <- r
	}
	close(next)
	players.Wait()
}

// replay is one script under way.
type replay struct {
	t     *testing.T
	name  string
	ids   []string // of edges
	lines []line

	began  time.Time
	http   *http.Client
	log    logtest.Buffer
	consul *consultest.Server
	away   int // times that the store was taken down
	edges  map[string]*node
	call   consultReply
	people []*person
	ended  bool
	within time.Duration // from the last line on

	apart, since time.Time     // since when people who want to be together are not, or are
	longest      time.Duration // that they were not
	simulated    string        // that they were not in the simulation
}

type line struct {
	at   time.Duration
	verb string
	args []string
}

// node is one edge, whether it runs or not.
type node struct {
	base  string // URL
	state string // folder
	args  []string
	over  bool // its end was asked for
	*process
}

func (n *node) runs() bool {
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

// person is one participant, and the page that they have open.
type person struct {
	name  string
	link  page.Address
	wants bool           // to be in the call
	tab   *tab           // nil: none is open
	kept  []page.Address // of the last one
}

func readReplay(path string) (*replay, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &replay{name: strings.TrimSuffix(filepath.Base(path), ".replay"), edges: map[string]*node{}}
	for i, text := range strings.Split(string(b), "\n") {
		f := strings.Fields(text)
		switch {
		case len(f) == 0:
			continue
		case f[0] == "#":
			r.simulated = f[len(f)-1]
			continue
		case f[0] == "edges":
			r.ids = f[1:]
			continue
		}
		s, err := strconv.ParseFloat(f[0], 64)
		if err != nil || len(f) < 3 {
			return nil, fmt.Errorf("%s:%d: want SECONDS VERB ARGUMENTS", path, i+1)
		}
		r.lines = append(r.lines, line{time.Duration(s * float64(time.Second)), f[1], f[2:]})
	}
	if len(r.ids) == 0 || len(r.lines) == 0 {
		return nil, fmt.Errorf("%s: no edges, or nothing to do", path)
	}
	// Before its first line nothing has happened. Each pause after that is as long as it is:
	// leases, holds and damping run down in it.
	first := r.lines[0].at
	for i := range r.lines {
		r.lines[i].at -= first
	}
	return r, nil
}

func (r *replay) length() time.Duration { return r.lines[len(r.lines)-1].at }

// note writes what happens for who reads why a replay failed.
func (r *replay) note(format string, args ...any) {
	fmt.Fprintf(&r.log, "%8.3f %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *replay) play(t *testing.T) {
	r.t, r.began = t, time.Now()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(tail(r.log.String(), 400))
		}
	})
	r.build()
	t.Cleanup(func() {
		for _, p := range r.people {
			p.close(true)
		}
	})
	r.note("all edges are up")
	r.began = time.Now()
	for len(r.lines) > 0 {
		l := r.lines[0]
		r.lines = r.lines[1:]
		r.wait(r.began.Add(l.at))
		r.note("%s %s", l.verb, strings.Join(l.args, " "))
		if err := r.do(l); err != nil {
			t.Fatalf("%.3f %s %s: %v", l.at.Seconds(), l.verb, strings.Join(l.args, " "), err)
		}
	}
	if r.ended {
		r.isOver()
	} else {
		r.isWhole()
	}
	for id, n := range r.edges {
		if !n.runs() && !n.over {
			t.Errorf("%s ended by itself: %v", id, n.err)
		}
	}
}

// lookEvery is how often people are asked whom they hear.
const lookEvery = 50 * time.Millisecond

// wait is until the script's next line, which no event tells of, and measures meanwhile for
// how long people who want to be together are not.
func (r *replay) wait(until time.Time) {
	for time.Now().Before(until) {
		time.Sleep(min(lookEvery, time.Until(until)))
		r.look()
	}
}

// look gives since when all hear all; zero and who does not, where that is not so.
func (r *replay) look() (whole time.Time, missing string) {
	want := r.wanting()
	if missing = r.missing(want); len(want) > 1 && missing != "" {
		if r.apart.IsZero() {
			r.apart = time.Now()
		}
		r.longest = max(r.longest, time.Since(r.apart))
		r.since = time.Time{}
		return r.since, missing
	}
	r.apart = time.Time{}
	if r.since.IsZero() {
		r.since = time.Now()
	}
	return r.since, ""
}

// wanting are those who want to be in the call.
func (r *replay) wanting() (want []*person) {
	for _, p := range r.people {
		if p.wants {
			want = append(want, p)
		}
	}
	return want
}

// build starts the store and the edges, and waits until each takes all of them for usable and
// has written so to its state: what is killed at once would have nothing kept.
func (r *replay) build() {
	t := r.t
	r.consul = consultest.Start(t)
	prefix, dir := nettest.Net(t), t.TempDir()
	var hosts []string
	for i := range r.ids {
		hosts = append(hosts, fmt.Sprintf("%s.%d.1", prefix, i+1))
	}
	pair := certtest.SelfSigned(t, time.Time{}, time.Now().Add(time.Hour), hosts...)
	cert, key := pair.Write(t, dir)
	r.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pair.Roots()}}}
	t.Cleanup(r.http.CloseIdleConnections)
	if err := r.put("law/dpf_valid", "true"); err != nil { // as the simulation begins
		t.Fatal(err)
	}
	keys, atlas := filepath.Join(dir, "keys.txt"), filepath.Join(dir, "regions.yaml")
	write(t, keys, "dev\n")
	write(t, atlas, sim.Atlas)
	for i, id := range r.ids {
		at := hosts[i]
		n := &node{base: "https://" + at + ":8080", state: filepath.Join(dir, id)}
		n.args = []string{"edge", "--id", id, "--region", id[:strings.LastIndex(id, "-")], "--map", atlas, "--listen", at + ":8080", "--host", n.base,
			"--media", at + ":7882", "--turn", at + ":3478", "--turns", at + ":5349", "--tls-cert", cert, "--tls-key", key, "--tls-root", cert,
			"--api-keys", keys, "--consul", r.consul.Addr(), "--state", n.state}
		n.process = launch(t, n.args...)
		r.edges[id] = n
	}
	eventually(t, "all edges are usable", func() error {
		for id, n := range r.edges {
			var s status
			if code, err := r.ask("GET", n.base+"/v1/status", "", &s); code != http.StatusOK {
				return fmt.Errorf("%s: %d %v", id, code, err)
			}
			up := 0
			for _, reg := range s.Regions {
				for _, e := range reg.Edges {
					if e.Health == "up" {
						up++
					}
				}
			}
			if up != len(r.ids) {
				return fmt.Errorf("%s takes %d edges for up", id, up)
			}
			if _, err := os.Stat(filepath.Join(n.state, id+".json")); err != nil {
				return err
			}
		}
		return nil
	})
}

// ask makes a request of a backend. The code is 0 where there was no answer.
func (r *replay) ask(method, url, body string, out any) (int, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	q.Header.Set("Authorization", "Bearer dev")
	a, err := r.http.Do(q)
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err == nil && out != nil && a.StatusCode < 300 {
		err = json.Unmarshal(b, out)
	}
	if a.StatusCode >= 300 {
		err = fmt.Errorf("%s", bytes.TrimSpace(b))
	}
	return a.StatusCode, err
}

// put writes a key of ours, if the store is there.
func (r *replay) put(key, value string) error {
	code, err := r.ask("PUT", "http://"+r.consul.Addr()+"/v1/kv/bailiwick/"+key, value, nil)
	if code != http.StatusOK {
		return fmt.Errorf("the store answers %d %v", code, err)
	}
	return nil
}

// later does something else in a while, before what the script says for then.
func (r *replay) later(d time.Duration, verb string, args ...string) {
	l := line{time.Since(r.began) + d, verb, args}
	i, _ := slices.BinarySearchFunc(r.lines, l.at, func(l line, at time.Duration) int { return cmp.Compare(l.at, at) })
	r.lines = slices.Insert(r.lines, i, l)
}

// do carries out one line. What others do, that fails as it may in life, they do again.
func (r *replay) do(l line) error {
	switch l.verb {
	case "make":
		return r.make(l.args)
	case "join", "leave", "reload", "again":
		i, err := strconv.Atoi(l.args[1])
		if err != nil || i >= len(r.people) {
			return fmt.Errorf("no such participant")
		}
		return r.person(l.verb, i)
	case "end":
		return r.end(l.args)
	case "kill", "stop", "start":
		n := r.edges[l.args[0]]
		if n == nil {
			return fmt.Errorf("no such edge")
		}
		return r.process(l, n)
	case "mode":
		err := r.put("regions/"+l.args[0], l.args[1])
		if err != nil && l.args[1] == "serving" { // the operator insists
			r.later(2*time.Second, "mode", l.args...)
		}
		return nil
	case "store":
		return r.store(l.args[0])
	case "whole":
		var err error
		r.within, err = time.ParseDuration(l.args[len(l.args)-1])
		return err
	}
	return fmt.Errorf("not a verb")
}

func (r *replay) process(l line, n *node) error {
	runs := n.runs()
	switch {
	case l.verb == "start" && !runs:
		if l.args[1] == "none" {
			if err := os.RemoveAll(n.state); err != nil {
				return err
			}
		}
		n.process, n.over = launch(r.t, n.args...), false
	case l.verb == "start" && n.over:
		// It waits for its consults to move, on a machine that is slower than the script's.
		r.later(time.Second, l.verb, l.args...)
	case l.verb == "stop" && runs:
		n.over = true
		return n.cmd.Process.Signal(syscall.SIGTERM)
	case l.verb == "kill" && runs:
		n.over = true
		if err := n.cmd.Process.Kill(); err != nil {
			return err
		}
		<-n.exited
	}
	return nil
}

func (r *replay) store(what string) error {
	switch what {
	case "down":
		if r.away++; r.away == 1 {
			r.consul.Kill()
		}
	case "up":
		if r.away--; r.away == 0 {
			r.consul.Restart()
		}
	default:
		return fmt.Errorf("not down or up")
	}
	return nil
}

// make is a backend that asks for a consult, and the next edge where it is not made: an edge
// that stops has other consults to wait for in the simulation, and none here.
func (r *replay) make(args []string) error {
	type participant struct {
		Role    string `json:"role"`
		Country string `json:"country"`
	}
	ask := struct {
		// Of the tenants of sim.Atlas the one that takes people of Ireland.
		Tenant       string        `json:"tenant"`
		Participants []participant `json:"participants"`
	}{Tenant: "open"}
	role := "patient"
	for _, country := range strings.Split(args[1], ",") {
		ask.Participants = append(ask.Participants, participant{role, country})
		role = "clinician"
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	i := slices.Index(r.ids, args[3])
	eventually(r.t, "the consult is made", func() error {
		code, err := r.ask("POST", r.edges[r.ids[i]].base+"/v1/consults", string(body), &r.call)
		if code != http.StatusCreated {
			r.note("%s makes no consult: %d %v", r.ids[i], code, err)
			i = (i + 1) % len(r.ids)
			return fmt.Errorf("%d %v", code, err)
		}
		return nil
	})
	r.note("it is %s at %s, standby %v", r.call.ID, r.call.Placement.Edge, r.call.Placement.Standby)
	for i, p := range r.call.Participants {
		r.people = append(r.people, &person{name: fmt.Sprint("p", i), link: linked(p.URL, p.Token)})
	}
	return nil
}

// end is a backend that ends the consult, at the next edge where one cannot.
func (r *replay) end(args []string) error {
	code, err := r.ask("DELETE", r.edges[args[len(args)-1]].base+"/v1/consults/"+r.call.ID, "", nil)
	if code == http.StatusNoContent || code == http.StatusAccepted {
		r.ended = true
		return nil
	}
	r.note("not ended: %d %v", code, err)
	i := slices.Index(r.ids, args[len(args)-1])
	r.later(2*time.Second, "end", r.call.ID, r.ids[(i+1)%len(r.ids)])
	return nil
}

// person is what somebody does: join opens the link, where no page of theirs is in use.
func (r *replay) person(verb string, i int) error {
	p := r.people[i]
	text := ""
	if p.tab != nil {
		text, _ = p.tab.stopped()
	}
	open := p.tab != nil && text == ""
	switch {
	case verb == "join" && !open:
		p.wants = true
		return r.open(p, []page.Address{p.link})
	case verb == "leave" && open:
		p.wants = false
		p.close(true)
	case verb == "reload" && open:
		p.close(false)
		r.later(900*time.Millisecond, "again", r.call.ID, strconv.Itoa(i))
	case verb == "again" && p.tab == nil && p.wants && len(p.kept) > 0:
		return r.open(p, p.kept)
	}
	return nil
}

func (r *replay) open(p *person, from []page.Address) (err error) {
	p.close(false)
	p.tab, err = openTab(p.name, r.http, onLoopback, from, r.note)
	return err
}

func (p *person) close(leave bool) {
	if p.tab != nil {
		p.kept = p.tab.shut(leave)
		p.tab = nil
	}
}

// held is where people have seats, edge by edge.
func (r *replay) held() map[string]int {
	all := map[string]int{}
	for _, n := range r.edges {
		var s status
		r.ask("GET", n.base+"/v1/status", "", &s) // who does not answer holds nobody
		for _, reg := range s.Regions {
			for _, e := range reg.Edges {
				for _, room := range e.Rooms {
					all[e.ID] += room.Participants
				}
			}
		}
	}
	return all
}

// isWhole: everybody who wants to be in the call hears everybody else, as packets that come
// and go on coming; and nobody keeps a seat elsewhere.
func (r *replay) isWhole() {
	want := r.wanting()
	if len(want) < 2 {
		r.t.Fatalf("%d people want to be in the call: there is nothing to hear", len(want))
	}
	began := time.Now()
	const lasting = 2 * time.Second
	for {
		whole, missing := r.look()
		if missing == "" && time.Since(whole) > lasting {
			r.t.Logf("whole %.1f s after the last line; in pieces for %.1f s at the longest (simulated: %s)",
				max(0, whole.Sub(began).Seconds()), r.longest.Seconds(), r.simulated)
			break
		}
		if missing != "" && time.Since(began) > r.within+patience {
			r.t.Fatalf("after %s %s; seats %v", time.Since(began).Round(time.Second), missing, r.held())
		}
		time.Sleep(lookEvery)
	}
	eventually(r.t, "all seats are on one edge", func() error {
		if held := r.held(); len(held) != 1 || held[slices.Collect(maps.Keys(held))[0]] != len(want) {
			return fmt.Errorf("seats %v of %d people", held, len(want))
		}
		return nil
	})
}

// missing says who does not hear whom; "" is nobody. Nobody is ever cut off.
func (r *replay) missing(want []*person) string {
	for _, p := range want {
		if p.tab == nil {
			return p.name + " has no page open"
		}
		text, cut := p.tab.stopped()
		if cut && !(r.ended && text == "ended.done") {
			r.t.Fatalf("the page of %s stops in a call that plays: %s", p.name, text)
		}
		if text != "" {
			return p.name + " is told " + text
		}
		hears := p.tab.hears()
		for _, q := range want {
			if q != p && !slices.Contains(hears, q.name) {
				return p.name + " does not hear " + q.name
			}
		}
	}
	return ""
}

// isOver: whoever has a page open is told that the consult has ended, and nobody has a seat.
func (r *replay) isOver() {
	eventually(r.t, "the consult is over for everybody", func() error {
		for _, p := range r.people {
			if p.tab == nil {
				continue
			}
			if text, _ := p.tab.stopped(); text != "ended.done" {
				return fmt.Errorf("%s is told %q", p.name, text)
			}
		}
		if held := r.held(); len(held) > 0 {
			return fmt.Errorf("seats %v", held)
		}
		return nil
	})
}
