package nameserver

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/dnstest"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/steer/world"
	"bailiwick/store"
	"bailiwick/tools/exectest"
	"bailiwick/tools/logtest"
	"bailiwick/tools/nettest"
)

// quick is a policy of seconds, for caches that hold nothing for longer than one. What it
// gives a node to put keys into force, a machine that runs every other test too may take.
func quick() dnssec.Policy {
	p := dnssec.DefaultPolicy()
	p.KeyTTL, p.ZoneTTL, p.Propagation, p.ParentTTL, p.ParentPropagation = time.Second, 2*time.Second, 3*time.Second, time.Second, 2*time.Second
	return p
}

// pausable is a clock of the keys that can be stopped while a step is looked at.
type pausable struct {
	mu      sync.Mutex
	start   time.Time
	paused  time.Time // zero: it goes
	without time.Duration
}

func (p *pausable) read() (time.Time, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	if !p.paused.IsZero() {
		at = p.paused
	}
	running := at.Sub(p.start) - p.without
	return p.start.Round(0).Add(running), running
}

// during stops the clock while f runs.
func (p *pausable) during(f func()) {
	p.mu.Lock()
	p.paused = time.Now()
	p.mu.Unlock()
	f()
	p.mu.Lock()
	p.without += time.Since(p.paused)
	p.paused = time.Time{}
	p.mu.Unlock()
}

// rollover is two DNS nodes of one zone, a parent and a validator.
type rollover struct {
	t       *testing.T
	nodes   []*Server
	store   store.Store
	parent  *parentZone
	unbound netip.AddrPort
	clock   *pausable
	secure  int // answers that were authenticated
}

// startRollover starts all of it on loopback addresses that begin with net; first
// changes how the first keys are made.
func startRollover(t *testing.T, net string, first func(*Signing)) *rollover {
	t.Helper()
	buf := new(logtest.Buffer)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(buf.String())
		}
	})
	log := slog.New(slog.NewTextHandler(buf, nil))
	r := &rollover{t: t, store: store.NewMemory(), parent: newParent(t, net+".0.2"), clock: &pausable{start: time.Now()}}
	w := newWorld(t, r.store, log)
	how := Signing{Policy: quick(), Algorithm: dnssec.ECDSAP256, Parent: []netip.AddrPort{r.parent.addr}}
	if first != nil {
		first(&how)
	}
	for _, ip := range []string{net + ".0.1", net + ".0.3"} {
		c := config(t, w, r.store, ip, log)
		c.Node, c.DNSSEC = "dns-"+ip, &how
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		s.keys.every, s.keys.clock = 50*time.Millisecond, r.clock.read
		r.nodes = append(r.nodes, s)
		r.parent.children = append(r.parent.children, s.Addr())
	}
	r.clock.during(func() { // a busy machine takes longer to start all of it than the first step lasts
		register(t, r.store, w)
		run(t, w.Run)
		for _, s := range r.nodes {
			run(t, s.Run)
			<-s.Ready()
		}
		run(t, r.parent.follow)
		r.unbound = validator(t, net+".0.4", r.parent)
	})
	return r
}

// register puts an edge a region into the store. They are addresses in answers, no more.
func register(t *testing.T, st store.Store, w *world.Writer) {
	t.Helper()
	for i, reg := range w.Current().Map.Regions {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 1}), 443)
		e := steer.Edge{ID: region.EdgeID(string(reg.ID) + "-1"), Host: "https://" + string(reg.ID) + "-1.edge.media.example", Addr4: at.Addr(),
			Media: at, Turn: at, Turns: at, Admits: reg.Capacity.Admission}
		if _, err := st.Register(t.Context(), world.Instance(&e, reg.ID, at), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
}

// asked is every kind of answer: negative is a denial.
var asked = []struct {
	name     string
	qtype    uint16
	negative bool
}{
	{"media.example.", dns.TypeSOA, false}, {"media.example.", dns.TypeNS, false}, {"media.example.", dns.TypeDNSKEY, false},
	{"media.example.", dns.TypeNAPTR, false}, {"media.example.", dns.TypeTXT, true},
	{"join.media.example.", dns.TypeA, false}, {"join.media.example.", dns.TypeHTTPS, false}, {"join.media.example.", dns.TypeMX, true},
	{"de.join.media.example.", dns.TypeA, false}, {"fr.join.media.example.", dns.TypeA, false}, {"ca-qc.join.media.example.", dns.TypeA, false},
	{"ae.join.media.example.", dns.TypeA, true}, {"de.join.media.example.", dns.TypeAAAA, true}, {"zz.join.media.example.", dns.TypeA, true},
	{"_turn._udp.media.example.", dns.TypeSRV, false}, {"_turns._tcp.de.join.media.example.", dns.TypeSRV, false},
	{"de-fra-1.edge.media.example.", dns.TypeA, false}, {"de-fra-1.edge.media.example.", dns.TypeAAAA, true},
	{"edge.media.example.", dns.TypeA, true}, {"ns1.media.example.", dns.TypeA, false}, {"nope.media.example.", dns.TypeA, true},
}

// validates asks Unbound one question; secure wants the answer authenticated.
func (r *rollover) validates(i int, secure bool) {
	r.t.Helper()
	m, err := r.ask(i)
	switch {
	case err != nil:
		r.t.Errorf("%s %s: %v", asked[i].name, dns.Type(asked[i].qtype), err)
	case m.Rcode == dns.RcodeServerFailure, secure && !m.AuthenticatedData:
		r.t.Errorf("%s %s, keys %v, DS %v: bogus: %v", asked[i].name, dns.Type(asked[i].qtype), r.set().Keys, r.parent.delegated(), m)
	case secure:
		r.secure++
	}
}

// ask asks Unbound, up to three times at once. What is bogus stays so in its cache for a
// second; what was lost, or came too late on a busy machine, is there the next time.
func (r *rollover) ask(i int) (m *dns.Msg, err error) {
	name := asked[i].name
	if name == "nope.media.example." {
		name = fmt.Sprintf("n%d.media.example.", rand.Uint32())
	}
	q := new(dns.Msg).SetQuestion(name, asked[i].qtype).SetEdns0(1232, true)
	for range 3 {
		c := dns.Client{Timeout: 5 * time.Second}
		m, _, err = c.Exchange(q, r.unbound.String())
		if err == nil && m.Truncated {
			c.Net = "tcp"
			m, _, err = c.Exchange(q, r.unbound.String())
		}
		if err == nil && m.Rcode != dns.RcodeServerFailure {
			break
		}
	}
	return m, err
}

// trusted waits until Unbound has forgotten the time before the parent had a DS.
func (r *rollover) trusted() {
	r.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		left := 0
		for i := range asked {
			if m, err := r.ask(i); err != nil || !m.AuthenticatedData {
				left++
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the zone has a DS, and %d of %d answers are not authenticated", left, len(asked))
		}
	}
}

func (r *rollover) set() dnssec.Set {
	r.t.Helper()
	s, err := dnssec.Load(context.Background(), r.store, "media.example")
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// until validates all the time until the keys are in these states, while a region goes
// out and comes back.
func (r *rollover) until(secure bool, want string) {
	r.t.Helper()
	modes := []string{"down", "serving", "draining", "serving"}
	deadline := time.Now().Add(3 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for round := 0; ; round++ {
		<-tick.C
		for range 10 {
			if r.validates(rand.IntN(len(asked)), secure); states(r.set()) == want {
				break // it may not last for as many answers as that
			}
		}
		if round%5 == 0 {
			rec := steer.ModeRecord{Mode: modes[round/5%len(modes)], Reason: "test", Actor: "test"}
			if err := world.SetMode(context.Background(), r.store, region.ID("de-fra"), rec); err != nil {
				r.t.Fatal(err)
			}
		}
		done := false
		r.clock.during(func() {
			if done = states(r.set()) == want; !done {
				return
			}
			for i := range asked {
				r.validates(i, secure)
			}
			if secure {
				r.delv(want)
			}
		})
		if r.t.Failed() || !done && time.Now().After(deadline) {
			r.t.Fatalf("keys %v, DS %v: want %s", r.set().Keys, r.parent.delegated(), want)
		}
		if done {
			return
		}
	}
}

func states(s dnssec.Set) string {
	var list []string
	for _, k := range s.Keys {
		list = append(list, fmt.Sprintf("%s/%d %s", k.Role, k.Algorithm, k.State))
		if k.State == dnssec.Ready && !k.DSSeen.IsZero() {
			list[len(list)-1] += "+ds"
		}
	}
	return strings.Join(list, ", ")
}

// delv validates from the parent's key down with BIND, through Unbound without its
// validation.
func (r *rollover) delv(at string) {
	r.t.Helper()
	ds, err := r.parent.set.DS(r.parent.set.Keys[0], dns.SHA256)
	if err != nil {
		r.t.Fatal(err)
	}
	anchor := dnstest.Trust(r.t, ds)
	var g errgroup.Group
	g.SetLimit(4)
	for _, q := range asked {
		name := strings.TrimSuffix(q.name, ".")
		want := dnstest.Validated
		switch {
		case strings.Contains(q.name, "join"): // whether it has an edge is the region's
			want = "fully validated"
		case q.negative:
			want = dnstest.DenialValidated
		}
		g.Go(func() error {
			if out := anchor.Delv(r.t, r.unbound, name, dns.Type(q.qtype).String()); !strings.Contains(out, want) {
				r.t.Errorf("%s: delv %s %s: want %q:\n%s", at, name, dns.Type(q.qtype), want, out)
			}
			return nil
		})
	}
	g.Wait()
}

func (r *rollover) roll(a dnssec.Algorithm) {
	r.t.Helper()
	_, _, err := dnssec.Step(context.Background(), r.store, "media.example", nil, func(s dnssec.Set) (dnssec.Set, []dnssec.Event, error) {
		now, _ := r.clock.read()
		return dnssec.Roll(s, now, s.Entry(), a)
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestRollover is the life of a zone: delegated by its CDS, its CSK rolled, and rolled to
// another algorithm, by two nodes that share the keys. Unbound, strict about algorithms
// and from the parent's key down, validates all the time, and delv at each step.
func TestRollover(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute of policy")
	}
	t.Parallel()
	exectest.Need(t, "delv", "bind9-dnsutils")
	r := startRollover(t, nettest.Net(t), nil)
	r.until(false, "csk/13 published")
	r.until(false, "csk/13 ready+ds")
	r.until(false, "csk/13 active")
	r.clock.during(r.trusted)
	r.roll(0)
	r.until(true, "csk/13 active, csk/13 published")
	r.until(true, "csk/13 active, csk/13 ready+ds")
	r.until(true, "csk/13 removed, csk/13 active")
	r.roll(dnssec.Ed25519)
	r.until(true, "csk/13 removed, csk/13 active, csk/15 signing")
	r.until(true, "csk/13 removed, csk/13 active, csk/15 published")
	r.until(true, "csk/13 removed, csk/13 active, csk/15 ready+ds")
	r.until(true, "csk/13 removed, csk/13 retired, csk/15 active")
	r.until(true, "csk/13 removed, csk/13 removed, csk/15 active")
	if r.secure < 300 { // thousands, but on a machine that does much else
		t.Errorf("%d answers authenticated: the test tried little", r.secure)
	}
	t.Logf("%d answers authenticated during both rolls", r.secure)
}

// TestLifetime: keys of a KSK and a ZSK roll by themselves, without a hand.
func TestLifetime(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute of policy")
	}
	t.Parallel()
	exectest.Need(t, "delv", "bind9-dnsutils")
	r := startRollover(t, nettest.Net(t), func(c *Signing) {
		c.Split, c.Algorithm = true, dnssec.Ed25519
		c.Policy.Lifetime = 5 * time.Second
	})
	r.until(false, "ksk/15 active, zsk/15 active")
	r.clock.during(r.trusted)
	r.until(true, "ksk/15 active, zsk/15 active, ksk/15 published")
	r.until(true, "ksk/15 removed, zsk/15 active, ksk/15 active")
	r.refuses()
}

// refuses proves that the validator would have seen a break: what keys sign that no DS
// names is bogus. The parent does not poll meanwhile: it would see the CDS of one key set
// and the DNSKEY of another, and rightly complain.
func (r *rollover) refuses() {
	r.t.Helper()
	r.parent.polling.Lock()
	defer r.parent.polling.Unlock()
	r.clock.during(func() {
		set, err := dnssec.NewSet("media.example", dnssec.Ed25519, false, time.Now())
		if err != nil {
			r.t.Fatal(err)
		}
		k, err := dnssec.NewSigner(set, quick())
		if err != nil {
			r.t.Fatal(err)
		}
		for _, s := range r.nodes {
			s.dns.SetSigner(k)
		}
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(exectest.Patience); ; <-tick.C { // until the caches, of a second, have forgotten
			m, err := dns.Exchange(new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.media.example.", rand.Uint32()), dns.TypeA).SetEdns0(1232, true), r.unbound.String())
			if err == nil && m.Rcode == dns.RcodeServerFailure {
				return
			}
			if time.Now().After(deadline) {
				r.t.Fatalf("got %v, %v, want SERVFAIL: the test proves nothing", m, err)
			}
		}
	})
}
