package region

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Counts that no deployment reaches; they bound the work on a hostile map.
const (
	maxRegions    = 256
	maxEdges      = 256 // of one region
	maxNeighbours = 16
	maxProviders  = 256
	maxTenants    = 4096
	maxPlaces     = 512 // jurisdictions in one list: every country and subdivision with a row
	maxFacts      = 128
	maxPapers     = 256 // instruments
	maxOverrides  = 10000

	maxDatacenters = 64
	maxAgents      = 16 // of one datacenter
	maxEgressMbps  = 10_000_000
	maxSeats       = 100_000
	maxZone        = 190 // octets: leaves room below 255 for EDGE.edge. and a service label
)

// Parse reads a regions.yaml of at most 1 MiB; name is the file's name in
// messages. The keys are documented in regions.schema.json, see [Schema].
//
// The error is always [Errors], with every fault of the file. A map that parses
// is well formed: names resolve, codes exist, facts and overlays are those of
// [residency.Shipped] at the right scope. Whether it is wise is [Lint]'s business.
func Parse(name string, data []byte) (*Map, error) {
	r := &reader{file: name, lines: map[string]int{}}
	m := &Map{file: name, lines: r.lines, Digest: fmt.Sprintf("%.8x", sha256.Sum256(data))}
	if root := r.document(data); root != nil {
		r.deployment(root, m)
	}
	if err := r.problems(); err != nil {
		return nil, err
	}
	return m, nil
}

func (r *reader) deployment(root *yaml.Node, m *Map) {
	s := r.section(root, root, "map", "version", "zone", "operator", "providers", "regions", "served", "refused", "tenants", "geo", "law", "consul")
	const version = "1, the only version there is"
	if n := s.need("version"); r.kind(n, "version", version, yaml.ScalarNode, "!!int") && n.Value != "1" {
		r.fault(n, "version: %s: want %s", n.Value, version)
	}
	m.Zone = r.zone(s.need("zone"))
	m.Operator = r.operator(s.need("operator"))
	var scopes map[ProviderID]*yaml.Node
	m.Providers, scopes = r.providers(s.need("providers"))
	m.Regions = r.regions(s.need("regions"), m.Providers)
	for id, n := range scopes {
		m.Providers[id].BAA.Regions = r.scope(n, id, m)
	}
	m.Served = r.jurisdictions(s.get("served"), "served")
	m.Refused = r.refused(s.get("refused"))
	m.Tenants, m.Webhooks = r.tenants(s.get("tenants"))
	m.Geo = r.overrides(s.get("geo"))
	m.Flags, m.WithdrawalGrace = r.law(s.get("law"))
	m.Consul = r.datacenters(s.get("consul"), m.Providers)
}

// zone is the apex.
func (r *reader) zone(n *yaml.Node) string {
	z := r.text(n, "zone")
	if z == "" {
		return ""
	}
	labels := strings.Split(z, ".")
	bad := slices.ContainsFunc(labels, func(l string) bool { return !isLabel(l) })
	if bad || len(labels) < 2 || len(z) > maxZone {
		r.fault(n, "zone: %.64q: want a lower-case DNS name of at most %d octets without a trailing dot, such as media.example", z, maxZone)
	}
	return z
}

// isLabel accepts a DNS label of letters, digits and inner hyphens, in lower case.
func isLabel(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 63
}

// Valid tells whether the ID can be a name in the zone, as every ID of a map can: one
// from elsewhere may be anything.
func (id EdgeID) Valid() bool { return isLabel(string(id)) }

// label reads the key of an entry as a DNS label.
func (r *reader) label(e entry, what string) bool {
	if !isLabel(e.key) {
		r.fault(e.at, "%s %.64q: want a DNS label: 1 to 63 of a-z, 0-9 and -, neither first nor last a hyphen", what, e.key)
		return false
	}
	return true
}

func (r *reader) regions(n *yaml.Node, providers map[ProviderID]*Provider) []Region {
	entries := r.entries(n, "regions", maxRegions)
	if n != nil && n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		r.fault(n, "regions: empty: want at least one")
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.key)
	}
	var list []Region
	edges, addrs := map[EdgeID]int{}, map[netip.Addr]EdgeID{}
	for _, e := range entries {
		r.label(e, "region")
		r.mark(e.at, "regions", e.key)
		what := "region " + e.key
		s := r.section(e.value, e.at, what, "country", "subdivision", "city", "at", "provider", "neighbours", "capacity", "edges", "single_region_accepted")
		g := Region{ID: ID(e.key), City: r.text(s.need("city"), what+": city"), Capacity: r.capacity(s.need("capacity"), what)}
		g.Place.Jurisdiction = r.jurisdiction(s.need("country"), s.get("subdivision"), what)
		g.Place.Point, g.Place.Located = r.point(s.need("at"), what)
		g.Provider = r.provider(s.need("provider"), what, providers)
		g.Neighbours = r.neighbours(s.get("neighbours"), e.key, ids)
		g.Edges = r.edges(s.get("edges"), g.ID, edges, addrs)
		g.SingleRegionAccepted = r.truth(s.get("single_region_accepted"), what+": single_region_accepted")
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b Region) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return list
}

func (r *reader) capacity(n *yaml.Node, what string) Capacity {
	if n == nil {
		return Capacity{}
	}
	what += ": capacity"
	s := r.section(n, n, what, "egress_mbps", "headroom", "admission")
	c := Capacity{
		EgressMbps: r.count(s.need("egress_mbps"), what+": egress_mbps", maxEgressMbps),
		Headroom:   r.number(s.need("headroom"), what+": headroom", 0, 1),
		Admission:  r.count(s.need("admission"), what+": admission", maxSeats),
	}
	if c.Headroom == 1 {
		r.fault(s.get("headroom"), "%s: headroom: 1 keeps everything free: want a share below 1, such as 0.5", what)
	}
	return c
}

func (r *reader) provider(n *yaml.Node, what string, providers map[ProviderID]*Provider) ProviderID {
	id := ProviderID(r.text(n, what+": provider"))
	if id != "" && providers[id] == nil {
		r.fault(n, "%s: provider %.64q: not under providers%s", what, id, meant(string(id), keys(providers)))
	}
	return id
}

func (r *reader) neighbours(n *yaml.Node, self string, ids []string) []ID {
	what := "region " + self + ": neighbours"
	var list []ID
	for _, n := range r.items(n, what, maxNeighbours) {
		id := r.text(n, what)
		switch {
		case id == "":
			continue
		case id == self:
			r.fault(n, "%s: %s: the region itself; name another", what, id)
		case !slices.Contains(ids, id):
			r.fault(n, "%s: %.64q: not under regions%s", what, id, meant(id, ids))
		case slices.Contains(list, ID(id)):
			r.fault(n, "%s: %s: named twice", what, id)
		}
		list = append(list, ID(id))
	}
	return list
}

// edges reads the static edges of one region; seen and addrs are those of all.
func (r *reader) edges(n *yaml.Node, region ID, seen map[EdgeID]int, addrs map[netip.Addr]EdgeID) []Edge {
	var list []Edge
	for _, e := range r.entries(n, fmt.Sprintf("region %s: edges", region), maxEdges) {
		what := "edge " + e.key
		r.mark(e.at, "edges", e.key)
		if r.label(e, "edge") && !strings.HasPrefix(e.key, string(region)+"-") {
			r.fault(e.at, "edge %.64q: want the ID of its region and a suffix, such as %s-1", e.key, region)
		}
		if line, twice := seen[EdgeID(e.key)]; twice {
			r.fault(e.at, "%s: already on line %d", what, line)
		}
		seen[EdgeID(e.key)] = e.at.Line
		s := r.section(e.value, e.at, what, "addrs")
		g := Edge{ID: EdgeID(e.key)}
		for _, n := range r.items(s.need("addrs"), what+": addrs", 2) {
			a := r.addr(n, what+": addrs")
			if !a.IsValid() {
				continue
			}
			if slices.ContainsFunc(g.Addrs, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
				r.fault(n, "%s: addrs: %s: a second address of its family; want at most one IPv4 and one IPv6", what, a)
			} else if other, taken := addrs[a]; taken {
				r.fault(n, "%s: addrs: %s: also of edge %s", what, a, other)
			}
			addrs[a] = g.ID
			g.Addrs = append(g.Addrs, a)
		}
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b Edge) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return list
}

// addr is a unicast address of one host.
func (r *reader) addr(n *yaml.Node, what string) netip.Addr {
	s := r.text(n, what)
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() {
		r.fault(n, "%s: %.64q: want the unicast address of one host, such as 192.0.2.10 or 2001:db8::10", what, s)
		return netip.Addr{}
	}
	return a
}

// overrides reads geo.
func (r *reader) overrides(n *yaml.Node) []Override {
	var list []Override
	seen := map[netip.Prefix]int{}
	for _, n := range r.items(n, "geo", maxOverrides) {
		s := r.section(n, n, "geo", "prefix", "country", "subdivision", "at")
		o := Override{Prefix: r.prefix(s.need("prefix"))}
		if line, twice := seen[o.Prefix]; twice && o.Prefix.IsValid() {
			r.fault(n, "geo: prefix %s: already on line %d", o.Prefix, line)
		}
		seen[o.Prefix] = n.Line
		o.Place.Jurisdiction = r.jurisdiction(s.need("country"), s.get("subdivision"), "geo")
		o.Place.Point, o.Place.Located = r.point(s.get("at"), "geo")
		if s.get("at") == nil {
			o.Place.Point, o.Place.Located = Locate(o.Place.Jurisdiction)
		}
		list = append(list, o)
	}
	return list
}

func (r *reader) prefix(n *yaml.Node) netip.Prefix {
	s := r.text(n, "geo: prefix")
	if s == "" {
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		r.fault(n, "geo: prefix: %.64q: want a network such as 192.0.2.0/24 or 2001:db8::/32", s)
		return netip.Prefix{}
	case p != p.Masked():
		r.fault(n, "geo: prefix: %s: bits set beyond the mask: want %s", p, p.Masked())
	}
	return p
}
