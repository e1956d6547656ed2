package geodns

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

const (
	// lookEvery is how often a preparer looks at the clock, which may have jumped.
	lookEvery = time.Second
	// maxAhead bounds the pairs of edges whose answers are signed ahead: those of
	// regions of some thirty edges. Beyond it the first query signs.
	maxAhead = 1 << 10
)

// prepare makes the views until ctx ends: all that steers is signed before a query
// sees a new one, so that no query waits for a signature.
func (s *Server) prepare(ctx context.Context) {
	var worlds <-chan struct{}
	if s.changes != nil {
		c, cancel := s.changes()
		defer cancel()
		worlds = c
	}
	defer s.preparing.Store(false)
	var known ahead
	var made *view // the last one of this loop
	for ctx.Err() == nil {
		old := s.view.Load()
		w := s.world()
		s.viewing.Lock()
		v := s.newView(w)
		s.viewing.Unlock()
		replaced := true
		if old != made || !alike(v.world, old.world) || v.inputs != old.inputs || !old.fresh(s.now().Add(v.until.Sub(v.from)/3)) {
			s.signAhead(v, &known)
			made, replaced = v, s.replace(old, v)
		}
		s.preparing.Store(s.changes != nil)
		if !replaced { // as none of a preparer's is
			continue
		}
		look := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
		case <-worlds:
		case <-s.changed:
		case <-look.C:
		}
		look.Stop()
	}
}

// replace puts v in old's place, unless that was taken while v was made. Inputs that
// changed meanwhile are no reason to wait: v is newer than old, and changes that come
// faster than signatures would else keep all of them from the queries.
func (s *Server) replace(old, v *view) bool {
	if !s.view.CompareAndSwap(old, v) {
		return false
	}
	s.emptied()
	return true
}

// ahead is what has been signed: by what, when, and for which edges.
type ahead struct {
	inputs
	at     time.Time
	edges  string
	pinned map[residency.Jurisdiction]string // the edges that its names lead to
}

// signAhead makes the signatures of v's answers, which s.signatures remembers, or of as
// many of them as changed since k.
func (s *Server) signAhead(v *view, k *ahead) {
	if v.signer == nil || v.world == nil {
		*k = ahead{}
		return
	}
	defer func() {
		if r := recover(); r != nil { // then queries sign
			s.panicked(r)
		}
	}()
	w := signer{s: s, v: v, now: s.now()}
	edges := wordsOf(v.world)
	age := w.now.Sub(k.at)
	if all := v.inputs != k.inputs || edges != k.edges || age < 0 || age > v.until.Sub(v.from)/3; all {
		*k = ahead{inputs: v.inputs, at: w.now, edges: edges, pinned: map[residency.Jurisdiction]string{}}
		w.static()
		w.byPlace()
	}
	w.name("", dns.TypeSOA) // its serial is the view's
	w.pinned(k.pinned)
}

// wordsOf is all that answers say of edges.
func wordsOf(w *steer.World) string {
	var b strings.Builder
	for i := range w.Regions {
		for _, e := range w.Regions[i].Edges {
			fmt.Fprintln(&b, i, e.ID, e.Addr4, e.Addr6, e.Turn, e.Turns, e.Host)
		}
	}
	return b.String()
}

// signer signs the answers of one view.
type signer struct {
	s   *Server
	v   *view
	now time.Time
}

// The types that names which steer have.
var (
	hostTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS}
	relays    = []string{"\x05_turn\x04_udp", "\x05_stun\x04_udp", "\x06_turns\x04_tcp"}
)

// pinnable are the codes whose names are signed ahead: those of the law, and subdivisions
// that have a place of their own. The others are thousands that lead where their country's
// does; the first query signs.
func pinnable(l *residency.Law) []residency.Jurisdiction {
	all := l.Jurisdictions()
	for _, j := range region.Subdivisions() {
		if l.Maps(j.Country()) {
			all = append(all, j)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func pinnedName(code residency.Jurisdiction) string {
	return label(strings.ToLower(string(code))) + label("join")
}

func (w *signer) query(rel string, qtype uint16) *query {
	q := &query{view: w.v, qtype: qtype, class: dns.ClassINET, do: true}
	if _, ok := w.s.readName([]byte(rel+string(w.s.wire)), 0, q); !ok {
		panic(fmt.Errorf("sign ahead: %q is no name", rel))
	}
	q.spell(w.s)
	return q
}

// name signs answers that do not depend on the client. rel is the labels before the
// zone's as in a packet.
func (w *signer) name(rel string, types ...uint16) {
	for _, t := range types {
		q := w.query(rel, t)
		w.sign(q, w.s.answer(q))
	}
}

// steered signs the answers of a choice: how words it.
func (w *signer) steered(rel string, how func(*query, *choice) answer, c *choice, types ...uint16) {
	for _, t := range types {
		q := w.query(rel, t)
		a := how(q, c)
		a.serial = w.v.serial
		w.sign(q, a)
	}
}

// sign leaves denials to the queries: there are as many as types that anybody may ask
// for, and each is remembered.
func (w *signer) sign(q *query, a answer) {
	if len(a.rrs) > 0 {
		w.s.sign(q, &a, w.now)
	}
}

// static signs the apex, the zone file, and the edges' own names.
func (w *signer) static() {
	for rel, n := range w.v.records.All() {
		if strings.HasPrefix(rel, "\x01*") { // signed for each name that is asked
			continue
		}
		w.name(rel, n.Types()...)
	}
	w.name("", dns.TypeNS, dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY, dns.TypeNAPTR)
	w.name(label("ns1"), dns.TypeA, dns.TypeAAAA)
	w.name(label("join"), dns.TypeNAPTR)
	for _, j := range pinnable(w.v.world.Law) {
		w.name(pinnedName(j), dns.TypeNAPTR)
	}
	for i := range w.v.world.Regions {
		for _, e := range w.v.world.Regions[i].Edges {
			w.name(label(string(e.ID))+label("edge"), hostTypes...)
		}
	}
}

func label(s string) string { return string(rune(len(s))) + s }

// byPlace signs what the client's place may lead to: no edge, any, or any two of a region.
func (w *signer) byPlace() {
	left := maxAhead
	try := func(edges ...*steer.Edge) {
		if left--; left < 0 {
			return
		}
		c := &choice{outcome: &outcome{}}
		copy(c.edges[:], edges)
		w.steered(label("join"), w.s.placed, c, hostTypes...)
		for _, relay := range relays {
			w.steered(relay, w.s.placed, c, dns.TypeSRV)
			w.steered(relay+label("join"), w.s.placed, c, dns.TypeSRV)
		}
	}
	try()
	for i := range w.v.world.Regions {
		edges := w.v.world.Regions[i].Edges
		for k := range edges {
			try(&edges[k])
			for l := range edges {
				if l != k {
					try(&edges[k], &edges[l])
				}
			}
		}
	}
}

// pinned signs the names of jurisdictions whose edges are not those in last, and of
// all where it is empty.
func (w *signer) pinned(last map[residency.Jurisdiction]string) {
	for _, j := range pinnable(w.v.world.Law) {
		as, err := residency.ParseJurisdiction(string(j)) // us-pr is pr
		if err != nil {
			continue
		}
		c := w.s.chooseFor(w.v, as)
		var edges strings.Builder
		for _, e := range c.edges {
			if e != nil {
				edges.WriteString(string(e.ID) + " ")
			}
		}
		is := edges.String()
		if was, ok := last[j]; ok && was == is {
			continue
		}
		last[j] = is
		if is == "" {
			continue
		}
		rel := pinnedName(j)
		w.steered(rel, w.s.worded, c, hostTypes...)
		for _, relay := range relays {
			w.steered(relay+rel, w.s.worded, c, dns.TypeSRV)
		}
	}
}
