// Package speaker finds who of a room speaks, by how loud each is from time to time.
//
// Whoever has the floor keeps it through the pauses of speech and while others are about as loud, so
// that it does not flicker. Levels are their senders' word: one that is out of range counts as the
// nearest within, and who says to be loud all the time is who speaks, as if it spoke. It opens
// nothing, reads no clock and starts no goroutine: times are arguments.
package speaker

import "time"

// Every is how often to listen: levels are means over about so long.
const Every = 300 * time.Millisecond

// Loudest is the loudest level; 0 is silence. They are dBov + 127 (RFC 6464).
const Loudest = 127

const (
	voice = 77 // -50 dBov: from here on it is one
	// louder is by how much somebody must be to interrupt, in dB; takes is for how long, or how long
	// a voice must last that nobody is in the way of: a cough does not.
	louder = 6
	takes  = 500 * time.Millisecond
	// pause is how long who has the floor may be silent before nobody has it.
	pause = 2 * time.Second
)

// Level is how loud one participant is.
type Level struct {
	ID   string
	Loud int
}

// Speaker is who has the floor. Its zero value is nobody.
type Speaker struct {
	who    string
	spoke  time.Time // when that one last did
	rival  string    // who would have the floor by now
	rivals time.Time // since when
}

// Who speaks; empty: nobody.
func (s *Speaker) Who() string { return s.who }

// Listen takes how loud everybody is who may speak. Who is missing has left.
func (s *Speaker) Listen(levels []Level, now time.Time) {
	own, here, best := 0, false, Level{}
	rival := Level{}
	for _, l := range levels {
		l.Loud = min(max(l.Loud, 0), Loudest)
		switch {
		case l.ID == s.who:
			own, here = l.Loud, true
		case l.Loud < voice:
		case l.Loud > best.Loud:
			best = l
		}
		if l.ID == s.rival && l.Loud >= voice {
			rival = l
		}
	}
	if own >= voice {
		s.spoke = now
	}
	if !here || now.Sub(s.spoke) >= pause {
		s.who = ""
	}
	if rival.ID != "" { // or else of two at once neither would be
		best = rival
	}
	switch {
	case best.ID == "" || own >= voice && best.Loud < own+louder:
		s.rival = ""
	case s.rival != best.ID:
		s.rival, s.rivals = best.ID, now
	case now.Sub(s.rivals) >= takes:
		s.who, s.spoke, s.rival = best.ID, now, ""
	}
}
