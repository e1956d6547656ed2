// Package failover is the machine that owns a room's moves: one [Room] for each consult
// on each edge, fed with events and asked for actions. Nothing else places a running
// consult anew, sends people elsewhere, or ends a room.
//
// It is pure: it opens nothing and reads no clock. The edge around it carries the
// actions out and turns what happens into events, one at a time; the simulation does the
// same in virtual time.
//
// The rules, in the order in which they bind:
//
//  1. The terms of the highest epoch are in force, wherever they are heard first: in a
//     token, a notice or the record. Nobody joins what has ended.
//  2. Only the edge that the terms name, the owner, places the consult anew: when law, its
//     region's mode, maintenance or its own stop say that it should be elsewhere. Where
//     nothing lawful is better it stays: a call is never dropped to empty a region.
//  3. Any other edge sends its people to the owner. It claims the consult only when the
//     owner cannot be used, when all its people are here, or when somebody here could not
//     get there.
//  4. Who is sent elsewhere keeps the seat until they leave: a path that is broken for one
//     person must not cost them the call that they have.
//  5. Who comes back to a consult that runs here is admitted whatever the region's mode.
//     Whoever else comes to where the consult should not be is sent where it should, or
//     refused with the reason.
//  6. Where the law leaves a running consult no place it goes on for the map's withdrawal
//     grace, then ends (rule 18 of residency/READING.md). No seat outlasts it.
//  7. Losing the store stops none of this: what could not be written is in the tokens, and
//     is written when the store is back. One that was restored from a backup is told again
//     what is in force; a record that it lost is made again from what the room has of it.
package failover

import (
	"time"

	"bailiwick/consult"
	"bailiwick/region"
	"bailiwick/residency"
)

const (
	// ResumeGrace is how long a seat outlives its lost socket: a signalling hiccup is
	// nothing that a patient should hear.
	ResumeGrace = 15 * time.Second
	// StrandedAfter is how long after being told to move somebody who is still here counts
	// as unable to get there: longer than a slow path needs.
	StrandedAfter = 20 * time.Second
	// claimPause is the least time between two placements on behalf of somebody stranded;
	// it doubles up to claimPauseMost, for two people may have no edge in common.
	claimPause     = 30 * time.Second
	claimPauseMost = 5 * time.Minute
	// writePatience is how long a placement waits for the store before it is done without.
	writePatience = 5 * time.Second
	// writeAgain is the pause before such a placement is written again, and doubles up to
	// writeAgainMost.
	writeAgain     = 5 * time.Second
	writeAgainMost = time.Minute
)

// Seat numbers one connection of one participant to this edge. No two joins share one.
type Seat uint64

// Event is something that happened.
type Event interface{ event() }

type (
	// Joined is somebody with a valid token that names this edge, who waits to be
	// answered: by Admit, Refuse, or a Move without either.
	Joined struct {
		Seat     Seat
		Token    consult.Token
		Parked   bool // wants the transport up and nothing sent
		Resumes  bool // gave the session of the seat that the participant has here
		Stranded bool // was sent to another edge and found no media there
		Full     bool // the edge holds as many consults as it admits, and this new one is not among them
		Busy     bool // the edge sheds load, and this new one is better off elsewhere, if there is an elsewhere
	}
	// Unparked is a parked participant who takes the seat.
	Unparked struct{ Seat Seat }
	// Left is somebody who gave the seat up.
	Left struct{ Seat Seat }
	// Lost is a socket that ended without a word.
	Lost struct{ Seat Seat }
	// Heard is what the store says of the consult. Record is its record, nil where a notice
	// tells no more than the terms.
	Heard struct {
		Terms  consult.Terms
		Ended  bool
		Record *consult.Placement
	}
	// Wrote is what became of a Place.
	Wrote struct {
		Terms   consult.Terms // of the Place
		Outcome Outcome
	}
	// Restored is a store that was taken back to an older state: what it had of the consult
	// may be gone.
	Restored struct{}
	// World is a new World.
	World struct{}
	// Stopping is this edge on its way out: consults go elsewhere.
	Stopping struct{}
	// Time is the instant that [Room.Wake] named, or any other.
	Time struct{}
)

// Outcome of a write.
type Outcome uint8

const (
	Written   Outcome = iota // the record says so
	Unwritten                // the store is away, or has no record of the consult yet
	Beaten                   // the record is another's: Heard said whose
)

func (Joined) event()   {}
func (Unparked) event() {}
func (Left) event()     {}
func (Lost) event()     {}
func (Heard) event()    {}
func (Wrote) event()    {}
func (Restored) event() {}
func (World) event()    {}
func (Stopping) event() {}
func (Time) event()     {}

// Action is something that the edge must do, in the order given.
type Action interface{ action() }

type (
	// Admit answers a Joined: the seat is taken.
	Admit struct {
		Seat   Seat
		Terms  consult.Terms // in force: the welcome names their standbys
		Parked bool
	}
	// Refuse answers a Joined. Verdict is the law's, or has a code alone.
	Refuse struct {
		Seat    Seat
		Verdict residency.Verdict
	}
	// Move tells a seat to join elsewhere with this token, which is to be signed. To a seat
	// that was not admitted it is the answer, and the connection ends with it. A token for
	// this very edge takes an earlier Move back.
	Move struct {
		Seat   Seat
		Token  consult.Token
		Reason string
	}
	// Close ends a seat's connection without a word: it has somewhere to go, or is dead.
	Close struct{ Seat Seat }
	// End tells everybody that the consult ended, and why: "done" or "law", whose verdict
	// it is.
	End struct {
		Reason  string
		Verdict residency.Verdict
	}
	// Withdraw tells everybody that the law leaves the consult no place, and when it ends;
	// with a zero EndsAt that it goes on after all.
	Withdraw struct {
		Verdict residency.Verdict
		EndsAt  time.Time
	}
	// Place writes the terms into the record, if that does not have newer ones, and tells
	// the edges of Notify. Wrote, and Heard before it where the record is another's, must
	// follow. Lost is what the record was where a restore may have taken it: then it is made
	// again. nil: a record that is not there is somebody else's to make, or has ended.
	Place struct {
		Terms  consult.Terms
		Reason string
		Notify []region.EdgeID
		Lost   *consult.Placement
	}
	// Read asks for the record; Heard follows if there is one. Nobody waits for it.
	Read struct{}
	// Record hands a decision on as evidence.
	Record struct{ Evidence consult.Evidence }
)

func (Admit) action()    {}
func (Refuse) action()   {}
func (Move) action()     {}
func (Close) action()    {}
func (End) action()      {}
func (Withdraw) action() {}
func (Place) action()    {}
func (Read) action()     {}
func (Record) action()   {}
