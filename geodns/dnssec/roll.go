package dnssec

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Parent is what somebody saw at the parent's name servers (not in a cache), or what
// an operator vouches for.
type Parent struct {
	DS  []*dns.DS
	TTL time.Duration // of the DS RRset; 0: as in the policy
	By  string        // who: "parent", or the operator's name
}

// Event is one step of a key, to be logged.
type Event struct {
	Zone string
	Key  uint16 // its tag
	Role Role
	// What is the State that was entered, or "ds-seen" or "ds-gone".
	What string
	At   time.Time
}

// String is such as "media.example. csk 4711: ready".
func (e Event) String() string { return fmt.Sprintf("%s %s %d: %s", e.Zone, e.Role, e.Key, e.What) }

const (
	dsSeen = "ds-seen"
	dsGone = "ds-gone"
	// history is how many removed keys are remembered.
	history = 4
	// longestDS is what counts of a DS's TTL. No resolver of note keeps anything longer than
	// weeks (RFC 8767 section 4), and a parent could else make a roll last for 136 years, or
	// write a TTL into the key file that no node reads (RFC 2181 section 8).
	longestDS = 4 * 7 * 24 * time.Hour
)

// Next is the rollover: the set as it should be at that time, and the steps that led
// there; none means that the set is unchanged. It is pure but for the material of a
// new key. Each wait is counted from when the step before was really taken, so a call
// that comes late, or seldom, or after a year, is only slower. parent is nil when
// nobody looked.
//
// A ZSK is rolled by pre-publication (RFC 7583 section 3.2.1). A CSK or KSK is rolled
// by double signature (section 3.3.1): the old and the new key sign together until the
// parent named the new one alone and the old DS has left the caches. Without a parent's
// word that lasts for ever, and nothing is lost by it but bytes.
//
// A new algorithm (RFC 6781 section 4.1.4, the careful way) signs the zone before its
// key is published, and the old one signs on until its key has left the caches: no
// validator ever finds an algorithm in the DS or DNSKEY RRset without its signatures
// (RFC 6840 section 5.11).
func Next(s Set, now time.Time, p Policy, parent *Parent) (Set, []Event, error) {
	r := roll{Set: s.clone(), now: stamp(now), p: p}
	if parent != nil {
		r.observe(parent)
	}
	for i := range r.Keys {
		r.step(i)
	}
	for _, role := range []Role{CSK, KSK, ZSK} {
		if r.outlived(role) {
			if err := r.begin(role, 0); err != nil {
				return s, nil, err
			}
		}
	}
	if len(r.events) == 0 {
		return s, nil, nil
	}
	r.forget()
	r.Serial++
	return r.Set, r.events, nil
}

// Roll begins a roll by hand: it makes a successor of the key in that role, and Next
// does the rest. It refuses while one is under way. The algorithm may be another one
// for a CSK; 0: the same.
func Roll(s Set, now time.Time, role Role, a Algorithm) (Set, []Event, error) {
	if s.rolling(role) {
		return s, nil, fmt.Errorf("dnssec %s: roll of the %s: one is under way, or its first key is not yet active", s.Zone, role)
	}
	r := roll{Set: s.clone(), now: stamp(now)}
	if err := r.begin(role, a); err != nil {
		return s, nil, err
	}
	r.Serial++
	return r.Set, r.events, nil
}

type roll struct {
	Set
	now    time.Time
	p      Policy
	events []Event
}

// rolling: some key of the role is on its way in or out.
func (s Set) rolling(role Role) bool {
	return slices.ContainsFunc(s.Keys, func(k Key) bool {
		return k.Role == role && slices.Contains([]State{Signing, Published, Ready, Retired}, k.State)
	})
}

func (p Policy) lifetime(role Role) time.Duration {
	if role == ZSK {
		return p.ZoneLifetime
	}
	return p.Lifetime
}

// Due is when the key takes its next step, and which; zero when that is not a matter
// of time, or when it was removed.
func (p Policy) Due(k Key) (State, time.Time) {
	switch {
	case k.State == Signing:
		return Published, k.Signing.Add(p.Propagation + p.ZoneTTL)
	case k.State == Published && k.sep():
		// Its signatures must be in every cache, also those on answers that were
		// cached before it signed (Ipub, of an algorithm or a zone that is new too).
		return Ready, k.Published.Add(p.Propagation + max(p.KeyTTL, p.ZoneTTL))
	case k.State == Published:
		return Active, k.Published.Add(p.Propagation + p.KeyTTL) // Ipub
	case k.State == Ready && !k.DSSeen.IsZero():
		return Active, k.DSSeen.Add(p.ParentPropagation + max(p.ParentTTL, k.DSTTL)) // Iret of section 3.3.1
	case k.State == Retired && k.sep():
		return Removed, k.Retired.Add(p.Propagation + p.KeyTTL)
	case k.State == Retired:
		return Removed, k.Retired.Add(p.Propagation + p.ZoneTTL) // Iret of section 3.2.1
	}
	return "", time.Time{}
}

// step moves one key, and with it those that it replaces.
func (r *roll) step(i int) {
	k := &r.Keys[i]
	state, due := r.p.Due(*k)
	if state == "" || r.now.Before(due) {
		return
	}
	r.enter(k, state)
	if state != Active {
		return
	}
	for j := range r.Keys {
		old := &r.Keys[j]
		switch {
		case j == i || old.Role != k.Role:
		case k.Role == ZSK && old.State == Active:
			r.enter(old, Retired)
		case old.State == Active && old.Algorithm != k.Algorithm:
			r.enter(old, Retired)
		case old.State == Active:
			r.enter(old, Removed)
		}
	}
}

func (r *roll) enter(k *Key, state State) {
	k.State = state
	switch state {
	case Signing:
		k.Signing = r.now
	case Published:
		k.Published = r.now
	case Ready:
		k.Ready = r.now
	case Active:
		k.Active = r.now
	case Retired:
		k.Retired = r.now
	case Removed:
		k.Removed, k.private = r.now, nil
	}
	r.tell(*k, string(state))
}

func (r *roll) tell(k Key, what string) {
	r.events = append(r.events, Event{r.Zone, k.Tag, k.Role, what, r.now})
}

// observe notes the DS of the key that waits for it. Others beside it would be left
// without a key at the end of the roll, so they must be gone. One that vanishes before
// it was counted on is waited for again.
func (r *roll) observe(parent *Parent) {
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.State != Ready {
			continue
		}
		switch there := parent.has(r.Zone, *k) && len(parent.others(*k)) == 0; {
		case there && k.DSSeen.IsZero():
			k.DSSeen, k.DSTTL, k.DSBy = r.now, min(parent.TTL, longestDS).Truncate(time.Second), parent.By
			r.tell(*k, dsSeen)
		case !there && !k.DSSeen.IsZero():
			k.DSSeen, k.DSTTL, k.DSBy = time.Time{}, 0, ""
			r.tell(*k, dsGone)
		}
	}
}

func (p *Parent) has(zone string, k Key) bool {
	return slices.ContainsFunc(p.DS, func(ds *dns.DS) bool { return k.matches(zone, ds) })
}

// others are the tags of the DS records of other keys than k.
func (p *Parent) others(k Key) (tags []uint16) {
	for _, ds := range p.DS {
		if (ds.KeyTag != k.Tag || ds.Algorithm != uint8(k.Algorithm)) && !slices.Contains(tags, ds.KeyTag) {
			tags = append(tags, ds.KeyTag)
		}
	}
	return tags
}

// matches by SHA-256 or SHA-384: a validator may ignore a DS of another digest.
func (k Key) matches(zone string, ds *dns.DS) bool {
	if ds == nil || ds.KeyTag != k.Tag || ds.Algorithm != uint8(k.Algorithm) ||
		ds.DigestType != dns.SHA256 && ds.DigestType != dns.SHA384 {
		return false
	}
	return strings.EqualFold(ds.Digest, k.dnskey(zone, 0).ToDS(ds.DigestType).Digest)
}

// outlived: it is time to publish the successor. Of a ZSK that is early enough for it
// to be active when the lifetime ends.
func (r *roll) outlived(role Role) bool {
	life := r.p.lifetime(role)
	if life <= 0 || r.rolling(role) {
		return false
	}
	if role == ZSK {
		life -= r.p.Propagation + r.p.KeyTTL
	}
	return slices.ContainsFunc(r.Keys, func(k Key) bool {
		return k.Role == role && k.State == Active && !r.now.Before(k.Active.Add(life))
	})
}

// begin makes a successor of the active key, of its algorithm unless another is given.
func (r *roll) begin(role Role, a Algorithm) error {
	i := slices.IndexFunc(r.Keys, func(k Key) bool { return k.Role == role && k.State == Active })
	if i < 0 {
		return fmt.Errorf("dnssec %s: roll of the %s: the zone has no active one", r.Zone, role)
	}
	first := Published
	switch old := r.Keys[i].Algorithm; {
	case a == 0 || a == old:
		a = old
	case role != CSK:
		return fmt.Errorf("dnssec %s: roll of the %s to algorithm %d: a ksk and its zsk cannot change their algorithm: roll without one", r.Zone, role, a)
	default:
		first = Signing
	}
	k, err := generate(r.Zone, role, a, r.Keys)
	if err != nil {
		return err
	}
	r.enter(&k, first)
	r.Keys = append(r.Keys, k)
	return nil
}

// forget drops the oldest of many removed keys.
func (r *roll) forget() {
	removed := 0
	for _, k := range r.Keys {
		if k.State == Removed {
			removed++
		}
	}
	r.Keys = slices.DeleteFunc(r.Keys, func(k Key) bool {
		if k.State != Removed || removed <= history {
			return false
		}
		removed--
		return true
	})
}
