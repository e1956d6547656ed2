// Package e2e runs whole systems: the real binary, real Consul, real Chromium and
// real resolvers, each started and stopped by its test on loopback addresses of
// its own.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bailiwick/tools/exectest"
	"bailiwick/tools/logtest"
	"bailiwick/tools/nettest"
)

// patience is how long a test waits for an event before it fails.
const patience = exectest.Patience

// client bounds every request.
var client = http.Client{Timeout: patience}

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	if binary = os.Getenv(insideWith); binary != "" { // built by the test that runs itself anew: see alone
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "bailiwick-e2e-")
	if err == nil {
		binary = filepath.Join(dir, "bailiwick")
		build := exec.Command("go", "build", "-o", binary, "../cmd/bailiwick")
		build.Stdout, build.Stderr = os.Stdout, os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// process is one running binary.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error

	stdout, stderr logtest.Buffer
}

// start runs the binary and returns once it prints ready; the test fails when it
// does not. It is stopped with the test.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := launch(t, args...)
	p.ready()
	return p
}

func launch(t *testing.T, args ...string) *process {
	t.Helper()
	return launchCommand(t, args[0], exec.Command(binary, args...))
}

func launchCommand(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: cmd, exited: make(chan struct{})}
	p.cmd.Dir = ".." // regions.yaml
	exectest.DieWithParent(p.cmd)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Signal(os.Interrupt)
		select {
		case <-p.exited:
		case <-time.After(10 * time.Second):
			p.cmd.Process.Kill()
			<-p.exited
		}
		if t.Failed() {
			t.Logf("%s:\n%s\n%s", p.name, p.stdout.String(), tail(p.stderr.String(), 60))
		}
	})
	return p
}

func tail(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *process) ready() {
	p.t.Helper()
	eventually(p.t, p.name+" prints ready", func() error {
		select {
		case <-p.exited:
			p.t.Fatalf("%s ended: %v\n%s", p.name, p.err, p.stderr.String())
		default:
		}
		if !strings.HasPrefix(p.stdout.String(), "ready\n") {
			return fmt.Errorf("printed %q", p.stdout.String())
		}
		return nil
	})
}

// stop interrupts the process and gives how long it took to end.
func (p *process) stop() time.Duration {
	p.t.Helper()
	began := time.Now()
	p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("%s did not end on SIGINT", p.name)
	}
	if p.err != nil {
		p.t.Errorf("%s: %v\n%s", p.name, p.err, tail(p.stderr.String(), 40))
	}
	return time.Since(began)
}

// eventually polls a process of its own, which has no event to wait for, until it
// is as it should be.
func eventually(t *testing.T, what string, f func() error) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			t.Fatalf("%s: %v", what, err)
		}
		<-tick.C
	}
}

// dev is one `bailiwick dev`.
type dev struct {
	*process
	net string
}

func startDev(t *testing.T, args ...string) *dev {
	t.Helper()
	n := nettest.Net(t)
	return &dev{start(t, append([]string{"dev", "--net", n}, args...)...), n}
}

func (d *dev) api() string { return "http://" + d.net + ".0.1:8080" }
func (d *dev) dns() string { return d.net + ".0.1" }

// run calls a verb against this deployment and gives its output and exit code.
func (d *dev) run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	return run(t, append(args, "--api", d.api())...)
}

func run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	return runIn(t, "", args...)
}

func runIn(t *testing.T, stdin string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, binary, args...)
	c.Dir = ".."
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// output runs another program to its end, and gives what it says.
func output(name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return exec.CommandContext(ctx, name, args...).CombinedOutput()
}

// call makes an API request and decodes its answer.
func call(t *testing.T, method, url, body string, out any) int {
	t.Helper()
	q, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer dev")
	r, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatalf("%s %s: %v in %q", method, url, err, b)
		}
	}
	return r.StatusCode
}

// consultReply is the answer of POST /v1/consults.
type consultReply struct {
	ID        string
	Placement struct {
		Region, Edge string
		Standby      []string
		Epoch        int
	}
	Participants []struct{ ID, Role, URL, Token string }
}

func newConsult(t *testing.T, api, patient, clinician string) consultReply {
	t.Helper()
	var c consultReply
	body := fmt.Sprintf(`{"participants":[{"role":"patient","country":%q},{"role":"clinician","country":%q}]}`, patient, clinician)
	if code := call(t, "POST", api+"/v1/consults", body, &c); code != http.StatusCreated {
		t.Fatalf("POST /v1/consults: %d", code)
	}
	return c
}

// status is the answer of GET /v1/status.
type status struct {
	Node, Store string
	Regions     []struct {
		ID, Mode string
		Edges    []struct {
			ID, Health string
			Used       int
			Rooms      []struct {
				ID           string
				Participants int
			}
		}
	}
}

// rooms gives the participants of each room by edge.
func rooms(t *testing.T, api string) map[string]map[string]int {
	t.Helper()
	var s status
	if code := call(t, "GET", api+"/v1/status", "", &s); code != http.StatusOK {
		t.Fatalf("GET /v1/status: %d", code)
	}
	all := map[string]map[string]int{}
	for _, r := range s.Regions {
		for _, e := range r.Edges {
			for _, room := range e.Rooms {
				if all[e.ID] == nil {
					all[e.ID] = map[string]int{}
				}
				all[e.ID][room.ID] = room.Participants
			}
		}
	}
	return all
}

// dig asks a resolver for one name's answers, in +short form.
func dig(t *testing.T, server, name, kind string, more ...string) []string {
	t.Helper()
	return strings.Fields(digFull(t, server, name, kind, append(more, "+short")...))
}

func digFull(t *testing.T, server, name, kind string, more ...string) string {
	t.Helper()
	exectest.Need(t, "dig", "bind9-dnsutils")
	out, err := output("dig", append([]string{"@" + server, "-p", "8053", "+tries=2", "+time=30", name, kind}, more...)...)
	if err != nil {
		t.Fatalf("dig %s: %v\n%s", name, err, out)
	}
	return string(out)
}
