package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/acme"
	"bailiwick/store"
)

// acmeFlags name where certificates come from.
type acmeFlags struct {
	ACME       string `help:"Directory URL of the CA that certificates are ordered from, e.g. https://acme-v02.api.letsencrypt.org/directory; giving it agrees to its terms of service. Without it there are none." name:"acme" placeholder:"URL"`
	ACMEEmail  string `help:"Address that the CA writes to." name:"acme-email" placeholder:"ADDR"`
	ACMERoot   string `help:"Root certificates (PEM) of a private CA's own server." name:"acme-root" placeholder:"FILE"`
	ACMESecret string `help:"32 random bytes as base64 or hex that seal certificates and keys in the store; the same on every node of a region: openssl rand -base64 32." name:"acme-secret" placeholder:"FILE"`
}

// check refuses what would be ignored: an edge that was meant to have a certificate
// would serve plain HTTP.
func (f *acmeFlags) check() error {
	if f.ACME == "" && (f.ACMEEmail != "" || f.ACMERoot != "" || f.ACMESecret != "") {
		return misuse{errors.New("--acme-email, --acme-root and --acme-secret want --acme URL, the CA's directory")}
	}
	return nil
}

// keeper makes the keeper of a region's certificate; nil without --acme. state is the
// node's folder, in which copies are kept; it may be empty.
func (f *acmeFlags) keeper(e *env, st store.Store, names []string, region string, state string, reg prometheus.Registerer) (*acme.Keeper, error) {
	if f.ACME == "" {
		return nil, nil
	}
	if f.ACMESecret == "" {
		return nil, misuse{errors.New("--acme needs --acme-secret FILE: 32 random bytes, the same on every node of a region: openssl rand -base64 32 > FILE")}
	}
	secret, err := acme.ReadSecret(f.ACMESecret)
	if err != nil {
		return nil, misuse{fmt.Errorf("--acme-secret: %w", err)}
	}
	roots, err := f.caRoots()
	if err != nil {
		return nil, misuse{err}
	}
	cache := ""
	if state != "" {
		cache = filepath.Join(state, "acme")
	}
	k, err := acme.New(acme.Config{Store: st, Names: names, Region: region, CA: f.ACME, Roots: roots, Email: f.ACMEEmail,
		Cache: cache, Secret: secret, Registry: reg, Log: e.log})
	if err != nil {
		return nil, misuse{err}
	}
	return k, nil
}

// caRoots is nil, the system's, without --acme-root.
func (f *acmeFlags) caRoots() (*x509.CertPool, error) {
	if f.ACMERoot == "" {
		return nil, nil
	}
	b, err := os.ReadFile(f.ACMERoot)
	if err != nil {
		return nil, fmt.Errorf("--acme-root: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("--acme-root: %s: no certificate in it: want PEM", f.ACMERoot)
	}
	return pool, nil
}
