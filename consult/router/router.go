// Package router is the consult API: it places consults by steer.Rank, writes the
// placement by compare-and-swap, mints join tokens, and explains decisions.
//
// It holds no consult in memory: the store has the placement, the token has the
// rest. It does no ranking of its own and knows no media.
package router

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"bailiwick/consult"
	"bailiwick/problem"
	"bailiwick/steer"
	"bailiwick/store"
)

// Config is what a Router needs. World must not block.
type Config struct {
	World   func() *steer.World
	Store   store.Store
	Signer  *Signer
	APIKeys []string // of backends and operators; none: every call is refused
	Locate  Locator  // nil: no question by address can be answered
	Node    string   // this process, for the published key
	Log     *slog.Logger
}

// Router is safe for concurrent use.
type Router struct {
	Config
	decisions sync.Pool
	keys      [][sha256.Size]byte
}

// New makes a Router.
func New(cfg Config) *Router {
	r := &Router{Config: cfg, decisions: sync.Pool{New: func() any { return new(steer.Decision) }}}
	for _, k := range cfg.APIKeys {
		r.keys = append(r.keys, sha256.Sum256([]byte(k)))
	}
	return r
}

// storeTimeout bounds each exchange with the store.
const storeTimeout = 3 * time.Second

// Authorized tells whether the request carries an API key, in constant time.
func (r *Router) Authorized(q *http.Request) bool {
	given, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(given))
	found := 0
	for _, k := range r.keys {
		found |= subtle.ConstantTimeCompare(sum[:], k[:])
	}
	return ok && found == 1
}

// RequireKey wraps a handler so that it runs for API key holders only.
func (r *Router) RequireKey(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		if !r.Authorized(q) {
			problem.New("unauthorized", "send Authorization: Bearer KEY, with a key this deployment was started with").Write(w)
			return
		}
		h(w, q)
	}
}

// Register adds the consult API's routes to mux.
func (r *Router) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/consults", r.RequireKey(r.create))
	mux.HandleFunc("GET /v1/consults/{id}", r.RequireKey(r.get))
	mux.HandleFunc("DELETE /v1/consults/{id}", r.RequireKey(r.delete))
	mux.HandleFunc("GET /v1/explain", r.RequireKey(r.explain))
}

// Place ranks the consult and writes its choice into p with the next epoch; it
// does not touch the store. A refusal is a *problem.Document, never nil and never both.
func (r *Router) Place(p *consult.Placement) *problem.Document {
	w := r.World()
	d := r.decisions.Get().(*steer.Decision)
	defer r.decisions.Put(d)
	steer.Rank(w, p.Client(w.Map), d)
	if len(d.Candidates) == 0 {
		return problem.Refusal(d)
	}
	p.Place(d)
	return nil
}

// ErrRefused is returned by Replace when there is no lawful place to go: the
// consult stays where it is.
var ErrRefused = errors.New("no lawful region can take the consult")

// Replace moves a placement that stands at epoch to the best edge there is now,
// by CAS. When somebody else already moved it, theirs is returned: the highest
// epoch wins.
func (r *Router) Replace(ctx context.Context, id consult.ID, epoch uint64) (consult.Placement, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for {
		p, rev, err := r.load(ctx, id)
		if err != nil || p.Ended || p.Epoch > epoch {
			return p, err
		}
		from := p.Edge
		if refused := r.Place(&p); refused != nil {
			return p, fmt.Errorf("consult %s: %w: %s", id, ErrRefused, refused.Code)
		}
		if p.Edge == from {
			return p, fmt.Errorf("consult %s: %w: %s is still the best there is", id, ErrRefused, from)
		}
		switch err := r.save(ctx, &p, rev); {
		case err == nil:
			return p, nil
		case !errors.Is(err, store.ErrConflict):
			return p, err
		}
	}
}

func (r *Router) load(ctx context.Context, id consult.ID) (consult.Placement, uint64, error) {
	e, err := r.Store.Get(ctx, id.Key())
	if err != nil {
		return consult.Placement{}, 0, err
	}
	p, err := consult.ParsePlacement(e.Value)
	return p, e.Rev, err
}

func (r *Router) save(ctx context.Context, p *consult.Placement, rev uint64) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = r.Store.CAS(ctx, p.ID.Key(), b, rev)
	return err
}

// JoinURL is where a participant's browser opens the consult: the token sits in
// the fragment, which browsers never send.
func JoinURL(host string, id consult.ID, token string) string {
	return host + "/c/" + string(id) + "#" + token
}

// WebSocketURL is the join endpoint of an edge's base URL.
func WebSocketURL(host string) string {
	return "ws" + strings.TrimPrefix(host, "http") + "/v1/join"
}
