package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"bailiwick/web/webtest"
)

// pebbleVersion is the ACME server that the tests are written against.
const pebbleVersion = "2.10.1"

// pebbleBinary returns the path of the pebble program, or ends the test.
func pebbleBinary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("BAILIWICK_PEBBLE")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(cache, "bailiwick", "pebble-"+pebbleVersion, "pebble")
	}
	if _, err := os.Stat(path); err != nil {
		webtest.Absent(t, fmt.Sprintf("pebble: %v (make pebble builds it; or set $BAILIWICK_PEBBLE)", err))
	}
	return path
}

// pebble is a running ACME server, a real certificate authority with a root that it
// draws at each start.
type pebble struct {
	directory string // URL
	apiRoot   string // PEM file: who signed the certificate of the ACME server itself
	root      []byte // PEM: who signs what it issues
}

// startPebble runs an ACME server that looks names up at resolver.
func startPebble(t *testing.T, resolver string, env ...string) *pebble {
	t.Helper()
	dir := t.TempDir()
	p := &pebble{directory: "https://" + acmeServer + ":14000/dir", apiRoot: filepath.Join(dir, "api.pem")}
	key := filepath.Join(dir, "api.key")
	selfSigned(t, acmeServer, p.apiRoot, key)
	config := filepath.Join(dir, "pebble.json")
	write(t, config, fmt.Sprintf(`{"pebble": {"listenAddress": "%s:14000", "managementListenAddress": "%[1]s:15000",
		"certificate": %q, "privateKey": %q, "keyAlgorithm": "ecdsa", "retryAfter": {"authz": 1, "order": 1}}}`, acmeServer, p.apiRoot, key))
	cmd := exec.Command(pebbleBinary(t), "-config", config, "-dnsserver", resolver+":53", "-strict")
	cmd.Env = append(append(os.Environ(), "PEBBLE_VA_NOSLEEP=1"), env...)
	background(t, "pebble", cmd)
	eventually(t, "pebble shows its root", func() (err error) {
		p.root, err = p.get(t, "https://"+acmeServer+":15000/roots/0")
		return err
	})
	return p
}

// client trusts the ACME server's own certificate.
func (p *pebble) client(t *testing.T) *http.Client {
	t.Helper()
	b, err := os.ReadFile(p.apiRoot)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
}

func (p *pebble) get(t *testing.T, url string) ([]byte, error) {
	r, err := p.client(t).Get(url)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, r.Status)
	}
	return io.ReadAll(r.Body)
}

// trust puts the authority into the certificate store of the person whose HOME it is,
// where Chromium looks: as an administrator's own authority gets onto a machine.
func (p *pebble) trust(t *testing.T) {
	t.Helper()
	certutil := needed(t, "certutil", "libnss3-tools")
	db := filepath.Join(os.Getenv("HOME"), ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root.pem")
	write(t, root, string(p.root))
	for _, args := range []string{"-N --empty-password", "-A -t C,, -n pebble -i " + root} {
		if out, err := exec.Command(certutil, append([]string{"-d", "sql:" + db}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %s: %v\n%s", args, err, out)
		}
	}
}

// selfSigned writes a certificate for an address, which is its own authority, and its key.
func selfSigned(t *testing.T, ip, certFile, keyFile string) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.ParseIP(ip)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	write(t, keyFile, string(keyPEM(t, key)))
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
}

// What Pebble issues is trusted by a Chromium whose person trusts Pebble's root, and
// by no other: nothing ignores a certificate.
func TestChromiumTrustsTheAuthority(t *testing.T) {
	if !alone(t) {
		return
	}
	internet(t)
	p := startPebble(t, berlin, "PEBBLE_VA_ALWAYS_VALID=1")
	person, key := newKey(t), newKey(t)
	client := acmez.Client{Client: &acme.Client{Directory: p.directory, HTTPClient: p.client(t)},
		ChallengeSolvers: map[string]acmez.Solver{acme.ChallengeTypeDNS01: idle{}}}
	account, err := client.NewAccount(t.Context(), acme.Account{PrivateKey: person, TermsOfServiceAgreed: true})
	if err != nil {
		t.Fatal(err)
	}
	chains, err := client.ObtainCertificateForSANs(t.Context(), account, key, []string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(chains[0].ChainPEM, keyPEM(t, key))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:443", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.NewServeMux()}
	go srv.Serve(l)
	defer srv.Close()
	visit := func() error { return chromedp.Do(webtest.Browser(t), chromedp.Navigate("https://localhost/")) }
	if err := visit(); err == nil || !strings.Contains(err.Error(), "ERR_CERT_AUTHORITY_INVALID") {
		t.Errorf("before the root is trusted: %v, want ERR_CERT_AUTHORITY_INVALID", err)
	}
	p.trust(t)
	if err := visit(); err != nil {
		t.Errorf("with the root trusted: %v", err)
	}
}

// idle solves nothing: the authority was told to believe.
type idle struct{}

func (idle) Present(context.Context, acme.Challenge) error { return nil }
func (idle) CleanUp(context.Context, acme.Challenge) error { return nil }
