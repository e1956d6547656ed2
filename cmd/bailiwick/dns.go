package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"bailiwick/acme"
	"bailiwick/geodns"
	"bailiwick/geodns/zonefile"
	"bailiwick/nameserver"
	"bailiwick/region"
	"bailiwick/store"
)

// dnsVerbs: a DNS node runs without a verb of its own, too.
type dnsVerbs struct {
	Serve dnsCmd      `cmd:"" default:"withargs" help:"Run one DNS node; what bailiwick dns does without a verb."`
	Check dnsCheckCmd `cmd:"" name:"check" help:"Ask DNS nodes, and the parent, whether the zone is served as it should be."`
	DS    dsCmd       `cmd:"" name:"ds" help:"Print the DS records for the parent zone."`
	Keys  keysCmd     `cmd:"" help:"List the keys of a signed zone, and what happens next."`
	Roll  rollCmd     `cmd:"" help:"Start to replace a key of a signed zone."`
}

func (dnsVerbs) Help() string {
	return `Example:
  bailiwick dns --listen 127.0.0.1:8053 --consul 127.0.0.1:8500 --state ./state --geo country.mmdb
  bailiwick dns serve --help
  bailiwick dns check --server 192.0.2.53 --server 198.51.100.53
  bailiwick dns ds
  bailiwick dns keys
  bailiwick dns roll --help`
}

type dnsCmd struct {
	nodeFlags
	zoneFlags
	dnssecFlags
	Node   string         `help:"This node's name, of no other node, or Consul takes the two for one: its lease carries it, and NSID tells it. The machine's host name when none is given." default:"${host}" placeholder:"NAME"`
	Listen netip.AddrPort `help:"UDP and TCP address." default:"0.0.0.0:53"`
	NS     []netip.Addr   `help:"Addresses of ns1.ZONE; the listen address when none is given." name:"ns"`
	HTTP   string         `help:"Address for /metrics, /livez and /readyz." placeholder:"ADDR"`
	Rate   int            `help:"UDP answers a second that one client network (/24, /56) gets of each class without a cookie; 0 is no limit." default:"200"`
	Why    []netip.Prefix `help:"Networks that may ask _why.join.ZONE, beside loopback."`
	dotFlags
	queryLogFlags
}

// nodeOf makes a DNS node's name of its machine's host name, of what the store and NSID
// take: two nodes must not share one.
func nodeOf(host string) string {
	name := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.", r) {
			return r
		}
		return -1
	}, strings.ToLower(host))
	if name = strings.Trim(name, "."); len(name) > geodns.MaxNode {
		name, _, _ = strings.Cut(name, ".")
	}
	if name == "" || len(name) > geodns.MaxNode {
		return "dns-1"
	}
	return name
}

// dotFlags are DNS over TLS.
type dotFlags struct {
	DoT netip.AddrPort `help:"TCP address of DNS over TLS, e.g. 0.0.0.0:853; needs --tls-cert and --tls-key, or --acme." name:"dot" placeholder:"ADDR"`
	certFlags
}

func (f *dotFlags) check() error {
	if err := f.certFlags.check(); err != nil {
		return err
	}
	switch {
	case f.DoT.IsValid() && !f.given():
		return misuse{errors.New("--dot: DNS over TLS needs a certificate: --tls-cert and --tls-key, or --acme")}
	case !f.DoT.IsValid() && f.given():
		return misuse{errors.New("--tls-cert, --tls-key and --acme serve --dot: name its address, e.g. --dot 0.0.0.0:853")}
	}
	return nil
}

// queryLogFlags are the sample of the queries.
type queryLogFlags struct {
	QueryLog     string `help:"Write a sample of the queries here as JSON lines, - for stdout: networks in place of clients, no stranger's name." placeholder:"FILE"`
	QueryLogRate int    `help:"Lines a second at most." default:"10"`
}

// open is nil without a log. A file is appended to.
func (f *queryLogFlags) open(e *env) (io.WriteCloser, error) {
	switch {
	case f.QueryLog == "":
		return nil, nil
	case f.QueryLogRate <= 0:
		return nil, misuse{fmt.Errorf("--query-log-rate %d: want at least 1 line a second, or no --query-log", f.QueryLogRate)}
	case f.QueryLog == "-":
		return struct {
			io.Writer
			io.Closer
		}{e.stdout, io.NopCloser(nil)}, nil
	}
	w, err := os.OpenFile(f.QueryLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, misuse{fmt.Errorf("--query-log: %w", err)}
	}
	return w, nil
}

func (dnsCmd) Help() string {
	return `Answers for the zone of the region map, from the world that Consul and its own probes
tell. Losing Consul changes nothing that is known.

Example:
  bailiwick dns serve --listen 127.0.0.1:8053 --consul 127.0.0.1:8500 --state ./state --geo country.mmdb`
}

func (c *dnsCmd) Run(e *env) error {
	if err := c.check(); err != nil {
		return err
	}
	n, err := newNode(e, c.Node, c.mapFlags, c.stores, params(c.ProbeInterval), c.State)
	if err != nil {
		return err
	}
	if n.roots, err = c.roots(); err != nil {
		return err
	}
	config, secure, err := c.config(e, n)
	if err != nil {
		return err
	}
	sample, err := c.queryLogFlags.open(e)
	if err != nil {
		return err
	}
	if sample != nil {
		defer sample.Close()
		config.QueryLog, config.QueryLogRate = sample, c.QueryLogRate
	}
	s, err := nameserver.New(config)
	if err != nil {
		return listenError(err, "name another address with --listen, --dot or --http")
	}
	g, ctx := errgroup.WithContext(e.ctx)
	n.follow(c.ZoneFile)
	n.run(ctx, g, func(m *region.Map) []string {
		return []string{s.Reload(), n.place(m, func(p *places) { s.SetGeo(p.table) })}
	})
	g.Go(func() error { return s.Run(ctx) })
	select {
	case <-s.Ready():
	case <-ctx.Done():
		return g.Wait()
	}
	if !n.synced() {
		return g.Wait()
	}
	overTLS := ""
	if secure.renew != nil {
		g.Go(func() error { return quiet(ctx, secure.renew(ctx)) })
		overTLS = fmt.Sprintf("  tls      %s\n", s.DoT())
	}
	fmt.Fprintf(e.stdout, "ready\n  dns      %s (UDP and TCP), zone %s\n%s", s.Addr(), config.World.Current().Map.Zone, overTLS)
	return g.Wait()
}

// config is the node's, with all that it needs read and checked but the query log.
func (c *dnsCmd) config(e *env, n *node) (config nameserver.Config, secure certified, err error) {
	m := n.world.Current().Map
	config = nameserver.Config{Node: c.Node, Listen: c.Listen, NS: c.NS, HTTP: c.HTTP, Rate: c.Rate, Why: c.Why, DoT: c.DoT, ZoneFile: c.ZoneFile,
		State: c.State, World: n.world, Store: n.first(), Metrics: n.metrics, Log: e.log}
	if config.DNSSEC, err = c.dnssecFlags.config(); err != nil {
		return config, secure, misuse{err}
	}
	where, err := n.places(m)
	if err != nil {
		return config, secure, misuse{err}
	}
	config.Geo = where.table // the database itself is of use to who explains
	if config.Records, err = c.records(m.Zone, c.DNSSEC); err != nil {
		return config, secure, misuse{err}
	}
	names := config.Records.NameServers(m.Zone)
	secure, err = c.certificate(e, n, c.State, names[0], "dns", names)
	config.TLS = secure.config
	return config, secure, err
}

func (c *dnsCmd) check() error {
	in := store.Instance{ID: c.Node, Service: acme.Service, Addr: netip.MustParseAddrPort("127.0.0.1:53")} // the name is what may be wrong
	if err := store.CheckInstance(in); err != nil {
		return misuse{fmt.Errorf("--node: %w", err)}
	}
	if c.Rate < 0 {
		return misuse{fmt.Errorf("--rate %d: want answers a second, or 0 for no limit", c.Rate)}
	}
	if err := c.nodeFlags.check(); err != nil {
		return err
	}
	return c.dotFlags.check()
}

// zoneFlags name the zone's static records.
type zoneFlags struct {
	ZoneFile string `help:"Zone file with the static records of the zone: NS, MX, TXT, CAA, A and so on, beside the names that steer." name:"zone-file" placeholder:"FILE"`
}

// records reads and checks the zone file; nil without one.
func (f *zoneFlags) records(zone string, signed bool) (*zonefile.Records, error) {
	z, err := nameserver.ReadZone(f.ZoneFile, zone, signed)
	if errors.As(err, new(*fs.PathError)) {
		err = fmt.Errorf("--zone-file: %w", err)
	}
	return z, err
}
