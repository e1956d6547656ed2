package edge

import (
	"fmt"
	"strings"
	"testing"

	"bailiwick/edge/signal"
	"bailiwick/steer"
	"bailiwick/steer/world"
)

// A consult has the profile that the backend asked for, until a clinician says otherwise: both hear
// it, and it goes with the consult to another edge.
func TestProfile(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	body := `{"profile":%q,"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}]}`
	var bad struct{ Code, Detail string }
	if code := f.call("de-ber", "POST", "/v1/consults", fmt.Sprintf(body, "x-ray"), "dev", &bad); code != 400 || bad.Code != "bad_request" || !strings.Contains(bad.Detail, "[face detail sign]") {
		t.Errorf("an unknown profile: %d %+v", code, bad)
	}
	var c minted
	if code := f.call("de-ber", "POST", "/v1/consults", fmt.Sprintf(body, "sign"), "dev", &c); code != 201 {
		t.Fatalf("POST: %d", code)
	}
	if r := f.reply("de-ber", c.ID); r.Profile != "sign" || r.Video != "" {
		t.Errorf("before anybody came: %+v", r)
	}
	join := func(i int) *socket {
		t.Helper()
		s := f.dial("de-ber")
		s.hello(c.Participants[i].Token, "")
		if w := s.next(signal.TypeWelcome); w.Profile != "sign" {
			t.Errorf("welcome with profile %q", w.Profile)
		}
		return s
	}
	patient, clinician := join(0), join(1)

	patient.send(`{"type":"profile","profile":"detail"}`)
	if m := patient.next(signal.TypeProfile); m.Profile != "sign" || m.Refused == "" || m.By != "" {
		t.Errorf("the patient's wish: %+v", m)
	}
	clinician.send(`{"type":"profile","profile":"x-ray"}`)
	if m := clinician.next(signal.TypeProfile); m.Profile != "sign" || !strings.Contains(m.Refused, "[face detail sign]") {
		t.Errorf("one that is none: %+v", m)
	}
	clinician.send(`{"type":"profile","profile":"detail"}`)
	for _, s := range []*socket{patient, clinician} {
		if m := s.next(signal.TypeProfile); m.Profile != "detail" || m.By != c.Participants[1].ID || m.Refused != "" {
			t.Errorf("the clinician's: %+v", m)
		}
	}
	if r := f.reply("de-ber", c.ID); r.Profile != "detail" || len(r.Events) != 1 || r.Events[0].What != "profile" || r.Events[0].Is != "detail" {
		t.Errorf("%+v", r)
	}

	if err := world.SetMode(t.Context(), f.st, "de-ber", steer.ModeRecord{Mode: "draining"}); err != nil {
		t.Fatal(err)
	}
	m := patient.next(signal.TypeMove)
	there := f.dial("de-fra")
	there.hello(m.Token, "")
	if w := there.next(signal.TypeWelcome); w.Profile != "detail" {
		t.Errorf("after the move: %q", w.Profile)
	}
}
