// Package consult is one consultation: who takes part, where it is placed, and
// the tokens that prove both.
//
// It is not the API (consult/router), not the room (edge/sfu) and does no ranking
// (steer). It opens nothing and reads no clock: time and randomness are arguments.
package consult

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"bailiwick/exact"
	"bailiwick/region"
	"bailiwick/steer"
)

// ID names a consult. It identifies no person and may appear in logs.
type ID string

// ParticipantID names a seat of a consult, never a person.
type ParticipantID string

// Rooms are for two to six.
const (
	MinParticipants = 2
	MaxParticipants = 6
)

// Role is what a participant is to the consult.
type Role string

const patient Role = "patient"

// Clinician is who may change a running consult's profile.
const Clinician Role = "clinician"

var roles = []Role{patient, Clinician, "interpreter", "companion", "captioner"}

// Priority orders consults for shedding: the first is shed first.
type Priority string

var priorities = []Priority{"education", "follow-up", "routine", "urgent", "emergency"}

// Rank is the priority as steering has it; that of an unknown one is Routine's.
func (p Priority) Rank() steer.Priority {
	if i := slices.Index(priorities, p); i >= 0 {
		return steer.Education + steer.Priority(i)
	}
	return steer.Routine
}

// Routine is the priority of a consult that names none.
const Routine Priority = "routine"

// Profile is what the consult's video is looked at for, and so what it keeps when there is too
// little for all of it. The empty one is Face.
type Profile string

const (
	Face   Profile = "face"
	Detail Profile = "detail" // skin, wounds: resolution
	Sign   Profile = "sign"   // sign language, lips: frame rate
)

// Profiles are all there are.
var Profiles = []Profile{Face, Detail, Sign}

// Known tells whether there is such a profile.
func (p Profile) Known() bool { return slices.Contains(Profiles, p.Name()) }

// Name is the profile's, Face for the empty one.
func (p Profile) Name() Profile {
	if p == "" {
		return Face
	}
	return p
}

// Kept is what is written of a profile: nothing of Face, so that versions without profiles read
// what most consults are.
func (p Profile) Kept() Profile {
	if p == Face {
		return ""
	}
	return p
}

// Participant is one seat as the backend declared it; Terms.Jurisdictions has whose law
// it brings.
type Participant struct {
	ID   ParticipantID `json:"id"`
	Role Role          `json:"role"`
	At   *region.Point `json:"at,omitempty"` // for distance only, never for law
}

// Placement is the record under bailiwick/consults/ID. What a newer version wrote into
// it beside these fields is kept when it is written again.
type Placement struct {
	Terms
	Region       region.ID     `json:"region"`
	Participants []Participant `json:"participants"` // parallel to Jurisdictions
	Created      time.Time     `json:"created"`
	Expires      time.Time     `json:"expires"`
	Ended        bool          `json:"ended,omitempty"`
	// Left are edges that it was at, where somebody may still be who cannot get away: they
	// hear what becomes of it.
	Left []region.EdgeID `json:"left,omitempty"`

	unknown map[string]json.RawMessage
}

// Key is the store key of a consult's placement.
func (id ID) Key() string { return KeyPrefix + string(id) }

// KeyPrefix is where placements live in the store.
const KeyPrefix = "bailiwick/consults/"

// ParsePlacement reads a stored placement.
func ParsePlacement(data []byte) (Placement, error) {
	var p Placement
	if err := exact.Known(data, &p); err != nil {
		return Placement{}, fmt.Errorf("placement: parse: %w", err)
	}
	if p.Consult == "" || p.Epoch == 0 || p.Edge == "" || len(p.Jurisdictions) == 0 || len(p.Participants) != len(p.Jurisdictions) ||
		p.Patient < 0 || p.Patient >= len(p.Jurisdictions) {
		return Placement{}, errors.New("placement: consult, edge, epoch and as many participants as jurisdictions are required")
	}
	return p, nil
}

// plain is a Placement with the encoding of its fields alone.
type plain Placement

// UnmarshalJSON implements json.Unmarshaler.
func (p *Placement) UnmarshalJSON(data []byte) error {
	*p = Placement{}
	if exact.Read(data, (*plain)(p)) == nil {
		return nil // the common case: it holds nothing unknown
	}
	*p = Placement{}
	if err := exact.Known(data, (*plain)(p)); err != nil {
		return err
	}
	if err := exact.Known(data, &p.unknown); err != nil {
		return err
	}
	for name := range p.unknown {
		if known[name] {
			delete(p.unknown, name)
		}
	}
	if len(p.unknown) == 0 {
		p.unknown = nil
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (p Placement) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(plain(p))
	if err != nil || len(p.unknown) == 0 {
		return b, err
	}
	more, err := json.Marshal(p.unknown)
	if err != nil {
		return nil, err
	}
	return append(append(b[:len(b)-1], ','), more[1:]...), nil
}

// known are the names of the fields of a Placement.
var known = func() map[string]bool {
	names := map[string]bool{}
	for _, t := range []reflect.Type{reflect.TypeFor[Terms](), reflect.TypeFor[Placement]()} {
		for f := range t.Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
				names[name] = true
			}
		}
	}
	return names
}()

// Client is the consult as steering sees it.
func (p *Placement) Client(m *region.Map) *steer.Client {
	c := p.Terms.Client(m)
	for i, who := range p.Participants {
		if who.At != nil {
			c.Places[i].Point, c.Places[i].Located = *who.At, true
		}
	}
	return c
}

// Patients are the indices of those among the participants.
func (p *Placement) Patients() (all []int) {
	for i := range p.Participants {
		if p.Participants[i].Role == patient {
			all = append(all, i)
		}
	}
	return all
}

// Place writes a decision's choice into the placement and raises its epoch. The
// decision must have a candidate.
func (p *Placement) Place(d *steer.Decision) {
	r, _ := d.Best()
	p.Region = r.ID
	p.Terms.Place(d)
}

// Concerned are the edges that may have somebody of the consult.
func (p *Placement) Concerned() []region.EdgeID {
	return slices.Concat([]region.EdgeID{p.Edge}, p.Standby, p.Left)
}

// maxLeft edges are remembered, the last ones.
const maxLeft = 8

// Move puts newer terms of the same consult in force. between are edges of terms that were
// in force meanwhile and never written.
func (p *Placement) Move(t *Terms, to region.ID, between []region.EdgeID) {
	for _, e := range slices.Concat([]region.EdgeID{p.Edge}, p.Standby, between) {
		p.Left = append(slices.DeleteFunc(p.Left, func(l region.EdgeID) bool { return l == e }), e)
	}
	p.Left = slices.DeleteFunc(p.Left, t.Names)
	p.Left = p.Left[max(0, len(p.Left)-maxLeft):]
	p.Edge, p.Standby, p.Epoch, p.Region = t.Edge, t.Standby, t.Epoch, to
}

// Copy shares nothing that End and Move change.
func (p *Placement) Copy() Placement {
	c := *p
	c.Participants, c.Left = slices.Clone(p.Participants), slices.Clone(p.Left)
	return c
}

// End marks the record as that of a consult that has ended at now. It stays as long as a
// join token may still be good, so that whoever opens a link again hears of the end, and
// goes then; where somebody was is forgotten at once.
func (p *Placement) End(now time.Time) {
	p.Ended = true
	for i := range p.Participants {
		p.Participants[i].At = nil
	}
	if last := now.Add(TokenLife + 2*Skew); p.Expires.After(last) {
		p.Expires = last
	}
}

// Life is how long a placement may be used: after it, the record is swept.
const Life = 12 * time.Hour
