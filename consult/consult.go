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
	"time"

	"bailiwick/region"
	"bailiwick/residency"
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

var roles = []Role{"patient", "clinician", "interpreter", "companion", "captioner"}

// Priority orders consults for shedding: the first is shed first.
type Priority string

var priorities = []Priority{"education", "follow-up", "routine", "urgent", "emergency"}

// Routine is the priority of a consult that names none.
const Routine Priority = "routine"

// Participant is one seat as the backend declared it.
type Participant struct {
	ID           ParticipantID          `json:"id"`
	Role         Role                   `json:"role"`
	Jurisdiction residency.Jurisdiction `json:"jurisdiction"`
	At           *region.Point          `json:"at,omitempty"` // for distance only, never for law
}

// Placement is the record under bailiwick/consults/ID: where the consult is, by
// whose law, and since which epoch. The highest epoch wins.
type Placement struct {
	ID           ID              `json:"id"`
	Region       region.ID       `json:"region"`
	Edge         region.EdgeID   `json:"edge"`
	Standby      []region.EdgeID `json:"standby"`
	Epoch        uint64          `json:"epoch"`
	Participants []Participant   `json:"participants"`
	Priority     Priority        `json:"priority"`
	E2EE         bool            `json:"e2ee,omitempty"`
	Tenant       string          `json:"tenant,omitempty"`
	Tags         []string        `json:"tags,omitempty"`
	Created      time.Time       `json:"created"`
	Expires      time.Time       `json:"expires"`
	Ended        bool            `json:"ended,omitempty"`
}

// Key is the store key of a consult's placement.
func (id ID) Key() string { return KeyPrefix + string(id) }

// KeyPrefix is where placements live in the store.
const KeyPrefix = "bailiwick/consults/"

// ParsePlacement reads a stored placement.
func ParsePlacement(data []byte) (Placement, error) {
	var p Placement
	if err := json.Unmarshal(data, &p); err != nil {
		return Placement{}, fmt.Errorf("placement: parse: %w", err)
	}
	if p.ID == "" || p.Epoch == 0 || p.Edge == "" {
		return Placement{}, errors.New("placement: id, edge and epoch are required")
	}
	return p, nil
}

// Client is the consult as steering sees it.
func (p *Placement) Client(m *region.Map) *steer.Client {
	c := &steer.Client{E2EE: p.E2EE, Tags: p.Tags, Tenant: m.Tenants[p.Tenant], Key: steer.Key(string(p.ID))}
	for i, who := range p.Participants {
		c.Participants = append(c.Participants, who.Jurisdiction)
		c.Places = append(c.Places, who.place())
		if who.Role == "patient" && p.Participants[c.Patient].Role != "patient" {
			c.Patient = i
		}
	}
	return c
}

func (p *Participant) place() region.Place {
	if p.At != nil {
		return region.Place{Jurisdiction: p.Jurisdiction, Point: *p.At, Located: true}
	}
	at, ok := region.Locate(p.Jurisdiction)
	return region.Place{Jurisdiction: p.Jurisdiction, Point: at, Located: ok}
}

// Place writes a decision's choice into the placement and raises its epoch. The
// decision must have a candidate.
func (p *Placement) Place(d *steer.Decision) {
	r, e := d.Best()
	p.Region, p.Edge, p.Standby = r.ID, e.ID, nil
	if _, s := d.Standby(); s != nil {
		p.Standby = []region.EdgeID{s.ID}
	}
	p.Epoch++
}

// Life is how long a placement may be used: after it, the record is swept.
const Life = 12 * time.Hour
