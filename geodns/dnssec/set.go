package dnssec

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Set is the keys of one zone, oldest first. It is a value: what changes it returns
// another one.
type Set struct {
	Zone string // canonical: lower case, with the final dot
	Keys []Key
}

// NewSet makes the first keys of a zone: one CSK, or with split a KSK and a ZSK. They
// sign from the start, which is safe: nobody validates the zone before its DS is at
// the parent, and that is asked for (CDS) only once unsigned answers have left the
// caches.
func NewSet(zone string, a Algorithm, split bool, now time.Time) (Set, error) {
	s := Set{Zone: dns.CanonicalName(zone)}
	if _, ok := dns.IsDomainName(zone); !ok || zone == "" {
		return Set{}, fmt.Errorf("dnssec: zone %.64q: want a domain name such as media.example", zone)
	}
	if a != ECDSAP256 && a != Ed25519 {
		return Set{}, fmt.Errorf("dnssec %s: algorithm %d: want 13 (ECDSAP256SHA256) or 15 (ED25519)", s.Zone, a)
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
func (k Key) inDNSKEY() bool { return k.State != Removed && k.State != "" }

// signsKeys: the key signs DNSKEY, CDS and CDNSKEY. The last two must be signed by a
// key that the parent's DS names (RFC 7344 section 4.1); of two it names one.
func (k Key) signsKeys() bool { return k.sep() && k.inDNSKEY() }

// signsZone: the key signs everything else.
func (k Key) signsZone() bool {
	return k.Role == CSK && k.inDNSKEY() || k.Role == ZSK && k.State == Active
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

// latest is the newest of the times that the key has.
func (k Key) latest() (last time.Time) {
	for _, t := range []time.Time{k.Published, k.Ready, k.DSSeen, k.Active, k.Retired, k.Removed} {
		if t.After(last) {
			last = t
		}
	}
	return last
}
