// Package edge is the assembly of one media edge: HTTP listener, consult API,
// signalling, SFU and TURN relay in one process.
//
// It connects the wires and holds what needs two of them: joining (edge/signal
// with edge/sfu and turn) and moving rooms (consult/router with edge/sfu). The
// law is judged again at every join, from the token and this edge's own world.
package edge

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"bailiwick/access"
	"bailiwick/consult"
	"bailiwick/consult/router"
	"bailiwick/crowd"
	"bailiwick/edge/sfu"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store"
	"bailiwick/turn"
	"bailiwick/webhook"
)

// maxConns bounds HTTP connections, WebSockets among them: twice what a full edge
// of 1,600 consults of two needs, so that strangers cannot use up its files. Each source has
// its share (package crowd), so that none can keep the probes out.
const maxConns = 8192

// Lease of an edge's registration: renewed each third of it.
const leaseTTL = 15 * time.Second

// Config describes one edge. Ports of 0 are chosen by the system.
type Config struct {
	ID     region.EdgeID
	Region region.ID
	HTTP   netip.AddrPort
	// Media and Turn (UDP and TCP) and Turns are bound at each of Public's own where they
	// name no address; one that they name is of the one family that is announced.
	Media netip.AddrPort
	Turn  netip.AddrPort
	// TLS makes the HTTP listener speak HTTPS and adds TURN over TLS, at Turns and on
	// the HTTPS port. The certificate is asked of it at each handshake, so a new one
	// needs no restart and breaks no connection. Its Certificates, GetCertificate and
	// ciphers are used; versions and ALPN are this package's. nil: plain HTTP.
	TLS   *tls.Config
	Turns netip.AddrPort // TCP; used with TLS only
	// Certified is closed once TLS has a certificate: until then the edge serves, and
	// registers nowhere. nil: it has one.
	Certified <-chan struct{}
	// Public is what DNS answers and ICE offers, at most one a family; none takes HTTP's
	// address.
	Public []Address
	// Host is the base URL that join links carry; empty makes it from the HTTP
	// address, with TLS from the edge's name in the zone and the HTTP port.
	Host   string
	Admits int // consults at most
	// Linger is how long a stopping edge waits for its rooms to move away.
	Linger time.Duration

	World  *world.Writer
	Stores store.Set
	Signer *router.Signer // of join tokens; nil draws one
	Record consult.Record // takes decisions as evidence; nil: nobody does
	Keys   *access.Keys
	Locate router.Locator
	Web    http.Handler // consult page and its files
	// Webhooks tells tenants' backends of their consults; Run runs it, and closes it. nil: nobody does.
	Webhooks *webhook.Queue
	Log      *slog.Logger
	Metrics  *prometheus.Registry // gets the edge's
	// Observe is where Metrics are served, with /livez and /readyz: HTTP is the patients'.
	// Empty: nowhere.
	Observe string
}

// Edge is one media edge. Its listeners are open once New returns.
type Edge struct {
	cfg      Config
	self     steer.Edge
	router   *router.Router
	rooms    *runners
	pressure *pressure
	sfu      *sfu.SFU
	turns    []relay // one a family, IPv4 first
	secret   []byte  // of TURN credentials
	http     net.Listener
	crowd    *crowd.Crowd // of the HTTP listener
	seen     net.Listener // of Observe; nil: none
	api      *API
	hosts    *hosts

	refusals *refusals
	clients  *clients
}

// relay is the TURN server of one family, and where clients reach it.
type relay struct {
	*turn.Server
	public netip.Addr
}

func (r relay) at() netip.AddrPort { return netip.AddrPortFrom(r.public, r.Addr().Port()) }

// New opens every listener; a port in use is an error that names it.
func New(cfg Config) (*Edge, error) {
	if cfg.Signer == nil {
		var err error
		if cfg.Signer, err = router.NewSigner(); err != nil {
			return nil, err
		}
	}
	if cfg.Record == nil {
		cfg.Record = func(consult.Evidence) {}
	}
	cfg.Log = cfg.Log.With("edge", cfg.ID)
	e := &Edge{cfg: cfg, secret: make([]byte, 32), crowd: crowd.New(maxConns), refusals: &refusals{}, clients: newClients(cfg.ID, cfg.Region), hosts: &hosts{byID: map[string]*resource{}}}
	rand.Read(e.secret)
	if err := e.listen(); err != nil {
		e.close()
		return nil, fmt.Errorf("edge %s: %w", cfg.ID, err)
	}
	e.pressure = newPressure(e)
	e.rooms = newRunners(e)
	e.router = router.New(router.Config{World: cfg.World.Current, Stores: cfg.Stores, Signer: cfg.Signer, Keys: cfg.Keys,
		Locate: cfg.Locate, Node: string(cfg.ID), Self: cfg.ID, Record: cfg.Record, Hosted: e.rooms.hosted, Hear: e.rooms.hear, Live: e.rooms.live, Log: cfg.Log})
	e.api = &API{Node: string(cfg.ID), Router: e.router, World: cfg.World, Stores: cfg.Stores, Web: cfg.Web, Log: cfg.Log,
		Rooms: func(id region.EdgeID) []Held {
			if id != cfg.ID {
				return nil
			}
			return e.Rooms()
		}}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(&collector{e}); err != nil {
			e.Close()
			return nil, fmt.Errorf("edge %s: metrics: %w", cfg.ID, err)
		}
	}
	return e, nil
}

func (e *Edge) listen() (err error) {
	cfg := &e.cfg
	if e.http, err = net.Listen("tcp", cfg.HTTP.String()); err != nil {
		return err
	}
	cfg.HTTP = e.http.Addr().(*net.TCPAddr).AddrPort()
	if cfg.Observe != "" {
		if e.seen, err = net.Listen("tcp", cfg.Observe); err != nil {
			return err
		}
	}
	if cfg.Public, err = cfg.addresses(); err != nil {
		return err
	}
	zone := cfg.World.Current().Map.Zone
	if cfg.Host == "" && cfg.TLS != nil {
		cfg.Host = DefaultHost(string(cfg.ID), zone, cfg.HTTP.Port())
	}
	if cfg.Host == "" {
		cfg.Host = "http://" + e.registered().String()
	}
	media := make([]sfu.Socket, len(cfg.Public))
	for i, a := range cfg.Public {
		media[i] = sfu.Socket{Bound: a.bound(cfg.Media), Public: a.Public}
	}
	if e.sfu, err = sfu.Listen(sfu.Config{Sockets: media, Log: cfg.Log}); err != nil {
		return err
	}
	for i, s := range e.sfu.Sockets() {
		a := cfg.Public[i]
		tc := turn.Config{Addr: a.bound(cfg.Turn), Realm: zone, Secret: e.secret, TLS: cfg.TLS, TLSAddr: a.bound(cfg.Turns), Log: cfg.Log}
		// A closed relay: it reaches this edge's own SFU and nothing else, so no
		// packet of a consult touches an edge that its placement does not name.
		// It does so from the address of the SFU itself, inside the machine, and past
		// the NAT, which need not lead back in; from loopback Firefox would not have it.
		offered := s.Offered()
		tc.Relay, tc.Permit = s.Bound.Addr(), func(peer netip.AddrPort) bool { return peer == offered }
		if offered != s.Bound {
			tc.Local = map[netip.AddrPort]netip.AddrPort{offered: s.Bound}
		}
		server, err := turn.Listen(tc)
		if err != nil {
			return err
		}
		e.turns = append(e.turns, relay{server, a.Public})
	}
	first := e.turns[0]
	e.self = steer.Edge{ID: cfg.ID, Host: cfg.Host, Media: e.sfu.Sockets()[0].Offered(), Turn: first.at(), Admits: cfg.Admits}
	if at := first.TLSAddr(); at.IsValid() {
		e.self.Turns = netip.AddrPortFrom(first.public, at.Port())
	}
	for _, a := range cfg.Public {
		if a.Public.Is4() {
			e.self.Addr4 = a.Public
		} else {
			e.self.Addr6 = a.Public
		}
	}
	return nil
}

func (e *Edge) close() {
	if e.http != nil {
		e.http.Close()
	}
	if e.seen != nil {
		e.seen.Close()
	}
	for _, r := range e.turns {
		r.Close()
	}
	if e.sfu != nil {
		e.sfu.Close()
	}
}

func (e *Edge) record(d consult.Evidence) { e.cfg.Record(d) }

// Self is the edge as it registers.
func (e *Edge) Self() steer.Edge { return e.self }

// Run serves until ctx ends; then it deregisters first, moves its rooms to lawful
// neighbours, waits for them up to Linger, and closes.
func (e *Edge) Run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	hooks := e.tellBackends()
	g, gctx := errgroup.WithContext(serving)
	mux := e.api.Handler()
	mux.HandleFunc("GET /v1/join", e.join)
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		mux.HandleFunc(method+" /v1/whip", e.whip(false))
		mux.HandleFunc(method+" /v1/whep", e.whip(true))
		mux.HandleFunc(method+" /v1/whip/{id}", e.resource)
		mux.HandleFunc(method+" /v1/whep/{id}", e.resource)
	}
	mux.HandleFunc("POST /v1/map/check", e.router.For(e.check, access.Operator))
	var handler http.Handler = mux
	listener := crowd.Listener(e.http, e.crowd)
	if e.cfg.TLS != nil {
		handler, listener = secured(mux), newFront(listener, e.cfg.TLS, e.relay)
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: faults(e.cfg.Log),
		BaseContext: func(net.Listener) context.Context { return gctx }}
	g.Go(func() error {
		if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("edge %s: http: %w", e.cfg.ID, err)
		}
		return nil
	})
	if e.seen != nil {
		observed := &http.Server{Handler: e.api.observability(e.cfg.Metrics), ReadHeaderTimeout: 10 * time.Second, ErrorLog: faults(e.cfg.Log)}
		g.Go(func() error {
			if err := observed.Serve(e.seen); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("edge %s: metrics: %w", e.cfg.ID, err)
			}
			return nil
		})
		defer context.AfterFunc(serving, func() { observed.Close() })()
	}
	g.Go(func() error { return e.router.Run(gctx) })
	g.Go(func() error { return e.pressure.run(gctx) })
	for dc, st := range e.cfg.Stores {
		g.Go(func() error { return e.notices(gctx, dc, st) })
	}
	g.Go(func() error {
		e.announce(ctx, gctx)
		e.rooms.leave(gctx, e.cfg.Linger)
		stop()
		srv.Close()
		return nil
	})
	err := g.Wait()
	e.rooms.wait()
	e.close()
	hooks()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// certified waits for a certificate: who registers is taken for up, and answered to
// clients, and nobody can join an edge without one. false: one of the contexts ended.
func (e *Edge) certified(ctx, alive context.Context) bool {
	if e.cfg.Certified == nil {
		return true
	}
	select {
	case <-e.cfg.Certified:
		return true
	case <-ctx.Done():
	case <-alive.Done():
	}
	return false
}

// registered is the address in the store: where others reach the HTTP listener.
func (e *Edge) registered() netip.AddrPort {
	return netip.AddrPortFrom(e.cfg.Public[0].Public, e.cfg.HTTP.Port())
}

// Public are the addresses that the edge is announced with, IPv4 first, and its own behind them.
func (e *Edge) Public() []Address { return e.cfg.Public }

// Inside is where this machine reaches the edge itself, past a NAT that need not lead back
// in; invalid without one.
func (e *Edge) Inside() (http netip.Addr, turn netip.AddrPort) {
	a := e.cfg.Public[0]
	if a.Own == a.Public {
		return netip.Addr{}, netip.AddrPort{}
	}
	return a.bound(e.cfg.HTTP).Addr(), e.turns[0].Addr()
}

// relay gives a connection on the HTTPS port that speaks TURN to the relay of its family.
func (e *Edge) relay(conn net.Conn) {
	to := e.turns[0]
	if at, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		for _, r := range e.turns {
			if r.public.Is4() == at.AddrPort().Addr().Unmap().Is4() {
				to = r
			}
		}
	}
	to.Serve(conn)
}

// announce keeps the edge registered until ctx ends, then takes it out. alive
// ends only when serving itself fails.
func (e *Edge) announce(ctx, alive context.Context) {
	if !e.certified(ctx, alive) {
		return
	}
	held, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(alive, stop)()
	changed, cancel := e.cfg.World.Subscribe()
	defer cancel()
	failing := false
	h := store.Hold{TTL: leaseTTL, Changed: changed,
		Self: func() store.Instance {
			self := e.self
			self.Load.Consults, self.Load.Parked = e.rooms.count()
			e.pressure.tell(&self.Load)
			return world.Instance(&self, e.cfg.Region, e.registered())
		},
		Applied: func() map[string]string { return world.Applied(e.cfg.World.Current()) },
		Told: func(err error) {
			if err != nil && !failing { // once an outage, not once a try
				e.cfg.Log.Error("registration not renewed: trying on", "err", err)
			}
			failing = err != nil
		}}
	if err := h.Keep(held, e.cfg.Stores[e.cfg.World.Current().Map.Datacenter(e.cfg.Region)]); err != nil {
		e.cfg.Log.Error("not deregistered: the lease will run out", "err", err)
	}
}

// Close closes an edge that was never run.
func (e *Edge) Close() {
	e.rooms.wait()
	if e.cfg.Webhooks != nil {
		e.cfg.Webhooks.Close()
	}
	e.close()
}

// Rooms are the consults on this edge.
func (e *Edge) Rooms() []Held {
	list := []Held{}
	for _, r := range e.sfu.Rooms() {
		list = append(list, Held{ID: r.ID, Participants: r.Participants})
	}
	return list
}
