package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"bailiwick/acme"
	"bailiwick/geodns"
	"bailiwick/geodns/dnssec"
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
	Node   string         `help:"This node's name, of no other node, or Consul takes the two for one: its acknowledgements carry it, and NSID tells it. The machine's host name when none is given." default:"${host}" placeholder:"NAME"`
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
	d, err := c.open(e)
	if err != nil {
		return err
	}
	defer d.close()
	return d.run(e)
}

// nameServer is a DNS node with its listeners open.
type nameServer struct {
	*dnsCmd
	*node
	zone       string // as the server was told it
	srv        *geodns.Server
	web        net.Listener // nil: no HTTP
	secrets    *cookies
	challenges *acme.Challenges
	keys       *signing                    // nil: the zone is unsigned
	renew      func(context.Context) error // nil: no certificate
	sample     io.Closer                   // of queries; nil: none
}

func (c *dnsCmd) check() error {
	in := store.Instance{ID: c.Node, Service: acme.Service, Addr: netip.MustParseAddrPort("127.0.0.1:53")} // the name is what may be wrong
	if err := errors.Join(store.CheckInstance(in), store.CheckKey("bailiwick/acks/"+c.Node)); err != nil {
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

func (c *dnsCmd) open(e *env) (*nameServer, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	st, err := c.openStore("")
	if err != nil {
		return nil, err
	}
	n, err := newNode(e, c.Node, c.mapFlags, st, params(c.ProbeInterval), c.State)
	if err != nil {
		return nil, err
	}
	if n.roots, err = c.roots(); err != nil {
		return nil, err
	}
	m := n.world.Current().Map
	d := &nameServer{dnsCmd: c, node: n, zone: m.Zone, secrets: newCookies(st, e.log, time.Now())}
	if err := d.listen(e, m); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *nameServer) listen(e *env, m *region.Map) error {
	signs, err := d.dnssecFlags.config(d.zone)
	if err != nil {
		return misuse{err}
	}
	config, err := d.config(e, m)
	if err != nil {
		return err
	}
	if d.srv, err = geodns.Listen(config); err != nil {
		return listenError(fmt.Errorf("dns: %w", err), "name another address with --listen or --dot")
	}
	d.challenges = challenges(e, d.store, d.Node, d.srv.Addr(), d.NS)
	if d.DNSSEC {
		d.keys = newSigning(signs, d.store, e.log)
		d.keys.zone, d.keys.path, d.keys.swap = d.zone, signingPath(d.State, d.zone), d.srv.SetSigner
		if err := d.keys.register(d.metrics, d.srv.SignatureExpires); err != nil {
			return err
		}
	}
	if d.HTTP != "" {
		if d.web, err = net.Listen("tcp", d.HTTP); err != nil {
			return listenError(fmt.Errorf("dns: http: %w", err), "name another address with --http")
		}
	}
	return nil
}

// config is the server's, with all that it needs read and checked.
func (d *nameServer) config(e *env, m *region.Map) (config geodns.Config, err error) {
	table, err := d.table(m)
	if err != nil {
		return config, misuse{err}
	}
	d.signed = d.DNSSEC
	records, err := d.records(m.Zone)
	if err != nil {
		return config, misuse{err}
	}
	config = geodns.Config{Addr: d.Listen, Node: d.Node, Zone: m.Zone, NS: d.NS, Why: d.Why, World: d.world.Current, Changes: d.world.Subscribe, Geo: table,
		Records: records, Secrets: d.secrets.Secrets, Challenges: func(name string) []string { return d.challenges.Lookup(name) }, Rate: d.Rate, Log: e.log, Registry: d.metrics}
	names := records.NameServers(m.Zone)
	secure, err := d.certificate(e, d.node, d.State, names[0], "dns", names)
	if err != nil {
		return config, err
	}
	config.TLS, d.renew, config.DoT = secure.config, secure.renew, d.DoT
	sample, err := d.queryLogFlags.open(e)
	if err != nil {
		return config, err
	}
	if sample != nil {
		d.sample, config.QueryLog, config.QueryLogRate = sample, sample, d.QueryLogRate
	}
	return config, nil
}

func (d *nameServer) close() {
	if d.srv != nil {
		d.srv.Close()
	}
	if d.web != nil {
		d.web.Close()
	}
	if d.sample != nil {
		d.sample.Close()
	}
}

func (d *nameServer) run(e *env) error {
	g, ctx := errgroup.WithContext(e.ctx)
	keep := func(run func(context.Context) error) {
		g.Go(func() error { return quiet(ctx, run(ctx)) })
	}
	if d.web != nil {
		web := &http.Server{Handler: d.observability(d.keys), ReadHeaderTimeout: 10 * time.Second}
		g.Go(func() error {
			if err := web.Serve(d.web); err != http.ErrServerClosed {
				return err
			}
			return nil
		})
		g.Go(func() error { <-ctx.Done(); return web.Close() })
	}
	d.follow(d.ZoneFile)
	d.node.run(ctx, g, func(m *region.Map) []string {
		return []string{d.zoneFlags.reload(e, d.srv, d.zone), d.place(m, d.srv.SetGeo)}
	})
	keep(d.secrets.run)
	if d.keys != nil {
		d.keys.start(ctx)
		if err := d.keys.await(ctx); err != nil {
			return g.Wait()
		}
		keep(d.keys.run)
	}
	keep(d.srv.Serve)
	keep(d.challenges.Run)
	overTLS := ""
	if d.renew != nil {
		keep(d.renew)
		overTLS = fmt.Sprintf("  tls      %s\n", d.srv.DoT())
	}
	fmt.Fprintf(e.stdout, "ready\n  dns      %s (UDP and TCP), zone %s\n%s", d.srv.Addr(), d.zone, overTLS)
	return g.Wait()
}

// zoneFlags name the zone's static records.
type zoneFlags struct {
	ZoneFile string `help:"Zone file with the static records of the zone: NS, MX, TXT, CAA, A and so on, beside the names that steer." name:"zone-file" placeholder:"FILE"`

	signed bool // the records must fit a signed zone
}

// records reads and checks the zone file; nil without one.
func (f *zoneFlags) records(zone string) (*geodns.Records, error) {
	if f.ZoneFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(f.ZoneFile)
	if err != nil {
		return nil, fmt.Errorf("--zone-file: %w", err)
	}
	z, err := geodns.ParseRecords(zone, f.ZoneFile, b)
	if err == nil && f.signed {
		err = z.Signable(dnssec.DefaultPolicy().ZoneTTL)
	}
	return z, err
}

// reload puts a changed zone file in force. taken is that file, or empty where it was
// refused.
func (f *zoneFlags) reload(e *env, srv *geodns.Server, zone string) (taken string) {
	z, err := f.records(zone)
	if err == nil {
		err = srv.SetRecords(z)
	}
	if err != nil {
		e.log.Error("zone file not reloaded: the last good one stays in force", "file", f.ZoneFile, "err", err)
		return ""
	}
	return f.ZoneFile
}

// observability serves what a DNS node says of itself; keys is nil for an unsigned zone.
func (n *node) observability(keys *signing) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if keys != nil && !keys.signed() {
			http.Error(w, "no dnssec keys yet, from the store or from a file", http.StatusServiceUnavailable)
			return
		}
		select {
		case <-n.world.Synced():
			w.Write([]byte("ok\n"))
		default:
			http.Error(w, "no word from the store yet, and no last-known-good file", http.StatusServiceUnavailable)
		}
	})
	return mux
}
