package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestAlertsFindTheirSeries: a rule that asks for a region's mode or an edge's health by a
// value that no node gives it would never fire.
func TestAlertsFindTheirSeries(t *testing.T) {
	d := startDev(t)
	_, series := get(t, d.api()+"/metrics")
	rules, err := os.ReadFile("../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, m := range regexp.MustCompile(`(bailiwick_[a-z_]+)\{([a-z]+)=~?"([^"]*)"\}`).FindAllStringSubmatch(string(rules), -1) {
		for _, value := range strings.Split(m[3], "|") {
			asked++
			if !regexp.MustCompile(`(?m)^` + m[1] + `\{.*` + m[2] + `="` + value + `"`).MatchString(series) {
				t.Errorf("a rule asks for %s with %s=%q, of which there is no series", m[1], m[2], value)
			}
		}
	}
	if asked < 5 {
		t.Fatalf("%d values asked for: does the test still read the rules right?", asked)
	}
}
