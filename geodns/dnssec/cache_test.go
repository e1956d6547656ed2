package dnssec

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestSignaturesAreRemembered(t *testing.T) {
	set, s := newSigner(t, ECDSAP256, false)
	c := NewSignatures(4)
	a := rrs(t, "join.media.example. 5 IN A 192.0.2.1")
	first, renew, err := c.Sign(s, a, epoch)
	if err != nil {
		t.Fatal(err)
	}
	plain, _, _ := s.Sign(a, epoch)
	if first[0].String() != plain[0].String() {
		t.Errorf("got %s, without a cache %s", first[0], plain[0])
	}
	first[0].(*dns.RRSIG).Signature = "AAAA" // the caller's own
	second, _, _ := c.Sign(s, rrs(t, "JOIN.media.example. 5 IN A 192.0.2.1"), epoch)
	if second[0].Header().Name != "JOIN.media.example." || second[0].(*dns.RRSIG).Signature != plain[0].(*dns.RRSIG).Signature || c.Len() != 1 {
		t.Errorf("got %s of %d remembered, want %s of 1", second[0], c.Len(), plain[0])
	}

	t.Run("renewed in time", func(t *testing.T) {
		for _, at := range []time.Time{renew, renew.Add(-30 * 24 * time.Hour), renew.Add(-time.Second), epoch} {
			sigs, until, err := c.Sign(s, a, at)
			if err != nil || !until.After(at) {
				t.Fatalf("at %s: until %s, %v", at, until, err)
			}
			verify(t, set, sigs, a, at)
		}
		if c.Len() != 1 {
			t.Errorf("%d remembered, want 1", c.Len())
		}
	})
	t.Run("another key", func(t *testing.T) {
		other, s2 := newSigner(t, ECDSAP256, false)
		sigs, _, err := c.Sign(s2, a, epoch)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, other, sigs, a, epoch)
	})
	t.Run("another policy", func(t *testing.T) {
		p := DefaultPolicy()
		p.Validity += 24 * time.Hour
		s2, err := NewSigner(set, p)
		if err != nil {
			t.Fatal(err)
		}
		want, _, _ := s2.Sign(a, epoch)
		if sigs, _, err := c.Sign(s2, a, epoch); err != nil || sigs[0].String() != want[0].String() {
			t.Errorf("got %v, %v, want %v", sigs, err, want)
		}
	})
	t.Run("bounded, the oldest first", func(t *testing.T) {
		b, _ := s.canonical(a)
		used := c.get(cacheKey(s, a, b), epoch)
		for i := range 20 {
			if _, _, err := c.Sign(s, rrs(t, fmt.Sprintf("n%d.media.example. 5 IN A 192.0.2.1", i)), epoch); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.Sign(s, a, epoch); err != nil { // stays the newest
				t.Fatal(err)
			}
		}
		if c.Len() != 4 || len(c.byHash) != 4 {
			t.Errorf("%d and %d remembered, want 4", c.Len(), len(c.byHash))
		}
		if got := c.get(cacheKey(s, a, b), epoch); got == nil || got != used {
			t.Error("the most used was forgotten")
		}
	})
}

// TestExpiresOfWhatIsServed: what nobody asks for any more says nothing.
func TestExpiresOfWhatIsServed(t *testing.T) {
	_, s := newSigner(t, Ed25519, false)
	c := NewSignatures(4)
	if got := c.Expires(epoch); !got.IsZero() {
		t.Errorf("before there is any: got %s", got)
	}
	later := epoch.AddDate(1, 0, 0)
	var want time.Time
	for name, at := range map[string]time.Time{"gone": epoch, "asked": later} {
		sigs, _, err := c.Sign(s, rrs(t, name+".media.example. 5 IN A 192.0.2.1"), at)
		if err != nil {
			t.Fatal(err)
		}
		if at == later {
			want = time.Unix(int64(sigs[0].(*dns.RRSIG).Expiration), 0)
		}
	}
	if got := c.Expires(later.Add(-time.Hour)); !got.Equal(want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSignaturesConcurrently is for the race detector.
func TestSignaturesConcurrently(t *testing.T) {
	set, s := newSigner(t, Ed25519, false)
	c := NewSignatures(8)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 50 {
				rrset := []dns.RR{NSEC(Name{Owner: fmt.Sprintf("n%d.media.example.", (i+worker)%12), TTL: 5})}
				sigs, _, err := c.Sign(s, rrset, epoch)
				if err != nil {
					t.Error(err)
					return
				}
				verify(t, set, sigs, rrset, epoch)
			}
		})
	}
	wg.Wait()
	if c.Len() != 8 {
		t.Errorf("%d remembered, want 8", c.Len())
	}
}

func BenchmarkDeny(b *testing.B) {
	for _, a := range []Algorithm{ECDSAP256, Ed25519} {
		_, s := newSigner(b, a, false)
		for _, names := range []int{1, 100000} {
			b.Run(fmt.Sprintf("algorithm %d, %d names", a, names), func(b *testing.B) {
				c := NewSignatures(1000)
				for i := range b.N {
					if _, _, err := c.Deny(s, Name{Owner: fmt.Sprintf("n%d.media.example.", i%names), TTL: 5}, epoch); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
