package dnssec

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/miekg/dns"
)

// Algorithm is a number of the DNSSEC algorithm registry (IANA, RFC 9904).
type Algorithm uint8

const (
	ECDSAP256 Algorithm = 13 // ECDSAP256SHA256, RFC 6605
	Ed25519   Algorithm = 15 // RFC 8080
)

func (a Algorithm) check() error {
	if a != ECDSAP256 && a != Ed25519 {
		return fmt.Errorf("algorithm %d: want 13 (ECDSAP256SHA256) or 15 (ED25519)", a)
	}
	return nil
}

// Role is what a key signs.
type Role string

const (
	CSK Role = "csk" // everything: the default
	KSK Role = "ksk" // DNSKEY, CDS and CDNSKEY
	ZSK Role = "zsk" // everything else
)

// State is where a key is in its life (RFC 7583 section 3.1).
type State string

const (
	// Signing: signs the zone and is in no DNSKEY RRset yet: a CSK of a new algorithm.
	Signing State = "signing"
	// Published: in the DNSKEY RRset. A CSK or KSK signs already.
	Published State = "published"
	// Ready: every cache knows it. Of a CSK or KSK the CDS asks for its DS.
	Ready State = "ready"
	// Active: a ZSK signs; of a CSK or KSK the DS is in every cache.
	Active State = "active"
	// Retired: a ZSK that does not sign any more; its signatures are still in caches.
	// A CSK of an algorithm that is given up signs on, and is in no DNSKEY RRset.
	Retired State = "retired"
	// Removed: in no RRset. Its private part is gone, its record is history.
	Removed State = "removed"
)

// Key is one key of a zone. A Key is a value; nothing changes it. It prints without
// its private part, whatever the verb.
type Key struct {
	Tag       uint16 // RFC 4034 appendix B
	Role      Role
	Algorithm Algorithm
	Public    []byte // as in the DNSKEY: 64 bytes of x and y, or 32; not to be changed
	State     State

	// When it entered each state; zero if it has not. DSSeen is when its DS was seen
	// at the parent and none of another key, with the TTL that DS had, and DSBy who
	// says so.
	Signing, Published, Ready, DSSeen, Active, Retired, Removed time.Time
	DSTTL                                                       time.Duration
	DSBy                                                        string

	// private is nil once removed. It is a function because fmt and json look into
	// all else: %s of something that holds a Key even follows a pointer in it.
	private func() private
}

type private struct {
	raw    []byte // as in the key file: the scalar, or the seed (both 32 bytes)
	signer crypto.Signer
}

// String has the tag, the role, the algorithm and the state, as in "csk 12345/15 active".
func (k Key) String() string {
	return fmt.Sprintf("%s %d/%d %s", k.Role, k.Tag, k.Algorithm, k.State)
}

// GoString is String: %#v would print pointers.
func (k Key) GoString() string { return k.String() }

// sep: a secure entry point, which the parent's DS names.
func (k Key) sep() bool { return k.Role != ZSK }

// generate makes key material. Its key tag differs from those of other, of which a
// tag says which key an operator talks about, and is not 0, which miekg/dns refuses.
func generate(zone string, role Role, a Algorithm, other []Key) (Key, error) {
	if err := a.check(); err != nil {
		return Key{}, fmt.Errorf("dnssec %s: generate a key: %w", zone, err)
	}
	for {
		seed := make([]byte, ed25519.SeedSize)
		if a == ECDSAP256 {
			p, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return Key{}, fmt.Errorf("dnssec %s: generate a key: %w", zone, err)
			}
			if seed, err = p.Bytes(); err != nil {
				return Key{}, fmt.Errorf("dnssec %s: generate a key: %w", zone, err)
			}
		} else if _, err := rand.Read(seed); err != nil {
			return Key{}, fmt.Errorf("dnssec %s: generate a key: %w", zone, err)
		}
		k := Key{Role: role, Algorithm: a}
		if err := k.setPrivate(seed); err != nil {
			return Key{}, err
		}
		k.Tag = k.dnskey(zone, 0).KeyTag()
		if k.Tag != 0 && !hasTag(other, k.Tag) {
			return k, nil
		}
	}
}

func hasTag(keys []Key, tag uint16) bool {
	for _, k := range keys {
		if k.Tag == tag {
			return true
		}
	}
	return false
}

// setPrivate sets the private part and the public one that follows from it.
func (k *Key) setPrivate(raw []byte) error {
	switch k.Algorithm {
	case ECDSAP256:
		p, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
		if err != nil {
			return errors.New("not a P-256 scalar") // the cause could quote the key
		}
		point, err := p.PublicKey.Bytes()
		if err != nil {
			return err
		}
		k.Public = point[1:] // without the 4 of an uncompressed point (RFC 6605 section 4)
		k.hide(private{raw, deterministic{p}})
	case Ed25519:
		if len(raw) != ed25519.SeedSize {
			return errors.New("not an Ed25519 seed of 32 bytes")
		}
		p := ed25519.NewKeyFromSeed(raw)
		k.Public = p.Public().(ed25519.PublicKey)
		k.hide(private{raw, p})
	default:
		return k.Algorithm.check()
	}
	return nil
}

func (k *Key) hide(p private) { k.private = func() private { return p } }

// deterministic signs by RFC 6979, which crypto/ecdsa does without a source of chance.
type deterministic struct{ *ecdsa.PrivateKey }

func (d deterministic) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return d.PrivateKey.Sign(nil, digest, opts)
}

// dnskey is the key's record (RFC 4034 section 2).
func (k Key) dnskey(zone string, ttl uint32) *dns.DNSKEY {
	flags := uint16(dns.ZONE)
	if k.sep() {
		flags |= dns.SEP
	}
	return &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: ttl},
		Flags: flags, Protocol: 3, Algorithm: uint8(k.Algorithm),
		PublicKey: base64.StdEncoding.EncodeToString(k.Public),
	}
}
