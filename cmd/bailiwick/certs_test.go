package main

import (
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/acme"
	"bailiwick/store"
)

func TestACMEFlags(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	root := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}))
	good := acmeFlags{ACME: "https://ca.example/dir", ACMESecret: file("secret", strings.Repeat("0f", 32)), ACMERoot: file("root.pem", root)}
	for _, row := range []struct {
		name   string
		change func(*acmeFlags)
		want   string // of the error; empty: none
	}{
		{"all given", func(*acmeFlags) {}, ""},
		{"no root", func(f *acmeFlags) { f.ACMERoot = "" }, ""},
		{"no secret", func(f *acmeFlags) { f.ACMESecret = "" }, "--acme needs --acme-secret FILE"},
		{"an absent secret", func(f *acmeFlags) { f.ACMESecret = filepath.Join(dir, "none") }, "openssl rand -base64 32"},
		{"a short secret", func(f *acmeFlags) { f.ACMESecret = file("short", "0f0f") }, "2 bytes, not 32"},
		{"an absent root", func(f *acmeFlags) { f.ACMERoot = filepath.Join(dir, "none") }, "--acme-root"},
		{"a root that is none", func(f *acmeFlags) { f.ACMERoot = file("empty.pem", "") }, "no certificate in it"},
		{"no URL", func(f *acmeFlags) { f.ACME = "letsencrypt" }, "want an https URL"},
	} {
		f := good
		row.change(&f)
		k, err := f.keeper(&env{log: slog.New(slog.DiscardHandler)}, store.NewMemory(), acme.Names("media.example", "de-fra"), "de-fra", t.TempDir(), prometheus.NewRegistry())
		if row.want == "" {
			if err != nil || k == nil || k.TLSConfig() == nil {
				t.Errorf("%s: got %v, %v", row.name, k, err)
			}
			continue
		}
		if err == nil || !errors.As(err, new(misuse)) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want misuse with %q", row.name, err, row.want)
		}
	}
	if k, err := new(acmeFlags).keeper(nil, nil, nil, "", "", nil); k != nil || err != nil {
		t.Errorf("without --acme: got %v, %v, want nothing", k, err)
	}
}
