package dnssec

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Check says what is wrong with the set at that time, one error (errors.Join) for
// each finding, each with key tag and time. It is for the log and the operator: a set
// with findings is still served.
func (s Set) Check(now time.Time, p Policy) error {
	errs := []error{s.signs()}
	for _, k := range s.Keys {
		if k.State == Removed {
			continue
		}
		if t := k.latest(); t.After(now.Add(skew)) {
			errs = append(errs, fmt.Errorf("dnssec %s: key %d not yet valid: it became %s at %s and it is %s: set this node's clock right",
				s.Zone, k.Tag, k.State, t.Format(time.RFC3339), stamp(now).Format(time.RFC3339)))
			continue
		}
		switch life := p.lifetime(k.Role); {
		case k.State == Active && life > 0 && now.After(k.Active.Add(life+p.Propagation)) && !s.rolling(k.Role):
			errs = append(errs, fmt.Errorf("dnssec %s: key %d expired: its lifetime ended at %s and no successor is published: let a node write the key set, or roll by hand",
				s.Zone, k.Tag, k.Active.Add(life).Format(time.RFC3339)))
		case k.State == Ready && k.DSSeen.IsZero() && now.After(k.Ready.Add(p.ParentTTL+p.ParentPropagation)):
			errs = append(errs, fmt.Errorf("dnssec %s: key %d waits for its DS since %s: give the parent the DS of this key",
				s.Zone, k.Tag, k.Ready.Format(time.RFC3339)))
		}
	}
	return errors.Join(errs...)
}

// CheckParent says what is wrong between the set and what its parent's servers say, as
// Check does.
func (s Set) CheckParent(parent *Parent) error {
	var errs []error
	trusted := slices.ContainsFunc(s.Keys, func(k Key) bool { return k.signsKeys() && parent.has(s.Zone, k) })
	counted := slices.ContainsFunc(s.Keys, func(k Key) bool { return k.sep() && k.State == Active })
	switch {
	case len(parent.DS) == 0 && counted:
		errs = append(errs, fmt.Errorf("dnssec %s: the parent has no DS: the zone is served signed and validated by nobody: give the parent the DS of bailiwick dns ds", s.Zone))
	case len(parent.DS) > 0 && !trusted:
		errs = append(errs, fmt.Errorf("dnssec %s: the parent has the DS of %v and no key of this set: validators refuse the zone: restore the newest keys, or replace the DS",
			s.Zone, parent.others(Key{})))
	}
	for _, k := range s.Wanted() {
		if others := parent.others(k); parent.has(s.Zone, k) && len(others) > 0 {
			errs = append(errs, fmt.Errorf("dnssec %s: the parent has the DS of key %d and of %v too: remove those", s.Zone, k.Tag, others))
		}
	}
	return errors.Join(errs...)
}
