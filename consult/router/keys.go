package router

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"bailiwick/consult"
	"bailiwick/exact"
	"bailiwick/steer"
	"bailiwick/store"
)

// Signer holds one node's key pair for join tokens. The public half goes to the store,
// where every edge finds it; the private half stays in the process, or in a file of the
// node's own state, so that a node that starts while the store is away makes links that
// every edge knows already (ADR 5).
type Signer struct {
	KID string
	key ed25519.PrivateKey
}

// NewSigner draws a key pair.
func NewSigner() (*Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("join key: %w", err)
	}
	return &Signer{KID: newID("k"), key: key}, nil
}

// keptKey is the file of a key pair.
type keptKey struct {
	KID  string `json:"kid"`
	Seed []byte `json:"seed"` // RFC 8032 section 5.1.5
}

// OpenSigner takes the key pair of the file at path, or draws one and keeps it there, for
// its owner alone to read. A file that is not a key is an error and stays as it is.
func OpenSigner(path string) (*Signer, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		s, err := NewSigner()
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(keptKey{s.KID, s.key.Seed()})
		if err == nil {
			err = store.WriteFile(path, b)
		}
		if err != nil {
			return nil, fmt.Errorf("join key: %w", err)
		}
		return s, nil
	}
	var k keptKey
	if err == nil {
		err = exact.Read(b, &k)
	}
	if err == nil && (len(k.Seed) != ed25519.SeedSize || !validKID(k.KID)) {
		err = errors.New("not a key of this program")
	}
	if err != nil {
		return nil, fmt.Errorf("join key %s: %w: remove the file, and a new key is drawn", path, err)
	}
	return &Signer{KID: k.KID, key: ed25519.NewKeyFromSeed(k.Seed)}, nil
}

// validKID tells whether a name is one that newID makes: it becomes part of a store key.
func validKID(kid string) bool {
	return len(kid) == 17 && kid[0] == 'k' && strings.Trim(kid[1:], "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// Sign makes the JWT of a token.
func (s *Signer) Sign(t *consult.Token, now time.Time) (string, error) {
	return t.Sign(s.key, s.KID, now)
}

// publicKey is the value under bailiwick/keys/KID.
type publicKey struct {
	X       string    `json:"x"` // base64url, 32 bytes (RFC 8037 section 2)
	Node    string    `json:"node"`
	Expires time.Time `json:"expires"`
}

// KeysPrefix is where public halves live in the store.
const KeysPrefix = "bailiwick/keys/"

// ParseKey reads a published key.
func ParseKey(value []byte) (steer.JoinKey, error) {
	var k publicKey
	if err := exact.Known(value, &k); err != nil {
		return steer.JoinKey{}, fmt.Errorf("join key: parse: %w", err)
	}
	x, err := base64.RawURLEncoding.DecodeString(k.X)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return steer.JoinKey{}, fmt.Errorf("join key: x: want 32 bytes of base64url")
	}
	return steer.JoinKey{Public: x, Expires: k.Expires}, nil
}

// Publish puts the public half into the store, good for a token's life and a day.
func (s *Signer) Publish(ctx context.Context, st store.Store, node string, now time.Time) error {
	b, err := json.Marshal(publicKey{X: base64.RawURLEncoding.EncodeToString(s.key.Public().(ed25519.PublicKey)),
		Node: node, Expires: now.Add(consult.TokenLife + 24*time.Hour).UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	_, err = st.Put(ctx, KeysPrefix+s.KID, b)
	return err
}

// Public is the key itself, for a process that verifies its own tokens before
// the store has told it.
func (s *Signer) Public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// newID is a random name of 80 bits, in lower-case letters and digits.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()[:16]) }
