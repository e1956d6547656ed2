package edge

import (
	"strings"
	"testing"

	"bailiwick/consult"
	"bailiwick/edge/signal"
	"bailiwick/steer"
	"bailiwick/steer/world"
)

// A token opens the consult that it names, and a session is resumed there alone.
func TestSessionOfAnotherRoom(t *testing.T) {
	f := start(t, 10, "de-ber")
	a, b := f.consult("de-ber"), f.consult("de-ber")
	holder := f.dial("de-ber")
	holder.hello(a.Participants[0].Token, "")
	session := holder.next(signal.TypeWelcome).Session
	for name, token := range map[string]string{"another consult's": b.Participants[0].Token, "another participant's": a.Participants[1].Token} {
		s := f.dial("de-ber")
		s.hello(token, session)
		if got := s.next(signal.TypeWelcome).Session; got == "" || got == session {
			t.Errorf("%s token with a session that is not its: session %q, want a new one", name, got)
		}
	}
	rooms := map[string]int{}
	for _, r := range f.edges["de-ber"].sfu.Rooms() {
		rooms[r.ID] = r.Participants
	}
	if len(rooms) != 2 || rooms[a.ID] != 2 || rooms[b.ID] != 1 {
		t.Errorf("rooms %v, want two in one and one in the other", rooms)
	}
	// The holder is there still: it is told of the other, and not that its seat is taken.
	holder.send(`{"type":"state","mic":true,"camera":true,"receive_video":true}`)
	holder.send(`{"type":"leave"}`)
	for {
		_, frame, err := holder.conn.Read(t.Context())
		if err != nil {
			break
		}
		if m := string(frame); strings.Contains(m, `"type":"ended"`) || strings.Contains(m, `"type":"refused"`) {
			t.Errorf("the holder was told %s", m)
		}
	}
}

// A consult that moved takes its links of before where it is now, sends their holders on from where
// it was, and is closed to them where they never led; its new standby sends them back.
func TestTokenOfAConsultThatMoved(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra", "fr-par")
	c := f.consult("de-ber")
	patient, clinician := c.Participants[0].Token, c.Participants[1].Token
	s := f.dial("de-ber")
	s.hello(patient, "")
	session := s.next(signal.TypeWelcome).Session
	if err := world.SetMode(t.Context(), f.st, "de-ber", steer.ModeRecord{Mode: "draining"}); err != nil {
		t.Fatal(err)
	}
	moved := s.next(signal.TypeMove)
	if moved.Place.Region != "de-fra" || moved.Epoch != 2 {
		t.Fatalf("moved %+v", moved)
	}
	there := f.dial("de-fra")
	there.hello(moved.Token, session) // of a session that this edge never had
	if w := there.next(signal.TypeWelcome); w.Epoch != 2 || w.Session == session {
		t.Errorf("welcome %+v", w)
	}
	old := f.dial("de-fra") // by the standby of the link of before
	old.hello(clinician, "")
	if w := old.next(signal.TypeWelcome); w.Epoch != 2 {
		t.Errorf("welcome %+v, want epoch 2", w)
	}
	if w := there.next(signal.TypePeers); w.Type == "" {
		t.Error("no peers")
	}
	if n := f.edges["de-fra"].sfu.Rooms()[0].Participants; n != 2 {
		t.Errorf("%d in the room where the consult is, want both", n)
	}
	late := f.dial("de-ber")
	late.hello(clinician, "")
	if m := late.next(signal.TypeMove); m.Place.Region != "de-fra" || m.Epoch != 2 {
		t.Errorf("where it was: %+v", m)
	}
	back := f.dial("de-ber") // which drains, and is no standby of the new place
	back.hello(moved.Token, "")
	if m := back.next(signal.TypeRefused); m.Code != "wrong_edge" {
		t.Errorf("the new token where the consult was: %+v", m)
	}
	never := f.dial("fr-par")
	never.hello(clinician, "")
	if m := never.any(); m.Type != "refused" || m.Code != "wrong_edge" {
		t.Errorf("the old token at an edge that it does not name: %+v", m)
	}
	standby := f.dial("fr-par") // of the new place
	standby.hello(moved.Token, "")
	if m := standby.next(signal.TypeMove); m.Place.Region != "de-fra" {
		t.Errorf("the new token at the standby: %+v", m)
	}
}

// An edge of another deployment has keys of its own: what it signs opens nothing here, and says so.
func TestTokenOfAnotherDeployment(t *testing.T) {
	here, there := start(t, 10, "de-ber"), start(t, 10, "de-ber")
	s := here.dial("de-ber")
	s.hello(there.consult("de-ber").Participants[0].Token, "")
	if m := s.next(signal.TypeRefused); m.Code != "token_invalid" {
		t.Errorf("refused %+v", m)
	}
	if n := len(here.edges["de-ber"].sfu.Rooms()); n != 0 {
		t.Errorf("%d rooms for it", n)
	}
	if n := len(here.edges["de-ber"].Rooms()); n != 0 {
		t.Errorf("%d consults for it", n)
	}
}

// A tenant's token that names another tenant's consult, which no edge of this deployment would
// sign, does not change whose the consult is.
func TestTokenOfAnotherTenant(t *testing.T) {
	f := start(t, 10, "de-ber")
	e, c := f.edges["de-ber"], f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	token, bad := e.admit(c.Participants[1].Token)
	if bad != nil {
		t.Fatal(bad)
	}
	token.Tenant = "other"
	jwt, err := e.router.Signer.Sign(&token, token.Expires.Add(-consult.TokenLife))
	if err != nil {
		t.Fatal(err)
	}
	other := f.dial("de-ber")
	other.hello(jwt, "")
	other.next(signal.TypeWelcome)
	if p := e.rooms.hosted(consult.ID(c.ID)); p.Tenant != "default" {
		t.Errorf("the consult is tenant %q's now, and was default's", p.Tenant)
	}
}
