package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/acme/certtest"
	"bailiwick/store/consultest"
	"bailiwick/tools/nettest"
)

// A node serves DNS over TLS, takes a renewed certificate without a restart, and its
// query log has a network where the client was.
func TestNodeServesTLSAndLogs(t *testing.T) {
	server := consultest.Start(t)
	n, dir := nettest.Net(t), t.TempDir()
	cert, key, log := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "queries")
	first := issue(t, cert, key)
	node := start(t, "dns", "--listen", n+".0.1:8053", "--dot", n+".0.1:8853", "--tls-cert", cert, "--tls-key", key, "--http", n+".0.1:8080",
		"--query-log", log, "--query-log-rate", "100", "--consul", server.Addr(), "--probe-interval", "250ms")
	if out := node.stdout.String(); !strings.Contains(out, "tls      "+n+".0.1:8853") {
		t.Errorf("printed %q", out)
	}
	ask := func(roots *x509.CertPool) error {
		c := &dns.Client{Net: "tcp-tls", Timeout: patience, TLSConfig: &tls.Config{RootCAs: roots, ServerName: "ns1.media.example"}}
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
	pair := certtest.SelfSigned(t, time.Time{}, time.Now().Add(time.Hour), "ns1.media.example")
	replace(t, certPath, string(pair.CertPEM))
	replace(t, keyPath, string(pair.KeyPEM))
	return pair.Roots()
}
