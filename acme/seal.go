package acme

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"golang.org/x/crypto/chacha20poly1305"
)

// Secret seals values. It has no readable form.
type Secret struct{ aead cipher.AEAD }

// errSealed is what a value that the secret does not open is told by.
var errSealed = errors.New("does not open with this secret: is it the file that the other nodes of the region have? To give the value up, delete its key and its cached copy: it is obtained anew")

const howSecret = "want 32 random bytes as base64 or hex: openssl rand -base64 32 > FILE, the same on every node of a region"

// ReadSecret reads 32 random bytes, written as base64 or hex, from a file.
func ReadSecret(path string) (*Secret, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("acme secret: %w: %s", err, howSecret)
	}
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("acme secret %s: mode %04o lets everybody read or write it: chmod 600 it", path, st.Mode().Perm())
	}
	s, err := parseSecret(b)
	if err != nil {
		return nil, fmt.Errorf("acme secret %s: %w: %s", path, err, howSecret)
	}
	return s, nil
}

// parseSecret names lengths in its errors, never contents.
func parseSecret(b []byte) (*Secret, error) {
	b = bytes.TrimSpace(b)
	key, err := hex.DecodeString(string(b))
	if err != nil {
		unpadded := bytes.TrimRight(b, "=")
		key, err = base64.RawStdEncoding.DecodeString(string(unpadded))
		if err != nil {
			key, err = base64.RawURLEncoding.DecodeString(string(unpadded))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%d characters that are neither", len(b))
	}
	return NewSecret(key)
}

// NewSecret takes the 32 bytes themselves.
func NewSecret(key []byte) (*Secret, error) {
	if len(key) != chacha20poly1305.KeySize {
		return nil, fmt.Errorf("%d bytes, not %d", len(key), chacha20poly1305.KeySize)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	return &Secret{aead}, nil
}

// sealed values: this byte, the nonce, the ciphertext with its tag.
const sealFormat = 1

// seal binds a value to its key in the store: moved to another it does not open.
func (s *Secret) seal(key string, value []byte) []byte {
	b := make([]byte, 1+s.aead.NonceSize(), 1+s.aead.NonceSize()+len(value)+s.aead.Overhead())
	b[0] = sealFormat
	rand.Read(b[1:])
	return s.aead.Seal(b, b[1:], value, []byte(key))
}

func (s *Secret) open(key string, sealed []byte) ([]byte, error) {
	n := 1 + s.aead.NonceSize()
	if len(sealed) < n || sealed[0] != sealFormat {
		return nil, fmt.Errorf("acme: %s: not a sealed value of format %d", key, sealFormat)
	}
	value, err := s.aead.Open(nil, sealed[1:n], sealed[n:], []byte(key))
	if err != nil {
		return nil, fmt.Errorf("acme: %s: %w", key, errSealed)
	}
	return value, nil
}
