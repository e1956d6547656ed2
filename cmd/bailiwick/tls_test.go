package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bailiwick/tools/nettest"
)

const testZone = "media.example"

func TestLocalCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	now := time.Now()
	ca, err := openLocalCA(dir, testZone, now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := openLocalCA(dir, testZone, now)
	if err != nil || !again.cert.Equal(ca.cert) {
		t.Errorf("the second use: %v, want the same CA", err)
	}
	other, err := openLocalCA(dir, "other.example", now)
	if err != nil || other.cert.Equal(ca.cert) {
		t.Errorf("another zone: %v, want a CA of its own", err)
	}
	if st, err := os.Stat(filepath.Join(dir, testZone+"-ca-key.pem")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v; want mode 0600", st.Mode(), err)
	}
	public, err := os.ReadFile(ca.path)
	if err != nil || bytes.Contains(public, []byte("PRIVATE")) || !x509.NewCertPool().AppendCertsFromPEM(public) {
		t.Errorf("%s: %v; want a certificate and no key", ca.path, err)
	}
}

// Its key can vouch for the zone and loopback and for nobody else.
func TestLocalCAIsConstrained(t *testing.T) {
	now := time.Now()
	ca, err := openLocalCA(t.TempDir(), testZone, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, addr, ask string
		ok              bool
	}{
		{"de-fra-1.edge.media.example", "127.0.5.1", "de-fra-1.edge.media.example", true},
		{"de-fra-1.edge.media.example", "127.0.5.1", "127.0.5.1", true},
		{"localhost", "::1", "localhost", true},
		{"*.join.media.example", "127.0.5.1", "de.join.media.example", true},
		{"bank.example", "127.0.5.1", "bank.example", false},
		{"notmedia.example", "127.0.5.1", "notmedia.example", false},
		{"localhost", "192.0.2.1", "192.0.2.1", false},
	} {
		t.Run(tt.name+" "+tt.addr, func(t *testing.T) {
			c, err := ca.issue(now, netip.MustParseAddr(tt.addr), tt.name)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(c.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			_, err = leaf.Verify(x509.VerifyOptions{DNSName: tt.ask, Roots: ca.pool()})
			if (err == nil) != tt.ok {
				t.Errorf("%v; trusted should be %t", err, tt.ok)
			}
		})
	}
}

func TestLocalCARefuses(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name  string
		spoil func(path string) error
		later time.Duration
		want  string
	}{
		{"a key that others may read", func(p string) error { return os.Chmod(p, 0o644) }, 0, "others may read this key (mode 0644)"},
		{"junk", func(p string) error { return os.WriteFile(p, []byte("junk"), 0o600) }, 0, "remove the file to make a new CA"},
		{"one that ends too soon", func(string) error { return nil }, localCALife - localLeafLife + time.Hour, "the CA ends"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := openLocalCA(dir, testZone, now); err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(filepath.Join(dir, testZone+"-ca-key.pem")); err != nil {
				t.Fatal(err)
			}
			if _, err := openLocalCA(dir, testZone, now.Add(tt.later)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// Of many first uses at the same moment there is one CA.
func TestLocalCAIsMadeOnce(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	var g sync.WaitGroup
	cas := make([]*localCA, 8)
	for i := range cas {
		g.Go(func() {
			var err error
			if cas[i], err = openLocalCA(dir, testZone, now); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	for _, ca := range cas {
		if ca == nil || !ca.cert.Equal(cas[0].cert) {
			t.Fatal("two CAs")
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// files writes certificate and key for a name and gives their flags.
func files(t *testing.T, ca *localCA, dir, name string) keyPairFlags {
	t.Helper()
	c, err := ca.issue(time.Now(), netip.MustParseAddr("127.0.0.1"), name)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	f := keyPairFlags{TLSCert: filepath.Join(dir, "cert.pem"), TLSKey: filepath.Join(dir, "key.pem")}
	err = errors.Join(os.WriteFile(f.TLSCert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), 0o600),
		os.WriteFile(f.TLSKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestKeyPairRefuses(t *testing.T) {
	ca, err := openLocalCA(t.TempDir(), testZone, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good := files(t, ca, t.TempDir(), "e.edge.media.example")
	other := files(t, ca, t.TempDir(), "e.edge.media.example")
	for _, tt := range []struct {
		name  string
		flags keyPairFlags
		base  string
		want  string
	}{
		{"no key", keyPairFlags{TLSCert: good.TLSCert}, "https://e", "give both, or none"},
		{"no certificate", keyPairFlags{TLSKey: good.TLSKey}, "https://e", "give both, or none"},
		{"missing file", keyPairFlags{TLSCert: "missing.pem", TLSKey: good.TLSKey}, "https://e", "missing.pem"},
		{"the key of another", keyPairFlags{TLSCert: good.TLSCert, TLSKey: other.TLSKey}, "https://e", "private key does not match public key"},
		{"swapped", keyPairFlags{TLSCert: good.TLSKey, TLSKey: good.TLSCert}, "https://e", "want a certificate chain and its private key"},
		{"links without TLS", good, "http://e", "begins with https://"},
		{"beside a CA", keyPairFlags{TLSCert: good.TLSCert, TLSKey: good.TLSKey}, "acme", "give one of them"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := edgeCmd{certFlags: certFlags{keyPairFlags: tt.flags}, ID: "e", Host: tt.base}
			if tt.base == "acme" {
				c.ACME, c.Host = "https://ca.example/directory", "https://e"
			}
			_, err := c.certificates(&env{log: slog.New(slog.DiscardHandler)}, nil, testZone)
			var m misuse
			if !errors.As(err, &m) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want misuse with %q", err, tt.want)
			}
		})
	}
}

// A new pair is in force within a second; half of one changes nothing; a name that
// does not fit is said.
func TestKeyPairIsFollowed(t *testing.T) {
	dir := t.TempDir()
	ca, err := openLocalCA(t.TempDir(), testZone, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	flags := files(t, ca, dir, "e.edge.media.example")
	var log bytes.Buffer
	p, err := flags.open("e.edge.media.example", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || log.Len() > 0 {
		t.Fatalf("%v, log %q", err, &log)
	}
	get := func() string {
		c, err := p.config().GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.DNSNames[0]
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var following sync.WaitGroup
		following.Go(func() { p.run(ctx) })
		defer following.Wait()
		defer cancel()
		key, err := os.ReadFile(flags.TLSKey)
		if err != nil {
			t.Fatal(err)
		}
		files(t, ca, dir, "f.edge.media.example")
		whole, err := os.ReadFile(flags.TLSKey)
		if err == nil {
			err = os.WriteFile(flags.TLSKey, append(key, '\n'), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * reloadEvery) // the bubble's clock
		synctest.Wait()
		if got := get(); got != "e.edge.media.example" || !strings.Contains(log.String(), "the last good one stays in force") {
			t.Errorf("half of a new pair: %s is served, log %q", got, &log)
		}
		if err := os.WriteFile(flags.TLSKey, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(flags.TLSKey, time.Time{}, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * reloadEvery)
		synctest.Wait()
		if got := get(); got != "f.edge.media.example" || !strings.Contains(log.String(), "does not cover the name") {
			t.Errorf("all of it: %s is served, log %q", got, &log)
		}
	})
}

func TestConnects(t *testing.T) {
	for host, want := range map[string][]string{
		"":                                      {"http:", "ws:"},
		"http://127.0.5.1:8080":                 {"http:", "ws:"},
		"https://de-fra-1.edge.media.example":   {"https://*.edge.media.example:*", "wss://*.edge.media.example:*"},
		"https://e.edge.media.example:8443":     {"https://*.edge.media.example:*", "wss://*.edge.media.example:*"},
		"https://media-1.clinic.example":        {"https:", "wss:"},
		"https://e.edge.media.example.evil.com": {"https:", "wss:"},
	} {
		if got := connects(testZone, host); !slices.Equal(got, want) {
			t.Errorf("connects(%q): got %q, want %q", host, got, want)
		}
	}
}

// bailiwick dev --tls, whole: console, API and every edge over TLS, judged up by its
// own probes, which trust the local CA.
func TestDevTLS(t *testing.T) {
	dir, n := t.TempDir(), nettest.Net(t)
	out := &lines{lines: make(chan string, 64)}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var stderr bytes.Buffer
	running.Go(func() {
		if code := run(ctx, []string{"dev", "--tls", "--tls-dir", dir, "--net", n, "--map", "../../regions.yaml"}, strings.NewReader(""), out, &stderr); code != 0 {
			t.Errorf("exit code %d: %s", code, &stderr)
		}
		close(out.lines)
	})
	defer running.Wait()
	defer cancel()
	text := ""
	for line := range out.lines {
		if text += line; strings.Contains(text, "Ctrl-C stops everything") {
			break
		}
	}
	ca := filepath.Join(dir, "media.example-ca.pem")
	for _, want := range []string{"console  https://" + n + ".0.1:8080/console/", "edges    10, one a region, from https://" + n + ".1.1:8080", "ca       " + ca, "curl --cacert '" + ca + "'"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	b, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	for _, url := range []string{"https://" + n + ".0.1:8080/console/", "https://" + n + ".5.1:8080/c/x", "https://" + n + ".5.1:8080/readyz"} {
		r, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if csp := r.Header.Get("Content-Security-Policy"); r.StatusCode != 200 || !strings.HasSuffix(url, "readyz") && !strings.Contains(csp, "https: wss:") {
			t.Errorf("GET %s: %d, CSP %q", url, r.StatusCode, csp)
		}
	}
	q, _ := http.NewRequest("POST", "https://"+n+".0.1:8080/v1/consults", strings.NewReader(`{"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}]}`))
	q.Header.Set("Authorization", "Bearer dev")
	r, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(r.Body)
	r.Body.Close()
	if r.StatusCode != 201 || !strings.Contains(string(body), `"url":"https://`+n+`.`) {
		t.Errorf("POST: %d %s", r.StatusCode, body)
	}
	// The name as well, where a resolver leads there.
	conn, err := tls.Dial("tcp", n+".5.1:5349", &tls.Config{RootCAs: roots, ServerName: "de-ber-1.edge.media.example"})
	if err != nil {
		t.Fatalf("TURN over TLS: %v", err)
	}
	conn.Close()
	var said bytes.Buffer
	if code := run(t.Context(), []string{"probe", "https://de-ber-1.edge.media.example:8080", "--at", n + ".5.1", "--tls-root", ca}, strings.NewReader(""), &said, &said); code != 0 {
		t.Errorf("probe: exit code %d: %s", code, &said)
	}
}

// lines hands on what is printed.
type lines struct{ lines chan string }

func (l *lines) Write(b []byte) (int, error) { l.lines <- string(b); return len(b), nil }
