package router

import (
	"net/http"
	"net/netip"
	"slices"

	"bailiwick/access"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

// Locator places an address as DNS does.
type Locator func(netip.Addr) Located

// Located is where an address is; the zero place is unknown.
type Located struct {
	Place    region.Place
	Prefix   netip.Prefix // all of it has that place
	Override netip.Prefix // of the map, by which it was placed; invalid: by none
	Database any          // what the geo database itself says of it, as JSON has it; nil: there is none
}

// Explanation is a decision in words with the question it answers.
type Explanation struct {
	// For a question by address.
	Prefix   string `json:"prefix,omitempty"`
	Override string `json:"override,omitempty"`
	Database any    `json:"database,omitempty"`
	steer.Explanation
}

// explain answers GET /v1/explain?ip= or ?country=, with &overlay= and &e2ee=1.
func (r *Router) explain(w http.ResponseWriter, q *http.Request, _ access.Principal) {
	x, bad := Explain(r.World(), r.Locate, q.FormValue("ip"), q.FormValue("country"), q.Form["overlay"], q.FormValue("e2ee") == "1")
	if bad != nil {
		bad.Write(w)
		return
	}
	writeJSON(w, http.StatusOK, x)
}

// Explain ranks for an address or a country as DNS and the router do and words
// the decision; exactly one of ip and country must be set.
func Explain(w *steer.World, locate Locator, ip, country string, overlays []string, e2ee bool) (*Explanation, *problem.Document) {
	c := &steer.Client{E2EE: e2ee}
	x := &Explanation{}
	switch {
	case (ip == "") == (country == ""):
		return nil, problem.New("bad_request", "give one of ip and country")
	case country != "":
		j, err := residency.ParseJurisdiction(country)
		if err != nil {
			return nil, problem.New("bad_request", err.Error())
		}
		at, ok := region.Locate(j)
		c.Participants = []residency.Jurisdiction{j}
		c.Places = []region.Place{{Jurisdiction: j, Point: at, Located: ok}}
		c.Key = steer.Key(string(j))
	default:
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			return nil, problem.New("bad_request", "ip: "+err.Error())
		}
		if locate == nil {
			return nil, problem.New("bad_request", "this node has no geo database: ask by country, or start it with --geo")
		}
		at := locate(addr)
		x.Prefix, x.Database = at.Prefix.String(), at.Database
		if at.Override.IsValid() {
			x.Override = at.Override.String()
		}
		c.Participants = []residency.Jurisdiction{at.Place.Jurisdiction}
		c.Places = []region.Place{at.Place}
		c.Key = steer.PrefixKey(at.Prefix)
	}
	if len(overlays) > 0 {
		for _, o := range overlays {
			if !slices.Contains(w.Law.Overlays(), o) {
				return nil, problem.New("bad_request", "overlay "+o+" is not in the law catalogue")
			}
		}
		t := residency.Tenant{}
		if d := w.Map.Tenants["default"]; d != nil {
			t = *d
		}
		t.Overlays = append(slices.Clone(t.Overlays), overlays...)
		c.Tenant = &t
	}
	var d steer.Decision
	steer.Rank(w, c, &d)
	x.Explanation = steer.Explain(&d)
	return x, nil
}
