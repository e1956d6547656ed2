package consult

import (
	"slices"
	"strings"

	"bailiwick/region"
	"bailiwick/residency"
	"bailiwick/steer"
)

// Terms are what a consult's record, its tokens and its running room must agree on:
// whose law binds it, how it is treated, and where it is since which epoch. A token
// carries them signed, so that an edge needs nobody's word to hold or move a consult.
type Terms struct {
	Consult       ID                       `json:"consult"`
	Jurisdictions []residency.Jurisdiction `json:"jurisdictions"` // every participant's, in request order
	Patient       int                      `json:"patient,omitempty"`
	Priority      Priority                 `json:"priority"`
	Profile       Profile                  `json:"profile,omitempty"` // that it begins with
	E2EE          bool                     `json:"e2ee,omitempty"`
	Tenant        string                   `json:"tenant,omitempty"`
	Tags          []string                 `json:"tags,omitempty"`
	Edge          region.EdgeID            `json:"edge"`
	Standby       []region.EdgeID          `json:"standby,omitempty"`
	Epoch         uint64                   `json:"epoch"`
}

// Names tells whether somebody of these terms may join at the edge.
func (t *Terms) Names(edge region.EdgeID) bool {
	return t.Edge == edge || slices.Contains(t.Standby, edge)
}

// Supersedes tells which of two terms of one consult is in force: the highest epoch wins.
// Two edges that were cut off from the store may both have written the same epoch; then
// everybody prefers the same one of them.
func (t *Terms) Supersedes(other *Terms) bool {
	if t.Epoch != other.Epoch {
		return t.Epoch > other.Epoch
	}
	return t.Edge < other.Edge
}

// Client is the consult as steering sees it. Participants are as far away as their
// jurisdictions: where somebody is more exactly, only the record says. End-to-end encryption
// counts because every edge refuses media in the clear where the terms say so (READING, fine
// points).
func (t *Terms) Client(m *region.Map) *steer.Client {
	c := &steer.Client{Participants: t.Jurisdictions, Patient: t.Patient, E2EE: t.E2EE, Tags: t.Tags, Tenant: m.Tenant(t.Tenant), Priority: t.Priority.Rank(),
		Key: steer.Key(string(t.Consult)), Places: make([]region.Place, 0, len(t.Jurisdictions))}
	for _, j := range t.Jurisdictions {
		at, located := region.Locate(j)
		c.Places = append(c.Places, region.Place{Jurisdiction: j, Point: at, Located: located})
	}
	return c
}

// Place writes a decision's choice into the terms and raises their epoch. The decision
// must have a candidate.
func (t *Terms) Place(d *steer.Decision) {
	_, e := d.Best()
	t.Edge, t.Standby = e.ID, nil
	if _, s := d.Standby(); s != nil {
		t.Standby = []region.EdgeID{s.ID}
	}
	t.Epoch++
}

// Valid tells whether a consult can have the ID: it becomes a key of the store, and comes
// from strangers' URLs.
func (id ID) Valid() bool {
	outside := func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-') }
	return strings.HasPrefix(string(id), "c") && len(id) <= 128 && !strings.ContainsFunc(string(id), outside)
}

// Datacenter is the one whose store has the consult's record; empty where the deployment
// names none. The ID tells it: RANDOM or RANDOM-DATACENTER.
func (id ID) Datacenter() string {
	_, dc, _ := strings.Cut(string(id), "-")
	return dc
}

// In makes an ID of a consult whose record is in that datacenter.
func (id ID) In(datacenter string) ID {
	if datacenter == "" {
		return id
	}
	return id + "-" + ID(datacenter)
}
