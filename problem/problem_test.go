package problem

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

// lawCodes are those that residency gives.
func lawCodes(t *testing.T) []string {
	t.Helper()
	codes := codesIn(t, "../residency/residency.go")
	if len(codes) < 15 {
		t.Fatalf("found %d codes only: does the test still read them right?", len(codes))
	}
	return codes
}

// codesIn reads the constants of type Code from a source file, so that one that is added
// there cannot be forgotten here.
func codesIn(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" {
			if code, _ := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value); code != "" {
				codes = append(codes, code)
			}
		}
		return false
	})
	return codes
}

// TestTableIsWhole: every code has its status, title and, by TestTableIsDocumented, its text.
func TestTableIsWhole(t *testing.T) {
	own := codesIn(t, "problem.go")
	if len(own) < 12 {
		t.Fatalf("found %d codes only: does the test still read them right?", len(own))
	}
	for _, code := range own {
		if e, ok := table[Code(code)]; !ok || e.status < 400 || e.title == "" {
			t.Errorf("%s: %+v: want a status and a title", code, e)
		}
	}
}

// TestCodesAreConstants: no caller types a code.
func TestCodesAreConstants(t *testing.T) {
	calls := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "node_modules") {
			return err
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
			if fun, is := call.Fun.(*ast.SelectorExpr); is && fun.Sel.Name == "New" {
				if of, is := fun.X.(*ast.Ident); is && of.Name == "problem" {
					calls++
					if lit, is := call.Args[0].(*ast.BasicLit); is {
						t.Errorf("%s: problem.New(%s): want the constant", path, lit.Value)
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil || calls < 20 {
		t.Fatalf("%d calls found, %v", calls, err)
	}
}

func TestTableHasEveryCodeOfTheLaw(t *testing.T) {
	for _, code := range lawCodes(t) {
		p := New(Code(code), "")
		want := http.StatusUnprocessableEntity
		if strings.HasPrefix(code, "region_") {
			want = http.StatusServiceUnavailable
		}
		if _, ok := table[Code(code)]; !ok || p.Status != want || p.Title == "" {
			t.Errorf("%s: status %d, title %q; want %d and a title", code, p.Status, p.Title, want)
		}
	}
}

// TestTableIsDocumented: what a backend may branch on is in docs/protocol.md, and what
// stands there exists.
func TestTableIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(page), "`code` is stable")
	list, _, ok := strings.Cut(list, "`id` names")
	if !ok {
		t.Fatal("docs/protocol.md has no list of codes")
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(list, -1) {
		told[m[1]] = true
		if _, ok := table[Code(m[1])]; !ok {
			t.Errorf("docs/protocol.md names code %s, which is in no table", m[1])
		}
	}
	for code := range table {
		if !told[string(code)] {
			t.Errorf("docs/protocol.md does not name code %s", code)
		}
	}
}

func TestWrite(t *testing.T) {
	for _, tt := range []struct {
		code   Code
		status int
		auth   string
	}{{"unauthorized", 401, `Bearer realm="bailiwick"`}, {"region_down", 503, ""}, {"home_only", 422, ""}, {"nobody_wrote_this", 500, ""}} {
		w := httptest.NewRecorder()
		p := New(tt.code, "why")
		p.Write(w)
		var got Document
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if w.Code != tt.status || got.Status != tt.status || got.Code != string(tt.code) || got.Detail != "why" || got.ID != p.ID || got.Title == "" {
			t.Errorf("%s: %d %+v", tt.code, w.Code, got)
		}
		if h := w.Header(); h.Get("Content-Type") != "application/problem+json" || h.Get("Cache-Control") != "no-store" || h.Get("WWW-Authenticate") != tt.auth {
			t.Errorf("%s: header %v", tt.code, h)
		}
	}
}

func TestIDsDiffer(t *testing.T) {
	a, b := New("internal", "").ID, New("internal", "").ID
	if !regexp.MustCompile("^e[a-z2-7]{16}$").MatchString(a) || a == b {
		t.Errorf("ids %q and %q", a, b)
	}
}

func TestReadBody(t *testing.T) {
	for _, tt := range []struct {
		name, body, code string
	}{{"empty", "", ""}, {"at the limit", strings.Repeat("x", MaxBody), ""}, {"a byte more", strings.Repeat("x", MaxBody+1), "body_too_large"}} {
		t.Run(tt.name, func(t *testing.T) {
			b, bad := ReadBody(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(tt.body)), MaxBody)
			switch {
			case tt.code == "" && (bad != nil || string(b) != tt.body):
				t.Errorf("%d bytes, %+v", len(b), bad)
			case tt.code != "" && (bad == nil || bad.Code != tt.code):
				t.Errorf("%d bytes, %+v; want %s", len(b), bad, tt.code)
			}
		})
	}
	broken := httptest.NewRequest("POST", "/", iotest.ErrReader(errors.New("reset")))
	if _, bad := ReadBody(httptest.NewRecorder(), broken, MaxBody); bad == nil || bad.Code != "bad_request" {
		t.Errorf("a broken body: %+v", bad)
	}
}
