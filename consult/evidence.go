package consult

import (
	"time"

	"bailiwick/region"
	"bailiwick/residency"
)

// Deed is what was decided about a consult.
type Deed string

const (
	Placed    Deed = "place"    // an edge was chosen
	Admitted  Deed = "admit"    // a seat was given
	Refused   Deed = "refuse"   // a consult or a seat was refused
	Moved     Deed = "move"     // somebody was sent to another edge
	Withdrawn Deed = "withdraw" // the law left it no place: it goes on until Until
	Ended     Deed = "end"      // it is over
)

// Evidence is one decision, not its words: whoever decides hands it to the deployment's
// Record function. It names no person.
type Evidence struct {
	At          time.Time
	By          region.EdgeID // the edge that decided; empty: a router without one
	Did         Deed
	Consult     ID
	Participant ParticipantID // of a seat's decision
	Epoch       uint64
	Edge        region.EdgeID     // where the consult is from now on
	From        region.EdgeID     // where it was; empty: nowhere
	Reason      string            // of a closed list: docs/protocol.md
	Verdict     residency.Verdict // of a refusal or a withdrawal
	Until       time.Time
	Generation  uint64    // of the World that was asked
	Store       region.ID // a region where this may be written down; empty: none is known
}

// Record takes evidence. It must not block; it is safe for concurrent use.
type Record func(Evidence)
