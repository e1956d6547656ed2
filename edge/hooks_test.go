package edge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bailiwick/edge/signal"
	"bailiwick/region"
	"bailiwick/webhook"
)

// listener is a backend that notes what it is told of each edge's.
type listener struct {
	server *httptest.Server
	secret string

	mu   sync.Mutex
	told map[string][]string // by edge, in order
	all  []string
	came chan struct{}
}

func newListener(t *testing.T) *listener {
	l := &listener{told: map[string][]string{}, came: make(chan struct{}, 1000), secret: filepath.Join(t.TempDir(), "secret")}
	if err := os.WriteFile(l.secret, []byte("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="), 0o600); err != nil {
		t.Fatal(err)
	}
	l.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var e struct {
			Type string
			Data struct{ Consult, Edge, Participant, Role, From, To, Step, Reason string }
		}
		if err := json.NewDecoder(q.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		what := strings.TrimPrefix(e.Type, "consult.")
		for _, s := range []string{e.Data.Participant, e.Data.Role, e.Data.From, e.Data.To, e.Data.Step, e.Data.Reason} {
			if s != "" {
				what += " " + s
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.told[e.Data.Edge] = append(l.told[e.Data.Edge], what)
		l.came <- struct{}{}
	}))
	t.Cleanup(l.server.Close)
	return l
}

func (l *listener) queue(c *Config) {
	q, err := webhook.Open(webhook.Config{Path: filepath.Join(filepath.Dir(l.secret), string(c.ID)), Log: c.Log, Hook: func(string) (region.Webhook, bool) {
		return region.Webhook{URL: l.server.URL, SecretFile: l.secret}, true
	}})
	if err != nil {
		panic(err)
	}
	c.Webhooks = q
}

// hears waits until an edge has told no less than what is wanted, and no more of it.
func (l *listener) hears(t *testing.T, edge string, want ...string) {
	t.Helper()
	late := time.After(patience)
	for {
		l.mu.Lock()
		got := slices.Clone(l.told[edge])
		l.mu.Unlock()
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-l.came:
		case <-late:
			t.Fatalf("%s told\n%s\nwant\n%s", edge, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestBackendIsToldOfAConsult(t *testing.T) {
	l := newListener(t)
	f := startWith(t, 10, l.queue, "de-ber", "de-fra")
	c := f.consult("de-ber")
	ann, bob := c.Participants[0], c.Participants[1]
	a := f.dial("de-ber")
	a.hello(ann.Token, "")
	session := a.next(signal.TypeWelcome).Session
	b := f.dial("de-ber")
	b.hello(bob.Token, "")
	b.next(signal.TypeWelcome)
	joined := func(who string) string { return "joined " + who }
	at := []string{"started", joined(ann.ID + " patient"), joined(bob.ID + " clinician")}
	l.hears(t, "de-ber-1", at...)

	// A reload is no coming and going, and neither is a parked seat.
	again := f.dial("de-ber")
	again.hello(ann.Token, session)
	again.next(signal.TypeWelcome)
	parked := f.dial("de-fra")
	parked.send(fmt.Sprintf(`{"type":"hello","token":%q,"park":true}`, bob.Token))
	parked.next(signal.TypeWelcome)

	b.send(`{"type":"leave"}`)
	at = append(at, "left "+bob.ID+" clinician gone")
	l.hears(t, "de-ber-1", at...)

	f.mode("de-ber", "down")
	m := again.next(signal.TypeMove)
	at = append(at, "moved de-ber-1 de-fra-1 region_down")
	l.hears(t, "de-ber-1", at...)
	there := f.dial("de-fra")
	there.hello(m.Token, "")
	there.next(signal.TypeWelcome)
	again.send(`{"type":"leave"}`)
	at = append(at, "left "+ann.ID+" patient moved")
	l.hears(t, "de-ber-1", at...)
	to := []string{"started", joined(ann.ID + " patient")}
	l.hears(t, "de-fra-1", to...)

	if code := f.call("de-fra", "DELETE", "/v1/consults/"+c.ID, "", "dev", nil); code != 204 {
		t.Fatalf("DELETE: %d", code)
	}
	l.hears(t, "de-fra-1", append(to, "ended done")...)
	l.hears(t, "de-ber-1", at...)
	// The law lets them be written down here.
	if b, err := os.ReadFile(filepath.Join(filepath.Dir(l.secret), "de-ber-1")); err != nil || strings.Count(string(b), `"type":"consult.`) != len(at) {
		t.Errorf("journal: %v\n%s", err, b)
	}
}

// Whoever is seated when an edge closes has left it, and the backend hears so.
func TestBackendIsToldOfAStop(t *testing.T) {
	l := newListener(t)
	f := startWith(t, 10, l.queue, "de-ber")
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	f.stop["de-ber"]()
	l.hears(t, "de-ber-1", "started", "joined "+c.Participants[0].ID+" patient", "left "+c.Participants[0].ID+" patient edge_stopped")
}
