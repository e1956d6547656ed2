package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"bailiwick/consult"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

// topologies are the edges of a run; the region is the ID without its number.
var topologies = map[string][]string{
	"small":  {"de-ber-1", "de-fra-1", "fr-par-1"},
	"pairs":  {"de-ber-1", "de-ber-2", "de-fra-1", "de-fra-2"},
	"medium": {"ae-dxb-1", "de-ber-1", "de-fra-1", "de-fra-2", "fr-par-1"},
	"full":   {"ae-dxb-1", "ae-dxb-2", "de-ber-1", "de-ber-2", "de-fra-1", "de-fra-2", "fr-par-1", "us-iad-1"},
}

// Atlas is the map that runs begin with. The papers are those that make a verdict turn.
const Atlas = `
version: 1
zone: media.example
operator:
  name: sim
  facts:
    art28_dpa: {id: P-DPA, date: 2026-01-15, expires: 2030-12-31}
    establishment_in_DE: {id: P-EST, date: 2026-01-15, expires: 2030-12-31}
    publish_transfer_map: {id: P-MAP, date: 2026-01-15, expires: 2030-12-31}
providers:
  rhein:
    name: rhein
    facts:
      c5_type2_or_equivalent: {id: P-C5R, date: 2026-01-15, expires: 2030-12-31}
      hds_v2: {id: P-HDSR, date: 2026-01-15, expires: 2030-12-31}
  seine:
    name: seine
    facts:
      c5_type2_or_equivalent: {id: P-C5S, date: 2026-01-15, expires: 2030-12-31}
      hds_v2: {id: P-HDSS, date: 2026-01-15, expires: 2030-12-31}
  gulf: {name: gulf}
  cascadia:
    name: cascadia
    facts:
      importer_is_DPF_certified: {id: P-DPF, date: 2026-01-15, expires: 2030-12-31}
regions:
  ae-dxb: {country: AE, city: Dubai, at: [25.2, 55.3], provider: gulf, capacity: {egress_mbps: 1000, headroom: 0.5, admission: 100}}
  de-ber: {country: DE, city: Berlin, at: [52.52, 13.40], provider: rhein, capacity: {egress_mbps: 1000, headroom: 0.5, admission: 100}}
  de-fra: {country: DE, city: Frankfurt am Main, at: [50.11, 8.68], provider: rhein, capacity: {egress_mbps: 1000, headroom: 0.5, admission: 100}}
  fr-par: {country: FR, city: Paris, at: [48.86, 2.35], provider: seine, capacity: {egress_mbps: 1000, headroom: 0.5, admission: 100}}
  us-iad: {country: US, subdivision: US-VA, city: Ashburn, at: [39.04, -77.49], provider: cascadia, capacity: {egress_mbps: 1000, headroom: 0.5, admission: 100}}
served: [AE, DE, FR, IE]
tenants:
  default: {}
  open:
    product_default_off:
      IE: {id: P-OFF, date: 2026-01-15, expires: 2030-12-31}
law:
  dpf_valid: false
`

var parsed = sync.OnceValue(func() *region.Map {
	m, err := region.Parse("atlas", []byte(Atlas))
	if err != nil {
		panic(err) // the text above is part of the program
	}
	return m
})

// kinds are the consults that are made: whose law, which tenant, whether they are urgent,
// and whether they are encrypted end to end.
var kinds = map[string]struct {
	law    []residency.Jurisdiction
	tenant string
	urgent bool
	e2ee   bool
}{
	"de": {[]residency.Jurisdiction{"DE", "DE"}, "default", false, false},
	"ee": {[]residency.Jurisdiction{"DE", "DE"}, "default", false, true},
	"fr": {[]residency.Jurisdiction{"FR", "FR"}, "default", true, false},
	"df": {[]residency.Jurisdiction{"DE", "FR", "DE"}, "default", false, false},
	"ae": {[]residency.Jurisdiction{"AE", "AE"}, "default", false, false},
	"ie": {[]residency.Jurisdiction{"IE", "IE"}, "open", false, false},
	"xx": {[]residency.Jurisdiction{"AE", "DE"}, "default", false, false}, // no common place
}

// papers are what a law may lose in a run, by the name that scripts have for them.
var papers = []string{"dpa", "est", "c5-rhein", "c5-seine"}

// laws are the true map and law of a run.
type laws struct {
	s       *Sim
	m       *region.Map
	expires map[string]time.Time // of papers; absent: it does not, zero: withdrawn
	gone    map[region.ID]int    // regions out of the map
	edition int
	at      time.Duration // of the edition
}

func (l *laws) open(s *Sim) {
	*l = laws{s: s, expires: map[string]time.Time{}, gone: map[region.ID]int{}}
	l.publish()
}

// publish makes the map of what is in force now.
func (l *laws) publish() {
	m := *parsed()
	l.edition++
	l.at = l.s.now
	m.Digest = fmt.Sprint("edition ", l.edition)
	m.WithdrawalGrace = l.s.Script.Grace
	m.Operator.Facts = maps.Clone(m.Operator.Facts)
	m.Providers = maps.Clone(m.Providers)
	for _, name := range papers {
		facts, fact := l.facts(&m, name)
		at, limited := l.expires[name]
		switch {
		case !limited:
		case at.IsZero():
			delete(facts, fact)
		default:
			r := facts[fact]
			r.Expires = at
			facts[fact] = r
		}
	}
	m.Regions = nil
	edges := topologies[l.s.Script.Topology]
	for _, r := range parsed().Regions {
		has := slices.ContainsFunc(edges, func(id string) bool { return l.s.regionOf(id) == r.ID })
		if !has || l.gone[r.ID] > 0 {
			continue
		}
		for _, id := range edges {
			if l.s.Script.Static && l.s.regionOf(id) == r.ID && r.ID == "de-ber" {
				r.Edges = append(r.Edges, region.Edge{ID: region.EdgeID(id)})
			}
		}
		m.Regions = append(m.Regions, r)
	}
	l.m = &m
}

// facts are a copy of the facts that hold a paper, in place of the shared ones.
func (l *laws) facts(m *region.Map, name string) (residency.Facts, residency.Fact) {
	switch name {
	case "dpa":
		return m.Operator.Facts, "art28_dpa"
	case "est":
		return m.Operator.Facts, "establishment_in_DE"
	}
	id := region.ProviderID(strings.TrimPrefix(name, "c5-"))
	p := *m.Providers[id]
	p.Facts = maps.Clone(p.Facts)
	m.Providers[id] = &p
	return p.Facts, "c5_type2_or_equivalent"
}

// lawful is the law of package residency for the kinds and regions of a run, written
// again by hand: TestOracle holds the two together, and a fault in one shows.
func lawful(kind string, at region.ID, m *region.Map, flag bool, now time.Time) bool {
	op, prov := m.Operator.Facts, func(id region.ProviderID) residency.Facts { return m.Providers[id].Facts }
	c5 := func(id region.ProviderID) bool { return prov(id).Has("c5_type2_or_equivalent", now) }
	has := func(id region.ID) bool { return m.Region(id) != nil }
	eea := at == "de-ber" || at == "de-fra" || at == "fr-par"
	stored := c5("rhein") && (has("de-ber") || has("de-fra")) || c5("seine") && has("fr-par")
	german := func() bool {
		here := c5("rhein") && (at == "de-ber" || at == "de-fra") || c5("seine") && at == "fr-par"
		return here && stored && op.Has("establishment_in_DE", now)
	}
	switch kind {
	case "de":
		return german()
	case "ee": // what passes is ciphertext: its evidence alone needs a paper
		return eea && stored
	case "df":
		return german() && storedFrench(has)
	case "fr":
		return eea && storedFrench(has)
	case "ae":
		return at == "ae-dxb" && has("ae-dxb")
	case "ie":
		return op.Has("art28_dpa", now) && (eea || at == "us-iad" && flag && prov("cascadia").Has("importer_is_DPF_certified", now))
	}
	return false
}

// storedFrench: evidence may lie in every region of the EEA here, for both have HDS.
func storedFrench(has func(region.ID) bool) bool {
	return has("de-ber") || has("de-fra") || has("fr-par")
}

// holds is the true law now.
func (l *laws) holds(kind string, at region.ID) bool {
	e, _ := l.s.store.read(flagsAt + "dpf_valid")
	return lawful(kind, at, l.m, string(e) == "true", l.s.time())
}

// placement is what a backend asks for.
func placement(kind string) *consult.Placement {
	k := kinds[kind]
	p := &consult.Placement{Terms: consult.Terms{Jurisdictions: k.law, Priority: consult.Routine, Tenant: k.tenant, E2EE: k.e2ee}}
	if k.urgent {
		p.Priority = "urgent"
	}
	for i := range k.law {
		role := consult.Role("clinician")
		if i == 0 {
			role = "patient"
		}
		p.Participants = append(p.Participants, consult.Participant{ID: consult.ParticipantID(fmt.Sprint("p", i)), Role: role})
	}
	return p
}

// flagOf is a node's own word on the flag, as its law has it.
func flagOf(w *steer.World) bool { return w.LawDigest == lawOn().Digest() }

var lawOn = sync.OnceValue(func() *residency.Law { return residency.Shipped().With(map[string]bool{"dpf_valid": true}) })
