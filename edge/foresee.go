package edge

import (
	"net/http"
	"slices"
	"strings"

	"bailiwick/access"
	"bailiwick/failover"
	"bailiwick/problem"
	"bailiwick/region"
	"bailiwick/steer"
)

// Foreseen is what a map means for the consults that run on an edge: the answer of
// POST /v1/map/check.
type Foreseen struct {
	Edge    region.EdgeID `json:"edge"`
	Region  region.ID     `json:"region"`
	Running int           `json:"running"`
	Moves   int           `json:"moves"` // to where the law permits them
	Ends    []Ending      `json:"ends"`
	Grace   string        `json:"grace"` // how long those go on, e.g. 15m0s
}

// Ending is so many consults that one rule leaves no place.
type Ending struct {
	Code     string   `json:"code"`
	Citation []string `json:"citation"`
	Consults int      `json:"consults"`
}

// Ending are all that end.
func (f *Foreseen) Ending() (n int) {
	for _, e := range f.Ends {
		n += e.Consults
	}
	return n
}

// Foresee judges what runs here now by a World that need not be in force.
func (e *Edge) Foresee(w *steer.World) Foreseen {
	f := Foreseen{Edge: e.cfg.ID, Region: e.cfg.Region, Ends: []Ending{}, Grace: w.Map.WithdrawalGrace.String()}
	for _, rm := range e.rooms.running() {
		p := rm.record.Load()
		if p == nil || p.Edge != e.cfg.ID {
			continue
		}
		f.Running++
		future, by := failover.Foresee(w, e.cfg.Region, e.cfg.ID, p)
		switch future {
		case failover.Moves:
			f.Moves++
		case failover.Ends:
			f.end(Ending{Code: string(by.Code), Citation: by.Citation(), Consults: 1})
		}
	}
	slices.SortFunc(f.Ends, func(a, b Ending) int {
		return strings.Compare(a.Code+strings.Join(a.Citation, "\n"), b.Code+strings.Join(b.Citation, "\n"))
	})
	return f
}

func (f *Foreseen) end(by Ending) {
	for i := range f.Ends {
		if f.Ends[i].Code == by.Code && slices.Equal(f.Ends[i].Citation, by.Citation) {
			f.Ends[i].Consults++
			return
		}
	}
	f.Ends = append(f.Ends, by)
}

// Warn logs what a World that is about to be in force, or has just come to be, does to what
// runs here.
func (e *Edge) Warn(when string, w *steer.World) {
	f := e.Foresee(w)
	for _, by := range f.Ends {
		e.cfg.Log.Warn("the map leaves running consults no lawful place: they end", "when", when, "region", f.Region, "consults", by.Consults, "of", f.Running,
			"grace", f.Grace, "reason", by.Code, "citation", by.Citation)
	}
	if f.Moves > 0 {
		e.cfg.Log.Warn("the map forbids running consults their region: they move", "when", when, "region", f.Region, "consults", f.Moves, "of", f.Running)
	}
}

// maxMap bounds a map that is asked about.
const maxMap = 1 << 20

// check answers what a map would do to what runs here; it changes nothing.
func (e *Edge) check(w http.ResponseWriter, q *http.Request, _ access.Principal) {
	body, bad := problem.ReadBody(w, q, maxMap)
	if bad != nil {
		bad.Write(w)
		return
	}
	m, err := region.Parse("map", body)
	if err != nil {
		problem.New(problem.BadRequest, err.Error()).Write(w)
		return
	}
	writeJSON(w, e.Foresee(e.cfg.World.Foresee(m)))
}
