package residency

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Citation is the whole basis of the row that refused, and since when it is in force where it
// is not yet; for a country without law, the catalogue's own default, and for whom the operator
// does not take on, the map. Nil for a verdict that is not the law's.
func (v Verdict) Citation() []string {
	switch {
	case v.Row != nil && v.Row.Effective != "":
		return append(slices.Clone(v.Row.Basis), "effective "+v.Row.Effective)
	case v.Row != nil:
		return v.Row.Basis
	case v.Code == RefusedByOperator:
		return []string{"regions.yaml refused: " + string(v.Fact)}
	case v.Code == NotServed:
		return []string{"regions.yaml served: " + string(v.Participant) + " is not among whom it names"}
	case v.Code == PolicyMissing:
		return []string{"law.yaml meta.default_for_unknown: refused; a country without law on file is refused"}
	}
	return nil
}

// Reason says in one sentence what the verdict is and what would change it.
func (v Verdict) Reason() string {
	if v.Permitted() {
		return "permitted"
	}
	who := string(v.Participant)
	if who == "" {
		who = "nobody"
	}
	why := v.why()
	if v.Row == nil {
		return who + ": " + why
	}
	name := ""
	if v.Row.Name != who {
		name = v.Row.Name + ", "
	}
	more := ""
	if v.Row.Effective != "" {
		more = "; effective " + v.Row.Effective
	}
	if len(v.Row.Exceptions) > 0 {
		more += "; exceptions on paper, never applied here: " + strings.Join(v.Row.Exceptions, "; ")
	}
	return fmt.Sprintf("%s: %s (%s%s; as of %s, confidence %s%s)", who, why, name, v.Row.Regime, v.Row.AsOf,
		cmp.Or(v.Row.Confidence, "not stated"), more)
}

// example is a subdivision of the country.
func example(country Jurisdiction) Jurisdiction {
	if all := Subdivisions(country); len(all) > 0 {
		return all[0]
	}
	return country + "-…"
}

func (v Verdict) why() string {
	switch v.Code {
	case PolicyMissing:
		if v.Fact != "" {
			return fmt.Sprintf("the %s is not on file, so nothing is permitted", v.Fact)
		}
		return "no law is on file for this place, so nothing is permitted"
	case HomeOnly:
		if v.Fact != "" {
			return fmt.Sprintf("the consult is marked %s: only hops inside the jurisdiction", v.Fact)
		}
		return "only hops inside the jurisdiction"
	case OutsideBlock:
		return "outside the countries that the rule names"
	case NotAdequate:
		return "not on the adequacy list, and the rule has no contract route"
	case ConditionUnmet:
		return fmt.Sprintf("on the list only if the provider there asserts %s, which it does not", v.Fact)
	case FactMissing:
		return fmt.Sprintf("the fact %s is not asserted, or has expired", v.Fact)
	case BAAMissing:
		return "the provider has no business associate agreement in force for this region"
	case InstrumentMissing:
		return "not on the adequacy list, and no transfer instrument in force names the country"
	case DeniedCountry:
		return "the country is on a deny list"
	case ProductDefault:
		return "the product's default is stricter than the law; a tenant's record can lift it"
	case SubdivisionNeeded:
		return fmt.Sprintf("the law differs within the country: name the subdivision, such as %s; https://www.iso.org/obp/ui/#iso:code:3166:%s lists the codes (here: ISO 3166-2 as of %s)",
			example(v.Participant), v.Participant, Edition())
	case RefusedByOperator:
		return "the operator takes on no patient from there: " + string(v.Fact)
	case NotServed:
		return "the operator does not serve patients from there"
	case StoredNowhere:
		return "evidence of the consult may be written in no region of the map"
	}
	return string(v.Code)
}
