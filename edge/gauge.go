package edge

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// gauge reads what the process takes of its machine. It is for one goroutine.
type gauge struct {
	at      time.Time
	cpu     time.Duration
	limit   uint64 // of memory, by the cgroup; 0: none
	samples []metrics.Sample
}

// Memory that is in use: what the runtime has of the system, without what it gave back, keeps free
// or has not swept yet, and the heap as the last collection found it. What was freed and stays with
// the process is a pressure that no step relieves.
var inUse = []struct {
	name string
	sign int64
}{
	{"/memory/classes/total:bytes", 1}, {"/memory/classes/heap/released:bytes", -1}, {"/memory/classes/heap/free:bytes", -1},
	{"/memory/classes/heap/unused:bytes", -1}, {"/memory/classes/heap/objects:bytes", -1}, {"/gc/heap/live:bytes", 1},
}

func newGauge() *gauge {
	g := &gauge{limit: cgroupLimit("/proc/self/cgroup", "/sys/fs/cgroup")}
	for _, m := range inUse {
		g.samples = append(g.samples, metrics.Sample{Name: m.name})
	}
	return g
}

// read is the share of all cores that the process was given and used since the last read, and that
// of its memory limit which is in use; 0 of what has no limit, or cannot be known here.
func (g *gauge) read() (cpu, memory float64) {
	now, used := time.Now(), processorTime()
	if !g.at.IsZero() && used > 0 {
		cpu = float64(used-g.cpu) / (float64(now.Sub(g.at)) * float64(runtime.GOMAXPROCS(0))) // which knows of cgroups
	}
	g.at, g.cpu = now, used
	limit := uint64(debug.SetMemoryLimit(-1))
	if g.limit > 0 {
		limit = min(limit, g.limit)
	}
	if limit == math.MaxInt64 {
		return cpu, 0
	}
	metrics.Read(g.samples)
	sum := int64(0)
	for i, m := range inUse {
		sum += m.sign * int64(g.samples[i].Value.Uint64())
	}
	return cpu, float64(max(0, sum)) / float64(limit)
}

// cgroupLimit is the least memory.max of the process's cgroup (version 2) and those around it.
func cgroupLimit(self, root string) (limit uint64) {
	text, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for {
			if max, err := os.ReadFile(filepath.Join(root, path, "memory.max")); err == nil {
				if n, err := strconv.ParseUint(strings.TrimSpace(string(max)), 10, 63); err == nil && (limit == 0 || n < limit) {
					limit = n
				}
			}
			if path == "/" || path == "." || path == "" {
				break
			}
			path = filepath.Dir(path)
		}
	}
	return limit
}
