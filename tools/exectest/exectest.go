// Package exectest finds and runs the programs of others that a test needs: Consul,
// Pebble, Unbound, dig, a browser. For tests only.
//
// What a machine lacks skips the test and says what to install, except under CI=true,
// where it fails: there nothing goes untested unseen.
package exectest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Patience is how long a test waits for another program before it fails: each wait has a
// bound, and none is shorter, as a busy machine may give that program no processor for
// a minute.
const Patience = 2 * time.Minute

const grace = 10 * time.Second // of a program that was asked to end

// Absent ends the test for want of something, and says what: skipped on a developer's
// machine, failed where CI is true.
func Absent(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// Need gives the path of a program, which that Debian package installs, or ends the test.
// Daemons are found where the PATH of a person does not lead.
func Need(t testing.TB, program, debian string) string {
	t.Helper()
	for _, path := range []string{program, "/usr/sbin/" + program, "/sbin/" + program} {
		if path, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	Absent(t, fmt.Sprintf("no %s: install %s", program, debian))
	return ""
}

// NeedBuilt gives the path of a program that is built from tools: $BAILIWICK_PROGRAM,
// else program-version/program in the bailiwick folder of the user's cache directory,
// where `make PROGRAM` puts it. Without it the test ends.
func NeedBuilt(t testing.TB, program, version string) string {
	t.Helper()
	env := "BAILIWICK_" + strings.ToUpper(program)
	path := os.Getenv(env)
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatalf("no cache directory to look for %s in: %v", program, err)
		}
		path = filepath.Join(cache, "bailiwick", program+"-"+version, program)
	}
	if _, err := os.Stat(path); err != nil {
		Absent(t, fmt.Sprintf("no %s: %v: make %[1]s, or set $%[3]s", program, err, env))
	}
	return path
}

// Process is a program that runs.
type Process struct {
	// Exited is closed once the program has ended.
	Exited <-chan struct{}

	cmd *exec.Cmd
	log string // the file that has what it says
}

// Start runs a program until Stop or the end of the test, which shows the last lines of
// what it said where it failed. It ends with the test's process, too, on Linux.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	name := filepath.Base(cmd.Path)
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	DieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait() // how it ended is in its log
		close(exited)
	}()
	p := &Process{Exited: exited, cmd: cmd, log: log.Name()}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("%s:\n%s", name, p.Tail(40))
		}
	})
	return p
}

// Await asks until the program serves: one that starts has no event to wait for. It ends
// the test where the program ends by itself.
func (p *Process) Await(t testing.TB, serves func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		err := serves()
		if err == nil {
			return
		}
		if time.Since(began) > Patience {
			t.Fatalf("waited %s for %s: %v", Patience, p.cmd.Path, err)
		}
		select {
		case <-tick.C:
		case <-p.Exited:
			t.Fatalf("%s ended: %s", p.cmd.Path, p.cmd.ProcessState)
		}
	}
}

// Stop interrupts the program, kills it where it does not mind, and waits for its end.
func (p *Process) Stop() {
	p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.Exited:
	case <-time.After(grace):
		p.cmd.Process.Kill()
		<-p.Exited
	}
}

// Log is what the program has said so far.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tail is the last n lines of Log.
func (p *Process) Tail(n int) string {
	lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
