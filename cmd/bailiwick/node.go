package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"bailiwick/consult/router"
	"bailiwick/edge"
	"bailiwick/geodns/geo"
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
	store   store.Store
	world   *world.Writer
	health  health.Params
	metrics *prometheus.Registry
	builtin []region.Override // laid under the map's own overrides
	files   []string          // whose change is a reload
	seen    string            // their stamp before they were first read
	roots   *x509.CertPool    // whom probes trust; nil: the system's
}

// newNode folds the first world. state is a folder for the last-known-good file,
// or empty.
func newNode(e *env, name string, flags mapFlags, st store.Store, params health.Params, state string) (*node, error) {
	seen := stamp(flags.Map) + stamp(flags.Geo)
	m, err := readMap(flags.Map)
	if err != nil {
		return nil, err
	}
	n := &node{seen: seen, e: e, name: name, flags: flags, store: st, health: params, metrics: prometheus.NewRegistry(),
		files: []string{flags.Map, flags.Geo}}
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	path := ""
	if state != "" {
		if err := os.MkdirAll(state, 0o700); err != nil {
			return nil, misuse{fmt.Errorf("--state: %w: want a folder that this user can write", err)}
		}
		path = filepath.Join(state, name+".json")
	}
	n.world, err = world.New(world.Config{Node: name, Map: m, Law: residency.Shipped(), Store: st, Health: params, Path: path,
		ParseKey: router.ParseKey, Log: e.log})
	if err != nil {
		return nil, misuse{err}
	}
	return n, nil
}

// table compiles the geo table for a map.
func (n *node) table(m *region.Map) (*geo.Table, error) {
	return geo.Load(n.flags.Geo, append(append([]region.Override{}, n.builtin...), m.Geo...))
}

// place puts the geo database in force as it is now, for a map that was reloaded.
func (n *node) place(m *region.Map, set func(*geo.Table)) {
	t, err := n.table(m)
	if err != nil {
		n.e.log.Error("geo database not reloaded: the last good one stays in force", "err", err)
		return
	}
	set(t)
}

// run keeps the world: store watches, probes, and reloads of the map's file.
func (n *node) run(ctx context.Context, g *errgroup.Group, reloaded func(*region.Map)) {
	g.Go(func() error { return quiet(ctx, n.world.Run(ctx)) })
	g.Go(func() error {
		return quiet(ctx, probe.Loop(ctx, n.health, n.name, func() []probe.Target { return targets(n.world.Current(), n.roots) }, n.world.Observe))
	})
	g.Go(func() error { return n.reload(ctx, reloaded) })
}

// targets are the edges to probe, each at the address that DNS answers for it, but as
// who its URL says. A name that resolves to something else would judge something else.
func targets(w *steer.World, roots *x509.CertPool) []probe.Target {
	var list []probe.Target
	for _, r := range w.Regions {
		for _, e := range r.Edges {
			at := e.Addr4
			if !at.IsValid() {
				at = e.Addr6
			}
			list = append(list, probe.Target{Edge: e.ID, HTTP: probe.HTTP{URL: e.Host, At: at, Roots: roots}, STUN: e.Turn})
		}
	}
	return list
}

// follow makes a change of a further file a reload; call it before run.
func (n *node) follow(path string) {
	n.files, n.seen = append(n.files, path), n.seen+stamp(path)
}

// reloadEvery is how often the files are looked at.
const reloadEvery = time.Second

// reload follows the map's, the geo database's and the zone file, and reads them again on
// SIGHUP. A file that cannot be used leaves the last good one in force and says
// what and where.
func (n *node) reload(ctx context.Context, reloaded func(*region.Map)) error {
	t := time.NewTicker(reloadEvery)
	defer t.Stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	seen := n.seen
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			seen = ""
		case <-t.C:
		}
		now := n.stamp()
		if now == seen {
			continue
		}
		seen = now
		m, err := readMap(n.flags.Map)
		if err != nil {
			n.e.log.Error("region map not reloaded: the last good one stays in force", "err", err)
			continue
		}
		n.world.SetMap(m)
		if reloaded != nil {
			reloaded(m)
		}
		n.e.log.Info("reloaded", "map", n.flags.Map, "regions", len(m.Regions))
	}
}

// stamp changes when one of the files does.
func (n *node) stamp() (all string) {
	for _, path := range n.files {
		all += stamp(path)
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
	case edge.ErrPortInUse(err):
		return misuse{fmt.Errorf("%w: stop the process that holds it, or %s", err, wayOut)}
	case errors.Is(err, fs.ErrPermission):
		return misuse{fmt.Errorf("%w: a port below 1024 needs root or CAP_NET_BIND_SERVICE; or %s", err, wayOut)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return misuse{fmt.Errorf("%w: this machine does not have it; %s", err, wayOut)}
	}
	return misuse{err}
}

// readKeys reads API keys, one a line; empty lines and lines with # are skipped.
func readKeys(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, misuse{fmt.Errorf("--api-keys: %w: want a file with one API key a line", err)}
	}
	var keys []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			keys = append(keys, line)
		}
	}
	if len(keys) == 0 {
		return nil, misuse{fmt.Errorf("--api-keys: %s: holds no API key: want one a line", path)}
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
