// Package control measures the control plane at the size that it must bear: a full edge, an
// idle one, many consults a second, a region that goes, a Consul that is gone. README.md says
// what is measured, RESULTS.md what came out; `make bench-control` runs it.
//
// It is made of tests because it runs the real Consul that tests run. Invariants: every
// number printed was measured in that run, what could not be measured says so, and nothing
// is left running.
package control

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var (
	measure = flag.Bool("measure", false, "measure, and print what must be reached")
	asJSON  = flag.Bool("json", false, "print JSON")
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	if !*measure {
		os.Exit(m.Run())
	}
	out := os.Stdout
	os.Stdout = os.Stderr // what package testing says is no part of the report
	dir, err := os.MkdirTemp("", "bench-control-")
	if err == nil {
		binary = filepath.Join(dir, "bailiwick")
		build := exec.Command("go", "build", "-o", binary, "../../cmd/bailiwick")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		err = build.Run()
	}
	code := 1
	if err == nil {
		code = m.Run()
		err = results.print(out, *asJSON)
	}
	os.RemoveAll(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-control:", err)
		code = 1
	}
	os.Exit(code)
}

// TestControl runs the parts one after the other, each on machines of its own: a part that
// fails leaves its rows unmeasured, and the others stand.
func TestControl(t *testing.T) {
	if !*measure {
		t.Skip("it measures for some ten minutes: make bench-control")
	}
	results = begin()
	t.Run("full edge", fullEdge)
	t.Run("consults a second", churn)
	t.Run("folds", folds)
	t.Run("simulation", simulation)
	results.end()
}

// say tells of progress.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
