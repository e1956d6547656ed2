package dnssec

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestCheckParent: what an operator is told when the parent and the keys do not fit,
// as after the restore of an old backup.
func TestCheckParent(t *testing.T) {
	s, err := NewSet("media.example", Ed25519, false, epoch)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := newSigner(t, ECDSAP256, false)
	ds := func(sets ...Set) *Parent {
		p := &Parent{}
		for _, s := range sets {
			d, err := s.DS(s.Keys[0], dns.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			p.DS = append(p.DS, d)
		}
		return p
	}
	odd := func(change func(*dns.DS)) *Parent {
		p := ds(s)
		change(p.DS[0])
		return p
	}
	in := func(state State, changes ...func(*Key)) Set {
		c := s.clone()
		c.Keys[0].State = state
		for _, f := range changes {
			f(&c.Keys[0])
		}
		return c
	}
	for _, c := range []struct {
		name   string
		set    Set
		parent *Parent
		want   string // "": no finding
	}{
		{"not delegated yet", in(Published), ds(), ""},
		{"waits, and the parent has none", in(Ready), ds(), ""},
		{"delegated", in(Active), ds(s), ""},
		{"the DS is gone", in(Active), ds(), "the parent has no DS"},
		{"keys from an old backup", in(Active), ds(other), "and no key of this set: validators refuse the zone"},
		{"the key is gone", in(Removed), ds(s), "and no key of this set"},
		{"the key does not sign the keys yet", in(Signing), ds(s), "and no key of this set"},
		{"another tag on its digest", in(Active), odd(func(d *dns.DS) { d.KeyTag++ }), "and no key of this set"},
		{"another algorithm on its digest", in(Active), odd(func(d *dns.DS) { d.Algorithm = uint8(ECDSAP256) }), "and no key of this set"},
		{"one too many, of its tag", in(Active), func() *Parent {
			p := ds(s)
			p.DS = append(p.DS, odd(func(d *dns.DS) { d.Algorithm = uint8(ECDSAP256) }).DS...)
			return p
		}(), "remove those"},
		{"one too many", in(Active), ds(s, other), "remove those"},
		{"one too many in a roll", in(Ready), ds(s, other), "remove those"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.set.CheckParent(c.parent)
			if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestHistoryIsBounded: a zone that rolls for years keeps a key file that can be read.
func TestHistoryIsBounded(t *testing.T) {
	p := scenarioPolicy()
	p.ZoneLifetime = p.Shortest()
	s, err := NewSet("media.example", Ed25519, true, epoch)
	if err != nil {
		t.Fatal(err)
	}
	newest := s.Keys[1].Tag // of those that were removed
	for hour := range 200 * 24 {
		was := s
		if s, _, err = Next(s, epoch.Add(time.Duration(hour)*time.Hour), p, nil); err != nil {
			t.Fatal(err)
		}
		for _, k := range s.Keys {
			if k.State == Removed && !slices.ContainsFunc(was.Keys, func(w Key) bool { return w.Tag == k.Tag && w.State == Removed }) {
				newest = k.Tag
			}
		}
	}
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if s, err = Parse(b); err != nil {
		t.Fatal(err)
	}
	var removed []uint16
	for _, k := range s.Keys {
		if k.State == Removed {
			removed = append(removed, k.Tag)
		}
	}
	if len(removed) != history || removed[history-1] != newest {
		t.Errorf("removed keys %d are remembered, want %d, the last %d", removed, history, newest)
	}
}

// TestSerial: of two sets the one of more changes is the newer, and a call that
// changes nothing is none.
func TestSerial(t *testing.T) {
	s, err := NewSet("media.example", Ed25519, false, epoch)
	if err != nil || s.Serial != 1 {
		t.Fatal(s.Serial, err)
	}
	p := DefaultPolicy()
	ds, _ := s.DS(s.Keys[0], dns.SHA256)
	for i, c := range []struct {
		after  time.Duration
		parent *Parent
		want   uint64
	}{
		{0, nil, 1}, {2 * time.Hour, nil, 2}, {2 * time.Hour, nil, 2},
		{3 * time.Hour, &Parent{DS: []*dns.DS{ds}, By: "alice"}, 3}, {4 * time.Hour, &Parent{}, 4}, // seen, and gone
	} {
		if s, _, err = Next(s, epoch.Add(c.after), p, c.parent); err != nil || s.Serial != c.want {
			t.Errorf("call %d: serial %d, %v, want %d", i, s.Serial, err, c.want)
		}
		if by := s.Keys[0].DSBy; (by == "alice") != (c.want == 3) {
			t.Errorf("call %d: seen by %q", i, by)
		}
	}
}
