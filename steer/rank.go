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
	// Patients are the indices of all patients of a consult that is not there yet: the map's
	// refused: and served: gate them. Nobody gates a consult that runs.
	Patients []int
	// Hint is a client of whom an address tells a country at best, as DNS has them: the
	// country's row judges, refused: gates, served: does not.
	Hint    bool
	E2EE    bool
	Tenant  *residency.Tenant // nil: the map's default
	Tags    []string
	Without []region.EdgeID // edges that do not count, as if they were not there
	// Priority is the consult's; that of who is none is Routine.
	Priority Priority
	// Runs is a consult that runs, or has run, and goes on elsewhere: it must be somewhere,
	// and asks for no seat.
	Runs bool
	Key  uint64 // breaks the last ties: a stable hash of the consult or prefix
}

// Candidate is one edge that may serve the client, as indices into the World.
type Candidate struct {
	Region, Edge int
	Km           float64 // from the patient; 0 where the place is not located
	By           By
	others       float64
	rank         int  // 0: home, then its neighbours, then the others alike
	busy         bool // it sheds load, and new consults of this priority are better elsewhere
	load         int  // tenths of its seats, or of its egress
	hash         uint64
}

// By is why a candidate stands where it does (READING, rule 20).
type By uint8

const (
	Home      By = iota // the nearest lawful region of the map, whatever its mode or health
	Neighbour           // one that home's neighbours: name, in their order
	Distance            // any other, nearest first
)

func (b By) String() string { return [...]string{"home", "neighbour", "distance"}[b] }

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
	// Refused holds why there is no candidate: one verdict, or for NoCommonPlace one of each
	// participant who refuses some region. Empty when there is a candidate.
	Refused []residency.Verdict
	Plane   string      // on which they have no place in common: media, relay, stored or edge
	lawful  []Candidate // scratch: the lawful regions, by their indices
	home    Candidate   // of lawful, before modes are asked
	tied    bool        // only the key made home home
	subject residency.Subject
}

// Tied tells whether the client's key made a difference to which region and edge are best.
func (d *Decision) Tied() bool {
	if len(d.Candidates) < 2 {
		return false
	}
	a, b := &d.Candidates[0], &d.Candidates[1]
	return d.tied || a.busy == b.busy && a.rank == b.rank && a.Km == b.Km
}

// Code is why the client was refused, OK when it was not.
func (d *Decision) Code() residency.Code {
	switch {
	case len(d.Candidates) > 0:
		return residency.OK
	case d.Plane != "":
		return residency.NoCommonPlace
	case len(d.Refused) == 1:
		return d.Refused[0].Code
	}
	return residency.NoRegion
}

// Best is the chosen region and edge; both nil when the client is refused.
func (d *Decision) Best() (*Region, *Edge) { return d.at(0) }

// Busy tells whether the chosen edge is one that the client would be better off without: all that
// may take it shed load.
func (d *Decision) Busy() bool { return len(d.Candidates) > 0 && d.Candidates[0].busy }

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
// it allocates nothing. It is deterministic, and a region that the law rejects, or that is no
// home, never changes the order of the others.
func Rank(w *World, c *Client, d *Decision) {
	*d = Decision{World: w, Client: c, Candidates: d.Candidates[:0], Rejections: d.Rejections[:0],
		Refused: d.Refused[:0], lawful: d.lawful[:0], subject: subject(w, c)}
	s := &d.subject // in the decision, so that verdicts may point into it without an allocation

	gated := gates(w, c, s)
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
		if gated.Permitted() {
			gated = stored(w, s)
		}
		if !gated.Permitted() {
			for _, l := range d.lawful {
				d.reject(l.Region, l.Km, gated)
			}
			d.lawful = d.lawful[:0]
		}
	}
	d.order()
	d.byMode()
	d.Panic = d.allDown()
	d.byEdge()

	slices.SortFunc(d.Candidates, compareCandidates)
	slices.SortFunc(d.Rejections, compareRejections)
	if len(d.Candidates) == 0 {
		d.refuse(s)
	}
}

// gates are what refuses a consult wherever it might be: the first verdict in request order.
func gates(w *World, c *Client, s *residency.Subject) residency.Verdict {
	for i := range s.Participants {
		if v := gate(w, c, s, i); !v.Permitted() {
			return v
		}
	}
	return residency.Verdict{}
}

// gate is what refuses one participant wherever the consult might be.
func gate(w *World, c *Client, s *residency.Subject, i int) residency.Verdict {
	who := s.Participants[i]
	v := w.Law.Declares(s, who)
	if c.Hint && v.Code == residency.SubdivisionNeeded {
		v = residency.Verdict{}
	}
	entering := slices.Contains(c.Patients, i)
	if !v.Permitted() || !entering && !c.Hint {
		return v
	}
	for _, j := range [...]residency.Jurisdiction{who, who.Country(), w.Law.LawOf(who)} {
		if why, is := w.Map.Refused[j]; is {
			return residency.Verdict{Code: residency.RefusedByOperator, Participant: who, Fact: residency.Fact(why)}
		}
	}
	if !entering || len(w.Map.Served) == 0 {
		return v
	}
	for _, j := range w.Map.Served {
		if w.Law.Reaches(j, who) {
			return v
		}
	}
	return residency.Verdict{Code: residency.NotServed, Participant: who}
}

// order ranks the lawful regions: home, its neighbours as the map writes them, the others.
func (d *Decision) order() {
	if len(d.lawful) == 0 {
		return
	}
	d.home = d.lawful[0]
	for _, l := range d.lawful[1:] {
		if compareDistance(l, d.home) < 0 {
			d.home = l
		}
	}
	near := d.World.Regions[d.home.Region].Neighbours
	for i := range d.lawful {
		l := &d.lawful[i]
		k := slices.Index(near, d.World.Regions[l.Region].ID)
		switch {
		case l.Region == d.home.Region:
			l.By, l.rank = Home, 0
		case k >= 0:
			l.By, l.rank = Neighbour, 1+k
		default:
			l.By, l.rank = Distance, 1+len(near)
		}
		d.tied = d.tied || l.Region != d.home.Region && l.Km == d.home.Km && l.others == d.home.others
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
	if v := gates(w, c, &s); !v.Permitted() {
		return v
	}
	if v := placement(w, r, &s); !v.Permitted() {
		return v
	}
	return stored(w, &s)
}

// stored permits when evidence of the consult may be written in some region of the map,
// whatever its mode or health. Else it names the first participant who alone has none, or,
// where each alone has one, what they have not in common.
func stored(w *World, s *residency.Subject) residency.Verdict {
	v := storing(w, s)
	if v.Permitted() {
		return v
	}
	all := s.Participants
	defer func() { s.Participants = all }()
	for i := range all {
		s.Participants = all[i : i+1]
		if alone := storing(w, s); !alone.Permitted() {
			alone.Code = residency.StoredNowhere
			return alone
		}
	}
	v.Code, v.Fact = residency.NoCommonPlace, residency.Fact(residency.Stored.String())
	return v
}

// storing permits when some region may store for the subject, else it is the first region's
// verdict.
func storing(w *World, s *residency.Subject) (first residency.Verdict) {
	for i := range w.Regions {
		v := w.Law.Permits(residency.Stored, &w.Regions[i].Hop, s, w.At)
		if v.Permitted() {
			return v
		}
		if i == 0 {
			first = v
		}
	}
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
			if e.shut(d.Client) {
				code = residency.RegionFull
				continue
			}
			d.Candidates = append(d.Candidates, Candidate{Region: l.Region, Edge: k, Km: l.Km, By: l.By, others: l.others,
				rank: l.rank, hash: l.hash, busy: e.busy(d.Client), load: e.tenth()})
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
	if a.busy != b.busy {
		return b.busy
	}
	if a.load != b.load {
		return a.load < b.load
	}
	edges := d.World.Regions[a.Region].Edges
	ha, hb := mix(d.Client.Key, string(edges[a.Edge].ID)), mix(d.Client.Key, string(edges[b.Edge].ID))
	return ha < hb || ha == hb && a.Edge < b.Edge
}

// compareDistance orders regions by what the client makes of them (READING, rule 16).
func compareDistance(a, b Candidate) int {
	return cmp.Or(cmp.Compare(a.Km, b.Km), cmp.Compare(a.others, b.others), cmp.Compare(a.hash, b.hash), cmp.Compare(a.Region, b.Region))
}

// compareCandidates has load before distance: where an edge must shed, whoever is new and of the
// least priority goes to a neighbour that need not.
func compareCandidates(a, b Candidate) int {
	return cmp.Or(compareBool(a.busy, b.busy), cmp.Compare(a.rank, b.rank), compareDistance(a, b), cmp.Compare(a.load, b.load))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
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
	for i := range w.Regions {
		if Stores(w, &w.Regions[i], c) {
			return w.Regions[i].ID
		}
	}
	return ""
}

// Stores tells whether what is of the client's consult may be written down in a region.
func Stores(w *World, r *Region, c *Client) bool {
	s := subject(w, c)
	return w.Law.Permits(residency.Stored, &r.Hop, &s, w.At).Permitted()
}
