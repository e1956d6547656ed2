package e2e

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bailiwick/acme/pebbletest"
	"bailiwick/tools/exectest"
)

// trust puts the authority into the certificate store of the person whose HOME it is,
// where Chromium looks: as an administrator's own authority gets onto a machine.
func trust(t *testing.T, ca *pebbletest.CA) {
	t.Helper()
	certutil := exectest.Need(t, "certutil", "libnss3-tools")
	db := filepath.Join(os.Getenv("HOME"), ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"-N --empty-password", "-A -t C,, -n pebble -i " + ca.RootFile} {
		if out, err := output(certutil, append([]string{"-d", "sql:" + db}, strings.Fields(args)...)...); err != nil {
			t.Fatalf("certutil %s: %v\n%s", args, err, out)
		}
	}
}

// trusted makes the test's own requests trust what the authority issues.
func trusted(t *testing.T, ca *pebbletest.CA) {
	before := http.DefaultTransport
	http.DefaultTransport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Roots}, ForceAttemptHTTP2: true}
	t.Cleanup(func() { http.DefaultTransport = before })
}
