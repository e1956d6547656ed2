package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	readyWithin = time.Minute
	stopWithin  = 10 * time.Second
	tick        = 10 * time.Millisecond // of /proc: USER_HZ is 100 on every Linux
)

// server is one server under test.
type server struct {
	name, binary, pkg string
	ask               string // option that prints the version
	static            bool   // it knows no places
	signed            bool   // its zone is
	command           func(dir string, at netip.AddrPort, p plan) (argv, env []string, err error)

	absent  string // why it is not measured
	version string
	addr    netip.AddrPort
	proc    *process
	ready   time.Duration // from start to the first answer
	base    int64         // bytes resident without a place
	loaded  int64         // with all of them, started
	end     int64         // the same after the load
	peak    int64

	asked, same, scoped int
	verified            int // answers whose RRSIG the zone's key verifies
	barren              int // slices without any answer, taken again
	octets              int // of all answers to the set served
	calls               *calls
	noCalls             string // why calls is nil
	samples             map[string][]sample
}

func (s *server) pid() int { return s.proc.cmd.Process.Pid }

// process is a running server, the leader of a process group of its own.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	log    bytes.Buffer
	exited chan struct{}
	ended  bool // by stop
}

// launch starts the server without places, to see what it weighs, and then with them.
func (b *bench) launch(s *server) error {
	if s.binary != "" {
		path, err := exec.LookPath(s.binary)
		if err != nil {
			return fmt.Errorf("not installed: apt-get install %s", s.pkg)
		}
		if lacks := missing(s.pkg); lacks != "" {
			return fmt.Errorf("without its module: apt-get install %s", lacks)
		}
		s.version = versionOf(path, s.ask)
	}
	if err := b.start(s, b.plan.none()); err != nil {
		return err
	}
	m, err := memoryOf(s.pid())
	if err != nil {
		return err
	}
	s.base = m.rss
	s.proc.stop()
	full := b.plan
	full.db = b.db
	if err := b.start(s, full); err != nil {
		return err
	}
	m, err = memoryOf(s.pid())
	s.loaded = m.rss
	return err
}

// missing are those of some Debian packages that are not installed: a server's modules may be
// packages of their own. Where there is no dpkg nothing is known to be.
func missing(packages string) string {
	dpkg, err := exec.LookPath("dpkg-query")
	if err != nil {
		return ""
	}
	var lacks []string
	for _, name := range strings.Fields(packages) {
		if status, err := exec.Command(dpkg, "-W", "-f", "${db:Status-Status}", name).Output(); err != nil || string(status) != "installed" {
			lacks = append(lacks, name)
		}
	}
	return strings.Join(lacks, " ")
}

// none is the plan with the one place that a server cannot do without.
func (p plan) none() plan {
	if len(p.prefixes) > 0 {
		p.prefixes = p.prefixes[:1]
	}
	p.db = ""
	return p
}

func (b *bench) start(s *server, p plan) error {
	var err error
	if s.addr, err = freePort(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.dir, "server-")
	if err != nil {
		return err
	}
	argv, env, err := s.command(dir, s.addr, p)
	if err != nil {
		return err
	}
	began := time.Now()
	if s.proc, err = b.spawn(argv, env, b.core, s.binary == ""); err != nil {
		return err
	}
	if err := b.await(s); err != nil {
		s.proc.stop()
		return fmt.Errorf("%w: %s", err, lastLine(s.proc.log.String()))
	}
	s.ready = time.Since(began)
	return nil
}

// spawn starts a process on a core. speaks: its standard output is read.
func (b *bench) spawn(argv, env []string, core int, speaks bool) (pr *process, err error) {
	pr = &process{exited: make(chan struct{})}
	pr.cmd = exec.Command("taskset", append([]string{"-c", strconv.Itoa(core)}, argv...)...)
	pr.cmd.Env = append(os.Environ(), env...)
	pr.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	pr.cmd.Stderr = &pr.log
	if pr.stdin, err = pr.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if speaks {
		pr.stdout, err = pr.cmd.StdoutPipe()
	}
	if err != nil {
		return nil, err
	}
	if err := pr.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { pr.cmd.Wait(); close(pr.exited) }()
	return pr, nil
}

// await returns once the server answers.
func (b *bench) await(s *server) error {
	client := &dns.Client{Timeout: 100 * time.Millisecond}
	q := new(dns.Msg).SetQuestion(zone+".", dns.TypeSOA)
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); {
		if m, _, err := client.Exchange(q, s.addr.String()); err == nil && len(m.Answer) > 0 {
			return nil
		}
		select {
		case <-b.ctx.Done():
			return errors.New("interrupted")
		case <-s.proc.exited:
			return fmt.Errorf("ended at once, %s", s.proc.cmd.ProcessState)
		case <-time.After(tick):
		}
	}
	return fmt.Errorf("no answer within %s", readyWithin)
}

// stop ends the process, which may end its children in order, and then all that is
// left of them.
func (p *process) stop() {
	if p.ended {
		return // its number may be another's by now
	}
	p.ended = true
	p.stdin.Close()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopWithin):
	}
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

func (b *bench) stopAll() {
	if b.own.proc != nil {
		b.own.proc.stop()
	}
	for _, s := range b.servers {
		if s != b.own && s.proc != nil {
			s.proc.stop()
		}
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// freePort is a port of loopback that is free for UDP and TCP.
func freePort() (netip.AddrPort, error) {
	for {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return netip.AddrPort{}, err
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		u, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		l.Close()
		if err == nil {
			u.Close()
			return at, nil
		}
	}
}

var number = regexp.MustCompile(`\d+\.\d+\.\d+`)

// versionOf asks a binary; several print it while they complain of the option.
func versionOf(path, option string) string {
	out, _ := exec.Command(path, option).CombinedOutput()
	return number.FindString(string(out))
}

// groupOf are the processes of a process group.
func groupOf(pgid int) (pids []string, err error) {
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if f := statFields(b); len(f) > 12 && f[2] == strconv.Itoa(pgid) {
			pids = append(pids, filepath.Dir(path))
		}
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("process %d has ended", pgid)
	}
	return pids, nil
}

// statFields are those of /proc/PID/stat from the third on, the state: the second,
// the name, may hold spaces and parentheses.
func statFields(b []byte) []string {
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// usage is what the threads of a server have used of the processor.
type usage struct {
	user, system time.Duration
	waits        int // voluntary context switches: each is a sleep, and so a wakeup
}

func (u usage) total() time.Duration { return u.user + u.system }

func (u usage) since(v usage) usage {
	return usage{u.user - v.user, u.system - v.system, u.waits - v.waits}
}

// usageOf is of all threads of the group's processes so far.
func usageOf(pgid int) (u usage, err error) {
	pids, err := groupOf(pgid)
	for _, dir := range pids {
		b, err := os.ReadFile(dir + "/stat")
		if err != nil {
			return u, err
		}
		for i, into := range []*time.Duration{&u.user, &u.system} { // utime, stime
			n, err := strconv.ParseInt(statFields(b)[11+i], 10, 64)
			if err != nil {
				return u, err
			}
			*into += time.Duration(n) * tick
		}
		threads, err := filepath.Glob(dir + "/task/[0-9]*")
		if err != nil {
			return u, err
		}
		for _, t := range threads {
			n, _ := strconv.Atoi(statusOf(t, "voluntary_ctxt_switches")) // 0 of a thread that has ended
			u.waits += n
		}
	}
	return u, err
}

type memory struct{ rss, peak int64 }

// memoryOf sums what the group's processes hold in memory, and held at most.
func memoryOf(pgid int) (m memory, err error) {
	pids, err := groupOf(pgid)
	for _, dir := range pids {
		m.rss += kib(statusOf(dir, "VmRSS"))
		m.peak += kib(statusOf(dir, "VmHWM"))
	}
	return m, err
}

// statusOf is one line of /proc/PID/status; empty where there is none.
func statusOf(dir, key string) string {
	for line := range strings.Lines(text(dir + "/status")) {
		if k, v, _ := strings.Cut(line, ":"); k == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func kib(s string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSuffix(s, " kB"), 10, 64)
	return n << 10
}
