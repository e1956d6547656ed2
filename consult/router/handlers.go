package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"bailiwick/access"
	"bailiwick/consult"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
	"bailiwick/store"
)

// Reply is a consult as the API shows it.
type Reply struct {
	ID           consult.ID      `json:"id"`
	Placement    Placed          `json:"placement"`
	Priority     string          `json:"priority"`
	Profile      consult.Profile `json:"profile"`
	Ended        bool            `json:"ended,omitempty"`
	Recorded     bool            `json:"recorded"` // false: the store is away and is told later
	Participants []Seat          `json:"participants"`
	Expires      time.Time       `json:"expires"`
	// Of a consult that runs on the edge that answers.
	Video  string `json:"video,omitempty"`
	Events []Line `json:"events,omitempty"`
}

// Live is what the edge that a consult runs on knows of it beside its record.
type Live struct {
	Profile consult.Profile // in force now
	Video   string          // what is left of its video: a step of the ladder
	Events  []Line          // oldest first
	// Networks of those who have media.
	Networks map[consult.ParticipantID]Network
}

// Line is one event of a consult's timeline.
type Line struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"` // video or profile
	Is     string    `json:"is"`   // from then on
	Reason string    `json:"reason,omitempty"`
}

// Placed is where a consult is.
type Placed struct {
	Region  region.ID       `json:"region"`
	Edge    region.EdgeID   `json:"edge"`
	Standby []region.EdgeID `json:"standby"`
	Epoch   uint64          `json:"epoch"`
}

// Seat is one participant, with a link in the answer that made the consult.
type Seat struct {
	ID    consult.ParticipantID `json:"id"`
	Role  consult.Role          `json:"role"`
	URL   string                `json:"url,omitempty"`
	Token string                `json:"token,omitempty"`
	// Of one who has media on the edge that answers.
	Network *Network `json:"network,omitempty"`
}

// Network is how a participant's connection does, as the edge sees it.
type Network struct {
	RTT    int     `json:"rtt_ms"`
	Down   int     `json:"down_kbps"` // that is carried towards it
	Lost   float64 `json:"down_lost"` // share of a voice's packets, before it is mended
	Jitter int     `json:"down_jitter_ms"`
	UpLost float64 `json:"up_lost"`
	UpJit  int     `json:"up_jitter_ms"`
	MOS    float64 `json:"mos,omitempty"` // of what it hears by this way alone, ITU-T G.107
	// Plays is what its own client last said of how it hears and sees each of the others.
	Plays []Played `json:"plays,omitempty"`
}

// Played is how a participant is heard and seen by another.
type Played struct {
	Participant consult.ParticipantID `json:"participant"`
	Height      int                   `json:"height"`        // lines of the picture; 0: none comes
	Frozen      float64               `json:"frozen_s"`      // seconds of the last ten or so that it stood
	Concealed   float64               `json:"concealed"`     // share of the sound that was made up
	MOS         float64               `json:"mos,omitempty"` // of the sound with all that it went through
}

func replyOf(p *consult.Placement, recorded bool) Reply {
	r := Reply{ID: p.Consult, Recorded: recorded, Priority: string(p.Priority), Profile: p.Profile.Name(), Ended: p.Ended, Expires: p.Expires,
		Placement: Placed{Region: p.Region, Edge: p.Edge, Standby: p.Standby, Epoch: p.Epoch}}
	if r.Placement.Standby == nil {
		r.Placement.Standby = []region.EdgeID{}
	}
	for _, who := range p.Participants {
		r.Participants = append(r.Participants, Seat{ID: who.ID, Role: who.Role})
	}
	return r
}

func (r *Router) create(w http.ResponseWriter, q *http.Request, by access.Principal) {
	body, bad := problem.ReadBody(w, q, problem.MaxBody)
	if bad != nil {
		bad.Write(w)
		return
	}
	world := r.World()
	p, err := consult.ParseRequest(body, world.Map, world.Law)
	if err != nil {
		problem.New(problem.BadRequest, err.Error()).Write(w)
		return
	}
	switch {
	case by.Sees(p.Tenant):
	case p.Tenant == "default": // the body names none, as far as a bound key goes
		p.Tenant = by.Tenant
	default:
		problem.New(problem.Forbidden, fmt.Sprintf("the key of %s makes consults of tenant %s alone", by.Name, by.Tenant)).Write(w)
		return
	}
	out, refused, err := r.Invite(q.Context(), p, time.Now())
	switch {
	case refused != nil:
		r.Log.Info("consult refused", "by", by.Name, "code", refused.Code, "problem", refused.ID)
		refused.Write(w)
		return
	case err != nil:
		r.fail(w, "consult: make", err)
		return
	}
	r.Log.Info("consult placed", "by", by.Name, "consult", p.Consult, "region", p.Region, "to", p.Edge, "recorded", out.Recorded, "generation", world.Generation)
	writeJSON(w, http.StatusCreated, out)
}

// Invite makes the consult that a request describes, and a link for each participant.
func (r *Router) Invite(ctx context.Context, p *consult.Placement, now time.Time) (out Reply, refused *problem.Document, err error) {
	for i := range p.Participants {
		p.Participants[i].ID = consult.ParticipantID(newID("p"))
	}
	now = now.UTC().Truncate(time.Second)
	recorded, refused, err := r.Make(ctx, p, consult.ID(newID("c")), now)
	if refused != nil || err != nil {
		return Reply{}, refused, err
	}
	out, err = r.mint(p, recorded, now)
	return out, nil, err
}

// Make places and records the consult that a request describes, its participants named,
// as id, to which the datacenter of its record is added.
func (r *Router) Make(ctx context.Context, p *consult.Placement, id consult.ID, now time.Time) (recorded bool, refused *problem.Document, err error) {
	world := r.World()
	dc, lawful := r.datacenter(world, p)
	p.Consult = id.In(dc)
	p.Created, p.Expires = now, now.Add(consult.Life)
	if refused := r.place(world, p, now); refused != nil {
		return false, refused, nil
	}
	if !lawful {
		return false, problem.New(residency.StoredNowhere, "the law permits the consult's record in no datacenter of consul: in regions.yaml; bailiwick check says which are missing"), nil
	}
	recorded, err = r.Records.Create(ctx, p)
	return recorded, nil, err
}

// datacenter is where the consult's record may lie: the first of those that the law permits,
// home's before others, whose store answers; or else the first.
func (r *Router) datacenter(w *steer.World, p *consult.Placement) (name string, lawful bool) {
	names := steer.RecordsIn(w, p.Client(w.Map))
	for _, dc := range names {
		if r.Records.reach(consult.ID("c").In(dc)) != nil {
			return dc, true
		}
	}
	if len(names) == 0 {
		return "", false
	}
	return names[0], true
}

// mint signs one token a participant and words the Reply.
func (r *Router) mint(p *consult.Placement, recorded bool, now time.Time) (Reply, error) {
	out := replyOf(p, recorded)
	_, edge := r.World().Edge(p.Edge)
	for i := range p.Participants {
		t := p.Token(i, now)
		token, err := r.Signer.Sign(&t, now)
		if err != nil {
			return Reply{}, err
		}
		out.Participants[i].Token = token
		if edge != nil {
			out.Participants[i].URL = JoinURL(edge.Host, p.Consult, token)
		}
	}
	return out, nil
}

func (r *Router) get(w http.ResponseWriter, q *http.Request, by access.Principal) {
	if bad := problem.NoQuery(q); bad != nil {
		bad.Write(w)
		return
	}
	p, recorded, err := r.find(q, by)
	if err != nil {
		r.fail(w, "consult: read placement", err)
		return
	}
	out := replyOf(p, recorded)
	if r.Live != nil {
		if live := r.Live(p.Consult); live != nil {
			out.Profile, out.Video, out.Events = live.Profile.Name(), live.Video, live.Events
			for i := range out.Participants {
				if n, ok := live.Networks[out.Participants[i].ID]; ok {
					out.Participants[i].Network = &n
				}
			}
		}
	}
	writeJSON(w, http.StatusOK, out)
}

// find looks for the consult of the path among those that the principal may see.
func (r *Router) find(q *http.Request, by access.Principal) (p *consult.Placement, recorded bool, err error) {
	id := consult.ID(q.PathValue("id"))
	if !id.Valid() {
		return nil, false, store.ErrNotFound
	}
	p, recorded, err = r.Look(q.Context(), id)
	if err == nil && !by.Sees(p.Tenant) {
		err = store.ErrNotFound // whose it is is nobody else's to know
	}
	return p, recorded, err
}

// Look finds a consult: its record, or else what this process knows of it.
func (r *Router) Look(ctx context.Context, id consult.ID) (p *consult.Placement, recorded bool, err error) {
	p, recorded, err = r.Records.Read(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) && r.Hosted != nil {
		if held := r.Hosted(id); held != nil {
			return held, false, nil
		}
	}
	return p, recorded, err
}

func (r *Router) delete(w http.ResponseWriter, q *http.Request, by access.Principal) {
	if bad := problem.NoQuery(q); bad != nil {
		bad.Write(w)
		return
	}
	id := consult.ID(q.PathValue("id"))
	if by.Tenant != "" || !id.Valid() { // else End finds it
		if _, _, err := r.find(q, by); err != nil {
			r.fail(w, "consult: end", err)
			return
		}
	}
	p, recorded, err := r.End(q.Context(), id, time.Now().UTC())
	if err != nil {
		r.fail(w, "consult: end", err)
		return
	}
	r.Log.Info("consult ended", "by", by.Name, "consult", id, "recorded", recorded)
	if !recorded {
		writeJSON(w, http.StatusAccepted, replyOf(p, false))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// End ends a consult, here at once and by its record everywhere; see [Records.End].
func (r *Router) End(ctx context.Context, id consult.ID, now time.Time) (p *consult.Placement, recorded bool, err error) {
	if r.Hosted != nil {
		if held := r.Hosted(id); held != nil {
			r.Records.Learn(held)
		}
	}
	p, recorded, err = r.Records.End(ctx, id, now)
	if err != nil {
		return nil, false, err
	}
	if r.Hear != nil {
		r.Hear(p.Notice())
	}
	r.record(consult.Evidence{At: now, By: r.Self, Did: consult.Ended, Consult: id, Epoch: p.Epoch, Edge: p.Edge, Reason: "done"})
	return p, recorded, nil
}

// fail answers an error of the store or of this process; only the log has the cause.
func (r *Router) fail(w http.ResponseWriter, what string, err error) {
	p := problem.New(problem.StoreUnavailable, "try again, or ask the node that made the consult; running calls are not affected")
	switch {
	case errors.Is(err, store.ErrNotFound):
		p = problem.New(problem.NotFound, "no consult of that id is on record: it was never made, or it has expired")
		p.Write(w)
		return
	}
	r.Log.Error("request failed", "what", what, "err", err, "problem", p.ID)
	p.Write(w)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
