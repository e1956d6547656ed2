// Package steer is the one ranking: which edge may and should serve this client.
//
// DNS answers, consult placement, TURN, failover, simulation, `bailiwick why` and
// the console all call [Rank]; there is no second ranking anywhere. It is pure:
// the world and the client are its only inputs, time is the world's. Damping and
// hysteresis live in package health, never here.
//
// Precedence: residency > operator's mode > panic > damped health > load >
// distance. Residency fails closed, distance fails open.
package steer

import (
	"net/netip"
	"time"

	"bailiwick/region"
	"bailiwick/residency"
)

// World is everything that a decision depends on, made by [Fold] and immutable from
// then on. A reader loads it once per request and passes it down.
type World struct {
	Generation uint64 // grows by one with each fold of this node
	// Answers grows when any decision may differ from the last one's: two Worlds of one
	// node that have the same Answers decide alike. 0: not known, made by hand.
	Answers uint64
	At      time.Time // when it was folded: facts and agreements expire against it
	Wakes   time.Time // when time alone makes the next one

	Law       *residency.Law
	LawDigest string
	Map       *region.Map
	MapDigest string
	Regions   []Region // parallel to Map.Regions
	Keys      map[string]JoinKey

	// Applied is, by datacenter of the store, the revision of the regions' modes that is
	// folded in: every write of a mode there that is no newer. It never goes back.
	Applied map[string]uint64
	Away    map[string]bool // the datacenters whose word is frozen at last known good
	StoreUp bool            // no datacenter is away
	// Left are the map's edges that registered and have deregistered since: they are no
	// candidates until they register again.
	Left    map[region.EdgeID]bool
	Doubted int // edges that vanished with most others, kept until their health is down

	damping
}

// Region is one region of the map as it is now.
type Region struct {
	*region.Region
	Hop    residency.Hop
	Mode   Mode
	Reason string    // the operator's, for the mode
	Actor  string    // who set it
	Drill  string    // the drill that set it; empty: none
	Until  time.Time // when it goes back to serving by itself; zero: when changed
	Rev    uint64    // the store's revision of that word; 0: none was ever given
	Edges  []Edge    // ordered by ID
}

// Edge is one media edge as it is now.
type Edge struct {
	ID     region.EdgeID
	Addr4  netip.Addr // what DNS answers; invalid where the edge has none
	Addr6  netip.Addr
	Host   string         // base URL of its HTTP listener: "http://127.0.1.1:8080"
	Media  netip.AddrPort // the SFU's UDP mux
	Turn   netip.AddrPort
	Turns  netip.AddrPort // TURN over TLS; invalid where the edge has none
	Health Health
	Mode   Mode // the word on this edge alone: Draining while it stops or is in maintenance
	Admits int  // consults at most; 0: no limit
	Load   Load // at the fold: it may lag behind by less than makes a decision differ
}

// Load is what an edge holds and sends. Only Consults count against Admits: a full standby must
// not refuse the failover that it is for.
type Load struct {
	Consults int // with somebody in their seat
	Parked   int // rooms that only wait for a failover

	// Egress is the share of its budget that the edge sends, in percent; 0 where there is none.
	Egress int
	// Sheds is how many priorities, the least first, have a better place elsewhere for what is new.
	Sheds int
	// Spent says that not even the audio of one more consult has room.
	Spent bool
}

// Priority is how clinical a consult is among others. Its names are package consult's.
type Priority int8

const (
	Education Priority = iota - 2
	FollowUp
	Routine // the zero value
	Urgent
	Emergency
)

// JoinKey is one edge's public half for join tokens.
type JoinKey struct {
	Public  []byte // Ed25519, 32 bytes
	Expires time.Time
}

// Mode is the operator's word on a region.
type Mode uint8

const (
	Serving Mode = iota
	Draining
	Down
)

func (m Mode) String() string { return [...]string{"serving", "draining", "down"}[m] }

// Health is the damped word on an edge.
type Health uint8

const (
	Unknown Health = iota // not yet judged: treated as up, for a registered edge asserts itself
	Up
	Unhealthy
)

func (h Health) String() string { return [...]string{"unknown", "up", "down"}[h] }

// fullPercent of its seats makes an edge full: it still serves what it holds, but
// gets nothing new below Urgent.
const fullPercent = 95

// Full tells whether so many consults are as many as an edge takes of its own accord, of those
// that it admits; 0: there is no limit.
func Full(consults, admits int) bool { return admits > 0 && consults*100 >= admits*fullPercent }

func (e *Edge) full() bool { return Full(e.Load.Consults, e.Admits) }

// shut tells whether the edge takes the client not at all. Seats bind what is new and can wait;
// what runs is bound by egress alone, and what is urgent by nothing.
func (e *Edge) shut(c *Client) bool {
	switch {
	case c.Runs:
		return e.Load.Spent
	case c.Priority >= Urgent:
		return false
	}
	return e.full()
}

// busy tells whether the client is better off elsewhere, if there is an elsewhere.
func (e *Edge) busy(c *Client) bool { return int(c.Priority-Education) < e.Load.Sheds }

// Reaches tells whether the store of that datacenter answers, as far as is known.
func (w *World) Reaches(datacenter string) bool { return !w.Away[datacenter] }

// tenth is how many tenths are taken of its seats, or of its egress where that is more: what ranks
// an edge among others of its region.
func (e *Edge) tenth() int {
	seats := 0
	if e.Admits > 0 {
		seats = e.Load.Consults * 10 / e.Admits
	}
	return max(seats, e.Load.Egress/10)
}

// RegionIndex is the index of id in w.Regions, or -1.
func (w *World) RegionIndex(id region.ID) int {
	for i := range w.Regions {
		if w.Regions[i].ID == id {
			return i
		}
	}
	return -1
}

// Edge finds an edge by ID; both results are nil when it is not in this world.
func (w *World) Edge(id region.EdgeID) (*Region, *Edge) {
	for i := range w.Regions {
		for k := range w.Regions[i].Edges {
			if w.Regions[i].Edges[k].ID == id {
				return &w.Regions[i], &w.Regions[i].Edges[k]
			}
		}
	}
	return nil, nil
}

// Usable tells whether an edge serves as it is: it is known, nobody took it or its region
// out, and it looks well. The law, and the panic rule of [Rank], are not asked.
func (w *World) Usable(id region.EdgeID) bool {
	r, e := w.Edge(id)
	return e != nil && r.Mode == Serving && e.Mode == Serving && e.Health != Unhealthy
}
