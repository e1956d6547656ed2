package steer

import "bailiwick/residency"

// refuse fills d.Refused once nothing is left. Where the law alone would have
// given a place, the nearest lawful region's mode, health or load is the reason.
// Otherwise it is the first participant that has no place even alone; where each
// alone would have one, all are cited (READING, fine points: no_common_place).
func (d *Decision) refuse(s *residency.Subject) {
	for _, r := range d.Rejections { // nearest first
		if r.Verdict.Row == nil && r.Verdict.Participant == "" {
			d.Refused = append(d.Refused, r.Verdict)
			return
		}
		if r.Verdict.Code == residency.StoredNowhere {
			d.Refused = append(d.Refused, r.Verdict)
			return
		}
	}
	if len(d.Rejections) == 0 {
		d.Refused = append(d.Refused, residency.Verdict{Code: residency.NoRegion})
		return
	}
	all := s.Participants
	for i := range all {
		s.Participants = all[i : i+1]
		v := d.alone(s)
		if v.Permitted() {
			continue
		}
		s.Participants = all
		d.Refused = append(d.Refused[:0], v)
		return
	}
	for i := range all {
		s.Participants = all[i : i+1]
		d.Refused = append(d.Refused, d.firstAgainst(s))
	}
	s.Participants = all
}

// alone permits when the subject has some lawful region, else it is the nearest
// region's verdict.
func (d *Decision) alone(s *residency.Subject) residency.Verdict {
	var nearest residency.Verdict
	for i, r := range d.Rejections {
		v := placement(d.World, &d.World.Regions[r.Region], s)
		if v.Permitted() {
			return v
		}
		if i == 0 {
			nearest = v
		}
	}
	return nearest
}

// firstAgainst is the nearest region's verdict that refuses the subject; a
// participant that alone refuses nothing is cited as permitted.
func (d *Decision) firstAgainst(s *residency.Subject) residency.Verdict {
	for _, r := range d.Rejections {
		if v := placement(d.World, &d.World.Regions[r.Region], s); !v.Permitted() {
			return v
		}
	}
	return residency.Verdict{Participant: s.Participants[0]}
}
