package edge

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/consult"
	"bailiwick/edge/signal"
	"bailiwick/tools/logtest"
)

// Every decision about a consult is handed on, and none names a person.
func TestDecisionsAreHandedOn(t *testing.T) {
	log, metrics := new(logtest.Buffer), prometheus.NewRegistry()
	evidence, err := NewEvidence(metrics, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	f := startWith(t, 10, func(c *Config) { c.Record = evidence.Record }, "de-ber", "de-fra")
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	f.mode("de-ber", "down")
	s.next(signal.TypeMove)
	f.mode("de-fra", "down")
	if code := f.consult2("de-ber"); code != 503 {
		t.Fatalf("a consult with every region down: %d", code)
	}
	if code := f.call("de-ber", "DELETE", "/v1/consults/"+c.ID, "", "dev", nil); code != 204 {
		t.Fatalf("DELETE: %d", code)
	}
	for m := s.read(); m.Type != "ended"; m = s.read() {
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	did := map[string]bool{}
	for _, m := range families[0].Metric {
		for _, l := range m.Label {
			if l.GetName() == "did" {
				did[l.GetValue()] = true
			}
		}
	}
	for _, want := range []consult.Deed{consult.Placed, consult.Admitted, consult.Moved, consult.Refused, consult.Ended} {
		if !did[string(want)] {
			t.Errorf("no %s among %v", want, did)
		}
	}
	if text := log.String(); !strings.Contains(text, "did=move") || strings.Contains(text, c.Participants[0].ID) {
		t.Errorf("the log tells no move, or a participant:\n%s", text)
	}
}
