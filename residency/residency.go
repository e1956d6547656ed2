// Package residency is the law: which hop of a consult may run where.
//
// It is not legal advice and it is not the map. It knows jurisdictions, planes,
// facts and rules; it does not know regions, edges, health or load. It opens no
// file and reads no clock: the catalogue is embedded, time is an argument.
//
// Invariants: a verdict is the intersection over every participant and every
// overlay that applies; anything unknown, unasserted or expired denies.
// [Law.Permits] allocates nothing and a *Law is safe for concurrent use.
package residency

import "time"

// Jurisdiction is an ISO 3166-1 alpha-2 country ("DE") or an ISO 3166-2
// subdivision of one ("CA-QC", "US-TX"), in upper case.
type Jurisdiction string

// Country is the country part: CA for CA-QC, DE for DE.
func (j Jurisdiction) Country() Jurisdiction {
	if len(j) > 2 {
		return j[:2]
	}
	return j
}

// IsSubdivision tells CA-QC from CA.
func (j Jurisdiction) IsSubdivision() bool { return len(j) > 2 }

// Plane is what a hop can see of a consult.
type Plane uint8

const (
	Media  Plane = iota // a hop that can see plaintext: an SFU without end-to-end encryption; signalling
	Relay               // ciphertext only: TURN, an SFU under end-to-end encryption
	Stored              // recordings, logs and evidence
)

func (p Plane) String() string { return [...]string{"media", "relay", "stored"}[p] }

// Code says why a hop, a region or a consult was refused. The list is closed;
// operators, clients and dashboards may depend on every word of it.
type Code string

const (
	OK                Code = ""
	PolicyMissing     Code = "policy_missing"     // no law on file for a participant
	HomeOnly          Code = "home_only"          // only hops inside the jurisdiction
	OutsideBlock      Code = "outside_block"      // outside the named block of countries
	NotAdequate       Code = "not_adequate"       // not on the adequacy list, and no contract route exists
	ConditionUnmet    Code = "condition_unmet"    // on the list, but the destination's condition is not asserted
	FactMissing       Code = "fact_missing"       // a required fact is unasserted or expired
	BAAMissing        Code = "baa_missing"        // the same for a business associate agreement
	InstrumentMissing Code = "instrument_missing" // the contract route is open, but no transfer instrument is on file
	DeniedCountry     Code = "denied_country"     // on a deny list
	ProductDefault    Code = "product_default"    // stricter default of the product, liftable by record
	StoredNowhere     Code = "stored_nowhere"     // evidence may be written in no region of the map
	NoCommonPlace     Code = "no_common_place"    // each participant has a place, together they have none
	RegionDraining    Code = "region_draining"
	RegionDown        Code = "region_down"
	RegionUnhealthy   Code = "region_unhealthy"
	RegionFull        Code = "region_full"
	NoRegion          Code = "no_region"
	SubdivisionNeeded Code = "subdivision_needed"  // the law has rows for the country's subdivisions, and none was named
	RefusedByOperator Code = "refused_by_operator" // the map's refused: names the patient's jurisdiction
	NotServed         Code = "not_served"          // the map's served: does not
)

// Fact names an entry of the catalogue's closed fact list, e.g. "baa".
type Fact string

// Record is the paper behind an asserted fact. A record holds at an instant t
// when Date ≤ t < Expires; a zero Expires never expires.
type Record struct {
	ID      string // the operator's document reference
	Date    time.Time
	Expires time.Time
}

// Valid reports whether the record holds at t.
func (r Record) Valid(t time.Time) bool {
	return !r.Date.IsZero() && !t.Before(r.Date) && (r.Expires.IsZero() || t.Before(r.Expires))
}

// Facts are the assertions of one scope (an operator, a provider, a tenant).
type Facts map[Fact]Record

// Has reports whether f is asserted and holds at t.
func (f Facts) Has(name Fact, t time.Time) bool {
	r, ok := f[name]
	return ok && r.Valid(t)
}

// Instrument is a registered transfer instrument (SCC, BCR, approved clauses):
// it opens the contract route from one jurisdiction to the countries it names.
type Instrument struct {
	ID         string
	From       Jurisdiction // see [Law.Reaches]
	To         []Jurisdiction
	Assessment string    // the dated transfer impact assessment
	Assessed   time.Time // its date
	Expires    time.Time
}

// Tenant is what one customer of the operator asserts and records for itself.
type Tenant struct {
	ID    string
	Facts Facts
	// Overlays names entries of the catalogue's overlays that bind this tenant
	// (de_statutory, us_medicaid …).
	Overlays []string
	// ProductDefaultOff lifts the product's stricter default for the participant
	// jurisdictions named, by record.
	ProductDefaultOff map[Jurisdiction]Record
	// NotPublicBody lifts CA-NS, CA-NB and CA-BC, by record.
	NotPublicBody map[Jurisdiction]Record
	// DenyExceptions lists countries by name that deny_everywhere does not bind
	// for this tenant. A row's own deny list still does.
	DenyExceptions map[Jurisdiction]Record

	unknown bool
}

// Hop is one place where a consult would be processed.
type Hop struct {
	At       Jurisdiction // the region's subdivision where it states one, else its country
	Provider Facts        // of the provider that runs the place, its BAA as fact "baa"
}

// Unknown is a tenant that somebody names and the map does not have: nothing is permitted.
func Unknown(tenant string) *Tenant { return &Tenant{ID: tenant, unknown: true} }

// Subject is whom the law protects in one verdict: everything about the consult
// that the law asks for, nothing that identifies a person.
type Subject struct {
	Participants []Jurisdiction // every one counts, in request order
	E2EE         bool           // end-to-end encrypted: the SFU is a relay-plane hop
	Operator     Facts
	Tenant       *Tenant      // nil: no tenant facts, no overlays
	Instruments  []Instrument // of the operator
	Tags         []string     // facts of the consult and overlays by name: see [Law.Tags]
}

// Verdict answers one question: may this hop run there? The zero Verdict permits.
type Verdict struct {
	Code        Code
	Participant Jurisdiction // the first refusing participant, as named in the request
	Row         *Row         // the row or overlay that refused; nil for policy_missing
	// Fact is that of a fact_missing, condition_unmet or baa_missing; else it says more: the tag
	// of a home_only, what a policy_missing did not find, the map's reason of a
	// refused_by_operator, the plane of a no_common_place.
	Fact Fact
}

// Permitted reports whether the hop may run.
func (v Verdict) Permitted() bool { return v.Code == OK }
