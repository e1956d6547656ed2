package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"bailiwick/geodns/check"
	"bailiwick/geodns/geo"
	"bailiwick/region"
	"bailiwick/residency"
)

// zone reads what the zone should be, and whom to ask.
func (c *dnsCheckCmd) zone() (z check.Zone, err error) {
	m, err := readMap(c.Map)
	if err != nil {
		return z, err
	}
	z = check.Zone{Name: m.Zone, Served: m.Served, Subnets: c.Subnet, DoT: c.DoT, TLSName: c.TLSName, Timeout: c.Timeout,
		Servers: addrPorts(c.Server), Parents: addrPorts(c.Parent)}
	if z.NS, err = c.nameServers(m.Zone); err != nil {
		return z, misuse{err}
	}
	if len(z.Subnets) == 0 {
		z.Subnets, z.Guessed = networks(m)
	}
	if len(z.Servers) == 0 {
		for _, name := range slices.Sorted(maps.Keys(z.NS)) {
			for _, a := range z.NS[name] {
				z.Servers = append(z.Servers, netip.AddrPortFrom(a, 53))
			}
		}
	}
	if len(z.Servers) == 0 {
		return z, misuse{errors.New("no node to ask: name them with --server, or the name servers' addresses with --ns or --zone-file")}
	}
	if c.TLSCA != "" {
		b, err := os.ReadFile(c.TLSCA)
		if err != nil {
			return z, misuse{fmt.Errorf("--tls-ca: %w", err)}
		}
		if z.Roots = x509.NewCertPool(); !z.Roots.AppendCertsFromPEM(b) {
			return z, misuse{fmt.Errorf("--tls-ca: %s: holds no certificate in PEM", c.TLSCA)}
		}
	}
	return z, nil
}

// nameServers are the zone file's; without NS records there it is ns1, with the
// addresses given.
func (c *dnsCheckCmd) nameServers(zone string) (map[string][]netip.Addr, error) {
	if _, err := c.records(zone, false); err != nil { // with every fault that a node would find
		return nil, err
	}
	own := map[string][]netip.Addr{"ns1." + zone: c.NS}
	if c.ZoneFile == "" {
		return own, nil
	}
	f, err := os.Open(c.ZoneFile)
	if err != nil {
		return nil, fmt.Errorf("--zone-file: %w", err)
	}
	defer f.Close()
	ns, err := check.NameServers(zone, c.ZoneFile, f)
	if len(ns) == 0 {
		ns = own
	}
	return ns, err
}

// networks are of clients that a node of the map must find an edge for: by the map's own
// overrides, of two countries. Without such overrides they are a guess: those of the
// built-in places, which only bailiwick dev has.
func networks(m *region.Map) (list []netip.Prefix, guessed bool) {
	pick := func(places []region.Override) (list []netip.Prefix) {
		seen := map[residency.Jurisdiction]bool{}
		for _, o := range places {
			j := o.Place.Jurisdiction
			served := slices.Contains(m.Served, j) || slices.Contains(m.Served, j.Country())
			if served && !seen[j.Country()] && len(list) < 2 {
				seen[j.Country()] = true
				list = append(list, o.Prefix)
			}
		}
		return list
	}
	if list = pick(m.Geo); len(list) > 0 {
		return list, false
	}
	return pick(geo.BuiltIn()), true
}
