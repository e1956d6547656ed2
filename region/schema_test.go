package region

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"bailiwick/residency"
)

// semantic are the bad files whose fault no schema can see, each with the reason.
var semantic = map[string]string{
	"address-reuse":    "one address on two edges: a relation between entries",
	"alias":            "aliases are resolved before a schema sees the document",
	"baa-regions":      "the scope names regions of another part of the file",
	"codes-iso":        "well-formed codes that ISO 3166 does not have",
	"consul-agents":    "addresses and names that only look like some",
	"consul-provider":  "the provider is named in another part of the file",
	"consul-twice":     "one agent in two datacenters: a relation between entries",
	"dates-calendar":   "a day that the calendar does not have",
	"dates-order":      "expiry before the date: a relation between values",
	"edge-twice":       "one edge ID under two regions",
	"edges-foreign":    "an edge ID must begin with that of its region",
	"geo-twice":        "one prefix in two entries",
	"geo-mask":         "bits beyond the mask of a prefix",
	"neighbour-self":   "a region that is its own neighbour",
	"provider-unknown": "the provider is named in another part of the file",
	"region-twice":     "a duplicate key is gone before a schema sees the document",
	"subdivision-of":   "a subdivision must be of the country beside it",
	"unquoted-no-only": "YAML 1.2 reads an unquoted NO as the word; YAML 1.1 does not",

	"control-characters": "a schema for editors does not look into names",
	"merge":              "merges are resolved before a schema sees the document",
	"law-grace-long":     "a schema does not add up durations",
	"documents":          "a schema sees one document",
}

var compiled = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema()))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("regions.schema.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("regions.schema.json")
})

// document is the file as an editor's YAML 1.2 tools see it.
func document(t testing.TB, data []byte) any {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil || len(doc.Content) == 0 {
		return nil
	}
	return value(doc.Content[0])
}

func value(n *yaml.Node) any {
	switch n.Kind {
	case yaml.AliasNode:
		return value(n.Alias)
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			list = append(list, value(c))
		}
		return list
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].ShortTag() == "!!merge" {
				for k, v := range value(n.Content[i+1]).(map[string]any) {
					m[k] = v
				}
				continue
			}
			m[n.Content[i].Value] = value(n.Content[i+1])
		}
		return m
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil {
			if b, err := json.Marshal(f); err == nil {
				return json.Number(b)
			}
		}
	}
	return n.Value
}

func TestSchemaAgreesWithParse(t *testing.T) {
	schema, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(fixtures(t, "testdata/good/*.yaml"), append(fixtures(t, "testdata/lint/*.yaml"), "../regions.yaml")...) {
		if err := schema.Validate(document(t, fixture(t, path))); err != nil {
			t.Errorf("%s: the schema refuses what Parse reads: %v", path, err)
		}
	}
	seen := map[string]bool{}
	for _, path := range fixtures(t, "testdata/bad/*.yaml") {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		seen[name] = true
		err := schema.Validate(document(t, fixture(t, path)))
		switch _, only := semantic[name]; {
		case err == nil && !only:
			t.Errorf("%s: the schema accepts what Parse refuses, and it is not listed as semantic", path)
		case err != nil && only:
			t.Errorf("%s: listed as semantic, but the schema sees it: %v", path, err)
		}
	}
	for name := range semantic {
		if !seen[name] {
			t.Errorf("semantic lists %s: no such file under testdata/bad", name)
		}
	}
}

// The schema repeats the law's words so that editors can offer them.
func TestSchemaKnowsTheLawsWords(t *testing.T) {
	var s struct {
		Properties struct {
			Operator struct{ Properties struct{ Facts words } }
			Law      struct{ Properties map[string]any }
		}
		Defs struct {
			Provider struct{ Properties struct{ Facts words } }
			Tenant   struct {
				Properties struct {
					Facts    words
					Overlays struct{ Items struct{ Enum []string } }
				}
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(Schema()), &s); err != nil {
		t.Fatal(err)
	}
	law := residency.Shipped()
	scope := func(of string) []string {
		var list []string
		for f, rule := range law.Facts() {
			if rule.Scope == of && f != "baa" {
				list = append(list, string(f))
			}
		}
		slices.Sort(list)
		return list
	}
	for _, row := range []struct {
		name      string
		got, want []string
	}{
		{"operator facts", s.Properties.Operator.Properties.Facts.PropertyNames.Enum, scope("operator")},
		{"provider facts", s.Defs.Provider.Properties.Facts.PropertyNames.Enum, scope("provider")},
		{"tenant facts", s.Defs.Tenant.Properties.Facts.PropertyNames.Enum, scope("tenant")},
		{"overlays", s.Defs.Tenant.Properties.Overlays.Items.Enum, law.Overlays()},
		{"flags", slices.Sorted(maps.Keys(s.Properties.Law.Properties)), []string{dpfValid, withdrawalGrace}},
	} {
		if !slices.Equal(row.got, row.want) {
			t.Errorf("%s: the schema has\n%q\nthe law has\n%q", row.name, row.got, row.want)
		}
	}
}

type words struct {
	PropertyNames struct{ Enum []string }
}
