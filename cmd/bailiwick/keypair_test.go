package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bailiwick/tools/logtest"
)

// TestKeyPairFollowsItsFiles: a renewed pair is served; one that does not match, or
// is half written, is told and leaves the last good one in force.
func TestKeyPairFollowsItsFiles(t *testing.T) {
	dir, spare := t.TempDir(), t.TempDir()
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	pair, _ := writeKeyPair(t, dir, "ns1.media.example", until)
	copied := func(name string) {
		b, err := os.ReadFile(filepath.Join(spare, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	served := func() time.Time {
		return pair.current.Load().Leaf.NotAfter.UTC()
	}
	synctest.Test(t, func(t *testing.T) {
		log := new(logtest.Buffer)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		pair.log = slog.New(slog.NewTextHandler(log, nil))
		go func() { done <- pair.run(ctx) }()
		synctest.Wait()
		writeKeyPair(t, spare, "ns1.media.example", until.Add(time.Hour))
		for _, r := range []struct {
			name   string
			change func()
			until  time.Time
			log    string
		}{
			{"nothing changed", func() {}, until, ""},
			{"the certificate alone", func() { copied("cert.pem") }, until, "last good one stays in force"},
			{"its key too", func() { copied("key.pem") }, until.Add(time.Hour), "certificate reloaded"},
			{"half a certificate", func() { os.Truncate(filepath.Join(dir, "cert.pem"), 100) }, until.Add(time.Hour), "last good one stays in force"},
			{"no certificate", func() { os.Remove(filepath.Join(dir, "cert.pem")) }, until.Add(time.Hour), "last good one stays in force"},
			{"it is back", func() { copied("cert.pem") }, until.Add(time.Hour), "certificate reloaded"},
		} {
			log.Reset()
			r.change()
			time.Sleep(reloadEvery + time.Millisecond)
			synctest.Wait()
			if got := served(); !got.Equal(r.until) {
				t.Errorf("%s: serves the one until %s, want %s", r.name, got, r.until)
			}
			if !strings.Contains(log.String(), r.log) || r.log == "" && log.String() != "" {
				t.Errorf("%s: log %q, want %q", r.name, log.String(), r.log)
			}
			if strings.Contains(log.String(), "PRIVATE") {
				t.Errorf("%s: the key is in the log", r.name)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func TestDoTAndQueryLogMisuse(t *testing.T) {
	dir := t.TempDir()
	writeKeyPair(t, dir, "ns1.media.example", time.Now().Add(time.Hour))
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for _, r := range []struct {
		name, want string
		args       []string
	}{
		{"no certificate", "--dot: DNS over TLS needs a certificate", []string{"--dot", "127.0.0.1:0"}},
		{"a certificate for nothing", "name its address", []string{"--tls-cert", cert, "--tls-key", key}},
		{"no key", "--tls-cert and --tls-key: give both", []string{"--dot", "127.0.0.1:0", "--tls-cert", cert}},
		{"files the wrong way round", "--tls-cert " + key, []string{"--dot", "127.0.0.1:0", "--tls-cert", key, "--tls-key", cert}},
		{"a rate of 0", "--query-log-rate 0", []string{"--query-log", "-", "--query-log-rate", "0"}},
		{"a log in no folder", "--query-log: open", []string{"--query-log", filepath.Join(dir, "none", "log")}},
	} {
		var stdout, stderr strings.Builder
		args := append([]string{"dns", "--map", shippedMap, "--listen", "127.0.0.1:0", "--ns", "127.0.0.1"}, r.args...)
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // a run that goes too far ends at once
		if code := run(ctx, args, strings.NewReader(""), &stdout, &stderr); code != exitMisuse || !strings.Contains(stderr.String(), r.want) {
			t.Errorf("%s: exit code %d, %q; want %s", r.name, code, stderr.String(), r.want)
		}
	}
}
