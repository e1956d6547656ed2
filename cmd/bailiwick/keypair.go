package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// tlsRoot names a private CA.
type tlsRoot struct {
	TLSRoot string `help:"PEM file of a private CA that issued the edges' certificates; probes trust it beside the system's." name:"tls-root" placeholder:"FILE"`
}

// roots are the system's and the private CA; nil, the system's, without one.
func (f tlsRoot) roots() (*x509.CertPool, error) {
	if f.TLSRoot == "" {
		return nil, nil
	}
	b, err := os.ReadFile(f.TLSRoot)
	if err != nil {
		return nil, misuse{fmt.Errorf("--tls-root: %w", err)}
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(b) {
		return nil, misuse{fmt.Errorf("--tls-root: %s: holds no certificate: want PEM", f.TLSRoot)}
	}
	return pool, nil
}

// keyPairFlags name a certificate of the operator's own PKI.
type keyPairFlags struct {
	TLSCert string `help:"PEM file with the certificate and its chain; for TLS. Read again when it changes." name:"tls-cert" placeholder:"FILE"`
	TLSKey  string `help:"PEM file with its private key." name:"tls-key" placeholder:"FILE"`
}

// keyPair is a certificate in files, followed while they change.
type keyPair struct {
	keyPairFlags
	host    string // that the names should cover
	log     *slog.Logger
	current atomic.Pointer[tls.Certificate]
	seen    string
}

// open reads the pair for a listener whose clients know it as host, or by many names;
// nil without flags.
func (f keyPairFlags) open(host string, log *slog.Logger) (*keyPair, error) {
	if f.TLSCert == "" && f.TLSKey == "" {
		return nil, nil
	}
	if f.TLSCert == "" || f.TLSKey == "" {
		return nil, misuse{errors.New("--tls-cert and --tls-key: give both, or none")}
	}
	p := &keyPair{keyPairFlags: f, host: host, log: log, seen: f.stamp()}
	if err := p.load(); err != nil {
		return nil, misuse{err}
	}
	return p, nil
}

// load reads the files; a pair that cannot be used leaves the last one in force.
func (p *keyPair) load() error {
	pair, err := tls.LoadX509KeyPair(p.TLSCert, p.TLSKey)
	if err != nil {
		return fmt.Errorf("--tls-cert %s, --tls-key %s: %w: want a certificate chain and its private key, both PEM", p.TLSCert, p.TLSKey, err)
	}
	if err := pair.Leaf.VerifyHostname(p.host); err != nil && p.host != "" {
		p.log.Warn("the certificate does not cover the name that clients know: they will refuse it", "host", p.host, "names", pair.Leaf.DNSNames, "file", p.TLSCert)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		p.log.Warn("the certificate is not valid now: clients will refuse it", "from", pair.Leaf.NotBefore, "until", pair.Leaf.NotAfter, "file", p.TLSCert)
	}
	if st, err := os.Stat(p.TLSKey); err == nil && st.Mode().Perm()&0o007 != 0 {
		p.log.Warn("others may read the private key: chmod 600 it", "mode", st.Mode().Perm(), "file", p.TLSKey)
	}
	p.current.Store(&pair)
	return nil
}

// config asks for the newest certificate at each handshake.
func (p *keyPair) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.current.Load(), nil }}
}

func (f keyPairFlags) stamp() string { return stamp(f.TLSCert) + stamp(f.TLSKey) }

// run follows the files until ctx ends. Between the writes of one and the other they
// do not match: the second write is a change of its own.
func (p *keyPair) run(ctx context.Context) error {
	t := time.NewTicker(reloadEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := p.stamp()
		if now == p.seen {
			continue
		}
		p.seen = now
		if err := p.load(); err != nil {
			p.log.Error("certificate not reloaded: the last good one stays in force", "err", err)
			continue
		}
		p.log.Info("certificate reloaded", "file", p.TLSCert, "until", p.current.Load().Leaf.NotAfter)
	}
}

// certFlags are where a certificate comes from.
type certFlags struct {
	keyPairFlags
	acmeFlags
}

// given tells whether there is one at all.
func (f *certFlags) given() bool { return f.TLSCert != "" || f.TLSKey != "" || f.ACME != "" }

// check refuses flags that contradict each other, or would be ignored.
func (f *certFlags) check() error {
	if f.ACME != "" && (f.TLSCert != "" || f.TLSKey != "") {
		return misuse{errors.New("--acme and --tls-cert: give one of them")}
	}
	return f.acmeFlags.check()
}

// certified is TLS with a certificate from one of them; the zero value is none.
type certified struct {
	config *tls.Config
	renew  func(context.Context) error // keeps the certificate fresh
	have   <-chan struct{}             // closed once there is one; nil: there is
}

// await returns once there is a certificate where one is wanted; false: ctx ended.
func (c certified) await(ctx context.Context) bool {
	if c.have == nil {
		return true
	}
	select {
	case <-c.have:
		return true
	case <-ctx.Done():
		return false
	}
}

// certificate gives the certificate. An ACME one is of names and belongs to region; host
// is as for open.
func (f *certFlags) certificate(e *env, n *node, state, host, region string, names []string) (certified, error) {
	if err := f.check(); err != nil {
		return certified{}, err
	}
	pair, err := f.open(host, e.log)
	if err != nil {
		return certified{}, err
	}
	if pair != nil {
		return certified{config: pair.config(), renew: pair.run}, nil
	}
	k, err := f.keeper(e, n.first(), names, region, state, n.metrics)
	if err != nil || k == nil {
		return certified{}, err
	}
	return certified{config: k.TLSConfig(), renew: k.Run, have: k.Obtained()}, nil
}
