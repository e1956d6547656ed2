package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"bailiwick/edge"
	"bailiwick/region"
	"bailiwick/residency"
)

type checkCmd struct {
	File string `arg:"" optional:"" help:"The region map." default:"regions.yaml"`
	API  string `help:"Ask every edge that this running node knows what the map would do to its calls; the API key comes from BAILIWICK_API_KEY, dev when it is not set." placeholder:"URL"`
	Key  string `env:"BAILIWICK_API_KEY" default:"dev" hidden:""`
	JSON bool   `help:"Print JSON."`
}

func (checkCmd) Help() string {
	return `Prints every error and warning at once and exits 1 when there is an error.
With --api it is also the question to ask before a reload: how many running calls the
map would end, where and by which rule. Nothing is changed.

Example:
  bailiwick check regions.yaml
  bailiwick check new.yaml --api https://de-fra-1.edge.example.org`
}

// line is one finding as check prints it.
type line struct {
	Severity string `json:"severity"`
	File     string `json:"file"`
	Line     int    `json:"line"` // 0: of no line
	Rule     string `json:"rule"`
	Text     string `json:"text"`
}

func (c *checkCmd) Run(e *env) error {
	lines, m, err := findings(c.File)
	if err != nil {
		return err
	}
	calls := ""
	if c.API != "" && m != nil {
		more, sum, err := c.running(e)
		if err != nil {
			return err
		}
		lines, calls = append(lines, more...), sum
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
			at := l.File
			if l.Line > 0 {
				at += fmt.Sprint(":", l.Line)
			}
			wrap(e.stdout, at+": "+l.Severity+": ", 4, l.Text)
		}
		sum := c.File + ": "
		if m != nil {
			sum += count(len(m.Regions), "region") + ", " + count(len(m.Served), "served jurisdiction") + ", "
		}
		fmt.Fprintln(e.stdout, sum+count(bad, "error")+", "+count(len(lines)-bad, "warning"))
		fmt.Fprint(e.stdout, calls)
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
	return append(lines, secrets(file, m)...), m, nil
}

// running asks every edge what the map would do to its calls. An edge that does not say is an
// error: nobody knows what would end there.
func (c *checkCmd) running(e *env) (lines []line, sum string, err error) {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return nil, "", misuse{err}
	}
	node := apiFlags{API: c.API, Key: c.Key}
	var s edge.Status
	if err := node.call(e.ctx, http.MethodGet, "/v1/status", nil, &s); err != nil {
		return nil, "", err
	}
	say := func(severity, rule, format string, a ...any) {
		lines = append(lines, line{Severity: severity, File: c.File, Rule: rule, Text: fmt.Sprintf(format, a...)})
	}
	edges, running, moves, ends := 0, 0, 0, 0
	for _, r := range s.Regions {
		for _, at := range r.Edges {
			var f edge.Foreseen
			if err := (&apiFlags{API: at.Host, Key: c.Key}).call(e.ctx, http.MethodPost, "/v1/map/check", text, &f); err != nil {
				say("error", "calls-unknown", "%s in %s does not say which calls run there: %v", at.ID, r.ID, err)
				continue
			}
			edges, running, moves, ends = edges+1, running+f.Running, moves+f.Moves, ends+f.Ending()
			for _, by := range f.Ends {
				say("error", "calls-end", "%s in %s: %d of %s would end after %s: %s (%s)", at.ID, r.ID, by.Consults, count(f.Running, "running call"), f.Grace, by.Code, strings.Join(by.Citation, "; "))
			}
			if f.Moves > 0 {
				say("warning", "calls-move", "%s in %s: %d of %s would move to another region", at.ID, r.ID, f.Moves, count(f.Running, "running call"))
			}
		}
	}
	return lines, fmt.Sprintf("%s on %s: %d would end, %d would move\n", count(running, "running call"), count(edges, "edge"), ends, moves), nil
}
