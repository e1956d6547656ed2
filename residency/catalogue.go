package residency

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"sync"
)

//go:embed law.yaml
var shipped []byte

// Shipped is the catalogue that this version of the product carries, with every
// flag at its default. It is shared and immutable.
var Shipped = sync.OnceValue(func() *Law {
	l, err := Parse(shipped)
	if err != nil {
		panic("residency: the embedded catalogue does not parse: " + err.Error()) // a test parses it
	}
	return l
})

// Law is one parsed catalogue. It is immutable and safe for concurrent use.
type Law struct {
	asOf     string
	bytes    [sha256.Size]byte // of the catalogue as parsed
	digest   string            // of that and the flags
	unknown  string            // meta.default_for_unknown
	rows     map[Jurisdiction]*Row
	overlays map[string]*Row
	overlaid []string
	eu       *Row
	eea      set
	same     map[Jurisdiction]Jurisdiction
	never    map[Jurisdiction]bool // entries that are no participants: EU, US-MEDICAID
	facts    map[Fact]FactRule
	concern  area // deny_everywhere
	flags    map[string]bool
	tags     map[string]bool // that rules name
	flagOf   map[Fact]string // a fact that also needs a flag: importer_is_DPF_certified → dpf_valid
	places   [numbers]place  // by number, for Permits
}

// place is what the law knows of one country.
type place struct {
	law        *Row         // of a participant from there; nil for none
	same       Jurisdiction // whose law it has, else ""
	subdivided bool         // rows of its subdivisions are beside it
}

// Row is one entry of the catalogue, an overlay included.
type Row struct {
	Name       string // jurisdiction or overlay
	Overlay    bool
	Regime     string
	Basis      []string // the citation
	Note       string
	Exceptions []string // prose of the planes: shown, never applied
	Verified   string   // searched or recall
	Confidence string   // high, medium or low; "" for an overlay that states none
	AsOf       string
	Effective  string // where it differs from in force: shown, never applied
	BreakGlass string // none, vital or contract
	applies    Jurisdiction
	planes     [3]*rule // nil: the overlay does not change the plane
	defaults   [3]*rule // product_default
	contract   bool     // a contract route may exist
	require    []need   // of an overlay, on every plane
}

type kind uint8

const (
	anywhere kind = iota // an overlay that only requires facts
	homeOnly
	block
	adequacyList
	adequacyOrContract
	anywhereWithContract
	anywhereExcept
	homeCopyPlus
)

var kinds = map[string]kind{"home_only": homeOnly, "block": block, "adequacy_list": adequacyList,
	"adequacy_or_contract": adequacyOrContract, "anywhere_with_contract": anywhereWithContract,
	"anywhere_except": anywhereExcept, "home_copy_plus": homeCopyPlus}

// rule is one plane of one row, its lists expanded.
type rule struct {
	kind    kind
	allow   area
	cond    []condition
	deny    area
	require []need
	tags    map[string]kind // consult tags that make this plane home_only
}

// need is one fact that a rule asks for, with what the fact list says of it.
type need struct {
	fact  Fact
	scope string
	when  When
	flag  string // that must be on too; "" for none
}

// condition is the fact that a country of an adequacy list must assert.
type condition struct {
	country Jurisdiction
	need    need
}

// FactRule is one entry of the closed fact list.
type FactRule struct {
	Scope string // who asserts it: operator, provider, tenant or consult
	When  When
	Note  string
}

// When says where a fact is needed.
type When uint8

const (
	Always        When = iota
	OutsideHome        // where the hop lies outside the jurisdiction
	ContractRoute      // where the hop is reached only by a transfer instrument
)

// AsOf is the catalogue's date, YYYY-MM-DD.
func (l *Law) AsOf() string { return l.asOf }

// Facts is the closed list of facts; the map is the caller's own.
func (l *Law) Facts() map[Fact]FactRule { return maps.Clone(l.facts) }

// Overlays are the names of the overlays, ordered.
func (l *Law) Overlays() []string { return slices.Clone(l.overlaid) }

// Row is the law that binds a participant of j first: the subdivision's own row
// where there is one, else the country's, else the EU default for a country of
// the EEA. False for a country without law on file and for anything that is no
// participant.
func (l *Law) Row(j Jurisdiction) (*Row, bool) {
	r := l.country(j)
	if r == nil {
		return nil, false
	}
	if sub := l.rows[j]; sub != nil && j.IsSubdivision() {
		return sub, true
	}
	return r, true
}

// Maps tells whether there is law on file for a participant of j.
func (l *Law) Maps(j Jurisdiction) bool {
	_, ok := l.Row(j)
	return ok
}

// country is the row of j's country, nil for none.
func (l *Law) country(j Jurisdiction) *Row {
	n := j.number()
	if n < 0 || j.IsSubdivision() && l.never[j] {
		return nil
	}
	return l.places[n].law
}

// index fills places.
func (l *Law) index() {
	for _, j := range slices.Concat(l.Jurisdictions(), slices.Collect(maps.Keys(l.same))) {
		n := j.number()
		if n < 0 {
			continue
		}
		if j.IsSubdivision() {
			l.places[n].subdivided = true
			continue
		}
		c := j
		if to, ok := l.same[j]; ok {
			c = to.Country()
			l.places[n].same = to
		}
		switch r := l.rows[c]; {
		case l.never[j] || l.never[c]:
		case r != nil:
			l.places[n].law = r
		case l.eea[c]:
			l.places[n].law = l.eu
		}
	}
}

// canonical maps a territory to the country whose law it has: a hop in RE is a
// hop in FR. A subdivision of a mapped country keeps only the country.
func (l *Law) canonical(j Jurisdiction) Jurisdiction {
	if n := j.number(); n >= 0 && l.places[n].same != "" {
		return l.places[n].same
	}
	return j
}

// LawOf is the country whose law a country or a subdivision of it has: FR for RE, GB for UK.
func (l *Law) LawOf(j Jurisdiction) Jurisdiction { return l.canonical(j).Country() }

// judge is the row that judges a participant first: a subdivision's own, else its country's
// or that of the country whose law it has. A country on the EU default counts as a row.
func (l *Law) judge(who Jurisdiction) Jurisdiction {
	if who.IsSubdivision() && l.rows[who] != nil {
		return who
	}
	return l.LawOf(who)
}

// Reaches tells whether a record that names a jurisdiction binds a participant of who: it
// names them, or the row that judges them (READING, fine points).
func (l *Law) Reaches(named, who Jurisdiction) bool {
	return named == who || named == l.judge(who) || named == "UK" && l.judge(who) == "GB"
}

// Subdivided tells whether j is a country for whose subdivisions the law has rows: whoever
// is from there names one (rule 17).
func (l *Law) Subdivided(j Jurisdiction) bool {
	n := j.number()
	return n >= 0 && !j.IsSubdivision() && l.places[n].subdivided
}

// Tags are those that a consult may have, ordered: the facts of a consult that rules name,
// and overlays (rule 21).
func (l *Law) Tags() []string {
	all := append(slices.Collect(maps.Keys(l.tags)), l.overlaid...)
	slices.Sort(all)
	return slices.Compact(all)
}

// Jurisdictions lists every participant jurisdiction that has law of its own or
// by default, territories included, ordered.
func (l *Law) Jurisdictions() []Jurisdiction {
	all := map[Jurisdiction]bool{}
	for j := range l.rows {
		all[j] = true
	}
	for j := range l.eea {
		all[j] = true
	}
	for j := range l.same {
		all[j] = true
	}
	for j := range l.never {
		delete(all, j)
	}
	return slices.Sorted(maps.Keys(all))
}

// HomeOnly tells whether a participant of j can be served at home alone on the
// plane, by law or by the product's default.
func (l *Law) HomeOnly(j Jurisdiction, p Plane) bool {
	rows := [2]*Row{l.country(j), l.rows[j]}
	for _, r := range rows {
		if r == nil {
			continue
		}
		if q := r.planes[p]; q != nil && q.kind == homeOnly {
			return true
		}
		if q := r.defaults[p]; q != nil && q.kind == homeOnly {
			return true
		}
	}
	return false
}

// HasFlag tells whether the law knows a flag of that name.
func (l *Law) HasFlag(name string) bool {
	_, has := l.flags[name]
	return has
}

// With is the same law under other flags (dpf_valid); a flag not named is off,
// whatever its default: what nobody asserts is false.
func (l *Law) With(flags map[string]bool) *Law {
	n := *l
	n.flags = make(map[string]bool, len(l.flags))
	for name := range l.flags {
		n.flags[name] = flags[name]
	}
	n.sign()
	return &n
}

// Digest names the law: the catalogue's bytes and which flags are on, SHA-256 in 16 hex
// digits. Two laws of one digest give the same verdicts.
func (l *Law) Digest() string { return l.digest }

// sign makes the digest.
func (l *Law) sign() {
	h := sha256.New()
	h.Write(l.bytes[:])
	for _, name := range slices.Sorted(maps.Keys(l.flags)) {
		if l.flags[name] {
			fmt.Fprintf(h, "%q", name)
		}
	}
	l.digest = fmt.Sprintf("%.8x", h.Sum(nil))
}
