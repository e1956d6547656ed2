// Package nameserver is the assembly of one DNS node: the DNS server (geodns) with what it
// shares with the zone's other nodes, which are the secrets of its cookies, the keys of a
// signed zone and the challenges of certificate orders, and its HTTP listener for
// monitoring.
//
// It steers by the World that it is given and asks the store for nothing that a query waits
// for: without the store, what was known goes on. Whoever runs it follows the files: it
// reads a zone file when told to, and takes another geo table at any time.
package nameserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"bailiwick/acme"
	"bailiwick/crowd"
	"bailiwick/geodns"
	"bailiwick/geodns/geo"
	"bailiwick/geodns/zonefile"
	"bailiwick/steer/world"
	"bailiwick/store"
)

// Config describes one DNS node, of the zone of its World's map. Ports of 0 are chosen by
// the system.
type Config struct {
	Node   string         // of no other node; NSID tells it
	Listen netip.AddrPort // UDP and TCP
	NS     []netip.Addr   // of ns1.ZONE; empty: Listen's
	HTTP   string         // of /metrics, /livez and /readyz; empty: none
	Rate   int            // UDP answers a second and client network without a cookie; 0 is no limit
	Why    []netip.Prefix // networks that may ask _why, beside loopback
	// DoT is DNS over TLS, with TLS only. The certificate is asked of it at each handshake.
	DoT netip.AddrPort
	TLS *tls.Config
	// Records are the static ones, as ReadZone gave them from ZoneFile; both may be empty.
	Records  *zonefile.Records
	ZoneFile string
	Geo      *geo.Table
	DNSSEC   *Signing // nil: the zone is unsigned
	State    string   // folder of a copy of the keys, for a start without the store; empty: none
	// QueryLog gets a sample of the queries, QueryLogRate lines a second at most; nil: none.
	QueryLog     io.Writer
	QueryLogRate int
	World        *world.Writer
	Store        store.Store
	Metrics      *prometheus.Registry
	Log          *slog.Logger
}

// Server is one running DNS node.
type Server struct {
	cfg        Config
	zone       string // as the DNS server was told it
	dns        *geodns.Server
	web        net.Listener // nil: no HTTP
	secrets    *cookies
	challenges *acme.Challenges
	keys       *keeper // nil: the zone is unsigned
	anchor     *dns.DS
	ready      chan struct{}
}

// New opens the listeners, so that a busy port is told before anything runs.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, zone: cfg.World.Current().Map.Zone, secrets: newCookies(cfg.Store, cfg.Log, time.Now()), ready: make(chan struct{})}
	if err := s.listen(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) listen() (err error) {
	cfg := &s.cfg
	s.dns, err = geodns.Listen(geodns.Config{Addr: cfg.Listen, Node: cfg.Node, Zone: s.zone, NS: cfg.NS, Why: cfg.Why,
		World: cfg.World.Current, Changes: cfg.World.Subscribe, Geo: cfg.Geo, Records: cfg.Records, Secrets: s.secrets.Secrets,
		Challenges: func(name string) []string { return s.challenges.Lookup(name) }, Rate: cfg.Rate, TLS: cfg.TLS, DoT: cfg.DoT,
		QueryLog: cfg.QueryLog, QueryLogRate: cfg.QueryLogRate, Log: cfg.Log, Registry: cfg.Metrics})
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	s.challenges = acme.NewChallenges(cfg.Store, cfg.Node, registered(s.dns.Addr(), cfg.NS), cfg.Log)
	s.challenges.Carry(func() map[string]string { return world.Applied(cfg.World.Current()) }, cfg.World.Subscribe)
	if cfg.DNSSEC != nil {
		s.keys = newKeeper(*cfg.DNSSEC, s.zone, cfg.Store, cfg.Log)
		s.keys.path, s.keys.swap = keysPath(cfg.State, s.zone), s.dns.SetSigner
		if err := s.keys.register(cfg.Metrics, s.dns.SignatureExpires); err != nil {
			return err
		}
	}
	if cfg.HTTP != "" {
		if s.web, err = net.Listen("tcp", cfg.HTTP); err != nil {
			return fmt.Errorf("dns: http: %w", err)
		}
	}
	return nil
}

// Close closes the listeners of a node that was never run.
func (s *Server) Close() {
	if s.dns != nil {
		s.dns.Close()
	}
	if s.web != nil {
		s.web.Close()
	}
}

// Run serves until ctx ends. A node of a signed zone answers once it has keys.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	g, gctx := errgroup.WithContext(ctx)
	if s.web != nil {
		web := &http.Server{Handler: s.observability(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
		g.Go(func() error {
			if err := web.Serve(crowd.Listener(s.web, crowd.New(maxWeb))); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("dns: http: %w", err)
			}
			return nil
		})
		g.Go(func() error { <-gctx.Done(); return web.Close() })
	}
	g.Go(func() error { return s.secrets.run(gctx) })
	g.Go(func() error {
		if s.keys != nil {
			s.keys.start(gctx)
			if err := s.keys.await(gctx); err != nil {
				return err
			}
			var err error
			if s.anchor, err = s.keys.anchor(); err != nil {
				s.cfg.Log.Warn("no trust anchor to print", "err", err)
			}
			g.Go(func() error { return s.keys.run(gctx) })
		}
		close(s.ready)
		g.Go(func() error { return s.challenges.Run(gctx) })
		return s.dns.Serve(gctx)
	})
	err := g.Wait()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// Ready is closed once the node answers.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is where it listens for UDP and TCP.
func (s *Server) Addr() netip.AddrPort { return s.dns.Addr() }

// DoT is where it listens for DNS over TLS.
func (s *Server) DoT() netip.AddrPort { return s.dns.DoT() }

// Anchor is what validates a signed zone without its parent, by the keys at the start; nil
// without keys. It is known once the node is ready.
func (s *Server) Anchor() *dns.DS { return s.anchor }

// SetGeo puts another geo table in force.
func (s *Server) SetGeo(t *geo.Table) { s.dns.SetGeo(t) }

// maxWeb bounds the connections of what a node says of itself: strangers must not use up
// the files that DNS needs.
const maxWeb = 256

// observability serves what a DNS node says of itself.
func (s *Server) observability() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.keys != nil && !s.keys.signed() {
			http.Error(w, "no dnssec keys yet, from the store or from a file", http.StatusServiceUnavailable)
			return
		}
		select {
		case <-s.cfg.World.Synced():
			w.Write([]byte("ok\n"))
		default:
			http.Error(w, "no word from the store yet, and no last-known-good file", http.StatusServiceUnavailable)
		}
	})
	return mux
}

// registered is where a DNS node that listens on addr is registered: Consul takes no address
// that is unspecified. Of a node that listens on all of its own it is one of ns, what the zone
// is told, else one of the machine's. People read it; orders go by the node's name.
func registered(addr netip.AddrPort, ns []netip.Addr) netip.AddrPort {
	if !addr.Addr().IsUnspecified() {
		return addr
	}
	own, _ := net.InterfaceAddrs() // without them it is loopback
	for _, a := range own {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			if at, ok := netip.AddrFromSlice(n.IP); ok {
				ns = append(slices.Clip(ns), at.Unmap())
			}
		}
	}
	return netip.AddrPortFrom(append(slices.Clip(ns), netip.MustParseAddr("127.0.0.1"))[0], addr.Port())
}
