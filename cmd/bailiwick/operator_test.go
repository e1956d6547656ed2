package main

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bailiwick/geodns/check"
	"bailiwick/geodns/dnssec"
)

// TestDSRecordsLeaveTheTTLToTheParent: who pastes them gets no DS of TTL 0.
func TestDSRecordsLeaveTheTTLToTheParent(t *testing.T) {
	begin := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	set, err := dnssec.NewSet("media.example", dnssec.ECDSAP256, false, begin)
	if err == nil {
		set, _, err = dnssec.Next(set, begin.Add(3*time.Hour), dnssec.DefaultPolicy(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := dsRecords(set)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != 2 {
		t.Fatalf("got %d lines, want one for each digest:\n%s", len(lines), text)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "media.example.\tIN\tDS\t") {
			t.Errorf("got %q", line)
		}
	}
}

// TestDNSCheckFitsATerminal: what is long goes on below itself; JSON has it whole.
func TestDNSCheckFitsATerminal(t *testing.T) {
	long := strings.TrimSpace(strings.Repeat("DE: none (EDE 22: region_unhealthy); ", 39))
	rows := []check.Row{
		{Server: "192.0.2.53:53", Check: "served", Detail: long, Do: "look"},
		{Server: "[2001:db8:1234:5678:9abc:def0:1234:5678]:53", Check: "glue ns1.media.example.", OK: true, Detail: "[192.0.2.53]"},
		{Server: "192.0.2.53:53", Check: "empty", OK: true},
	}
	for _, rows := range [][]check.Row{rows[:1], rows} {
		var out bytes.Buffer
		if err := (&dnsCheckCmd{}).print(&out, rows); err != errFinding {
			t.Fatalf("got %v, want a finding", err)
		}
		if words := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(words, long) {
			t.Errorf("the detail is not whole:\n%s", out.String())
		}
		for line := range strings.Lines(out.String()) {
			// A row's first three columns may be wider than a terminal; nothing else may.
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > columns && !strings.Contains(line, "2001:db8") {
				if len(rows) == 1 || strings.HasPrefix(line, " ") {
					t.Errorf("%d columns: %q", n, line)
				}
			}
		}
	}
}

// TestAKeyThatOthersMayRead is used, for the service counts for more, and told of.
func TestAKeyThatOthersMayRead(t *testing.T) {
	dir := t.TempDir()
	pair, _ := writeKeyPair(t, dir, "ns1.media.example", time.Now().Add(90*24*time.Hour))
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		if err := os.Chmod(pair.TLSKey, mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		if _, err := pair.keyPairFlags.open("", slog.New(slog.NewTextHandler(io.Writer(&log), nil))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "others may read the private key"); got != want {
			t.Errorf("mode %04o: told %t, want %t: %s", mode, got, want, log.String())
		}
	}
}
