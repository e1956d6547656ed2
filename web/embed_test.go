package web_test

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bailiwick/web"
)

func get(t *testing.T, path string, header http.Header) *http.Response {
	t.Helper()
	h := web.Handler([]string{"https://*.edge.media.example", "wss://*.edge.media.example"})
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header = header
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestHandlerPaths(t *testing.T) {
	rows := []struct {
		name, path, kind string
		status           int
	}{
		{"consult page", "/c/c7", "text/html; charset=utf-8", 200},
		{"consult page without an id", "/c/", "", 404},
		{"consult page with a tail", "/c/c7/x", "", 404},
		{"home", "/", "text/html; charset=utf-8", 200},
		{"nothing", "/nothing", "text/html; charset=utf-8", 404},
		{"console", "/console/", "text/html; charset=utf-8", 200},
		{"module", "/web/consult/machine.js", "text/javascript; charset=utf-8", 200},
		{"style", "/web/shared/theme.css", "text/css; charset=utf-8", 200},
		{"texts", "/web/i18n/en.json", "application/json", 200},
		{"icon", "/web/shared/icon.svg", "image/svg+xml", 200},
		{"test, not served", "/web/consult/machine.test.js", "", 404},
		{"types, not served", "/web/consult/types.js", "", 404},
		{"folder, not served", "/web/consult/", "", 404},
		{"source, not served", "/web/embed.go", "", 404},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got := get(t, r.path, http.Header{})
			if got.StatusCode != r.status {
				t.Fatalf("GET %s: status %d, want %d", r.path, got.StatusCode, r.status)
			}
			if r.kind != "" && got.Header.Get("Content-Type") != r.kind {
				t.Errorf("GET %s: type %q, want %q", r.path, got.Header.Get("Content-Type"), r.kind)
			}
		})
	}
}

func TestHandlerHeaders(t *testing.T) {
	want := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; worker-src 'self'; img-src 'self' blob:; " +
			"media-src 'self' blob:; connect-src 'self' https://*.edge.media.example wss://*.edge.media.example; " +
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
		"Referrer-Policy":        "no-referrer",
		"Permissions-Policy":     "camera=(self), microphone=(self)",
		"X-Content-Type-Options": "nosniff",
		"Cache-Control":          "no-cache",
	}
	for _, path := range []string{"/", "/c/c7", "/console/", "/web/consult/main.js"} {
		got := get(t, path, http.Header{})
		for name, value := range want {
			if got.Header.Get(name) != value {
				t.Errorf("GET %s: %s:\n got %q\nwant %q", path, name, got.Header.Get(name), value)
			}
		}
	}
}

func TestHandlerETag(t *testing.T) {
	first := get(t, "/c/c7", http.Header{}).Header.Get("ETag")
	if first == "" {
		t.Fatal("no ETag")
	}
	if other := get(t, "/console/", http.Header{}).Header.Get("ETag"); other == first {
		t.Errorf("ETag %s: the same for two pages", other)
	}
	if got := get(t, "/c/c8", http.Header{"If-None-Match": {first}}); got.StatusCode != http.StatusNotModified {
		t.Errorf("GET with the ETag: status %d, want 304", got.StatusCode)
	}
	if got := get(t, "/c/c8", http.Header{"If-None-Match": {`"old"`}}); got.StatusCode != http.StatusOK {
		t.Errorf("GET with an old ETag: status %d, want 200", got.StatusCode)
	}
}

// Every file that a page may ask for is embedded, and nothing else.
func TestFilesWhole(t *testing.T) {
	embedded := map[string]bool{}
	walk := func(fsys fs.FS, visit func(string)) {
		err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				visit(filepath.ToSlash(name))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	walk(web.Files, func(name string) { embedded[name] = true })
	walk(os.DirFS("."), func(name string) {
		dir, _, _ := strings.Cut(name, "/")
		switch {
		case dir != "home" && dir != "consult" && dir != "console" && dir != "shared" && dir != "i18n":
		case strings.HasSuffix(name, ".test.js") || name == "consult/types.js":
			if embedded[name] {
				t.Errorf("%s: embedded, must not be", name)
			}
		case !embedded[name]:
			t.Errorf("%s: not embedded; add it to embed.go", name)
		}
	})
}

// The consult page weighs at most 60 kB compressed, all that it loads to join a call, and 75 kB
// with what comes later or in some calls alone: photos, and encryption's worker. Each file counts
// by itself, since nothing bundles them.
func TestConsultBudget(t *testing.T) {
	const budget, whole = 60_000, 75_000
	loads := map[string]bool{"i18n/en.json": true} // main.js fetches it
	// What a file names in its import statements and in its HTML. import("…") is for later.
	named := regexp.MustCompile(`(?m)^import (?:.* from )?"([^"]+)"|(?:src|href)="(/web/[^"]+)"`)
	var load func(name string)
	load = func(name string) {
		if loads[name] {
			return
		}
		loads[name] = true
		body, err := web.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(body, -1) {
			if of := string(m[2]); of != "" {
				load(strings.TrimPrefix(of, "/web/"))
			} else {
				load(path.Join(path.Dir(name), string(m[1])))
			}
		}
	}
	load("consult/index.html")
	atOnce, all := 0, 0
	err := fs.WalkDir(web.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(name, "console/") || strings.HasPrefix(name, "home/") {
			return err
		}
		body, err := web.Files.ReadFile(name)
		if err != nil {
			return err
		}
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		z.Write(body)
		z.Close()
		all += packed.Len()
		if loads[name] {
			atOnce += packed.Len()
		} else {
			t.Logf("%s comes later: %d bytes", name, packed.Len())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(loads) < 20 {
		t.Fatalf("found %d files only that the page loads: does the test still read them right?", len(loads))
	}
	if atOnce > budget || all > whole {
		t.Errorf("consult page: %d bytes compressed, budget %d; with what comes later %d of %d", atOnce, budget, all, whole)
	}
	t.Logf("consult page: %d bytes compressed of %d, %d with what comes later", atOnce, budget, all)
}
