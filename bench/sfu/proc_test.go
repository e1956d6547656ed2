package sfu

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// processor is what all threads of a process have used: utime and stime of /proc/PID/stat
// before they are rounded to ticks of 10 ms, of which a small run has few.
func processor(pid int) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil { // clock_getcpuclockid(3)
		return 0, fmt.Errorf("process %d: processor time: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// memory is a process's share of memory in bytes, pages that it shares divided.
func memory(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	return pss(b)
}

func pss(rollup []byte) (int64, error) {
	for line := range bytes.Lines(rollup) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "Pss:" {
			n, err := strconv.ParseInt(string(f[1]), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("smaps_rollup: no Pss in %d bytes", len(rollup))
}

// quantile is one of a sorted list, 0 to 1.
func quantile[T any](sorted []T, q float64) (v T) {
	if len(sorted) == 0 {
		return v
	}
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func median[T cmp.Ordered](list []T) T { return quantile(slices.Sorted(slices.Values(list)), 0.5) }

// The clock must tell what getrusage tells of this process.
func TestProcessor(t *testing.T) {
	var before, after unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &before)
	got, err := processor(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	unix.Getrusage(unix.RUSAGE_SELF, &after)
	used := func(r unix.Rusage) time.Duration { return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }
	if got < used(before)-time.Millisecond || got > used(after)+time.Millisecond {
		t.Errorf("processor time %s; getrusage: %s before, %s after", got, used(before), used(after))
	}
	if _, err := processor(1 << 22); err == nil { // above pid_max
		t.Error("a process that is not has processor time")
	}
}

func TestMemory(t *testing.T) {
	got, err := pss([]byte("5500-7fff ---p 00000000 00:00 0    [rollup]\nRss:   884 kB\nPss:    385 kB\nPss_Anon:  80 kB\n"))
	if err != nil || got != 385<<10 {
		t.Errorf("pss: %d, %v", got, err)
	}
	if _, err := pss([]byte("Rss: 1 kB\n")); err == nil {
		t.Error("no Pss, and no error")
	}
	if got, err := memory(os.Getpid()); err != nil || got < 1<<20 {
		t.Errorf("memory of this process: %d, %v", got, err)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		name string
		list []float64
		want float64
	}{
		{"none", nil, 0},
		{"one", []float64{7}, 7},
		{"odd", []float64{9, 1, 5}, 5},
		{"even, the upper", []float64{4, 1, 2, 3}, 3},
	} {
		if got := median(c.list); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
