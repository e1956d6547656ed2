// Package router is the consult API: it places consults by steer.Rank, writes the
// placement by compare-and-swap, mints join tokens, and explains decisions.
//
// The store has the placements, tokens have all that an edge needs; [Records] bridges the
// time without a store. It does no ranking of its own, knows no media, and moves nothing:
// running consults are package failover's.
package router

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"bailiwick/consult"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/store"
)

// Config is what a Router needs. World must not block.
type Config struct {
	World   func() *steer.World
	Stores  store.Set
	Signer  *Signer
	APIKeys []string      // of backends and operators; none: every call is refused
	Locate  Locator       // nil: no question by address can be answered
	Node    string        // this process, for the published key
	Self    region.EdgeID // the edge that it is part of; empty: none
	// Record takes each decision as evidence; nil takes none.
	Record consult.Record
	// Hosted is a consult that runs in this process; nil, or a nil result: it does not.
	Hosted func(consult.ID) *consult.Placement
	// Hear is told at once of a consult that was ended here; nil: nobody is.
	Hear func(consult.Notice)
	Log  *slog.Logger
}

// Router is safe for concurrent use.
type Router struct {
	Config
	Records   *Records
	decisions sync.Pool
	keys      [][sha256.Size]byte
}

// New makes a Router.
func New(cfg Config) *Router {
	r := &Router{Config: cfg, Records: NewRecords(cfg.Self, cfg.Stores, cfg.World, cfg.Log), decisions: sync.Pool{New: func() any { return new(steer.Decision) }}}
	for _, k := range cfg.APIKeys {
		r.keys = append(r.keys, sha256.Sum256([]byte(k)))
	}
	return r
}

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

// place ranks the consult and writes its choice into p with the next epoch; it does not
// touch the store.
func (r *Router) place(w *steer.World, p *consult.Placement, now time.Time) *problem.Document {
	d := r.decisions.Get().(*steer.Decision)
	defer r.decisions.Put(d)
	c := p.Client(w.Map)
	c.Patients = p.Patients()
	steer.Rank(w, c, d)
	e := consult.Evidence{At: now, By: r.Self, Did: consult.Placed, Consult: p.Consult, Generation: w.Generation, Store: steer.StoredIn(w, c)}
	if len(d.Candidates) == 0 {
		refused := problem.Refusal(d)
		e.Did, e.Reason, e.Verdict = consult.Refused, refused.Code, d.Refused[0]
		r.record(e)
		return refused
	}
	p.Place(d)
	e.Edge, e.Epoch, e.Reason = p.Edge, p.Epoch, "new"
	r.record(e)
	return nil
}

func (r *Router) record(e consult.Evidence) {
	if r.Record != nil {
		r.Record(e)
	}
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
