package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// calls are the system calls of one server under load. The kernel's tracepoints count
// them (perf), not strace: a server that is stopped at every call finds more datagrams
// waiting at the next, and the batches would be the tracer's.
type calls struct {
	answered int
	all      int
	full     map[string]int // that moved a datagram, by name
	empty    map[string]int // that found nothing
	other    map[string]int // that move none, by name
}

// waiting are calls that a server makes to wait, to be woken, and to keep its threads
// in turn.
var waiting = []string{"futex", "epoll_wait", "epoll_pwait", "poll", "nanosleep", "clock_nanosleep", "tgkill", "rt_sigreturn", "sched_yield", "getpid", "write", "read"}

// moving are the calls that can carry datagrams, and each one's direction.
var moving = []struct {
	name string
	in   bool
}{{"recvmmsg", true}, {"recvmsg", true}, {"recvfrom", true}, {"sendmmsg", false}, {"sendmsg", false}, {"sendto", false}}

// countCalls loads the server for a slice, outside of those that are measured.
func (b *bench) countCalls(s *server) (*calls, error) {
	path, err := exec.LookPath("perf")
	if err != nil {
		return nil, errors.New("not installed: apt-get install linux-perf")
	}
	dirs, err := groupOf(s.pid())
	if err != nil {
		return nil, err
	}
	var pids []string
	for _, d := range dirs {
		pids = append(pids, filepath.Base(d))
	}
	args := []string{"stat", "-x", ",", "--delay=-1", "--control", "fd:3,4", "-p", strings.Join(pids, ","), "-e", "raw_syscalls:sys_enter"}
	for _, m := range moving {
		event := "syscalls:sys_exit_" + m.name
		args = append(args, "-e", event, "--filter", "ret > 0", "-e", event, "--filter", "ret <= 0")
	}
	for _, name := range waiting {
		args = append(args, "-e", "syscalls:sys_enter_"+name)
	}
	cmd := exec.Command(path, args...)
	var out bytes.Buffer
	cmd.Stderr = &out
	order, ordered, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ack, acked, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { ordered.Close(); ack.Close() }()
	cmd.ExtraFiles = []*os.File{order, acked}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	order.Close()
	acked.Close()
	if err != nil {
		return nil, err
	}
	t, err := b.counted(s, ordered, ack)
	cmd.Process.Signal(syscall.SIGINT) // it prints then
	cmd.Wait()                         // its status is the signal's
	if err != nil {
		return nil, fmt.Errorf("perf: %w: %s", err, lastLine(out.String()))
	}
	c, err := parseCalls(out.String())
	if err != nil {
		return nil, err
	}
	c.answered = t.answered
	return c, nil
}

// counted is a slice of load between the counters' start and end.
func (b *bench) counted(s *server, order io.Writer, ack io.Reader) (t tally, err error) {
	replies := bufio.NewReader(ack)
	tell := func(word string) error {
		if _, err := fmt.Fprintln(order, word); err != nil {
			return err
		}
		_, err := replies.ReadString('\n')
		return err
	}
	if err := tell("enable"); err != nil {
		return t, err
	}
	if t, err = blast(s.addr, b.sets[s.set()], slice); err != nil {
		return t, err
	}
	return t, tell("disable")
}

// parseCalls reads perf's lines "count,unit,event,…" in the order in which the events
// were asked for: the same event comes first full, then empty.
func parseCalls(text string) (*calls, error) {
	c := &calls{full: map[string]int{}, empty: map[string]int{}, other: map[string]int{}}
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if len(f) < 3 || !strings.Contains(f[2], "sys") {
			continue
		}
		n, err := strconv.Atoi(f[0])
		if err != nil {
			return nil, fmt.Errorf("perf: %s: %s", f[2], f[0])
		}
		name, exit := strings.CutPrefix(f[2], "syscalls:sys_exit_")
		other, entry := strings.CutPrefix(f[2], "syscalls:sys_enter_")
		switch {
		case entry:
			c.other[other] = n
		case !exit:
			c.all = n
		case seen[name]:
			c.empty[name] = n
		default:
			seen[name], c.full[name] = true, n
		}
	}
	if c.all == 0 {
		return nil, fmt.Errorf("perf: %s", lastLine(text))
	}
	return c, nil
}

// batches are the datagrams a call, in and out, and the calls that found nothing a
// hundred queries.
func (c *calls) batches() (in, out, empty float64) {
	var n [2]int
	none := 0
	for _, m := range moving {
		i := 0
		if !m.in {
			i = 1
		}
		n[i] += c.full[m.name]
		none += c.empty[m.name]
	}
	return float64(c.answered) / float64(n[0]), float64(c.answered) / float64(n[1]), percent(none, c.answered)
}

// names are the calls that moved most, in and out.
func (c *calls) names() string {
	best := [2]string{"none", "none"}
	for _, m := range moving {
		i := 0
		if !m.in {
			i = 1
		}
		if c.full[m.name] > c.full[best[i]] {
			best[i] = m.name
		}
	}
	return best[0] + ", " + best[1]
}

// others lists the calls that move nothing, the most frequent first, a hundred queries.
func (c *calls) others() string {
	names := slices.SortedFunc(maps.Keys(c.other), func(a, b string) int { return cmp.Compare(c.other[b], c.other[a]) })
	var list []string
	for _, name := range names {
		if share := percent(c.other[name], c.answered); share >= 0.05 {
			list = append(list, fmt.Sprintf("%s %.1f", name, share))
		}
	}
	return strings.Join(list, ", ")
}

// writeSplit says whether the kernel or the server's own code is the difference.
func (b *bench) writeSplit(p printer) {
	p("\n## Kernel and own code\n")
	p("utime and stime apart (medians of the same slices), and what the kernel was asked for. Waits are voluntary context switches: the server had nothing to do and was woken. The calls are counted in a further second by the kernel's tracepoints (`perf stat`), which slows a server less than strace; every answer is a datagram in and one out.\n")
	p("| server | user, µs | system, µs | waits per 1,000 queries | answer, octets | calls | datagrams per call in | per call out | calls that found nothing per 100 queries | all system calls per 100 queries | of them neither in nor out |")
	p("| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | --- |")
	for _, s := range b.servers {
		if s.absent != "" {
			continue
		}
		waits := spreadOf(s.samples[s.set()], func(s sample) float64 { return float64(s.waits) / float64(s.answered) * 1e3 })
		counted := "not counted: " + strings.ReplaceAll(s.noCalls, "|", "/") + " | | | | |"
		if s.calls != nil {
			in, out, empty := s.calls.batches()
			counted = fmt.Sprintf("%s | %.1f | %.1f | %.2f | %.1f | %s", s.calls.names(), in, out, empty, percent(s.calls.all, s.calls.answered), s.calls.others())
		}
		p("| %s | %s | %s | %.1f | %.0f | %s |", s.name, show(spreadOf(s.samples[s.set()], sample.userMicros)),
			show(spreadOf(s.samples[s.set()], sample.systemMicros)), waits.median, float64(s.octets)/float64(s.asked), counted)
	}
}
