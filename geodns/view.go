package geodns

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
	"bailiwick/geodns/geo"
	"bailiwick/geodns/zonefile"
	"bailiwick/steer"
)

// view is all that an answer depends on beside its query, at one instant. A change of
// any of it makes a new view, empty of what the last one had worked out. What is worked
// out is remembered in bounded space, by slots that overwrite each other, so that a
// query meets no lock.
type view struct {
	world *steer.World
	inputs
	serial      uint32    // of the SOA
	from, until time.Time // while its signatures are fresh; zero: it has none

	places   [placeSlots]atomic.Pointer[decided]
	networks [networkSlots]atomic.Pointer[named]
	bodies   [bodySlots]atomic.Pointer[body]

	mu       sync.Mutex // only who decides takes it
	outcomes map[[maxEdges]*steer.Edge]*outcome
}

const (
	// placeSlots is for every country, and the cities that most are asked from. With all
	// 256 keys of each they grow to 8 MiB.
	placeSlots = 1 << 12
	// networkSlots is for networks that are not all in one place that is known: many
	// ranges are longer than the /24 or /56 that resolvers send.
	networkSlots = 1 << 13
	// bodySlots is for the names that steer, times their types: some 180 that are asked often,
	// and 2,600 of subdivisions.
	bodySlots = 1 << 13
	// maxEdges is how many edges a choice keeps, for the case that some have no address
	// of a family, or no relay.
	maxEdges = 4
)

// inputs are what a view is of, beside the World.
type inputs struct {
	table   *geo.Table
	records *zonefile.Records
	signer  *dnssec.Signer // nil: the zone is unsigned
}

// set changes the inputs. The next query sees it; where answers are signed ahead, the
// next one after that.
func (s *Server) set(change func(*inputs)) {
	s.viewing.Lock()
	defer s.viewing.Unlock()
	change(&s.inputs)
	if !s.preparing.Load() {
		var w *steer.World
		if v := s.view.Load(); v != nil {
			w = v.world
		}
		s.view.Store(s.newView(w))
		s.emptied()
	}
	s.outdated()
}

// outdated wakes the preparer.
func (s *Server) outdated() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// newView is of w and the inputs that hold now. The caller holds viewing.
func (s *Server) newView(w *steer.World) *view {
	v := &view{world: w, inputs: s.inputs, serial: s.nextSerial(), outcomes: map[[maxEdges]*steer.Edge]*outcome{}}
	if v.signer != nil {
		v.from, v.until = v.signer.Fresh(s.now())
	}
	return v
}

// nextSerial is when a view is made, in seconds from 1970, and never less than the one
// before (RFC 1982): nobody transfers the zone, but an operator sees since when a node
// answers as it does. It never runs ahead of the clock, so that a restart does not take it
// back, however fast views follow each other: those of one second have one serial. The
// caller holds viewing.
func (s *Server) nextSerial() uint32 {
	if now := uint32(s.now().Unix()); int32(now-s.serial) > 0 {
		s.serial = now
	}
	return s.serial
}

// alike tells whether a view of one World answers as one of the other: a World whose age,
// keys or loads alone differ from the last one's empties no view.
func alike(a, b *steer.World) bool {
	return a == b || a != nil && b != nil && a.Answers != 0 && a.Answers == b.Answers
}

// current is the view for a query: a preparer's, or where there is none, one that answers
// as the newest World would.
func (s *Server) current() *view {
	v := s.view.Load()
	if s.preparing.Load() || alike(v.world, s.world()) {
		return v
	}
	s.viewing.Lock()
	defer s.viewing.Unlock()
	v = s.newView(s.world())
	s.view.Store(v)
	s.emptied()
	return v
}

// emptied counts a view that gave way to one that has worked nothing out yet.
func (s *Server) emptied() {
	if s.metrics != nil { // else it is opened only now
		s.metrics.views.Inc()
	}
}

// fresh tells whether what was signed for v may be served.
func (v *view) fresh(now time.Time) bool {
	return v.signer == nil || !now.Before(v.from) && now.Before(v.until)
}

// network is the client's, as the table knows it.
type network struct {
	prefix  netip.Prefix
	place   int  // of its first address
	several bool // it is not all in that place
	scope   int  // of ECS
}

// network is what q is steered by: the client's ECS, else its source address.
func (q *query) network() netip.Prefix {
	if q.ecs.network.IsValid() {
		return q.ecs.network
	}
	return netip.PrefixFrom(q.client, q.client.BitLen()) // no ECS, or a client that wants to be left out of it
}

// locate finds the client's network.
func (v *view) locate(q *query) network {
	return q.within(v.table.Find(q.network().Addr()))
}

// within is the client's network, whose first address was found.
func (q *query) within(f geo.Found) (n network) {
	n.place, n.prefix = f.Place, f.Prefix
	if q.ecs.network.IsValid() {
		switch n.scope = n.prefix.Bits(); {
		case q.ecs.mapped:
			n.scope += 96
		case n.prefix.Addr().Is4():
			n.scope = max(n.scope, minScope4)
		default:
			n.scope = max(n.scope, minScope6)
		}
	}
	if asked := q.network(); asked.Bits() < n.prefix.Bits() {
		n.prefix, n.several = asked, true
	}
	return n
}

// choice is a decision as DNS words it. It is immutable.
type choice struct {
	*outcome
	refused *dns.EDNS0_EDE // why there is no edge
	ede     []byte         // the same as an option
	own     bool           // refused names the client's network
	sole    bool           // the key made no difference
	region  int            // of the edges: 1 + its index in the World; 0: none
}

// outcome is what choices have in common that are answered alike, but for the reason
// of a refusal.
type outcome struct {
	id    uint64
	edges [maxEdges]*steer.Edge // best first, of one region; nil where there are fewer
}

// decided are the choices that were made for one place.
type decided struct {
	place int
	first *choice                                     // of key 0: for most places no key makes a difference
	byKey atomic.Pointer[[256]atomic.Pointer[choice]] // where one does; nil: none yet
}

// named is a choice that holds for one network alone: of several places, or of a place
// that is not known, which its refusal names.
type named struct {
	*choice
	prefix netip.Prefix
}

// slotOf is where the choice for that very network is.
func (v *view) slotOf(n *network) *atomic.Pointer[named] {
	a := n.prefix.Addr().As16()
	return &v.networks[(maphash.Bytes(bodySeed, a[:])+uint64(n.prefix.Bits()))%networkSlots]
}

// recall gives the choice that was made for a network, or for its place and key; nil:
// none yet.
func (v *view) recall(n *network) *choice {
	if !n.several {
		d := v.places[n.place%placeSlots].Load()
		switch {
		case d == nil || d.place != n.place:
			return nil
		case d.first.own:
		case d.first.sole:
			return d.first
		default:
			if all := d.byKey.Load(); all != nil {
				return all[steer.PrefixKey(n.prefix)].Load()
			}
			return nil
		}
	}
	if c := v.slotOf(n).Load(); c != nil && c.prefix == n.prefix {
		return c.choice
	}
	return nil
}
