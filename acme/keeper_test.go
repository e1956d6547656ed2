package acme

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"bailiwick/acme/pebbletest"
	"bailiwick/store"
	"bailiwick/store/consul"
	"bailiwick/store/consultest"
	"bailiwick/tools/logtest"
)

// stores are what the keepers are tested over.
func stores(t *testing.T, test func(t *testing.T, st store.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, store.NewMemory()) })
	t.Run("consul", func(t *testing.T) {
		st, err := consul.New(consultest.Start(t).Addr(), "")
		if err != nil {
			t.Fatal(err)
		}
		test(t, st)
	})
}

// Two nodes of one region and one of another, two DNS nodes: one order a region, whose
// certificate covers apex and wildcards, and the private key of each stays its own.
func TestIssuance(t *testing.T) {
	stores(t, func(t *testing.T, st store.Store) {
		p := startPebble(t, 90*24*time.Hour, dnsNodes(t, st, 2))
		s := secret(t, 1)
		names := Names("media.example", "de-fra")
		a, b := newKeeper(t, config(p, st, "de-fra", s, names...)), newKeeper(t, config(p, st, "de-fra", s, names...))
		var log logtest.Buffer
		logged := config(p, st, "us-iad", secret(t, 2), Names("media.example", "us-iad")...)
		logged.Log = slog.New(slog.NewTextHandler(&log, nil))
		us := newKeeper(t, logged)
		for _, k := range []*Keeper{a, b, us} {
			select {
			case <-k.Obtained():
				t.Error("a certificate is said to be obtained before anything runs")
			default:
			}
			running(t, k.Run)
		}
		for _, k := range []*Keeper{a, b, us} {
			select {
			case <-k.Obtained():
			case <-time.After(time.Minute):
				t.Fatal("no certificate is said to be obtained")
			}
			if _, err := k.GetCertificate(nil); err != nil {
				t.Errorf("once it is obtained: %v", err)
			}
		}
		first, second, other := leaf(t, a, "a certificate", any1), leaf(t, b, "the same certificate", any1), leaf(t, us, "another", any1)
		if !first.Equal(second) {
			t.Errorf("two nodes of a region: got serials %s and %s, want the same", first.SerialNumber, second.SerialNumber)
		}
		if !strings.Contains(log.String(), "account="+strings.TrimSuffix(p.Directory, "dir")+"my-account/") {
			t.Errorf("no account to name in a CAA record:\n%s", &log)
		}
		if first.Equal(other) {
			t.Error("two regions have the same certificate")
		}
		if got := p.Orders(); got != 2 {
			t.Errorf("orders at the CA: got %d, want one a region", got)
		}
		got := slices.Sorted(slices.Values(first.DNSNames))
		if want := slices.Sorted(slices.Values(names)); !slices.Equal(got, want) {
			t.Errorf("names: got %q, want %q", got, want)
		}
		serves(t, p, a, "join.media.example", "de.join.media.example", "de-fra-1.edge.media.example")
		left, err := st.List(t.Context(), challengesPrefix)
		if err != nil || len(left.Entries) != 0 {
			t.Errorf("challenges left: got %v, %v, want none", left.Entries, err)
		}
		unreadable(t, st)
	})
}

// serves makes a real handshake for each name.
func serves(t *testing.T, p *pebbletest.CA, k *Keeper, names ...string) {
	t.Helper()
	for _, name := range names {
		client, server := net.Pipe()
		go func() { tls.Server(server, k.TLSConfig()).Handshake() }()
		if err := tls.Client(client, &tls.Config{ServerName: name, RootCAs: p.Roots}).Handshake(); err != nil {
			t.Errorf("handshake for %s: %v", name, err)
		}
		client.Close()
		server.Close()
	}
}

// unreadable looks for anything in the clear among what the regions keep.
func unreadable(t *testing.T, st store.Store) {
	t.Helper()
	snap, err := st.List(t.Context(), regionsPrefix)
	if err != nil || len(snap.Entries) < 4 { // two accounts, two certificates
		t.Fatalf("kept: got %d entries, %v, want 4", len(snap.Entries), err)
	}
	for _, e := range snap.Entries {
		for _, word := range []string{"PRIVATE", "BEGIN", "media.example"} {
			if strings.Contains(string(e.Value), word) {
				t.Errorf("%s holds %q in the clear", e.Key, word)
			}
		}
	}
}

// The CA asks for a renewal. A node that starts hears of it and renews; the one that
// runs takes the certificate over, and a connection that is open stays open.
func TestRenewalByARI(t *testing.T) {
	stores(t, func(t *testing.T, st store.Store) {
		p := startPebble(t, 90*24*time.Hour, dnsNodes(t, st, 1))
		c := config(p, st, "de-fra", secret(t, 1), Names("media.example", "de-fra")...)
		runs := newKeeper(t, c)
		running(t, runs.Run)
		old := leaf(t, runs, "a certificate", any1)
		conn := echo(t, p, runs)
		conn.says(t, "before", old)

		p.RenewNow(old)
		starts := newKeeper(t, c)
		running(t, starts.Run)
		renewed := leaf(t, starts, "a renewed certificate", func(l *x509.Certificate) bool { return !l.Equal(old) })
		leaf(t, runs, "the other node's certificate", renewed.Equal)
		if got := p.Replacements(); got != 1 {
			t.Errorf("orders that name what they replace (RFC 9773 section 5): got %d, want 1", got)
		}
		conn.says(t, "after", old)
		echo(t, p, runs).says(t, "anew", renewed)
		if got := p.Orders(); got != 2 {
			t.Errorf("orders at the CA: got %d, want 2", got)
		}
	})
}

// A CA that has forgotten account and certificate refuses an order that names what it
// replaces; the next one is plain, from an account made anew with the same key.
func TestRenewalByAForgetfulCA(t *testing.T) {
	st := store.NewMemory()
	p := startPebble(t, 90*24*time.Hour, dnsNodes(t, st, 1))
	k := newKeeper(t, config(p, st, "de-fra", secret(t, 1), "join.media.example"))
	if err := k.order(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := k.current.Load()
	p.Restart()
	err := k.order(t.Context())
	if !errors.As(err, new(refused)) || k.current.Load() != first {
		t.Fatalf("first order at a CA that forgot: got %v, want it refused", err)
	}
	now := time.Now()
	k.fail(err, now)
	if got := k.retry.Sub(now); got != time.Minute {
		t.Errorf("next attempt: got after %s, want %s", got, time.Minute)
	}
	if err := k.order(t.Context()); err != nil || k.current.Load() == first {
		t.Errorf("second order: got %v, want a new certificate", err)
	}
	for range 6 {
		k.fail(errGone, now)
	}
	k.fail(refused{errGone}, now)
	if got := k.retry.Sub(now); got != time.Minute*3 {
		t.Errorf("after a second refusal: got %s, want 3 minutes: what is not the CA's counts for nothing", got)
	}
	for range 6 {
		k.fail(refused{errGone}, now)
	}
	if got := k.retry.Sub(now); got != time.Hour {
		t.Errorf("after many: got %s, want %s", got, time.Hour)
	}
	serves(t, p, k, "join.media.example")
}

// full is a store that takes no certificate.
type full struct {
	store.Store
	full bool
}

func (s *full) Put(ctx context.Context, key string, value []byte) (store.Entry, error) {
	if s.full && strings.Contains(key, "/certificates/") {
		return store.Entry{}, errGone
	}
	return s.Store.Put(ctx, key, value)
}

// A certificate that the store does not take is served, and saved when it does: the CA
// has counted it, and no second one is ordered.
func TestOrderIsNotLostWithTheStore(t *testing.T) {
	st := &full{store.NewMemory(), true}
	p := startPebble(t, 90*24*time.Hour, dnsNodes(t, st, 1))
	k := newKeeper(t, config(p, st, "de-fra", secret(t, 1), "join.media.example"))
	if err := k.renew(t.Context(), time.Now()); !errors.Is(err, errGone) {
		t.Fatalf("order: got %v, want %v", err, errGone)
	}
	serves(t, p, k, "join.media.example")
	if age := time.Since(k.ordered); age > time.Hour {
		t.Errorf("ordered %s ago: the next order would not wait", age)
	}
	st.full = false
	if err := k.renew(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	b, err := k.storage.Load(t.Context(), k.key)
	if err != nil || string(b) != string(k.current.Load().kept) || p.Orders() != 1 {
		t.Errorf("the store has another certificate, %v, after %d orders; want the one of the first", err, p.Orders())
	}
}

// Without ARI's word a certificate is renewed when a third of its life is left.
func TestRenewalByLife(t *testing.T) {
	st := store.NewMemory()
	p := startPebble(t, 15*time.Second, dnsNodes(t, st, 1))
	k := newKeeper(t, config(p, st, "de-fra", secret(t, 1), "join.media.example"))
	running(t, k.Run)
	first := leaf(t, k, "a certificate", any1)
	second := leaf(t, k, "a renewed certificate", func(l *x509.Certificate) bool { return !l.Equal(first) })
	if !second.NotBefore.Before(first.NotAfter) {
		t.Errorf("renewed at %s, after the end of the old one at %s", second.NotBefore, first.NotAfter)
	}
}

type echoing struct {
	conn *tls.Conn
	r    *bufio.Reader
}

// echo opens a connection to a server that sends lines back.
func echo(t *testing.T, p *pebbletest.CA, k *Keeper) *echoing {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", k.TLSConfig())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for r := bufio.NewReader(conn); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(conn, line)
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "join.media.example", RootCAs: p.Roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); l.Close() })
	return &echoing{conn, bufio.NewReader(conn)}
}

func (e *echoing) says(t *testing.T, line string, want *x509.Certificate) {
	t.Helper()
	e.conn.SetDeadline(time.Now().Add(testPatience))
	fmt.Fprintln(e.conn, line)
	if got, err := e.r.ReadString('\n'); err != nil || got != line+"\n" {
		t.Fatalf("echo: got %q, %v, want %q", got, err, line)
	}
	if got := e.conn.ConnectionState().PeerCertificates[0]; !got.Equal(want) {
		t.Errorf("certificate of the connection: got serial %s, want %s", got.SerialNumber, want.SerialNumber)
	}
}

// unreachable is a store that answers nobody.
type unreachable struct{ store.Store }

var errGone = errors.New("connection refused")

func (unreachable) Get(context.Context, string) (store.Entry, error) {
	return store.Entry{}, errGone
}

func (unreachable) Put(context.Context, string, []byte) (store.Entry, error) {
	return store.Entry{}, errGone
}

func (unreachable) Lock(context.Context, string) (store.Lock, error) { return nil, errGone }

func (unreachable) Watch(ctx context.Context, _ string, _ func(store.Snapshot), up func(error)) error {
	up(errGone)
	<-ctx.Done()
	return ctx.Err()
}

// Static stability: a node serves at once what it had, with neither store nor CA.
func TestStartsWithoutStoreAndCA(t *testing.T) {
	st := store.NewMemory()
	p := startPebble(t, 90*24*time.Hour, dnsNodes(t, st, 1))
	c := config(p, st, "de-fra", secret(t, 1), Names("media.example", "de-fra")...)
	c.Cache = t.TempDir()
	k := newKeeper(t, c)
	stop := running(t, k.Run)
	had := leaf(t, k, "a certificate", any1)
	c.Store = unreachable{}
	poll(t, "a copy of it", func() error { // it is served before it is copied
		_, err := newKeeper(t, c).GetCertificate(nil)
		return err
	})
	stop()

	again := newKeeper(t, c)
	pair, err := again.GetCertificate(nil)
	if err != nil || !pair.Leaf.Equal(had) {
		t.Fatalf("before Run, from the cache: got %v, want serial %s", err, had.SerialNumber)
	}
	running(t, again.Run)
	leaf(t, again, "the same", had.Equal)
	serves(t, p, again, "join.media.example")

	c.Cache = t.TempDir()
	empty := newKeeper(t, c)
	running(t, empty.Run)
	poll(t, "an error that says why", func() error {
		_, err := empty.GetCertificate(nil)
		if err == nil || !errors.Is(err, errGone) || !strings.Contains(err.Error(), "no certificate for region de-fra yet") {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
	c.Secret = secret(t, 9)
	c.Cache = k.storage.dir[:len(k.storage.dir)-len("/de-fra")]
	if _, err := New(c); !errors.Is(err, errSealed) || !strings.Contains(err.Error(), k.storage.dir) {
		t.Errorf("New with another secret on the cache: got %v, want one that names the file", err)
	}
}

// The same with a real Consul that was killed, and back.
func TestStartsWithConsulKilled(t *testing.T) {
	server := consultest.Start(t)
	open := func() store.Store {
		st, err := consul.New(server.Addr(), "")
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	c := Config{Store: open(), Names: []string{"join.media.example"}, Region: "de-fra", CA: "https://127.0.0.1:1/dir",
		Secret: secret(t, 1), Cache: t.TempDir(), Log: quiet()}
	k := newKeeper(t, c)
	keep(t, k, 2000*time.Hour)
	running(t, k.Run)
	had := leaf(t, k, "the certificate of the store", any1)

	server.Kill()
	c.Store = open()
	again := newKeeper(t, c)
	running(t, again.Run)
	if pair, err := again.GetCertificate(nil); err != nil || !pair.Leaf.Equal(had) {
		t.Errorf("without Consul: got %v, want serial %s", err, had.SerialNumber)
	}
	server.Restart()
	server.Ready()
	keep(t, k, 3000*time.Hour)
	for _, k := range []*Keeper{k, again} {
		leaf(t, k, "the next certificate", func(l *x509.Certificate) bool { return !l.Equal(had) })
	}
}
