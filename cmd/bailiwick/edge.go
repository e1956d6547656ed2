package main

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bailiwick/acme"
	"bailiwick/consult/router"
	"bailiwick/edge"
	"bailiwick/region"
)

// nodeFlags are shared by edge and dns.
type nodeFlags struct {
	mapFlags
	tlsRoot
	Consul        string        `help:"Address of the local Consul agent; its token comes from CONSUL_HTTP_TOKEN. Default: the agents that the map names under consul, else 127.0.0.1:8500." placeholder:"ADDR"`
	State         string        `help:"Folder of what a start without Consul needs: the last known good, and copies of the zone's keys and of certificates; and of an edge's events for backends. Its owner alone may read it." placeholder:"DIR"`
	ProbeInterval time.Duration `help:"How often each edge is probed; damping scales with it." default:"5s"`
}

// leastProbeInterval keeps probes from being a load of their own.
const leastProbeInterval = 50 * time.Millisecond

func (f *nodeFlags) check() error {
	if f.ProbeInterval < leastProbeInterval {
		return misuse{fmt.Errorf("--probe-interval %s: want at least %s", f.ProbeInterval, leastProbeInterval)}
	}
	return nil
}

type edgeCmd struct {
	nodeFlags
	certFlags
	ID      string         `help:"This edge's ID: its region's and a suffix, e.g. de-fra-1." required:""`
	Region  string         `help:"This edge's region." required:""`
	Listen  netip.AddrPort `help:"HTTP address; with a certificate HTTPS, which takes TURN over TLS too: 443 passes most firewalls." default:"0.0.0.0:8080"`
	Media   netip.AddrPort `help:"UDP and TCP address of the SFU; where it names none, at the machine's own of --public." default:"0.0.0.0:7882"`
	Turn    netip.AddrPort `help:"UDP and TCP address of the TURN relay; where it names none, at the machine's own of --public." default:"0.0.0.0:3478"`
	Turns   netip.AddrPort `help:"TCP address of TURN over TLS, with a certificate; where it names none, at the machine's own of --public." default:"0.0.0.0:5349"`
	Public  []edge.Address `help:"Address that clients reach: DNS answers it, ICE offers it. One a family; needed when --listen names none. Behind 1:1 NAT it need not be the machine's own, which is the one that it sends from, or OWN." placeholder:"ADDR[/OWN]"`
	Host    string         `help:"Base URL that join links carry; with a certificate it is https://ID.edge.ZONE, and the port of --listen unless that is 443." placeholder:"URL"`
	Admits  int            `help:"Consults that it admits; the map's admission when 0."`
	APIKeys string         `help:"File with the API keys, one a line: KEY name=NAME [tenant=TENANT] roles=backend,operator,viewer." placeholder:"FILE" required:""`
	Metrics string         `help:"Address for /metrics, /livez and /readyz; keep it from strangers." placeholder:"ADDR"`
	Linger  time.Duration  `help:"How long a stopping edge waits for its consults to move." default:"20s"`
}

func (edgeCmd) Help() string {
	return `SFU, TURN relay, consult API and signalling in one process, registered in Consul.
On SIGTERM it leaves the answers first, moves its consults to lawful neighbours, and stops.

Example:
  bailiwick edge --region de-fra --id de-fra-1 --listen 127.0.11.1:8080 \
    --media 127.0.11.1:7882 --turn 127.0.11.1:3478 --api-keys keys.txt --consul 127.0.0.1:8500
  bailiwick edge --region de-fra --id de-fra-1 --listen 0.0.0.0:443 --public 192.0.2.10 \
    --tls-cert chain.pem --tls-key key.pem --api-keys keys.txt

Behind 1:1 NAT, as in most clouds, and with IPv6:
  bailiwick edge --region de-fra --id de-fra-1 --listen 0.0.0.0:443 \
    --public 192.0.2.10 --public 2001:db8::10 \
    --tls-cert chain.pem --tls-key key.pem --api-keys keys.txt
Of several addresses of the machine, 10.0.0.6 is behind that one:
  bailiwick edge --region de-fra --id de-fra-1 --listen 0.0.0.0:443 --public 192.0.2.10/10.0.0.6 \
    --tls-cert chain.pem --tls-key key.pem --api-keys keys.txt`
}

// check is of what no file or store need be read for.
func (c *edgeCmd) check() error {
	// The ID is a label of the zone, and tells the region (region.EdgeID).
	suffix, ok := strings.CutPrefix(c.ID, c.Region+"-")
	outside := func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-') }
	if !ok || suffix == "" || strings.HasSuffix(suffix, "-") || len(c.ID) > 63 || strings.ContainsFunc(suffix, outside) {
		return misuse{fmt.Errorf("--id %.70q: want the ID of its region and a suffix of lower-case letters, digits and dashes, such as %.40s-1", c.ID, c.Region)}
	}
	if len(c.Public) == 0 && c.Listen.Addr().IsUnspecified() {
		return misuse{fmt.Errorf("--listen %s names no address: give --public, the address that clients reach", c.Listen)}
	}
	if p := c.Public; len(p) > 2 || len(p) == 2 && p[0].Public.Is4() == p[1].Public.Is4() {
		return misuse{fmt.Errorf("--public %s: want one address a family, IPv4 and IPv6", edge.Words(p))}
	}
	if err := c.nodeFlags.check(); err != nil {
		return err
	}
	return c.certFlags.check()
}

func (c *edgeCmd) Run(e *env) error {
	if err := c.check(); err != nil {
		return err
	}
	n, err := newNode(e, c.ID, c.mapFlags, c.stores, params(c.ProbeInterval), c.State)
	if err != nil {
		return err
	}
	keys, err := n.readKeys(c.APIKeys)
	if err != nil {
		return err
	}
	m := n.world.Current().Map
	reg := m.Region(region.ID(c.Region))
	if reg == nil {
		return misuse{fmt.Errorf("--region %s: not in %s", c.Region, c.Map)}
	}
	if c.Admits == 0 {
		c.Admits = reg.Capacity.Admission
	}
	locate, reload, err := n.locator()
	if err != nil {
		return err
	}
	secure, err := c.certificates(e, n, m.Zone)
	if err != nil {
		return err
	}
	if n.roots, err = c.roots(); err != nil {
		return err
	}
	signer, err := n.signer(c.State)
	if err != nil {
		return err
	}
	evidence, err := edge.NewEvidence(n.metrics, n.e.log)
	if err != nil {
		return err
	}
	hooks, err := n.webhooks(c.State)
	if err != nil {
		return err
	}
	ed, err := edge.New(edge.Config{Signer: signer, Webhooks: hooks, Record: evidence.Record, ID: region.EdgeID(c.ID), Region: reg.ID, HTTP: c.Listen, Media: c.Media, Turn: c.Turn,
		TLS: secure.config, Certified: secure.have, Turns: c.Turns, Public: c.Public, Host: c.Host, Admits: c.Admits, Linger: c.Linger, World: n.world, Stores: n.stores, Keys: keys, Locate: locate,
		Web: pages(connects(m.Zone, c.Host)...), Log: e.log, Metrics: n.metrics, Observe: c.Metrics})
	if err != nil {
		return listenError(err, "name another address with --listen, --public, --media, --turn, --turns or --metrics")
	}
	n.own.Edge = ed.Self().ID
	n.own.HTTP.At, n.own.STUN = ed.Inside()
	// The world outlives the edge: a stopping edge still needs to know where its
	// consults may go.
	after, stop := context.WithCancel(context.WithoutCancel(e.ctx))
	defer stop()
	g, ctx := errgroup.WithContext(after)
	n.warn = ed.Warn
	n.run(ctx, g, reload)
	if secure.renew != nil {
		g.Go(func() error { return quiet(ctx, secure.renew(ctx)) })
	}
	g.Go(func() error {
		defer stop()
		return ed.Run(e.ctx)
	})
	if !secure.await(e.ctx) || !n.synced() {
		return g.Wait()
	}
	fmt.Fprintf(e.stdout, "ready\n  edge     %s in %s\n  public   %s\n  http     %s\n  media    %s\n  turn     %s\n", c.ID, c.Region, edge.Words(ed.Public()), ed.Self().Host, ed.Self().Media, ed.Self().Turn)
	if at := ed.Self().Turns; at.IsValid() {
		fmt.Fprintf(e.stdout, "  turns    %s\n", at)
	}
	return g.Wait()
}

// signer is the node's key of join links: that of its state, so that links which it makes
// after a start without Consul are known to every edge, or one of this process alone.
func (n *node) signer(state string) (*router.Signer, error) {
	if state == "" {
		return router.NewSigner()
	}
	s, err := router.OpenSigner(filepath.Join(state, n.name+".joinkey"))
	if err != nil {
		return nil, misuse{err}
	}
	return s, nil
}

// certificates is where the edge's TLS comes from; the zero value is plain HTTP. With
// TLS it settles the edge's base URL.
func (c *edgeCmd) certificates(e *env, n *node, zone string) (certified, error) {
	if !c.given() {
		return certified{}, nil
	}
	if c.Host == "" {
		c.Host = edge.DefaultHost(c.ID, zone, c.Listen.Port())
	}
	u, err := url.Parse(c.Host)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return certified{}, misuse{fmt.Errorf("--host %q: with TLS the base URL of join links begins with https://", c.Host)}
	}
	return c.certificate(e, n, c.State, u.Hostname(), c.Region, acme.Names(zone, c.Region))
}

// locator answers explain's questions by address; nil without a geo database. reload puts
// in force what there is of it for a new map.
func (n *node) locator() (locate router.Locator, reload func(*region.Map) []string, err error) {
	if n.flags.Geo == "" && len(n.world.Current().Map.Geo) == 0 {
		return nil, nil, nil
	}
	p, err := n.places(n.world.Current().Map)
	if err != nil {
		return nil, nil, misuse{err}
	}
	var now atomic.Pointer[places]
	now.Store(p)
	locate = func(a netip.Addr) router.Located { return now.Load().locate(a) }
	return locate, func(m *region.Map) []string { return []string{n.place(m, now.Store)} }, nil
}

// connects are the origins that the consult page may reach, for calls move: every
// edge of the zone, on whatever port; or, where this edge's links do not carry its
// name in the zone, whatever speaks as they do.
func connects(zone, host string) []string {
	u, err := url.Parse(host)
	switch {
	case err != nil || u.Scheme != "https":
		return []string{"http:", "ws:"}
	case !strings.HasSuffix(u.Hostname(), ".edge."+zone):
		return []string{"https:", "wss:"}
	}
	return []string{"https://*.edge." + zone + ":*", "wss://*.edge." + zone + ":*"}
}
