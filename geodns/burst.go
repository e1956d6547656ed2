package geodns

import (
	"net/netip"

	"bailiwick/geodns/batch"
	"bailiwick/geodns/geo"
)

// burst answers what one UDP socket receives, in three passes: all is read, all is
// placed, all is answered. Placing is most of the work of one query, and nearly all of it
// is waiting for memory, which is done for all at once: see [geo.Table.FindAll].
type burst struct {
	s       *Server
	queries [batch.Size]query
	// What is placed: not all queries are.
	of    [batch.Size]*query
	addrs [batch.Size]netip.Addr
	found [batch.Size]geo.Found
}

func (s *Server) newBurst() *burst {
	b := &burst{s: s}
	for i := range b.queries {
		b.queries[i] = *newQuery()
	}
	return b
}

// answer is a [batch.Handler].
func (b *burst) answer(all []batch.Datagram) {
	s, done := b.s, 0
	defer func() {
		if r := recover(); r != nil {
			b.oneByOne(all[done:], r)
		}
	}()
	v, n := s.current(), 0
	for i := range all {
		q := &b.queries[i]
		s.read(q, all[i].In, all[i].From.Addr(), overUDP)
		if s.see(q, v); q.steered {
			b.of[n], b.addrs[n] = q, q.network().Addr()
			n++
		}
	}
	v.table.FindAll(b.found[:n], b.addrs[:n])
	for i, q := range b.of[:n] {
		q.found = b.found[i]
	}
	for ; done < len(all); done++ {
		all[done].Out = s.finish(all[done].Out, &b.queries[done])
	}
}

// oneByOne answers what a burst that panicked has left, so that a bug in one query costs
// the others nothing.
func (b *burst) oneByOne(rest []batch.Datagram, r any) {
	before := b.s.metrics.panicked.Load()
	for i := range rest {
		rest[i].Out = b.s.respond(rest[i].Out, rest[i].In, rest[i].From.Addr(), overUDP)
	}
	if b.s.metrics.panicked.Load() == before { // else they have told it themselves
		b.s.panicked(r)
	}
}
