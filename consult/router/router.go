// Package router is the consult API: it places consults by steer.Rank, writes the
// placement by compare-and-swap, mints join tokens, and explains decisions.
//
// The store has the placements, tokens have all that an edge needs; [Records] bridges the
// time without a store. It does no ranking of its own, knows no media, and moves nothing:
// running consults are package failover's.
package router

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"bailiwick/access"
	"bailiwick/consult"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/store"
)

// Config is what a Router needs. World must not block.
type Config struct {
	World  func() *steer.World
	Stores store.Set
	Signer *Signer
	Keys   *access.Keys  // nil: every call is refused
	Locate Locator       // nil: no question by address can be answered
	Node   string        // this process, for the published key
	Self   region.EdgeID // the edge that it is part of; empty: none
	// Record takes each decision as evidence; nil takes none.
	Record consult.Record
	// Hosted is a consult that runs in this process; nil, or a nil result: it does not.
	Hosted func(consult.ID) *consult.Placement
	// Live is what this process knows beside its record of a consult that runs in it; nil, or a
	// nil result: it does not.
	Live func(consult.ID) *Live
	// Hear is told at once of a consult that was ended here; nil: nobody is.
	Hear func(consult.Notice)
	Log  *slog.Logger
}

// Router is safe for concurrent use.
type Router struct {
	Config
	Records *Records
}

// New makes a Router.
func New(cfg Config) *Router {
	if cfg.Keys == nil {
		cfg.Keys = &access.Keys{}
	}
	return &Router{Config: cfg, Records: NewRecords(cfg.Self, cfg.Stores, cfg.World, cfg.Log)}
}

// Handler is a handler that knows who asks.
type Handler func(w http.ResponseWriter, q *http.Request, by access.Principal)

// For wraps a handler so that it runs for holders of an API key with one of the roles.
func (r *Router) For(h Handler, roles ...access.Role) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		by, known := r.Keys.Principal(q.Header.Get("Authorization"))
		switch {
		case !known:
			problem.New(problem.Unauthorized, "send Authorization: Bearer KEY, with a key this deployment was started with").Write(w)
		case !by.Is(roles...):
			problem.New(problem.Forbidden, fmt.Sprintf("the key of %s has the roles %v; this wants one of %v: the file of --api-keys says which a key has", by.Name, by.Roles, roles)).Write(w)
		default:
			h(w, q, by)
		}
	}
}

// Register adds the consult API's routes to mux.
func (r *Router) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/consults", r.For(r.create, access.Backend))
	mux.HandleFunc("GET /v1/consults/{id}", r.For(r.get, access.Backend))
	mux.HandleFunc("DELETE /v1/consults/{id}", r.For(r.delete, access.Backend))
	mux.HandleFunc("GET /v1/explain", r.For(r.explain, access.Backend, access.Operator, access.Viewer))
}

// place ranks the consult and writes its choice into p with the next epoch; it does not
// touch the store.
func (r *Router) place(w *steer.World, p *consult.Placement, now time.Time) *problem.Document {
	var d steer.Decision
	c := p.Client(w.Map)
	c.Patients = p.Patients()
	steer.Rank(w, c, &d)
	e := consult.Evidence{At: now, By: r.Self, Did: consult.Placed, Consult: p.Consult, Generation: w.Generation, Store: steer.StoredIn(w, c)}
	if len(d.Candidates) == 0 {
		refused := problem.Refusal(&d)
		e.Did, e.Reason, e.Verdict = consult.Refused, refused.Code, d.Refused[0]
		r.record(e)
		return refused
	}
	p.Place(&d)
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
