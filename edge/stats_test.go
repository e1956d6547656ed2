package edge

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/edge/signal"
)

// What clients say of how they hear and see each other is counted, without a name: of the others
// in the room, within what can be, and not as often as somebody likes to send it.
func TestClientsStats(t *testing.T) {
	registry := prometheus.NewRegistry()
	f := startWith(t, 10, func(c *Config) { c.Metrics = registry }, "de-ber")
	c := f.consult("de-ber")
	patient, clinician := f.dial("de-ber"), f.dial("de-ber")
	for i, s := range []*socket{patient, clinician} {
		s.hello(c.Participants[i].Token, "")
		s.next(signal.TypeWelcome)
	}
	says := `{"participant":%q,"height":720,"frozen_s":1.5,"concealed":7,"mos":3}`
	report := fmt.Sprintf(`{"type":"stats","participants":[`+says+`,`+says+`,`+says+`]}`, c.Participants[1].ID, c.Participants[0].ID, "stranger")
	for range 50 {
		patient.send(report)
	}
	clinician.send(`{"type":"stats","participants":[]}`)
	for _, s := range []*socket{patient, clinician} { // messages are taken in turn: an answer to the last says that all were
		s.send(`{"type":"profile","profile":"x-ray"}`)
		if m := s.next(signal.TypeProfile); m.Refused == "" {
			t.Errorf("%+v", m)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, m := range families {
		if !strings.HasPrefix(m.GetName(), "bailiwick_client_") {
			continue
		}
		is := m.GetMetric()[0]
		got[m.GetName()] = is.GetHistogram().GetSampleSum() + is.GetCounter().GetValue()
		if n := is.GetHistogram().GetSampleCount(); is.GetHistogram() != nil && n != 1 {
			t.Errorf("%s: %d samples, want 1", m.GetName(), n)
		}
		for _, l := range is.GetLabel() {
			if l.GetName() != "edge" && l.GetName() != "region" {
				t.Errorf("%s has the label %s", m.GetName(), l.GetName())
			}
		}
	}
	want := map[string]float64{"bailiwick_client_mos": 3, "bailiwick_client_concealed_ratio": 1, "bailiwick_client_freeze_seconds_total": 1.5}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
