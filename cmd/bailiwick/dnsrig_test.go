package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bailiwick/geodns"
	"bailiwick/geodns/check"
	"bailiwick/geodns/geo"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

const shippedMap = "../../regions.yaml"

// inService is the shipped map with one healthy edge a region.
func inService(t testing.TB) *steer.World {
	t.Helper()
	m, err := readMap(shippedMap)
	if err != nil {
		t.Fatal(err)
	}
	w := &steer.World{Generation: 7, At: time.Now(), Law: residency.Shipped(), Map: m}
	for i := range m.Regions {
		r := &m.Regions[i]
		a := netip.AddrFrom4([4]byte{198, 18, byte(i), 1})
		w.Regions = append(w.Regions, steer.Region{Region: r, Hop: m.Hop(r), Edges: []steer.Edge{{ID: region.EdgeID(string(r.ID) + "-1"), Addr4: a, Health: steer.Up, Seats: 100}}})
	}
	return w
}

// dnsNode is a node of the shipped map's zone; change may alter its configuration.
func dnsNode(t testing.TB, change ...func(*geodns.Config)) *geodns.Server {
	t.Helper()
	w := inService(t)
	table, err := geo.Load("", geo.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	c := geodns.Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Zone: w.Map.Zone, World: func() *steer.World { return w }, Geo: table,
		Secrets: func() geodns.Secrets { return geodns.Secrets{{1}} }}
	for _, f := range change {
		f(&c)
	}
	s, err := geodns.Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

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
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(until.UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert = filepath.Join(dir, "cert.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, filepath.Join(dir, "key.pem"): {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pair, err = (keyPairFlags{TLSCert: cert, TLSKey: filepath.Join(dir, "key.pem")}).open(name, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return pair, cert
}
