package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// keyPair is a certificate and its key in files that something else renews. It is
// safe for concurrent use.
type keyPair struct {
	cert, key string // PEM; cert has the chain too
	current   atomic.Pointer[tls.Certificate]
}

func readKeyPair(cert, key string) (*keyPair, error) {
	k := &keyPair{cert: cert, key: key}
	return k, k.reload()
}

// reload takes the files as they are now; with an error the last good pair stays.
func (k *keyPair) reload() error {
	c, err := tls.LoadX509KeyPair(k.cert, k.key)
	if err != nil {
		return fmt.Errorf("certificate %s, key %s: %w", k.cert, k.key, err)
	}
	k.current.Store(&c)
	return nil
}

// GetCertificate is for [tls.Config].
func (k *keyPair) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return k.current.Load(), nil
}

// run follows the files until ctx ends. Who renews them writes one after the other:
// a pair that does not match yet is tried again with the next change.
func (k *keyPair) run(ctx context.Context, log *slog.Logger) error {
	t := time.NewTicker(reloadEvery)
	defer t.Stop()
	for seen := k.stamp(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := k.stamp()
		if now == seen {
			continue
		}
		seen = now
		if err := k.reload(); err != nil {
			log.Error("certificate not reloaded: the last good one stays in force", "err", err)
			continue
		}
		log.Info("certificate reloaded", "file", k.cert, "until", k.current.Load().Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
}

// stamp changes when one of the files does.
func (k *keyPair) stamp() string { return stamp(k.cert) + stamp(k.key) }
