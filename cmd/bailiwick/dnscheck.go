package main

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"bailiwick/geodns/check"
)

// dnsCheckCmd is what an operator runs before the parent delegates the zone, and from
// then on in monitoring.
type dnsCheckCmd struct {
	Map string `help:"The region map, which names the zone and whom it serves." default:"regions.yaml" placeholder:"FILE"`
	zoneFlags
	Server  []serverAddr   `help:"A DNS node, with its port if it is not 53; one flag each. The addresses of the zone's name servers when none is given." placeholder:"ADDR"`
	NS      []netip.Addr   `help:"Addresses that ns1.ZONE should have, where there is no zone file." name:"ns"`
	Parent  []serverAddr   `help:"A server of the parent zone: its delegation and DS are compared." placeholder:"ADDR"`
	Subnet  []netip.Prefix `help:"Client networks that must have an edge, of different countries; when none is given, the map's overrides, else those of bailiwick dev, which other nodes need not place."`
	DoT     uint16         `help:"Check DNS over TLS at this port of the nodes." name:"dot" placeholder:"PORT"`
	TLSName string         `help:"The name that the certificate should have; the zone's first name server when none is given." placeholder:"NAME"`
	TLSCA   string         `help:"Certificates that it may descend from, PEM, in place of the system's." name:"tls-ca" placeholder:"FILE"`
	Timeout time.Duration  `help:"How long an answer may take." default:"3s"`
	JSON    bool           `help:"Print JSON."`
}

func (dnsCheckCmd) Help() string {
	return `Asks every node over UDP and TCP: SOA, NS and their addresses, steering and ECS scopes,
the probes of RFC 8906, cookies, sizes, DNSSEC; and whether the nodes agree. Exits 1 when
a check fails, and says what to do. A warning is of a check that could prove nothing.

Example:
  bailiwick dns check --server 192.0.2.53 --server 198.51.100.53 \
    --parent 192.0.2.1 --dot 853`
}

func (c *dnsCheckCmd) Run(e *env) error {
	z, err := c.zone()
	if err != nil {
		return err
	}
	return c.print(e.stdout, z.Run(e.ctx))
}

func (c *dnsCheckCmd) print(w io.Writer, rows []check.Row) error {
	bad, warned := 0, 0
	for _, r := range rows {
		switch {
		case !r.OK:
			bad++
		case r.Do != "":
			warned++
		}
	}
	if c.JSON {
		if err := printJSON(w, rows); err != nil {
			return err
		}
	} else {
		var table bytes.Buffer
		t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "SERVER\tCHECK\tRESULT\tDETAIL")
		for _, r := range rows {
			result := "ok"
			switch {
			case !r.OK:
				result = "FAIL"
			case r.Do != "":
				result = "warn"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Server, r.Check, result, r.Detail)
		}
		t.Flush()
		narrow(w, table.String(), "DETAIL")
		advise(w, rows)
		fmt.Fprintf(w, "%s, %d failed, %s\n", count(len(rows), "check"), bad, count(warned, "warning"))
	}
	if bad > 0 {
		return errFinding
	}
	return nil
}

// advise prints what helps, once for all the checks that it helps.
func advise(w io.Writer, rows []check.Row) {
	var order []string
	checks := map[string][]string{}
	for _, r := range rows {
		if r.Do == "" {
			continue
		}
		if checks[r.Do] == nil {
			order = append(order, r.Do)
		}
		if !slices.Contains(checks[r.Do], r.Check) {
			checks[r.Do] = append(checks[r.Do], r.Check)
		}
	}
	for _, do := range order {
		wrap(w, "", 2, strings.Join(checks[do], ", ")+": "+do)
	}
}
