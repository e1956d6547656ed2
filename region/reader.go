package region

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Problem is one fault of a map's text.
type Problem struct {
	File string
	Line int // from 1; 0 where no line is to blame
	Text string
}

func (p Problem) String() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text) }

// Errors are all the faults of a map's text, ordered by line: at least one, and
// at most maxProblems and a last one that says so.
type Errors []Problem

// Error has one fault a line.
func (e Errors) Error() string {
	var b strings.Builder
	for i, p := range e {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

const (
	maxBytes    = 1 << 20
	maxText     = 512 // octets of one name, reason or document reference
	maxFault    = 512 // octets of the text of one fault
	maxProblems = 200
)

// reader reads values from the nodes of one document. It never stops at a fault:
// it notes the line, answers a zero value and goes on, so that an operator sees
// every fault at once. A nil node is an absent key and is no fault of its own.
//
// It walks nodes instead of decoding into structs: the decoder reports unknown
// keys with the name of a Go type, and keeps no line for what it did decode.
type reader struct {
	file  string
	errs  Errors
	lines map[string]int // path of an entry → its line, for Lint
}

// fault notes a fault at the line of n. Its text is fit for a terminal whatever
// the keys of the file hold.
func (r *reader) fault(n *yaml.Node, format string, args ...any) {
	p := Problem{File: r.file, Text: fmt.Sprintf(format, args...)}
	if n != nil {
		p.Line = n.Line
	}
	if len(p.Text) > maxFault {
		p.Text = p.Text[:maxFault] + "…"
	}
	p.Text = strings.Map(func(c rune) rune {
		if unicode.IsGraphic(c) {
			return c
		}
		return unicode.ReplacementChar
	}, p.Text)
	r.errs = append(r.errs, p)
}

// problems are the faults so far in order, or nil.
func (r *reader) problems() error {
	if len(r.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(r.errs, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.Text, b.Text)
	})
	if more := len(r.errs) - maxProblems; more > 0 {
		last := r.errs[maxProblems-1]
		r.errs = append(r.errs[:maxProblems:maxProblems], Problem{last.File, last.Line, fmt.Sprintf("%d more faults follow; mend these first", more)})
	}
	return r.errs
}

// mark keeps the line of an entry under its path.
func (r *reader) mark(n *yaml.Node, path ...string) { r.lines[strings.Join(path, "/")] = n.Line }

// syntax words the library's error; it names the line where the broken entry begins.
func (r *reader) syntax(err string) Problem {
	m := syntaxLine.FindStringSubmatch(err) // matches whatever it is given
	line, _ := strconv.Atoi(m[1])           // no line: 0
	return Problem{r.file, max(line, 1), "not YAML, here or in the entry that begins here: " + err[len(m[0]):]}
}

var syntaxLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// document parses the text into the root node of its only document, or nil.
func (r *reader) document(data []byte) *yaml.Node {
	if len(data) > maxBytes {
		r.fault(nil, "map of %d bytes: want at most %d", len(data), maxBytes)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	err := dec.Decode(&doc)
	if err == nil {
		if err = dec.Decode(&next); err == nil {
			r.fault(&next, "second document: want one; remove everything from the line ---")
			return nil
		}
	} else if errors.Is(err, io.EOF) {
		r.errs = append(r.errs, Problem{r.file, 1, "empty map: want version, zone, operator, providers and regions"})
		return nil
	}
	if !errors.Is(err, io.EOF) {
		r.errs = append(r.errs, r.syntax(err.Error()))
		return nil
	}
	return doc.Content[0]
}

// kind tells whether n has the kind and, for a scalar, one of the tags.
func (r *reader) kind(n *yaml.Node, what, want string, kind yaml.Kind, tags ...string) bool {
	switch {
	case n == nil:
		return false
	case n.Kind == kind && (kind != yaml.ScalarNode || slices.Contains(tags, n.ShortTag())):
		return true
	case n.Kind == yaml.AliasNode:
		r.fault(n, "%s: alias *%.32s: aliases are not read; write the value out", what, n.Value)
	case n.Kind == yaml.MappingNode:
		r.fault(n, "%s: a mapping: want %s", what, want)
	case n.Kind == yaml.SequenceNode:
		r.fault(n, "%s: a list: want %s", what, want)
	case n.ShortTag() == "!!null" && kind == yaml.ScalarNode:
		r.fault(n, "%s: empty: want %s", what, want)
	case n.ShortTag() == "!!null":
		r.fault(n, "%s: empty: want %s, or leave the key out", what, want)
	default:
		r.fault(n, "%s: %s: want %s", what, shown(n), want)
	}
	return false
}

// shown is a scalar as a fault quotes it.
func shown(n *yaml.Node) string {
	if n.ShortTag() == "!!str" {
		return fmt.Sprintf("%.64q", n.Value)
	}
	return fmt.Sprintf("%.64s", n.Value)
}

// entry is one pair of a mapping.
type entry struct {
	key   string
	at    *yaml.Node // the key
	value *yaml.Node
}

// entries are the pairs of a mapping in file order, each key once.
func (r *reader) entries(n *yaml.Node, what string, limit int) []entry {
	if !r.kind(n, what, "a mapping", yaml.MappingNode) {
		return nil
	}
	if len(n.Content)/2 > limit {
		r.fault(n, "%s: %d entries: want at most %d", what, len(n.Content)/2, limit)
		return nil
	}
	first := make(map[string]int, len(n.Content)/2)
	var list []entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" {
			r.fault(k, "%s: a key that is no word: merges and aliases are not read; write every key out", what)
			continue
		}
		if line, twice := first[k.Value]; twice {
			r.fault(k, "%s: key %.64q: already on line %d", what, k.Value, line)
			continue
		}
		first[k.Value] = k.Line
		list = append(list, entry{k.Value, k, n.Content[i+1]})
	}
	return list
}

// items are the elements of a list.
func (r *reader) items(n *yaml.Node, what string, limit int) []*yaml.Node {
	if !r.kind(n, what, "a list", yaml.SequenceNode) {
		return nil
	}
	if len(n.Content) > limit {
		r.fault(n, "%s: %d entries: want at most %d", what, len(n.Content), limit)
		return nil
	}
	return n.Content
}

// section is a mapping with a closed set of keys.
type section struct {
	r      *reader
	what   string
	at     *yaml.Node // whom to blame for a missing key
	values map[string]*yaml.Node
	broken bool // not a mapping: nothing in it is missing
}

// section reads the mapping n; at is the line of its name.
func (r *reader) section(n, at *yaml.Node, what string, keys ...string) section {
	s := section{r: r, what: what, at: at, values: map[string]*yaml.Node{}}
	s.broken = n == nil || n.Kind != yaml.MappingNode
	for _, e := range r.entries(n, what, 1000) {
		if !slices.Contains(keys, e.key) {
			r.fault(e.at, "%s: unknown key %.64q%s", what, e.key, meant(e.key, keys))
			if near := nearest(e.key, keys); near != "" && s.values[near] == nil {
				s.values[near] = nil // present, if misspelt: not also missing
			}
			continue
		}
		s.values[e.key] = e.value
	}
	return s
}

// get is the value of a key, or nil.
func (s *section) get(key string) *yaml.Node { return s.values[key] }

// need is get, and a fault where the key is missing.
func (s *section) need(key string) *yaml.Node {
	n, ok := s.values[key]
	if !ok && !s.broken {
		s.r.fault(s.at, "%s: %s: missing", s.what, key)
	}
	return n
}

// text is a line of words.
func (r *reader) text(n *yaml.Node, what string) string {
	if n != nil && n.Kind == yaml.ScalarNode && slices.Contains([]string{"!!int", "!!float", "!!bool", "!!timestamp"}, n.ShortTag()) {
		r.fault(n, "%s: %s: want words: quote it, %q", what, shown(n), fmt.Sprintf("%.64s", n.Value))
		return ""
	}
	if !r.kind(n, what, "words", yaml.ScalarNode, "!!str") {
		return ""
	}
	switch {
	case strings.TrimSpace(n.Value) == "":
		r.fault(n, "%s: empty: want words", what)
	case len(n.Value) > maxText:
		r.fault(n, "%s: %d octets: want at most %d", what, len(n.Value), maxText)
	case strings.ContainsFunc(n.Value, func(c rune) bool { return !unicode.IsGraphic(c) }):
		r.fault(n, "%s: %.64q: want one line without control characters", what, n.Value)
	default:
		return n.Value
	}
	return ""
}

// decimal tells whether everybody reads the number alike: 01600 is 896 to YAML 1.1 and 1600
// to YAML 1.2, and 0x10, 1_000 and 1e3 are numbers to some.
func (r *reader) decimal(n *yaml.Node, what string) {
	whole, part, has := strings.Cut(strings.TrimPrefix(n.Value, "-"), ".")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	if digits(whole) && (whole == "0" || whole[0] != '0') && (!has || digits(part)) {
		return
	}
	r.fault(n, "%s: %.64s: want plain decimal digits, such as 1600: not every reader takes this for one number", what, n.Value)
}

// number is a finite number in [low, high].
func (r *reader) number(n *yaml.Node, what string, low, high float64) float64 {
	want := fmt.Sprintf("a number from %v to %v", low, high)
	if !r.kind(n, what, want, yaml.ScalarNode, "!!int", "!!float") {
		return 0
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	if err != nil || !(f >= low && f <= high) { // not (…) so that NaN fails
		r.fault(n, "%s: %.64s: want %s", what, n.Value, want)
		return 0
	}
	r.decimal(n, what)
	return f
}

// count is a whole number in [1, high].
func (r *reader) count(n *yaml.Node, what string, high int) int {
	want := fmt.Sprintf("a whole number from 1 to %d", high)
	if !r.kind(n, what, want, yaml.ScalarNode, "!!int") {
		return 0
	}
	k, err := strconv.Atoi(n.Value)
	if err != nil || k < 1 || k > high {
		r.fault(n, "%s: %.64s: want %s", what, n.Value, want)
		return 0
	}
	r.decimal(n, what)
	return k
}

// truth is true or false, in YAML 1.2's words only.
func (r *reader) truth(n *yaml.Node, what string) bool {
	return r.kind(n, what, "true or false", yaml.ScalarNode, "!!bool") && strings.EqualFold(n.Value, "true")
}

// date is a day, 00:00 UTC.
func (r *reader) date(n *yaml.Node, what string) time.Time {
	const want = "a day such as 2027-12-31"
	if !r.kind(n, what, want, yaml.ScalarNode, "!!str", "!!timestamp") {
		return time.Time{}
	}
	t, err := time.Parse(time.DateOnly, n.Value)
	if err != nil {
		r.fault(n, "%s: %.64q: want %s", what, n.Value, want)
	}
	return t
}
