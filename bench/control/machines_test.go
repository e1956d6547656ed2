package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/tools/exectest"
	"bailiwick/tools/nettest"
)

const (
	apiKey    = "bench"
	admission = "admission: 1600" // in the shipped map
	admits    = 2000              // instead
)

// client bounds every request, and keeps its connections.
var client = http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}

// machines are the nodes of one part, a process each.
type machines struct {
	t      *testing.T
	net    string
	dir    string
	edges  map[string]string // base URL by ID
	procs  map[string]*exec.Cmd
	dnsAt  string
	scrape string // the DNS node's base URL of /metrics
}

// clients are in Frankfurt by the map of the run.
var clients = netip.MustParsePrefix("192.0.2.0/24")

func newMachines(t *testing.T) *machines {
	t.Helper()
	m := &machines{t: t, net: nettest.Net(t), dir: t.TempDir(), edges: map[string]string{}, procs: map[string]*exec.Cmd{}}
	shipped, err := os.ReadFile("../../regions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(shipped), "\ngeo: []\n")
	if !found {
		t.Fatal("regions.yaml has no empty geo list to fill")
	}
	if !strings.Contains(before, admission) {
		t.Fatalf("regions.yaml has no %q to raise", admission)
	}
	before = strings.ReplaceAll(before, admission, fmt.Sprintf("admission: %d", admits))
	for name, text := range map[string]string{
		"regions.yaml": before + "\ngeo:\n  - {prefix: " + clients.String() + ", country: DE, at: [50.11, 8.68]}\n" + after,
		"keys.txt":     apiKey + "\n",
	} {
		if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// offDisk keeps what Consul writes in memory, unless TMPDIR says where: each commit waits for
// the disk of every server, and servers of a cluster do not share one as these would.
func offDisk(t *testing.T) {
	const memory = "/dev/shm"
	if d, err := os.Stat(memory); err == nil && d.IsDir() && os.Getenv("TMPDIR") == "" {
		t.Setenv("TMPDIR", memory)
	}
	results.Machine["Consul's data in"] = os.TempDir()
}

func (m *machines) start(name string, args ...string) *exectest.Process {
	m.t.Helper()
	cmd := exec.Command(binary, args...)
	p := exectest.Start(m.t, cmd)
	m.procs[name] = cmd
	p.Await(m.t, func() error {
		if !strings.Contains(p.Log(), "ready\n") {
			return errors.New("not ready")
		}
		return nil
	})
	return p
}

// edge runs one that admits what its map says; the agent is Consul's address.
func (m *machines) edge(id, agent string) {
	m.t.Helper()
	at := fmt.Sprintf("%s.%d.1", m.net, len(m.edges)+1)
	m.start(id, "edge", "--id", id, "--region", id[:strings.LastIndex(id, "-")], "--listen", at+":8080", "--media", at+":7882", "--turn", at+":3478",
		"--api-keys", filepath.Join(m.dir, "keys.txt"), "--consul", agent, "--state", m.dir, "--map", filepath.Join(m.dir, "regions.yaml"))
	m.edges[id] = "http://" + at + ":8080"
}

func (m *machines) dns(agent string) {
	m.t.Helper()
	m.dnsAt, m.scrape = m.net+".0.1:8053", "http://"+m.net+".0.1:8080"
	m.start("dns-1", "dns", "--node", "dns-1", "--listen", m.dnsAt, "--http", m.net+".0.1:8080", "--rate", "0", "--consul", agent, "--state", m.dir,
		"--map", filepath.Join(m.dir, "regions.yaml"))
}

func (m *machines) pid(name string) int { return m.procs[name].Process.Pid }

// known waits until every node knows all edges, and that they are up.
func (m *machines) known(n int) {
	m.t.Helper()
	for id, url := range m.edges {
		eventually(m.t, id+" knows all edges", func() error {
			var s struct {
				Regions []struct {
					Edges []struct{ Health string }
				}
			}
			if err := get(url+"/v1/status", &s); err != nil {
				return err
			}
			up := 0
			for _, r := range s.Regions {
				for _, e := range r.Edges {
					if e.Health == "up" {
						up++
					}
				}
			}
			if up != n {
				return fmt.Errorf("%d of %d are up", up, n)
			}
			return nil
		})
	}
}

// answer is the address that a client in Frankfurt is answered; the zero one is none.
func (m *machines) answer(conn *dns.Conn) (netip.Addr, error) {
	q := new(dns.Msg).SetQuestion("join.media.example.", dns.TypeA)
	a4 := clients.Addr().As4()
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: []dns.EDNS0{
		&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(clients.Bits()), Address: a4[:]}}}
	opt.SetUDPSize(1232)
	q.Extra = append(q.Extra, opt)
	conn.SetDeadline(time.Now().Add(time.Second))
	if err := conn.WriteMsg(q); err != nil {
		return netip.Addr{}, err
	}
	for {
		r, err := conn.ReadMsg()
		if err != nil {
			return netip.Addr{}, err
		}
		if r.Id != q.Id {
			continue // of a query that was given up
		}
		for _, rr := range r.Answer {
			if a, ok := rr.(*dns.A); ok {
				addr, _ := netip.AddrFromSlice(a.A.To4())
				return addr, nil
			}
		}
		return netip.Addr{}, nil
	}
}

func (m *machines) dial() *dns.Conn {
	m.t.Helper()
	c, err := dns.Dial("udp", m.dnsAt)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	return c
}

// addr is where an edge is.
func (m *machines) addr(id string) netip.Addr {
	host, _, _ := strings.Cut(strings.TrimPrefix(m.edges[id], "http://"), ":")
	return netip.MustParseAddr(host)
}

// made is a consult as POST answers.
type made struct {
	ID           string
	Recorded     bool
	Placement    struct{ Edge string }
	Participants []struct{ Token string }
}

const consultBody = `{"participants":[{"role":"patient","country":"DE","at":[50.11,8.68]},{"role":"clinician","country":"DE"}]}`

// post makes a consult at an edge, and tells how long it took.
func (m *machines) post(edge string) (c made, took time.Duration, err error) {
	began := time.Now()
	code, err := call("POST", m.edges[edge]+"/v1/consults", consultBody, &c)
	if took = time.Since(began); err == nil && code != http.StatusCreated {
		err = fmt.Errorf("POST: %d", code)
	}
	return c, took, err
}

func call(method, url, body string, out any) (int, error) {
	q, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	q.Header.Set("Authorization", "Bearer "+apiKey)
	r, err := client.Do(q)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && out != nil && r.StatusCode/100 == 2 {
		err = json.Unmarshal(b, out)
	}
	return r.StatusCode, err
}

func get(url string, out any) error {
	code, err := call("GET", url, "", out)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%s: %d", url, code)
	}
	return err
}

// metrics are the DNS node's of one moment, each the sum over its labels.
func (m *machines) metrics() map[string]float64 {
	m.t.Helper()
	r, err := client.Get(m.scrape + "/metrics")
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ := strings.Cut(series, "{")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] += v
		}
	}
	for _, name := range []string{foldsMetric, answersMetric, viewsMetric} {
		if _, ok := all[name]; !ok {
			m.t.Fatalf("no metric %s", name)
		}
	}
	return all
}

// What a DNS node counts of Worlds.
const (
	foldsMetric   = "bailiwick_world_folds_total"
	answersMetric = "bailiwick_world_answers_total"
	viewsMetric   = "bailiwick_dns_views_total"
)

// put writes a key as `consul kv put` does.
func put(agent, key, value string) error {
	code, err := call("PUT", "http://"+agent+"/v1/kv/"+key, value, nil)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("writing %s: %d", key, code)
	}
	return err
}

// steadily runs do at a rate for a while, each run in a goroutine of its own: slow answers
// do not slow the next requests down. It returns when all have ended.
func steadily(ctx context.Context, rate int, d time.Duration, do func(i int)) {
	var running sync.WaitGroup
	defer running.Wait()
	began := time.Now()
	for i := 0; ; i++ {
		at := time.Duration(i) * time.Second / time.Duration(rate)
		if at >= d {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(began.Add(at))):
		}
		running.Go(func() { do(i) })
	}
}

func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for began := time.Now(); time.Since(began) < exectest.Patience; time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("waited %s: %s: %v", exectest.Patience, what, err)
}

// connections counts those of a process to an address that are established.
func connections(pid int, to string) (int, error) {
	remote, err := netip.ParseAddrPort(to)
	if err != nil {
		return 0, err
	}
	ip := remote.Addr().As4() // proc_pid_net(5): in the machine's order, which is little-endian here
	want := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], remote.Port())
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return 0, err
	}
	inodes := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 9 && f[2] == want && f[3] == "01" {
			inodes["socket:["+f[9]+"]"] = true
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, f := range files {
		if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, f.Name())); err == nil && inodes[link] {
			n++
		}
	}
	return n, nil
}

// processor is what a process has used of it.
func processor(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the third field on
	var ticks int64
	for _, s := range f[11:13] { // utime, stime
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on every Linux
}

// size is what the files of a folder take, in bytes.
func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, f os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // Consul replaces its files
		}
		if err != nil || f.IsDir() {
			return err
		}
		if i, err := f.Info(); err == nil {
			n += i.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A process's own connections are found, those that it only accepted are not.
func TestConnectionsOfAProcess(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for want := range 3 {
		n, err := connections(os.Getpid(), l.Addr().String())
		if os.IsNotExist(err) {
			t.Skip("no /proc: ", err)
		}
		if n != want || err != nil {
			t.Fatalf("got %d, %v; want %d", n, err, want)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
}
