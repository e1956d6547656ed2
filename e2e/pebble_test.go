package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	rootFile  string // holds it
}

// startPebble runs an ACME server that validates by what the zone's own server answers.
// Its certificates have a common name, for kdig refuses a subject that is empty.
func startPebble(t *testing.T) *pebble {
	t.Helper()
	dir := t.TempDir()
	p := &pebble{directory: "https://" + acmeServer + ":14000/dir", apiRoot: filepath.Join(dir, "api.pem")}
	key := filepath.Join(dir, "api.key")
	selfSigned(t, acmeServer, p.apiRoot, key)
	config := filepath.Join(dir, "pebble.json")
	write(t, config, fmt.Sprintf(`{"pebble": {"listenAddress": "%s:14000", "managementListenAddress": "%[1]s:15000",
		"certificate": %q, "privateKey": %q, "keyAlgorithm": "ecdsa",
		"profiles": {"default": {"promoteCommonName": true, "validityPeriod": 7776000}}, "retryAfter": {"authz": 1, "order": 1}}}`, acmeServer, p.apiRoot, key))
	cmd := exec.Command(pebbleBinary(t), "-config", config, "-dnsserver", authority+":53", "-strict")
	// Nonces that are good are taken: an order that failed by chance waits for a minute.
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	background(t, "pebble", cmd)
	eventually(t, "pebble shows its root", func() (err error) {
		p.root, err = p.get(t, "https://"+acmeServer+":15000/roots/0")
		return err
	})
	p.rootFile = filepath.Join(dir, "root.pem")
	write(t, p.rootFile, string(p.root))
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
	for _, args := range []string{"-N --empty-password", "-A -t C,, -n pebble -i " + p.rootFile} {
		if out, err := exec.Command(certutil, append([]string{"-d", "sql:" + db}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %s: %v\n%s", args, err, out)
		}
	}
}

// trusted makes the test's own requests trust what the authority issues.
func (p *pebble) trusted(t *testing.T) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.root)
	before := http.DefaultTransport
	http.DefaultTransport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(func() { http.DefaultTransport = before })
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
