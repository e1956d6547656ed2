package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pin keeps this process, and so the load, on the second core that it may use, and
// returns the servers' core and its own. Only a new image has all of its threads
// there, so it starts itself anew.
func pin() ([2]int, error) {
	const chosen = "BENCH_DNS_CORES"
	var c [2]int
	if v := os.Getenv(chosen); v != "" {
		_, err := fmt.Sscanf(v, "%d,%d", &c[0], &c[1])
		return c, err
	}
	cores := listed(statusOf("/proc/self", "Cpus_allowed_list"))
	if len(cores) < 2 {
		return c, errors.New("one core only: the servers need one and the load another")
	}
	self, err := os.Executable()
	if err != nil {
		return c, err
	}
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		return c, fmt.Errorf("%w: apt-get install util-linux", err)
	}
	return c, syscall.Exec(taskset, append([]string{"taskset", "-c", strconv.Itoa(cores[1]), self}, os.Args[1:]...),
		append(os.Environ(), fmt.Sprintf("%s=%d,%d", chosen, cores[0], cores[1])))
}

// listed reads a list of the kernel's, such as 0-1,4.
func listed(s string) (all []int) {
	for part := range strings.SplitSeq(s, ",") {
		from, to, ranged := strings.Cut(part, "-")
		a, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		b := a
		if ranged {
			b, _ = strconv.Atoi(to)
		}
		for ; a <= b; a++ {
			all = append(all, a)
		}
	}
	return all
}

// machine is where and when the run was.
type machine struct {
	cpu, cores, siblings, kernel, goVersion, tree, geoData string
	began, ended                                           time.Time
	load                                                   [2]string // load average at the beginning and the end
	pinned                                                 [2]int
}

func describe(pinned [2]int) *machine {
	m := &machine{goVersion: runtime.Version(), began: time.Now().UTC(), pinned: pinned, cpu: "unknown"}
	for line := range strings.Lines(text("/proc/cpuinfo")) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.cpu = strings.TrimSpace(value)
		}
	}
	m.cores = text("/sys/devices/system/cpu/online")
	m.siblings = text(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", pinned[0]))
	m.kernel = text("/proc/sys/kernel/osrelease")
	m.tree = output("git", "rev-parse", "--short", "HEAD")
	if output("git", "--no-optional-locks", "status", "--porcelain", "geodns", "steer", "residency", "region") != "" {
		m.tree += " and uncommitted changes"
	}
	m.geoData = output("dpkg-query", "-W", "-f", "${Version}", "tor-geoipdb")
	m.load[0] = text("/proc/loadavg")
	return m
}

func (m *machine) end() { m.ended, m.load[1] = time.Now().UTC(), text("/proc/loadavg") }

// text is a file's content; a fact that this system does not tell is unknown.
func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

func output(name string, args ...string) string {
	b, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
