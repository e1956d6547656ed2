package region

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"bailiwick/residency"
)

// yaml11Bool are the words that YAML 1.1 reads as true or false when unquoted.
// Two of them are codes of places: NO is Norway, and ON is Ontario.
var yaml11Bool = []string{"y", "n", "yes", "no", "on", "off", "true", "false"}

// code is an ISO 3166 code that exists. It explains those that YAML misreads.
func (r *reader) code(n *yaml.Node, what string) residency.Jurisdiction {
	if n == nil {
		return ""
	}
	if n.Kind == yaml.ScalarNode && n.Style == 0 && slices.Contains(yaml11Bool, strings.ToLower(n.Value)) {
		reads, code := "true", strings.ToUpper(n.Value)
		if strings.HasPrefix(code, "N") || code == "OFF" || code == "FALSE" {
			reads, code = "false", "NO"
		}
		r.fault(n, "%s: %s without quotes: quote it, %q, because YAML 1.1 tools read it as %s", what, n.Value, code, reads)
		return ""
	}
	if !r.kind(n, what, "an ISO 3166 code such as DE", yaml.ScalarNode, "!!str") {
		return ""
	}
	j, err := residency.ParseJurisdiction(n.Value)
	switch {
	case err != nil:
		r.fault(n, "%s: %v", what, err)
	case strings.ToUpper(n.Value) != n.Value:
		r.fault(n, "%s: %.64q: want upper case: %s", what, n.Value, strings.ToUpper(n.Value))
	case unknown(j) != "":
		r.fault(n, "%s: %s", what, unknown(j))
	default:
		return j
	}
	return ""
}

// unknown says what is wrong with a well-formed code whose country ISO 3166 does not have.
func unknown(j residency.Jurisdiction) string {
	switch _, ok := countryPlaces[j.Country()]; {
	case j.Country() == "UK":
		return fmt.Sprintf("%s: no ISO 3166 code; the United Kingdom is GB", j)
	case j.Country() == "EU":
		return fmt.Sprintf("%s: no country; name each member state", j)
	case !ok:
		return fmt.Sprintf("%s: no ISO 3166 country", j)
	}
	return ""
}

// country is code without a subdivision.
func (r *reader) country(n *yaml.Node, what string) residency.Jurisdiction {
	j := r.code(n, what)
	if j.IsSubdivision() {
		r.fault(n, "%s: %s: want the country alone: %s", what, j, j.Country())
		return j.Country()
	}
	return j
}

// jurisdiction is the subdivision where one is stated, else the country.
func (r *reader) jurisdiction(country, subdivision *yaml.Node, what string) residency.Jurisdiction {
	c := r.country(country, what+": country")
	if subdivision == nil {
		return c
	}
	if v := subdivision.Value; v != "" && !strings.Contains(v, "-") {
		r.fault(subdivision, "%s: subdivision: %.64s: want the whole ISO 3166-2 code, such as CA-QC", what, v)
		return c
	}
	sub := r.code(subdivision, what+": subdivision")
	switch {
	case sub == "":
		return c
	case c != "" && !strings.HasPrefix(subdivision.Value, string(c)+"-"): // as written: US-PR is PR
		r.fault(subdivision, "%s: subdivision: %s: not of country %s", what, subdivision.Value, c)
	default:
		return sub
	}
	return c
}

// jurisdictions is a list of codes, each once, ordered.
func (r *reader) jurisdictions(n *yaml.Node, what string) []residency.Jurisdiction {
	nodes := r.items(n, what, maxPlaces)
	if n != nil && n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		r.fault(n, "%s: empty: want at least one ISO 3166 code", what)
	}
	var list []residency.Jurisdiction
	for _, n := range nodes {
		j := r.code(n, what)
		if j == "" {
			continue
		}
		if slices.Contains(list, j) {
			r.fault(n, "%s: %s: named twice", what, j)
			continue
		}
		r.mark(n, what, string(j))
		list = append(list, j)
	}
	slices.Sort(list)
	return list
}

// point is [lat, lon] in degrees.
func (r *reader) point(n *yaml.Node, what string) (Point, bool) {
	what += ": at"
	if n == nil || !r.kind(n, what, "[latitude, longitude] in degrees", yaml.SequenceNode) {
		return Point{}, false
	}
	if len(n.Content) != 2 {
		r.fault(n, "%s: %d numbers: want [latitude, longitude] in degrees", what, len(n.Content))
		return Point{}, false
	}
	return Point{
		Lat: r.number(n.Content[0], what+": latitude", -90, 90),
		Lon: r.number(n.Content[1], what+": longitude", -180, 180),
	}, true
}
