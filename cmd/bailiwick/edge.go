package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"bailiwick/consult/router"
	"bailiwick/edge"
	"bailiwick/region"
	"bailiwick/store/consul"
)

// nodeFlags are shared by edge and dns.
type nodeFlags struct {
	mapFlags
	Consul        string        `help:"Address of the local Consul agent; its token comes from CONSUL_HTTP_TOKEN." default:"127.0.0.1:8500" placeholder:"ADDR"`
	State         string        `help:"Folder for the last-known-good file: what a cold start without Consul serves." placeholder:"DIR"`
	ProbeInterval time.Duration `help:"How often each edge is probed; damping scales with it." default:"5s"`
}

type edgeCmd struct {
	nodeFlags
	ID      string         `help:"This edge's ID: its region's and a suffix, e.g. de-fra-1." required:""`
	Region  string         `help:"This edge's region." required:""`
	Listen  netip.AddrPort `help:"HTTP address." default:"0.0.0.0:8080"`
	Media   netip.AddrPort `help:"UDP address of the SFU; the IP of --listen when it has none." default:"0.0.0.0:7882"`
	Turn    netip.AddrPort `help:"UDP and TCP address of the TURN relay." default:"0.0.0.0:3478"`
	Public  netip.Addr     `help:"Address that DNS answers and ICE offers; needed when --listen names none."`
	Host    string         `help:"Base URL that join links carry, e.g. https://de-fra-1.edge.media.example." placeholder:"URL"`
	Seats   int            `help:"Consults admitted; the map's admission when 0."`
	APIKeys string         `help:"File with the API keys of backends, one a line." placeholder:"FILE" required:""`
	Linger  time.Duration  `help:"How long a stopping edge waits for its consults to move." default:"20s"`
}

func (edgeCmd) Help() string {
	return `SFU, TURN relay, consult API and signalling in one process, registered in Consul.
On SIGTERM it leaves the answers first, moves its consults to lawful neighbours, and stops.

Example:
  bailiwick edge --region de-fra --id de-fra-1 --listen 127.0.11.1:8080 \
    --media 127.0.11.1:7882 --turn 127.0.11.1:3478 --api-keys keys.txt --consul 127.0.0.1:8500`
}

func (c *edgeCmd) Run(e *env) error {
	keys, err := readKeys(c.APIKeys)
	if err != nil {
		return err
	}
	st, err := consul.New(c.Consul, "")
	if err != nil {
		return misuse{err}
	}
	n, err := newNode(e, c.ID, c.mapFlags, st, params(c.ProbeInterval), c.State)
	if err != nil {
		return err
	}
	m := n.world.Current().Map
	reg := m.Region(region.ID(c.Region))
	if reg == nil {
		return misuse{fmt.Errorf("--region %s: not in %s", c.Region, c.Map)}
	}
	if c.Seats == 0 {
		c.Seats = reg.Capacity.Admission
	}
	if !c.Public.IsValid() && c.Listen.Addr().IsUnspecified() {
		return misuse{fmt.Errorf("--listen %s names no address: give --public, the address that clients reach", c.Listen)}
	}
	locate, err := n.locator()
	if err != nil {
		return err
	}
	ed, err := edge.New(edge.Config{ID: region.EdgeID(c.ID), Region: reg.ID, HTTP: c.Listen, Media: c.Media, Turn: c.Turn,
		Public: c.Public, Host: c.Host, Seats: c.Seats, Linger: c.Linger, World: n.world, Store: n.store, APIKeys: keys, Locate: locate,
		Web: pages(connects(m.Zone, c.Host)...), Log: e.log, Metrics: n.metrics})
	if err != nil {
		return listenError(err, "name another address with --listen, --media or --turn")
	}
	// The world outlives the edge: a stopping edge still needs to know where its
	// consults may go.
	after, stop := context.WithCancel(context.WithoutCancel(e.ctx))
	defer stop()
	g, ctx := errgroup.WithContext(after)
	n.run(ctx, g, nil)
	g.Go(func() error {
		defer stop()
		return ed.Run(e.ctx)
	})
	fmt.Fprintf(e.stdout, "ready\n  edge     %s in %s\n  http     %s\n  media    %s\n  turn     %s\n", c.ID, c.Region, ed.Self().Host, ed.Self().Media, ed.Self().Turn)
	return g.Wait()
}

// locator answers explain's questions by address; nil without a geo database.
func (n *node) locator() (router.Locator, error) {
	if n.flags.Geo == "" && len(n.world.Current().Map.Geo) == 0 {
		return nil, nil
	}
	t, err := n.table(n.world.Current().Map)
	if err != nil {
		return nil, misuse{err}
	}
	return t.Lookup, nil
}

// connects are the origins that the consult page may reach: every edge of the
// zone, or, where links carry plain http, whatever speaks plain http.
func connects(zone, host string) []string {
	if len(host) >= 5 && host[:5] == "https" {
		return []string{"https://*.edge." + zone, "wss://*.edge." + zone}
	}
	return []string{"http:", "ws:"}
}
