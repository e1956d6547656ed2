package region

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bailiwick/residency"
)

// Severity of a finding.
type Severity uint8

const (
	Warning Severity = iota // worth a look; the map serves as written
	Error                   // somebody the map promises to serve would be refused
)

func (s Severity) String() string { return [...]string{"warning", "error"}[s] }

// Finding is one remark on a map that parses.
type Finding struct {
	Severity Severity
	File     string
	Line     int    // 0 where no line is to blame
	Rule     string // a stable word, such as nowhere-lawful
	Text     string
}

// Thresholds of the lint.
const (
	soon = 30 * 24 * time.Hour // an expiry this near is a warning
	// farKm from every known place of its country is further than any real
	// machine room, and less than what swapped coordinates usually give.
	farKm = 2500
)

// Lint judges a map against the law at an instant: may everybody whom the map
// serves be served, will the papers last, are the coordinates plausible. The
// map's own flags are laid over the law. Findings are ordered by line.
func Lint(m *Map, law *residency.Law, now time.Time) []Finding {
	l := &linter{m: m, law: law.With(m.Flags), now: now}
	for i := range m.Regions {
		l.region(&m.Regions[i])
	}
	if len(m.Served) == 0 {
		l.add(Warning, "served-missing", "", "served: absent: patients of every law on file are taken on, and for none of them is checked here whether they can be served; list whom you serve")
	}
	if len(m.Regions) > 0 { // always so after Parse
		for _, j := range m.Served {
			l.served(j)
		}
		for _, id := range keys(m.Tenants) {
			if id != "default" {
				l.tenant(m.Tenants[id])
			}
		}
	}
	l.papers()
	slices.SortStableFunc(l.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Text, b.Text))
	})
	return l.found
}

type linter struct {
	m     *Map
	law   *residency.Law
	now   time.Time
	found []Finding
}

// add notes a finding at the line of the entry with that path.
func (l *linter) add(s Severity, rule, path, format string, args ...any) {
	l.found = append(l.found, Finding{s, l.m.file, l.m.lines[path], rule, fmt.Sprintf(format, args...)})
}

func (l *linter) region(g *Region) {
	path, j := "regions/"+string(g.ID), g.Place.Jurisdiction
	country := strings.ToLower(string(j.Country()))
	if law := strings.ToLower(string(l.law.LawOf(j))); !strings.HasPrefix(string(g.ID), country+"-") && !strings.HasPrefix(string(g.ID), law+"-") {
		l.add(Warning, "id-country", path, "region %s: stands in %s: an ID that begins with %s- would say so; IDs are permanent", g.ID, j.Country(), country)
	}
	if !l.law.Maps(j) {
		l.add(Warning, "law-unknown", path, "region %s: no law on file for %s: its own patients are refused", g.ID, j)
	}
	if l.law.Subdivided(j) {
		l.add(Warning, "subdivision-missing", path, "region %s: no subdivision: it counts as inside none of %s; state one, such as %s", g.ID, j, residency.Subdivisions(j)[0])
	}
	if km := kmOff(j, g.Place.Point); g.Place.Located && km > farKm {
		l.add(Warning, "place-far", path, "region %s: at [%v, %v] is %.0f km from any known place of %s: check the coordinates, latitude first", g.ID, g.Place.Point.Lat, g.Place.Point.Lon, km, j)
	}
	for _, e := range g.Edges {
		for _, a := range e.Addrs {
			if !public(a) {
				l.add(Warning, "address-private", "edges/"+string(e.ID), "edge %s: address %s cannot be reached from the Internet: patients are sent there", e.ID, a)
			}
		}
	}
	l.neighbours(g, path)
}

func public(a netip.Addr) bool {
	return !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast()
}

// neighbours must be lawful for somebody at home in the region: to move calls
// there is what they are for.
func (l *linter) neighbours(g *Region, path string) {
	var home []residency.Jurisdiction
	for _, j := range l.m.Served {
		if j.Country() == g.Place.Jurisdiction.Country() && l.place(g, l.subject(j, l.m.Tenants["default"], false)).Permitted() {
			home = append(home, j)
		}
	}
	for _, id := range g.Neighbours {
		n := l.m.Region(id)
		if n == nil || len(home) == 0 {
			continue
		}
		var v residency.Verdict
		may := slices.ContainsFunc(home, func(j residency.Jurisdiction) bool {
			v = l.place(n, l.subject(j, l.m.Tenants["default"], false))
			return v.Permitted()
		})
		if !may {
			l.add(Warning, "neighbour-unlawful", path, "region %s: neighbour %s is lawful for none of its own patients: %s", g.ID, id, reason(v))
		}
	}
}

func (l *linter) subject(j residency.Jurisdiction, t *residency.Tenant, e2ee bool) *residency.Subject {
	return &residency.Subject{Participants: []residency.Jurisdiction{j}, E2EE: e2ee, Tenant: t,
		Operator: l.m.Operator.Facts, Instruments: l.m.Operator.Instruments}
}

// place judges an edge of the region: SFU and TURN at once, so both planes.
func (l *linter) place(g *Region, s *residency.Subject) residency.Verdict {
	hop := l.m.Hop(g)
	if v := l.law.Permits(residency.Media, &hop, s, l.now); !v.Permitted() {
		return v
	}
	return l.law.Permits(residency.Relay, &hop, s, l.now)
}

// reach is where patients of one jurisdiction may be served.
type reach struct {
	places  []*Region // lawful for media and relay
	nearest *Region   // that refused them, and why
	refusal residency.Verdict
	stored  bool              // evidence may be written somewhere
	storing residency.Verdict // else why not in the nearest region
}

func (l *linter) reach(j residency.Jurisdiction, t *residency.Tenant, e2ee bool) reach {
	var out reach
	s := l.subject(j, t, e2ee)
	for _, g := range l.byDistance(j) {
		if v := l.place(g, s); v.Permitted() {
			out.places = append(out.places, g)
		} else if out.nearest == nil {
			out.nearest, out.refusal = g, v
		}
		hop := l.m.Hop(g)
		v := l.law.Permits(residency.Stored, &hop, s, l.now)
		out.stored = out.stored || v.Permitted()
		if out.storing.Permitted() {
			out.storing = v
		}
	}
	return out
}

// byDistance are the regions from a jurisdiction's principal place, nearest first.
func (l *linter) byDistance(j residency.Jurisdiction) []*Region {
	var list []*Region
	for i := range l.m.Regions {
		list = append(list, &l.m.Regions[i])
	}
	if at, ok := Locate(j); ok {
		slices.SortStableFunc(list, func(a, b *Region) int {
			return cmp.Compare(at.Km(a.Place.Point), at.Km(b.Place.Point))
		})
	}
	return list
}

func (l *linter) served(j residency.Jurisdiction) {
	path := "served/" + string(j)
	for _, c := range []residency.Jurisdiction{j, j.Country(), l.law.LawOf(j)} {
		if _, ok := l.m.Refused[c]; ok {
			l.add(Error, "served-and-refused", path, "served %s: %s is under refused too: remove one of the two", j, c)
			break
		}
	}
	if !l.law.Maps(j) {
		l.add(Error, "law-missing", path, "served %s: %s: no law on file, so every patient from there is refused; do not serve it before counsel has mapped it", j, residency.PolicyMissing)
		return
	}
	open, sealed := l.reach(j, l.m.Tenants["default"], false), l.reach(j, l.m.Tenants["default"], true)
	switch {
	case len(open.places) == 0 && len(sealed.places) == 0:
		l.add(Error, "nowhere-lawful", path, "served %s: no region is lawful for live media; the nearest, %s in %s: %s", j, open.nearest.ID, open.nearest.Place.Jurisdiction, reason(open.refusal))
		return
	case len(open.places) == 0:
		l.add(Error, "e2ee-only", path, "served %s: lawful only when end-to-end encrypted, which no SFU here enforces yet, so every consult is refused; the nearest region, %s: %s", j, open.nearest.ID, reason(open.refusal))
		open = sealed // for what else is wrong
	}
	l.unreached(j)
	if !open.stored {
		l.add(Error, "stored-nowhere", path, "served %s: evidence may be written in no region, so every consult is refused (%s): %s", j, residency.StoredNowhere, reason(open.storing))
	}
	l.records(j)
	if only := open.places[0]; len(open.places) == 1 && !only.SingleRegionAccepted {
		s, why := Warning, "its loss refuses them all"
		if l.law.HomeOnly(j, residency.Media) {
			s, why = Error, "and the law keeps them at home"
		}
		l.add(s, "single-region", path, "served %s: only %s is lawful, %s: add a lawful region, or set single_region_accepted there", j, only.ID, why)
	}
}

// unreached are the subdivisions with law of their own that a served country does not mean:
// a record that names a row binds whoever that row judges.
func (l *linter) unreached(j residency.Jurisdiction) {
	if !l.law.Subdivided(j) {
		return
	}
	var left []string
	for _, sub := range l.law.Jurisdictions() {
		_, refused := l.m.Refused[sub]
		if sub.IsSubdivision() && sub.Country() == j && !slices.Contains(l.m.Served, sub) && !refused {
			left = append(left, string(sub))
		}
	}
	if len(left) > 0 {
		l.add(Warning, "served-not-reached", "served/"+string(j), "served %s: has law of its own for %s, which it does not name: patients from there are refused (%s); list them under served, or under refused with the reason", j, strings.Join(left, ", "), residency.NotServed)
	}
}

// records says where the records of consults would lie, where that is not at home or
// nowhere at all.
func (l *linter) records(j residency.Jurisdiction) {
	if len(l.m.Consul) == 0 {
		return
	}
	path, s := "served/"+string(j), l.subject(j, l.m.Tenants["default"], false)
	order := l.m.homeFirst(j)
	home := &l.m.Consul[order[0]]
	v := l.m.storing(l.law, order[0], s, l.now)
	if v.Permitted() {
		return
	}
	names := l.m.RecordsIn(l.law, s, j, l.now)
	if len(names) == 0 {
		l.add(Error, "records-nowhere", path, "served %s: no datacenter under consul may hold the records of its consults, so every consult is refused (%s); %s in %s: %s", j, residency.StoredNowhere, home.Name, home.Jurisdiction, reason(v))
	} else if home.Jurisdiction.Country() == j.Country() {
		l.add(Warning, "records-abroad", path, "served %s: the records of its consults may not lie in %s in %s, so they go to %s: %s", j, home.Name, home.Jurisdiction, names[0], reason(v))
	}
}

// tenant warns of whom the deployment serves and this tenant cannot.
func (l *linter) tenant(t *residency.Tenant) {
	for _, j := range l.m.Served {
		if len(l.reach(j, l.m.Tenants["default"], false).places) == 0 {
			continue
		}
		own := l.reach(j, t, false)
		if len(own.places) == 0 {
			l.add(Warning, "tenant-nowhere", "tenants/"+t.ID, "tenant %s: %s is served, but no region is lawful for this tenant; the nearest, %s: %s", t.ID, j, own.nearest.ID, reason(own.refusal))
		}
	}
}

// reason is a refusal with its code, words and citation.
func reason(v residency.Verdict) string {
	s := fmt.Sprintf("%s: %s", v.Code, v.Reason())
	if c := v.Citation(); len(c) > 0 {
		s += " (" + strings.Join(c, "; ") + ")"
	}
	return s
}

// papers checks that every record holds now and a while longer.
func (l *linter) papers() {
	facts := func(what, path string, records residency.Facts) {
		for _, f := range keys(records) {
			l.paper(what+": "+f, path+"/facts/"+f, records[residency.Fact(f)])
		}
	}
	facts("operator", "operator", l.m.Operator.Facts)
	for _, in := range l.m.Operator.Instruments {
		l.paper("instrument "+in.ID, "instruments/"+in.ID, residency.Record{ID: in.ID, Date: in.Assessed, Expires: in.Expires})
	}
	for _, id := range keys(l.m.Providers) {
		p := l.m.Providers[ProviderID(id)]
		facts("provider "+id, "providers/"+id, p.Facts)
		if p.BAA != nil {
			l.paper("provider "+id+": baa", "providers/"+id+"/baa", p.BAA.Record)
		}
	}
	for _, id := range keys(l.m.Tenants) {
		t := l.m.Tenants[id]
		facts("tenant "+id, "tenants/"+id, t.Facts)
		for key, records := range map[string]map[residency.Jurisdiction]residency.Record{
			"product_default_off": t.ProductDefaultOff, "not_public_body": t.NotPublicBody, "deny_exceptions": t.DenyExceptions} {
			for j, rec := range records {
				l.paper(fmt.Sprintf("tenant %s: %s: %s", id, key, j), fmt.Sprintf("tenants/%s/%s/%s", id, key, j), rec)
			}
		}
	}
}

func (l *linter) paper(what, path string, rec residency.Record) {
	switch day := rec.Expires.Format(time.DateOnly); {
	case l.now.Before(rec.Date):
		l.add(Warning, "paper-early", path, "%s: %s: begins on %s: until then it does not hold", what, rec.ID, rec.Date.Format(time.DateOnly))
	case rec.Expires.IsZero():
	case !l.now.Before(rec.Expires):
		l.add(Error, "paper-expired", path, "%s: %s: expired on %s: what rests on it is refused; renew the paper, or remove it here", what, rec.ID, day)
	case rec.Expires.Sub(l.now) <= soon:
		l.add(Warning, "paper-expiring", path, "%s: %s: expires on %s: what rests on it is refused from that day; renew it", what, rec.ID, day)
	}
}
