package dnssec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/miekg/dns"

	"bailiwick/exact"
	"bailiwick/store"
)

const (
	maxFile = 64 << 10 // bytes
	maxKeys = 16
	// maxActor is the longest name of who confirmed a DS, in octets.
	maxActor = 255
)

// file is the key file, and the value in the Store.
type file struct {
	Version int        `json:"version"`
	Zone    string     `json:"zone"`
	Serial  uint64     `json:"serial"`
	Keys    []keyEntry `json:"keys"`
}

type keyEntry struct {
	Tag       uint16     `json:"tag"`
	Role      Role       `json:"role"`
	Algorithm Algorithm  `json:"algorithm"`
	State     State      `json:"state"`
	Signing   *time.Time `json:"signing,omitempty"`
	Published *time.Time `json:"published,omitempty"`
	Ready     *time.Time `json:"ready,omitempty"`
	DSSeen    *time.Time `json:"ds_seen,omitempty"`
	DSTTL     int64      `json:"ds_ttl,omitempty"`
	DSBy      string     `json:"ds_by,omitempty"`
	Active    *time.Time `json:"active,omitempty"`
	Retired   *time.Time `json:"retired,omitempty"`
	Removed   *time.Time `json:"removed,omitempty"`
	Public    []byte     `json:"public"`
	Private   []byte     `json:"private,omitempty"`
}

// Parse reads a key file: JSON, of at most 64 KiB and 16 keys, without unknown fields.
//
//	{"version": 1, "zone": "media.example.", "serial": 7, "keys": [
//	  {"tag": 4711, "role": "csk", "algorithm": 15, "state": "active",
//	   "published": "2026-11-01T00:00:00Z", "ready": "…", "ds_seen": "…", "ds_ttl": 3600,
//	   "ds_by": "alice", "active": "…", "public": "BASE64", "private": "BASE64"}]}
//
// serial counts the changes. role is csk, or ksk and zsk; state is signing, published, ready, active, retired or
// removed, and the time of that name says since when, to the second, in UTC. ds_ttl is in
// seconds, ds_by is who saw the DS. public is the key field of the DNSKEY record, private is the 32 bytes of
// the P-256 scalar or the Ed25519 seed (as PrivateKey of BIND's key files); a removed
// key has none. The tag and the public key must be those of the private one. Keys are
// ordered by age. Errors name the key and never quote it.
func Parse(b []byte) (Set, error) {
	if len(b) > maxFile {
		return Set{}, fmt.Errorf("dnssec keys: %d bytes, the limit is %d", len(b), maxFile)
	}
	var f file
	if err := exact.Read(b, &f); err != nil { // quotes nothing
		return Set{}, fmt.Errorf("dnssec keys: %w", err)
	}
	if f.Version != 1 {
		return Set{}, fmt.Errorf("dnssec keys: version %d: this release reads version 1", f.Version)
	}
	if _, ok := dns.IsDomainName(f.Zone); !ok || f.Zone == "" || f.Zone != dns.CanonicalName(f.Zone) {
		return Set{}, fmt.Errorf("dnssec keys: zone %.64q: want a name in lower case with a final dot", f.Zone)
	}
	if len(f.Keys) > maxKeys {
		return Set{}, fmt.Errorf("dnssec keys of %s: %d keys, the limit is %d", f.Zone, len(f.Keys), maxKeys)
	}
	s := Set{Zone: f.Zone, Serial: f.Serial}
	for _, e := range f.Keys {
		k, err := e.key(f.Zone)
		if err != nil {
			return Set{}, fmt.Errorf("dnssec keys of %s: key %d: %w", f.Zone, e.Tag, err)
		}
		if hasTag(s.Keys, k.Tag) {
			return Set{}, fmt.Errorf("dnssec keys of %s: key %d is there twice", f.Zone, k.Tag)
		}
		s.Keys = append(s.Keys, k)
	}
	if err := s.signs(); err != nil {
		return Set{}, err
	}
	return s, nil
}

func (e keyEntry) key(zone string) (Key, error) {
	k := Key{Role: e.Role, Algorithm: e.Algorithm, State: e.State, DSBy: e.DSBy}
	for _, t := range []struct {
		to   *time.Time
		from *time.Time
	}{{&k.Signing, e.Signing}, {&k.Published, e.Published}, {&k.Ready, e.Ready}, {&k.DSSeen, e.DSSeen}, {&k.Active, e.Active}, {&k.Retired, e.Retired}, {&k.Removed, e.Removed}} {
		if t.from != nil {
			*t.to = stamp(*t.from)
		}
	}
	const longest = 1 << 31 // RFC 2181 section 8
	if e.DSTTL < 0 || e.DSTTL >= longest {
		return Key{}, fmt.Errorf("ds_ttl %d: want seconds", e.DSTTL)
	}
	k.DSTTL = time.Duration(e.DSTTL) * time.Second
	if err := k.plausible(); err != nil {
		return Key{}, err
	}
	switch {
	case e.State == Removed && e.Private != nil:
		return Key{}, errors.New("removed, but its private part is still there")
	case e.State == Removed:
		want := map[Algorithm]int{ECDSAP256: 64, Ed25519: 32}[e.Algorithm]
		if want == 0 || len(e.Public) != want {
			return Key{}, fmt.Errorf("public key of %d bytes does not fit algorithm %d", len(e.Public), e.Algorithm)
		}
		k.Public = e.Public
	default:
		if err := k.setPrivate(e.Private); err != nil {
			return Key{}, err
		}
		if !bytes.Equal(k.Public, e.Public) {
			return Key{}, errors.New("public does not belong to private")
		}
	}
	if k.Tag = k.dnskey(zone, 0).KeyTag(); k.Tag != e.Tag || k.Tag == 0 {
		return Key{}, fmt.Errorf("the tag of this key is %d", k.Tag)
	}
	return k, nil
}

// plausible: the role and state are known, and there is the time since when.
func (k Key) plausible() error {
	if k.Role != CSK && k.Role != KSK && k.Role != ZSK {
		return fmt.Errorf("role %.20q: want csk, ksk or zsk", k.Role)
	}
	_, known := map[State]bool{Signing: true, Published: true, Ready: true, Active: true, Retired: true, Removed: true}[k.State]
	switch {
	case !known || k.State == Ready && k.Role == ZSK || k.State == Retired && k.Role == KSK || k.State == Signing && k.Role != CSK:
		return fmt.Errorf("state %.20q: not one of a %s", k.State, k.Role)
	case k.Since().IsZero() || k.Published.IsZero() && k.State != Signing:
		return fmt.Errorf("%s, but not since when", k.State)
	case len(k.DSBy) > maxActor:
		return fmt.Errorf("ds_by of %d octets: want at most %d", len(k.DSBy), maxActor)
	}
	for _, t := range k.times() {
		if y := t.Year(); !t.IsZero() && (y < 1970 || y > 9999) {
			return fmt.Errorf("a time in the year %d", y)
		}
	}
	return nil
}

// Encode is the key file of the set, with its private keys: it is a secret.
func (s Set) Encode() ([]byte, error) {
	f := file{Version: 1, Zone: s.Zone, Serial: s.Serial, Keys: make([]keyEntry, 0, len(s.Keys))}
	for _, k := range s.Keys {
		e := keyEntry{Tag: k.Tag, Role: k.Role, Algorithm: k.Algorithm, State: k.State, DSBy: k.DSBy,
			Signing: optional(k.Signing), Published: optional(k.Published), Ready: optional(k.Ready), DSSeen: optional(k.DSSeen), DSTTL: int64(k.DSTTL / time.Second),
			Active: optional(k.Active), Retired: optional(k.Retired), Removed: optional(k.Removed), Public: k.Public}
		if k.private != nil {
			e.Private = k.private().raw
		}
		f.Keys = append(f.Keys, e)
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("dnssec keys of %s: %w", s.Zone, err)
	}
	return append(b, '\n'), nil
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// ReadFile reads a key file. It refuses one that others than its owner may read.
func ReadFile(path string) (Set, error) {
	f, err := os.Open(path)
	if err != nil {
		return Set{}, fmt.Errorf("dnssec keys: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Set{}, fmt.Errorf("dnssec keys: %w", err)
	}
	if mode := st.Mode().Perm(); mode&0o077 != 0 {
		return Set{}, fmt.Errorf("dnssec keys %s: mode %#o lets others read private keys: chmod 600 it", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Set{}, fmt.Errorf("dnssec keys %s: %w", path, err)
	}
	s, err := Parse(b)
	if err != nil {
		return Set{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// WriteFile replaces a key file as a whole, for its owner only.
func (s Set) WriteFile(path string) error {
	b, err := s.Encode()
	if err != nil {
		return err
	}
	if err := store.WriteFile(path, b); err != nil {
		return fmt.Errorf("dnssec keys %s: %w", path, err)
	}
	return nil
}
