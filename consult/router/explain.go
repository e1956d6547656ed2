package router

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

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

// Question is what an explanation is asked for.
type Question struct {
	IP       string // or
	Country  string // with
	Sub      string // its subdivision, where country does not carry it
	Overlays []string
	E2EE     bool
}

// ParseQuestion reads the query of GET /v1/explain: parameters are those of a Question, as they
// are spelled, each once but overlay, and nothing else.
func ParseQuestion(query string) (q Question, bad *problem.Document) {
	wrong := func(format string, args ...any) (Question, *problem.Document) {
		return Question{}, problem.New(problem.BadRequest, fmt.Sprintf(format, args...))
	}
	all, err := url.ParseQuery(query)
	if err != nil {
		return wrong("query: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		values := all[name]
		if len(values) > 1 && name != "overlay" {
			return wrong("%s: given %d times", name, len(values))
		}
		switch v := values[0]; {
		case name == "overlay":
			q.Overlays = values
		case name == "e2ee" && (v == "0" || v == "1"):
			q.E2EE = v == "1"
		case name == "e2ee":
			return wrong("e2ee: %.32q: want 0 or 1", v)
		case name == "ip":
			q.IP = v
		case name == "country":
			q.Country = v
		case name == "subdivision":
			q.Sub = v
		default:
			return wrong("%.32q: no parameter: want ip, or country and subdivision, and overlay and e2ee", name)
		}
		if values[0] == "" {
			return wrong("%s: empty", name)
		}
	}
	switch {
	case (q.IP == "") == (q.Country == ""):
		return wrong("give one of ip and country")
	case q.Sub != "" && q.Country == "":
		return wrong("subdivision: goes with country")
	case q.E2EE && q.Country == "":
		return wrong("e2ee: goes with country: DNS answers an address before it knows of a consult")
	case len(q.Overlays) > maxOverlays:
		return wrong("overlay: given %d times, limit %d", len(q.Overlays), maxOverlays)
	}
	return q, nil
}

const maxOverlays = 8

// explain answers GET /v1/explain.
func (r *Router) explain(w http.ResponseWriter, q *http.Request, _ access.Principal) {
	asked, bad := ParseQuestion(q.URL.RawQuery)
	var x *Explanation
	if bad == nil {
		x, bad = Explain(r.World(), r.Locate, asked)
	}
	if bad != nil {
		bad.Write(w)
		return
	}
	writeJSON(w, http.StatusOK, x)
}

// Explain ranks for a question and words the decision: an address as DNS knows its client, a
// country as a consult declares its patient.
func Explain(w *steer.World, locate Locator, q Question) (*Explanation, *problem.Document) {
	c := &steer.Client{E2EE: q.E2EE}
	x := &Explanation{}
	unplaced := ""
	switch {
	case q.Country != "":
		j, err := residency.Declared(q.Country, q.Sub)
		if err != nil {
			return nil, problem.New(problem.BadRequest, "country: "+err.Error())
		}
		at, ok := region.Locate(j)
		c.Participants, c.Patients = []residency.Jurisdiction{j}, []int{0}
		c.Places = []region.Place{{Jurisdiction: j, Point: at, Located: ok}}
		c.Key = steer.Key(string(j))
	default:
		addr, err := netip.ParseAddr(q.IP)
		if err != nil {
			return nil, problem.New(problem.BadRequest, fmt.Sprintf("ip: %.64q: want an address such as 192.0.2.1", q.IP))
		}
		if locate == nil {
			return nil, problem.New(problem.BadRequest, "this node has no geo database: ask by country, or start it with --geo")
		}
		at := locate(addr)
		x.Prefix, x.Database = at.Prefix.String(), at.Database
		if at.Override.IsValid() {
			x.Override = at.Override.String()
		}
		if at.Place.Jurisdiction == "" && at.Database == nil {
			unplaced = "nobody said where this address is: the geo database has no record of it, if this node has one at all (--geo; bailiwick geo import makes one), and no override of the map does"
		}
		c.Hint = true
		c.Participants = []residency.Jurisdiction{at.Place.Jurisdiction}
		c.Places = []region.Place{at.Place}
		c.Key = steer.PrefixKey(at.Prefix)
	}
	if len(q.Overlays) > 0 {
		for i, o := range q.Overlays {
			if !slices.Contains(w.Law.Overlays(), o) {
				return nil, problem.New(problem.BadRequest, fmt.Sprintf("overlay %.64q: want one of %s", o, strings.Join(w.Law.Overlays(), ", ")))
			}
			if slices.Contains(q.Overlays[:i], o) {
				return nil, problem.New(problem.BadRequest, "overlay "+o+": named twice")
			}
		}
		t := residency.Tenant{}
		if d := w.Map.Tenants["default"]; d != nil {
			t = *d
		}
		t.Overlays = append(slices.Clone(t.Overlays), q.Overlays...)
		c.Tenant = &t
	}
	var d steer.Decision
	steer.Rank(w, c, &d)
	x.Explanation = steer.Explain(&d)
	x.Hint = cmp.Or(unplaced, x.Hint)
	return x, nil
}
