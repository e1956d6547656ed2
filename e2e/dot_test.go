package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/store/consultest"
)

// A node serves DNS over TLS, takes a renewed certificate without a restart, and its
// query log has a network where the client was.
func TestNodeServesTLSAndLogs(t *testing.T) {
	server := consultest.Start(t)
	n, dir := newNet(), t.TempDir()
	cert, key, log := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "queries")
	first := issue(t, cert, key)
	node := start(t, "dns", "--listen", n+".0.1:8053", "--dot", n+".0.1:8853", "--tls-cert", cert, "--tls-key", key, "--http", n+".0.1:8080",
		"--query-log", log, "--query-log-rate", "100", "--consul", server.Addr(), "--probe-interval", "250ms")
	if out := node.stdout(); !strings.Contains(out, "tls      "+n+".0.1:8853") {
		t.Errorf("printed %q", out)
	}
	ask := func(roots *x509.CertPool) error {
		c := &dns.Client{Net: "tcp-tls", TLSConfig: &tls.Config{RootCAs: roots, ServerName: "ns1.media.example"}}
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion("media.example.", dns.TypeSOA), n+".0.1:8853")
		if err == nil && len(m.Answer) != 1 {
			err = fmt.Errorf("got %v", m)
		}
		return err
	}
	if err := ask(first); err != nil {
		t.Error(err)
	}
	second := issue(t, cert, key)
	eventually(t, "the renewed certificate is served", func() error { return ask(second) })
	if err := ask(first); err == nil {
		t.Error("the old certificate is served still")
	}
	if _, body := get(t, "http://"+n+".0.1:8080/metrics"); !strings.Contains(body, `bailiwick_dns_queries_total{rcode="NOERROR",transport="tls",type="SOA"}`) {
		t.Error("no queries over TLS in the metrics")
	}
	node.stop()
	lines, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"name":"media.example.","kind":"apex","type":"SOA","transport":"tls","rcode":"NOERROR","client":"127.0.0.0/24"`; !strings.Contains(string(lines), want) || strings.Contains(string(lines), "127.0.0.1") {
		t.Errorf("query log: want %s in\n%s", want, lines)
	}
}

// issue writes a self-signed certificate and its key, and gives who trusts it.
func issue(t *testing.T, certPath, keyPath string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "ns1.media.example"}, DNSNames: []string{"ns1.media.example"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	replace(t, certPath, string(encoded))
	replace(t, keyPath, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(encoded)
	return pool
}
