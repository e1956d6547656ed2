// Package cookie is DNS cookies (RFC 7873) with the server cookies of RFC 9018, which any
// node of the same secrets takes for its own. Who shows one proves an address, no more.
package cookie

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"

	"bailiwick/geodns/siphash"
)

// Secrets are the keys of DNS server cookies (RFC 9018 section 5): the first makes
// them, every one verifies. Nodes that share an address, or that a resolver takes
// for one server, need the same.
type Secrets [][16]byte

const (
	// Client is the length of a client cookie alone, in octets (RFC 7873 section 4), and
	// Whole with the server cookie of the one version there is (RFC 9018 section 4).
	Client, Whole = 8, Client + 16
	// How old a server cookie may be, how far ahead the clock of the node that made
	// it, and when it is replaced (RFC 9018 section 4.3).
	life  = time.Hour
	ahead = 5 * time.Minute
	renew = 30 * time.Minute
)

// NewSecrets are one node's own: its cookies end with the process.
func NewSecrets() Secrets {
	s := make(Secrets, 1)
	rand.Read(s[0][:]) // never fails
	return s
}

// Valid tells whether a COOKIE option has a length there is (RFC 7873 section 5.2.2).
func Valid(n int) bool { return n == Client || Client+8 <= n && n <= Client+32 }

// Bake verifies a query's cookie, of a valid length, and makes the answer's: the same one
// while it is fresh, else a new one. verified: client is no forged address.
func (s Secrets) Bake(given []byte, client netip.Addr, at time.Time) (baked [Whole]byte, verified bool) {
	now := uint32(at.Unix())
	if len(given) == Whole && given[Client] == 1 {
		// The time is a serial number (RFC 1982): it may wrap.
		age := time.Duration(int32(now-binary.BigEndian.Uint32(given[12:]))) * time.Second
		for i := range s {
			if age > life || age < -ahead {
				break
			}
			h := sum(&s[i], given[:16], client)
			if subtle.ConstantTimeCompare(h[:], given[16:]) == 1 {
				if verified = true; i == 0 && age < renew {
					return [Whole]byte(given), true
				}
				break
			}
		}
	}
	copy(baked[:], given[:Client])
	baked[Client] = 1
	binary.BigEndian.PutUint32(baked[12:], now)
	h := sum(&s[0], baked[:16], client)
	copy(baked[16:], h[:])
	return baked, verified
}

// sum is over client cookie, version, reserved, time and address. The octets
// leave SipHash in its own, little-endian order, as the RFC's examples do.
func sum(key *[16]byte, head []byte, client netip.Addr) (h [8]byte) {
	var b [32]byte
	in := append(b[:0], head...)
	if client.Is4() {
		a := client.As4()
		in = append(in, a[:]...)
	} else {
		a := client.As16()
		in = append(in, a[:]...)
	}
	binary.LittleEndian.PutUint64(h[:], siphash.Sum64(key, in))
	return h
}
