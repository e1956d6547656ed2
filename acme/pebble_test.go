package acme

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bailiwick/acme/pebbletest"
	"bailiwick/geodns/dnstest"
	"bailiwick/store"
)

const testPatience = 60 * time.Second

// startPebble runs an authority whose certificates last a time, over what lookup answers.
// It refuses some good nonces, as a CA may.
func startPebble(t *testing.T, life time.Duration, lookup func(string) []string) *pebbletest.CA {
	t.Helper()
	return pebbletest.Start(t, pebbletest.Config{DNS: serveDNS(t, lookup), Life: life, BadNonces: 5})
}

// serveDNS answers TXT from lookup, in names as the client wrote them, and nothing else.
func serveDNS(t *testing.T, lookup func(string) []string) string {
	t.Helper()
	return dnstest.Serve(t, "127.0.0.1:0", func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeTXT {
			for _, v := range lookup(dns.CanonicalName(q.Question[0].Name)) {
				m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{v}})
			}
		}
		w.WriteMsg(m)
	}).String()
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

func config(p *pebbletest.CA, st store.Store, region string, s *Secret, names ...string) Config {
	return Config{Store: st, Names: names, Region: region, CA: p.Directory, Roots: p.APIRoots, Secret: s, Log: quiet()}
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
func leaf(t *testing.T, k *Keeper, what string, ok func(*x509.Certificate) bool) *x509.Certificate {
	t.Helper()
	var got *x509.Certificate
	poll(t, what, func() error {
		pair, err := k.GetCertificate(nil)
		if err != nil {
			return err
		}
		if got = pair.Leaf; !ok(got) {
			return fmt.Errorf("serial %s is served", got.SerialNumber)
		}
		return nil
	})
	return got
}

func any1(*x509.Certificate) bool { return true }
