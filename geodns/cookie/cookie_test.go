package cookie

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"
)

const berlin = "192.0.2.1"

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectors is RFC 9018 appendix A.
func TestVectors(t *testing.T) {
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
		baked, verified := secrets.Bake(unhex(t, r.query), netip.MustParseAddr(r.client), time.Unix(r.at, 0))
		if got := hex.EncodeToString(baked[:]); got != r.want || verified != r.verified {
			t.Errorf("%s: got %s, verified %v; want %s, %v", r.name, got, verified, r.want, r.verified)
		}
	}
}

func TestBake(t *testing.T) {
	old, current := [16]byte{1}, [16]byte{2}
	secrets := Secrets{old}
	at := now
	bake := func(cookie []byte, client string) (baked [Whole]byte, verified bool) {
		return secrets.Bake(cookie, netip.MustParseAddr(client), at)
	}
	first, _ := bake([]byte("8 octets"), berlin)
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
		baked, verified := bake(cookie, r.client)
		if same := baked == first; verified != r.verified || same != r.same {
			t.Errorf("%s: verified %v, the same %v; want %v, %v", r.name, verified, same, r.verified, r.same)
		}
		if _, again := bake(baked[:], r.client); !again {
			t.Errorf("%s: the cookie it gave is not taken back", r.name)
		}
	}
	at, secrets = now, Secrets{old}
	odd := first
	odd[Client] = 2
	h := sum(&old, odd[:16], netip.MustParseAddr(berlin))
	copy(odd[16:], h[:])
	if _, verified := bake(odd[:], berlin); verified {
		t.Error("another version, with a hash that fits: verified")
	}
	at = time.Unix(1<<32-10, 0)
	last, _ := bake([]byte("8 octets"), berlin)
	at = at.Add(time.Minute)
	if _, verified := bake(last[:], berlin); !verified {
		t.Error("after the 32 bits of time have wrapped: not verified (RFC 1982)")
	}
}

// FuzzBake: whatever is shown, the answer's cookie is the client's own, and is taken back
// from that client alone. None is verified that was not made.
func FuzzBake(f *testing.F) {
	secrets, client := Secrets{{1}, {2}}, netip.MustParseAddr(berlin)
	whole, _ := secrets.Bake([]byte("8 octets"), client, now)
	old, _ := secrets[1:].Bake([]byte("8 octets"), client, now.Add(-40*time.Minute))
	for _, seed := range [][]byte{[]byte("8 octets"), whole[:], old[:], bytes.Repeat([]byte{1}, 40), whole[:16]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given []byte) {
		if !Valid(len(given)) {
			return
		}
		baked, verified := secrets.Bake(given, client, now)
		if verified && !bytes.Equal(given, whole[:]) && !bytes.Equal(given, old[:]) {
			made := false // of another time, or another client cookie
			for i := range secrets {
				h := sum(&secrets[i], given[:16], client)
				made = made || bytes.Equal(h[:], given[16:])
			}
			if !made {
				t.Fatalf("% x is verified, and nobody made it", given)
			}
		}
		if !bytes.Equal(baked[:Client], given[:Client]) {
			t.Fatalf("% x: the answer has another client cookie: % x", given, baked)
		}
		if _, again := secrets.Bake(baked[:], client, now); !again {
			t.Fatalf("% x: % x is not taken back", given, baked)
		}
		if _, other := secrets.Bake(baked[:], netip.MustParseAddr("192.0.2.2"), now); other {
			t.Fatalf("% x is taken from another client", baked)
		}
	})
}
