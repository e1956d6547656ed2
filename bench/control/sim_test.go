package control

import (
	"os"
	"testing"
)

// simulation is measured by the simulation's own run, where the tree has one.
func simulation(t *testing.T) {
	if _, err := os.Stat("../../sim"); err != nil {
		results.missed(rowSim, "this tree has no sim/")
		return
	}
	results.missed(rowSim, "sim/ says it itself: make sim")
}
