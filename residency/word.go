package residency

import (
	"cmp"
	"fmt"
	"strings"
)

// Citation is the whole basis of the row that refused; for a missing policy, the
// catalogue's own default. Nil for a verdict that is not the law's.
func (v Verdict) Citation() []string {
	switch {
	case v.Row != nil:
		return v.Row.Basis
	case v.Code == PolicyMissing:
		return []string{"law.yaml meta.default_for_unknown: home_only; a country without law on file is refused"}
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

func (v Verdict) why() string {
	switch v.Code {
	case PolicyMissing:
		if v.Fact != "" {
			return fmt.Sprintf("the overlay %s is not on file, so nothing is permitted", v.Fact)
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
	case StoredNowhere:
		return "evidence of the consult may be written in no region of the map"
	}
	return string(v.Code)
}
