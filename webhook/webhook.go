// Package webhook tells tenants' backends what becomes of their consults: events, queued on
// disk, signed as Standard Webhooks 1.0 has it and delivered at least once.
//
// [Queue.Put] never waits, whatever the backend or the disk does. An event is tried until the
// backend answers 2xx, at most for [life]; those of one consult in their order, the oldest of a
// tenant first. It is identified by webhook-id, the same at each try, and by [Consult.Started],
// [Consult.Moved] and [Consult.Ended] the same at each edge that tells it.
//
// An event names a consult, an edge and, as the backend was given it, a participant: no token,
// no address, nothing of a person. Secrets are read from their files at each delivery, and are
// in no message of this package; neither are URLs, which may hold one.
package webhook

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"bailiwick/consult"
	"bailiwick/region"
)

// Type of an event. The list is closed.
type Type string

const (
	started  Type = "consult.started"
	joined   Type = "consult.joined"
	left     Type = "consult.left"
	moved    Type = "consult.moved"
	degraded Type = "consult.degraded"
	ended    Type = "consult.ended"
)

var types = [...]Type{started, joined, left, moved, degraded, ended}

// Consult is whom an event is of, and where it was seen.
type Consult struct {
	Tenant string // empty: default
	ID     consult.ID
	Epoch  uint64
	Edge   region.EdgeID
	Region region.ID
	// Unstored keeps the event off the disk: the law permits no record of the consult here.
	Unstored bool
}

// Event is one, made by the methods of [Consult].
type Event struct {
	id       string
	kind     Type
	tenant   string
	consult  consult.ID
	unstored bool
	body     []byte
}

// data is what an event says.
type data struct {
	Consult     consult.ID            `json:"consult"`
	Epoch       uint64                `json:"epoch"`
	Edge        region.EdgeID         `json:"edge"`
	Region      region.ID             `json:"region"`
	Participant consult.ParticipantID `json:"participant,omitempty"`
	Role        consult.Role          `json:"role,omitempty"`
	Step        string                `json:"step,omitempty"`
	From        region.EdgeID         `json:"from,omitempty"`
	To          region.EdgeID         `json:"to,omitempty"`
	Reason      string                `json:"reason,omitempty"`
}

// Started is the first participant on an edge. Where the consult has moved since, the edge that
// it came to may say so again, under the same ID.
func (c Consult) Started(at time.Time) Event {
	return c.event(started, fmt.Sprintf("started_%s", c.ID), at, data{})
}

// Joined is a participant who has a seat, and is not parked.
func (c Consult) Joined(at time.Time, who consult.ParticipantID, role consult.Role) Event {
	return c.event(joined, rand.Text(), at, data{Participant: who, Role: role})
}

// Left is one who has it no more.
func (c Consult) Left(at time.Time, who consult.ParticipantID, role consult.Role, reason string) Event {
	return c.event(left, rand.Text(), at, data{Participant: who, Role: role, Reason: reason})
}

// Moved is a consult that another edge has from now on; Epoch is that of the move.
func (c Consult) Moved(at time.Time, from, to region.EdgeID, reason string) Event {
	return c.event(moved, fmt.Sprintf("moved_%s_%d_%s", c.ID, c.Epoch, to), at, data{From: from, To: to, Reason: reason})
}

// Degraded is a consult that the edge's pressure takes something of, or gives it back: the
// ladder's step in force from now on, and the reason by the ladder's name for it.
func (c Consult) Degraded(at time.Time, step, reason string) Event {
	return c.event(degraded, rand.Text(), at, data{Step: step, Reason: reason})
}

// Ended is a consult that is over.
func (c Consult) Ended(at time.Time, reason string) Event {
	return c.event(ended, fmt.Sprintf("ended_%s", c.ID), at, data{Reason: reason})
}

func (c Consult) event(kind Type, id string, at time.Time, d data) Event {
	if c.Tenant == "" {
		c.Tenant = "default"
	}
	d.Consult, d.Epoch, d.Edge, d.Region = c.ID, c.Epoch, c.Edge, c.Region
	body, err := json.Marshal(struct {
		Type      Type      `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      data      `json:"data"`
	}{kind, at.UTC().Truncate(time.Millisecond), d})
	if err != nil {
		panic(err) // a struct of words and a time
	}
	return Event{id: "msg_" + id, kind: kind, tenant: c.Tenant, consult: c.ID, unstored: c.Unstored, body: body}
}
