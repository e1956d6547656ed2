package region

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"bailiwick/residency"
)

// Datacenter is one Consul datacenter of the deployment. What it stores of a consult is
// health metadata, so the law asks where it stands and who runs it, as of a region.
type Datacenter struct {
	Name         string // as Consul calls it
	Jurisdiction residency.Jurisdiction
	Provider     ProviderID
	Addrs        []string // host:port of agents, the first that answers is used
}

// Datacenter names the datacenter of the region's country, where its mode lies: that of
// its subdivision before another of the country, else the first of the map. It is empty
// where the map declares none: there is one store, without a name.
func (m *Map) Datacenter(id ID) string {
	if len(m.Consul) == 0 {
		return ""
	}
	var at residency.Jurisdiction
	if r := m.Region(id); r != nil {
		at = r.Place.Jurisdiction
	}
	return m.Consul[m.homeFirst(at)[0]].Name
}

// homeFirst are the indices of the datacenters: those of the jurisdiction, then those of
// its country, then the others, each as the map orders them.
func (m *Map) homeFirst(j residency.Jurisdiction) []int {
	distance := func(i int) int {
		switch at := m.Consul[i].Jurisdiction; {
		case at == j:
			return 0
		case at.Country() == j.Country():
			return 1
		}
		return 2
	}
	order := make([]int, len(m.Consul))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return distance(a) - distance(b) })
	return order
}

// RecordsIn names the datacenters that may hold the record of a consult, best first:
// those of the home's country, then the others. An empty list means that the record may
// be written nowhere. A map that declares no datacenter says nothing of where its store
// stands: the only one, without a name, holds everything.
func (m *Map) RecordsIn(law *residency.Law, s *residency.Subject, home residency.Jurisdiction, now time.Time) []string {
	if len(m.Consul) == 0 {
		return []string{""}
	}
	var names []string
	for _, i := range m.homeFirst(home) {
		if m.storing(law, i, s, now).Permitted() {
			names = append(names, m.Consul[i].Name)
		}
	}
	return names
}

// storing judges the record of a consult in the datacenter of that index.
func (m *Map) storing(law *residency.Law, i int, s *residency.Subject, now time.Time) residency.Verdict {
	hop := m.hop(m.Consul[i].Jurisdiction, m.Consul[i].Provider, "")
	return law.Permits(residency.Stored, &hop, s, now)
}

// datacenters reads consul, in the order of the file: the first is the fallback.
func (r *reader) datacenters(n *yaml.Node, providers map[ProviderID]*Provider) []Datacenter {
	if n != nil && n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		r.fault(n, "consul: empty: want at least one datacenter, or leave the key out")
	}
	var list []Datacenter
	seen := map[string]string{} // address → datacenter
	for _, e := range r.entries(n, "consul", maxDatacenters) {
		r.label(e, "datacenter")
		r.mark(e.at, "consul", e.key)
		what := "datacenter " + e.key
		s := r.section(e.value, e.at, what, "country", "subdivision", "provider", "addresses")
		d := Datacenter{Name: e.key, Jurisdiction: r.jurisdiction(s.need("country"), s.get("subdivision"), what)}
		d.Provider = r.provider(s.need("provider"), what, providers)
		addrs := s.need("addresses")
		if addrs != nil && addrs.Kind == yaml.SequenceNode && len(addrs.Content) == 0 {
			r.fault(addrs, "%s: addresses: empty: want at least one agent", what)
		}
		for _, n := range r.items(addrs, what+": addresses", maxAgents) {
			a := r.text(n, what+": addresses")
			switch other, taken := seen[a]; {
			case a == "":
			case !isAgent(a):
				r.fault(n, "%s: addresses: %.64q: want host:port of a Consul agent, such as 192.0.2.10:8500 or consul.example:8500", what, a)
			case taken:
				r.fault(n, "%s: addresses: %s: also of datacenter %s", what, a, other)
			default:
				seen[a] = e.key
				d.Addrs = append(d.Addrs, a)
			}
		}
		list = append(list, d)
	}
	return list
}

// isAgent accepts host:port, the host a lower-case name or an address of one machine.
func isAgent(s string) bool {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return false
	}
	host, port := s[:i], s[i+1:]
	if p, err := strconv.ParseUint(port, 10, 16); err != nil || p == 0 || port[0] == '0' {
		return false
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a.Addr().Zone() == "" && !a.Addr().IsUnspecified()
	}
	labels := strings.Split(host, ".")
	top := labels[len(labels)-1]
	return len(host) <= 253 && strings.Trim(top, "0123456789") != "" && // else a misspelt address
		!slices.ContainsFunc(labels, func(l string) bool { return !isLabel(l) })
}
