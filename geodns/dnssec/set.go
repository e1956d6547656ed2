package dnssec

import (
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Set is the keys of one zone, oldest first. It is a value: what changes it returns
// another one.
type Set struct {
	Zone string // canonical: lower case, with the final dot
	// Serial counts the changes: of two sets of a zone the higher one is the newer,
	// whatever the clocks say.
	Serial uint64
	Keys   []Key
}

// clone may be changed.
func (s Set) clone() Set {
	s.Keys = slices.Clone(s.Keys)
	return s
}

// NewSet makes the first keys of a zone: one CSK, or with split a KSK and a ZSK. They
// sign from the start, which is safe: nobody validates the zone before its DS is at
// the parent, and that is asked for (CDS) only once unsigned answers have left the
// caches.
func NewSet(zone string, a Algorithm, split bool, now time.Time) (Set, error) {
	s := Set{Zone: dns.CanonicalName(zone), Serial: 1}
	if _, ok := dns.IsDomainName(zone); !ok || zone == "" {
		return Set{}, fmt.Errorf("dnssec: zone %.64q: want a domain name such as media.example", zone)
	}
	if err := a.check(); err != nil {
		return Set{}, fmt.Errorf("dnssec %s: %w", s.Zone, err)
	}
	now = stamp(now)
	roles := []Role{CSK}
	if split {
		roles = []Role{KSK, ZSK}
	}
	for _, role := range roles {
		k, err := generate(s.Zone, role, a, s.Keys)
		if err != nil {
			return Set{}, err
		}
		k.State, k.Published = Published, now
		if role == ZSK {
			k.State, k.Active = Active, now
		}
		s.Keys = append(s.Keys, k)
	}
	return s, nil
}

// stamp is a time as the key file holds it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// inDNSKEY: resolvers see the key.
func (k Key) inDNSKEY() bool {
	switch k.State {
	case Published, Ready, Active:
		return true
	case Retired:
		return k.Role == ZSK
	}
	return false
}

// signsKeys: the key signs DNSKEY, CDS and CDNSKEY. The last two must be signed by a
// key that the parent's DS names (RFC 7344 section 4.1); of two it names one.
func (k Key) signsKeys() bool { return k.sep() && k.inDNSKEY() }

// signsZone: the key signs everything else.
func (k Key) signsZone() bool {
	switch k.Role {
	case CSK:
		return k.State != Removed && k.State != ""
	case ZSK:
		return k.State == Active
	}
	return false
}

// Wanted are the keys that the parent's DS RRset should name, and nothing else: the
// one that waits for its DS, or else the one that has it. It is empty while the first
// key of a zone is still unknown to caches.
func (s Set) Wanted() []Key {
	for _, state := range []State{Ready, Active} {
		for _, k := range s.Keys {
			if k.sep() && k.State == state {
				return []Key{k}
			}
		}
	}
	return nil
}

// Entry is the role of the keys that the parent's DS names.
func (s Set) Entry() Role {
	if slices.ContainsFunc(s.Keys, func(k Key) bool { return k.Role == KSK && k.State != Removed }) {
		return KSK
	}
	return CSK
}

// DS is the record for the parent (RFC 4034 section 5); digest is dns.SHA256 or
// dns.SHA384, which is all that RFC 8624 section 3.3 lets a signer use.
func (s Set) DS(k Key, digest uint8) (*dns.DS, error) {
	if digest != dns.SHA256 && digest != dns.SHA384 {
		return nil, fmt.Errorf("dnssec %s: ds of key %d: digest type %d: want 2 (SHA-256) or 4 (SHA-384)", s.Zone, k.Tag, digest)
	}
	return k.dnskey(s.Zone, 0).ToDS(digest), nil
}

// DNSKEY is the zone's key RRset, in which every key that is not removed is.
func (s Set) DNSKEY(p Policy) []dns.RR {
	var rrs []dns.RR
	for _, k := range s.Keys {
		if k.inDNSKEY() {
			rrs = append(rrs, k.dnskey(s.Zone, seconds(p.KeyTTL)))
		}
	}
	return rrs
}

// CDS is what the parent is asked to publish (RFC 7344); none while nothing is wanted.
// It has one digest: a parent that prefers another one makes it from CDNSKEY.
func (s Set) CDS(p Policy) []dns.RR {
	var rrs []dns.RR
	for _, k := range s.Wanted() {
		rrs = append(rrs, k.dnskey(s.Zone, seconds(p.KeyTTL)).ToDS(dns.SHA256).ToCDS())
	}
	return rrs
}

// CDNSKEY is the same as keys, for parents that make the DS (RFC 7344 section 3.2).
func (s Set) CDNSKEY(p Policy) []dns.RR {
	var rrs []dns.RR
	for _, k := range s.Wanted() {
		rrs = append(rrs, k.dnskey(s.Zone, seconds(p.KeyTTL)).ToCDNSKEY())
	}
	return rrs
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

// signs refuses a set with which some RRset could not be signed.
func (s Set) signs() error {
	if !slices.ContainsFunc(s.Keys, Key.signsKeys) {
		return fmt.Errorf("dnssec %s: no csk or ksk is published", s.Zone)
	}
	if !slices.ContainsFunc(s.Keys, Key.signsZone) {
		return fmt.Errorf("dnssec %s: no csk is published and no zsk is active", s.Zone)
	}
	return nil
}

// times are when the key entered its states.
func (k Key) times() []time.Time {
	return []time.Time{k.Signing, k.Published, k.Ready, k.DSSeen, k.Active, k.Retired, k.Removed}
}

// latest is the newest of the times that the key has.
func (k Key) latest() (last time.Time) {
	for _, t := range k.times() {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// Since is when the key entered the state that it is in.
func (k Key) Since() time.Time {
	return map[State]time.Time{Signing: k.Signing, Published: k.Published, Ready: k.Ready, Active: k.Active, Retired: k.Retired, Removed: k.Removed}[k.State]
}
