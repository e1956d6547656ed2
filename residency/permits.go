package residency

import "time"

// Permits judges one hop on one plane for a consult: the intersection over every
// participant, in request order, and every overlay that applies (READING, rules
// 1 to 13 and 21). The first participant who is refused is the verdict, by a deny list
// before anything else; a consult without participants is refused. It allocates nothing.
//
// Under end-to-end encryption the SFU sees ciphertext: its media hop is judged as
// relay (rule 6).
func (l *Law) Permits(p Plane, h *Hop, s *Subject, now time.Time) Verdict {
	if len(s.Participants) == 0 {
		return Verdict{Code: PolicyMissing}
	}
	for _, who := range s.Participants {
		var first Verdict
		c := l.call(p, h, s, who, now)
		c.refusals(func(v Verdict) bool {
			if first.Permitted() || v.Code == DeniedCountry {
				first = v
			}
			return first.Code != DeniedCountry
		})
		if !first.Permitted() {
			return first
		}
	}
	return Verdict{}
}

// Declares judges what a consult says of a participant, whatever the hop: the law knows them
// and all that the consult names (rule 8), and their subdivision is named where the law
// differs by it (rule 17). Permits does not ask the last: DNS knows a country at best, and is
// answered by the country's row.
func (l *Law) Declares(s *Subject, who Jurisdiction) Verdict {
	c := call{l: l, subject: s, who: who}
	if v := c.gate(); !v.Permitted() {
		return v
	}
	if l.Subdivided(who) {
		return Verdict{Code: SubdivisionNeeded, Participant: who, Row: l.country(who)}
	}
	return Verdict{}
}

// BreakGlass answers whether an emergency may open this hop (rule 14): the verdict
// is the first refusal that stays shut, and permits where every row and overlay
// that refuses has the ground vital. A deny list, a missing policy and a row whose
// ground is none or contract stay shut. Whether the operator signed, and until
// when, is not asked here.
func (l *Law) BreakGlass(p Plane, h *Hop, s *Subject, now time.Time) Verdict {
	if len(s.Participants) == 0 {
		return Verdict{Code: PolicyMissing}
	}
	for _, who := range s.Participants {
		var shut Verdict
		c := l.call(p, h, s, who, now)
		c.refusals(func(v Verdict) bool {
			if v.Row != nil && v.Row.BreakGlass == "vital" && v.Code != DeniedCountry {
				return true
			}
			shut = v
			return false
		})
		if !shut.Permitted() {
			return shut
		}
	}
	return Verdict{}
}

func (l *Law) call(p Plane, h *Hop, s *Subject, who Jurisdiction, now time.Time) call {
	c := call{l: l, plane: p, asked: p, hop: h, at: l.canonical(h.At), subject: s, who: who, home: l.canonical(who), now: now}
	if s.E2EE && p == Media {
		c.plane = Relay
	}
	return c
}

// call is one participant's question.
type call struct {
	l       *Law
	plane   Plane // judged: relay for a media hop under E2EE
	asked   Plane
	hop     *Hop
	at      Jurisdiction // the hop's, territories mapped
	subject *Subject
	who     Jurisdiction // as named
	home    Jurisdiction // who, territories mapped
	now     time.Time
}

// gate is what refuses a participant everywhere: what is unknown denies.
func (c *call) gate() Verdict {
	missing := func(what, name string) Verdict {
		return Verdict{Code: PolicyMissing, Participant: c.who, Fact: Fact(what + name)}
	}
	switch t := c.subject.Tenant; {
	case c.l.country(c.who) == nil || c.who.IsSubdivision() && codes().reads[c.who] != c.who:
		return missing("", "")
	case t != nil && t.unknown:
		return missing("tenant ", t.ID)
	}
	for _, tag := range c.subject.Tags {
		if c.l.overlays[tag] == nil && !c.l.tags[tag] {
			return missing("tag ", tag)
		}
	}
	return Verdict{}
}

// refusals yields the refusal of every row and overlay, one for each, until yield returns
// false, which is the result then.
func (c *call) refusals(yield func(Verdict) bool) bool {
	if v := c.gate(); !v.Permitted() {
		return yield(v)
	}
	if c.at.number() < 0 { // a place of no shape is on no deny list
		return yield(Verdict{Code: PolicyMissing, Participant: c.who})
	}
	country := c.l.country(c.who)
	var sub *Row
	if c.who.IsSubdivision() && !c.notPublicBody() {
		sub = c.l.rows[c.who]
	}
	cited := country
	if sub != nil {
		cited = sub // a subdivision is cited before its country
	}
	if v := c.deniedEverywhere(cited); !v.Permitted() && !yield(v) {
		return false
	}
	if sub != nil {
		if v := c.row(sub); !v.Permitted() && !yield(v) {
			return false
		}
	}
	if v := c.row(country); !v.Permitted() && !yield(v) {
		return false
	}
	// Rule 5: the EU's product default binds beside the German row, but not on
	// relay, which that row writes itself (rule 4).
	if country.Name == "DE" && c.plane != Relay {
		if v := c.productDefault(c.l.eu); !v.Permitted() && !yield(v) {
			return false
		}
	}
	if c.subject.Tenant != nil && !c.overlays(c.subject.Tenant.Overlays, yield) {
		return false
	}
	return c.overlays(c.subject.Tags, yield) // one that is both is asked twice, to the same end
}

// overlays are those among the names that apply. A tenant's that is not on file refuses:
// what it would have asked is unknown. A tag that is none was looked at before.
func (c *call) overlays(names []string, yield func(Verdict) bool) bool {
	for _, name := range names {
		var v Verdict
		switch o := c.l.overlays[name]; {
		case o == nil && c.l.tags[name]:
			continue
		case o == nil:
			v = Verdict{Code: PolicyMissing, Participant: c.who, Fact: Fact("overlay " + name)}
		case o.applies == c.who || o.applies == c.home || o.applies == c.home.Country():
			v = c.overlay(o)
		}
		if !v.Permitted() && !yield(v) {
			return false
		}
	}
	return true
}

func (c *call) refuse(code Code, r *Row, f Fact) Verdict {
	return Verdict{Code: code, Participant: c.who, Row: r, Fact: f}
}

// deniedEverywhere binds every jurisdiction but the country itself, unless the
// tenant lists the country by name.
func (c *call) deniedEverywhere(r *Row) Verdict {
	at := c.at.Country()
	if !c.l.concern.has(at) || at == c.home.Country() {
		return Verdict{}
	}
	if t := c.subject.Tenant; t != nil && t.DenyExceptions[at].Valid(c.now) {
		return Verdict{}
	}
	return c.refuse(DeniedCountry, r, "")
}

// notPublicBody lifts the rows that bind public bodies alone (rule 7).
func (c *call) notPublicBody() bool {
	switch c.who {
	case "CA-NS", "CA-NB", "CA-BC":
		t := c.subject.Tenant
		return t != nil && t.NotPublicBody[c.who].Valid(c.now)
	}
	return false
}

func (c *call) row(r *Row) Verdict {
	if v := c.rule(r, r.planes[c.plane]); !v.Permitted() {
		return v
	}
	return c.productDefault(r)
}

// productDefault intersects the rule (rule 4); only the tenant's record lifts it.
func (c *call) productDefault(r *Row) Verdict {
	d := r.defaults[c.plane]
	if d == nil || c.allowed(r, d) {
		return Verdict{}
	}
	if t := c.subject.Tenant; t != nil && (t.ProductDefaultOff[c.who].Valid(c.now) || t.ProductDefaultOff[c.l.judge(c.who)].Valid(c.now)) {
		return Verdict{}
	}
	return c.refuse(ProductDefault, r, "")
}

// allowed answers a home_only or block rule, the two kinds a default may have.
func (c *call) allowed(r *Row, d *rule) bool {
	if d.kind == homeOnly {
		return c.isHome(r)
	}
	return d.allow.has(c.at)
}

// isHome tells whether the hop lies inside the jurisdiction of the row: of a
// subdivision's row, only the subdivision.
func (c *call) isHome(r *Row) bool {
	if Jurisdiction(r.Name).IsSubdivision() && !r.Overlay {
		return c.at == c.home
	}
	return c.at.Country() == c.home.Country()
}

func (c *call) rule(r *Row, q *rule) Verdict {
	home := c.isHome(r)
	contract := false
	if q.deny.has(c.at) {
		return c.refuse(DeniedCountry, r, "")
	}
	switch q.kind {
	case homeOnly:
		if !home {
			return c.refuse(HomeOnly, r, "")
		}
	case block:
		if !q.allow.has(c.at) {
			return c.refuse(OutsideBlock, r, "")
		}
	case adequacyList, adequacyOrContract:
		if home {
			break
		}
		v := c.adequate(r, q)
		if !v.Permitted() {
			if q.kind == adequacyList || !r.contract {
				return v
			}
			if !c.instrument() {
				if v.Code == NotAdequate {
					v.Code = InstrumentMissing
				}
				return v
			}
			contract = true
		}
	}
	if !home && q.tags != nil {
		for _, tag := range c.subject.Tags {
			if q.tags[tag] == homeOnly {
				return c.refuse(HomeOnly, r, Fact(tag))
			}
		}
	}
	return c.facts(r, q.require, home, contract)
}

// adequate answers the list of an adequacy rule and its condition (rule 11).
func (c *call) adequate(r *Row, q *rule) Verdict {
	if !q.allow.has(c.at) {
		return c.refuse(NotAdequate, r, "")
	}
	for i := range q.cond {
		if d := &q.cond[i]; d.country == c.at.Country() && !c.has(&d.need) {
			return c.refuse(ConditionUnmet, r, d.need.fact)
		}
	}
	return Verdict{}
}

// instrument is the contract route: an instrument that reaches the participant and names
// the hop or its country, registered, in force and with a dated assessment (rule 3).
func (c *call) instrument() bool {
	for i := range c.subject.Instruments {
		in := &c.subject.Instruments[i]
		if in.ID == "" || !c.l.Reaches(in.From, c.who) || in.Assessment == "" || in.Assessed.IsZero() || c.now.Before(in.Assessed) ||
			!in.Expires.IsZero() && !c.now.Before(in.Expires) {
			continue
		}
		for _, to := range in.To {
			if to == c.hop.At || to == c.hop.At.Country() || to == c.at.Country() || to == "UK" && c.at.Country() == "GB" {
				return true
			}
		}
	}
	return false
}

func (c *call) facts(r *Row, require []need, home, contract bool) Verdict {
	for i := range require {
		n := &require[i]
		switch n.when {
		case OutsideHome:
			if home {
				continue
			}
		case ContractRoute:
			if !contract {
				continue
			}
		}
		if !c.has(n) {
			return c.missing(r, n.fact)
		}
	}
	return Verdict{}
}

func (c *call) missing(r *Row, f Fact) Verdict {
	if f == "baa" {
		return c.refuse(BAAMissing, r, f)
	}
	return c.refuse(FactMissing, r, f)
}

// has asks the scope that must assert the fact (rule 2).
func (c *call) has(n *need) bool {
	if n.flag != "" && !c.l.flags[n.flag] {
		return false
	}
	switch n.scope {
	case "provider":
		return c.hop.Provider.Has(n.fact, c.now)
	case "operator":
		return c.subject.Operator.Has(n.fact, c.now)
	case "tenant":
		return c.subject.Tenant != nil && c.subject.Tenant.Facts.Has(n.fact, c.now)
	case "consult":
		return n.fact == "e2ee" && c.subject.E2EE
	}
	return false
}

// overlay adds to its country (rule 13): a plane that it omits is not changed, but
// what it requires of a media hop stays required under E2EE.
func (c *call) overlay(o *Row) Verdict {
	home := c.isHome(o)
	if q := o.planes[c.plane]; q != nil {
		if v := c.rule(o, q); !v.Permitted() { // first: its deny list is no matter of facts
			return v
		}
	}
	if v := c.facts(o, o.require, home, false); !v.Permitted() {
		return v
	}
	if c.asked != c.plane && o.planes[c.asked] != nil {
		return c.facts(o, o.planes[c.asked].require, home, false)
	}
	return Verdict{}
}
