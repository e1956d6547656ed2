package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A map that breaks while it is followed leaves the last good one in force, and is
// followed again once mended.
func TestBrokenMapLeavesTheLastGoodOne(t *testing.T) {
	good, err := os.ReadFile("../regions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "regions.yaml")
	replace(t, path, string(good))
	d := startDev(t, "--map", path)
	ask := func() []string {
		return dig(t, d.dns(), "join.media.example", "A", "+subnet=192.0.2.1")
	}
	before := ask()
	if len(before) == 0 {
		t.Fatal("no answer before the map breaks")
	}

	line := strings.Count(string(good), "\n") + 1
	replace(t, path, string(good)+"colour: blue\n")
	fault := fmt.Sprintf("%s:%d: ", path, line)
	eventually(t, "the log names "+fault, func() error {
		if log := d.stderr.String(); !strings.Contains(log, fault) || !strings.Contains(log, "the last good one stays in force") {
			return fmt.Errorf("log: %s", tail(log, 5))
		}
		return nil
	})
	if after := ask(); !slices.Equal(after, before) {
		t.Errorf("DNS answers %v, before the map broke %v", after, before)
	}
	if out, code := d.run(t, "region", "list"); code != 0 || !strings.Contains(out, "Berlin, DE") {
		t.Errorf("region list: exit code %d: %s", code, out)
	}

	mended := strings.Replace(string(good), "city: Berlin\n", "city: Potsdam\n", 1)
	if mended == string(good) {
		t.Fatal("regions.yaml has no city: Berlin to change")
	}
	replace(t, path, mended)
	eventually(t, "the mended map is in force", func() error {
		if out, code := d.run(t, "region", "list"); code != 0 || !strings.Contains(out, "Potsdam, DE") || strings.Contains(out, "Berlin") {
			return fmt.Errorf("region list: exit code %d: %s", code, out)
		}
		return nil
	})
	if after := ask(); !slices.Equal(after, before) {
		t.Errorf("DNS answers %v with the mended map, before %v", after, before)
	}
}

// replace swaps a file whole, as editors do: its reader never finds half of it.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
