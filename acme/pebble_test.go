package acme

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/store"
)

const (
	pebbleVersion = "2.10.1"
	testPatience  = 60 * time.Second
)

// pebble is a real ACME server that asks the test's own DNS server.
type pebble struct {
	t            *testing.T
	args         []string // of the process
	stop         func()
	url          string // of its directory
	manage       string // base URL of its management interface
	roots        *x509.CertPool
	web          *http.Client
	issued       *x509.CertPool // the roots of what it issues
	orders       atomic.Int32
	replacements atomic.Int32           // among the orders
	log          atomic.Pointer[string] // its last lines
}

// startPebble runs one whose certificates last a time, over what lookup answers. The
// binary is $BAILIWICK_PEBBLE, else the one that make test has built.
func startPebble(t *testing.T, life time.Duration, lookup func(string) []string) *pebble {
	t.Helper()
	path := os.Getenv("BAILIWICK_PEBBLE")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(cache, "bailiwick", "pebble-"+pebbleVersion, "pebble")
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no pebble to test against: %v", err)
		}
		t.Skipf("no pebble to test against: %v: make pebble, or set $BAILIWICK_PEBBLE", err)
	}
	dir := t.TempDir()
	p := &pebble{t: t, roots: x509.NewCertPool()}
	writeServerCertificate(t, dir, p.roots)
	api, manage := freeAddr(t), freeAddr(t)
	p.url, p.manage = "https://"+api+"/dir", "https://"+manage
	p.web = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots}}, Timeout: 5 * time.Second}
	config := map[string]any{"pebble": map[string]any{
		"listenAddress": api, "managementListenAddress": manage,
		"certificate": filepath.Join(dir, "cert.pem"), "privateKey": filepath.Join(dir, "key.pem"),
		"retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "test", "validityPeriod": int(life / time.Second)}},
	}}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	p.args = []string{path, "-config", file, "-dnsserver", serveDNS(t, lookup)}
	p.start()
	return p
}

// start runs the process; a second call runs it anew, with nothing remembered.
func (p *pebble) start() {
	t := p.t
	t.Helper()
	if p.stop != nil {
		p.stop()
	}
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=5", "PEBBLE_AUTHZREUSE=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { defer close(read); p.follow(out) }()
	p.stop = sync.OnceFunc(func() { cmd.Process.Kill(); <-read; cmd.Wait() })
	t.Cleanup(p.stop)
	poll(t, "pebble", func() error { _, err := p.get("/roots/0"); return err })
	root, err := p.get("/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	p.issued = x509.NewCertPool()
	if !p.issued.AppendCertsFromPEM(root) {
		t.Fatalf("pebble's root: %q", root)
	}
}

// follow counts orders, and keeps the last lines for a test that fails.
func (p *pebble) follow(r io.Reader) {
	var last []string
	for s := bufio.NewScanner(r); s.Scan(); {
		if strings.Contains(s.Text(), "Added order ") {
			p.orders.Add(1)
		}
		if strings.Contains(s.Text(), "is a replacement of") {
			p.replacements.Add(1)
		}
		last = append(last, s.Text())
		last = last[max(0, len(last)-40):]
		all := strings.Join(last, "\n")
		p.log.Store(&all)
	}
}

func (p *pebble) get(path string) ([]byte, error) {
	r, err := p.web.Get(p.manage + path)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

// renewNow makes the CA ask for this certificate's renewal: a window that is past.
func (p *pebble) renewNow(leaf *x509.Certificate) {
	p.t.Helper()
	now := time.Now().UTC()
	b, err := json.Marshal(map[string]string{
		"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})),
		"ARIResponse": fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q}}`,
			now.Add(-2*time.Hour).Format(time.RFC3339), now.Add(-time.Hour).Format(time.RFC3339)),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := p.web.Post(p.manage+"/set-renewal-info/", "application/json", bytes.NewReader(b))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		p.t.Fatalf("set-renewal-info: %s", r.Status)
	}
}

func (p *pebble) lines() string {
	if s := p.log.Load(); s != nil {
		return *s
	}
	return ""
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func writeServerCertificate(t *testing.T, dir string, roots *x509.CertPool) {
	t.Helper()
	chain, key := selfSigned(t, time.Now(), time.Hour, "pebble.test")
	roots.AppendCertsFromPEM(chain)
	for name, b := range map[string][]byte{"cert.pem": chain, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// selfSigned makes a certificate that is its own root, for 127.0.0.1 too.
func selfSigned(t testing.TB, from time.Time, life time.Duration, names ...string) (chain, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, NotBefore: from.Add(-time.Second), NotAfter: from.Add(life), DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// serveDNS answers TXT from lookup, in names as the client wrote them, and nothing else.
func serveDNS(t *testing.T, lookup func(string) []string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeTXT {
			for _, v := range lookup(dns.CanonicalName(q.Question[0].Name)) {
				m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{v}})
			}
		}
		w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); srv.ActivateAndServe() }()
	t.Cleanup(func() { srv.Shutdown(); <-done })
	return l.Addr().String()
}

// poll waits for processes and networks.
func poll(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(testPatience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("waited %s for %s: %v", testPatience, what, err)
}

// running runs a part of the system until the test ends or stop is called.
func running(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func secret(t testing.TB, b byte) *Secret {
	t.Helper()
	s, err := NewSecret(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dnsNodes runs n DNS nodes and answers with what all of them serve.
func dnsNodes(t *testing.T, st store.Store, n int) func(string) []string {
	t.Helper()
	nodes := make([]*Challenges, n)
	for i := range nodes {
		nodes[i] = NewChallenges(st, fmt.Sprint("dns-", i+1), netip.MustParseAddrPort("192.0.2.53:53"), quiet())
		running(t, nodes[i].Run)
	}
	var turn atomic.Uint32
	return func(name string) []string { // a CA's validators ask one or the other
		return nodes[turn.Add(1)%uint32(n)].Lookup(name)
	}
}

func config(p *pebble, st store.Store, region string, s *Secret, names ...string) Config {
	return Config{Store: st, Names: names, Region: region, CA: p.url, Roots: p.roots, Secret: s, Log: quiet()}
}

func newKeeper(t testing.TB, c Config) *Keeper {
	t.Helper()
	c.Log = cmp.Or(c.Log, quiet())
	k, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// leaf waits for the keeper's certificate that ok accepts.
func leaf(t *testing.T, p *pebble, k *Keeper, what string, ok func(*x509.Certificate) bool) *x509.Certificate {
	t.Helper()
	var got *x509.Certificate
	poll(t, what, func() error {
		pair, err := k.GetCertificate(nil)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, p.lines())
		}
		if got = pair.Leaf; !ok(got) {
			return fmt.Errorf("serial %s is served", got.SerialNumber)
		}
		return nil
	})
	return got
}

func any1(*x509.Certificate) bool { return true }
