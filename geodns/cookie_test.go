package geodns

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// cookieOf is the COOKIE option of an answer in hexadecimal.
func cookieOf(m *dns.Msg) string {
	if o := m.IsEdns0(); o != nil {
		for _, e := range o.Option {
			if e, ok := e.(*dns.EDNS0_COOKIE); ok {
				return e.Cookie
			}
		}
	}
	return ""
}

// TestSipHash has the vectors of the algorithm's authors: the key is 00..0f, the
// message 00, 01, ….
func TestSipHash(t *testing.T) {
	var key [16]byte
	var msg []byte
	for i := range key {
		key[i] = byte(i)
	}
	for i, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5} {
		msg = msg[:0]
		for k := range i {
			msg = append(msg, byte(k))
		}
		if got := sipHash(&key, msg); got != want {
			t.Errorf("%d octets: got %x, want %x", i, got, want)
		}
	}
}

// TestCookieVectors is RFC 9018 appendix A.
func TestCookieVectors(t *testing.T) {
	one, two, three := "e5e973e5a6b2a43f48e7dc849e37bfcf", "dd3bdf9344b678b185a6f5cb60fca715", "445536bcd2513298075a5d379663c962"
	for _, r := range []struct {
		name     string
		secrets  []string
		client   string
		at       int64
		query    string
		verified bool
		want     string
	}{
		{"A.1 a first server cookie", []string{one}, "198.51.100.100", 1559731985, "2464c4abcf10c957", false, "2464c4abcf10c957010000005cf79f111f8130c3eee29480"},
		{"A.2 renewed after 40 minutes", []string{one}, "198.51.100.100", 1559734385, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", true, "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"},
		{"A.3 reserved octets are hashed, not judged", []string{one}, "203.0.113.203", 1559728000, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", true, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5"},
		{"A.3 almost two hours later", []string{one}, "203.0.113.203", 1559734700, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", false, "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"},
		{"A.4 IPv6, and the secret was rolled", []string{three, two}, "2001:db8:220:1:59de:d0f4:8769:82b8", 1559741961, "22681ab97d52c298010000005cf7c57926556bd0934c72f8", true, "22681ab97d52c298010000005cf7c609a6bb79d16625507a"},
	} {
		var secrets Secrets
		for _, k := range r.secrets {
			secrets = append(secrets, [16]byte(unhex(t, k)))
		}
		s := listen(t, func(c *Config) { c.Secrets = func() Secrets { return secrets } })
		q := query{cookie: unhex(t, r.query), began: time.Unix(r.at, 0)}
		s.bake(&q, netip.MustParseAddr(r.client))
		if got := hex.EncodeToString(q.baked[:]); got != r.want || q.verified != r.verified {
			t.Errorf("%s: got %s, verified %v; want %s, %v", r.name, got, q.verified, r.want, r.verified)
		}
	}
}

func TestCookies(t *testing.T) {
	old, current := [16]byte{1}, [16]byte{2}
	secrets := Secrets{old}
	at := now
	s := listen(t, func(c *Config) { c.Secrets = func() Secrets { return secrets } })
	s.now = func() time.Time { return at }
	bake := func(cookie []byte, client string) query {
		q := query{cookie: cookie}
		s.bake(&q, netip.MustParseAddr(client))
		return q
	}
	first := bake([]byte("8 octets"), berlin).baked
	for _, r := range []struct {
		name     string
		later    time.Duration
		secrets  Secrets
		client   string
		flip     int // an octet of it that is changed; -1: none
		verified bool
		same     bool
	}{
		{"at once", 0, Secrets{old}, berlin, -1, true, true},
		{"after 29 minutes it is the same", 29 * time.Minute, Secrets{old}, berlin, -1, true, true},
		{"after 31 minutes it is renewed", 31 * time.Minute, Secrets{old}, berlin, -1, true, false},
		{"after one hour", time.Hour, Secrets{old}, berlin, -1, true, false},
		{"after more", time.Hour + time.Second, Secrets{old}, berlin, -1, false, false},
		{"from a clock 5 minutes ahead", -5 * time.Minute, Secrets{old}, berlin, -1, true, true},
		{"from a clock farther ahead", -5*time.Minute - time.Second, Secrets{old}, berlin, -1, false, false},
		{"the secret was rolled", time.Minute, Secrets{current, old}, berlin, -1, true, false},
		{"the old secret is forgotten", time.Minute, Secrets{current}, berlin, -1, false, false},
		{"a secret that is not yet used", time.Minute, Secrets{current, old}, berlin, -1, true, false},
		{"from another address", 0, Secrets{old}, "192.0.2.2", -1, false, false},
		{"another client cookie", time.Minute, Secrets{old}, berlin, 0, false, false},
		{"another version", time.Minute, Secrets{old}, berlin, 8, false, false},
		{"another time", time.Minute, Secrets{old}, berlin, 15, false, false},
		{"another hash", time.Minute, Secrets{old}, berlin, 23, false, false},
	} {
		at, secrets = now.Add(r.later), r.secrets
		cookie := append([]byte(nil), first[:]...)
		if r.flip >= 0 {
			cookie[r.flip] ^= 1
		}
		q := bake(cookie, r.client)
		if same := q.baked == first; q.verified != r.verified || same != r.same {
			t.Errorf("%s: verified %v, the same %v; want %v, %v", r.name, q.verified, same, r.verified, r.same)
		}
		if again := bake(q.baked[:], r.client); !again.verified {
			t.Errorf("%s: the cookie it gave is not taken back", r.name)
		}
	}
	at, secrets = now, Secrets{old}
	odd := first
	odd[clientCookie] = 2
	h := cookieHash(&old, odd[:16], netip.MustParseAddr(berlin))
	copy(odd[16:], h[:])
	if q := bake(odd[:], berlin); q.verified {
		t.Error("another version, with a hash that fits: verified")
	}
	at = time.Unix(1<<32-10, 0)
	last := bake([]byte("8 octets"), berlin).baked
	if at = at.Add(time.Minute); !bake(last[:], berlin).verified {
		t.Error("after the 32 bits of time have wrapped: not verified (RFC 1982)")
	}
}
