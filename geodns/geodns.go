// Package geodns is the authoritative DNS server of a Bailiwick zone: it answers
// with the nearest lawful edge of the client's place, over UDP, TCP and TLS.
//
// It decides nothing. The place of an address is package geo's, every choice among
// edges is [steer.Rank]'s; this package words decisions as DNS (docs/protocol.md,
// section 1). It is no resolver, has no other zone, and no transfer or update.
//
// Invariants: no answer for a steered name holds an address of a region that is
// unlawful for any place in the network that was asked for; where there is no lawful
// edge the answer is NODATA with the reason (RFC 8914). The ECS scope returned never
// spans two answers, and nothing is denied to one place for a cache to deny to others. With a signer, what DO gets of the zone is signed or SERVFAIL
// (package dnssec has the keys). A query waits for nothing but the one atomic World. DNS remains
// a hint, though: the law is judged again at the join.
package geodns

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"bailiwick/datagram"
	"bailiwick/geodns/cookie"
	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/geo"
	"bailiwick/geodns/limit"
	"bailiwick/geodns/zonefile"
	"bailiwick/steer"
)

const (
	// tcpIdle is how long a TCP client may take for its next whole query (RFC 7766
	// section 6.2.3), and tcpWrite for taking an answer.
	tcpIdle  = 10 * time.Second
	tcpWrite = 5 * time.Second
	// maxConns bounds the TCP connections open at once; for a further one, another is closed.
	maxConns = 256
	// maxPerClient bounds those of one client: an IPv4 address, an IPv6 /64.
	maxPerClient = 32
)

// MaxNode is the longest name of a node, in octets.
const MaxNode = 63

// Config is what a server needs.
type Config struct {
	// Addr is where to listen, UDP and TCP; port 0 takes a free one, the same for both.
	Addr netip.AddrPort
	// Node is this node's name, told to who asks with NSID (RFC 5001); may be empty.
	Node string
	// Zone is the apex, such as "media.example".
	Zone string
	// NS are the addresses of ns1.ZONE. The default is Addr's; a wildcard Addr has
	// none. They do not count where Records has NS records at the apex.
	NS []netip.Addr
	// Why are the networks that may ask _why, beside loopback.
	Why []netip.Prefix
	// World gives the newest World, as often as there is a query.
	World func() *steer.World
	// Changes subscribes to changes of World: a value after each, conflated, until the
	// function that it gives is called. With it, a query sees a new World when all that
	// steers has been signed for it, some milliseconds later. May be nil.
	Changes func() (<-chan struct{}, func())
	// Geo places clients until SetGeo.
	Geo *geo.Table
	// Challenges gives the TXT values of an _acme-challenge name (RFC 8555 section 8.4),
	// which is canonical with the final dot; nil: it has none. It is asked for each
	// query of such a name. May be nil.
	Challenges func(name string) []string
	// Records are the zone's static records until SetRecords; nil: none.
	Records *zonefile.Records
	// Secrets gives the keys of DNS cookies, at least one, as often as there is a
	// query with a cookie. nil: one of this node's own.
	Secrets func() cookie.Secrets
	// TLS serves DNS over TLS (RFC 7858) at DoT; nil: none. Its certificates are asked
	// for with each handshake, ALPN is set here.
	TLS *tls.Config
	// DoT is where DNS over TLS listens, TCP; port 0 takes a free one.
	DoT netip.AddrPort
	// Rate is how many UDP answers a second one client network (/24, /56) gets of
	// each class; cookies and TCP go past it. 0: no limit.
	Rate int
	// QueryLog takes a sample of the queries, at most QueryLogRate lines a second
	// (docs/protocol.md, section 1); nil: none. It is written from one goroutine.
	QueryLog     io.Writer
	QueryLogRate int
	Log          *slog.Logger // nil: none
	// Registry takes the metrics; may be nil.
	Registry prometheus.Registerer
}

// Server serves one zone. Its methods are safe for concurrent use.
type Server struct {
	apex      string // canonical, with the final dot
	wire      []byte // the same as in a packet
	labels    int    // how many it has
	ns        []netip.Addr
	why       []netip.Prefix
	world     func() *steer.World
	rankings  sync.Pool // of *ranking
	queries   sync.Pool // of *query
	view      atomic.Pointer[view]
	viewing   sync.Mutex // of who makes a new one, of
	inputs    inputs
	serial    uint32 // of the last view
	changes   func() (<-chan struct{}, func())
	changed   chan struct{} // the inputs, for the preparer
	preparing atomic.Bool   // it makes the views
	secrets   func() cookie.Secrets
	acme      func(string) []string
	limiter   *limit.Limiter // may be nil
	// Of the names that steer, and of those that strangers may make up.
	signatures, denials *dnssec.Signatures
	failures            atomic.Uint64 // answers that could not be signed
	node                string
	now                 func() time.Time
	log                 *slog.Logger
	metrics             *metrics
	queryLog            *queryLog // may be nil

	udp      []*datagram.Socket // one a core
	tcp      *net.TCPListener
	dot      *net.TCPListener // nil: no DNS over TLS
	tls      *tls.Config
	idle     time.Duration // tcpIdle
	maxConns int

	mu      sync.Mutex
	conns   map[*stream]bool     // open TCP connections, TLS too
	clients map[netip.Prefix]int // how many of them each has
	closed  bool
}

// Listen opens its sockets, so that a busy port is told at once; [Server.Serve]
// answers. Errors name the address.
func Listen(c Config) (*Server, error) {
	s := &Server{why: c.Why, world: c.World, log: c.Log, conns: map[*stream]bool{},
		clients: map[netip.Prefix]int{},
		changes: c.Changes, changed: make(chan struct{}, 1), idle: tcpIdle, maxConns: maxConns, secrets: c.Secrets, acme: c.Challenges, node: c.Node, now: time.Now,
		signatures: dnssec.NewSignatures(maxSigned), denials: dnssec.NewSignatures(maxDenied)}
	if s.secrets == nil {
		own := cookie.NewSecrets()
		s.secrets = func() cookie.Secrets { return own }
	}
	s.serial = uint32(s.now().Unix())
	s.limiter = limit.New(c.Rate, s.now())
	s.rankings.New = func() any { return new(ranking) }
	s.queries.New = func() any { return newQuery() }
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.setZone(c.Zone); err != nil {
		return nil, err
	}
	if c.World == nil || c.Geo == nil {
		return nil, errors.New("dns: no world or no geo table")
	}
	if len(c.Node) > MaxNode {
		return nil, fmt.Errorf("dns: node %.64q: want at most %d octets", c.Node, MaxNode)
	}
	s.SetGeo(c.Geo)
	for _, a := range c.NS {
		s.ns = append(s.ns, clientAddr(a))
	}
	if len(s.ns) == 0 && !c.Addr.Addr().IsUnspecified() {
		s.ns = []netip.Addr{clientAddr(c.Addr.Addr())}
	}
	if err := s.SetRecords(c.Records); err != nil {
		return nil, err
	}
	if err := s.bind(c.Addr); err != nil {
		return nil, err
	}
	if err := s.bindTLS(c.DoT, c.TLS); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	var err error
	if s.metrics, err = newMetrics(c.Registry, func() *geo.Table { return s.view.Load().table }); err != nil {
		return nil, errors.Join(fmt.Errorf("dns metrics: %w", err), s.Close())
	}
	s.queryLog = newQueryLog(c.QueryLog, c.QueryLogRate, s.now(), s.log, s.metrics.unlogged)
	return s, nil
}

func (s *Server) setZone(zone string) error {
	apex := dns.CanonicalName(zone)
	wire := make([]byte, 256)
	n, err := dns.PackDomainName(apex, wire, 0, nil, false)
	if _, ok := dns.IsDomainName(apex); err != nil || !ok || zone == "" || apex == "." || strings.Contains(apex, `\`) {
		return fmt.Errorf("dns: zone %.64q: want a domain name such as media.example", zone)
	}
	s.apex, s.wire, s.labels = apex, wire[:n], dns.CountLabel(apex)
	return nil
}

// bind opens TCP first: with port 0 the kernel's choice is then tried for UDP, and
// another one where that is taken.
func (s *Server) bind(at netip.AddrPort) error {
	tries := 1
	if at.Port() == 0 {
		tries = 16
	}
	var err error
	for range tries {
		if s.tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err != nil {
			break
		}
		if s.udp, err = datagram.Listen(netip.AddrPortFrom(at.Addr(), s.Addr().Port()), runtime.GOMAXPROCS(0)); err == nil {
			break
		}
		s.tcp.Close()
	}
	if err != nil {
		return fmt.Errorf("dns %s: %w", at, err)
	}
	return nil
}

// Addr is where the server listens, UDP and TCP.
func (s *Server) Addr() netip.AddrPort { return s.tcp.Addr().(*net.TCPAddr).AddrPort() }

// SetGeo swaps the table: the next query sees it.
func (s *Server) SetGeo(t *geo.Table) {
	s.set(func(in *inputs) { in.table = t })
}

// Serve answers until ctx ends or Close is called, which is no error, and returns
// once nothing of it runs any more, but for a write of the query log that does not
// return. Call it once.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	var g errgroup.Group
	loop := func(f func() error) {
		g.Go(func() error {
			defer cancel() // one loop that fails ends all
			return f()
		})
	}
	for _, c := range s.udp {
		loop(func() error {
			return c.Serve(s.newBurst().answer)
		})
	}
	loop(func() error { return s.serveStreams(s.tcp, overTCP) })
	if s.dot != nil {
		loop(func() error { return s.serveStreams(s.dot, overTLS) })
	}
	g.Go(func() error {
		s.prepare(ctx)
		return nil
	})
	if s.queryLog == nil {
		return g.Wait()
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.queryLog.run(s.apex)
	}()
	err := g.Wait()
	close(s.queryLog.lines) // nobody answers any more
	select {
	case <-written:
	case <-time.After(queryLogPatience): // nothing ends a write to a pipe that nobody reads
		s.log.Error("query log not written to its end: what it writes to takes nothing", "waited", queryLogPatience)
	}
	return err
}

// Close ends Serve and every TCP connection.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	errs := []error{s.tcp.Close()}
	if s.dot != nil {
		errs = append(errs, s.dot.Close())
	}
	for _, c := range s.udp {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
