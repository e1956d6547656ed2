package edge

import (
	"bailiwick/consult"
	"bailiwick/steer"
)

// entry is how an edge takes a consult that comes to it.
type entry uint8

const (
	open  entry = iota
	voice       // beyond the seats: with audio to begin with, and then with what the ladder leaves it
	busy        // unwillingly: load is shed here
	full        // not at all
)

// enter judges a consult that somebody comes to who has a seat of their own in mind, and counts it
// in where it is taken without a word. Two limits, never mixed: seats bind what is new and below
// urgent, and the ladder's place those of the new that would begin with less than elsewhere. What
// was placed anew, or was elsewhere, must be somewhere: it is no new one.
func (r *runners) enter(t *consult.Terms) entry {
	e, rank := r.edge, t.Priority.Rank()
	moves := t.Epoch > 1 || t.Edge != e.cfg.ID
	here := e.pressure.takes(rank)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch admits := e.cfg.Admits; {
	case moves || rank >= steer.Urgent:
		r.active++
		if steer.Full(r.active, admits) {
			return voice
		}
	case admits > 0 && r.active >= admits:
		return full
	case !here:
		return busy
	default:
		r.active++
	}
	return open
}

// add counts a consult in whatever it is.
func (r *runners) add() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active++
}

// release counts one out.
func (r *runners) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active--
}
