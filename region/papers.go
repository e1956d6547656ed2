package region

import (
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"bailiwick/residency"
)

// keys are the ordered keys of a map as words.
func keys[K ~string, V any](m map[K]V) []string {
	var list []string
	for k := range m {
		list = append(list, string(k))
	}
	slices.Sort(list)
	return list
}

func (r *reader) operator(n *yaml.Node) Operator {
	if n == nil {
		return Operator{}
	}
	s := r.section(n, n, "operator", "name", "facts", "instruments")
	return Operator{
		Name:        r.text(s.need("name"), "operator: name"),
		Facts:       r.facts(s.get("facts"), "operator", "operator", "operator"),
		Instruments: r.instruments(s.get("instruments")),
	}
}

// providers reads all but the scopes of agreements, which name regions and wait
// for them.
func (r *reader) providers(n *yaml.Node) (all map[ProviderID]*Provider, scopes map[ProviderID]*yaml.Node) {
	all, scopes = map[ProviderID]*Provider{}, map[ProviderID]*yaml.Node{}
	for _, e := range r.entries(n, "providers", maxProviders) {
		r.label(e, "provider")
		what := "provider " + e.key
		s := r.section(e.value, e.at, what, "name", "baa", "facts")
		p := &Provider{ID: ProviderID(e.key), Name: r.text(s.need("name"), what+": name"),
			Facts: r.facts(s.get("facts"), what, "provider", "providers", e.key)}
		if b := s.get("baa"); b != nil {
			r.mark(b, "providers", e.key, "baa")
			s := r.section(b, b, what+": baa", "id", "signed", "expires", "scope")
			p.BAA = &BAA{Record: r.dated(&s, "signed")}
			if scopes[p.ID] = s.need("scope"); scopes[p.ID] == nil {
				delete(scopes, p.ID)
			}
		}
		all[p.ID] = p
	}
	return all, scopes
}

// scope reads whose regions an agreement covers: nil for all of the provider's.
func (r *reader) scope(n *yaml.Node, provider ProviderID, m *Map) []ID {
	what := fmt.Sprintf("provider %s: baa: scope", provider)
	if n.Kind == yaml.ScalarNode {
		if n.Value != "all" {
			r.fault(n, "%s: %.64q: want all, or a list of regions", what, n.Value)
		}
		return nil
	}
	var list []ID
	var own []string
	for i := range m.Regions {
		if m.Regions[i].Provider == provider {
			own = append(own, string(m.Regions[i].ID))
		}
	}
	for _, n := range r.items(n, what, maxRegions) {
		id := r.text(n, what)
		switch g := m.Region(ID(id)); {
		case id == "":
			continue
		case g == nil:
			r.fault(n, "%s: %.64q: not under regions%s", what, id, meant(id, own))
		case g.Provider != provider:
			r.fault(n, "%s: %s: a region of provider %s", what, id, g.Provider)
		}
		list = append(list, ID(id))
	}
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		r.fault(n, "%s: empty: want all, or at least one region; without an agreement, leave baa out", what)
	}
	return list
}

// dated reads the paper that a section describes.
func (r *reader) dated(s *section, date string) residency.Record {
	rec := residency.Record{ID: r.text(s.need("id"), s.what+": id")}
	from, to := s.need(date), s.get("expires")
	rec.Date, rec.Expires = r.date(from, s.what+": "+date), r.date(to, s.what+": expires")
	if to != nil && !rec.Date.IsZero() && !rec.Expires.IsZero() && !rec.Expires.After(rec.Date) {
		r.fault(to, "%s: expires: %s: want a day after its date, %s", s.what, to.Value, from.Value)
	}
	return rec
}

// paper reads one record.
func (r *reader) paper(e entry, what string, path ...string) residency.Record {
	r.mark(e.at, append(path, e.key)...)
	s := r.section(e.value, e.at, what, "id", "date", "expires")
	return r.dated(&s, "date")
}

// place tells, for each scope, where its facts are asserted.
var place = map[string]string{
	"operator": "move it to operator, facts",
	"provider": "move it to providers, ID, facts",
	"tenant":   "move it to tenants, ID, facts",
	"consult":  "it is told with each consult, never here",
}

// facts reads the assertions of one scope; path is where they are marked.
func (r *reader) facts(n *yaml.Node, what, scope string, path ...string) residency.Facts {
	facts := residency.Facts{}
	if n == nil {
		return facts
	}
	all := residency.Shipped().Facts()
	for _, e := range r.entries(n, what+": facts", maxFacts) {
		f := residency.Fact(e.key)
		switch rule, ok := all[f]; {
		case !ok:
			r.fault(e.at, "%s: facts: %.64q: not a fact that any law asks for%s", what, e.key, meant(e.key, keys(all)))
		case rule.Scope != scope:
			r.fault(e.at, "%s: facts: %s: a fact of the %s: %s", what, f, rule.Scope, place[rule.Scope])
		case f == "baa":
			r.fault(e.at, "%s: facts: baa: state it as %s: baa, with its scope", what, what)
		}
		facts[f] = r.paper(e, fmt.Sprintf("%s: facts: %.64s", what, e.key), append(slices.Clone(path), "facts")...)
	}
	return facts
}

func (r *reader) instruments(n *yaml.Node) []residency.Instrument {
	var list []residency.Instrument
	seen := map[string]int{}
	for _, n := range r.items(n, "operator: instruments", maxPapers) {
		s := r.section(n, n, "instrument", "id", "from", "to", "assessment", "assessed", "expires")
		in := residency.Instrument{ID: r.text(s.need("id"), "instrument: id")}
		if in.ID != "" {
			s.what = fmt.Sprintf("instrument %.64s", in.ID)
			if line, twice := seen[in.ID]; twice {
				r.fault(s.get("id"), "%s: already on line %d", s.what, line)
			}
			seen[in.ID] = n.Line
			r.mark(n, "instruments", in.ID)
		}
		in.From = r.code(s.need("from"), s.what+": from")
		to := s.need("to")
		if to != nil && to.Kind == yaml.SequenceNode && len(to.Content) == 0 {
			r.fault(to, "%s: to: empty: want the countries it names", s.what)
		}
		for _, n := range r.items(to, s.what+": to", maxPlaces) {
			if c := r.code(n, s.what+": to"); c != "" {
				in.To = append(in.To, c)
			}
		}
		in.Assessment = r.text(s.need("assessment"), s.what+": assessment")
		from, until := s.need("assessed"), s.get("expires")
		in.Assessed, in.Expires = r.date(from, s.what+": assessed"), r.date(until, s.what+": expires")
		if until != nil && !in.Assessed.IsZero() && !in.Expires.IsZero() && !in.Expires.After(in.Assessed) {
			r.fault(until, "%s: expires: %s: want a day after assessed, %s", s.what, until.Value, from.Value)
		}
		list = append(list, in)
	}
	return list
}

func (r *reader) tenants(n *yaml.Node) (all map[string]*residency.Tenant, hooks map[string]Webhook) {
	all, hooks = map[string]*residency.Tenant{"default": {ID: "default", Facts: residency.Facts{}}}, map[string]Webhook{}
	overlays := residency.Shipped().Overlays()
	for _, e := range r.entries(n, "tenants", maxTenants) {
		r.label(e, "tenant")
		r.mark(e.at, "tenants", e.key)
		what := "tenant " + e.key
		s := r.section(e.value, e.at, what, "facts", "overlays", "product_default_off", "not_public_body", "deny_exceptions", "webhook")
		if n := s.get("webhook"); n != nil {
			hooks[e.key] = r.webhook(n, what+": webhook")
		}
		t := &residency.Tenant{ID: e.key,
			Facts:             r.facts(s.get("facts"), what, "tenant", "tenants", e.key),
			ProductDefaultOff: r.lifted(s.get("product_default_off"), e.key, "product_default_off"),
			NotPublicBody:     r.lifted(s.get("not_public_body"), e.key, "not_public_body"),
			DenyExceptions:    r.lifted(s.get("deny_exceptions"), e.key, "deny_exceptions"),
		}
		for _, n := range r.items(s.get("overlays"), what+": overlays", maxFacts) {
			o := r.text(n, what+": overlays")
			switch {
			case o == "":
				continue
			case !slices.Contains(overlays, o):
				r.fault(n, "%s: overlays: %.64q: not an overlay of the law%s", what, o, meant(o, overlays))
			case slices.Contains(t.Overlays, o):
				r.fault(n, "%s: overlays: %s: named twice", what, o)
			}
			t.Overlays = append(t.Overlays, o)
		}
		all[e.key] = t
	}
	return all, hooks
}

// lifted reads what a tenant lifts by record, jurisdiction by jurisdiction.
func (r *reader) lifted(n *yaml.Node, tenant, key string) map[residency.Jurisdiction]residency.Record {
	what := fmt.Sprintf("tenant %s: %s", tenant, key)
	all := map[residency.Jurisdiction]residency.Record{}
	for _, e := range r.entries(n, what, maxPlaces) {
		j := r.code(e.at, what)
		all[j] = r.paper(e, fmt.Sprintf("%s: %.64s", what, e.key), "tenants", tenant, key)
	}
	return all
}

func (r *reader) refused(n *yaml.Node) map[residency.Jurisdiction]string {
	all := map[residency.Jurisdiction]string{}
	for _, e := range r.entries(n, "refused", maxPlaces) {
		j := r.code(e.at, "refused")
		r.mark(e.at, "refused", e.key)
		all[j] = r.text(e.value, fmt.Sprintf("refused: %.64s", e.key))
	}
	return all
}

// The keys of law: its only flag, and how long a consult may go on whose law is gone.
const (
	dpfValid        = "dpf_valid"
	withdrawalGrace = "withdrawal_grace"
)

const (
	defaultGrace = 15 * time.Minute
	maxGrace     = time.Hour
)

// law reads what this deployment says of the law at large.
func (r *reader) law(n *yaml.Node) (flags map[string]bool, grace time.Duration) {
	flags, grace = map[string]bool{}, defaultGrace
	if n == nil {
		return flags, grace
	}
	s := r.section(n, n, "law", dpfValid, withdrawalGrace)
	if v := s.get(dpfValid); v != nil {
		flags[dpfValid] = r.truth(v, "law: "+dpfValid)
	}
	if v := s.get(withdrawalGrace); v != nil {
		d, err := time.ParseDuration(v.Value)
		if v.Kind != yaml.ScalarNode || err != nil || d < 0 || d > maxGrace || v.ShortTag() != "!!str" {
			r.fault(v, "law: %s: %s: want a duration with its unit from 0s to 60m, such as 15m", withdrawalGrace, shown(v))
		}
		grace = d
	}
	return flags, grace
}
