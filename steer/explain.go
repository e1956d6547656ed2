package steer

import (
	"slices"

	"bailiwick/residency"
)

// Explanation is a decision in words, made when somebody reads it: `bailiwick
// why`, GET /v1/explain, the _why TXT record and problem documents print the same.
type Explanation struct {
	Jurisdictions []string     `json:"jurisdictions"`
	Generation    uint64       `json:"generation"`
	Choice        *Choice      `json:"choice,omitempty"`
	Standby       *Choice      `json:"standby,omitempty"`
	Hint          string       `json:"hint,omitempty"`  // why a consult may be answered otherwise
	Panic         bool         `json:"panic,omitempty"` // health was ignored: every permitted edge looks down
	Refused       string       `json:"refused,omitempty"`
	Plane         string       `json:"plane,omitempty"`    // of no_common_place: media, relay, stored or edge
	Detail        string       `json:"detail,omitempty"`   // the refusal in words
	Citation      []string     `json:"citation,omitempty"` // of the refusal
	Regions       []RegionWord `json:"regions"`            // candidates best first, then rejections nearest first
}

// Choice is one chosen edge.
type Choice struct {
	Region string  `json:"region"`
	Edge   string  `json:"edge"`
	Km     float64 `json:"km"`
	By     string  `json:"by"`
}

// RegionWord is what the decision says of one region; Code is empty for a candidate.
type RegionWord struct {
	Region   string   `json:"region"`
	Km       float64  `json:"km"`
	By       string   `json:"by,omitempty"` // of a candidate: home, neighbour or distance
	Code     string   `json:"code,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Citation []string `json:"citation,omitempty"`
}

// Explain words a decision. It allocates; no hot path calls it.
func Explain(d *Decision) Explanation {
	x := Explanation{Generation: d.World.Generation, Panic: d.Panic, Refused: string(d.Code()), Plane: d.Plane}
	for _, j := range d.Client.Participants {
		x.Jurisdictions = append(x.Jurisdictions, string(j))
		if d.Client.Hint && d.World.Law.Subdivided(j) {
			x.Hint = string(j) + " is judged by the country's row: its law differs by subdivision, and is judged again at the join"
		}
	}
	choice := func(r *Region, e *Edge) *Choice {
		for _, c := range d.Candidates {
			if e != nil && d.World.Regions[c.Region].ID == r.ID {
				return &Choice{string(r.ID), string(e.ID), c.Km, c.By.String()}
			}
		}
		return nil
	}
	x.Choice, x.Standby = choice(d.Best()), choice(d.Standby())
	for i, c := range d.Candidates {
		if !slices.ContainsFunc(d.Candidates[:i], func(b Candidate) bool { return b.Region == c.Region }) {
			x.Regions = append(x.Regions, RegionWord{Region: string(d.World.Regions[c.Region].ID), Km: c.Km, By: c.By.String()})
		}
	}
	for _, r := range d.Rejections {
		x.Regions = append(x.Regions, RegionWord{Region: string(d.World.Regions[r.Region].ID), Km: r.Km,
			Code: string(r.Verdict.Code), Reason: Word(r.Verdict), Citation: r.Verdict.Citation()})
	}
	if x.Refused != "" {
		x.Detail, x.Citation = Refusal(d)
	}
	return x
}

// Refusal is why the client has no candidate, in one sentence and its citations.
func Refusal(d *Decision) (detail string, citation []string) {
	if d.Plane != "" {
		detail = together(d.Plane)
	}
	for _, v := range d.Refused {
		switch {
		case detail == "":
			detail = Word(v)
		case !v.Permitted():
			detail += "; " + Word(v)
		}
		citation = append(citation, v.Citation()...)
	}
	if detail == "" {
		detail = Word(residency.Verdict{Code: residency.NoRegion})
	}
	return detail, citation
}

// together words a no_common_place.
func together(plane string) string {
	if plane == edge {
		return "each participant alone has a lawful place, and all have one together for each plane, but no region has both (plane edge)"
	}
	return "each participant alone has a lawful place, together they have none (plane " + plane + ")"
}

// Word is one verdict in words, the operator's and the health's codes included.
func Word(v residency.Verdict) string {
	switch v.Code {
	case residency.RegionDown:
		return "the operator has taken the region down"
	case residency.RegionDraining:
		return "the region is draining and takes no new consult"
	case residency.RegionUnhealthy:
		return "no edge of the region is registered and healthy"
	case residency.RegionFull:
		return "every healthy edge of the region is at its limit"
	case residency.NoCommonPlace:
		return together(string(v.Fact))
	case residency.NoRegion:
		return "the map has no region"
	}
	return v.Reason()
}
