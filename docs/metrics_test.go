package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bailiwick/tools/exectest"
)

const alerts = "../deploy/prometheus/alerts.yaml"

// exported are the metrics in the source, each with its labels: every one is made by a
// literal name.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	name := regexp.MustCompile(`^bailiwick_[a-z_]+$`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"node_modules", "bench", ".git"}, d.Name()) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is {
				return true
			}
			found, labels := "", []string{}
			for i, arg := range call.Args {
				ast.Inspect(arg, func(n ast.Node) bool {
					switch n := n.(type) {
					case *ast.CallExpr:
						return false // a metric of its own
					case *ast.BasicLit:
						text, _ := strconv.Unquote(n.Value)
						if name.MatchString(text) {
							found = text
						}
					case *ast.CompositeLit:
						if t, is := n.Type.(*ast.ArrayType); is && i > 0 {
							if id, is := t.Elt.(*ast.Ident); is && id.Name == "string" {
								for _, e := range n.Elts {
									if lit, is := e.(*ast.BasicLit); is {
										text, _ := strconv.Unquote(lit.Value)
										labels = append(labels, text)
									}
								}
							}
						}
					}
					return true
				})
			}
			if found != "" {
				all[found] = append(all[found], labels...)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// documented are those of the protocol page's table, each with its labels.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(bailiwick_[a-z_]+)(?:\\{([a-z,]+)\\})?`").FindAllStringSubmatch(string(page), -1) {
		all[m[1]] = strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' })
	}
	return all
}

// TestMetricsAreDocumented: the protocol page has every metric that a node exports, with its
// labels, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	is, said := exported(t), documented(t)
	if len(is) < 30 {
		t.Fatalf("found %d metrics only: does the test still read the source right?", len(is))
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		labels, there := said[name]
		switch {
		case !there:
			t.Errorf("%s is not in docs/protocol.md, section 6", name)
		case len(is[name]) > 0 && !slices.Equal(slices.Sorted(slices.Values(labels)), slices.Sorted(slices.Values(is[name]))):
			t.Errorf("%s: the page has the labels %v, the source %v", name, labels, is[name])
		}
	}
	for name := range said {
		if _, there := is[name]; !there {
			t.Errorf("docs/protocol.md has %s, which no node exports", name)
		}
	}
}

// TestAlertRules: Prometheus takes the rules, and each asks for metrics and labels that exist.
func TestAlertRules(t *testing.T) {
	rules, err := os.ReadFile(alerts)
	if err != nil {
		t.Fatal(err)
	}
	said := documented(t)
	found := 0
	for _, expr := range regexp.MustCompile(`(?m)^ *expr: (.*)$`).FindAllStringSubmatch(string(rules), -1) {
		for _, m := range regexp.MustCompile(`(bailiwick_[a-z_]+)(?:\{([^}]*)\})?`).FindAllStringSubmatch(expr[1], -1) {
			found++
			labels, there := said[m[1]]
			if !there {
				t.Errorf("a rule asks for %s, which no node exports", m[1])
			}
			for _, l := range regexp.MustCompile(`([a-z_]+)[!=]`).FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(labels, l[1]) {
					t.Errorf("a rule asks for %s by %s, which has %v", m[1], l[1], labels)
				}
			}
		}
	}
	if found < 10 {
		t.Fatalf("%d metrics in %s: does the test still read it right?", found, alerts)
	}
	promtool := exectest.Need(t, "promtool", "prometheus")
	if out, err := exec.Command(promtool, "check", "rules", alerts).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
