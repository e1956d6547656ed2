package main

import (
	"fmt"
	"net/netip"
	"text/tabwriter"
	"time"

	"bailiwick/health/probe"
)

type probeCmd struct {
	URL  string         `arg:"" help:"Base URL of an edge."`
	Stun netip.AddrPort `help:"Its TURN listener, to ask a STUN Binding of." placeholder:"IP:PORT"`
	At   netip.Addr     `help:"Address to connect to in place of what the URL's name resolves to." placeholder:"IP"`
	tlsRoot
	JSON bool `help:"Print JSON."`
}

func (probeCmd) Help() string {
	return `Exits 1 when a probe fails.

Example:
  bailiwick probe http://127.0.5.1:8080 --stun 127.0.5.1:3478
  bailiwick probe https://de-fra-1.edge.media.example --at 192.0.2.10`
}

// probed is one probe's result as it prints.
type probed struct {
	Probe  string  `json:"probe"`
	OK     bool    `json:"ok"`
	Millis float64 `json:"ms"`
	Reason string  `json:"reason,omitempty"`
}

func (c *probeCmd) Run(e *env) error {
	if err := baseURL(c.URL); err != nil {
		return misuse{err}
	}
	roots, err := c.roots()
	if err != nil {
		return err
	}
	word := func(name string, r probe.Result) probed {
		return probed{name, r.OK, float64(r.RTT) / float64(time.Millisecond), string(r.Reason)}
	}
	results := []probed{word("ready", probe.Ready(e.ctx, probe.HTTP{URL: c.URL, At: c.At, Roots: roots}))}
	targets := []string{c.URL}
	if c.Stun.IsValid() {
		results = append(results, word("stun", probe.STUN(e.ctx, c.Stun)))
		targets = append(targets, c.Stun.String())
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
		t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
		for i, r := range results {
			state := fmt.Sprintf("ok, %.1f ms", r.Millis)
			if !r.OK {
				state = "failed: " + r.Reason
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", r.Probe, targets[i], state)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if bad {
		return errFinding
	}
	return nil
}
