// Package acme gets certificates by ACME (RFC 8555) with DNS-01 answered by this
// product's own DNS nodes, and keeps one certificate a region fresh and served.
//
// A [Keeper] runs in every process that serves TLS. The nodes of a region share a
// certificate, its private key and an ACME account through the store, sealed; a lock
// there makes their orders one. A [Challenges] runs in every DNS node: it follows the
// challenges in the store, hands them to the DNS server without a lock, and
// says in its lease which revision it serves. Nothing else of the house is known here.
//
// Invariants: what was once served goes on being served, expired if need be, whatever
// becomes of the CA, the store or the DNS nodes; a region's private key is under the
// region's own keys in the store and nowhere else; and nothing that leaves this
// process for store or disk is readable without the secret.
package acme

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
	acmeapi "github.com/mholt/acmez/v3/acme"
	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/store"
)

// Config describes a keeper.
type Config struct {
	Store    store.Store
	Names    []string       // of the certificate; see Names
	Region   string         // under whose keys all of it is kept: "de-fra"
	CA       string         // the directory's URL, e.g. https://acme-v02.api.letsencrypt.org/directory
	Roots    *x509.CertPool // that the CA's own server is verified with; nil: the system's
	Email    string         // for the CA's messages; may be empty
	Cache    string         // folder of copies for a start without the store; empty: none
	Secret   *Secret        // seals all that is kept
	Log      *slog.Logger
	Registry prometheus.Registerer // may be nil
}

// Keeper obtains one certificate for all its names, renews it and serves it. Its
// methods are safe for concurrent use; Run is called once.
type Keeper struct {
	region  string
	names   []string
	storage *Storage
	key     string // of the certificate in the storage
	account string // of the ACME account there
	client  *acmez.Client
	email   string
	log     *slog.Logger
	metrics *metrics
	changed chan struct{} // holds one: the store's certificate may be another
	have    chan struct{} // closed with the first certificate
	began   time.Time

	current atomic.Pointer[certificate] // served; nil: none yet
	failed  atomic.Pointer[failure]     // the last attempt, when it failed
	due     atomic.Pointer[time.Time]   // when the certificate wants renewing

	// Run's own.
	ordered time.Time            // when this node last got one
	unsaved bool                 // current is not in the store
	ari     *acmeapi.RenewalInfo // of current; nil: not known
	askARI  time.Time            // when to ask for it again
	retry   time.Time            // no order before
	tries   int                  // that failed in a row
	look    bool                 // the store is to be asked
}

type failure struct{ err error }

// New returns a keeper that serves what its cache has. It asks neither store nor CA.
func New(c Config) (*Keeper, error) {
	names, err := tidy(c.Names)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", c.Region, err)
	}
	u, err := url.Parse(c.CA)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("acme directory %q: want an https URL such as https://acme-v02.api.letsencrypt.org/directory", c.CA)
	}
	st, err := NewStorage(c.Store, c.Region, c.Secret, c.Cache, c.Log)
	if err != nil {
		return nil, err
	}
	// Another CA or another set of names is another certificate: neither a test CA's
	// nor one that lacks a name is ever taken for it.
	set := sha256.Sum256([]byte(c.CA + "\n" + strings.Join(names, "\n")))
	k := &Keeper{
		region: c.Region, names: names, storage: st, email: c.Email, log: c.Log, began: time.Now(), look: true,
		key:     fmt.Sprintf("certificates/%s-%x", word(u.Host), set[:8]),
		account: "accounts/" + word(u.Host+u.Path),
		changed: make(chan struct{}, 1),
		have:    make(chan struct{}),
	}
	k.due.Store(&k.began)
	k.client = client(c, newSolver(c.Store))
	if k.metrics, err = newMetrics(k, c.Registry); err != nil {
		return nil, fmt.Errorf("certificate of %s: metrics: %w", c.Region, err)
	}
	b, err := st.cached(k.key)
	switch {
	case errors.Is(err, errSealed):
		return nil, err
	case err == nil:
		if cert, err := decodeCertificate(b, names); err == nil {
			k.serve(cert)
		} else {
			c.Log.Warn("cached certificate not used: the store's is waited for", "region", c.Region, "err", err)
		}
	}
	return k, nil
}

// client speaks ACME through DNS-01 alone: the CA's several validators would reach
// different edges by the other challenges. Its own log tells of every request and
// names tokens; what matters comes back as an error.
func client(c Config, s *Solver) *acmez.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: c.Roots}
	return &acmez.Client{
		Client: &acmeapi.Client{
			Directory:   c.CA,
			UserAgent:   "bailiwick",
			HTTPClient:  &http.Client{Transport: bounded{transport}, Timeout: 30 * time.Second},
			PollTimeout: 2 * time.Minute,
			Logger:      slog.New(slog.DiscardHandler),
		},
		ChallengeSolvers: map[string]acmez.Solver{acmeapi.ChallengeTypeDNS01: s},
	}
}

// maxAnswer bounds what is read of one answer of a CA, in octets: the library reads all
// of it into memory, and that of an error into the error.
const maxAnswer = 256 << 10

// bounded reads no more of an answer.
type bounded struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(q *http.Request) (*http.Response, error) {
	r, err := b.RoundTripper.RoundTrip(q)
	if err == nil {
		r.Body = http.MaxBytesReader(nil, r.Body, maxAnswer)
	}
	return r, err
}

// TLSConfig serves the newest certificate to each new connection; those that are open
// stay as they are.
func (k *Keeper) TLSConfig() *tls.Config {
	return &tls.Config{GetCertificate: k.GetCertificate, MinVersion: tls.VersionTLS12}
}

// GetCertificate is for tls.Config. It waits for nothing; without a certificate it
// says why there is none.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.current.Load(); c != nil {
		return c.pair, nil
	}
	if f := k.failed.Load(); f != nil {
		return nil, fmt.Errorf("no certificate for region %s yet: %w", k.region, f.err)
	}
	return nil, fmt.Errorf("no certificate for region %s yet: it is being obtained", k.region)
}

// Obtained is closed once there is a certificate to serve: at once where the cache had it.
func (k *Keeper) Obtained() <-chan struct{} { return k.have }

// Run keeps the certificate until ctx ends, whose error it returns. Nothing else ends
// it: a failure is logged, counted and tried again.
func (k *Keeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		k.storage.follow(ctx, k.key, func() {
			select {
			case k.changed <- struct{}{}:
			default:
			}
		})
	})
	for {
		next := k.step(ctx)
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-k.changed:
			k.look = true
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step does what is due and returns when the next is. Its bounds keep a hung store
// or CA from holding it for ever.
func (k *Keeper) step(ctx context.Context) (next time.Time) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if now := time.Now(); !now.Before(k.retry) {
		if err := k.renew(ctx, now); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			k.fail(err, time.Now()) // an attempt may have taken minutes
		} else if err == nil {
			k.tries, k.retry = 0, time.Time{}
			k.failed.Store(nil)
		}
	} else if k.look { // another node may have had more luck
		k.look = k.load(ctx) != nil
	}
	now := time.Now()
	k.plan()
	next = now.Add(time.Hour)
	for _, t := range []time.Time{k.askARI, *k.due.Load()} {
		if t.Before(next) {
			next = t
		}
	}
	if next.Before(k.retry) {
		next = k.retry
	}
	return next
}

// refused is an order that failed.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

// fail puts the next attempt off by a minute. After an order it is 1 minute, then 3, 9,
// 27 and an hour, so that two nodes stay about within the validations that a public CA
// lets fail in an hour.
func (k *Keeper) fail(err error, now time.Time) {
	wait := time.Minute
	if errors.As(err, new(refused)) {
		for range min(k.tries, 4) {
			wait = min(3*wait, time.Hour)
		}
		k.tries++
	}
	k.retry = now.Add(wait)
	k.failed.Store(&failure{err})
	k.metrics.failures.Inc()
	cert, said := k.current.Load(), fmt.Sprintf("%.1000s", err) // of a CA's answer it may hold all
	switch {
	case cert == nil:
		k.log.Error("certificate not obtained: TLS cannot be served", "region", k.region, "retry", k.retry, "err", said)
	case now.After(cert.leaf.NotAfter):
		k.log.Error("certificate has expired and is not renewed: it is served all the same", "region", k.region,
			"expired", cert.leaf.NotAfter, "retry", k.retry, "err", said)
	default:
		k.log.Error("certificate not renewed: the old one is served", "region", k.region,
			"expires", cert.leaf.NotAfter, "retry", k.retry, "err", said)
	}
}

// serve puts a certificate in force for every later handshake.
func (k *Keeper) serve(c *certificate) {
	old := k.current.Load()
	if old != nil && old.leaf.Equal(c.leaf) {
		return
	}
	k.current.Store(c)
	if old == nil {
		close(k.have)
	}
	k.ari, k.askARI, k.unsaved = nil, time.Time{}, false
	k.plan()
	k.log.Info("certificate in force", "region", k.region, "names", c.leaf.DNSNames, "expires", c.leaf.NotAfter)
}

// leastLife is how long every new certificate is kept: one that is over when it comes, or
// ends before it begins, would else be followed by the next order at once, and so on.
const leastLife = 10 * time.Second

// plan works out when the certificate wants renewing: at the time chosen in the CA's
// window (RFC 9773 section 4.2), in the last twentieth of its life at the latest;
// without a window when a third of its life is left. A CA that wants each new
// certificate renewed at once gets one order an hour.
func (k *Keeper) plan() {
	due := k.began
	if c := k.current.Load(); c != nil {
		life := c.leaf.NotAfter.Sub(c.leaf.NotBefore)
		due = c.leaf.NotAfter.Add(-life / 3)
		if k.ari != nil && !k.ari.SelectedTime.IsZero() {
			due = k.ari.SelectedTime
			if latest := c.leaf.NotAfter.Add(-life / 20); latest.Before(due) {
				due = latest
			}
		}
		if soonest := k.ordered.Add(max(min(time.Hour, life/3), leastLife)); due.Before(soonest) {
			due = soonest
		}
	}
	k.due.Store(&due)
}

// word makes one segment of a key of a host and path.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(s))
	return cmp.Or(strings.Trim(s, "-."), "ca")
}

// tidy checks names, orders them, and drops those that a wildcard among them covers:
// a CA refuses an order in which a name is redundant.
func tidy(names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, errors.New("no names")
	}
	all := slices.Clone(names)
	for i, n := range all {
		all[i] = strings.ToLower(strings.TrimSuffix(n, "."))
		if !hostname(strings.TrimPrefix(all[i], "*.")) {
			return nil, fmt.Errorf("name %q: want a host name, or *. and one", n)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(n string) bool {
		_, parent, _ := strings.Cut(n, ".")
		return !strings.HasPrefix(n, "*.") && slices.Contains(all, "*."+parent)
	}), nil
}
