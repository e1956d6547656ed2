package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"bailiwick/region"
	"bailiwick/residency"
)

type checkCmd struct {
	File string `arg:"" optional:"" help:"The region map." default:"regions.yaml"`
	JSON bool   `help:"Print JSON."`
}

func (checkCmd) Help() string {
	return `Prints every error and warning at once and exits 1 when there is an error.

Example:
  bailiwick check regions.yaml`
}

// line is one finding as check prints it.
type line struct {
	Severity string `json:"severity"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Rule     string `json:"rule"`
	Text     string `json:"text"`
}

func (c *checkCmd) Run(e *env) error {
	lines, m, err := findings(c.File)
	if err != nil {
		return err
	}
	bad := 0
	for _, l := range lines {
		if l.Severity == "error" {
			bad++
		}
	}
	if c.JSON {
		if err := printJSON(e.stdout, lines); err != nil {
			return err
		}
	} else {
		for _, l := range lines {
			wrap(e.stdout, fmt.Sprintf("%s:%d: %s: ", l.File, l.Line, l.Severity), 4, l.Text)
		}
		sum := c.File + ": "
		if m != nil {
			sum += count(len(m.Regions), "region") + ", " + count(len(m.Served), "served jurisdiction") + ", "
		}
		fmt.Fprintln(e.stdout, sum+count(bad, "error")+", "+count(len(lines)-bad, "warning"))
	}
	if bad > 0 {
		return errFinding
	}
	return nil
}

// findings parses and lints; m is nil when the map could not be parsed.
func findings(file string) ([]line, *region.Map, error) {
	lines := []line{}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, misuse{err}
	}
	m, err := region.Parse(file, b)
	var faults region.Errors
	if errors.As(err, &faults) {
		for _, p := range faults {
			lines = append(lines, line{"error", p.File, p.Line, "parse", p.Text})
		}
		return lines, nil, nil
	}
	if err != nil {
		return nil, nil, misuse{err}
	}
	for _, f := range region.Lint(m, residency.Shipped(), time.Now()) {
		lines = append(lines, line{f.Severity.String(), f.File, f.Line, f.Rule, f.Text})
	}
	return lines, m, nil
}
