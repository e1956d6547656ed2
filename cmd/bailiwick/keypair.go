package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
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
	TLSCert string `help:"PEM file with the certificate and its chain; serves HTTPS and TURN over TLS. Read again when it changes and on SIGHUP." name:"tls-cert" placeholder:"FILE"`
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

// open reads the pair for an edge with this base URL; nil without flags.
func (f keyPairFlags) open(base string, log *slog.Logger) (*keyPair, error) {
	if f.TLSCert == "" && f.TLSKey == "" {
		return nil, nil
	}
	if f.TLSCert == "" || f.TLSKey == "" {
		return nil, misuse{errors.New("--tls-cert and --tls-key: give both, or none")}
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return nil, misuse{fmt.Errorf("--host %q: with TLS the base URL of join links begins with https://", base)}
	}
	p := &keyPair{keyPairFlags: f, host: u.Hostname(), log: log, seen: f.stamp()}
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
	if err := pair.Leaf.VerifyHostname(p.host); err != nil {
		p.log.Warn("the certificate does not cover the edge's host: browsers and probes will refuse it", "host", p.host, "names", pair.Leaf.DNSNames, "file", p.TLSCert)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		p.log.Warn("the certificate is not valid now: browsers and probes will refuse it", "from", pair.Leaf.NotBefore, "until", pair.Leaf.NotAfter, "file", p.TLSCert)
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

// run follows the files until ctx ends.
func (p *keyPair) run(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	return p.follow(ctx, hup)
}

// follow loads the files when they change and when it is told to. Between the writes
// of one and the other they do not match: the second write is a change of its own.
func (p *keyPair) follow(ctx context.Context, told <-chan os.Signal) error {
	t := time.NewTicker(reloadEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-told:
			p.seen = ""
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
