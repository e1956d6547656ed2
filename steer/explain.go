package steer

import "bailiwick/residency"

// Explanation is a decision in words, made when somebody reads it: `bailiwick
// why`, GET /v1/explain, the _why TXT record and problem documents print the same.
type Explanation struct {
	Jurisdictions []string     `json:"jurisdictions"`
	Generation    uint64       `json:"generation"`
	Choice        *Choice      `json:"choice,omitempty"`
	Standby       *Choice      `json:"standby,omitempty"`
	Panic         bool         `json:"panic,omitempty"` // health was ignored: every permitted edge looks down
	Refused       string       `json:"refused,omitempty"`
	Detail        string       `json:"detail,omitempty"`   // the refusal in words
	Citation      []string     `json:"citation,omitempty"` // of the refusal
	Regions       []RegionWord `json:"regions"`            // candidates best first, then rejections nearest first
}

// Choice is one chosen edge.
type Choice struct {
	Region string  `json:"region"`
	Edge   string  `json:"edge"`
	Km     float64 `json:"km"`
}

// RegionWord is what the decision says of one region; Code is empty for a candidate.
type RegionWord struct {
	Region   string   `json:"region"`
	Km       float64  `json:"km"`
	Code     string   `json:"code,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Citation []string `json:"citation,omitempty"`
}

// Explain words a decision. It allocates; no hot path calls it.
func Explain(d *Decision) Explanation {
	x := Explanation{Generation: d.World.Generation, Panic: d.Panic, Refused: string(d.Code())}
	for _, j := range d.Client.Participants {
		x.Jurisdictions = append(x.Jurisdictions, string(j))
	}
	if r, e := d.Best(); e != nil {
		x.Choice = &Choice{string(r.ID), string(e.ID), d.Candidates[0].Km}
	}
	if r, e := d.Standby(); e != nil {
		km := d.Candidates[0].Km
		for _, c := range d.Candidates {
			if d.World.Regions[c.Region].ID == r.ID {
				km = c.Km
			}
		}
		x.Standby = &Choice{string(r.ID), string(e.ID), km}
	}
	for i, c := range d.Candidates {
		if i == 0 || d.Candidates[i-1].Region != c.Region {
			x.Regions = append(x.Regions, RegionWord{Region: string(d.World.Regions[c.Region].ID), Km: c.Km})
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
	if len(d.Refused) > 1 {
		detail = "each participant alone has a lawful place, together they have none"
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
		return "every healthy edge of the region is at its admission limit"
	case residency.NoRegion:
		return "the map has no region"
	}
	return v.Reason()
}
