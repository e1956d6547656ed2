package residency

import (
	"maps"
	"slices"
	"strings"
)

// entry compiles one jurisdiction.
func (p *parser) entry(name string, q fileRow) {
	if name != "EU" && name != "US-MEDICAID" {
		p.jurisdiction(p.line("jurisdictions", name), "jurisdictions", name)
	}
	p.law.rows[Jurisdiction(name)] = p.row("jurisdictions", name, q)
}

func (p *parser) row(section, name string, q fileRow) *Row {
	at := p.line(section, name)
	r := &Row{Name: name, Regime: q.Regime, Basis: q.Basis, Note: q.Notes, Verified: q.Verified, Confidence: q.Confidence,
		AsOf: p.f.Meta.AsOf, BreakGlass: q.BreakGlass.Value, contract: q.ContractRoute == nil || *q.ContractRoute}
	if len(q.Basis) == 0 || q.Regime == "" {
		p.fault(at, "%s: regime and basis are required: a refusal must cite its law", name)
	}
	if !slices.Contains([]string{"high", "medium", "low"}, q.Confidence) {
		p.fault(at, "%s: confidence %q: want high, medium or low", name, q.Confidence)
	}
	if !slices.Contains([]string{"searched", "recall"}, q.Verified) {
		p.fault(at, "%s: verified %q: want searched or recall", name, q.Verified)
	}
	p.breakGlass(at, name, q.BreakGlass.Value)
	for plane, rule := range []*fileRule{q.Media, q.Relay, q.Stored} {
		if rule != nil {
			r.planes[plane] = p.rule(rule, section, name, Plane(plane).String())
			for _, prose := range []string{rule.Exception, rule.SDF} {
				if prose != "" {
					r.Exceptions = append(r.Exceptions, Plane(plane).String()+": "+prose)
				}
			}
		}
	}
	if r.planes[Media] == nil || r.planes[Stored] == nil {
		p.fault(at, "%s: media and stored are required", name)
		return r
	}
	if q.Relay == nil {
		r.planes[Relay] = r.planes[Media]
	}
	if q.Default != nil {
		p.defaults(r, q, section)
	}
	return r
}

func (p *parser) breakGlass(at int, where, value string) string {
	if !slices.Contains([]string{"none", "vital", "contract"}, value) {
		p.fault(at, "%s: break_glass.value %q: want none, vital or contract", where, value)
	}
	return value
}

// defaults compiles a product_default: it binds relay where the row omits relay,
// and stored only where written (READING, rule 4).
func (p *parser) defaults(r *Row, q fileRow, section string) {
	for plane, rule := range []*fileRule{q.Default.Media, q.Default.Relay, q.Default.Stored} {
		if rule == nil {
			continue
		}
		path := []string{section, r.Name, "product_default", Plane(plane).String()}
		d := p.rule(rule, path...)
		if d.kind != homeOnly && d.kind != block || d.require != nil || len(rule.Deny) > 0 || d.tags != nil {
			p.fault(p.line(path...), "%s: want home_only or a block with allow, and nothing beside", strings.Join(path[1:], "."))
		}
		r.defaults[plane] = d
	}
	if q.Relay == nil && q.Default.Relay == nil {
		r.defaults[Relay] = r.defaults[Media]
	}
}

func (p *parser) rule(q *fileRule, path ...string) *rule {
	at, where := p.line(path...), strings.Join(path[1:], ".")
	k, ok := kinds[q.Rule]
	if !ok {
		p.fault(at, "%s: rule %q: want one of %s", where, q.Rule, strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	}
	r := &rule{kind: k, allow: p.countries(append(slices.Clone(q.Allow), q.List...), path...).area(), deny: p.countries(q.Deny, path...).area()}
	if k == block && len(q.Allow) == 0 {
		p.fault(at, "%s: a block without allow permits nothing", where)
	}
	if adequacy := k == adequacyList || k == adequacyOrContract; ok && (len(q.Allow) > 0 && k != block || (len(q.List) > 0 || q.Cond != "") && !adequacy) {
		p.fault(at, "%s: allow belongs to block, list and cond to the adequacy rules: here it would be ignored", where)
	}
	switch { // rule 10
	case k == homeCopyPlus:
		r.require = append(r.require, p.fact(at, where, "home_copy"))
	case k == anywhereWithContract && len(q.Require) == 0:
		r.require = append(r.require, p.fact(at, where, "processor_contract"))
	}
	for _, f := range q.Require {
		r.require = append(r.require, p.fact(at, where, f))
	}
	if q.Cond != "" {
		r.cond = p.conditions(at, where, q.Cond)
	}
	for tag, kindName := range q.Overlay {
		if kindName != "home_only" {
			p.fault(at, "%s: overlay %s: %q: want home_only", where, tag, kindName)
		}
		if r.tags == nil {
			r.tags = map[string]kind{}
		}
		r.tags[tag] = homeOnly
		p.law.tags[tag] = true
	}
	return r
}

func (p *parser) fact(at int, where, name string) need {
	f, ok := p.alias[name]
	if !ok {
		p.fault(at, "%s: %q is not in the closed list under facts", where, name)
	}
	return need{f, p.law.facts[f].Scope, p.law.facts[f].When, p.law.flagOf[f]}
}

func (p *parser) conditions(at int, where, name string) []condition {
	node, ok := p.f.Blocks[name]
	raw := map[string]string{}
	if !ok || node.Decode(&raw) != nil {
		p.fault(at, "%s: cond %q: want a map under blocks", where, name)
		return nil
	}
	var conds []condition
	for country, f := range raw {
		line := p.line("blocks", name)
		if j, ok := p.jurisdiction(line, "blocks."+name, country); ok {
			conds = append(conds, condition{j, p.fact(line, "blocks."+name, f)})
		}
	}
	return conds
}

// overlay compiles one overlay: a use of another row, or rules and facts of its own.
func (p *parser) overlay(name string, q fileRow) {
	at := p.line("overlays", name)
	o := &Row{Name: name, Overlay: true, Regime: "overlay " + name, Note: q.Note, Confidence: q.Confidence, AsOf: p.f.Meta.AsOf, BreakGlass: "none", contract: true}
	if q.Use != "" {
		used := p.law.rows[Jurisdiction(q.Use)]
		if used == nil {
			p.fault(at, "overlays.%s: use %q: no such entry", name, q.Use)
			return
		}
		c := *used
		o = &c
		o.Name, o.Overlay = name, true
	}
	if q.BreakGlass.Value != "" {
		o.BreakGlass = p.breakGlass(at, "overlays."+name, q.BreakGlass.Value)
	}
	if q.ContractRoute != nil {
		o.contract = *q.ContractRoute
	}
	if q.Default != nil {
		p.fault(at, "overlays.%s: product_default: not of an overlay: it would be ignored", name)
	}
	var ok bool
	if o.applies, ok = p.jurisdiction(at, "overlays."+name+".applies", q.Applies); !ok {
		return
	}
	if o.applies == "UK" {
		o.applies = "GB"
	}
	if o.applies == "EU" {
		p.fault(at, "overlays.%s.applies: EU: no country; name each member state", name)
	}
	for _, f := range q.Require {
		o.require = append(o.require, p.fact(at, "overlays."+name, f))
	}
	for plane, rule := range []*fileRule{q.Media, q.Relay, q.Stored} {
		switch {
		case rule == nil:
		case rule.Rule == "":
			o.planes[plane] = p.requireOnly(at, "overlays."+name, rule)
		default:
			o.planes[plane] = p.rule(rule, "overlays", name, Plane(plane).String())
		}
	}
	if q.Use == "" {
		o.Basis = []string{"overlay " + name + ": " + q.Note}
		if q.Note == "" {
			p.fault(at, "overlays.%s: note is required: a refusal must cite something", name)
		}
	}
	p.law.overlays[name] = o
}

func (p *parser) requireOnly(at int, where string, q *fileRule) *rule {
	r := &rule{kind: anywhere}
	for _, f := range q.Require {
		r.require = append(r.require, p.fact(at, where, f))
	}
	return r
}
