package consult

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"bailiwick/exact"
	"bailiwick/region"
	"bailiwick/residency"
)

// maxTags is more than any law has.
const maxTags = 8

// Request is the body of POST /v1/consults.
type Request struct {
	Priority     Priority    `json:"priority"`
	Profile      Profile     `json:"profile"`
	E2EE         bool        `json:"e2ee"`
	Tenant       string      `json:"tenant"`
	Tags         []string    `json:"tags"`
	Participants []Requested `json:"participants"`
}

// Requested is one participant as a backend declares it.
type Requested struct {
	Role        Role      `json:"role"`
	Country     string    `json:"country"`
	Subdivision string    `json:"subdivision"`
	At          []float64 `json:"at"` // latitude, longitude in degrees; optional
}

// ParseRequest reads and checks a request; its error lists every fault at once.
// The map decides which tenants exist, and the law which tags.
func ParseRequest(body []byte, m *region.Map, law *residency.Law) (*Placement, error) {
	var q Request
	if err := exact.Read(body, &q); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	p := &Placement{Terms: Terms{Priority: q.Priority, Profile: q.Profile.Kept(), E2EE: q.E2EE, Tenant: q.Tenant, Tags: q.Tags}}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if p.Priority == "" {
		p.Priority = Routine
	}
	if !slices.Contains(priorities, p.Priority) {
		fault("priority %.32q: want one of %v", p.Priority, priorities)
	}
	if !p.Profile.Known() {
		fault("profile %.32q: want one of %v", q.Profile, Profiles)
	}
	if p.Tenant == "" {
		p.Tenant = "default"
	}
	if _, ok := m.Tenants[p.Tenant]; !ok {
		fault("tenant %.64q: not in regions.yaml", p.Tenant)
	}
	for i, t := range p.Tags[:min(len(p.Tags), maxTags)] {
		switch known := law.Tags(); {
		case !slices.Contains(known, t):
			fault("tags[%d]: %.64q: want one of %s", i, t, strings.Join(known, ", "))
		case slices.Contains(p.Tags[:i], t):
			fault("tags[%d]: %s: named twice", i, t)
		}
	}
	if len(p.Tags) > maxTags {
		fault("tags: %d, limit %d", len(p.Tags), maxTags)
	}
	if n := len(q.Participants); n < MinParticipants || n > MaxParticipants {
		fault("participants: %d, want %d to %d", n, MinParticipants, MaxParticipants)
		return nil, errors.Join(faults...)
	}
	for i, r := range q.Participants {
		who, law, err := r.participant()
		if err != nil {
			fault("participants[%d]: %w", i, err)
		}
		if who.Role == patient && (i == 0 || p.Participants[p.Patient].Role != patient) {
			p.Patient = i
		}
		p.Participants, p.Jurisdictions = append(p.Participants, who), append(p.Jurisdictions, law)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return p, nil
}

func (r *Requested) participant() (p Participant, law residency.Jurisdiction, err error) {
	p.Role = r.Role
	var faults []error
	if !slices.Contains(roles, r.Role) {
		faults = append(faults, fmt.Errorf("role %.32q: want one of %v", r.Role, roles))
	}
	if law, err = residency.Declared(r.Country, r.Subdivision); err != nil {
		faults = append(faults, fmt.Errorf("jurisdiction: %w", err))
	}
	if at := r.At; at != nil {
		if len(at) != 2 || !(at[0] >= -90 && at[0] <= 90) || !(at[1] >= -180 && at[1] <= 180) {
			faults = append(faults, errors.New("at: want [latitude, longitude] in degrees"))
		} else {
			p.At = &region.Point{Lat: at[0], Lon: at[1]}
		}
	}
	return p, law, errors.Join(faults...)
}
