package consultest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bailiwick/tools/exectest"
)

// patience bounds every wait for a server: an election takes about a second, and
// a busy machine many.
const patience = exectest.Patience

// Server is one Consul server process. Its methods end the test on failure and
// are for the test's goroutine.
type Server struct {
	t     testing.TB
	name  string
	ip    string
	ports ports
	dir   string // configuration, data and log; kept over Restart
	extra []string
	join  []*Server
	token string

	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd was waited for
	paused bool
}

func newServer(t testing.TB, config []string) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), extra: config}
	s.ip, s.ports = address(t)
	s.name = "node-" + strings.ReplaceAll(s.ip, ".", "-") + "-" + strconv.Itoa(s.ports.server)
	t.Cleanup(func() {
		if s.running() {
			s.Kill()
		}
		if t.Failed() {
			t.Logf("the end of the log of consul %s:\n%s", s.Addr(), s.logTail())
		}
	})
	return s
}

// StartACL runs one server whose ACLs deny by default, and returns with it a
// token that may do everything.
func StartACL(t testing.TB) (s *Server, token string) {
	t.Helper()
	const management = "6d0c3a9e-2f2b-4bb5-9c6e-0c5d7f3b2a10"
	s = newServer(t, []string{`acl { enabled = true  default_policy = "deny"  tokens { initial_management = "` + management + `" } }`})
	s.token = management
	s.join = []*Server{s}
	s.start()
	s.ready()
	return s, management
}

// Addr is host:port of the HTTP API.
func (s *Server) Addr() string { return net.JoinHostPort(s.ip, strconv.Itoa(s.ports.http)) }

// Pid is the process's number, while it runs.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Data is the folder of what the server keeps.
func (s *Server) Data() string { return filepath.Join(s.dir, "data") }

// Kill ends the process at once (SIGKILL). Its data stay for Restart.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the process in good order (SIGTERM); it stays a member that is down.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Pause stops the process where it stands (SIGSTOP): connections stay open and
// nothing answers.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	poll(s.t, "consul "+s.Addr()+" to stop", func() error { return stopped(s.cmd.Process.Pid) })
	s.paused = true
}

// Resume ends a Pause (SIGCONT).
func (s *Server) Resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
	s.paused = false
}

// Restart starts a server again, killing it first if it runs, with the same
// address and data. It does not wait for the server to be ready: see Ready.
func (s *Server) Restart() {
	s.t.Helper()
	if s.running() {
		s.Kill()
	}
	s.start()
}

// Ready waits until the server takes writes.
func (s *Server) Ready() { s.t.Helper(); s.ready() }

func (s *Server) running() bool {
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

func (s *Server) signal(sig os.Signal) {
	s.t.Helper()
	if !s.running() {
		s.t.Fatalf("consultest: %s to consul %s: it does not run", sig, s.Addr())
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("consultest: %s to consul %s: %v", sig, s.Addr(), err)
	}
}

func (s *Server) end(sig os.Signal) {
	s.t.Helper()
	s.signal(sig)
	if s.paused { // a stopped process takes no SIGTERM
		s.Resume()
	}
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.cmd.Process.Kill()
		s.t.Fatalf("consultest: consul %s did not end on %s", s.Addr(), sig)
	}
}

func (s *Server) start() {
	s.t.Helper()
	args := []string{"agent"}
	for i, hcl := range append([]string{s.config()}, s.extra...) { // the later overrides
		file := filepath.Join(s.dir, fmt.Sprintf("%d.hcl", i))
		if err := os.WriteFile(file, []byte(hcl), 0o600); err != nil {
			s.t.Fatalf("consultest: %v", err)
		}
		args = append(args, "-config-file", file)
	}
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatalf("consultest: %v", err)
	}
	defer log.Close()
	s.cmd = exec.Command(Binary(s.t), args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CONSUL_") })
	exectest.DieWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("consultest: %v", err)
	}
	cmd, exited := s.cmd, make(chan struct{})
	s.exited, s.paused = exited, false
	go func() {
		cmd.Wait() // how it ended is in its log
		close(exited)
	}()
}

func (s *Server) config() string {
	var join []string
	for _, o := range s.join {
		if o != s {
			join = append(join, strconv.Quote(net.JoinHostPort(o.ip, strconv.Itoa(o.ports.serf))))
		}
	}
	return fmt.Sprintf(`
server           = true
bootstrap_expect = %d
retry_join       = [%s]
retry_interval   = "250ms"
node_name        = %q
data_dir         = %q
bind_addr        = %q
client_addr      = %q
advertise_addr   = %q
log_level        = "warn"
disable_host_node_id = true
disable_update_check = true
performance { raft_multiplier = 1 }
connect     { enabled = false }
peering     { enabled = false }
ports {
  http = %d  server = %d  serf_lan = %d
  serf_wan = -1  dns = -1  https = -1  grpc = -1  grpc_tls = -1
}
`, len(s.join), strings.Join(join, ", "), s.name, s.Data(),
		s.ip, s.ip, s.ip, s.ports.http, s.ports.server, s.ports.serf)
}

func (s *Server) ready() {
	s.t.Helper()
	poll(s.t, "consul "+s.Addr(), func() error {
		if !s.running() {
			s.t.Fatalf("consultest: consul %s ended by itself", s.Addr())
		}
		// The key is of no interest; a write that is acknowledged is.
		_, err := s.request(http.MethodPut, "/v1/kv/consultest/ready", s.name)
		return err
	})
}

// leader is the Raft address that this server follows.
func (s *Server) leader() (string, error) {
	if !s.running() || s.paused {
		return "", fmt.Errorf("not running")
	}
	b, err := s.request(http.MethodGet, "/v1/status/leader", "")
	if err != nil {
		return "", err
	}
	var addr string
	return addr, json.Unmarshal(b, &addr)
}

func (s *Server) request(method, path, body string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Addr()+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Close = true
	if s.token != "" {
		req.Header.Set("X-Consul-Token", s.token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", res.Status, bytes.TrimSpace(b))
	}
	return b, nil
}

// poll asks until try succeeds: a process that starts has no event to wait for.
func poll(t testing.TB, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("consultest: waited %s for %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *Server) logPath() string { return filepath.Join(s.dir, "consul.log") }

func (s *Server) logTail() string {
	b, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}
