package main

import (
	"fmt"
	"net/netip"
	"time"

	"bailiwick/health/probe"
)

type probeCmd struct {
	URL  string         `arg:"" help:"Base URL of an edge."`
	Stun netip.AddrPort `help:"Its TURN listener, to ask a STUN Binding of." placeholder:"IP:PORT"`
	JSON bool           `help:"Print JSON."`
}

func (probeCmd) Help() string {
	return `Exits 1 when a probe fails.

Example:
  bailiwick probe http://127.0.5.1:8080 --stun 127.0.5.1:3478`
}

// probed is one probe's result as it prints.
type probed struct {
	Probe  string  `json:"probe"`
	OK     bool    `json:"ok"`
	Millis float64 `json:"ms"`
	Reason string  `json:"reason,omitempty"`
}

func (c *probeCmd) Run(e *env) error {
	word := func(name string, r probe.Result) probed {
		return probed{name, r.OK, float64(r.RTT) / float64(time.Millisecond), string(r.Reason)}
	}
	results := []probed{word("ready", probe.Ready(e.ctx, c.URL))}
	if c.Stun.IsValid() {
		results = append(results, word("stun", probe.STUN(e.ctx, c.Stun)))
	}
	bad := false
	for _, r := range results {
		bad = bad || !r.OK
	}
	if c.JSON {
		if err := printJSON(e.stdout, results); err != nil {
			return err
		}
	} else {
		for _, r := range results {
			state := "ok"
			if !r.OK {
				state = "failed: " + r.Reason
			}
			fmt.Fprintf(e.stdout, "%-6s %-20s %.1f ms\n", r.Probe, state, r.Millis)
		}
	}
	if bad {
		return errFinding
	}
	return nil
}
