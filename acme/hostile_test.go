package acme

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bailiwick/acme/certtest"
	"bailiwick/store"
	"bailiwick/tools/logtest"
)

// hostileCA validates nothing and issues what it is told to.
type hostileCA struct {
	*httptest.Server
	orders      atomic.Int32
	from, until time.Time // of its certificates
	key         crypto.Signer
}

func newHostileCA(t *testing.T) *hostileCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &hostileCA{key: key}
	var issued []byte
	answer := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Replay-Nonce", fmt.Sprint("n", time.Now().UnixNano()))
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	mux := http.NewServeMux()
	ca.Server = httptest.NewTLSServer(mux)
	t.Cleanup(ca.Close)
	mux.HandleFunc("/dir", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]string{"newNonce": ca.URL + "/nonce", "newAccount": ca.URL + "/account", "newOrder": ca.URL + "/order"})
	})
	mux.HandleFunc("/nonce", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, nil) })
	mux.HandleFunc("/account", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", ca.URL+"/account/1")
		answer(w, 201, map[string]string{"status": "valid"})
	})
	mux.HandleFunc("/order", func(w http.ResponseWriter, _ *http.Request) {
		ca.orders.Add(1)
		w.Header().Set("Location", ca.URL+"/order/1")
		answer(w, 201, map[string]any{"status": "ready", "authorizations": []string{}, "finalize": ca.URL + "/finalize"})
	})
	mux.HandleFunc("/finalize", func(w http.ResponseWriter, q *http.Request) {
		var jws struct{ Payload string }
		var body struct{ CSR string }
		if err := json.NewDecoder(q.Body).Decode(&jws); err != nil {
			t.Error(err)
		}
		payload, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
		if err := json.Unmarshal(payload, &body); err != nil {
			t.Error(err)
		}
		der, _ := base64.RawURLEncoding.DecodeString(body.CSR)
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Error(err)
			return
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "x"}, DNSNames: csr.DNSNames,
			NotBefore: ca.from, NotAfter: ca.until}
		if der, err = x509.CreateCertificate(rand.Reader, c, c, csr.PublicKey, ca.key); err != nil {
			t.Error(err)
		}
		issued = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		answer(w, 200, map[string]string{"status": "valid", "certificate": ca.URL + "/certificate"})
	})
	mux.HandleFunc("/certificate", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Write(issued)
	})
	return ca
}

func (ca *hostileCA) keeper(t *testing.T) *Keeper {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	return newKeeper(t, Config{Store: store.NewMemory(), Names: []string{"join.media.example"}, Region: "de-fra", CA: ca.URL + "/dir", Roots: roots, Secret: secret(t, 1)})
}

// A CA whose clock or configuration is broken issues what nobody can use: the good
// certificate goes on being served, and it is asked again as after any failure.
func TestUselessCertificate(t *testing.T) {
	for _, c := range []struct {
		name        string
		from, until time.Duration // from now
	}{
		{"expired", -2 * time.Hour, -time.Hour},
		{"ends before it begins", time.Hour, -time.Hour},
		{"begins in a year", 365 * 24 * time.Hour, 455 * 24 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			ca := newHostileCA(t)
			ca.from, ca.until = time.Now().Add(c.from), time.Now().Add(c.until)
			k := ca.keeper(t)
			keep(t, k, time.Hour)
			if err := k.load(t.Context()); err != nil {
				t.Fatal(err)
			}
			good := k.current.Load()
			if err := k.order(t.Context()); !errors.As(err, new(refused)) {
				t.Errorf("order: got %v, want it refused", err)
			}
			if k.current.Load() != good {
				t.Error("the good certificate is not served any more")
			}
		})
		t.Run("first one "+c.name, func(t *testing.T) {
			ca := newHostileCA(t)
			ca.from, ca.until = time.Now().Add(c.from), time.Now().Add(c.until)
			k := ca.keeper(t)
			for range 3 { // the second asks for ARI
				k.step(t.Context())
			}
			if got := ca.orders.Load(); got != 1 {
				t.Errorf("orders in three steps at once: got %d, want 1", got)
			}
			if _, err := k.GetCertificate(nil); err != nil {
				t.Errorf("it is better than none: %v", err)
			}
		})
	}
}

// Of two certificates the newer one is worth more, but not one that nobody can use: nodes
// that had either one end with the same.
func TestUselessCertificateInTheStore(t *testing.T) {
	const year = 365 * 24 * time.Hour
	st := store.NewMemory()
	c := Config{Store: st, Names: []string{"join.media.example"}, Region: "de-fra", CA: "https://127.0.0.1:1/dir", Secret: secret(t, 1)}
	had := newKeeper(t, c)
	put := func(from, until time.Duration) {
		t.Helper()
		pair := certtest.SelfSigned(t, time.Now().Add(from), time.Now().Add(until), had.names...)
		b, err := json.Marshal(storedCertificate{Key: string(pair.KeyPEM), Chain: string(pair.CertPEM)})
		if err == nil {
			err = had.storage.Store(t.Context(), had.key, b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	load := func(k *Keeper) *certificate {
		t.Helper()
		if err := k.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		return k.current.Load()
	}
	put(-time.Hour, year)
	good := load(had)
	put(year, 2*year)
	fresh := newKeeper(t, c)
	if got := load(fresh); got == nil || got.leaf.Equal(good.leaf) {
		t.Fatal("a node that has none does not take what there is")
	}
	if got := load(had); !got.leaf.Equal(good.leaf) || !had.unsaved {
		t.Error("a certificate from next year on takes the place of a good one")
	}
	if err := had.save(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if got := load(fresh); !got.leaf.Equal(good.leaf) || fresh.unsaved {
		t.Error("the good one does not take the place of a certificate from next year on")
	}
}

// The library reads a CA's answer whole: of one without an end a bounded part is read.
func TestEndlessAnswer(t *testing.T) {
	const endless = 64 << 20
	sent := make(chan int, 8)
	ca := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		n := 0
		for b := make([]byte, 1<<16); n < endless; n += len(b) {
			if _, err := w.Write(b); err != nil {
				break
			}
		}
		sent <- n
	}))
	defer ca.Close()
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	k := newKeeper(t, Config{Store: store.NewMemory(), Names: []string{"join.media.example"}, Region: "de-fra", CA: ca.URL, Roots: roots, Secret: secret(t, 1)})
	err := k.order(t.Context())
	if err == nil || !errors.As(err, new(*http.MaxBytesError)) {
		t.Errorf("got %.200v, want the bound in it", err)
	}
	if got := <-sent; got == endless {
		t.Errorf("%d octets were read", got)
	}
}

// Whoever may present a challenge may present thousands, and garbage: a bounded part is
// served, the rest not said to be, and the log has one line for each change.
func TestFloodOfChallenges(t *testing.T) {
	var log logtest.Buffer
	c := NewChallenges(store.NewMemory(), "dns-1", netip.MustParseAddrPort("192.0.2.53:53"), slog.New(slog.NewTextHandler(&log, nil)))
	now, err := json.Marshal(storedChallenge{Presented: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	var snap store.Snapshot
	add := func(key string, value []byte) {
		snap.Entries = append(snap.Entries, store.Entry{Key: challengesPrefix + key, Value: value})
	}
	for i := range 3000 {
		add(fmt.Sprintf("_acme-challenge.join.media.example/%043d", i), now)
		add(fmt.Sprintf("_acme-challenge.e%d.edge.media.example/%043d", i, i), now)
		add(fmt.Sprintf("garbage/%d", i), nil)
	}
	all := c.parse(snap)
	if _, whole := c.apply(all); whole {
		t.Error("taken for all that there is")
	}
	if got := len(c.Lookup(apex)); got != maxValues {
		t.Errorf("values of one name: got %d, want %d", got, maxValues)
	}
	if got := len(*c.names.Load()); got > maxChallenges {
		t.Errorf("names: got %d, want %d at most", got, maxChallenges)
	}
	if got := strings.Count(log.String(), "\n"); got != 1 {
		t.Errorf("lines in the log: got %d, want 1", got)
	}
}
