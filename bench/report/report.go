// Package report is what the reports of bench/ have in common: rows of what must be reached, and
// the machine that they were measured on.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Row is one thing that must be reached, and what was.
type Row struct {
	What     string `json:"what"`
	Must     string `json:"must"`
	Is       string `json:"is"` // or why there is no figure
	Measured bool   `json:"measured"`
	Reached  bool   `json:"reached"`
}

// Verdict is Markdown.
func (r *Row) Verdict() string {
	switch {
	case !r.Measured:
		return "not measured"
	case r.Reached:
		return "reached"
	}
	return "**not reached**"
}

// Machine is what the figures were measured on, by name.
type Machine map[string]string

// Begin notes the machine before a run.
func Begin() Machine {
	return Machine{
		"processor":           fmt.Sprintf("%s, %d cores", model(), runtime.NumCPU()),
		"kernel":              text("/proc/sys/kernel/osrelease"),
		"go":                  runtime.Version(),
		"tree":                output("git", "describe", "--always", "--dirty"),
		"load average before": text("/proc/loadavg"),
	}
}

// End notes it after a run that began then; how says how it was run.
func (m Machine) End(began time.Time, how string) {
	m["load average after"] = text("/proc/loadavg")
	m["run"] = fmt.Sprintf("%s, %s, %s", began.UTC().Format(time.RFC3339), time.Since(began).Round(time.Second), how)
}

// Rows prints a table, in Markdown.
func Rows(w io.Writer, rows []Row) {
	fmt.Fprint(w, "| what | must | is | |\n| --- | --- | --- | --- |\n")
	for _, r := range rows {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", r.What, r.Must, r.Is, r.Verdict())
	}
}

// Print prints the machine, in Markdown.
func (m Machine) Print(w io.Writer) {
	fmt.Fprint(w, "\n## Machine\n\n| | |\n| --- | --- |\n")
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(w, "| %s | %s |\n", k, m[k])
	}
}

// JSON prints a whole report for machines.
func JSON(w io.Writer, report any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(report)
}

func model() string {
	for line := range strings.Lines(text("/proc/cpuinfo")) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

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
