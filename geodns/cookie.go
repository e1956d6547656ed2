package geodns

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"
)

// Secrets are the keys of DNS server cookies (RFC 9018 section 5): the first makes
// them, every one verifies. Nodes that share an address, or that a resolver takes
// for one server, need the same.
type Secrets [][16]byte

const (
	clientCookie = 8  // octets (RFC 7873 section 4)
	serverCookie = 16 // of the one version there is (RFC 9018 section 4)
	// How old a server cookie may be, how far ahead the clock of the node that made
	// it, and when it is replaced (RFC 9018 section 4.3).
	cookieLife  = time.Hour
	cookieAhead = 5 * time.Minute
	cookieRenew = 30 * time.Minute
)

// newSecrets are one node's own: its cookies end with the process.
func newSecrets() Secrets {
	s := make(Secrets, 1)
	rand.Read(s[0][:]) // never fails
	return s
}

// validCookie tells whether a COOKIE option has a length there is (RFC 7873
// section 5.2.2).
func validCookie(n int) bool {
	return n == clientCookie || clientCookie+8 <= n && n <= clientCookie+32
}

// bake verifies the query's cookie and makes the answer's: the same one while it is
// fresh, else a new one.
func (s *Server) bake(q *query, client netip.Addr) {
	if q.cookie == nil {
		return
	}
	secrets, now := s.secrets(), uint32(s.at(q).Unix())
	if len(q.cookie) == clientCookie+serverCookie && q.cookie[clientCookie] == 1 {
		// The time is a serial number (RFC 1982): it may wrap.
		age := time.Duration(int32(now-binary.BigEndian.Uint32(q.cookie[12:]))) * time.Second
		for i := range secrets {
			if age > cookieLife || age < -cookieAhead {
				break
			}
			h := cookieHash(&secrets[i], q.cookie[:16], client)
			if subtle.ConstantTimeCompare(h[:], q.cookie[16:]) == 1 {
				q.verified = true
				if i == 0 && age < cookieRenew {
					copy(q.baked[:], q.cookie)
					return
				}
				break
			}
		}
	}
	copy(q.baked[:], q.cookie[:clientCookie])
	q.baked[clientCookie] = 1
	binary.BigEndian.PutUint32(q.baked[12:], now)
	h := cookieHash(&secrets[0], q.baked[:16], client)
	copy(q.baked[16:], h[:])
}

// cookieHash is over client cookie, version, reserved, time and address. The octets
// leave SipHash in its own, little-endian order, as the RFC's examples do.
func cookieHash(key *[16]byte, head []byte, client netip.Addr) (h [8]byte) {
	var b [32]byte
	in := append(b[:0], head...)
	if client.Is4() {
		a := client.As4()
		in = append(in, a[:]...)
	} else {
		a := client.As16()
		in = append(in, a[:]...)
	}
	binary.LittleEndian.PutUint64(h[:], sipHash(key, in))
	return h
}
