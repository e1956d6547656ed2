package dnssec

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// scenarioPolicy has the round numbers that testdata/roll is written for.
func scenarioPolicy() Policy {
	p := DefaultPolicy()
	p.ZoneLifetime = 0
	return p
}

// scenario is one file of testdata/roll. Keys are named a, b, c … in the order in
// which they were made.
type scenario struct {
	t     *testing.T
	set   Set
	p     Policy
	names map[uint16]string
	keys  []Key // by name, as they were when made
}

func TestRollScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/roll/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := &scenario{t: t, p: scenarioPolicy(), names: map[uint16]string{}}
			for i, line := range strings.Split(string(b), "\n") {
				if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
					continue
				}
				s.run(fmt.Sprintf("%s:%d", path, i+1), line)
			}
		})
	}
}

func (s *scenario) run(at, line string) {
	s.t.Helper()
	call, want, _ := strings.Cut(line, "->")
	f := strings.Fields(call)
	switch f[0] {
	case "keys":
		a := Ed25519
		if f[2] == "13" {
			a = ECDSAP256
		}
		set, err := NewSet("media.example", a, f[1] == "ksk+zsk", epoch)
		if err != nil {
			s.t.Fatal(err)
		}
		s.adopt(set)
		return
	case "policy":
		key, value, _ := strings.Cut(f[1], "=")
		to := map[string]*time.Duration{"lifetime": &s.p.Lifetime, "zone-lifetime": &s.p.ZoneLifetime}[key]
		*to = s.duration(value)
		return
	}
	now := epoch.Add(s.duration(f[0]))
	if f[1] == "holds" {
		if got, want := s.holds(), strings.Join(f[2:], " "); got != want {
			s.t.Errorf("%s: got %s, want %s", at, got, want)
		}
		return
	}
	if got, want := s.call(now, f[1:]), strings.TrimSpace(want); got != want {
		s.t.Fatalf("%s: got %q, want %q", at, got, want)
	}
}

func (s *scenario) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// adopt names the keys that are new.
func (s *scenario) adopt(set Set) {
	for _, k := range set.Keys {
		if s.names[k.Tag] == "" {
			s.names[k.Tag] = string(rune('a' + len(s.names)))
			s.keys = append(s.keys, k)
		}
	}
	s.set = set
}

func (s *scenario) call(now time.Time, f []string) string {
	var set Set
	var events []Event
	var err error
	switch f[0] {
	case "next":
		set, events, err = Next(s.set, now, s.p, nil)
	case "roll":
		var a uint64
		if len(f) > 2 {
			if a, err = strconv.ParseUint(f[2], 10, 8); err != nil {
				s.t.Fatal(err)
			}
		}
		set, events, err = Roll(s.set, now, Role(f[1]), Algorithm(a))
	case "parent":
		set, events, err = Next(s.set, now, s.p, s.parent(f[1:]))
	default:
		s.t.Fatalf("no such call: %q", f)
	}
	if err != nil {
		return "refused"
	}
	if b, err := set.Encode(); err != nil {
		s.t.Fatal(err)
	} else if set, err = Parse(b); err != nil { // every step goes through the file
		s.t.Fatal(err)
	}
	s.adopt(set)
	var words []string
	for _, e := range events {
		words = append(words, s.names[e.Key]+" "+e.What)
	}
	if words == nil {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

func (s *scenario) parent(f []string) *Parent {
	p := &Parent{}
	digest := uint8(dns.SHA256)
	for _, option := range f[1:] {
		key, value, _ := strings.Cut(option, "=")
		switch {
		case key == "ttl":
			p.TTL = s.duration(value)
		case value == "sha1":
			digest = dns.SHA1
		case value == "sha384":
			digest = dns.SHA384
		}
	}
	for _, k := range s.keys {
		if slices.Contains(strings.Split(f[0], ","), s.names[k.Tag]) {
			ds := k.dnskey(s.set.Zone, 0).ToDS(digest)
			if slices.Contains(f, "digest=forged") {
				ds.Digest = strings.Repeat("00", 32)
			}
			p.DS = append(p.DS, ds)
		}
	}
	return p
}

func (s *scenario) holds() string {
	return fmt.Sprintf("dnskey=%s keys=%s zone=%s cds=%s", s.which(Key.inDNSKEY), s.which(Key.signsKeys), s.which(Key.signsZone),
		s.which(func(k Key) bool {
			return slices.ContainsFunc(s.set.Wanted(), func(w Key) bool { return w.Tag == k.Tag })
		}))
}

func (s *scenario) which(is func(Key) bool) string {
	var names []string
	for _, k := range s.set.Keys {
		if is(k) {
			names = append(names, s.names[k.Tag])
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ",")
}

// instant is what servers said at one time, as sets of key tags.
type instant struct {
	at                     time.Time
	ds, dnskey, keys, zone map[uint16]bool
	// algorithms has a bit for each of the same.
	algorithms struct{ ds, dnskey, keys, zone uint16 }
}

// TestRollNeverBogus plays random months of rolls against a parent that obeys the CDS
// at random, late, or never, and asks at each hour whether some validator, with any
// mix of answers that caches may still hold, would find a broken chain.
func TestRollNeverBogus(t *testing.T) {
	for seed := range uint64(8) {
		for _, split := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed %d split %t", seed, split), func(t *testing.T) {
				playParent(t, rand.New(rand.NewPCG(seed, 1)), split)
			})
		}
	}
}

func playParent(t *testing.T, chance *rand.Rand, split bool) {
	p := scenarioPolicy()
	p.Lifetime, p.ZoneLifetime = 100*time.Hour, 60*time.Hour
	p.KeyTTL, p.ZoneTTL, p.Propagation = 4*time.Hour, 7*time.Hour, 2*time.Hour
	if chance.IntN(2) == 0 {
		p.KeyTTL, p.ZoneTTL = p.ZoneTTL, p.KeyTTL
	}
	p.ParentTTL, p.ParentPropagation = 6*time.Hour, 3*time.Hour
	s, err := NewSet("media.example", Ed25519, split, epoch)
	if err != nil {
		t.Fatal(err)
	}
	past := []instant{{at: epoch.Add(-time.Hour)}} // the zone was not signed
	ds := map[uint16]bool{}
	rolled := 0
	for hour := range 1500 {
		now := epoch.Add(time.Duration(hour) * time.Hour)
		if w := s.Wanted(); len(w) > 0 && chance.IntN(6) == 0 { // RFC 7344: replace, or add first
			if chance.IntN(2) == 0 {
				ds = map[uint16]bool{}
			}
			ds[w[0].Tag] = true
		}
		var parent *Parent
		if chance.IntN(3) == 0 {
			parent = &Parent{}
			for _, k := range s.Keys {
				if ds[k.Tag] {
					parent.DS = append(parent.DS, k.dnskey(s.Zone, 0).ToDS(dns.SHA256))
				}
			}
		}
		// Not every node steps each hour, and some step often.
		for range chance.IntN(3) {
			var events []Event
			if s, events, err = Next(s, now, p, parent); err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if e.What == string(Removed) {
					rolled++
				}
			}
		}
		if role := (map[bool]Role{true: KSK, false: CSK})[split]; chance.IntN(300) == 0 && !s.rolling(role) { // by hand
			a := []Algorithm{ECDSAP256, Ed25519}[chance.IntN(2)]
			if split {
				a = 0
			}
			if s, _, err = Roll(s, now, role, a); err != nil {
				t.Fatal(err)
			}
		}
		i := instant{at: now, ds: map[uint16]bool{}, dnskey: map[uint16]bool{}, keys: map[uint16]bool{}, zone: map[uint16]bool{}}
		for tag := range ds {
			i.ds[tag] = true
		}
		for _, k := range s.Keys {
			i.dnskey[k.Tag], i.keys[k.Tag], i.zone[k.Tag] = k.inDNSKEY(), k.signsKeys(), k.signsZone()
			bit := uint16(1) << k.Algorithm
			for _, m := range []struct {
				in bool
				of *uint16
			}{{ds[k.Tag], &i.algorithms.ds}, {k.inDNSKEY(), &i.algorithms.dnskey}, {k.signsKeys(), &i.algorithms.keys}, {k.signsZone(), &i.algorithms.zone}} {
				if m.in {
					*m.of |= bit
				}
			}
		}
		past = append(past, i)
		past = slices.DeleteFunc(past, func(i instant) bool { return now.Sub(i.at) > p.ParentTTL+p.ParentPropagation })
		chains(t, past, now, p)
		if t.Failed() {
			return
		}
	}
	if rolled < 2 {
		t.Errorf("%d keys removed in 1500 h: nothing was tried", rolled)
	}
}

// chains checks every mix of a DS, a DNSKEY and a data RRset that a cache may hold. A
// node may still answer from the set of a Propagation ago; what was said at an hour
// was said until the next one.
//
// It is strict about algorithms, too, as RFC 6840 section 5.11 wants of a zone, and as
// some validators are: each that the DS has must sign the DNSKEY, and each of the
// DNSKEY the data.
func chains(t *testing.T, past []instant, now time.Time, p Policy) {
	within := func(i instant, d time.Duration) bool { return now.Sub(i.at) <= d }
	for _, ds := range past {
		if len(ds.ds) == 0 || !within(ds, p.ParentTTL+p.ParentPropagation) {
			continue
		}
		for _, key := range past {
			if !within(key, p.KeyTTL+p.Propagation) {
				continue
			}
			if ds.algorithms.ds&^key.algorithms.keys != 0 {
				t.Errorf("at %s: not every algorithm of the DS of %s signs the DNSKEY of %s", now, ds.at, key.at)
				return
			}
			if !common(ds.ds, key.dnskey, key.keys) {
				t.Errorf("at %s: DNSKEY of %s is signed by no key of the DS of %s", now, key.at, ds.at)
				return
			}
			for _, zone := range past {
				if !within(zone, p.ZoneTTL+p.Propagation) {
					continue
				}
				if key.algorithms.dnskey&^zone.algorithms.zone != 0 {
					t.Errorf("at %s: not every algorithm of the DNSKEY of %s signs the data of %s", now, key.at, zone.at)
					return
				}
				if !common(zone.zone, key.dnskey) {
					t.Errorf("at %s: data of %s is signed by no key of the DNSKEY of %s", now, zone.at, key.at)
					return
				}
			}
		}
	}
}

func common(sets ...map[uint16]bool) bool {
	for tag, in := range sets[0] {
		for _, s := range sets[1:] {
			in = in && s[tag]
		}
		if in {
			return true
		}
	}
	return false
}

func TestCheckNamesKeyAndTime(t *testing.T) {
	s, err := NewSet("media.example", Ed25519, false, epoch)
	if err != nil {
		t.Fatal(err)
	}
	p := scenarioPolicy()
	p.Lifetime = 1000 * time.Hour
	tag := fmt.Sprintf("key %d", s.Keys[0].Tag)
	at := func(state State, change func(*Key)) Set {
		c := s.clone()
		c.Keys[0].State = state
		change(&c.Keys[0])
		return c
	}
	for _, c := range []struct {
		name string
		set  Set
		now  time.Time
		want []string // none: no finding
	}{
		{"new", s, epoch, nil},
		{"clock half an hour behind", s, epoch.Add(-30 * time.Minute), nil},
		{"clock two hours behind", s, epoch.Add(-2 * time.Hour), []string{tag, "not yet valid", "2026-11-01T00:00:00Z", "2026-10-31T22:00:00Z"}},
		{"waiting for the parent", at(Ready, func(k *Key) { k.Ready = epoch }), epoch.Add(26 * time.Hour), []string{tag, "waits for its DS", "2026-11-01T00:00:00Z"}},
		{"waiting, but not long", at(Ready, func(k *Key) { k.Ready = epoch }), epoch.Add(24 * time.Hour), nil},
		{"outlived", at(Active, func(k *Key) { k.Active = epoch }), epoch.Add(1002 * time.Hour), []string{tag, "expired", "2026-12-12T16:00:00Z"}},
		{"outlived just now", at(Active, func(k *Key) { k.Active = epoch }), epoch.Add(1001 * time.Hour), nil},
		{"its DS was seen", at(Ready, func(k *Key) { k.Ready, k.DSSeen = epoch, epoch }), epoch.Add(26 * time.Hour), nil},
		{"alive", at(Active, func(k *Key) { k.Active = epoch }), epoch.Add(999 * time.Hour), nil},
		{"no key", Set{Zone: "media.example."}, epoch, []string{"media.example.", "no csk or ksk"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.set.Check(c.now, p)
			if (err != nil) != (c.want != nil) {
				t.Fatalf("got %v, want words %q", err, c.want)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
			if len(c.set.Keys) == 0 {
				return
			}
			signer, err := NewSigner(c.set, p) // whatever the finding, it signs
			if err != nil {
				t.Fatal(err)
			}
			if sigs, _, err := signer.Sign(c.set.DNSKEY(p), c.now); err != nil || len(sigs) != 1 {
				t.Errorf("signed %d, %v", len(sigs), err)
			}
		})
	}
	rolling, _, err := Roll(at(Active, func(k *Key) { k.Active = epoch }), epoch.Add(1001*time.Hour), CSK, 0)
	if err == nil {
		err = rolling.Check(epoch.Add(1002*time.Hour), p)
	}
	if err != nil {
		t.Errorf("outlived, and its successor is published: got %v", err)
	}
}
