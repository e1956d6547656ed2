package steer

import "bailiwick/residency"

// refuse fills d.Refused once nothing is left (READING, fine points). Where the law gives a
// place, home's mode, health or load is the reason. Otherwise it is the first participant, in
// request order, who has none even alone; where each alone would have one, whoever refuses
// somewhere is cited.
func (d *Decision) refuse(s *residency.Subject) {
	if len(d.World.Regions) == 0 {
		d.Refused = append(d.Refused, residency.Verdict{Code: residency.NoRegion})
		return
	}
	all := s.Participants
	if len(all) == 0 {
		d.Refused = append(d.Refused, residency.Verdict{Code: residency.PolicyMissing})
		return
	}
	defer func() { s.Participants = all }()
	for i := range all {
		v := gate(d.World, d.Client, s, i)
		if v.Permitted() {
			s.Participants = all[i : i+1]
			v = d.alone(s)
			s.Participants = all
		}
		if !v.Permitted() {
			d.Refused = append(d.Refused, v)
			return
		}
	}
	for _, r := range d.Rejections {
		if r.Region == d.home.Region && r.Verdict.Participant == "" {
			d.Refused = append(d.Refused, r.Verdict)
			return
		}
	}
	d.Plane = d.apart(s)
	for i := range all {
		s.Participants = all[i : i+1]
		if v := d.against(s); !v.Permitted() {
			d.Refused = append(d.Refused, v)
		}
	}
}

// alone permits when the subject has some lawful region, and one for evidence. Else it is the
// verdict of the region nearest to the patient, whatever its mode.
func (d *Decision) alone(s *residency.Subject) residency.Verdict {
	v := d.nearest(func(r *Region) residency.Verdict { return placement(d.World, r, s) })
	if !v.Permitted() {
		return v
	}
	v = d.nearest(func(r *Region) residency.Verdict {
		return d.World.Law.Permits(residency.Stored, &r.Hop, s, d.World.At)
	})
	if !v.Permitted() {
		v.Code = residency.StoredNowhere
	}
	return v
}

// nearest permits where some region does, else it is the nearest one's verdict.
func (d *Decision) nearest(verdict func(*Region) residency.Verdict) (first residency.Verdict) {
	for _, r := range d.Rejections { // of every region, nearest first
		v := verdict(&d.World.Regions[r.Region])
		if v.Permitted() {
			return v
		}
		if first.Permitted() {
			first = v
		}
	}
	return first
}

// planes are those of a consult's hops, as verdicts name them.
var planes = [...]residency.Plane{residency.Media, residency.Relay, residency.Stored}

// edge is where each plane has a place, and no region two.
const edge = "edge"

// apart is the first plane on which the participants have no place in common.
func (d *Decision) apart(s *residency.Subject) string {
	for _, p := range planes {
		found := false
		for i := range d.World.Regions {
			found = found || d.World.Law.Permits(p, &d.World.Regions[i].Hop, s, d.World.At).Permitted()
		}
		if !found {
			return p.String()
		}
	}
	return edge
}

// against is the nearest region's verdict that refuses the subject on the plane that they
// have not in common.
func (d *Decision) against(s *residency.Subject) residency.Verdict {
	for _, r := range d.Rejections {
		reg := &d.World.Regions[r.Region]
		v := residency.Verdict{}
		if d.Plane == edge {
			v = placement(d.World, reg, s)
		}
		for _, p := range planes {
			if d.Plane == p.String() {
				v = d.World.Law.Permits(p, &reg.Hop, s, d.World.At)
			}
		}
		if !v.Permitted() {
			return v
		}
	}
	return residency.Verdict{}
}
