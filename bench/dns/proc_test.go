package main

import (
	"os/exec"
	"testing"
)

// A server whose module is a package of its own is not started without it.
func TestMissing(t *testing.T) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		t.Skip("no dpkg-query: packages have other names here")
	}
	if got := missing("dpkg no-such-server no-such-module"); got != "no-such-server no-such-module" {
		t.Errorf("missing: %q", got)
	}
}
