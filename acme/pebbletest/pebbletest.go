// Package pebbletest runs a real ACME server, Pebble, for tests: a certificate authority
// with roots that it draws at each start. For tests only.
//
// The binary is $BAILIWICK_PEBBLE, else pebble-2.10.1/pebble in the bailiwick folder of
// the user's cache directory, where `make pebble` puts it. Without it tests are skipped,
// except under CI=true, where they fail.
package pebbletest

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bailiwick/acme/certtest"
	"bailiwick/tools/exectest"
	"bailiwick/tools/nettest"
)

// Version is the Pebble that the tests are written against.
const Version = "2.10.1"

// Binary returns the path of the pebble program, or ends the test.
func Binary(t testing.TB) string {
	t.Helper()
	return exectest.NeedBuilt(t, "pebble", Version)
}

// Config says how an authority behaves. All but DNS may be left out.
type Config struct {
	IP        string        // where it listens, on two free ports; empty: 127.0.0.1
	DNS       string        // host:port of the server that it asks for challenges, over TCP
	Life      time.Duration // of its certificates, in whole seconds; 0: 90 days
	BadNonces int           // percent of good nonces that it refuses
}

// CA is a running authority. Its methods end the test on failure and are for the test's
// goroutine.
type CA struct {
	Directory   string         // its URL
	APIRoots    *x509.CertPool // trusts the ACME server itself
	APIRootFile string         // the same, PEM
	Roots       *x509.CertPool // trusts what it issues; another one after Restart
	RootFile    string         // the same, PEM

	t       testing.TB
	args    []string // the program and its own
	env     []string
	manage  string // base URL of its management interface
	client  *http.Client
	process *exectest.Process
}

// Start runs an authority until the test ends, and returns once it answers. Its
// certificates have a common name, for kdig refuses a subject that is empty; it
// validates every order anew, and is strict: it refuses what Pebble will not take later.
func Start(t testing.TB, c Config) *CA {
	t.Helper()
	binary, dir := Binary(t), t.TempDir()
	c.IP, c.Life = cmp.Or(c.IP, "127.0.0.1"), cmp.Or(c.Life, 90*24*time.Hour)
	own := certtest.SelfSigned(t, time.Time{}, time.Now().Add(24*time.Hour), c.IP)
	ca := &CA{t: t, APIRoots: own.Roots(), RootFile: filepath.Join(dir, "root.pem")}
	ca.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.APIRoots}, DisableKeepAlives: true}, Timeout: 5 * time.Second}
	var key string
	ca.APIRootFile, key = own.Write(t, dir)
	ip, err := netip.ParseAddr(c.IP)
	if err != nil {
		t.Fatal(err)
	}
	api, manage := nettest.Free(t, ip).String(), nettest.Free(t, ip).String()
	ca.Directory, ca.manage = "https://"+api+"/dir", "https://"+manage
	b, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": api, "managementListenAddress": manage,
		"certificate": ca.APIRootFile, "privateKey": key,
		"retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "test", "promoteCommonName": true, "validityPeriod": int(c.Life / time.Second)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	ca.env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0", fmt.Sprint("PEBBLE_WFE_NONCEREJECT=", c.BadNonces))
	ca.args = []string{binary, "-config", file, "-dnsserver", c.DNS, "-strict"}
	ca.start()
	return ca
}

// Restart starts the authority anew, with nothing remembered.
func (ca *CA) Restart() {
	ca.t.Helper()
	ca.process.Stop()
	ca.start()
}

func (ca *CA) start() {
	ca.t.Helper()
	cmd := exec.Command(ca.args[0], ca.args[1:]...)
	cmd.Env = ca.env
	ca.process = exectest.Start(ca.t, cmd)
	var root []byte
	ca.process.Await(ca.t, func() (err error) { root, err = ca.root(); return err })
	if ca.Roots = x509.NewCertPool(); !ca.Roots.AppendCertsFromPEM(root) {
		ca.t.Fatalf("pebbletest: pebble's root: %q", root)
	}
	if err := os.WriteFile(ca.RootFile, root, 0o600); err != nil {
		ca.t.Fatal(err)
	}
}

// root is the PEM of who signs what it issues.
func (ca *CA) root() ([]byte, error) {
	r, err := ca.client.Get(ca.manage + "/roots/0")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("its root: %s", r.Status)
	}
	return io.ReadAll(r.Body)
}

// RenewNow makes the authority ask for a certificate's renewal: its window is past
// (ACME Renewal Information, RFC 9773).
func (ca *CA) RenewNow(leaf *x509.Certificate) {
	ca.t.Helper()
	now := time.Now().UTC()
	b, err := json.Marshal(map[string]string{
		"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})),
		"ARIResponse": fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q}}`,
			now.Add(-2*time.Hour).Format(time.RFC3339), now.Add(-time.Hour).Format(time.RFC3339)),
	})
	if err != nil {
		ca.t.Fatal(err)
	}
	r, err := ca.client.Post(ca.manage+"/set-renewal-info/", "application/json", bytes.NewReader(b))
	if err != nil {
		ca.t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		ca.t.Fatalf("set-renewal-info: %s", r.Status)
	}
}

// Orders counts the orders since it started.
func (ca *CA) Orders() int { return strings.Count(ca.process.Log(), "Added order ") }

// Replacements counts the orders among them that name the certificate which they replace.
func (ca *CA) Replacements() int { return strings.Count(ca.process.Log(), "is a replacement of") }
