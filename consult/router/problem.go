package router

import (
	"crypto/rand"
	"encoding/json"
	"net/http"

	"bailiwick/residency"
	"bailiwick/steer"
)

// Problem is an RFC 9457 problem document. Code is stable; ID names the log line.
type Problem struct {
	Type         string   `json:"type"`
	Title        string   `json:"title"`
	Status       int      `json:"status"`
	Code         string   `json:"code"`
	Detail       string   `json:"detail,omitempty"`
	Jurisdiction string   `json:"jurisdiction,omitempty"`
	Citation     []string `json:"citation,omitempty"`
	AsOf         string   `json:"as_of,omitempty"`
	ID           string   `json:"id"`
}

// titles holds the status and title of every code that is not the law's.
var titles = map[string]struct {
	status int
	title  string
}{
	"bad_request":       {http.StatusBadRequest, "the request is not well-formed"},
	"body_too_large":    {http.StatusRequestEntityTooLarge, "the body is larger than 64 KiB"},
	"unauthorized":      {http.StatusUnauthorized, "a valid API key is required"},
	"not_found":         {http.StatusNotFound, "no such thing"},
	"conflict":          {http.StatusConflict, "somebody else changed it meanwhile"},
	"token_invalid":     {http.StatusUnauthorized, "the join token is not valid"},
	"token_expired":     {http.StatusUnauthorized, "the join token has expired"},
	"wrong_edge":        {http.StatusMisdirectedRequest, "the join token names another edge"},
	"room_full":         {http.StatusConflict, "the room is full"},
	"consult_ended":     {http.StatusGone, "the consult has ended"},
	"store_unavailable": {http.StatusServiceUnavailable, "the control plane cannot be reached"},
	"internal":          {http.StatusInternalServerError, "something went wrong on our side"},
}

// NewProblem makes the document of a code that is not the law's.
func NewProblem(code, detail string) *Problem {
	t := titles[code]
	return &Problem{Type: "about:blank", Title: t.title, Status: t.status, Code: code, Detail: detail, ID: newID("e")}
}

// Refusal makes the document of a decision without a candidate: the rule and its
// citation. Law and load are told apart by status: 422 will not pass on a retry,
// 503 may.
func Refusal(d *steer.Decision) *Problem {
	detail, citation := steer.Refusal(d)
	p := &Problem{Type: "about:blank", Title: "no lawful region may take this consult", Status: http.StatusUnprocessableEntity,
		Code: string(d.Code()), Detail: detail, Citation: citation, ID: newID("e")}
	switch d.Code() {
	case residency.RegionDown, residency.RegionDraining, residency.RegionUnhealthy, residency.RegionFull:
		p.Title, p.Status = "no lawful region can take this consult now", http.StatusServiceUnavailable
	}
	for _, v := range d.Refused {
		if v.Participant != "" && p.Jurisdiction == "" {
			p.Jurisdiction = string(v.Participant)
		}
	}
	if len(citation) > 0 {
		p.AsOf = d.World.Law.AsOf()
	}
	return p
}

// Unlawful makes the document of one hop's refusal.
func Unlawful(w *steer.World, v residency.Verdict) *Problem {
	return &Problem{Type: "about:blank", Title: "this edge may not handle this consult", Status: http.StatusUnprocessableEntity,
		Code: string(v.Code), Detail: steer.Word(v), Jurisdiction: string(v.Participant), Citation: v.Citation(),
		AsOf: w.Law.AsOf(), ID: newID("e")}
}

// Write sends the document.
func (p *Problem) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="bailiwick"`)
	}
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// newID is a random name of 80 bits, in lower-case letters and digits.
func newID(prefix string) string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	var b [16]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = letters[b[i]&31]
	}
	return prefix + string(b[:])
}
