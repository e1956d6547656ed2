package store

import (
	"os"
	"path/filepath"
	"testing"
)

// What lies in the way of the temporary file, left or put there, neither opens the new file
// to others nor takes what is written elsewhere.
func TestWriteFileOverWhatLiesThere(t *testing.T) {
	for name, lay := range map[string]func(temp, other string) error{
		"nothing":                   func(string, string) error { return nil },
		"a file that all may read":  func(temp, _ string) error { return os.WriteFile(temp, []byte("a longer one"), 0o644) },
		"a link to another file":    func(temp, other string) error { return os.Symlink(other, temp) },
		"another name of that file": func(temp, other string) error { return os.Link(other, temp) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, other := filepath.Join(dir, "keys"), filepath.Join(dir, "other")
			if err := os.WriteFile(other, []byte("theirs"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := lay(path+".tmp", other); err != nil {
				t.Fatal(err)
			}
			if err := WriteFile(path, []byte("secret")); err != nil {
				t.Fatal(err)
			}
			st, err := os.Lstat(path)
			if err != nil || st.Mode() != 0o600 {
				t.Errorf("got %v, %v, want a file of mode 0600", st.Mode(), err)
			}
			for path, want := range map[string]string{path: "secret", other: "theirs"} {
				if b, err := os.ReadFile(path); err != nil || string(b) != want {
					t.Errorf("%s: got %q, %v, want %q", path, b, err, want)
				}
			}
		})
	}
}
