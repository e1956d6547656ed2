package geodns

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/zonefile"
	"bailiwick/region"
	"bailiwick/steer"
)

// prepared opens a server that signs ahead in worlds of its own, and gives a function
// that swaps the world and waits until queries see it.
func prepared(t *testing.T, k *dnssec.Signer, change ...func(*Config)) (*Server, func(*steer.World)) {
	t.Helper()
	var newest atomic.Pointer[steer.World]
	newest.Store(demo())
	changed := make(chan struct{}, 1)
	s := listen(t, append(change, func(c *Config) {
		c.World = newest.Load
		c.Changes = func() (<-chan struct{}, func()) { return changed, func() {} }
	})...)
	s.SetSigner(k)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.prepare(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	wait := func() {
		comes(t, s, func(v *view) bool { return s.preparing.Load() && v.world == newest.Load() })
	}
	wait()
	return s, func(w *steer.World) {
		newest.Store(w)
		changed <- struct{}{}
		wait()
	}
}

// comes waits for a view: it tells nobody that it is there but the queries.
func comes(t *testing.T, s *Server, is func(*view) bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !is(s.view.Load()); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the new view does not come")
		}
	}
}

// A World that decides as the last one did empties no view, whoever makes the views; one
// that may decide otherwise does.
func TestViewsOutliveWorldsThatDecideAlike(t *testing.T) {
	of := func(generation, answers uint64) *steer.World {
		w := demo()
		w.Generation, w.Answers = generation, answers
		return w
	}
	soa := ask("media.example.", dns.TypeSOA)
	var newest atomic.Pointer[steer.World]
	newest.Store(of(1, 1))
	changed := make(chan struct{})
	lazy := listen(t, func(c *Config) { c.World = newest.Load })
	ahead := listen(t, func(c *Config) {
		c.World, c.Changes = newest.Load, func() (<-chan struct{}, func()) { return changed, func() {} }
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { ahead.prepare(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	comes(t, ahead, func(v *view) bool { return ahead.preparing.Load() && v.world == newest.Load() })
	swap := func(w *steer.World) {
		newest.Store(w)
		for range 2 { // the second is taken when the first has been looked at
			changed <- struct{}{}
		}
	}
	exchange(t, lazy, pack(t, soa), berlin, overUDP)
	was := []*view{lazy.view.Load(), ahead.view.Load()}
	swap(of(2, 1))
	for i, s := range []*Server{lazy, ahead} {
		if exchange(t, s, pack(t, soa), berlin, overUDP); s.view.Load() != was[i] {
			t.Errorf("server %d: a World that decides alike emptied the view", i)
		}
	}
	for _, w := range []*steer.World{of(3, 2), of(4, 0), of(5, 0)} { // 0: nobody knows
		swap(w)
		for i, s := range []*Server{lazy, ahead} {
			if exchange(t, s, pack(t, soa), berlin, overUDP); s.view.Load().world != w {
				t.Errorf("server %d: the view is of generation %d, want %d", i, s.view.Load().world.Generation, w.Generation)
			}
		}
	}
}

// Where a preparer makes the views, what else changes than the World comes too.
func TestPreparedInputs(t *testing.T) {
	_, k := keys(t, false)
	s, _ := prepared(t, k)
	s.SetSigner(nil)
	comes(t, s, func(v *view) bool { return v.signer == nil })
}

// A preparer signs anew while there is still a third of the time left, and not before.
func TestPreparedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, k := keys(t, false)
		s, _ := prepared(t, k)
		first := s.view.Load()
		third := first.until.Sub(first.from) / 3
		time.Sleep(time.Until(first.until.Add(-third - lookEvery)))
		synctest.Wait()
		if s.view.Load() != first {
			t.Error("signed anew too early")
		}
		time.Sleep(3 * lookEvery)
		synctest.Wait()
		if v := s.view.Load(); !v.from.After(first.from) {
			t.Errorf("signatures are good until %s still, want new ones", v.until)
		}
	})
}

// The pairs of a large region's edges are too many to sign ahead.
func TestPairsAreBounded(t *testing.T) {
	w := demo()
	w.Regions = w.Regions[:1]
	w.Regions[0].Edges = nil
	for i := range 60 {
		w.Regions[0].Edges = append(w.Regions[0].Edges, steer.Edge{ID: region.EdgeID(fmt.Sprint("e", i)), Addr4: netip.AddrFrom4([4]byte{198, 18, 0, byte(i)})})
	}
	s := listen(t, world(w))
	_, k := keys(t, false)
	s.SetSigner(k)
	(&signer{s: s, v: s.current(), now: now}).byPlace()
	// Two edges are one set, whichever is first.
	if got := s.signatures.Len(); got < maxAhead/2 || got > maxAhead {
		t.Errorf("%d signatures of 1830 sets, want at most %d and not much less", got, maxAhead)
	}
}

// No answer of a name that exists has to wait for a signature, whatever the client's
// place and the regions' modes; a denial waits once.
func TestSignedAhead(t *testing.T) {
	_, k := keys(t, false)
	s, change := prepared(t, k, withRecords(t, zoneFile))
	names := []string{"media.example.", "join.media.example.", "_turn._udp.join.media.example.", "_stun._udp.media.example.", "_turns._tcp.media.example.",
		"de.join.media.example.", "ae.join.media.example.", "ca-qc.join.media.example.", "_turn._udp.fr.join.media.example.", "de-fra-1.edge.media.example.", "www.media.example."}
	// The SOA first: a denial would sign it.
	types := []uint16{dns.TypeSOA, dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSRV, dns.TypeNAPTR, dns.TypeTXT, dns.TypeMX, dns.TypeNS, dns.TypeDNSKEY, dns.TypeCAA}
	clients := []string{berlin, "203.0.113.1", "198.51.100.1", "2001:db8:1000::1", nowhere}
	for _, mode := range []steer.Mode{steer.Serving, steer.Down, steer.Draining} {
		w := demo()
		w.Generation += uint64(mode)
		for _, id := range []string{"de-ber", "fr-par"} {
			w.Regions[w.RegionIndex(region.ID(id))].Mode = mode
		}
		change(w)
		made, denied := s.signatures.Len(), s.denials.Len()
		for _, name := range names {
			for _, qtype := range types {
				for _, client := range clients {
					m := exchange(t, s, pack(t, ask(name, qtype, do)), client, overUDP)
					if len(m.Answer)+len(m.Ns) == 0 {
						t.Fatalf("%s %s: got %v, want an answer or a denial", name, dns.Type(qtype), m)
					}
					n, d := s.signatures.Len(), s.denials.Len()
					if len(m.Answer) > 0 && n != made || d != denied {
						t.Fatalf("%s, %s %s from %s: signed on the query's way", mode, name, dns.Type(qtype), client)
					}
					made = n
				}
			}
		}
	}
}

// What was signed ahead is gone through again long before its time is over, and at once
// when the clock has gone back.
func TestSignedAgain(t *testing.T) {
	s := listen(t)
	at := now
	s.now = func() time.Time { return at }
	_, k := keys(t, false)
	s.SetSigner(k)
	exchange(t, s, pack(t, ask("media.example.", dns.TypeSOA)), berlin, overUDP) // the view has a world now
	v := s.current()
	third := v.until.Sub(v.from) / 3
	var known ahead
	for _, r := range []struct {
		name  string
		after time.Duration // since the row before
		again bool
	}{{"first", 0, true}, {"soon", third, false}, {"later", time.Second, true}, {"back", -time.Second, true}} {
		at = at.Add(r.after)
		s.signAhead(v, &known)
		if again := known.at.Equal(at); again != r.again {
			t.Errorf("%s: all signed again %v, want %v", r.name, again, r.again)
		}
	}
	at = at.Add(time.Second)
	w := demo()
	w.Regions[0].Edges[0].Addr4 = netip.MustParseAddr("198.18.99.1")
	s.viewing.Lock()
	v = s.newView(w)
	s.viewing.Unlock()
	if s.signAhead(v, &known); !known.at.Equal(at) {
		t.Error("an edge has another address: not all is signed again")
	}
}

// A clock that jumps makes answers be signed for its time, at once.
func TestClockJumps(t *testing.T) {
	_, k := keys(t, false)
	s := listen(t)
	var clock atomic.Int64
	clock.Store(now.Unix())
	s.now = func() time.Time { return time.Unix(clock.Load(), 0) }
	s.SetSigner(k)
	packet := pack(t, ask("join.media.example.", dns.TypeA, do))
	for _, at := range []time.Time{now, now.AddDate(1, 0, 0), now.AddDate(-1, 0, 0), now} {
		clock.Store(at.Unix())
		for range 3 {
			b := s.respond(nil, packet, netip.MustParseAddr(berlin), overUDP)
			var m dns.Msg
			if err := m.Unpack(b); err != nil {
				t.Fatal(err)
			}
			sig, ok := m.Answer[len(m.Answer)-1].(*dns.RRSIG)
			if !ok || !sig.ValidityPeriod(at) {
				t.Fatalf("at %s: got %v, want a signature that is valid", at, m.Answer)
			}
		}
	}
}

// A view that was overtaken while it was made never comes back.
func TestOvertakenViewIsDropped(t *testing.T) {
	s := listen(t)
	_, k := keys(t, false)
	old := s.view.Load()
	s.viewing.Lock()
	v := s.newView(old.world)
	s.viewing.Unlock()
	s.SetSigner(k)
	if s.replace(old, v) || s.view.Load().signer != k {
		t.Error("an unsigned view took the place of the signed one")
	}
}

// A change that comes while answers are signed ahead is signed ahead too, and changes
// that come faster than signatures hold nothing up.
func TestChangesWhileSigning(t *testing.T) {
	for _, r := range []struct {
		name  string
		times int
	}{{"one change", 1}, {"with each round", 1 << 30}} {
		t.Run(r.name, func(t *testing.T) {
			var files []*zonefile.Records
			for _, text := range []string{"_acme-challenge TXT first\n", "_acme-challenge TXT second\nlate TXT signed\n"} {
				z, err := zonefile.Parse(zone, "zone.db", []byte(text))
				if err != nil {
					t.Fatal(err)
				}
				files = append(files, z)
			}
			s := listen(t, func(c *Config) {
				c.Records = files[0]
				c.Changes = func() (<-chan struct{}, func()) { return nil, func() {} }
			})
			_, k := keys(t, false)
			s.SetSigner(k)
			exchange(t, s, pack(t, ask("media.example.", dns.TypeSOA)), berlin, overUDP) // the view has a world now
			var first atomic.Pointer[view]                                               // that a change made
			n := 0
			s.acme = func(string) []string { // asked in each round, by the preparer alone
				if n < r.times {
					n++
					s.SetRecords(files[n%2])
					first.CompareAndSwap(nil, s.view.Load())
				}
				return nil
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { s.prepare(ctx); close(done) }()
			defer func() { cancel(); <-done }()
			for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				if v := first.Load(); v != nil && s.preparing.Load() && s.view.Load() != v {
					break
				}
				if time.Now().After(limit) {
					t.Fatal("no view with signatures comes")
				}
			}
			if r.times > 1 {
				return
			}
			made := s.signatures.Len()
			if m := exchange(t, s, pack(t, ask("late.media.example.", dns.TypeTXT, do)), berlin, overUDP); len(m.Answer) != 2 || s.signatures.Len() != made {
				t.Errorf("got %v and %d signatures, want the answer and %d", m.Answer, s.signatures.Len(), made)
			}
		})
	}
}
