package residency

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// now is the instant of every verdict in these tests.
var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// paper is a record in force.
var paper = Record{ID: "doc-1", Date: now.AddDate(0, -1, 0), Expires: now.AddDate(1, 0, 0)}

// asserted are all facts of one scope, less those named.
func asserted(scope string, less ...Fact) Facts {
	f := Facts{}
	for name, r := range Shipped().Facts() {
		if r.Scope == scope && !slices.Contains(less, name) {
			f[name] = paper
		}
	}
	return f
}

// hopTest asks for one hop of a consult for which every fact is asserted, less
// those named, and none recorded.
type hopTest struct {
	name  string
	plane Plane
	who   string // participants in request order, separated by blanks
	at    Jurisdiction
	less  []Fact
	with  func(*Subject)
	dpf   bool   // flag dpf_valid
	want  string // "" permitted, else "code participant row", with the fact where there is one
}

// parts are the law, the hop and the consult of the question.
func (h hopTest) parts() (*Law, Hop, Subject) {
	hop := Hop{At: h.at, Provider: asserted("provider", h.less...)}
	s := Subject{Operator: asserted("operator", h.less...), Tenant: &Tenant{ID: "clinic", Facts: asserted("tenant", h.less...)}}
	for _, j := range strings.Fields(h.who) {
		s.Participants = append(s.Participants, Jurisdiction(j))
	}
	if h.with != nil {
		h.with(&s)
	}
	return Shipped().With(map[string]bool{"dpf_valid": h.dpf}), hop, s
}

func (h hopTest) ask() Verdict {
	l, hop, s := h.parts()
	return l.Permits(h.plane, &hop, &s, now)
}

// text is a verdict as the tables write it; "-" is no row.
func text(v Verdict) string {
	if v.Permitted() {
		return ""
	}
	row := "-"
	if v.Row != nil {
		row = v.Row.Name
	}
	return strings.TrimSpace(strings.Join([]string{string(v.Code), string(v.Participant), row, string(v.Fact)}, " "))
}

func run(t *testing.T, tests []hopTest) {
	t.Helper()
	basis := bases(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.ask()
			if got := text(v); got != tt.want {
				t.Fatalf("%s for %s at %s:\n got %q\nwant %q", tt.plane, tt.who, tt.at, got, tt.want)
			}
			if v.Row != nil && !slices.Equal(v.Citation(), slices.Concat(basis[v.Row.Name], v.effective())) {
				t.Errorf("citation %q, want the basis of %s: %q", v.Citation(), v.Row.Name, basis[v.Row.Name])
			}
			if v.Permitted() != (len(v.Citation()) == 0) {
				t.Errorf("citation of %q is %q", text(v), v.Citation())
			}
		})
	}
}

// effective is the last line of a citation, where there is one.
func (v Verdict) effective() []string {
	if v.Row.Effective == "" {
		return nil
	}
	return []string{"effective " + v.Row.Effective}
}

// bases reads the citations from the file itself, not through Parse.
func bases(t *testing.T) map[string][]string {
	t.Helper()
	var f struct {
		Jurisdictions map[string]struct{ Basis []string }
		Overlays      map[string]struct{ Note, Use string }
	}
	if err := yaml.Unmarshal(shipped, &f); err != nil {
		t.Fatal(err)
	}
	m := map[string][]string{}
	for name, r := range f.Jurisdictions {
		m[name] = r.Basis
	}
	for name, o := range f.Overlays {
		m[name] = []string{"overlay " + name + ": " + o.Note}
		if o.Use != "" {
			m[name] = m[o.Use]
		}
	}
	return m
}

// The records that a tenant or an operator may have beside its facts.

func overlay(names ...string) func(*Subject) {
	return func(s *Subject) { s.Tenant.Overlays = names }
}

func defaultOff(r Record, who ...Jurisdiction) func(*Subject) {
	return func(s *Subject) {
		s.Tenant.ProductDefaultOff = map[Jurisdiction]Record{}
		for _, j := range who {
			s.Tenant.ProductDefaultOff[j] = r
		}
	}
}

func notPublic(who ...Jurisdiction) func(*Subject) {
	return func(s *Subject) {
		s.Tenant.NotPublicBody = map[Jurisdiction]Record{}
		for _, j := range who {
			s.Tenant.NotPublicBody[j] = paper
		}
	}
}

func exception(at ...Jurisdiction) func(*Subject) {
	return func(s *Subject) {
		s.Tenant.DenyExceptions = map[Jurisdiction]Record{}
		for _, j := range at {
			s.Tenant.DenyExceptions[j] = paper
		}
	}
}

func instrument(from Jurisdiction, to ...Jurisdiction) func(*Subject) {
	return func(s *Subject) {
		s.Instruments = append(s.Instruments, Instrument{ID: "scc-1", From: from, To: to, Assessment: "tia-1",
			Assessed: now.AddDate(0, -1, 0), Expires: now.AddDate(1, 0, 0)})
	}
}

func tags(names ...string) func(*Subject) { return func(s *Subject) { s.Tags = names } }

func e2ee(s *Subject) { s.E2EE = true }

func all(changes ...func(*Subject)) func(*Subject) {
	return func(s *Subject) {
		for _, change := range changes {
			change(s)
		}
	}
}
