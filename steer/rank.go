package steer

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"bailiwick/region"
	"bailiwick/residency"
)

// Client is who asks. The zero Client has no participant and is refused.
type Client struct {
	// Participants in request order; the law judges every one. A DNS client is
	// one participant: the place of its address.
	Participants []residency.Jurisdiction
	// Places is parallel to Participants, for distance only. The patient's
	// distance ranks, the others' sum breaks ties.
	Places  []region.Place
	Patient int // index of the patient
	E2EE    bool
	Tenant  *residency.Tenant // nil: the map's default
	Tags    []string
	Without []region.EdgeID // edges that do not count, as if they were not there
	Key     uint64          // breaks the last ties: a stable hash of the consult or prefix
}

// Candidate is one edge that may serve the client, as indices into the World.
type Candidate struct {
	Region, Edge int
	Km           float64 // from the patient; 0 where the place is not located
	others       float64
	load         int // tenths of its seats
	hash         uint64
}

// Rejection is one region that may not, or should not, serve the client.
type Rejection struct {
	Region  int
	Km      float64
	Verdict residency.Verdict // for RegionDown and its like only Code is set
}

// Decision is the outcome. Its slices are reused by the next Rank into it.
type Decision struct {
	World      *World
	Client     *Client
	Candidates []Candidate // best first: the best region's edges, then the next region's
	Rejections []Rejection // nearest first
	Panic      bool        // every permitted edge looked down, so health was ignored
	// Refused holds why there is no candidate: one verdict, or for NoCommonPlace
	// one for each participant. Empty when there is a candidate.
	Refused []residency.Verdict
	lawful  []Candidate // scratch: Region, Km, others, hash of the lawful regions
	subject residency.Subject
}

// Code is why the client was refused, OK when it was not.
func (d *Decision) Code() residency.Code {
	switch {
	case len(d.Candidates) > 0:
		return residency.OK
	case len(d.Refused) > 1:
		return residency.NoCommonPlace
	case len(d.Refused) == 1:
		return d.Refused[0].Code
	}
	return residency.NoRegion
}

// Best is the chosen region and edge; both nil when the client is refused.
func (d *Decision) Best() (*Region, *Edge) { return d.at(0) }

// Standby is the best candidate of another region, or else another edge of the
// same one; both nil when there is none.
func (d *Decision) Standby() (*Region, *Edge) {
	for i := 1; i < len(d.Candidates); i++ {
		if d.Candidates[i].Region != d.Candidates[0].Region {
			return d.at(i)
		}
	}
	return d.at(1)
}

func (d *Decision) at(i int) (*Region, *Edge) {
	if i >= len(d.Candidates) {
		return nil, nil
	}
	c := d.Candidates[i]
	r := &d.World.Regions[c.Region]
	return r, &r.Edges[c.Edge]
}

// Rank decides into d, which it resets first; with a d that has grown to its size
// it allocates nothing. It is deterministic, and a rejected region never changes
// the order of the others.
func Rank(w *World, c *Client, d *Decision) {
	*d = Decision{World: w, Client: c, Candidates: d.Candidates[:0], Rejections: d.Rejections[:0],
		Refused: d.Refused[:0], lawful: d.lawful[:0], subject: subject(w, c)}
	s := &d.subject // in the decision, so that verdicts may point into it without an allocation

	for i := range w.Regions {
		r := &w.Regions[i]
		km, others := distances(c, r)
		if v := placement(w, r, s); !v.Permitted() {
			d.reject(i, km, v)
			continue
		}
		d.lawful = append(d.lawful, Candidate{Region: i, Km: km, others: others, hash: mix(c.Key, string(r.ID))})
	}
	if len(d.lawful) > 0 {
		if v := storedNowhere(w, s); !v.Permitted() {
			for _, l := range d.lawful {
				d.reject(l.Region, l.Km, v)
			}
			d.lawful = d.lawful[:0]
		}
	}
	d.byMode()
	d.Panic = d.allDown()
	d.byEdge()

	slices.SortFunc(d.Candidates, compareCandidates)
	slices.SortFunc(d.Rejections, compareRejections)
	if len(d.Candidates) == 0 {
		d.refuse(s)
	}
}

func subject(w *World, c *Client) residency.Subject {
	t := c.Tenant
	if t == nil {
		t = w.Map.Tenants["default"]
	}
	return residency.Subject{Participants: c.Participants, E2EE: c.E2EE, Tenant: t, Tags: c.Tags,
		Operator: w.Map.Operator.Facts, Instruments: w.Map.Operator.Instruments}
}

// placement judges an edge, which is SFU and TURN at once: it must pass both planes.
func placement(w *World, r *Region, s *residency.Subject) residency.Verdict {
	if len(s.Participants) == 0 {
		return residency.Verdict{Code: residency.PolicyMissing}
	}
	if v := w.Law.Permits(residency.Media, &r.Hop, s, w.At); !v.Permitted() {
		return v
	}
	return w.Law.Permits(residency.Relay, &r.Hop, s, w.At)
}

// Permits judges one region for a client, as Rank does: edges ask it again at
// each join, from the token.
func Permits(w *World, r *Region, c *Client) residency.Verdict {
	s := subject(w, c)
	if v := placement(w, r, &s); !v.Permitted() {
		return v
	}
	return storedNowhere(w, &s)
}

// storedNowhere permits when evidence of the consult may be written in some
// region of the map, whatever its mode or health.
func storedNowhere(w *World, s *residency.Subject) residency.Verdict {
	var first residency.Verdict
	for i := range w.Regions {
		v := w.Law.Permits(residency.Stored, &w.Regions[i].Hop, s, w.At)
		if v.Permitted() {
			return v
		}
		if i == 0 {
			first = v
		}
	}
	first.Code = residency.StoredNowhere
	return first
}

func (d *Decision) reject(i int, km float64, v residency.Verdict) {
	d.Rejections = append(d.Rejections, Rejection{Region: i, Km: km, Verdict: v})
}

// byMode drops the lawful regions that the operator has taken out.
func (d *Decision) byMode() {
	kept := d.lawful[:0]
	for _, l := range d.lawful {
		switch d.World.Regions[l.Region].Mode {
		case Down:
			d.reject(l.Region, l.Km, residency.Verdict{Code: residency.RegionDown})
		case Draining:
			d.reject(l.Region, l.Km, residency.Verdict{Code: residency.RegionDraining})
		default:
			kept = append(kept, l)
		}
	}
	d.lawful = kept
}

// allDown is the panic rule: when every permitted edge looks down, the probes are
// likelier wrong than all the edges.
func (d *Decision) allDown() bool {
	any := false
	for _, l := range d.lawful {
		for k := range d.World.Regions[l.Region].Edges {
			e := &d.World.Regions[l.Region].Edges[k]
			if !d.counts(e) {
				continue
			}
			if any = true; e.Health != Unhealthy {
				return false
			}
		}
	}
	return any
}

// counts tells whether an edge may take anything new, were it well: nobody took it out.
func (d *Decision) counts(e *Edge) bool {
	return e.Mode == Serving && !slices.Contains(d.Client.Without, e.ID)
}

// byEdge turns the remaining regions into candidates, an edge each.
func (d *Decision) byEdge() {
	for _, l := range d.lawful {
		code := residency.RegionUnhealthy
		found := false
		for k := range d.World.Regions[l.Region].Edges {
			e := &d.World.Regions[l.Region].Edges[k]
			if !d.counts(e) || e.Health == Unhealthy && !d.Panic {
				continue
			}
			if e.full() {
				code = residency.RegionFull
				continue
			}
			d.Candidates = append(d.Candidates, Candidate{Region: l.Region, Edge: k, Km: l.Km, others: l.others,
				hash: l.hash, load: e.tenth()})
			found = true
		}
		if !found {
			d.reject(l.Region, l.Km, residency.Verdict{Code: code})
			continue
		}
		sortEdges(d, l.Region)
	}
}

// sortEdges orders the candidates just appended for one region: emptier tenth
// first, then rendezvous hashing, so that a lost edge moves only its own clients.
func sortEdges(d *Decision, reg int) {
	from := len(d.Candidates)
	for from > 0 && d.Candidates[from-1].Region == reg {
		from--
	}
	part := d.Candidates[from:]
	for i := 1; i < len(part); i++ { // insertion: a region has few edges
		for k := i; k > 0 && d.edgeLess(part[k], part[k-1]); k-- {
			part[k], part[k-1] = part[k-1], part[k]
		}
	}
	for i := range part {
		part[i].load = i // from here on: the place within the region
	}
}

func (d *Decision) edgeLess(a, b Candidate) bool {
	if a.load != b.load {
		return a.load < b.load
	}
	edges := d.World.Regions[a.Region].Edges
	ha, hb := mix(d.Client.Key, string(edges[a.Edge].ID)), mix(d.Client.Key, string(edges[b.Edge].ID))
	return ha < hb || ha == hb && a.Edge < b.Edge
}

func compareCandidates(a, b Candidate) int {
	return cmp.Or(cmp.Compare(a.Km, b.Km), cmp.Compare(a.others, b.others), cmp.Compare(a.hash, b.hash),
		cmp.Compare(a.Region, b.Region), cmp.Compare(a.load, b.load))
}

func compareRejections(a, b Rejection) int {
	return cmp.Or(cmp.Compare(a.Km, b.Km), cmp.Compare(a.Region, b.Region))
}

// distances fails open: a participant or a region that is not located is at 0 km
// from everything.
func distances(c *Client, r *Region) (patient, others float64) {
	if !r.Place.Located {
		return 0, 0
	}
	for i := range c.Places {
		if !c.Places[i].Located {
			continue
		}
		km := c.Places[i].Point.Km(r.Place.Point)
		if i == c.Patient {
			patient = km
		} else {
			others += km
		}
	}
	return patient, others
}

// mix is FNV-1a over name, seeded with key and finished as splitmix64 is:
// stable across processes, which hash/maphash is not.
func mix(key uint64, name string) uint64 {
	h := key ^ 0xcbf29ce484222325
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// Key hashes a stable name of a client into [Client.Key].
func Key(name string) uint64 { return mix(0, name) }

// PrefixKey is the [Client.Key] of a network, one of 256: whoever remembers
// decisions has that many to remember of a place, however many networks it has.
func PrefixKey(p netip.Prefix) uint64 {
	a := p.Addr().As16()
	h := binary.BigEndian.Uint64(a[:8])*0x9e3779b97f4a7c15 ^ binary.BigEndian.Uint64(a[8:])*0xc2b2ae3d27d4eb4f ^ uint64(p.Bits())*0x165667b19e3779f9
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	return (h ^ h>>27) >> 56
}

// StoredIn is the first region of the map where evidence of the client's consult may be
// written; empty where there is none.
func StoredIn(w *World, c *Client) region.ID {
	s := subject(w, c)
	for i := range w.Regions {
		if w.Law.Permits(residency.Stored, &w.Regions[i].Hop, &s, w.At).Permitted() {
			return w.Regions[i].ID
		}
	}
	return ""
}
