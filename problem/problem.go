// Package problem is how an HTTP handler of this house says no: an RFC 9457 document with
// a stable code, and the reading of a bounded body, which is the first thing that fails.
//
// Every code that a client can meet stands in one table. It decides nothing: what is
// refused, and by which rule, comes from the caller.
package problem

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"bailiwick/residency"
	"bailiwick/steer"
)

// Document is an RFC 9457 problem document. Code is stable; ID names the log line.
type Document struct {
	Type         string   `json:"type"`
	Title        string   `json:"title"`
	Status       int      `json:"status"`
	Code         string   `json:"code"`
	Detail       string   `json:"detail,omitempty"`
	Jurisdiction string   `json:"jurisdiction,omitempty"`
	Citation     []string `json:"citation,omitempty"`
	AsOf         string   `json:"as_of,omitempty"`
	ID           string   `json:"id"`

	// Of token_early: from when the token is valid, and what the clock here says.
	ValidFrom *time.Time `json:"valid_from,omitempty"`
	Clock     *time.Time `json:"clock,omitempty"`
}

// Code is stable: clients branch on it. The law's are package residency's.
type Code = residency.Code

// The codes of this house beside the law's.
const (
	BadRequest       Code = "bad_request"
	BodyTooLarge     Code = "body_too_large"
	Unauthorized     Code = "unauthorized"
	Forbidden        Code = "forbidden"
	NotFound         Code = "not_found"
	Conflict         Code = "conflict"
	TokenInvalid     Code = "token_invalid"
	TokenExpired     Code = "token_expired"
	TokenEarly       Code = "token_early"
	WrongEdge        Code = "wrong_edge"
	RoomFull         Code = "room_full"
	ConsultEnded     Code = "consult_ended"
	StoreUnavailable Code = "store_unavailable"
	NotEncrypted     Code = "not_encrypted"
	Internal         Code = "internal"

	// Of WHIP and WHEP.
	MethodNotAllowed     Code = "method_not_allowed"
	NotAcceptable        Code = "not_acceptable"
	UnsupportedType      Code = "unsupported_type"
	UnusableSDP          Code = "unusable_sdp"
	SeatTaken            Code = "seat_taken"
	NotLive              Code = "not_live"
	PreconditionFailed   Code = "precondition_failed"
	PreconditionRequired Code = "precondition_required"
)

type entry struct {
	status int
	title  string
}

// Law and load are told apart by status: 422 will not pass on a retry, 503 may.
var (
	unlawful = entry{http.StatusUnprocessableEntity, "no lawful region may take this consult"}
	notNow   = entry{http.StatusServiceUnavailable, "no lawful region can take this consult now"}
)

// table holds the status and title of every code.
var table = map[Code]entry{
	BadRequest:       {http.StatusBadRequest, "the request is not well-formed"},
	BodyTooLarge:     {http.StatusRequestEntityTooLarge, "the body is larger than 64 KiB"},
	Unauthorized:     {http.StatusUnauthorized, "a valid API key is required"},
	Forbidden:        {http.StatusForbidden, "this API key may not do that"},
	NotFound:         {http.StatusNotFound, "no such thing"},
	Conflict:         {http.StatusConflict, "somebody else changed it meanwhile"},
	TokenInvalid:     {http.StatusUnauthorized, "the join token is not valid"},
	TokenExpired:     {http.StatusUnauthorized, "the join token has expired"},
	TokenEarly:       {http.StatusUnauthorized, "the join token is not valid yet"},
	WrongEdge:        {http.StatusMisdirectedRequest, "the join token names another edge"},
	RoomFull:         {http.StatusConflict, "the room is full"},
	ConsultEnded:     {http.StatusGone, "the consult has ended"},
	StoreUnavailable: {http.StatusServiceUnavailable, "the control plane cannot be reached"},
	NotEncrypted:     {http.StatusForbidden, "the consult is end-to-end encrypted"},
	Internal:         {http.StatusInternalServerError, "something went wrong on our side"},

	MethodNotAllowed:     {http.StatusMethodNotAllowed, "this is not how to ask here"},
	NotAcceptable:        {http.StatusNotAcceptable, "no answer is of a type that the request accepts"},
	UnsupportedType:      {http.StatusUnsupportedMediaType, "the body is of another type than is taken here"},
	UnusableSDP:          {http.StatusUnprocessableEntity, "the session description cannot be used"},
	SeatTaken:            {http.StatusConflict, "the seat is taken"},
	NotLive:              {http.StatusConflict, "there is nothing to play yet"},
	PreconditionFailed:   {http.StatusPreconditionFailed, "it has changed meanwhile"},
	PreconditionRequired: {http.StatusPreconditionRequired, "say what the change is of"},

	residency.PolicyMissing:     unlawful,
	residency.HomeOnly:          unlawful,
	residency.OutsideBlock:      unlawful,
	residency.NotAdequate:       unlawful,
	residency.ConditionUnmet:    unlawful,
	residency.FactMissing:       unlawful,
	residency.BAAMissing:        unlawful,
	residency.InstrumentMissing: unlawful,
	residency.DeniedCountry:     unlawful,
	residency.ProductDefault:    unlawful,
	residency.StoredNowhere:     unlawful,
	residency.NoCommonPlace:     unlawful,
	residency.NoRegion:          unlawful,
	residency.SubdivisionNeeded: {http.StatusUnprocessableEntity, "a participant's subdivision must be named"},
	residency.RefusedByOperator: {http.StatusUnprocessableEntity, "this deployment takes on no patient from there"},
	residency.NotServed:         {http.StatusUnprocessableEntity, "this deployment takes on no patient from there"},
	residency.RegionDraining:    notNow,
	residency.RegionDown:        notNow,
	residency.RegionUnhealthy:   notNow,
	residency.RegionFull:        notNow,
}

// New makes the document of a code. One that is not in the table is our own fault, and
// is answered as such.
func New(code Code, detail string) *Document {
	e, ok := table[code]
	if !ok {
		e = table[Internal]
	}
	return &Document{Type: "about:blank", Title: e.title, Status: e.status, Code: string(code), Detail: detail, ID: newID()}
}

// Refusal makes the document of a decision without a candidate: the rule and its
// citation.
func Refusal(d *steer.Decision) *Document {
	detail, citation := steer.Refusal(d)
	p := New(d.Code(), detail)
	p.Citation = citation
	for _, v := range d.Refused {
		if v.Participant != "" && p.Jurisdiction == "" {
			p.Jurisdiction = string(v.Participant)
		}
	}
	if len(citation) > 0 && !operators(d.Code()) {
		p.AsOf = d.World.Law.AsOf()
	}
	return p
}

// operators tells whether the map, and no law, refused.
func operators(c residency.Code) bool {
	return c == residency.RefusedByOperator || c == residency.NotServed
}

// Unlawful makes the document of one hop's refusal.
func Unlawful(w *steer.World, v residency.Verdict) *Document {
	p := New(v.Code, steer.Word(v))
	p.Title = "this edge may not handle this consult"
	p.Jurisdiction, p.Citation, p.AsOf = string(v.Participant), v.Citation(), w.Law.AsOf()
	return p
}

// Early makes the document of a token that is not valid yet.
func Early(err error, from, clock time.Time) *Document {
	p := New(TokenEarly, err.Error())
	from, clock = from.UTC().Truncate(time.Second), clock.UTC().Truncate(time.Second)
	p.ValidFrom, p.Clock = &from, &clock
	return p
}

// Write sends the document.
func (p *Document) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="bailiwick"`)
	}
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// maxBody is the largest request body in bytes.
const MaxBody = 64 << 10

// ReadBody reads a body of at most so many bytes, of a request without parameters.
func ReadBody(w http.ResponseWriter, q *http.Request, most int64) ([]byte, *Document) {
	if bad := NoQuery(q); bad != nil {
		return nil, bad
	}
	return Body(w, q, most)
}

// Body reads a body of at most so many bytes.
func Body(w http.ResponseWriter, q *http.Request, most int64) ([]byte, *Document) {
	b, err := io.ReadAll(http.MaxBytesReader(w, q.Body, most))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, New(BodyTooLarge, fmt.Sprintf("send at most %d bytes", most))
	case err != nil:
		return nil, New(BadRequest, "body: "+err.Error())
	}
	return b, nil
}

// NoQuery refuses parameters where there are none to give: a wish that is ignored is taken
// for one that was heard.
func NoQuery(q *http.Request) *Document {
	if q.URL.RawQuery == "" {
		return nil
	}
	return New(BadRequest, fmt.Sprintf("?%.64s: this takes no parameters", q.URL.RawQuery))
}

// newID is a random name of 80 bits, in lower-case letters and digits.
func newID() string { return "e" + strings.ToLower(rand.Text()[:16]) }
