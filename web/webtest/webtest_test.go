package webtest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// A rule that cannot fail proves nothing: the pages' zero violations count only if
// a page that breaks the rules is caught.
func TestAxeFindsViolations(t *testing.T) {
	ctx := Browser(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte(`<!doctype html><html><title>x</title><button></button><p style="color:#999;background:#fff">pale</p>`))
	}))
	defer server.Close()
	if err := chromedp.Do(ctx, chromedp.Navigate(server.URL)); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(violations(t, ctx), "\n")
	for _, rule := range []string{"button-name", "color-contrast", "html-has-lang"} {
		if !strings.Contains(got, rule) {
			t.Errorf("rule %s: not among\n%s", rule, got)
		}
	}
}

func TestFlags(t *testing.T) {
	got := merge([]string{"-use-fake-ui-for-media-stream", "lang=de", "force-dark-mode"})
	if _, ok := got["use-fake-ui-for-media-stream"]; ok {
		t.Error("-name: still set")
	}
	if got["lang"] != "de" || got["force-dark-mode"] != true || got["headless"] != "new" {
		t.Errorf("merged flags: %v", got)
	}
}
