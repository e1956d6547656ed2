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

// core packages are pure, and so is what they import in turn: no socket, file, clock, logger
// or goroutine. sim/page is no part of the product, and as pure.
var core = []string{"exact", "region", "residency", "health", "steer", "consult", "failover", "edge/signal", "sim/page"}

// leaves are of one wire alone, and as pure as the core.
var leaves = []string{"edge/sfu/bwe", "edge/sfu/allot", "edge/sfu/ladder", "edge/sfu/red", "edge/sfu/mos", "edge/sfu/speaker"}

// assemblies connect wires; the verbs alone run them.
// sim connects the rules anew, without sockets, for its tests alone.
var assemblies = []string{"edge", "nameserver", "sim"}

// wires hold the sockets. A wire never imports another wire; edge and cmd connect them.
var wires = []string{"steer/world", "store", "store/consul", "health/probe", "access", "problem", "consult/router", "geodns", "geodns/geo", "geodns/dnssec", "geodns/siphash", "geodns/cookie", "geodns/limit", "geodns/zonefile", "geodns/check", "crowd", "datagram", "webhook", "turn", "edge/sfu", "edge/sfu/lane", "edge/sfu/rtp", "edge/sfu/layer", "edge/sfu/bwe", "edge/sfu/allot", "edge/sfu/ladder", "edge/sfu/sframe", "edge/sfu/red", "edge/sfu/mos", "edge/sfu/speaker", "web", "acme"}

// within lists what a wire may import of the house beside the core: its own
// leaves, and the contract that it is written against.
var within = map[string][]string{
	"store/consul":    {"store"},
	"steer/world":     {"store"},
	"consult/router":  {"access", "problem", "store"},
	"geodns":          {"datagram", "geodns/geo", "geodns/dnssec", "geodns/cookie", "geodns/limit", "geodns/zonefile"},
	"geodns/cookie":   {"geodns/siphash"},
	"geodns/limit":    {"geodns/siphash"},
	"geodns/zonefile": {"geodns/dnssec"},
	"geodns/dnssec":   {"store"},
	"geodns/check":    {"geodns/dnssec"},
	"acme":            {"store"},
	"turn":            {"crowd"},
	"edge/sfu":        {"edge/sfu/lane", "edge/sfu/layer", "edge/sfu/rtp", "edge/sfu/bwe", "edge/sfu/allot", "edge/sfu/ladder", "edge/sfu/sframe", "edge/sfu/red", "edge/sfu/mos", "edge/sfu/speaker"},
	"edge/sfu/lane":   {"crowd", "datagram"},
	"edge/sfu/layer":  {"edge/sfu/rtp"},
	"edge/sfu/ladder": {"edge/sfu/allot"},
}

// support is what tests share, and what it may import of the house. Nothing else does
// import one of these, or package testing, outside of tests.
var support = map[string][]string{
	"tools/exectest":   nil,
	"tools/logtest":    nil,
	"tools/nettest":    nil,
	"tools/piontest":   nil,
	"tools/pathtest":   {"tools/exectest"},
	"acme/certtest":    nil,
	"acme/pebbletest":  {"acme/certtest", "tools/exectest", "tools/nettest"},
	"geodns/dnstest":   {"tools/exectest", "tools/nettest"},
	"geodns/nodetest":  {"geodns", "geodns/cookie", "geodns/geo", "region", "residency", "steer"},
	"edge/whiptest":    {"tools/piontest"},
	"store/consultest": {"tools/exectest", "tools/nettest"},
	"store/storetest":  {"store"},
	"web/webtest":      {"tools/exectest"},
}

type pkg struct {
	ImportPath string
	Dir        string
	Imports    []string
	GoFiles    []string
	Standard   bool
}

func packages(t *testing.T) map[string]pkg {
	t.Helper()
	all := map[string]pkg{}
	for _, p := range list(t, "list", "-json=ImportPath,Dir,Imports,GoFiles", "./...") {
		all[strings.TrimPrefix(p.ImportPath, "bailiwick/")] = p
	}
	return all
}

func list(t *testing.T, args ...string) (all []pkg) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func house(path string) (string, bool) { return strings.CutPrefix(path, "bailiwick/") }

// pure is what the core may import of the standard library, itself or through what it
// imports of ours and of third parties: nothing here opens, waits, logs or draws. What the
// standard library imports in turn is its own affair.
var pure = []string{"bytes", "cmp", "crypto", "crypto/ecdsa", "crypto/ed25519", "crypto/hmac", "crypto/rsa", "crypto/sha256", "embed",
	"encoding", "encoding/base32", "encoding/base64", "encoding/binary", "encoding/hex", "encoding/json", "encoding/pem", "errors", "fmt", "hash/fnv", "io", "iter",
	"maps", "math", "math/big", "math/bits", "net/netip", "net/url", "reflect", "regexp", "slices", "sort", "strconv", "strings", "sync", "time", "unicode", "unicode/utf16", "unicode/utf8"}

// excused are impurities that a third party has and the core does not reach, by package.
var excused = map[string]map[string]string{
	"github.com/golang-jwt/jwt/v5": {
		"crypto/rand": "for RSA and ECDSA; the core signs with Ed25519, which draws nothing",
		"crypto/x509": "keys in PEM; the core hands over keys",
		"time.Now":    "the validator's default; the core passes WithTimeFunc",
	},
	"github.com/pion/rtcp": {
		"unsafe": "to lay structures over packets",
	},
}

// pureDeps are the packages of those names, and what they import in turn that is not of the
// standard library.
func pureDeps(t *testing.T, names []string) []pkg {
	t.Helper()
	args := []string{"list", "-deps", "-json=ImportPath,Dir,Imports,GoFiles,Standard"}
	for _, name := range names {
		args = append(args, "./"+name)
	}
	var deps []pkg
	for _, p := range list(t, args...) {
		if !p.Standard {
			deps = append(deps, p)
		}
	}
	return deps
}

func TestCoreImportsOnlyWhatIsPure(t *testing.T) {
	used := map[string]bool{}
	for _, names := range [][]string{core, leaves} {
		for _, p := range pureDeps(t, names) {
			name, ours := house(p.ImportPath)
			if ours && !slices.Contains(names, name) {
				t.Errorf("the core or a pure leaf imports %s, which is none", name)
			}
			for _, imp := range p.Imports {
				if slices.Contains(pure, imp) || strings.Contains(strings.Split(imp, "/")[0], ".") {
					continue // of a third party: listed itself
				}
				if _, ours := house(imp); ours {
					continue
				}
				if excused[p.ImportPath][imp] == "" {
					t.Errorf("%s, which the core or a pure leaf reaches, imports %s: pass what it needs as an argument", p.ImportPath, imp)
				}
				used[p.ImportPath+" "+imp] = true
			}
		}
	}
	for name, of := range excused {
		for what := range of {
			if !used[name+" "+what] && !strings.HasPrefix(what, "time.") {
				t.Errorf("%s is excused for %s, which it does not import", name, what)
			}
		}
	}
}

func TestCoreHasNoClockAndNoGoroutine(t *testing.T) {
	for _, p := range pureDeps(t, slices.Concat(core, leaves)) {
		for _, file := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: the core starts a goroutine", fset.Position(n.Pos()))
				case *ast.SelectorExpr:
					x, ok := n.X.(*ast.Ident)
					if ok && x.Name == "time" && excused[p.ImportPath]["time."+n.Sel.Name] == "" &&
						slices.Contains([]string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"}, n.Sel.Name) {
						t.Errorf("%s: the core reads the clock with time.%s", fset.Position(n.Pos()), n.Sel.Name)
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

// readsJSON may use another decoder than exact: what they read is another program's, for
// tests and measurements.
var readsJSON = []string{"acme/pebbletest", "store/consultest", "web/webtest", "bench/", "sim", "tools/"}

// TestJSONIsReadExactly: encoding/json takes names in any case, and twice.
func TestJSONIsReadExactly(t *testing.T) {
	for name, p := range packages(t) {
		if slices.ContainsFunc(readsJSON, func(of string) bool { return strings.HasPrefix(name, of) }) {
			continue
		}
		for _, file := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "json" && name != "exact" && (s.Sel.Name == "Unmarshal" || s.Sel.Name == "NewDecoder") {
					t.Errorf("%s: json.%s: read it with package exact", fset.Position(n.Pos()), s.Sel.Name)
				}
				return true
			})
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
