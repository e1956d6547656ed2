package acme

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecretOfEverybody: a group may be meant to read it, everybody never is, nor to write
// one of their own choice.
func TestSecretOfEverybody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(strings.Repeat("ab", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{0o600: "", 0o440: "", 0o604: "mode 0604 lets everybody read or write it: chmod 600 it", 0o644: "mode 0644", 0o602: "mode 0602"} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadSecret(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("mode %04o: got %v, want %q", mode, err, want)
		}
	}
}
