package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	acmeapi "github.com/mholt/acmez/v3/acme"

	"bailiwick/exact"
)

// certificate is one that can be served. Key and chain are one value in the storage,
// so that nobody ever finds one without the other.
type certificate struct {
	leaf *x509.Certificate
	pair *tls.Certificate
	kept []byte // as stored
}

type storedCertificate struct {
	Key   string `json:"key"`   // PEM
	Chain string `json:"chain"` // PEM, the leaf first
}

// decodeCertificate refuses what does not serve all the names.
func decodeCertificate(b []byte, names []string) (*certificate, error) {
	var s storedCertificate
	if err := exact.Known(b, &s); err != nil {
		return nil, fmt.Errorf("stored certificate: %w", err)
	}
	pair, err := tls.X509KeyPair([]byte(s.Chain), []byte(s.Key))
	if err != nil {
		return nil, fmt.Errorf("stored certificate: %w", err)
	}
	for _, n := range names {
		if !slices.Contains(pair.Leaf.DNSNames, n) {
			return nil, fmt.Errorf("stored certificate: name %s is not on it", n)
		}
	}
	return &certificate{leaf: pair.Leaf, pair: &pair, kept: b}, nil
}

// usable tells whether clients take the certificate now; their clocks differ, and CAs
// put the beginning an hour back.
func (c *certificate) usable(now time.Time) bool {
	return c.leaf.NotBefore.Before(now.Add(time.Hour)) && now.Before(c.leaf.NotAfter)
}

// worse tells whether c must not take old's place: the newer of two wins, unless it is of
// no use and the older one is. Every node decides alike, or they would overwrite each other.
func (c *certificate) worse(old *certificate, now time.Time) bool {
	if is := c.usable(now); is != old.usable(now) {
		return !is
	}
	return c.leaf.NotBefore.Before(old.leaf.NotBefore)
}

// load puts the storage's certificate in force; a missing one is no error. A store that
// has lost it, or fell back to an older one, gets the newer one again: of the nodes of
// a region the newest certificate wins.
func (k *Keeper) load(ctx context.Context) error {
	b, err := k.storage.Load(ctx, k.key)
	old := k.current.Load()
	if errors.Is(err, fs.ErrNotExist) {
		k.unsaved = old != nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	c, err := decodeCertificate(b, k.names)
	switch {
	case err != nil:
		return err
	case old != nil && c.worse(old, time.Now()):
		k.unsaved = true
	default:
		k.serve(c)
	}
	return nil
}

// renew brings the certificate up to date, from the store or with an order.
func (k *Keeper) renew(ctx context.Context, now time.Time) error {
	if k.look || k.current.Load() == nil {
		if err := k.load(ctx); err != nil {
			return err
		}
		k.look = false
	}
	if k.unsaved {
		if err := k.save(ctx, k.current.Load()); err != nil {
			return err
		}
	}
	k.window(ctx, now)
	k.plan()
	if now.Before(*k.due.Load()) {
		return nil
	}
	return k.order(ctx)
}

// window asks the CA when it wants the certificate renewed. Without an answer the
// last one, or a share of the certificate's life, stands.
func (k *Keeper) window(ctx context.Context, now time.Time) {
	c := k.current.Load()
	if c == nil {
		k.askARI = now.Add(time.Hour)
		return
	}
	if now.Before(k.askARI) {
		return
	}
	k.askARI = now.Add(6 * time.Hour) // RFC 9773 section 4.3
	ari, err := k.client.GetRenewalInfo(ctx, c.leaf)
	if err != nil {
		return // the certificate's own life says when to renew; an order tells of a CA that is down
	}
	if ari.RetryAfter != nil {
		k.askARI = now.Add(min(max(ari.RetryAfter.Sub(now), time.Minute), 24*time.Hour))
	}
	if k.ari == nil || !ari.SameWindow(*k.ari) { // in the same window the first choice stands
		k.ari = &ari
	}
}

// order gets a new certificate, unless another node of the region did meanwhile. It
// stops when the lock is lost.
func (k *Keeper) order(ctx context.Context) error {
	lock, err := k.storage.lock(ctx, "order")
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		lock.Unlock(bounded) // else it ends by itself
	}()
	before := k.current.Load()
	if err := k.load(ctx); err != nil {
		return err
	}
	if k.current.Load() != before {
		return nil
	}
	held, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-lock.Lost():
			cancel(errors.New("the lock was lost"))
		case <-held.Done():
		}
	}()
	c, err := k.obtain(held, before)
	if err != nil {
		if held.Err() != nil && ctx.Err() == nil {
			err = context.Cause(held)
		}
		return refused{fmt.Errorf("certificate: order from %s: %w", k.client.Directory, err)}
	}
	k.ordered = time.Now()
	if before != nil && before.usable(k.ordered) && !c.usable(k.ordered) {
		return refused{fmt.Errorf("certificate: order from %s: it gave one from %s until %s, and it is %s: is the CA's clock right, and this node's?",
			k.client.Directory, c.leaf.NotBefore.Format(time.RFC3339), c.leaf.NotAfter.Format(time.RFC3339), k.ordered.UTC().Format(time.RFC3339))}
	}
	k.serve(c) // even when it cannot be saved: the CA has counted it
	k.unsaved = true
	return k.save(ctx, c)
}

func (k *Keeper) save(ctx context.Context, c *certificate) error {
	if err := k.storage.Store(ctx, k.key, c.kept); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	k.unsaved = false
	return nil
}

// obtain makes one order for all names with a new private key. replaced may be nil.
func (k *Keeper) obtain(ctx context.Context, replaced *certificate) (*certificate, error) {
	account, err := k.register(ctx)
	if err != nil {
		return nil, err
	}
	// The account is what a CAA record's accounturi names (RFC 8657 section 3).
	k.log.Info("certificate ordered", "region", k.region, "names", k.names, "account", account.Location)
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	csr, err := acmez.NewCSR(key, k.names)
	if err != nil {
		return nil, err
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	// A CA may take such an order outside of its rate limits (RFC 9773 section 5), and
	// refuses one for a certificate or an account that it no longer knows: every second
	// one is plain.
	if replaced != nil && k.tries%2 == 0 {
		params.Replaces = replaced.leaf
	}
	chains, err := k.client.ObtainCertificate(ctx, params)
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("no certificate in the answer")
	}
	b, err := json.Marshal(storedCertificate{Key: string(keyPEM), Chain: string(chains[0].ChainPEM)})
	if err != nil {
		return nil, err
	}
	return decodeCertificate(b, k.names)
}

// register returns the region's account. Asking for a new one with a key that the CA
// knows returns the one there is (RFC 8555 section 7.3.1), so the key is all that is
// kept, and a CA that has lost its accounts makes another.
func (k *Keeper) register(ctx context.Context) (acmeapi.Account, error) {
	b, err := k.storage.Load(ctx, k.account)
	var key crypto.Signer
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if key, b, err = newKey(); err == nil {
			err = k.storage.Store(ctx, k.account, b)
		}
	case err == nil:
		key, err = parseKey(b)
	}
	if err != nil {
		return acmeapi.Account{}, fmt.Errorf("account: %w", err)
	}
	account := acmeapi.Account{PrivateKey: key, TermsOfServiceAgreed: true}
	if k.email != "" {
		account.Contact = []string{"mailto:" + k.email}
	}
	if account, err = k.client.NewAccount(ctx, account); err != nil {
		return account, fmt.Errorf("account: %w", err)
	}
	return account, nil
}

func newKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	b, err := certmagic.PEMEncodePrivateKey(key)
	return key, b, err
}

// parseKey reads a key of newKey; certmagic's own reader is content with any PEM.
func parseKey(b []byte) (crypto.Signer, error) {
	if block, _ := pem.Decode(b); block == nil {
		return nil, errors.New("stored key: not PEM")
	}
	return certmagic.PEMDecodePrivateKey(b)
}
