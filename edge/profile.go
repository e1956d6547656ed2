package edge

import (
	"fmt"
	"time"

	"bailiwick/consult"
	"bailiwick/edge/sfu/allot"
	"bailiwick/edge/signal"
	"bailiwick/failover"
)

// choice is a participant's wish for what the video is looked at for.
type choice struct {
	seat    failover.Seat
	profile consult.Profile
}

// profile is the one in force: as the clinician chose it last, or as the terms have it.
func (rm *runner) profile() consult.Profile {
	if rm.chosen != "" {
		return rm.chosen
	}
	t := rm.machine.Terms()
	return t.Profile.Name()
}

// show has those who ask see the profile that is in force.
func (rm *runner) show() {
	p := rm.profile()
	rm.present.Store(&p)
}

// allotted is a profile as the SFU has it; one of a newer version is the default.
func allotted(p consult.Profile) allot.Profile {
	switch p {
	case consult.Detail:
		return allot.Detail
	case consult.Sign:
		return allot.Sign
	}
	return allot.Face
}

// choose takes a wish. Whoever may not have it is told why, and the call goes on.
func (rm *runner) choose(ch choice) {
	c := rm.conns[ch.seat]
	if c == nil || c.session == nil {
		return
	}
	m := signal.Profile{Type: signal.TypeProfile, Profile: string(rm.profile())}
	switch {
	case c.token.Role != consult.Clinician:
		m.Refused = "only a clinician sets a consult's profile"
	case !ch.profile.Known():
		m.Refused = fmt.Sprintf("profile %.32q: want one of %v", ch.profile, consult.Profiles)
	}
	if m.Refused != "" {
		c.out.put(m)
		return
	}
	m.By = string(c.token.Participant)
	if m.Profile != string(ch.profile) {
		rm.chosen = ch.profile
		rm.show()
		m.Profile = string(ch.profile)
		e := rm.edge()
		e.pressure.profile(rm.id, ch.profile)
		e.sfu.Profile(string(rm.id), allotted(ch.profile))
		rm.line(time.Now(), "profile", m.Profile, "")
	}
	for _, c := range rm.conns {
		if c.session != nil {
			c.out.put(m)
		}
	}
}
