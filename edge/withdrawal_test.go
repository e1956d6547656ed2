package edge

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bailiwick/edge/signal"
	"bailiwick/region"
	"bailiwick/tools/logtest"
)

// unpapered is the fixture's map without a paper that Germany asks for, and with so much grace.
func (f *fixture) unpapered(grace time.Duration) *region.Map {
	m := *f.m
	m.Digest, m.WithdrawalGrace = fmt.Sprint("unpapered ", grace), grace
	m.Operator.Facts = maps.Clone(m.Operator.Facts)
	delete(m.Operator.Facts, "establishment_in_DE")
	return &m
}

// Rule 18: the papers of a running consult go. Everybody there hears by which rule it ends and
// when, also who comes back; it is logged and counted; papers that return stop it, and else it
// ends with the rule.
func TestWithdrawal(t *testing.T) {
	registry := prometheus.NewRegistry()
	var log logtest.Buffer
	evidence, err := NewEvidence(registry, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	f := startWith(t, 10, func(c *Config) { c.Metrics, c.Record = registry, evidence.Record }, "de-ber")
	counts := func(want float64) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := -1.0
		for _, m := range families {
			if m.GetName() == "bailiwick_edge_consults_withdrawn" {
				got = m.GetMetric()[0].GetGauge().GetValue()
			}
		}
		if got != want {
			t.Errorf("bailiwick_edge_consults_withdrawn %v, want %v", got, want)
		}
	}
	c := f.consult("de-ber")
	patient, clinician := f.dial("de-ber"), f.dial("de-ber")
	patient.hello(c.Participants[0].Token, "")
	session := patient.next(signal.TypeWelcome).Session
	clinician.hello(c.Participants[1].Token, "")
	clinician.next(signal.TypeWelcome)
	counts(0)
	f.foresees()

	told := func(s *socket) {
		t.Helper()
		m := s.next(signal.TypeWithdrawal)
		if m.Code != "fact_missing" || len(m.Citation) == 0 || m.EndsAt == nil || m.Seconds < 1 || m.Seconds > 60 {
			t.Errorf("withdrawal: %+v", m)
		}
	}
	f.world.SetMap(f.unpapered(time.Minute))
	told(patient)
	told(clinician)
	counts(1)
	// A reload.
	again := f.dial("de-ber")
	again.hello(c.Participants[0].Token, session)
	again.next(signal.TypeWelcome)
	told(again)

	f.world.SetMap(f.m)
	for _, s := range []*socket{again, clinician} {
		m := s.next(signal.TypeWithdrawal)
		for m.EndsAt != nil { // who came back had everybody told anew
			m = s.next(signal.TypeWithdrawal)
		}
		if m.Code != "" || m.Seconds != 0 {
			t.Errorf("the law is back: %+v", m)
		}
	}
	counts(0)

	f.world.SetMap(f.unpapered(time.Second))
	told(again)
	m := clinician.next(signal.TypeWithdrawal)
	if m.Code != "fact_missing" {
		t.Errorf("withdrawal: %+v", m)
	}
	for _, s := range []*socket{again, clinician} {
		m := s.last()
		if m.Reason != "law" || m.Code != "fact_missing" || len(m.Citation) == 0 {
			t.Errorf("the end: %+v", m)
		}
	}
	counts(0)
	// The rooms are told of a map only after the edge has said what the one before did.
	if line := `when="after the reload" region=de-ber consults=1 of=1 grace=1m0s reason=fact_missing`; !strings.Contains(f.log.String(), line) {
		t.Errorf("no line %s in the log:\n%s", line, f.log.String())
	}
	for _, line := range []string{`level=WARN msg="the law leaves a running consult no place: it ends"`, `msg="the law leaves a running consult a place again: it goes on"`} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("no line %s in the log:\n%s", line, log.String())
		}
	}
}

// foresees asks the edge of de-ber what maps would do to the one consult that runs there.
func (f *fixture) foresees() {
	f.t.Helper()
	good, err := os.ReadFile("../regions.yaml")
	if err != nil {
		f.t.Fatal(err)
	}
	without := func(cut string) string {
		text := strings.Replace(string(good), cut, "", 1)
		if text == string(good) {
			f.t.Fatalf("regions.yaml has no %q", cut)
		}
		return text
	}
	establishment := "      {id: DEMO-HRB-2026, date: 2026-01-15, expires: 2027-12-31}\n"
	for _, tt := range []struct {
		name, text, key    string
		status, runs, ends int
		code               string
	}{
		{"as it is", string(good), "dev", 200, 1, 0, ""},
		{"a paper is gone", strings.Replace(without(establishment), "    establishment_in_DE:", "    #", 1), "dev", 200, 1, 1, "fact_missing"},
		{"not an operator", string(good), "watch", 403, 0, 0, "forbidden"},
		{"no key", string(good), "", 401, 0, 0, "unauthorized"},
		{"no map", "colour: blue", "dev", 400, 0, 0, "bad_request"},
		{"empty", "", "dev", 400, 0, 0, "bad_request"},
		{"a byte order mark, as editors put it before YAML", "\ufeff" + string(good), "dev", 200, 1, 0, ""},
		{"a key twice", string(good) + "zone: media.example\n", "dev", 400, 0, 0, "bad_request"},
		{"a key in another case", strings.Replace(string(good), "\nzone:", "\nZone:", 1), "dev", 400, 0, 0, "bad_request"},
		{"control characters", strings.Replace(string(good), "city: Berlin", "city: \"Ber\x01lin\"", 1), "dev", 400, 0, 0, "bad_request"},
		{"JSON", `{"zone": 1}`, "dev", 400, 0, 0, "bad_request"},
		{"bytes that are no text", "\xff\xfe\x00", "dev", 400, 0, 0, "bad_request"},
		{"too large", strings.Repeat("#", 1<<20+1), "dev", 413, 0, 0, "body_too_large"},
	} {
		var got struct {
			Foreseen
			Code string
		}
		status := f.call("de-ber", "POST", "/v1/map/check", tt.text, tt.key, &got)
		if len(got.Ends) > 0 {
			got.Code = got.Ends[0].Code
		}
		if status != tt.status || got.Running != tt.runs || got.Ending() != tt.ends || got.Code != tt.code {
			f.t.Errorf("%s: %d %+v", tt.name, status, got)
		}
	}
}

// A grace of nothing ends it at once, with the rule.
func TestWithdrawalWithoutGrace(t *testing.T) {
	f := start(t, 10, "de-ber")
	c := f.consult("de-ber")
	s := f.dial("de-ber")
	s.hello(c.Participants[0].Token, "")
	s.next(signal.TypeWelcome)
	f.world.SetMap(f.unpapered(0))
	if m := s.last(); m.Reason != "law" || m.Code != "fact_missing" || len(m.Citation) == 0 {
		t.Errorf("the end: %+v", m)
	}
}
