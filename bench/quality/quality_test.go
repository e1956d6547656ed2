// Package quality measures what people hear and see on bad networks: Chromiums that call each
// other over paths with a rate, a delay and loss, by Bailiwick's own page and by LiveKit's client,
// on the same script. README.md says how, RESULTS.md what came out; `make bench-quality` runs it.
//
// It is made of tests because it starts programs as they do. Every number printed was measured
// in that run, and what could not be measured says why.
package quality

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bailiwick/bench/report"
	"bailiwick/tools/pathtest"
)

var (
	measure = flag.Bool("measure", false, "measure, and print what must be reached")
	asJSON  = flag.Bool("json", false, "print JSON")
	only    = flag.String("scripts", "", "these alone, by name, commas between")
	peers   = flag.String("peers", "bailiwick,LiveKit", "these alone")
	scale   = flag.Float64("scale", 1, "of how long each phase lasts; figures are of 1")
	raw     = flag.String("raw", "", "a folder for every second of every run, as JSON")
	seed    = flag.Uint64("seed", 1, "of the losses")
)

const resultVar = "BENCH_QUALITY_RESULT" // where a run leaves what it measured

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

// TestQuality plays each script with each peer, in namespaces of its own, and prints the report.
func TestQuality(t *testing.T) {
	if !*measure {
		t.Skip("make bench-quality")
	}
	r := &results{Machine: report.Begin(), Runs: map[string]map[string]*run{}}
	began := time.Now()
	for _, s := range scripts {
		if *only != "" && !listed(*only, s.name) {
			continue
		}
		r.Runs[s.name] = map[string]*run{}
		for _, peer := range []string{ownName, livekitName} {
			if !listed(*peers, peer) || peer == livekitName && s.alone {
				continue
			}
			var got *run
			t.Run(s.name+"/"+peer, func(t *testing.T) { got = play(t) })
			if got == nil {
				got = &run{Failed: "see the log"}
			}
			r.Runs[s.name][peer] = got
			fmt.Fprintf(os.Stderr, "%s, %s: %s\n", s.name, peer, s.figures(got))
		}
	}
	r.Machine.End(began, fmt.Sprintf("seed %d, phases × %g", *seed, *scale))
	if err := r.print(os.Stdout, *asJSON); err != nil {
		t.Fatal(err)
	}
}

func listed(list, name string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(one), name) {
			return true
		}
	}
	return false
}

// play plays one script with one peer, both named by the test.
func play(t *testing.T) *run {
	_, rest, _ := strings.Cut(t.Name(), "/")
	named, peer, _ := strings.Cut(rest, "/")
	var s *script
	for i := range scripts {
		if strings.ReplaceAll(scripts[i].name, " ", "_") == named {
			s = &scripts[i]
		}
	}
	out := os.Getenv(resultVar)
	if out == "" {
		out = filepath.Join(t.TempDir(), "run.json")
	}
	flags := []string{"-measure", fmt.Sprint("-scale=", *scale), fmt.Sprint("-seed=", *seed)}
	if pathtest.AloneWith(t, flags, "30m", resultVar+"="+out) {
		got := s.play(t, peer)
		b, err := json.Marshal(got)
		if err == nil {
			err = os.WriteFile(out, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if *raw != "" {
		name := strings.NewReplacer(" ", "-", "/", "-", ",", "", "%", "").Replace(s.name+"-"+peer) + ".json"
		if err := os.WriteFile(filepath.Join(*raw, name), b, 0o600); err != nil {
			t.Error(err)
		}
	}
	got := &run{}
	if err := json.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	return got
}
