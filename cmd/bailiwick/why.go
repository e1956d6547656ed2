package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"bailiwick/consult/router"
)

type whyCmd struct {
	apiFlags
	IP      string   `name:"ip" help:"The client's address." xor:"who" required:""`
	Country string   `help:"The declared jurisdiction: DE, CA-QC." xor:"who" required:""`
	Overlay []string `help:"Overlays of the law catalogue that bind the consult, e.g. de_statutory."`
	E2EE    bool     `name:"e2ee" help:"The consult is end-to-end encrypted."`
	JSON    bool     `help:"Print JSON."`
}

func (whyCmd) Help() string {
	return `Asks a running node, so that the answer is the decision DNS and router take now.
Exits 1 when no region may serve the client.

Example:
  bailiwick why --country DE
  bailiwick why --ip 192.0.2.1 --json`
}

func (c *whyCmd) Run(e *env) error {
	v := url.Values{}
	if c.IP != "" {
		v.Set("ip", c.IP)
	}
	if c.Country != "" {
		v.Set("country", c.Country)
	}
	for _, o := range c.Overlay {
		v.Add("overlay", o)
	}
	if c.E2EE {
		v.Set("e2ee", "1")
	}
	var x router.Explanation
	if err := c.call(e.ctx, http.MethodGet, "/v1/explain?"+v.Encode(), nil, &x); err != nil {
		return err
	}
	if c.JSON {
		if err := printJSON(e.stdout, x); err != nil {
			return err
		}
	} else {
		printWhy(e.stdout, &x)
	}
	if x.Refused != "" {
		return errFinding
	}
	return nil
}

// printWhy words a decision for a terminal.
func printWhy(w io.Writer, x *router.Explanation) {
	who := strings.Join(x.Jurisdictions, " + ")
	if who == "" {
		who = "an unknown place"
	}
	if x.Prefix != "" {
		who += " (by " + x.Prefix + ")"
	}
	if x.Refused != "" {
		fmt.Fprintf(w, "%s: refused, %s\n  %s\n", who, x.Refused, x.Detail)
		for _, c := range x.Citation {
			fmt.Fprintf(w, "  § %s\n", c)
		}
	} else {
		fmt.Fprintf(w, "%s: %s, edge %s, %.0f km\n", who, x.Choice.Region, x.Choice.Edge, x.Choice.Km)
		if x.Standby != nil {
			fmt.Fprintf(w, "  standby %s, edge %s, %.0f km\n", x.Standby.Region, x.Standby.Edge, x.Standby.Km)
		}
	}
	if x.Panic {
		fmt.Fprintln(w, "  health was ignored: every permitted edge looks down")
	}
	fmt.Fprintln(w)
	for _, r := range x.Regions {
		if r.Code == "" {
			fmt.Fprintf(w, "  %-8s %6.0f km  permitted\n", r.Region, r.Km)
			continue
		}
		fmt.Fprintf(w, "  %-8s %6.0f km  %s\n           %s\n", r.Region, r.Km, r.Code, r.Reason)
		for _, c := range r.Citation {
			fmt.Fprintf(w, "           § %s\n", c)
		}
	}
	fmt.Fprintf(w, "\ngeneration %d\n", x.Generation)
}
