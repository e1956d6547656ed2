package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"bailiwick/acme/certtest"
	"bailiwick/geodns/check"
	"bailiwick/geodns/nodetest"
)

const shippedMap = nodetest.Map

// dnsCheck runs the verb and gives its exit code and rows.
func dnsCheck(t testing.TB, args ...string) (int, []check.Row, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"dns", "check", "--map", shippedMap, "--json", "--timeout", "500ms"}, args...)
	code := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr)
	var rows []check.Row
	if code != exitMisuse {
		if err := json.Unmarshal(stdout.Bytes(), &rows); err != nil {
			t.Fatalf("%v: %s%s", err, stdout.String(), stderr.String())
		}
	}
	return code, rows, stderr.String()
}

// failed are the names of the checks that failed, once each.
func failed(rows []check.Row) (names []string) {
	for _, r := range rows {
		if !r.OK && !slices.Contains(names, r.Check) {
			names = append(names, r.Check)
		}
	}
	slices.Sort(names)
	return names
}

// writeKeyPair puts a self-signed certificate and its key into dir.
func writeKeyPair(t testing.TB, dir, name string, until time.Time) (pair *keyPair, cert string) {
	t.Helper()
	cert, key := certtest.SelfSigned(t, time.Time{}, until, name).Write(t, dir)
	pair, err := keyPairFlags{TLSCert: cert, TLSKey: key}.open(name, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return pair, cert
}
