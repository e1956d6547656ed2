package acme

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// Nothing but what seal made opens.
func FuzzOpen(f *testing.F) {
	s := secret(f, 1)
	f.Add("bailiwick/acme/regions/de-fra/a", s.seal("bailiwick/acme/regions/de-fra/a", []byte("value")))
	f.Add("", []byte{sealFormat})
	f.Add("k", bytes.Repeat([]byte{1}, 41))
	f.Fuzz(func(t *testing.T, key string, sealed []byte) {
		value, err := s.open(key, sealed)
		if err != nil {
			return
		}
		if key != "bailiwick/acme/regions/de-fra/a" || string(value) != "value" {
			t.Errorf("opened %q under %q", value, key)
		}
	})
}

// A challenge that is read is one that could have been written, and no DNS answer but
// a challenge's can come of it.
func FuzzParseChallenge(f *testing.F) {
	f.Add(challengesPrefix+"_acme-challenge.join.media.example/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0", []byte(`{"presented":"2026-11-24T00:00:00Z"}`))
	f.Add(challengesPrefix+"_acme-challenge./", []byte(`{}`))
	f.Add("", []byte(nil))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		c, err := parseChallenge(key, value)
		if err != nil {
			return
		}
		if !strings.HasPrefix(c.name, "_acme-challenge.") || !strings.HasSuffix(c.name, ".") || len(c.name) > 254 || len(c.value) != 43 {
			t.Errorf("got %+v", c)
		}
		if again, err := parseChallenge(challengesPrefix+c.id(), value); err != nil || again != c {
			t.Errorf("read again: got %+v, %v, want %+v", again, err, c)
		}
		c.current(time.Now())
	})
}

// Whatever was kept, what is served can be served for all names.
func FuzzDecodeCertificate(f *testing.F) {
	f.Add([]byte(`{"key":"","chain":""}`))
	f.Add([]byte(`{"key":"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----","chain":"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCertificate(b, []string{"join.media.example"})
		if err != nil {
			return
		}
		if c.leaf == nil || c.pair.PrivateKey == nil || !slices.Contains(c.leaf.DNSNames, "join.media.example") {
			t.Errorf("got %+v", c)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	_, b, err := newKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := parseKey(b); err == nil && key == nil {
			t.Error("neither a key nor an error")
		}
	})
}

func FuzzParseSecret(f *testing.F) {
	f.Add([]byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
	f.Add([]byte(strings.Repeat("0f", 32)))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSecret(b)
		if err != nil {
			return
		}
		if got, err := s.open("k", s.seal("k", b)); err != nil || !bytes.Equal(got, b) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}
