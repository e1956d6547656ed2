package main

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The servers that ratios are of.
const (
	gdnsdName     = "gdnsd, nets"
	ownSignedName = "bailiwick, signed"
	knotSigned    = "Knot, mod-geoip geodb, signed"
)

// ownCommand is this program as the DNS server.
func ownCommand(_ string, at netip.AddrPort, p plan) (argv, env []string, err error) {
	self, err := os.Executable()
	return []string{self}, []string{roleVar + "=" + at.String(), dbVar + "=" + p.db}, err
}

func ownSigned(dir string, at netip.AddrPort, p plan) (argv, env []string, err error) {
	argv, env, err = ownCommand(dir, at, p)
	return argv, append(env, signVar+"=1"), err
}

// peers are the servers to compare with, one thread each, their rate limits and
// logs of queries off.
func peers() []*server {
	return []*server{
		{name: gdnsdName, binary: "gdnsd", pkg: "gdnsd", ask: "-V", command: gdnsd},
		{name: "Knot, mod-geoip subnet", binary: "knotd", pkg: "knot knot-module-geoip", ask: "--version",
			command: func(dir string, at netip.AddrPort, p plan) ([]string, []string, error) {
				return knot(dir, at, p, false, false)
			}},
		{name: "Knot, mod-geoip geodb", binary: "knotd", pkg: "knot knot-module-geoip", ask: "--version",
			command: func(dir string, at netip.AddrPort, p plan) ([]string, []string, error) {
				return knot(dir, at, p, true, false)
			}},
		{name: "NSD, static", binary: "nsd", pkg: "nsd", ask: "-v", command: nsd, static: true},
		{name: ownSignedName, command: ownSigned, signed: true},
		// In mode subnet it would sign each of its prefixes, for minutes; this mode is
		// also the faster.
		{name: knotSigned, binary: "knotd", pkg: "knot knot-module-geoip", ask: "--version", signed: true,
			command: func(dir string, at netip.AddrPort, p plan) ([]string, []string, error) {
				return knot(dir, at, p, true, true)
			}},
	}
}

// zoneText has a static join, for the server that knows no places.
const zoneText = `$ORIGIN ` + zone + `.
$TTL 3600
@ SOA ns1 hostmaster 1 3600 600 604800 5
@ NS ns1
ns1 A 127.0.0.1
`

// put writes the files of one server; the names are relative to dir.
func put(dir string, files map[string]string) error {
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func gdnsd(dir string, at netip.AddrPort, p plan) (argv, env []string, err error) {
	var centers, nets strings.Builder
	for i := range p.regions {
		fmt.Fprintf(&centers, "      %s => %s\n", p.regions[i], edgeAddr(i))
	}
	for _, t := range p.prefixes {
		fmt.Fprintf(&nets, "%s => %s\n", t.prefix, p.regions[t.region])
	}
	names := make([]string, len(p.regions))
	for i, r := range p.regions {
		names[i] = string(r)
	}
	err = put(dir, map[string]string{
		"etc/config": fmt.Sprintf(`options => {
  listen => [ "%s" ], udp_threads => 1, tcp_threads => 1
  run_dir => %s/run, state_dir => %s/state
}
plugins => { geoip => {
  maps => { m => { datacenters => [ %s ], nets => nets } }
  resources => { join => { map => m, service_types => up, dcmap => {
%s  } } }
} }
`, at, dir, dir, strings.Join(names, ", "), centers.String()),
		"etc/geoip/nets":    nets.String(),
		"etc/zones/" + zone: zoneText + "join 5 DYNA geoip!join\n",
		"run/.keep":         "",
		"state/.keep":       "",
	})
	return []string{"gdnsd", "-c", dir + "/etc", "start"}, nil, err
}

// knot places by the list of networks, or by the country database itself, if there
// is one.
func knot(dir string, at netip.AddrPort, p plan, geodb, signed bool) (argv, env []string, err error) {
	var conf strings.Builder
	fmt.Fprintf(&conf, "%s:\n", joinName[:len(joinName)-1])
	mode := "mode: subnet"
	if geodb && p.db != "" {
		mode = fmt.Sprintf("mode: geodb\n    geodb-file: %q\n    geodb-key: country/iso_code", p.db)
		for _, j := range slices.Sorted(maps.Keys(p.homes)) {
			fmt.Fprintf(&conf, "  - geo: %q\n    A: %s\n", j, p.homes[j])
		}
	} else {
		for _, t := range p.prefixes {
			fmt.Fprintf(&conf, "  - net: %s\n    A: %s\n", t.prefix, edgeAddr(t.region))
		}
	}
	signing := ""
	if signed {
		signing = "    dnssec-signing: on\n    dnssec-policy: csk\n"
	}
	err = put(dir, map[string]string{
		"geo.conf": conf.String(),
		"db/.keep": "",
		"zone":     zoneText + "join 5 A " + edgeAddr(0).String() + "\n",
		"knot.conf": fmt.Sprintf(`server:
    listen: %s@%d
    rundir: %q
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    edns-client-subnet: on
log:
  - target: stderr
    any: warning
database:
    storage: %q
control:
    listen: %q
policy:
  - id: csk
    algorithm: ecdsap256sha256
    single-type-signing: on
mod-geoip:
  - id: join
    config-file: %q
    ttl: 5
    %s
zone:
  - domain: %s
    file: %q
    zonefile-sync: -1
    journal-content: none
    module: mod-geoip/join
%s`, at.Addr(), at.Port(), dir, dir+"/db", dir+"/knot.sock", dir+"/geo.conf", mode, zone, dir+"/zone", signing),
	})
	if err == nil && signed {
		// The module is loaded before the zone has made its keys: without any it is left out.
		out, failed := exec.Command("keymgr", "-c", dir+"/knot.conf", zone, "generate", "algorithm=ecdsap256sha256", "ksk=yes", "zsk=yes").CombinedOutput()
		if failed != nil {
			err = fmt.Errorf("keymgr: %w: %s", failed, lastLine(string(out)))
		}
	}
	return []string{"knotd", "-c", dir + "/knot.conf"}, nil, err
}

func nsd(dir string, at netip.AddrPort, _ plan) (argv, env []string, err error) {
	err = put(dir, map[string]string{
		"zone": zoneText + "join 5 A " + edgeAddr(0).String() + "\n",
		"nsd.conf": fmt.Sprintf(`server:
    server-count: 1
    ip-address: %s@%d
    username: ""
    chroot: ""
    zonesdir: %q
    database: ""
    pidfile: %q
    xfrdfile: %q
    zonelistfile: %q
    xfrdir: %q
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: %s
    zonefile: zone
`, at.Addr(), at.Port(), dir, dir+"/pid", dir+"/xfrd.state", dir+"/zone.list", dir, zone),
	})
	return []string{"nsd", "-d", "-c", dir + "/nsd.conf"}, nil, err
}
