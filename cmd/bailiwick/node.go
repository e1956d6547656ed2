package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"bailiwick/access"
	"bailiwick/consult/router"
	"bailiwick/edge"
	"bailiwick/health"
	"bailiwick/health/probe"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store"
	"bailiwick/web"
)

// mapFlags name the deployment's files.
type mapFlags struct {
	Map string `help:"The region map and legal map." default:"regions.yaml" placeholder:"FILE"`
	Geo string `help:"Geo database; see bailiwick geo import." placeholder:"FILE.mmdb"`
}

// readMap reads and checks a map.
func readMap(path string) (*region.Map, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, misuse{fmt.Errorf("%w; --map names another region map", err)}
	}
	m, err := region.Parse(path, b)
	if err != nil {
		return nil, misuse{err}
	}
	return m, nil
}

// node is what every long-running verb shares: a world, its store and its probes.
type node struct {
	e       *env
	name    string
	flags   mapFlags
	stores  store.Set
	world   *world.Writer
	health  health.Params
	metrics *prometheus.Registry

	reloadFailures prometheus.Counter
	builtin        []region.Override                 // laid under the map's own overrides
	files          []string                          // whose change is a reload
	seen           []string                          // their stamps before they were first read
	roots          *x509.CertPool                    // whom probes trust; nil: the system's
	warn           func(when string, w *steer.World) // of what a World does to what runs here; may be nil
	own            probe.Target                      // this process's edge, as it is reached from here; empty: as others reach it
}

// newNode opens the map's stores and folds the first world. state is a folder for the last-known-good file,
// or empty.
func newNode(e *env, name string, flags mapFlags, open func(*region.Map) (store.Set, error), params health.Params, state string) (*node, error) {
	files := []string{flags.Map, flags.Geo}
	seen := stamps(files)
	m, err := readMap(flags.Map)
	if err != nil {
		return nil, err
	}
	stores, err := open(m)
	if err != nil {
		return nil, err
	}
	n := &node{files: files, seen: seen, e: e, name: name, flags: flags, stores: stores, health: params, metrics: prometheus.NewRegistry()}
	n.reloadFailures = prometheus.NewCounter(prometheus.CounterOpts{Name: "bailiwick_reload_failures_total",
		Help: "Times that a changed file could not be taken: the last good one stays in force, and the log says which and why."})
	n.metrics.MustRegister(n.reloadFailures)
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	path := ""
	if state != "" {
		if err := os.MkdirAll(state, 0o700); err != nil {
			return nil, misuse{fmt.Errorf("--state: %w: want a folder that this user can write", err)}
		}
		path = filepath.Join(state, name+".json")
	}
	n.world, err = world.New(world.Config{Map: m, Law: residency.Shipped(), Stores: stores, Health: params, Path: path,
		ParseKey: router.ParseKey, Log: e.log, Registry: n.metrics})
	if err != nil {
		return nil, misuse{err}
	}
	return n, nil
}

// patience is how long a node waits in silence for a first word of its stores.
const patience = 2 * time.Second

// synced returns once the node has a word to serve, as /readyz tells it, and says so where it
// has to wait for one; false: the program is to stop.
func (n *node) synced() bool {
	quiet := time.NewTimer(patience)
	defer quiet.Stop()
	for {
		select {
		case <-n.world.Synced():
			return true
		case <-n.e.ctx.Done():
			return false
		case <-quiet.C:
			n.e.log.Warn("not ready: waiting for a first word of Consul, for there is no last known good to serve meanwhile; --consul names another agent, --state keeps the last word for the next start")
		}
	}
}

// first is the store of what belongs to no region: the zone's keys, cookies, certificates.
func (n *node) first() store.Store { return n.stores[n.world.Current().Map.Datacenter("")] }

// holds refuses a map with a datacenter that no store was opened for.
func (n *node) holds(m *region.Map) error {
	names := []string{m.Datacenter("")}
	for i := range m.Consul {
		names = append(names, m.Consul[i].Name)
	}
	for _, name := range names {
		if n.stores[name] == nil {
			return fmt.Errorf("consul: datacenter %q was not there when this node started: restart it", name)
		}
	}
	return nil
}

// places are the geo database, what lies over it, and what both were compiled to.
func (n *node) places(m *region.Map) (*places, error) {
	return openPlaces(n.flags.Geo, slices.Concat(n.builtin, m.Geo))
}

// place puts the geo database in force as it is now, for a map that was reloaded. taken
// is its file, or empty where it was refused.
func (n *node) place(m *region.Map, set func(*places)) (taken string) {
	p, err := n.places(m)
	if err != nil {
		n.reloadFailures.Inc()
		n.e.log.Error("geo database not reloaded: the last good one stays in force", "file", n.flags.Geo, "err", err)
		return ""
	}
	set(p)
	return n.flags.Geo
}

// run keeps the world: store watches, probes, and reloads of the files; see reload.
func (n *node) run(ctx context.Context, g *errgroup.Group, further func(*region.Map) []string) {
	g.Go(func() error { return quiet(ctx, n.world.Run(ctx)) })
	g.Go(func() error {
		return quiet(ctx, probe.Loop(ctx, n.health, n.name, func() []probe.Target { return targets(n.world.Current(), n.roots, &n.own) }, n.world.Observe))
	})
	g.Go(func() error { return n.reload(ctx, further) })
}

// targets are the edges to probe, each at the address that DNS answers for it, but as
// who its URL says. A name that resolves to something else would judge something else. own
// is where this process's edge is reached past the NAT before it, if anywhere.
func targets(w *steer.World, roots *x509.CertPool, own *probe.Target) []probe.Target {
	var list []probe.Target
	for _, r := range w.Regions {
		for _, e := range r.Edges {
			at := e.Addr4
			if !at.IsValid() {
				at = e.Addr6
			}
			t := probe.Target{Edge: e.ID, HTTP: probe.HTTP{URL: e.Host, At: at, Roots: roots}, STUN: e.Turn}
			if own.Edge == e.ID && own.STUN.IsValid() {
				t.HTTP.At, t.STUN = own.HTTP.At, own.STUN
			}
			list = append(list, t)
		}
	}
	return list
}

// follow makes a change of a further file a reload; call it before run.
func (n *node) follow(path string) {
	n.files, n.seen = append(n.files, path), append(n.seen, stamp(path))
}

// reloadEvery is how often the files are looked at.
const reloadEvery = time.Second

// reload follows the map's, the geo database's and the zone file, and reads them again on
// SIGHUP. A file that cannot be used leaves the last good one in force and says what and
// where; of the others the log says that they were reloaded. further reads what there is
// beside the map, and gives the files that it put in force; it may be nil.
func (n *node) reload(ctx context.Context, further func(*region.Map) []string) error {
	t := time.NewTicker(reloadEvery)
	defer t.Stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	seen, inForce := n.seen, slices.Clone(n.seen)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			seen, inForce = nil, make([]string, len(n.files))
		case <-t.C:
		}
		now := stamps(n.files)
		if slices.Equal(now, seen) {
			continue
		}
		seen = now
		m, err := readMap(n.flags.Map)
		if err != nil {
			n.reloadFailures.Inc()
			n.e.log.Error("region map not reloaded: the last good one stays in force", "file", n.flags.Map, "err", err)
			continue
		}
		if err := n.holds(m); err != nil {
			n.reloadFailures.Inc()
			n.e.log.Error("region map not reloaded: the last good one stays in force", "file", n.flags.Map, "err", err)
			continue
		}
		if n.warn != nil {
			n.warn("before the reload", n.world.Foresee(m))
		}
		n.world.SetMap(m)
		taken := []string{n.flags.Map}
		if further != nil {
			taken = append(taken, further(m)...)
		}
		var files []string
		for i, path := range n.files {
			if now[i] != inForce[i] && slices.Contains(taken, path) {
				inForce[i], files = now[i], append(files, path)
			}
		}
		if len(files) > 0 {
			n.e.log.Info("reloaded", "files", files, "regions", len(m.Regions))
		}
	}
}

// stamps are those of some files.
func stamps(files []string) (all []string) {
	for _, path := range files {
		all = append(all, stamp(path))
	}
	return all
}

// stamp changes when a file does.
func stamp(path string) string {
	if path == "" {
		return ""
	}
	st, err := os.Stat(path)
	if err != nil {
		return path + " " + err.Error()
	}
	return fmt.Sprint(path, st.Size(), st.ModTime().UnixNano())
}

// quiet drops the error of a context that ended as it should.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())) {
		return nil
	}
	return err
}

// pages serves the consult page and console, which may connect to edges of the
// zone or, in dev, of loopback.
func pages(connect ...string) http.Handler { return web.Handler(connect) }

// listenError words a failure to open a port so that the next step is plain.
func listenError(err error, wayOut string) error {
	switch {
	case !errors.As(err, new(*net.OpError)): // no port at all
	case edge.ErrPortInUse(err):
		return misuse{fmt.Errorf("%w: stop the process that holds it, or %s", err, wayOut)}
	case errors.Is(err, fs.ErrPermission):
		return misuse{fmt.Errorf("%w: a port below 1024 needs root or CAP_NET_BIND_SERVICE; or %s", err, wayOut)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return misuse{fmt.Errorf("%w: this machine does not have it; %s", err, wayOut)}
	}
	return misuse{err}
}

// readKeys reads the file of API keys; what should be changed in it is logged.
func (n *node) readKeys(path string) (*access.Keys, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, misuse{fmt.Errorf("--api-keys: %w: want a file with one API key a line", err)}
	}
	keys, err := access.Parse(path, string(b), slices.Sorted(maps.Keys(n.world.Current().Map.Tenants)))
	if err != nil {
		return nil, misuse{fmt.Errorf("--api-keys: %w", err)}
	}
	for _, w := range keys.Warnings {
		n.e.log.Warn("API key file", "warning", w)
	}
	return keys, nil
}

// params are the health parameters for a probe interval; the shipped production
// ones at 5 s, the same counts scaled below.
func params(interval time.Duration) health.Params {
	if interval == health.Production().Interval {
		return health.Production()
	}
	return health.Production().Scale(interval)
}
