package residency

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxCatalogue bounds a catalogue in bytes; the shipped one is 32 kB.
const maxCatalogue = 1 << 17

// parser carries one Parse: the tree beside the values, for line numbers.
type parser struct {
	f      file
	root   *yaml.Node
	law    *Law
	faults []fault
	alias  map[string]Fact
	blocks map[string]set // expanded; nil while a block is being expanded
}

type fault struct {
	line int
	text string
}

// Parse reads a catalogue and checks it: every fault is in the error, ordered, as
// "line N: what".
func Parse(data []byte) (*Law, error) {
	if len(data) > maxCatalogue {
		return nil, fmt.Errorf("law catalogue: %d bytes, limit %d", len(data), maxCatalogue)
	}
	p := &parser{alias: map[string]Fact{}, blocks: map[string]set{}, law: &Law{rows: map[Jurisdiction]*Row{}, overlays: map[string]*Row{}, same: map[Jurisdiction]Jurisdiction{},
		never: map[Jurisdiction]bool{}, facts: map[Fact]FactRule{}, tags: map[string]bool{}, flags: map[string]bool{}, flagOf: map[Fact]string{}}}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, fmt.Errorf("law catalogue: %w", err)
	}
	if len(root.Content) == 0 {
		return nil, errors.New("law catalogue: line 1: empty")
	}
	p.root = root.Content[0]
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	var te *yaml.TypeError
	if err := d.Decode(&p.f); errors.As(err, &te) {
		for _, e := range te.Errors {
			var line int
			fmt.Sscanf(e, "line %d:", &line)
			_, text, _ := strings.Cut(e, ": ")
			if key, _, ok := strings.Cut(strings.TrimPrefix(text, "field "), " not found in type "); ok {
				text = fmt.Sprintf("unknown key %q", key)
			}
			p.fault(line, "%s", strings.ReplaceAll(text, "residency.", ""))
		}
	} else if err != nil {
		return nil, fmt.Errorf("law catalogue: %w", err)
	}
	p.bareNo(p.root)
	p.all()
	if len(p.faults) == 0 {
		p.law.bytes = sha256.Sum256(data)
		p.law.sign()
		return p.law, nil
	}
	slices.SortFunc(p.faults, func(a, b fault) int { return cmp.Or(a.line-b.line, strings.Compare(a.text, b.text)) })
	var lines []string
	for _, f := range p.faults {
		lines = append(lines, fmt.Sprintf("line %d: %s", f.line, f.text))
	}
	return nil, fmt.Errorf("law catalogue:\n%s", strings.Join(slices.Compact(lines), "\n"))
}

func (p *parser) fault(line int, format string, args ...any) {
	p.faults = append(p.faults, fault{line, fmt.Sprintf(format, args...)})
}

// line finds the line of the deepest part of path that exists.
func (p *parser) line(path ...string) int {
	n := p.root
	at := n.Line
	for _, key := range path {
		found := false
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				at, n, found = n.Content[i].Line, n.Content[i+1], true
				break
			}
		}
		if !found {
			break
		}
	}
	return at
}

// bareNo finds Norway written so that YAML 1.1 tools read it as false.
func (p *parser) bareNo(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Value == "NO" && n.Style == 0 {
		p.fault(n.Line, `NO must be quoted, "NO": YAML 1.1 tools read the bare word as false, and Norway disappears`)
	}
	for _, c := range n.Content {
		p.bareNo(c)
	}
}

func (p *parser) all() {
	p.meta()
	p.factList()
	for _, name := range slices.Sorted(maps.Keys(p.f.Blocks)) {
		if !strings.HasSuffix(name, "_COND") {
			p.block(name)
		}
	}
	p.territories()
	for name, q := range p.f.Jurisdictions {
		p.entry(name, q)
	}
	p.law.eu = p.law.rows["EU"]
	if p.law.eu == nil {
		p.fault(p.line("jurisdictions"), "EU: missing: it is the default of every EEA country without a row of its own")
	}
	p.law.eea = p.countries([]string{"EEA"}, "blocks")
	p.effective()
	for name, q := range p.f.Overlays {
		p.overlay(name, q)
	}
	p.law.overlaid = slices.Sorted(maps.Keys(p.law.overlays))
	p.law.concern = p.countries(p.f.DenyAll, "deny_everywhere").area()
	p.law.index()
}

func (p *parser) meta() {
	m := p.f.Meta
	if m.Version != 1 {
		p.fault(p.line("meta", "version"), "meta.version %d: want 1", m.Version)
	}
	if _, err := time.Parse(time.DateOnly, m.AsOf); err != nil {
		p.fault(p.line("meta", "as_of"), "meta.as_of %q: want YYYY-MM-DD: a rule without a date cannot be cited", m.AsOf)
	}
	if m.Unknown != "refused" {
		p.fault(p.line("meta", "default_for_unknown"), "meta.default_for_unknown %q: only refused fails closed", m.Unknown)
	}
	p.law.asOf, p.law.unknown = m.AsOf, m.Unknown
}

func (p *parser) factList() {
	for name, q := range p.f.Facts {
		at := p.line("facts", name)
		r := FactRule{Scope: q.Scope, Note: q.Note}
		if !slices.Contains([]string{"operator", "provider", "tenant", "consult"}, q.Scope) {
			p.fault(at, "facts.%s: scope %q: want operator, provider, tenant or consult", name, q.Scope)
		}
		switch q.When {
		case "always":
		case "outside_home":
			r.When = OutsideHome
		case "contract_route":
			r.When = ContractRoute
		default:
			p.fault(at, "facts.%s: when %q: want always, outside_home or contract_route", name, q.When)
		}
		p.law.facts[Fact(name)] = r
		p.alias[name] = Fact(name)
		for _, other := range q.SameAs {
			p.alias[other] = Fact(name)
		}
		if q.Also != "" {
			flag, ok := strings.CutPrefix(q.Also, "flag ")
			if _, known := p.f.Flags[flag]; !ok || !known {
				p.fault(at, "facts.%s: also %q: want flag and a name under flags", name, q.Also)
			}
			p.law.flagOf[Fact(name)] = flag
		}
	}
	for name, q := range p.f.Flags {
		p.law.flags[name] = q.Default
	}
}

func (p *parser) territories() {
	for from, to := range p.f.Same {
		at := p.line("same_law_as", from)
		a, okA := p.jurisdiction(at, "same_law_as", from)
		b, okB := p.jurisdiction(at, "same_law_as."+from, to)
		if okA && okB {
			p.law.same[a] = b
		}
	}
	for _, name := range p.f.Never {
		p.law.never[Jurisdiction(name)] = true
	}
}

func (p *parser) jurisdiction(line int, where, code string) (Jurisdiction, bool) {
	j, err := ParseJurisdiction(code)
	if err != nil || string(j) != code {
		p.fault(line, "%s: %q is not an ISO 3166 code in upper case, and no block", where, code)
		return "", false
	}
	return j, true
}

// countries expands codes and names of blocks.
func (p *parser) countries(names []string, path ...string) set {
	s := set{}
	for _, name := range names {
		if _, ok := p.f.Blocks[name]; ok {
			maps.Copy(s, p.block(name))
		} else if j, ok := p.jurisdiction(p.line(path...), strings.Join(path, "."), name); ok {
			s[j] = true
		}
	}
	return s
}

// block expands one block, once: blocks of blocks would cost their product.
func (p *parser) block(name string) set {
	if s, begun := p.blocks[name]; begun {
		if s == nil {
			p.fault(p.line("blocks", name), "blocks.%s: names itself, directly or by way of another block", name)
		}
		return s
	}
	p.blocks[name] = nil
	var members []string
	node := p.f.Blocks[name]
	if err := node.Decode(&members); err != nil {
		p.fault(p.line("blocks", name), "blocks.%s: want a list of countries", name)
	}
	p.blocks[name] = p.countries(members, "blocks", name)
	return p.blocks[name]
}

// effective dates the rows. A key is a row, or a row and the act that the date is
// of: CA-NS-FOIPOP.
func (p *parser) effective() {
	for key, date := range p.f.Effective {
		name, act := key, ""
		for p.law.rows[Jurisdiction(name)] == nil && name != "" {
			name = name[:max(strings.LastIndexByte(name, '-'), 0)]
			act = strings.TrimPrefix(key[len(name):], "-")
		}
		if _, err := time.Parse(time.DateOnly, date); err != nil || name == "" {
			p.fault(p.line("effective", key), "effective.%s: %q: want an entry and a date YYYY-MM-DD", key, date)
			continue
		}
		p.law.rows[Jurisdiction(name)].Effective = strings.TrimPrefix(act+" "+date, " ")
	}
}
