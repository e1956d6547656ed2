package acme

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"bailiwick/tools/exectest"
)

// The runbook's command makes a secret that is taken as it is.
func TestRunbookMakesASecret(t *testing.T) {
	exectest.Need(t, "openssl", "openssl")
	text, err := os.ReadFile("../docs/operations/certificates.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("<!-- run -->\n *```sh\n *(.*)\n").FindSubmatch(text)
	if block == nil {
		t.Fatal("the runbook has no command to run")
	}
	cmd := exec.Command("sh", "-c", string(block[1]))
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", block[1], err, out)
	}
	path := filepath.Join(cmd.Dir, "de-fra.secret")
	if _, err := ReadSecret(path); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want mode 0600", st.Mode(), err)
	}
}
