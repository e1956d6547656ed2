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

// full tells whether who waits found no room on this edge, and nobody has the consult here.
func (r *Room) full() bool {
	full := false
	for _, s := range r.seats {
		full = full || s.waiting && s.full
	}
	return full && !r.running()
}

// settle derives what is to be done from how things are. It is level-triggered: whatever
// happened, it comes to the same.
func (r *Room) settle() {
	r.expire()
	if r.terms.Epoch == 0 {
		return
	}
	why, gone := r.away()
	if why == "" && r.full() {
		why = string(residency.RegionFull)
	}
	law := isLaw(gone)
	r.countdown(law, gone)
	switch {
	case r.write != nil:
	case r.terms.Edge == r.self:
		r.own(why)
	default:
		r.guest(why == "")
	}
	r.deadline(law)
	if !r.ended {
		r.answer(gone)
		r.send(why)
		r.rewrite()
	}
}

// own is the owner's part: it places the consult anew where it should not be here.
func (r *Room) own(why string) {
	if why == "" || !r.Active() {
		return
	}
	r.place(why, r.self)
}

// guest is everybody else's: its people belong elsewhere, unless elsewhere is no place.
func (r *Room) guest(well bool) {
	if !r.Active() {
		return
	}
	usable := r.elsewhere()
	if (!usable || r.stranded()) && r.now.Before(r.claims) {
		return // it was claimed a moment ago: let that settle
	}
	switch {
	case well && r.allHere():
		r.claim("all_here")
	case !usable && well:
		r.pauseClaims()
		r.claim("primary_lost")
	case !usable:
		if r.place("primary_lost", r.self, r.terms.Edge) {
			r.pauseClaims()
		}
	case r.stranded() && well:
		r.pauseClaims()
		r.claim("unreachable", r.terms.Edge)
	case r.stranded():
		if r.place("unreachable", r.self, r.terms.Edge) {
			r.pauseClaims()
		}
	}
}

// pauseClaims keeps two edges that cannot see each other from outbidding each other. Who
// placed nothing has outbid nobody.
func (r *Room) pauseClaims() {
	r.claims = r.now.Add(r.claimP)
	r.claimP = min(2*r.claimP, claimPauseMost)
}

// elsewhere tells whether the consult has another edge to be at. An owner that has just
// placed it is alive, whatever the probes of this edge say.
func (r *Room) elsewhere() bool {
	return r.terms.Edge != r.self && (r.now.Before(r.fresh) || r.usable(r.terms.Edge))
}

// usable tells whether people can be sent to an edge: nobody took it out, this consult may
// be there, and it looks well, or all that may take the consult look no better (the panic
// rule of [steer.Rank]).
func (r *Room) usable(id region.EdgeID) bool {
	reg, e := r.w.Edge(id)
	if e == nil || reg.Mode != steer.Serving || e.Mode != steer.Serving || !steer.Permits(r.w, reg, r.client()).Permitted() {
		return false
	}
	return e.Health != steer.Unhealthy || r.rank(nil) && r.decision.Panic
}

// allHere: everybody of the consult came to this edge though they knew the owner, so none
// of them can be there.
func (r *Room) allHere() bool {
	here := map[consult.ParticipantID]bool{}
	for _, s := range r.seats {
		if !s.parked && s.lost.IsZero() && s.token.Epoch >= r.terms.Epoch {
			here[s.token.Participant] = true
		}
	}
	return len(here) >= len(r.terms.Jurisdictions)
}

func (r *Room) stranded() bool {
	for _, s := range r.seats {
		if s.stranded == r.terms.Epoch && !s.parked && s.lost.IsZero() {
			return true
		}
	}
	return false
}

func (r *Room) client() *steer.Client {
	if r.record != nil {
		return r.record.Client(r.w.Map)
	}
	return r.terms.Client(r.w.Map)
}

// begins tells a consult that has not begun anywhere, as far as is known here: it is where it was
// placed first, and nobody is in.
func (r *Room) begins() bool {
	return r.terms.Epoch <= 1 && r.terms.Edge == r.self && !r.running()
}

// rank fills r.decision for the consult without some edges.
func (r *Room) rank(without []region.EdgeID) bool {
	c := r.client()
	c.Without = without
	c.Runs = !r.begins()
	steer.Rank(r.w, c, &r.decision)
	return len(r.decision.Candidates) > 0
}

// place writes the consult to the best edge there is; false where there is none.
func (r *Room) place(why string, without ...region.EdgeID) bool {
	if !r.rank(without) {
		return false
	}
	next := r.terms
	next.Place(&r.decision)
	r.put(next, why)
	return true
}

// claim writes the consult to this edge, with the best other one as its standby.
func (r *Room) claim(why string, without ...region.EdgeID) {
	next := r.terms
	next.Edge, next.Standby = r.self, nil
	if r.rank(append(without, r.self)) {
		_, e := r.decision.Best()
		next.Standby = []region.EdgeID{e.ID}
	}
	next.Epoch++
	r.put(next, why)
}

// put begins a write. With the store away its outcome is known before.
func (r *Room) put(next consult.Terms, why string) {
	from := r.terms
	r.do(Place{next, why, r.tells(&from, &next), r.missing()})
	if r.w.Reaches(next.Consult.Datacenter()) {
		r.write = &write{next, why, r.now.Add(writePatience)}
	} else {
		r.adopt(next, false)
	}
	r.note(consult.Placed, consult.Evidence{Edge: next.Edge, From: from.Edge, Reason: why})
}

// tells are the edges that must hear of the terms: theirs, and whoever was not told of the
// terms before them.
func (r *Room) tells(terms ...*consult.Terms) []region.EdgeID {
	r.untold = append(r.untold, notify(r.self, terms...)...)
	slices.Sort(r.untold)
	r.untold = slices.Compact(r.untold)
	return slices.Clone(r.untold)
}

// notify are the edges that may have somebody of the consult.
func notify(self region.EdgeID, terms ...*consult.Terms) []region.EdgeID {
	all := map[region.EdgeID]bool{}
	for _, t := range terms {
		all[t.Edge] = true
		for _, s := range t.Standby {
			all[s] = true
		}
	}
	delete(all, self)
	return slices.Sorted(maps.Keys(all))
}

// away is why the consult should not be on this edge; empty when it is well here. A
// verdict that names a participant is the law's.
func (r *Room) away() (why string, v residency.Verdict) {
	mode := func(c residency.Code) (string, residency.Verdict) { return string(c), residency.Verdict{Code: c} }
	i := r.w.RegionIndex(r.home)
	if i < 0 { // taken out of the map
		return mode(residency.RegionDown)
	}
	reg := &r.w.Regions[i]
	if v := steer.Permits(r.w, reg, r.client()); !v.Permitted() {
		return string(v.Code), v
	}
	_, e := r.w.Edge(r.self)
	switch {
	case reg.Mode == steer.Down:
		return mode(residency.RegionDown)
	case reg.Mode == steer.Draining, r.stopping, e != nil && e.Mode != steer.Serving:
		return mode(residency.RegionDraining)
	}
	return "", residency.Verdict{}
}

// expire drops what its time is over for.
func (r *Room) expire() {
	r.each(func(n Seat, s *seat) {
		switch {
		case !s.lost.IsZero() && !r.now.Before(s.lost):
			r.do(Close{n})
			delete(r.seats, n)
		case s.toldTo != "" && !r.now.Before(s.toldAt.Add(StrandedAfter)):
			s.stranded = s.toldEpoch
		}
	})
	if r.write != nil && !r.now.Before(r.write.until) {
		r.adopt(r.write.terms, false)
		r.write = nil
	}
}

// countdown begins when the law forbids what runs here, and stops when it does no more.
func (r *Room) countdown(law bool, v residency.Verdict) {
	seated := false
	for _, s := range r.seats {
		seated = seated || !s.waiting
	}
	switch {
	case !law || !seated:
		if r.told {
			r.do(Withdraw{})
			r.note(consult.Withdrawn, consult.Evidence{Edge: r.self})
		}
		r.ends, r.told = time.Time{}, false
	case r.ends.IsZero():
		r.withdrawn, r.ends = v, r.now.Add(r.w.Map.WithdrawalGrace)
	}
}

// deadline ends what the law has given its last moment, or says when that will be. Who has
// somewhere to go is cut and joins there; for the others the consult is over. Who is only
// parked here has no call to lose: what becomes of it is said where it is.
func (r *Room) deadline(law bool) {
	if !law || r.ends.IsZero() {
		return
	}
	if r.now.Before(r.ends) {
		if !r.told && r.write == nil && r.running() && !r.elsewhere() {
			r.told = true
			r.do(Withdraw{r.withdrawn, r.ends})
			r.note(consult.Withdrawn, consult.Evidence{Edge: r.self, Reason: string(r.withdrawn.Code), Verdict: r.withdrawn, Until: r.ends})
		}
		return
	}
	if r.running() && r.write == nil && !r.elsewhere() && !r.place(string(r.withdrawn.Code), r.self, r.terms.Edge) {
		r.end("law", r.withdrawn) // no pause of claims keeps it from a place that there is
		return
	}
	if r.write != nil {
		r.adopt(r.write.terms, false)
		r.write = nil
	}
	if r.elsewhere() {
		r.send(string(r.withdrawn.Code))
	}
	r.each(func(n Seat, s *seat) {
		if s.waiting { // where the consult is now is no place to send them to
			r.refuse(n, r.withdrawn)
			return
		}
		r.do(Close{n})
		delete(r.seats, n)
	})
	r.ends, r.told = time.Time{}, false
}

// answer gives who waits their answer where there is one by now; send does where the
// consult is elsewhere.
func (r *Room) answer(gone residency.Verdict) {
	if r.write != nil || r.terms.Edge != r.self {
		return
	}
	r.each(func(n Seat, s *seat) {
		switch {
		case !s.waiting:
		case !gone.Permitted():
			r.refuse(n, gone)
		case s.full:
			r.refuse(n, residency.Verdict{Code: residency.RegionFull})
		default:
			r.admit(n, s)
		}
	})
}

// send tells everybody here who was not told yet where the consult is. Where that cannot be
// used only who waits is told: the others have a call here.
func (r *Room) send(why string) {
	if r.write != nil {
		return
	}
	if why == "" {
		why = "placed"
	}
	can := r.elsewhere()
	r.each(func(n Seat, s *seat) {
		switch {
		case s.parked:
		case r.terms.Edge == r.self:
			s.stranded = 0
			if s.toldTo != "" { // it is back here
				r.tell(n, s, "returned")
				s.toldTo, s.toldEpoch = "", 0
			}
		case (can || s.waiting) && (s.toldTo != r.terms.Edge || s.toldEpoch != r.terms.Epoch):
			r.tell(n, s, why)
			s.toldTo, s.toldEpoch, s.toldAt = r.terms.Edge, r.terms.Epoch, r.now
			if s.waiting {
				delete(r.seats, n)
				r.kept = r.now.Add(StrandedAfter)
			}
		}
	})
}

func (r *Room) tell(n Seat, s *seat, why string) {
	t := s.token
	t.Terms, t.Expires = r.terms, r.now.Add(consult.TokenLife)
	if r.record != nil && r.record.Expires.Before(t.Expires) {
		t.Expires = r.record.Expires
	}
	r.do(Move{n, t, why})
	r.note(consult.Moved, consult.Evidence{Participant: t.Participant, From: r.self, Reason: why})
}

// rewrite asks for the record, and writes again what is in force and not in it. It goes on
// until the record is there and says so: who made the consult while the store was away
// writes it later.
func (r *Room) rewrite() {
	if reaches := r.w.Reaches(r.terms.Consult.Datacenter()); reaches != r.reaches {
		if r.reaches = reaches; reaches && r.now.After(r.restored) { // what was asked in vain is asked at once
			r.again, r.pause = r.now, writeAgain
		}
	}
	if r.recorded || r.write != nil || r.now.Before(r.again) || !r.reaches {
		return
	}
	r.again = r.now.Add(r.pause)
	r.pause = min(2*r.pause, writeAgainMost)
	if r.record == nil {
		r.do(Read{})
	} else {
		r.do(Place{r.terms, "unwritten", r.tells(&r.terms), r.missing()})
	}
}

// missing is the record that a restored store may lack, until it is known to have it. One that
// has expired has been swept.
func (r *Room) missing() *consult.Placement {
	if r.restored.IsZero() || r.record == nil || !r.now.Before(r.record.Expires) {
		return nil
	}
	return r.record
}
