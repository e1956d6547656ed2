package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/geo"
	"bailiwick/region"
	"bailiwick/residency"
)

// dnsCheckCmd is what an operator runs before the parent delegates the zone, and from
// then on in monitoring.
type dnsCheckCmd struct {
	Map string `help:"The region map, which names the zone and whom it serves." default:"regions.yaml" placeholder:"FILE"`
	zoneFlags
	Server  []string       `help:"A DNS node, with its port if it is not 53; one flag each. The addresses of the zone's name servers when none is given." placeholder:"ADDR"`
	NS      []netip.Addr   `help:"Addresses that ns1.ZONE should have, where there is no zone file." name:"ns"`
	Parent  []string       `help:"A server of the parent zone: its delegation and DS are compared." placeholder:"ADDR"`
	Subnet  []netip.Prefix `help:"Client networks to ask for, of different countries; some of the map's when none is given."`
	DoT     uint16         `help:"Check DNS over TLS at this port of the nodes." name:"dot" placeholder:"PORT"`
	TLSName string         `help:"The name that the certificate should have; ns1.ZONE when none is given." placeholder:"NAME"`
	TLSCA   string         `help:"Certificates that it may descend from, PEM, in place of the system's." name:"tls-ca" placeholder:"FILE"`
	Timeout time.Duration  `help:"How long an answer may take." default:"3s"`
	JSON    bool           `help:"Print JSON."`
}

func (dnsCheckCmd) Help() string {
	return `Asks every node over UDP and TCP: SOA, NS and their addresses, steering and ECS scopes,
the probes of RFC 8906, cookies, sizes, DNSSEC; and whether the nodes agree. Exits 1 when
a check fails, and says what to do.

Example:
  bailiwick dns check --server 192.0.2.53 --server 198.51.100.53 --parent 192.0.2.1 --dot 853`
}

// checked is one row.
type checked struct {
	Server string `json:"server"`
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Do     string `json:"do,omitempty"`
}

// zoneCheck is what all checks share.
type zoneCheck struct {
	ctx     context.Context
	zone    string // with the final dot
	served  []residency.Jurisdiction
	subnets []netip.Prefix
	names   []string                // that the zone's NS should be, sorted
	glue    map[string][]netip.Addr // their addresses, sorted; nil: not known here
	timeout time.Duration
	rows    []checked
}

// row keeps what a check found. do says what helps when it failed.
func (z *zoneCheck) row(server, check, do string, detail string, err error) bool {
	c := checked{Server: server, Check: check, OK: err == nil, Detail: detail}
	if err != nil {
		c.Detail, c.Do = err.Error(), do
	}
	z.rows = append(z.rows, c)
	return c.OK
}

func (c *dnsCheckCmd) Run(e *env) error {
	z, servers, err := c.plan(e)
	if err != nil {
		return err
	}
	var roots *x509.CertPool
	if c.TLSCA != "" {
		b, err := os.ReadFile(c.TLSCA)
		if err != nil {
			return misuse{fmt.Errorf("--tls-ca: %w", err)}
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(b) {
			return misuse{fmt.Errorf("--tls-ca: %s: holds no certificate in PEM", c.TLSCA)}
		}
	}
	parents, err := endpoints("--parent", c.Parent)
	if err != nil {
		return err
	}
	var said []*said
	for _, s := range servers {
		n := z.node(s)
		if n != nil && c.DoT != 0 {
			name := c.TLSName
			if name == "" {
				name = "ns1." + strings.TrimSuffix(z.zone, ".")
			}
			z.overTLS(netip.AddrPortFrom(s.Addr(), c.DoT), name, roots)
		}
		if n != nil {
			said = append(said, n)
		}
	}
	z.agree(said)
	for _, p := range parents {
		z.parent(p, said)
	}
	return c.print(e.stdout, z.rows)
}

// plan reads what the zone should be.
func (c *dnsCheckCmd) plan(e *env) (*zoneCheck, []netip.AddrPort, error) {
	m, err := readMap(c.Map)
	if err != nil {
		return nil, nil, err
	}
	if _, err := c.records(m.Zone); err != nil {
		return nil, nil, misuse{err}
	}
	z := &zoneCheck{ctx: e.ctx, zone: dns.CanonicalName(m.Zone), served: m.Served, subnets: c.Subnet, glue: map[string][]netip.Addr{}, timeout: c.Timeout}
	if err := z.expect(c.ZoneFile, c.NS); err != nil {
		return nil, nil, misuse{err}
	}
	if len(z.subnets) == 0 {
		z.subnets = countries(m.Geo)
	}
	servers, err := endpoints("--server", c.Server)
	if err != nil {
		return nil, nil, err
	}
	if len(servers) == 0 {
		for _, name := range z.names {
			for _, a := range z.glue[name] {
				servers = append(servers, netip.AddrPortFrom(a, 53))
			}
		}
	}
	if len(servers) == 0 {
		return nil, nil, misuse{errors.New("no node to ask: name them with --server, or the name servers' addresses with --ns or --zone-file")}
	}
	return z, servers, nil
}

// expect reads the name servers out of the zone file; without NS records there it is
// ns1, with the addresses given.
func (z *zoneCheck) expect(file string, ns []netip.Addr) error {
	addrs := map[string][]netip.Addr{}
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("--zone-file: %w", err)
		}
		defer f.Close()
		p := dns.NewZoneParser(f, z.zone, file)
		p.SetDefaultTTL(3600)
		for rr, ok := p.Next(); ok; rr, ok = p.Next() {
			name := dns.CanonicalName(rr.Header().Name)
			if ns, ok := rr.(*dns.NS); ok && name == z.zone {
				z.names = append(z.names, dns.CanonicalName(ns.Ns))
			}
			if a := addressOf(rr); a.IsValid() {
				addrs[name] = append(addrs[name], a)
			}
		}
		if err := p.Err(); err != nil {
			return err
		}
	}
	if len(z.names) == 0 {
		z.names = []string{"ns1." + z.zone}
		addrs[z.names[0]] = ns
	}
	slices.Sort(z.names)
	for _, name := range z.names {
		slices.SortFunc(addrs[name], netip.Addr.Compare)
		z.glue[name] = addrs[name]
	}
	return nil
}

// countries are networks of two countries: of the map's overrides, else of the
// built-in database, which bailiwick dev has.
func countries(overrides []region.Override) (list []netip.Prefix) {
	seen := map[residency.Jurisdiction]bool{}
	for _, o := range append(slices.Clone(overrides), geo.BuiltIn()...) {
		if j := o.Place.Jurisdiction.Country(); j != "" && !seen[j] && len(list) < 2 {
			seen[j] = true
			list = append(list, o.Prefix)
		}
	}
	return list
}

// endpoints are addresses with their port, 53 where there is none.
func endpoints(flag string, list []string) (at []netip.AddrPort, err error) {
	for _, text := range list {
		p, err := netip.ParseAddrPort(text)
		if a, bare := netip.ParseAddr(text); bare == nil {
			p, err = netip.AddrPortFrom(a, 53), nil
		}
		if err != nil {
			return nil, misuse{fmt.Errorf("%s %q: want an IP address, with :PORT if it is not 53", flag, text)}
		}
		at = append(at, p)
	}
	return at, nil
}

func addressOf(rr dns.RR) (a netip.Addr) {
	switch rr := rr.(type) {
	case *dns.A:
		a, _ = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		a, _ = netip.AddrFromSlice(rr.AAAA)
	}
	return a.Unmap()
}

func (c *dnsCheckCmd) print(w io.Writer, rows []checked) error {
	bad := 0
	for _, r := range rows {
		if !r.OK {
			bad++
		}
	}
	if c.JSON {
		if err := printJSON(w, rows); err != nil {
			return err
		}
	} else {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "SERVER\tCHECK\tRESULT\tDETAIL")
		for _, r := range rows {
			result := "ok"
			if !r.OK {
				result = "FAIL"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Server, r.Check, result, r.Detail)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		told := map[string]bool{}
		for _, r := range rows {
			if r.Do != "" && !told[r.Check] {
				told[r.Check] = true
				wrap(w, r.Check+": ", 2, r.Do)
			}
		}
		fmt.Fprintf(w, "%s, %d failed\n", count(len(rows), "check"), bad)
	}
	if bad > 0 {
		return errFinding
	}
	return nil
}
