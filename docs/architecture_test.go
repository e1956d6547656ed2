// Package docs holds no code; its tests keep ARCHITECTURE.md true.
package docs

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// core packages are pure: no socket, file, clock, logger or goroutine.
var core = []string{"region", "residency", "health", "steer", "consult", "failover", "edge/signal"}

// assemblies connect wires; the verbs alone run them.
var assemblies = []string{"edge", "nameserver"}

// wires hold the sockets. A wire never imports another wire; edge and cmd connect them.
var wires = []string{"steer/world", "store", "store/consul", "health/probe", "problem", "consult/router", "geodns", "geodns/geo", "geodns/batch", "geodns/dnssec", "geodns/siphash", "geodns/cookie", "geodns/limit", "geodns/zonefile", "geodns/check", "turn", "edge/sfu", "edge/sfu/rtp", "web", "acme"}

// within lists what a wire may import of the house beside the core: its own
// leaves, and the contract that it is written against.
var within = map[string][]string{
	"store/consul":    {"store"},
	"steer/world":     {"store"},
	"consult/router":  {"problem", "store"},
	"geodns":          {"geodns/geo", "geodns/batch", "geodns/dnssec", "geodns/cookie", "geodns/limit", "geodns/zonefile"},
	"geodns/cookie":   {"geodns/siphash"},
	"geodns/limit":    {"geodns/siphash"},
	"geodns/zonefile": {"geodns/dnssec"},
	"geodns/dnssec":   {"store"},
	"geodns/check":    {"geodns/dnssec"},
	"acme":            {"store"},
	"edge/sfu":        {"edge/sfu/rtp"},
}

// support is what tests share, and what it may import of the house. Nothing else does
// import one of these, or package testing, outside of tests.
var support = map[string][]string{
	"tools/exectest":   nil,
	"tools/logtest":    nil,
	"tools/nettest":    nil,
	"acme/certtest":    nil,
	"acme/pebbletest":  {"acme/certtest", "tools/exectest", "tools/nettest"},
	"geodns/dnstest":   {"tools/exectest", "tools/nettest"},
	"geodns/nodetest":  {"geodns", "geodns/cookie", "geodns/geo", "region", "residency", "steer"},
	"store/consultest": {"tools/exectest", "tools/nettest"},
	"store/storetest":  {"store"},
	"web/webtest":      {"tools/exectest"},
}

type pkg struct {
	ImportPath string
	Dir        string
	Imports    []string
	GoFiles    []string
}

func packages(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles", "./...")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(p.ImportPath, "bailiwick/")] = p
	}
}

func house(path string) (string, bool) { return strings.CutPrefix(path, "bailiwick/") }

func TestCoreImportsOnlyCore(t *testing.T) {
	impure := []string{"net", "net/http", "os", "os/exec", "os/signal", "log", "log/slog", "io/ioutil", "math/rand", "math/rand/v2", "syscall"}
	all := packages(t)
	for _, name := range core {
		p, ok := all[name]
		if !ok {
			t.Errorf("core package %s is gone", name)
		}
		for _, imp := range p.Imports {
			if dep, ours := house(imp); ours && !slices.Contains(core, dep) {
				t.Errorf("core package %s imports %s, which is not core", name, dep)
			}
			if slices.Contains(impure, imp) {
				t.Errorf("core package %s imports %s: pass what it needs as an argument", name, imp)
			}
		}
	}
}

func TestCoreHasNoClockAndNoGoroutine(t *testing.T) {
	all := packages(t)
	for _, name := range core {
		for _, file := range all[name].GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(all[name].Dir, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: core starts a goroutine", fset.Position(n.Pos()))
				case *ast.SelectorExpr:
					x, ok := n.X.(*ast.Ident)
					if ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"}, n.Sel.Name) {
						t.Errorf("%s: core reads the clock with time.%s", fset.Position(n.Pos()), n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

func TestWiresDoNotImportWires(t *testing.T) {
	all := packages(t)
	for _, name := range wires {
		p, ok := all[name]
		if !ok {
			t.Errorf("wire %s is gone", name)
		}
		for _, imp := range p.Imports {
			dep, ours := house(imp)
			if !ours || slices.Contains(core, dep) || slices.Contains(within[name], dep) {
				continue
			}
			t.Errorf("wire %s imports %s: edge and cmd connect wires", name, dep)
		}
	}
}

// TestAssembliesStandBesideEachOther: what two of them need is a wire's or the core's.
func TestAssembliesStandBesideEachOther(t *testing.T) {
	all := packages(t)
	for _, name := range assemblies {
		p, ok := all[name]
		if !ok {
			t.Errorf("assembly %s is gone", name)
		}
		for _, imp := range p.Imports {
			if dep, ours := house(imp); ours && !slices.Contains(core, dep) && !slices.Contains(wires, dep) {
				t.Errorf("assembly %s imports %s, which is neither wire nor core", name, dep)
			}
		}
	}
}

func TestSupportOfTestsStaysInTests(t *testing.T) {
	all := packages(t)
	for name, may := range support {
		p, ok := all[name]
		if !ok {
			t.Errorf("support of tests %s is gone", name)
		}
		for _, imp := range p.Imports {
			if dep, ours := house(imp); ours && !slices.Contains(may, dep) {
				t.Errorf("support of tests %s imports %s", name, dep)
			}
		}
	}
	for name, p := range all {
		if _, ok := support[name]; ok {
			continue
		}
		for _, imp := range p.Imports {
			dep, _ := house(imp)
			if _, ok := support[dep]; ok || imp == "testing" {
				t.Errorf("%s imports %s outside of its tests", name, dep)
			}
		}
	}
}

func TestEveryPackageIsInTheArchitecture(t *testing.T) {
	page, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range packages(t) {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("ARCHITECTURE.md does not name package %s", strconv.Quote(name))
		}
	}
}
