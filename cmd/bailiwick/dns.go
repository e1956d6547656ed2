package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"bailiwick/geodns"
	"bailiwick/geodns/dnssec"
	"bailiwick/region"
	"bailiwick/store/consul"
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
	Node   string         `help:"This node's name: its acknowledgements carry it, and NSID tells it." default:"dns-1"`
	Listen netip.AddrPort `help:"UDP and TCP address." default:"0.0.0.0:53"`
	NS     []netip.Addr   `help:"Addresses of ns1.ZONE; the listen address when none is given." name:"ns"`
	HTTP   string         `help:"Address for /metrics, /livez and /readyz." placeholder:"ADDR"`
	Rate   int            `help:"UDP answers a second that one client network (/24, /56) gets of each class without a cookie; 0 is no limit." default:"200"`
	Why    []netip.Prefix `help:"Networks that may ask _why.join.ZONE, beside loopback."`
	dotFlags
	queryLogFlags
}

// dotFlags are DNS over TLS.
type dotFlags struct {
	DoT     netip.AddrPort `help:"TCP address of DNS over TLS, e.g. 0.0.0.0:853; needs --tls-cert and --tls-key." name:"dot" placeholder:"ADDR"`
	TLSCert string         `help:"Certificate and its chain, PEM; read again when it changes." placeholder:"FILE"`
	TLSKey  string         `help:"The certificate's private key, PEM." placeholder:"FILE"`
}

// pair is nil without DNS over TLS.
func (f *dotFlags) pair() (*keyPair, error) {
	switch given := f.TLSCert != "" && f.TLSKey != ""; {
	case f.DoT.IsValid() && given:
		k, err := readKeyPair(f.TLSCert, f.TLSKey)
		if err != nil {
			return nil, misuse{fmt.Errorf("--tls-cert, --tls-key: %w", err)}
		}
		return k, nil
	case f.DoT.IsValid():
		return nil, misuse{errors.New("--dot: DNS over TLS needs --tls-cert and --tls-key")}
	case f.TLSCert != "" || f.TLSKey != "":
		return nil, misuse{errors.New("--tls-cert and --tls-key serve --dot: name its address, e.g. --dot 0.0.0.0:853")}
	}
	return nil, nil
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
	st, err := consul.New(c.Consul, "")
	if err != nil {
		return misuse{err}
	}
	n, err := newNode(e, c.Node, c.mapFlags, st, params(c.ProbeInterval), c.State)
	if err != nil {
		return err
	}
	if n.roots, err = c.roots(); err != nil {
		return err
	}
	m := n.world.Current().Map
	table, err := n.table(m)
	if err != nil {
		return misuse{err}
	}
	c.signed = c.DNSSEC
	records, err := c.records(m.Zone)
	if err != nil {
		return misuse{err}
	}
	signs, err := c.config(m.Zone)
	if err != nil {
		return misuse{err}
	}
	pair, err := c.pair()
	if err != nil {
		return err
	}
	secrets := newCookies(st, e.log, time.Now())
	config := geodns.Config{Addr: c.Listen, Node: c.Node, Zone: m.Zone, NS: c.NS, Why: c.Why, World: n.world.Current, Changes: n.world.Subscribe, Geo: table,
		Records: records, Secrets: secrets.Secrets, Rate: c.Rate, Log: e.log, Registry: n.metrics}
	if pair != nil {
		config.DoT, config.TLS = c.DoT, &tls.Config{GetCertificate: pair.GetCertificate}
	}
	sample, err := c.queryLogFlags.open(e)
	if err != nil {
		return err
	}
	if sample != nil {
		defer sample.Close()
		config.QueryLog, config.QueryLogRate = sample, c.QueryLogRate
	}
	srv, err := geodns.Listen(config)
	if err != nil {
		return listenError(fmt.Errorf("dns: %w", err), "name another address with --listen or --dot")
	}
	defer srv.Close()
	var keys *signing
	if c.DNSSEC {
		keys = newSigning(signs, st, e.log)
		keys.zone, keys.path, keys.swap = m.Zone, signingPath(c.State, m.Zone), srv.SetSigner
		if err := keys.register(n.metrics, srv.SignatureExpires); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(e.ctx)
	if c.HTTP != "" {
		l, err := net.Listen("tcp", c.HTTP)
		if err != nil {
			return listenError(fmt.Errorf("dns: http: %w", err), "name another address with --http")
		}
		web := &http.Server{Handler: n.observability(keys), ReadHeaderTimeout: 10 * time.Second}
		g.Go(func() error {
			if err := web.Serve(l); err != http.ErrServerClosed {
				return err
			}
			return nil
		})
		g.Go(func() error { <-ctx.Done(); return web.Close() })
	}
	n.follow(c.ZoneFile)
	zone := m.Zone // as the server was told it
	n.run(ctx, g, func(m *region.Map) {
		c.reload(e, srv, zone)
		n.place(m, srv.SetGeo)
	})
	g.Go(func() error { return quiet(ctx, secrets.run(ctx)) })
	if keys != nil {
		keys.start(ctx)
		if err := keys.await(ctx); err != nil {
			return g.Wait()
		}
		g.Go(func() error { return quiet(ctx, keys.run(ctx)) })
	}
	g.Go(func() error { return quiet(ctx, srv.Serve(ctx)) })
	overTLS := ""
	if pair != nil {
		g.Go(func() error { return pair.run(ctx, e.log) })
		overTLS = fmt.Sprintf("  tls      %s\n", srv.DoT())
	}
	fmt.Fprintf(e.stdout, "ready\n  dns      %s (UDP and TCP), zone %s\n%s", srv.Addr(), m.Zone, overTLS)
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

// reload puts a changed zone file in force.
func (f *zoneFlags) reload(e *env, srv *geodns.Server, zone string) {
	z, err := f.records(zone)
	if err == nil {
		err = srv.SetRecords(z)
	}
	if err != nil {
		e.log.Error("zone file not reloaded: the last good one stays in force", "err", err)
	}
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
