package failover

import (
	"maps"
	"slices"
	"time"

	"bailiwick/consult"
	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

// Room is one consult on one edge. Its zero value is of no use: see [New]. Step is the
// only thing that changes it, and its methods are not safe for concurrent use.
type Room struct {
	self region.EdgeID
	home region.ID // of self

	terms    consult.Terms // in force, as far as is known here
	record   *consult.Placement
	followed bool      // the record was read or written once: notices say how it goes on
	recorded bool      // the record is known to say what terms say
	restored time.Time // the store was; answers until then may be from before. Zero: it was not
	fresh    time.Time // until when the owner is taken for alive: it has just said so
	kept     time.Time // until when the room is kept for who was sent on
	ended    bool
	stopping bool

	seats map[Seat]*seat
	been  map[consult.ParticipantID]bool // had a seat here while the room lasted

	write   *write          // under way
	untold  []region.EdgeID // of terms that are not known to be written, who must hear of them
	again   time.Time       // when what was not written is written again
	reaches bool            // the record's store answers, as far as was known when it was last asked
	pause   time.Duration
	claims  time.Time     // before which nothing is placed for somebody stranded
	claimP  time.Duration // the pause after that

	withdrawn residency.Verdict // why there is a countdown
	ends      time.Time         // of it; zero: there is none
	told      bool              // everybody here knows of it

	out      []Action // of the step under way
	w        *steer.World
	now      time.Time
	decision steer.Decision // scratch
}

// seat is one connection. A participant has one at most that is not superseded.
type seat struct {
	token   consult.Token
	parked  bool
	waiting bool      // not answered yet
	lost    time.Time // until when it is kept without a socket; zero: it has one

	full      bool          // it found the edge full
	toldTo    region.EdgeID // the edge that it was sent to; empty: none
	toldEpoch uint64
	toldAt    time.Time
	stranded  uint64 // the epoch whose edge it cannot get to; 0: none
}

type write struct {
	terms  consult.Terms
	reason string
	until  time.Time
}

// New is the room of a consult on the edge self, which stands in region home.
func New(self region.EdgeID, home region.ID) *Room {
	return &Room{self: self, home: home, seats: map[Seat]*seat{}, been: map[consult.ParticipantID]bool{}, pause: writeAgain, claimP: claimPause}
}

// Step takes one event and returns what is to be done about it, in order. The actions are
// the caller's until the next Step.
func (r *Room) Step(ev Event, w *steer.World, now time.Time) []Action {
	r.out, r.w, r.now = r.out[:0], w, now
	switch ev := ev.(type) {
	case Joined:
		r.joined(ev)
	case Unparked:
		if s := r.seats[ev.Seat]; s != nil {
			s.parked = false
		}
	case Left:
		delete(r.seats, ev.Seat)
	case Lost:
		r.lost(ev.Seat)
	case Heard:
		r.heard(ev)
	case Wrote:
		r.wrote(ev)
	case Stopping:
		r.stopping = true
	case Restored:
		r.restored = now.Add(writePatience)
		r.recorded, r.again, r.pause = false, r.restored, writeAgain
	}
	if r.recorded && r.believes() {
		r.restored = time.Time{}
	}
	if !r.ended {
		r.settle()
	}
	return r.out
}

// Empty tells whether nobody has or wants a seat: the room may be forgotten. One that has
// sent somebody on is kept a while: they may come back with the same old token, and would
// else have the consult placed anew each time.
func (r *Room) Empty() bool {
	return len(r.seats) == 0 && (r.ended || r.stopping || !r.now.Before(r.kept))
}

// Holds tells whether a seat is in force: neither given up, lost for good nor superseded.
func (r *Room) Holds(n Seat) bool { return r.seats[n] != nil }

// Seats are how many have or want a seat.
func (r *Room) Seats() int { return len(r.seats) }

// Ended tells whether the consult is over: nobody joins it any more.
func (r *Room) Ended() bool { return r.ended }

// Active tells whether somebody has a seat who is not parked: the consult is a load.
func (r *Room) Active() bool {
	for _, s := range r.seats {
		if !s.parked {
			return true
		}
	}
	return false
}

// Running tells whether somebody was admitted who is not parked: Active without who waits to be
// answered.
func (r *Room) Running() bool { return r.running() }

func (r *Room) running() bool {
	for _, s := range r.seats {
		if !s.parked && !s.waiting {
			return true
		}
	}
	return false
}

// Present are those who have a seat and are not parked.
func (r *Room) Present() map[consult.ParticipantID]consult.Role {
	here := map[consult.ParticipantID]consult.Role{}
	for _, s := range r.seats {
		if !s.parked && !s.waiting {
			here[s.token.Participant] = s.token.Role
		}
	}
	return here
}

// Terms are those in force here; zero before anybody joined.
func (r *Room) Terms() consult.Terms { return r.terms }

// Record is the consult's record as last heard; nil when it was not.
func (r *Room) Record() *consult.Placement { return r.record }

// Wake is when time alone changes something; zero when it does not.
func (r *Room) Wake() time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if r.ended {
		return at
	}
	for _, s := range r.seats {
		sooner(s.lost)
		if s.toldTo != "" && s.stranded < s.toldEpoch {
			sooner(s.toldAt.Add(StrandedAfter))
		}
	}
	for _, t := range []time.Time{r.claims, r.fresh, r.kept} {
		if t.After(r.now) {
			sooner(t)
		}
	}
	switch {
	case r.write != nil:
		sooner(r.write.until)
	case !r.recorded && r.w != nil && r.w.Reaches(r.terms.Consult.Datacenter()):
		sooner(r.again)
	}
	sooner(r.ends)
	return at
}

// each goes through the seats in their order.
func (r *Room) each(do func(Seat, *seat)) {
	var few [8]Seat
	order := slices.AppendSeq(few[:0], maps.Keys(r.seats))
	slices.Sort(order)
	for _, n := range order {
		if s := r.seats[n]; s != nil {
			do(n, s)
		}
	}
}

func (r *Room) do(a Action) { r.out = append(r.out, a) }

// note hands a decision on.
func (r *Room) note(did consult.Deed, e consult.Evidence) {
	e.At, e.By, e.Did, e.Consult, e.Epoch, e.Generation = r.now, r.self, did, r.terms.Consult, r.terms.Epoch, r.w.Generation
	if e.Edge == "" {
		e.Edge = r.terms.Edge
	}
	e.Store = steer.StoredIn(r.w, r.client())
	r.do(Record{e})
}

func (r *Room) joined(ev Joined) {
	if r.ended {
		r.do(Refuse{ev.Seat, residency.Verdict{Code: ConsultEnded}})
		return
	}
	if r.terms.Epoch == 0 || ev.Token.Supersedes(&r.terms) {
		r.adopt(ev.Token.Terms, false)
		r.again = r.now // ask for the record at once
	}
	who := ev.Token.Participant
	s := &seat{token: ev.Token, parked: ev.Parked, waiting: true}
	if ev.Stranded && r.terms.Edge != r.self {
		s.stranded = r.terms.Epoch
	}
	running := r.running() // before this one
	r.each(func(n Seat, held *seat) {
		if held.token.Participant == who && held.waiting { // the edge hears the newer one
			r.do(Close{n})
			delete(r.seats, n)
		}
	})
	r.seats[ev.Seat] = s
	why, gone := r.away()
	if ev.Full && why == "" && !running {
		s.full = true
		why, gone = string(residency.RegionFull), residency.Verdict{Code: residency.RegionFull}
	}
	if ev.Busy && why == "" && !running {
		// A neighbour that need not shed is better; where there is none it begins here, with less.
		if r.write != nil || r.elsewhere() {
			return
		}
		away := []region.EdgeID{r.self}
		if r.terms.Edge == r.self && r.rank(away) && !r.decision.Busy() && r.place(string(residency.RegionFull), away...) {
			return
		}
	}
	switch {
	case why == "", ev.Resumes, r.been[who] && running && !isLaw(gone):
		r.admit(ev.Seat, s)
		return
	case ev.Parked: // a parked seat where the consult cannot go is of no use
		r.refuse(ev.Seat, gone)
		return
	}
	// Not here. Where the consult is elsewhere already, settle sends the seat there;
	// where it is ours, it is placed anew now, or there is no such place.
	if r.write != nil || r.elsewhere() {
		return
	}
	if !r.place(why, r.self, r.terms.Edge) {
		r.refuse(ev.Seat, gone)
	}
}

// isLaw tells a refusal of the law from one of a mode or of load.
func isLaw(v residency.Verdict) bool { return v.Row != nil || v.Participant != "" }

// ConsultEnded is the code of a Refuse that is not the law's nor the world's.
const ConsultEnded residency.Code = "consult_ended"

func (r *Room) admit(n Seat, s *seat) {
	s.waiting = false
	r.each(func(other Seat, held *seat) {
		// A seat has one holder: the edge tells the earlier connection. Who is refused
		// or sent elsewhere takes nobody's seat, least of all their own.
		if other != n && held.token.Participant == s.token.Participant {
			delete(r.seats, other)
		}
	})
	r.been[s.token.Participant] = true
	r.do(Admit{n, r.terms, s.parked})
	if r.told && !r.ends.IsZero() {
		r.do(Withdraw{r.withdrawn, r.ends})
	}
	r.note(consult.Admitted, consult.Evidence{Participant: s.token.Participant, Edge: r.self})
}

func (r *Room) refuse(n Seat, v residency.Verdict) {
	r.do(Refuse{n, v})
	r.note(consult.Refused, consult.Evidence{Participant: r.seats[n].token.Participant, Edge: r.self, Reason: string(v.Code), Verdict: v})
	delete(r.seats, n)
}

func (r *Room) lost(n Seat) {
	s := r.seats[n]
	switch {
	case s == nil:
	case s.waiting: // there is nothing to keep
		delete(r.seats, n)
	default:
		s.lost = r.now.Add(ResumeGrace)
	}
}

func (r *Room) heard(ev Heard) {
	r.followed = r.followed || ev.Record != nil
	if ev.Record != nil && (r.record == nil || ev.Record.Supersedes(&r.record.Terms)) {
		r.record = ev.Record
	}
	recorded := r.believes()
	if ev.Record == nil { // a notice may have lain there since before this room: the record went on
		recorded = r.followed
	}
	switch {
	case ev.Ended:
		r.end("done", residency.Verdict{})
	case ev.Terms.Supersedes(&r.terms):
		r.adopt(ev.Terms, recorded)
		r.fresh = r.now.Add(StrandedAfter)
	case !r.terms.Supersedes(&ev.Terms):
		r.recorded = recorded
	case ev.Record != nil: // what is in force was never written: who placed it had no store
		r.recorded, r.again = false, r.now
	}
}

// believes tells whether an answer of the store is of the store as it is.
func (r *Room) believes() bool { return !r.now.Before(r.restored) }

// end is the consult's end: every seat is closed by it.
func (r *Room) end(reason string, v residency.Verdict) {
	if r.ended {
		return
	}
	r.ended, r.write = true, nil
	r.each(func(n Seat, s *seat) {
		if s.waiting {
			r.do(Refuse{n, residency.Verdict{Code: ConsultEnded}})
		}
	})
	r.do(End{reason, v})
	r.note(consult.Ended, consult.Evidence{Edge: r.self, Reason: reason, Verdict: v})
	clear(r.seats)
}

// adopt puts terms in force.
func (r *Room) adopt(t consult.Terms, recorded bool) {
	if t.Epoch == r.terms.Epoch && t.Edge != r.terms.Edge { // nobody was sent there yet
		for _, s := range r.seats {
			if s.stranded == t.Epoch {
				s.stranded = 0
			}
			if s.toldEpoch == t.Epoch {
				s.toldAt = r.now
			}
		}
	}
	r.terms, r.recorded, r.fresh = t, recorded, time.Time{}
	r.again, r.pause = r.now.Add(writeAgain), writeAgain
	if recorded && r.record != nil {
		now := *r.record
		now.Terms = t
		if reg, _ := r.w.Edge(t.Edge); reg != nil {
			now.Region = reg.ID
		}
		r.record = &now
	}
	if r.write != nil && !r.write.terms.Supersedes(&t) {
		r.write = nil // its answer comes too late to matter
	}
}

func (r *Room) wrote(ev Wrote) {
	pending := r.write != nil && r.write.terms.Epoch == ev.Terms.Epoch && r.write.terms.Edge == ev.Terms.Edge
	if pending {
		r.write = nil
	}
	written := ev.Outcome == Written && r.believes()
	if written {
		r.followed, r.untold = true, nil
	}
	switch {
	case ev.Outcome == Beaten:
		// Heard put what beat it in force.
	case pending:
		r.adopt(ev.Terms, written)
	case written && ev.Terms.Epoch == r.terms.Epoch && ev.Terms.Edge == r.terms.Edge:
		r.recorded = true
	}
}
