// Package web is the pages: the consult page and the console, as ES modules that
// are embedded and served as written. No bundler, no third-party file.
//
// It serves files and their headers only; it knows no consult, token or map. The
// join token of a consult page stays in the URL's fragment, which no request holds.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"strings"
	"time"
)

// Files is everything that is served, by its path below /web/. Each file is named:
// a new one that is forgotten here fails the tests, and a test is never shipped.
//
//go:embed shared/theme.css shared/icon.svg shared/dom.js shared/i18n.js shared/last.js shared/say.js
//go:embed i18n/en.json
//go:embed consult/index.html consult/consult.css consult/main.js consult/machine.js consult/codes.js
//go:embed consult/view.js consult/page.js consult/tiles.js consult/toolbar.js
//go:embed consult/devices.js consult/media.js consult/leg.js consult/legs.js consult/link.js consult/data.js
//go:embed consult/e2ee/call.js consult/e2ee/exchange.js consult/e2ee/keys.js consult/e2ee/sframe.js consult/e2ee/worker.js
//go:embed consult/quality.js consult/meter.js consult/connection.js consult/photo.js consult/transfer.js consult/screen.js
//go:embed home/index.html home/missing.html
//go:embed console/index.html console/console.css console/main.js console/status.js
var Files embed.FS

// types are fixed here because the system's MIME table differs between hosts, and
// nosniff makes a wrong one fatal.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".json": "application/json",
	".svg":  "image/svg+xml",
}

// Headers are those of every page and file. connect lists the sources, beyond the
// page's own origin, that the page may open connections to: in a zone
// https://*.edge.ZONE and wss://*.edge.ZONE, on one machine the origins of its edges.
func Headers(connect []string) http.Header {
	csp := "default-src 'none'; script-src 'self'; style-src 'self'; worker-src 'self'; " +
		"img-src 'self' blob:; media-src 'self' blob:; connect-src " +
		strings.Join(append([]string{"'self'"}, connect...), " ") +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
	return http.Header{
		"Content-Security-Policy": {csp},
		"Referrer-Policy":         {"no-referrer"},
		"Permissions-Policy":      {"camera=(self), microphone=(self)"},
		"X-Content-Type-Options":  {"nosniff"},
		// Names are stable across versions: every use asks again, by ETag.
		"Cache-Control": {"no-cache"},
	}
}

// file is one response, ready to serve.
type file struct {
	body []byte
	etag string
	kind string
}

// Handler serves the consult page at /c/{id}, whatever the id, at / a page for who
// lost the link, at paths that are none one that says so, the console at /console/ and their files below /web/, to GET and HEAD. It panics on an embedded
// file without a content type: that is a build's mistake. Safe for concurrent use.
func Handler(connect []string) http.Handler {
	files, err := load()
	if err != nil {
		panic(err)
	}
	headers := Headers(connect)
	serve := func(w http.ResponseWriter, r *http.Request, name string) {
		f, ok := files[name]
		if !ok {
			http.NotFound(w, r) // of a page's own parts: nobody reads it
			return
		}
		h := w.Header()
		maps.Copy(h, headers)
		h.Set("Content-Type", f.kind)
		h.Set("ETag", f.etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { serve(w, r, "home/index.html") })
	mux.HandleFunc("GET /c/{id}", func(w http.ResponseWriter, r *http.Request) { serve(w, r, "consult/index.html") })
	mux.HandleFunc("GET /console/{$}", func(w http.ResponseWriter, r *http.Request) { serve(w, r, "console/index.html") })
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		f := files["home/missing.html"]
		maps.Copy(w.Header(), headers)
		w.Header().Set("Content-Type", f.kind)
		w.WriteHeader(http.StatusNotFound)
		w.Write(f.body)
	})
	mux.HandleFunc("GET /web/{name...}", func(w http.ResponseWriter, r *http.Request) { serve(w, r, r.PathValue("name")) })
	return mux
}

// load reads the embedded files, with a strong ETag of each one's content.
func load() (map[string]file, error) {
	files := map[string]file{}
	err := fs.WalkDir(Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		kind, ok := types[path.Ext(name)]
		if !ok {
			return fmt.Errorf("web file %s: no content type for %q", name, path.Ext(name))
		}
		body, err := Files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		files[name] = file{body: body, etag: etag, kind: kind}
		return nil
	})
	return files, err
}
