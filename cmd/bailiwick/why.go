package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"bailiwick/consult/router"
	"bailiwick/geodns/geo"
	"bailiwick/steer"
)

type whyCmd struct {
	apiFlags
	IP      string   `name:"ip" help:"The client's address." placeholder:"ADDR" xor:"who" required:""`
	Country string   `help:"The declared jurisdiction: DE, CA-QC." placeholder:"CODE" xor:"who" required:""`
	Overlay []string `help:"Overlays of the law catalogue that bind the consult, e.g. de_statutory." placeholder:"NAME"`
	E2EE    bool     `name:"e2ee" help:"The consult is end-to-end encrypted; with --country."`
	JSON    bool     `help:"Print JSON."`
}

func (whyCmd) Help() string {
	return `Asks a running node, so that the answer is the decision DNS and router take now.
For an address it shows beside it which override of the map placed it, if one did, and what
the node's geo database itself says. Give one of --ip and --country. Exits 1 when no region may serve the client.

Example:
  bailiwick why --country DE
  bailiwick why --ip 192.0.2.1 --json`
}

// explained is an explanation with the database's own record, which a node carries as it is.
type explained struct {
	router.Explanation
	Database *geo.Record `json:"database,omitempty"`
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
	var x explained
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

// printWhy words a decision for a terminal: the choice, a line a region, and each
// reason once, by number, above the citations that it shares with its like.
func printWhy(w io.Writer, x *explained) {
	var list reasons
	who := cmp.Or(strings.Join(x.Jurisdictions, " + "), "an unknown place")
	if x.Prefix != "" {
		who += ", by " + x.Prefix
	}
	km := func(v float64) string { return fmt.Sprintf("%.0f", v) }
	if !slices.ContainsFunc(x.Regions, func(r steer.RegionWord) bool { return r.Km > 0 }) {
		km = func(float64) string { return "?" } // the client is nowhere on the map
	}
	fmt.Fprintf(w, "client   %s\n", who)
	sources(w, "", x.Override, x.Database)
	if x.Refused != "" {
		fmt.Fprintf(w, "refused  %s [%d]\n", x.Refused, list.number(x.Detail, x.Citation))
	}
	if x.Choice != nil {
		fmt.Fprintf(w, "edge     %s in %s, %s km (%s)\n", x.Choice.Edge, x.Choice.Region, km(x.Choice.Km), x.Choice.By)
	}
	if x.Standby != nil {
		fmt.Fprintf(w, "standby  %s in %s, %s km (%s)\n", x.Standby.Edge, x.Standby.Region, km(x.Standby.Km), x.Standby.By)
	}
	if x.Hint != "" {
		wrap(w, "hint     ", 9, x.Hint)
	}
	if x.Panic {
		fmt.Fprintln(w, "Health is ignored: every permitted edge looks down.")
	}
	fmt.Fprintf(w, "\n%-10s %6s  %s\n", "REGION", "KM", "VERDICT")
	for _, r := range x.Regions {
		verdict := "permitted"
		if r.Code != "" {
			verdict = fmt.Sprintf("%s [%d]", r.Code, list.number(r.Reason, r.Citation))
		}
		fmt.Fprintf(w, "%-10s %6s  %s\n", r.Region, km(r.Km), verdict)
	}
	list.print(w)
	fmt.Fprintf(w, "\ngeneration %d\n", x.Generation)
}

// reasons are the distinct reasons of a decision in order of appearance.
type reasons []reason

type reason struct {
	sentence string
	source   string // the rule with its date, which a reason ends with in parentheses
	citation []string
}

// number gives a reason's number, from 1, and adds it when it is new.
func (l *reasons) number(text string, citation []string) int {
	sentence, source := cutSource(text)
	i := slices.IndexFunc(*l, func(r reason) bool {
		return r.sentence == sentence && r.source == source && slices.Equal(r.citation, citation)
	})
	if i >= 0 {
		return i + 1
	}
	*l = append(*l, reason{sentence, source, citation})
	return len(*l)
}

// print puts reasons of one rule together, so that its citations stand once.
func (l reasons) print(w io.Writer) {
	done := make([]bool, len(l))
	for i, first := range l {
		if done[i] {
			continue
		}
		fmt.Fprintln(w)
		for k := i; k < len(l); k++ {
			if r := l[k]; r.source == first.source && slices.Equal(r.citation, first.citation) {
				wrap(w, fmt.Sprintf("%-5s", fmt.Sprintf("[%d]", k+1)), 5, r.sentence)
				done[k] = true
			}
		}
		if first.source != "" {
			wrap(w, "     ", 5, "rule: "+first.source)
		}
		for _, c := range first.citation {
			wrap(w, "     § ", 7, c)
		}
	}
}

// cutSource splits the closing parenthesis off a reason.
func cutSource(text string) (sentence, source string) {
	depth := 0
	for i := len(text) - 1; i >= 0; i-- {
		switch text[i] {
		case ')':
			depth++
		case '(':
			depth--
		}
		if depth == 0 {
			if text[i] == '(' && i > 0 {
				return strings.TrimSpace(text[:i]), text[i+1 : len(text)-1]
			}
			break
		}
	}
	return text, ""
}
