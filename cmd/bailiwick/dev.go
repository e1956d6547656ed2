package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bailiwick/access"
	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/edge"
	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/geo"
	"bailiwick/health"
	"bailiwick/nameserver"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/store"
)

type devCmd struct {
	mapFlags
	zoneFlags
	Consul string `help:"Use this Consul instead of the embedded store." placeholder:"ADDR"`
	DNSSEC bool   `help:"Sign the zone." name:"dnssec"`
	TLS    bool   `help:"Serve HTTPS, WSS and TURN over TLS, with certificates of a local CA that is made at the first use." name:"tls"`
	TLSDir string `help:"Folder of the local CA; bailiwick in your configuration folder when not given." name:"tls-dir" placeholder:"DIR"`
	Net    string `help:"First two octets of the loopback addresses to use; another value lets two run side by side." default:"127.0" placeholder:"127.N"`
}

func (devCmd) Help() string {
	return `DNS listens on 127.0.0.1:8053, console and API on 127.0.0.1:8080, the edge of the
N-th region on 127.0.N.1. The API key is "dev". Ctrl-C stops everything.

Example:
  bailiwick dev
  dig @127.0.0.1 -p 8053 join.media.example +subnet=192.0.2.1
  bailiwick dev --tls`
}

const (
	devKey      = "dev"
	dnsPort     = 8053
	httpPort    = 8080
	turnPort    = 3478
	turnsPort   = 5349
	mediaPort   = 7882
	devInterval = 250 * time.Millisecond
)

// dev is one running development deployment.
type dev struct {
	node    *node
	edges   []*edge.Edge
	dns     *nameserver.Server
	console net.Listener
	api     *edge.API
	router  *router.Router
	geo     atomic.Pointer[places]
	zone    zoneFlags
	signing *nameserver.Signing // nil: the zone is unsigned
	ca      *localCA            // nil: plain HTTP
}

func (c *devCmd) Run(e *env) error {
	d, err := c.open(e)
	if err != nil {
		return err
	}
	return d.run(e)
}

// stores are embedded ones without --consul.
func (c *devCmd) stores(m *region.Map) (store.Set, error) {
	if c.Consul != "" {
		return openStores(c.Consul, m)
	}
	set := store.Set{m.Datacenter(""): store.NewMemory()}
	for i := range m.Consul {
		set[m.Consul[i].Name] = store.NewMemory()
	}
	return set, nil
}

// open opens every listener, so that a busy port is told before anything runs.
func (c *devCmd) open(e *env) (*dev, error) {
	if _, err := netip.ParseAddr(c.Net + ".0.1"); err != nil || !strings.HasPrefix(c.Net, "127.") {
		return nil, misuse{fmt.Errorf("--net %q: want the first two octets of a loopback address, such as 127.1", c.Net)}
	}
	n, err := newNode(e, "dev", c.mapFlags, c.stores, health.Production().Scale(devInterval), "")
	if err != nil {
		return nil, err
	}
	d := &dev{node: n, zone: c.zoneFlags}
	if c.DNSSEC {
		d.signing = &nameserver.Signing{Policy: dnssec.DefaultPolicy(), Algorithm: dnssec.ECDSAP256}
	}
	if c.TLS {
		if d.ca, err = openLocalCA(c.TLSDir, n.world.Current().Map.Zone, time.Now()); err != nil {
			return nil, misuse{err}
		}
		n.roots = d.ca.pool()
	}
	if c.Geo == "" {
		n.builtin = geo.BuiltIn()
	}
	m := n.world.Current().Map
	where, err := n.places(m)
	if err != nil {
		return nil, misuse{err}
	}
	d.geo.Store(where)
	at := addresses(c.Net, m)
	if err := d.listen(at, m); err != nil {
		d.close()
		return nil, listenError(err, "give this one addresses of its own, e.g. --net 127.1")
	}
	return d, nil
}

func (d *dev) listen(at devAddresses, m *region.Map) (err error) {
	n := d.node
	records, err := d.zone.records(m.Zone, d.signing != nil)
	if err != nil {
		return err
	}
	if d.console, err = net.Listen("tcp", at.console.String()); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	if d.ca != nil {
		config, err := d.ca.config(time.Now(), at.console.Addr(), "localhost")
		if err != nil {
			return err
		}
		config.NextProtos = []string{"h2", "http/1.1"}
		d.console = tls.NewListener(d.console, config)
	}
	d.dns, err = nameserver.New(nameserver.Config{Node: n.name, Listen: at.dns, Records: records, ZoneFile: d.zone.ZoneFile, Geo: d.geo.Load().table,
		DNSSEC: d.signing, World: n.world, Store: n.first(), Metrics: n.metrics, Log: n.e.log})
	if err != nil {
		return err
	}
	origins := []string{"http:", "ws:"} // edges have an address of loopback each
	if d.ca != nil {
		origins = []string{"https:", "wss:"}
	}
	pages := pages(origins...)
	locate := func(a netip.Addr) router.Located { return d.geo.Load().locate(a) }
	evidence, err := edge.NewEvidence(n.metrics, n.e.log)
	if err != nil {
		return err
	}
	for i, r := range m.Regions {
		cfg := edge.Config{Record: evidence.Record, ID: region.EdgeID(string(r.ID) + "-1"), Region: r.ID, HTTP: at.edges[i].http, Media: at.edges[i].media,
			Turn: at.edges[i].turn, Admits: r.Capacity.Admission, World: n.world, Stores: n.stores, Keys: access.Of(map[string]access.Principal{devKey: access.Everything("dev")}), Locate: locate,
			Web: pages, Log: n.e.log, Metrics: n.metrics}
		if cfg.Webhooks, err = n.queue("", nil); err != nil {
			return err
		}
		if err := d.secure(&cfg, at.edges[i], m.Zone); err != nil {
			return err
		}
		ed, err := edge.New(cfg)
		if err != nil {
			return err
		}
		d.edges = append(d.edges, ed)
	}
	signer, err := router.NewSigner()
	if err != nil {
		return err
	}
	d.router = router.New(router.Config{World: n.world.Current, Stores: n.stores, Signer: signer, Keys: access.Of(map[string]access.Principal{devKey: access.Everything("dev")}), Locate: locate,
		Record: evidence.Record, Node: "console", Log: n.e.log})
	d.api = &edge.API{Node: "dev", Router: d.router, World: n.world, Stores: n.stores, Web: pages, Log: n.e.log, Metrics: n.metrics,
		Rooms: func(id region.EdgeID) []edge.Held {
			for _, ed := range d.edges {
				if ed.Self().ID == id {
					return ed.Rooms()
				}
			}
			return nil
		}}
	return nil
}

// secure gives an edge TLS where dev has a CA. Links carry its address, since no
// resolver of the machine knows the zone; its certificate has its names too.
func (d *dev) secure(c *edge.Config, at edgeAddresses, zone string) (err error) {
	if d.ca == nil {
		return nil
	}
	c.Turns, c.Host = at.turns, "https://"+at.http.String()
	c.TLS, err = d.ca.config(time.Now(), at.http.Addr(), string(c.ID)+".edge."+zone, "join."+zone, "*.join."+zone)
	return err
}

func (d *dev) close() {
	if d.console != nil {
		d.console.Close()
	}
	if d.dns != nil {
		d.dns.Close()
	}
	for _, ed := range d.edges {
		ed.Close()
	}
}

func (d *dev) run(e *env) error {
	g, ctx := errgroup.WithContext(e.ctx)
	d.node.follow(d.zone.ZoneFile)
	d.node.warn = func(when string, w *steer.World) {
		for _, ed := range d.edges {
			ed.Warn(when, w)
		}
	}
	d.node.run(ctx, g, func(m *region.Map) []string {
		return []string{d.dns.Reload(), d.node.place(m, func(p *places) {
			d.geo.Store(p)
			d.dns.SetGeo(p.table)
		})}
	})
	g.Go(func() error { return d.dns.Run(ctx) })
	g.Go(func() error { return quiet(ctx, d.router.Run(ctx)) })
	for _, ed := range d.edges {
		g.Go(func() error { return ed.Run(ctx) })
	}
	srv := &http.Server{Handler: d.api.Handler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0)} // handshakes that fail: the browser says it better
	g.Go(func() error {
		if err := srv.Serve(d.console); err != http.ErrServerClosed {
			return fmt.Errorf("console: %w", err)
		}
		return nil
	})
	g.Go(func() error { <-ctx.Done(); return srv.Close() })
	g.Go(func() error { return d.announce(ctx, e) })
	return g.Wait()
}

// announce prints ready once DNS answers, and every edge is in the world and judged.
func (d *dev) announce(ctx context.Context, e *env) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.dns.Ready():
	}
	changed, cancel := d.node.world.Subscribe()
	defer cancel()
	for !d.ready() {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
	m := d.node.world.Current().Map
	api, curl := "http://"+d.console.Addr().String(), "curl"
	trust := ""
	if ds := d.dns.Anchor(); ds != nil {
		trust = fmt.Sprintf("  dnssec   trust anchor %s DS %d %d %d %s\n", ds.Hdr.Name, ds.KeyTag, ds.Algorithm, ds.DigestType, ds.Digest)
	}
	if d.ca != nil {
		api, curl = "https://"+d.console.Addr().String(), "curl --cacert '"+d.ca.path+"'"
		trust += fmt.Sprintf(`  ca       %s
           import it into the browser as an authority for web sites, once; for
           bailiwick's own verbs set SSL_CERT_FILE to it
`, d.ca.path)
	}
	patient, clinician, err := d.invite(ctx, m)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, `ready
  dns      %s (UDP and TCP), zone %s
  console  %s/console/#key=%s
  consult  %s/v1/consults, API key %s
  edges    %d, one a region, from %s
%sA consult to try, one link a browser window:
  patient    %s
  clinician  %s
Try in another terminal:
  dig @%s -p %d join.%s +subnet=192.0.2.1
  %s -H 'Authorization: Bearer %s' -d '{"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}]}' %s/v1/consults
Ctrl-C stops everything.
`, d.dns.Addr(), m.Zone, api, devKey, api, devKey, len(d.edges), d.edges[0].Self().Host, trust, patient, clinician,
		d.dns.Addr().Addr(), d.dns.Addr().Port(), m.Zone, curl, devKey, api)
	return nil
}

// invite makes a consult for who wants to see one: in a country that has two regions, so that
// it can be seen to move, or else where somebody takes it.
func (d *dev) invite(ctx context.Context, m *region.Map) (patient, clinician string, err error) {
	const none = "(no region takes one now: bailiwick region list)"
	order, seen := []residency.Jurisdiction{}, map[residency.Jurisdiction]bool{}
	for i := range m.Regions {
		at := m.Regions[i].Place.Jurisdiction
		if order = append(order, at); seen[at] {
			order = slices.Insert(order, 0, at)
		}
		seen[at] = true
	}
	for _, at := range order {
		p := &consult.Placement{Terms: consult.Terms{Priority: consult.Routine, Tenant: "default", Jurisdictions: []residency.Jurisdiction{at, at}},
			Participants: []consult.Participant{{Role: "patient"}, {Role: "clinician"}}}
		out, refused, err := d.router.Invite(ctx, p, time.Now())
		if err != nil {
			return "", "", err
		}
		if refused == nil {
			return out.Participants[0].URL, out.Participants[1].URL, nil
		}
	}
	return none, none, nil
}

// ready: each edge is registered here, its join key is known, and so is the
// console's.
func (d *dev) ready() bool {
	w := d.node.world.Current()
	for _, ed := range d.edges {
		if _, known := w.Edge(ed.Self().ID); known == nil {
			return false
		}
	}
	return len(w.Keys) > len(d.edges)
}

// devAddresses are where everything listens.
type devAddresses struct {
	dns, console netip.AddrPort
	edges        []edgeAddresses
}

type edgeAddresses struct{ http, media, turn, turns netip.AddrPort }

// addresses lays the deployment out over loopback. A system that has 127.0.0.1
// alone (no other address of 127/8 can be bound) gets ports instead.
func addresses(prefix string, m *region.Map) devAddresses {
	host := netip.MustParseAddr(prefix + ".0.1")
	at := devAddresses{dns: netip.AddrPortFrom(host, dnsPort), console: netip.AddrPortFrom(host, httpPort)}
	single := !bindable(prefix + ".1.1")
	for i := range m.Regions {
		a, n := netip.MustParseAddr(fmt.Sprintf("%s.%d.1", prefix, i+1)), uint16(0)
		if single {
			a, n = host, uint16(10*(i+1))
		}
		at.edges = append(at.edges, edgeAddresses{netip.AddrPortFrom(a, httpPort+n), netip.AddrPortFrom(a, mediaPort+n), netip.AddrPortFrom(a, turnPort+n),
			netip.AddrPortFrom(a, turnsPort+n)})
	}
	return at
}

func bindable(addr string) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		return false
	}
	l.Close()
	return true
}
