package control

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

const (
	simTime       = "30s"
	leastSchedule = 100.0 // a second
)

// rate is what the simulation's test says of itself.
var rate = regexp.MustCompile(`sim: (\d+ schedules of \d+ actions).* ([0-9.]+) a second;.*; (\d+) failed`)

// simulation is the simulation's own run, where the tree has one.
func simulation(t *testing.T) {
	if files, err := filepath.Glob("../../sim/*_test.go"); err != nil || len(files) == 0 {
		results.missed(rowSim, "this tree has no simulation in sim/")
		return
	}
	say("simulation: %s", simTime)
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count", "1", "-v", "-run", "TestSimulation", "./sim")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "SIMTIME="+simTime)
	out, err := cmd.CombinedOutput()
	said := rate.FindSubmatch(out)
	if said == nil {
		t.Fatalf("the simulation says no rate: %v\n%s", err, out)
	}
	a, err := strconv.ParseFloat(string(said[2]), 64)
	if err != nil {
		t.Fatal(err)
	}
	results.set(rowSim, a >= leastSchedule, "%.0f (%s, %s failed)", a, said[1], said[3])
	results.figure("schedules_per_second", a)
}
