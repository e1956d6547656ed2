package e2e

import (
	"testing"
)

// Point 2 of the main job: a consult between two real browsers, on one edge alone.
func TestConsultBetweenTwoBrowsers(t *testing.T) {
	d := startDev(t)
	c := newConsult(t, d.api(), "DE", "DE")
	if c.Placement.Region != "de-ber" && c.Placement.Region != "de-fra" {
		t.Fatalf("a German consult is placed on %s", c.Placement.Region)
	}
	patient, clinician := openPage(t, c.Participants[0].URL), openPage(t, c.Participants[1].URL)
	f := flows(t, "patient", patient)
	flows(t, "clinician", clinician)
	t.Logf("patient: %+v", f)
	all := rooms(t, d.api())
	if len(all) != 1 || all[c.Placement.Edge][c.ID] != 2 {
		t.Errorf("rooms %v, want the consult with 2 participants on %s and nothing else", all, c.Placement.Edge)
	}
}
