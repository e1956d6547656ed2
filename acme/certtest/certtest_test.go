package certtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"bailiwick/acme/certtest"
)

func TestSelfSigned(t *testing.T) {
	now := time.Now()
	p := certtest.SelfSigned(t, now.Add(-time.Hour), now.Add(time.Hour), "ns1.media.example", "127.0.0.1", "::1")
	for _, c := range []struct {
		name, host string
		roots      *x509.CertPool
		at         time.Time
		ok         bool
	}{
		{"a name", "ns1.media.example", p.Roots(), now, true},
		{"an address", "127.0.0.1", p.Roots(), now, true},
		{"an IPv6 address", "::1", p.Roots(), now, true},
		{"another name", "ns2.media.example", p.Roots(), now, false},
		{"another's roots", "ns1.media.example", certtest.SelfSigned(t, now, now.Add(time.Hour), "ns1.media.example").Roots(), now, false},
		{"too early", "ns1.media.example", p.Roots(), now.Add(-2 * time.Hour), false},
		{"too late", "ns1.media.example", p.Roots(), now.Add(2 * time.Hour), false},
	} {
		if _, err := p.Leaf.Verify(x509.VerifyOptions{DNSName: c.host, Roots: c.roots, CurrentTime: c.at}); (err == nil) != c.ok {
			t.Errorf("%s: got %v, want ok %t", c.name, err, c.ok)
		}
	}
	pair, err := tls.LoadX509KeyPair(p.Write(t, t.TempDir()))
	if err != nil || !pair.Leaf.Equal(p.Leaf) {
		t.Errorf("of its files: %v", err)
	}
}
