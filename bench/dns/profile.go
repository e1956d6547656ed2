package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// profiled is where our server's time goes.
type profiled struct {
	flat    string             // pprof's table of the functions themselves
	share   map[string]float64 // of the time, by function with what it calls; 1 is all
	objects float64            // allocated per query
	bytes   float64
	cycles  float64 // of the garbage collector, per 100,000 queries
}

// stages are the parts of a query's way, in its order.
var stages = []struct{ what, function string }{
	{"receive: `recvmmsg`", "bailiwick/datagram.(*Reader).read"},
	{"read the queries", "bailiwick/geodns.(*Server).read"},
	{"find the places and ECS scopes, all of a batch at once", "bailiwick/geodns/geo.(*Table).FindAll"},
	{"answer, of which:", "bailiwick/geodns.(*Server).finish"},
	{"· from what is remembered", "bailiwick/geodns.(*Server).fast"},
	{"· anew", "bailiwick/geodns.(*Server).slow"},
	{"· metrics", "bailiwick/geodns.(*Server).observe"},
	{"send: `sendmmsg`", "bailiwick/datagram.(*Writer).send"},
	{"collect garbage, beside the query", "runtime.gcBgMarkWorker"},
	{"allocate, within the stages above", "runtime.mallocgc"},
	{"system calls, within the stages above", "internal/runtime/syscall/linux.Syscall6"},
}

// takeProfile loads our server once more, after everything was measured.
func (b *bench) takeProfile() error {
	say("profiling bailiwick")
	out := json.NewDecoder(b.own.proc.stdout)
	var h [3]heap
	command := func(line string, into *heap) error {
		if _, err := fmt.Fprintln(b.own.proc.stdin, line); err != nil {
			return err
		}
		if into == nil {
			return nil
		}
		return out.Decode(into)
	}
	if err := command("heap", &h[0]); err != nil {
		return err
	}
	t, err := blast(b.own.addr, b.sets[served], slice)
	if err != nil {
		return err
	}
	if err := command("heap", &h[1]); err != nil {
		return err
	}
	n := float64(t.answered)
	b.cpu.objects = float64(h[1].Objects-h[0].Objects) / n
	b.cpu.bytes = float64(h[1].Bytes-h[0].Bytes) / n
	b.cpu.cycles = float64(h[1].Cycles-h[0].Cycles) / n * 1e5

	file := filepath.Join(b.dir, "cpu.pprof")
	if err := command("profile "+file, nil); err != nil {
		return err
	}
	if _, err := blast(b.own.addr, b.sets[served], profile); err != nil {
		return err
	}
	if err := command("heap", &h[2]); err != nil { // ends the profile
		return err
	}
	if b.cpu.flat, err = pprofTop(file, "-nodecount=15"); err != nil {
		return err
	}
	all, err := pprofTop(file, "-cum", "-nodecount=100000", "-nodefraction=0")
	if err != nil {
		return err
	}
	b.cpu.share = shares(all)
	return nil
}

func pprofTop(file string, args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", append(append([]string{"tool", "pprof", "-top"}, args...), self, file)...)
	b, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go tool pprof: %w", err)
	}
	_, table, ok := strings.Cut(string(b), "\n      flat  ")
	if !ok {
		return "", fmt.Errorf("go tool pprof: no table in %.200q", b)
	}
	return "      flat  " + strings.TrimRight(table, "\n"), nil
}

// shares reads the lines "flat flat% sum% cum cum% function" of pprof.
func shares(table string) map[string]float64 {
	share := map[string]float64{}
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 6 {
			continue
		}
		if percent, err := strconv.ParseFloat(strings.TrimSuffix(f[4], "%"), 64); err == nil {
			share[f[5]] = percent / 100
		}
	}
	return share
}
