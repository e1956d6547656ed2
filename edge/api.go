package edge

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bailiwick/access"
	"bailiwick/consult/router"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store"
)

// API is everything that a node answers over HTTP but the join WebSocket: edges
// serve it, and so does the console address of `bailiwick dev`.
type API struct {
	Node    string
	Router  *router.Router
	World   *world.Writer
	Stores  store.Set
	Rooms   func(region.EdgeID) []Held // of edges in this process; nil elsewhere
	Web     http.Handler
	Log     *slog.Logger
	Metrics *prometheus.Registry // nil: not served here
}

// Handler routes docs/protocol.md section 2.
func (a *API) Handler() *http.ServeMux {
	mux := http.NewServeMux()
	a.Router.Register(mux)
	mux.HandleFunc("GET /v1/status", a.Router.For(a.status, access.Operator, access.Viewer))
	mux.HandleFunc("GET /v1/regions", a.Router.For(a.status, access.Operator, access.Viewer))
	mux.HandleFunc("PUT /v1/regions/{id}", a.Router.For(a.setMode, access.Operator))
	mux.HandleFunc("GET /v1/", func(w http.ResponseWriter, q *http.Request) {
		problem.New(problem.NotFound, "there is no such path: docs/protocol.md has those that there are").Write(w)
	})
	a.health(mux)
	if a.Metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{}))
	}
	if a.Web != nil {
		mux.Handle("GET /", a.Web)
	}
	return mux
}

// observability routes what a node says of itself to who watches it.
func (a *API) observability(metrics *prometheus.Registry) *http.ServeMux {
	mux := http.NewServeMux()
	a.health(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}

func (a *API) health(mux *http.ServeMux) {
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", a.ready)
}

func (a *API) ready(w http.ResponseWriter, _ *http.Request) {
	select {
	case <-a.World.Synced():
		w.Write([]byte("ok\n"))
	default:
		http.Error(w, "no word from the store yet, and no last-known-good file", http.StatusServiceUnavailable)
	}
}

// Held is one consult on an edge as the status shows it: an ID and a count, nothing of anybody.
type Held struct {
	ID           string `json:"id"`
	Participants int    `json:"participants"`
}

// Status is the answer of GET /v1/status.
type Status struct {
	Node       string         `json:"node"`
	Generation uint64         `json:"generation"`
	Store      string         `json:"store"` // live, or stale: the last known good is served
	Regions    []RegionStatus `json:"regions"`
}

// RegionStatus is one region of it.
type RegionStatus struct {
	ID      region.ID    `json:"id"`
	City    string       `json:"city"`
	Country string       `json:"country"`
	Mode    string       `json:"mode"`
	Reason  string       `json:"reason,omitempty"`
	Actor   string       `json:"actor,omitempty"` // who set the mode
	Drill   string       `json:"drill,omitempty"`
	Until   *time.Time   `json:"until,omitempty"` // it serves again then; nil: until somebody says so
	Edges   []EdgeStatus `json:"edges"`
}

// EdgeStatus is one edge of it; Rooms only for edges of the answering process.
type EdgeStatus struct {
	ID       region.EdgeID `json:"id"`
	Host     string        `json:"host"` // base URL of its API
	Health   string        `json:"health"`
	Consults int           `json:"consults"` // running now
	Admits   int           `json:"admits"`   // at most
	Egress   int           `json:"egress"`   // percent of its budget that it sends
	Sheds    int           `json:"sheds"`    // priorities, the least first, that are better placed elsewhere
	Rooms    []Held        `json:"rooms,omitempty"`
}

func (a *API) status(w http.ResponseWriter, q *http.Request, _ access.Principal) {
	if bad := problem.NoQuery(q); bad != nil {
		bad.Write(w)
		return
	}
	cur := a.World.Current()
	out := Status{Node: a.Node, Generation: cur.Generation, Store: "live"}
	if !cur.StoreUp {
		out.Store = "stale"
	}
	for i := range cur.Regions {
		r := &cur.Regions[i]
		rs := RegionStatus{ID: r.ID, City: r.City, Country: string(r.Place.Jurisdiction.Country()), Mode: r.Mode.String(),
			Reason: r.Reason, Actor: r.Actor, Drill: r.Drill, Edges: []EdgeStatus{}}
		if !r.Until.IsZero() {
			rs.Until = &r.Until
		}
		for _, e := range r.Edges {
			load := a.World.Load(e.ID)
			es := EdgeStatus{ID: e.ID, Host: e.Host, Health: e.Health.String(), Consults: load.Consults, Admits: e.Admits, Egress: load.Egress, Sheds: load.Sheds}
			if a.Rooms != nil {
				if es.Rooms = a.Rooms(e.ID); es.Rooms != nil {
					es.Consults = len(es.Rooms) // this process knows better than its lease
				}
			}
			rs.Edges = append(rs.Edges, es)
		}
		out.Regions = append(out.Regions, rs)
	}
	writeJSON(w, out)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(v)
}

// setMode writes an operator's word on a region.
func (a *API) setMode(w http.ResponseWriter, q *http.Request, by access.Principal) {
	body, bad := problem.ReadBody(w, q, problem.MaxBody)
	if bad != nil {
		bad.Write(w)
		return
	}
	id := region.ID(q.PathValue("id"))
	m := a.World.Current().Map
	if m.Region(id) == nil {
		var known []string
		for _, r := range m.Regions {
			known = append(known, string(r.ID))
		}
		problem.New(problem.NotFound, "region "+string(id)+" is not in the map; it has "+strings.Join(known, ", ")).Write(w)
		return
	}
	rec, err := steer.ParseModeWish(body)
	if err != nil {
		problem.New(problem.BadRequest, err.Error()).Write(w)
		return
	}
	if !rec.ExpiresAt.IsZero() && !rec.ExpiresAt.After(time.Now()) {
		problem.New(problem.BadRequest, "expires_at is in the past").Write(w)
		return
	}
	rec.Actor = by.Name
	if err := world.SetMode(q.Context(), a.Stores[m.Datacenter(id)], id, rec); err != nil {
		p := problem.New(problem.StoreUnavailable, "the mode was not written; steering goes on as before")
		a.Log.Error("mode not written", "region", id, "err", err, "problem", p.ID)
		p.Write(w)
		return
	}
	a.Log.Info("mode written", "region", id, "mode", rec.Mode, "actor", rec.Actor)
	w.WriteHeader(http.StatusNoContent)
}

// ErrPortInUse tells a busy port from other faults of listening.
func ErrPortInUse(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && strings.Contains(op.Err.Error(), "address already in use")
}
