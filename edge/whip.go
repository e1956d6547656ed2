package edge

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"bailiwick/consult"
	"bailiwick/edge/sfu"
	"bailiwick/edge/signal"
	"bailiwick/failover"
	"bailiwick/problem"
	"bailiwick/residency"
)

const (
	typeSDP      = "application/sdp"
	typeFragment = "application/trickle-ice-sdpfrag"
)

// hosts are the WHIP and WHEP resources of an edge (RFC 9725, draft-ietf-wish-whep): each is a
// seat whose client has no socket to be told anything by. What ends it closes its connection,
// and its client asks again.
type hosts struct {
	mu   sync.Mutex
	byID map[string]*resource
}

// resource is one of them.
type resource struct {
	path     string
	token    string // who gave it may change the resource
	accepted *sfu.Accepted
	joined   *joining
	stop     context.CancelFunc
	done     chan struct{} // closed once its seat is given up

	mu   sync.Mutex // one restart at a time
	etag string     // of the ICE session in force
}

func (h *hosts) find(path string) *resource {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byID[path]
}

func (h *hosts) put(r *resource) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byID[r.path] = r
}

func (h *hosts) forget(r *resource) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byID, r.path)
}

// whip serves an endpoint: of WHIP, or of WHEP, which plays.
func (e *Edge) whip(plays bool) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		allow(w, "POST")
		w.Header().Set("Accept-Post", typeSDP)
		switch q.Method {
		case http.MethodOptions:
			w.WriteHeader(http.StatusNoContent)
		case http.MethodPost:
			e.publish(w, q, plays)
		default:
			w.Header().Set("Allow", "OPTIONS, POST")
			problem.New(problem.MethodNotAllowed, "POST an offer here").Write(w)
		}
	}
}

// resource serves one that an endpoint has made.
func (e *Edge) resource(w http.ResponseWriter, q *http.Request) {
	allow(w, "PATCH, DELETE")
	w.Header().Set("Accept-Patch", typeFragment)
	if q.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	r := e.hosts.find(q.URL.Path)
	switch {
	case r == nil:
		problem.New(problem.NotFound, "there is no such session, or it is over").Write(w)
	case subtle.ConstantTimeCompare([]byte(bearer(q)), []byte(r.token)) != 1:
		problem.New(problem.TokenInvalid, "give the join token that the session was made with, as bearer").Write(w)
	case q.Method == http.MethodPatch:
		r.patch(w, q)
	case q.Method == http.MethodDelete:
		r.stop()
		select {
		case <-r.done:
		case <-q.Context().Done():
		}
		w.WriteHeader(http.StatusOK)
	default:
		w.Header().Set("Allow", "DELETE, OPTIONS, PATCH")
		problem.New(problem.MethodNotAllowed, "PATCH or DELETE a session").Write(w)
	}
}

// allow lets pages of anywhere ask: there is no cookie, and the token is the page's to have.
func allow(w http.ResponseWriter, methods string) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match")
	h.Set("Access-Control-Expose-Headers", "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After")
	h.Set("Access-Control-Max-Age", "86400")
}

func bearer(q *http.Request) string {
	scheme, token, _ := strings.Cut(q.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// accepts tells whether a request takes an answer of the type.
func accepts(q *http.Request, want string) bool {
	all := q.Header.Values("Accept")
	if len(all) == 0 {
		return true
	}
	main, _, _ := strings.Cut(want, "/")
	for one := range strings.SplitSeq(strings.Join(all, ","), ",") {
		t, params, err := mime.ParseMediaType(one)
		if err == nil && (t == want || t == main+"/*" || t == "*/*") && params["q"] != "0" {
			return true
		}
	}
	return false
}

// offered reads who asks and what they offer; the token is what is known of it.
func (e *Edge) offered(w http.ResponseWriter, q *http.Request, plays bool) (token consult.Token, of, sdp string, bad *problem.Document) {
	if bad = problem.NoQuery(q); bad != nil && plays {
		of, bad = participant(q.URL.RawQuery)
	}
	if bad != nil {
		return token, "", "", bad
	}
	if bearer(q) == "" {
		return token, "", "", problem.New(problem.TokenInvalid, "give the participant's join token: Authorization: Bearer TOKEN")
	}
	if token, bad = e.admit(bearer(q)); bad != nil {
		return token, "", "", bad
	}
	if token.E2EE {
		return token, "", "", problem.New(problem.NotEncrypted, "WHIP and WHEP have no keys of the participants: join by the link")
	}
	if t, _, err := mime.ParseMediaType(q.Header.Get("Content-Type")); err != nil || t != typeSDP {
		return token, "", "", problem.New(problem.UnsupportedType, "want an offer of Content-Type "+typeSDP)
	}
	if !accepts(q, typeSDP) {
		return token, "", "", problem.New(problem.NotAcceptable, "the answer is of "+typeSDP)
	}
	body, bad := problem.Body(w, q, problem.MaxBody)
	return token, of, string(body), bad
}

// participant is whom a player wants to see.
func participant(query string) (string, *problem.Document) {
	values, err := url.ParseQuery(query)
	if of := values["participant"]; err == nil && len(values) == 1 && len(of) == 1 && of[0] != "" {
		return of[0], nil
	}
	return "", problem.New(problem.BadRequest, fmt.Sprintf("?%.64s: want ?participant=ID, once, or nothing", query))
}

// publish seats who offers, as join does who says hello.
func (e *Edge) publish(w http.ResponseWriter, q *http.Request, plays bool) {
	token, of, text, bad := e.offered(w, q, plays)
	if bad != nil {
		e.turnAway(w, &token, bad)
		return
	}
	accepted, err := e.sfu.Accept(text, plays)
	switch {
	case errors.Is(err, sfu.ErrUnusable):
		e.turnAway(w, &token, problem.New(problem.UnusableSDP, err.Error()))
		return
	case err != nil:
		p := problem.New(problem.Internal, "")
		e.cfg.Log.Error("offer not answered", "consult", token.Consult, "err", err, "problem", p.ID)
		e.turnAway(w, &token, p)
		return
	}
	ctx, stop := context.WithCancel(e.rooms.ctx)
	j := &joining{seat: failover.Seat(seats.Add(1)), token: token, hello: &signal.Hello{}, out: newOutbox(nil, stop), answer: make(chan answer, 1), polite: true,
		take: func(room string, seat sfu.Seat, _ string, sink sfu.Sink) (*sfu.Session, error) {
			seat.Viewer = plays
			return accepted.Join(room, seat, of, sink)
		}}
	a, ok := e.rooms.join(q.Context(), j)
	if !ok {
		a.refused = problem.New(residency.RegionDraining, "this edge is closing")
	}
	if a.session == nil {
		stop()
		accepted.Close()
		e.elsewhere(w, q, &token, &a)
		return
	}
	r := &resource{path: q.URL.Path + "/" + rand.Text(), token: bearer(q), accepted: accepted, joined: j, stop: stop, done: make(chan struct{}), etag: newETag()}
	e.hosts.put(r)
	if !e.rooms.spawn(func() { e.attend(ctx, r, &a) }) {
		stop() // its room ends with the edge, and it with that
		e.hosts.forget(r)
		e.turnAway(w, &token, problem.New(residency.RegionDraining, "this edge is closing"))
		return
	}
	h := w.Header()
	h.Set("Content-Type", typeSDP)
	h.Set("Cache-Control", "no-store")
	h.Set("Location", e.cfg.Host+r.path)
	h.Set("ETag", r.etag)
	h.Set("Accept-Patch", typeFragment)
	for _, s := range a.welcome.ICEServers {
		for _, u := range s.URLs {
			h.Add("Link", fmt.Sprintf("<%s>; rel=\"ice-server\"; username=%q; credential=%q; credential-type=\"password\"", u, s.Username, s.Credential))
		}
	}
	w.WriteHeader(http.StatusCreated)
	w.Write([]byte(accepted.Answer()))
}

func newETag() string { return `"` + rand.Text() + `"` }

// elsewhere answers who got no seat: with the refusal, or the edge where the consult is.
func (e *Edge) elsewhere(w http.ResponseWriter, q *http.Request, token *consult.Token, a *answer) {
	switch {
	case a.move == nil:
		if c := problem.Code(a.refused.Code); c == problem.SeatTaken || c == problem.NotLive {
			w.Header().Set("Retry-After", "5")
		}
		e.turnAway(w, token, a.refused)
	case !token.Names(a.to.ID):
		// No URL has room for a token: who has none for there is told to get one.
		e.turnAway(w, token, problem.New(problem.WrongEdge, "the consult is at "+string(a.to.ID)+", which the token does not name: ask for a new link"))
	default:
		w.Header().Set("Location", strings.TrimSuffix(a.to.Host, "/")+q.URL.RequestURI())
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
}

// turnAway tells the client and the log, as refuse does.
func (e *Edge) turnAway(w http.ResponseWriter, token *consult.Token, p *problem.Document) {
	e.refused(token, p)
	p.Write(w)
}

// attend keeps a seat for as long as its connection is of use: until it is closed by either
// side, told to be elsewhere, or silent.
func (e *Edge) attend(ctx context.Context, r *resource, a *answer) {
	defer close(r.done)
	defer func() {
		r.stop()
		e.hosts.forget(r)
		a.room.put(failover.Left{Seat: r.joined.seat})
	}()
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	heard := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-r.joined.out.queue:
			if _, ended := m.(signal.Ended); ended || r.joined.out.moved.Load() {
				return
			}
		case now := <-tick.C:
			if a.session.Up() {
				heard = now
			} else if now.Sub(heard) > silence {
				return
			}
		}
	}
}

// patch takes candidates, which the edge does not need, or restarts ICE.
func (r *resource) patch(w http.ResponseWriter, q *http.Request) {
	if t, _, err := mime.ParseMediaType(q.Header.Get("Content-Type")); err != nil || t != typeFragment {
		problem.New(problem.UnsupportedType, "want Content-Type "+typeFragment).Write(w)
		return
	}
	match := q.Header.Get("If-Match")
	if match == "" {
		problem.New(problem.PreconditionRequired, "give If-Match: the ETag of the ICE session for candidates, * to restart").Write(w)
		return
	}
	body, bad := problem.ReadBody(w, q, problem.MaxBody)
	if bad != nil {
		bad.Write(w)
		return
	}
	ufrag, pwd, err := sfu.ReadFragment(string(body))
	if err != nil {
		problem.New(problem.BadRequest, err.Error()).Write(w)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.TrimSpace(match) != "*" {
		if !slices.ContainsFunc(strings.Split(match, ","), func(tag string) bool { return strings.TrimSpace(tag) == r.etag }) {
			problem.New(problem.PreconditionFailed, "the ICE session is another by now").Write(w)
			return
		}
		w.WriteHeader(http.StatusNoContent) // the client's checks show where it is
		return
	}
	if ufrag == "" || pwd == "" {
		problem.New(problem.UnusableSDP, "an ICE restart needs a=ice-ufrag and a=ice-pwd").Write(w)
		return
	}
	text, err := r.accepted.Restart(ufrag, pwd)
	if err != nil {
		problem.New(problem.UnusableSDP, err.Error()).Write(w)
		return
	}
	r.etag = newETag()
	w.Header().Set("Content-Type", typeFragment)
	w.Header().Set("ETag", r.etag)
	w.Header().Set("Cache-Control", "no-store")
	w.Write([]byte(text))
}

// taken tells whether the participant has a seat here whose media pass, or may yet.
func (rm *runner) taken(who consult.ParticipantID) bool {
	for n, c := range rm.conns {
		if c.token.Participant == who && c.session != nil && rm.machine.Holds(n) && !c.session.Lost() {
			return true
		}
	}
	return false
}
