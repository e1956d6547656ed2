// Package region is the map of a deployment: regions, their edges, providers,
// tenants and the papers asserted for them, as one regions.yaml says it.
//
// It is not the law (package residency), not the state of the world (package
// steer) and reads no file: [Parse] takes bytes and a name for messages.
// A *Map is immutable after Parse.
package region

import (
	"iter"
	"math"
	"net/netip"
	"time"

	"bailiwick/residency"
)

// ID names a region: "de-fra". IDs are permanent; DNS, tokens and store keys use them.
type ID string

// EdgeID names one media edge: "de-fra-1", always its region's ID and a suffix.
type EdgeID string

// ProviderID names whoever runs the hardware: an entry under providers.
type ProviderID string

// Map is one validated regions.yaml.
type Map struct {
	Zone      string                            // apex, lower case, no trailing dot: "media.example"
	Regions   []Region                          // ordered by ID
	Providers map[ProviderID]*Provider          //
	Operator  Operator                          //
	Tenants   map[string]*residency.Tenant      // "default" always exists
	Served    []residency.Jurisdiction          // whose patients this deployment takes on, ordered; empty: of every law on file
	Refused   map[residency.Jurisdiction]string // explicit refusals, with the operator's reason
	Geo       []Override                        // CIDR → place, before any database
	Flags     map[string]bool                   // law flags asserted here: dpf_valid
	// WithdrawalGrace is how long a running consult goes on that no lawful place is left for.
	WithdrawalGrace time.Duration
	Digest          string             // of its bytes, SHA-256 in 16 hex digits; empty in a map made by hand
	Consul          []Datacenter       // as the file orders them; empty: one store, not described
	Webhooks        map[string]Webhook // where the events of a tenant's consults go, by tenant

	file  string         // its name in messages
	lines map[string]int // "regions/de-fra" → line, for Lint; nil in a map made by hand
}

// Region is one place where media may be handled.
type Region struct {
	ID         ID
	Place      Place  // where the machines stand
	City       string // for people: "Frankfurt am Main"
	Provider   ProviderID
	Neighbours []ID // preferred lawful neighbours for failover, nearest first
	Capacity   Capacity
	Edges      []Edge // static edges; others register in the store
	// SingleRegionAccepted records that the operator accepts one region for a
	// home-only country.
	SingleRegionAccepted bool
}

// Webhook is where the events of a tenant's consults go.
type Webhook struct {
	URL        string // https, or http to this machine
	SecretFile string // on each edge: what events are signed with
	Line       int    // of the map
}

// Edge is one static media edge.
type Edge struct {
	ID    EdgeID
	Addrs []netip.Addr // public addresses, at most one of each family
}

// Place is a jurisdiction and a point in it.
type Place struct {
	Jurisdiction residency.Jurisdiction // the subdivision where one is stated, else the country
	Point        Point
	// Located is false when only the jurisdiction is known: distance then fails
	// open (nothing is nearer than anything else).
	Located bool
}

// Capacity is what one edge of a region may carry.
type Capacity struct {
	EgressMbps int     // of its NIC
	Headroom   float64 // share kept free, 0..1
	Admission  int     // consults that it admits
}

// Budget is what an edge may send, in bit/s on the wire.
func (c *Capacity) Budget() int { return int(float64(c.EgressMbps) * 1e6 * (1 - c.Headroom)) }

// Provider is one hosting party with its papers. Its BAA, when signed, is
// record "baa" among Facts for the regions in scope.
type Provider struct {
	ID    ProviderID
	Name  string
	Facts residency.Facts
	BAA   *BAA
}

// BAA is a business associate agreement, 45 CFR 164.314(a).
type BAA struct {
	residency.Record
	Regions []ID // in scope; empty: every region of the provider
}

// Operator is who runs the deployment and what it asserts for itself.
type Operator struct {
	Name        string
	Facts       residency.Facts
	Instruments []residency.Instrument
}

// Override places a network before any geo database is asked.
type Override struct {
	Prefix netip.Prefix
	Place  Place
}

// Hop is the region as the law sees it: its place and its provider's papers,
// the BAA among them where its scope covers the region.
func (m *Map) Hop(r *Region) residency.Hop { return m.hop(r.Place.Jurisdiction, r.Provider, r.ID) }

// hop is a place of the provider's; in is empty for one that is in no region, which only
// an agreement on everything covers.
func (m *Map) hop(at residency.Jurisdiction, provider ProviderID, in ID) residency.Hop {
	p := m.Providers[provider]
	h := residency.Hop{At: at}
	if p == nil {
		return h
	}
	h.Provider = p.Facts
	if p.BAA == nil || !p.BAA.covers(in) {
		return h
	}
	h.Provider = make(residency.Facts, len(p.Facts)+1)
	for f, rec := range p.Facts {
		h.Provider[f] = rec
	}
	h.Provider["baa"] = p.BAA.Record
	return h
}

func (b *BAA) covers(id ID) bool {
	for _, r := range b.Regions {
		if r == id {
			return true
		}
	}
	return len(b.Regions) == 0
}

// Tenant is the tenant of that name: without a name the default, and one that the map does
// not have is nobody whom any law permits anything.
func (m *Map) Tenant(name string) *residency.Tenant {
	if name == "" {
		name = "default"
	}
	t, ok := m.Tenants[name]
	if !ok && name != "default" { // a map made by hand may lack that
		return residency.Unknown(name)
	}
	return t
}

// Region returns the region of that ID, or nil.
func (m *Map) Region(id ID) *Region {
	for i := range m.Regions {
		if m.Regions[i].ID == id {
			return &m.Regions[i]
		}
	}
	return nil
}

// Point is WGS 84, in degrees.
type Point struct{ Lat, Lon float64 }

// earthKm is the mean radius (IUGG R1).
const earthKm = 6371.0088

// Km is the great-circle distance in kilometres (haversine).
func (p Point) Km(q Point) float64 {
	const rad = math.Pi / 180
	dLat, dLon := (q.Lat-p.Lat)*rad, (q.Lon-p.Lon)*rad
	a := math.Sin(dLat/2)*math.Sin(dLat/2) +
		math.Cos(p.Lat*rad)*math.Cos(q.Lat*rad)*math.Sin(dLon/2)*math.Sin(dLon/2)
	return 2 * earthKm * math.Asin(math.Min(1, math.Sqrt(a)))
}

// Deadlines lists every instant at which a paper of the map begins or ceases to
// hold, unordered: verdicts may change then, and only then.
func (m *Map) Deadlines() iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		record := func(r residency.Record) bool { return yield(r.Date) && yield(r.Expires) }
		facts := func(f residency.Facts) bool {
			for _, r := range f {
				if !record(r) {
					return false
				}
			}
			return true
		}
		if !facts(m.Operator.Facts) {
			return
		}
		for _, in := range m.Operator.Instruments {
			if !yield(in.Assessed) || !yield(in.Expires) {
				return
			}
		}
		for _, p := range m.Providers {
			if !facts(p.Facts) || p.BAA != nil && !record(p.BAA.Record) {
				return
			}
		}
		for _, t := range m.Tenants {
			if !facts(t.Facts) {
				return
			}
			for _, records := range [...]map[residency.Jurisdiction]residency.Record{t.ProductDefaultOff, t.NotPublicBody, t.DenyExceptions} {
				for _, r := range records {
					if !record(r) {
						return
					}
				}
			}
		}
	}
}
