package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bailiwick/sim/page"
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

// What a map would do to running calls can be asked before it is in force, and is said in the
// log before and after.
func TestReloadThatEndsCalls(t *testing.T) {
	good, err := os.ReadFile("../regions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, next := filepath.Join(dir, "regions.yaml"), filepath.Join(dir, "next.yaml")
	replace(t, path, string(good))
	d := startDev(t, "--map", path)
	c := newConsult(t, d.api(), "DE", "DE")
	for _, p := range c.Participants {
		tb, err := openTab(p.ID, http.DefaultClient, onLoopback, []page.Address{linked(p.URL, p.Token)}, func(string, ...any) {})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tb.shut(true) })
		eventually(t, p.ID+" is in the call", func() error {
			if tb.at() == "" {
				return errors.New("it is at no edge")
			}
			return nil
		})
	}
	check := func(what string, code int, lines ...string) {
		t.Helper()
		out, got := d.run(t, "check", next)
		flat := strings.Join(strings.Fields(out), " ")
		for _, line := range lines {
			if !strings.Contains(flat, line) {
				t.Errorf("%s: check says no %q:\n%s", what, line, out)
			}
		}
		if got != code {
			t.Errorf("%s: exit code %d, want %d:\n%s", what, got, code, out)
		}
	}
	replace(t, next, string(good))
	check("the same map", 0, "1 running call on 10 edges: 0 would end, 0 would move")

	head, rest, _ := strings.Cut(string(good), "    establishment_in_DE:")
	_, rest, found := strings.Cut(rest, "}\n") // its record is on the next line
	if !found {
		t.Fatal("regions.yaml asserts no establishment_in_DE")
	}
	ends := head + rest
	replace(t, next, ends)
	check("a paper is gone", 1, "de-ber-1 in de-ber: 1 of 1 running call would end after 15m0s: fact_missing", "1 running call on 10 edges: 1 would end, 0 would move")
	if log := d.stderr.String(); strings.Contains(log, "no lawful place") {
		t.Errorf("asking ended a call:\n%s", tail(log, 5))
	}
	replace(t, path, ends)
	for _, when := range []string{"before the reload", "after the reload"} {
		eventually(t, "the log says what ends, "+when, func() error {
			if log := d.stderr.String(); !strings.Contains(log, `msg="the map leaves running consults no lawful place: they end"`) || !strings.Contains(log, fmt.Sprintf("when=%q region=de-ber consults=1 of=1", when)) {
				return fmt.Errorf("log: %s", tail(log, 8))
			}
			return nil
		})
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
