package web_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"bailiwick/edge/signal"
	"bailiwick/web/webtest"
)

// A link that was cut short says so, wherever it was cut.
func TestCutLink(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	for i, end := range []string{"%", "%2", "%E4"} {
		p.open(e.link(fmt.Sprint("cut", i), "patient") + end)
		p.shows("This link is incomplete.")
	}
}

// Where the browser keeps no site data the page has no storage: it makes calls, and a reload
// starts from the link, which stays in the address bar.
func TestWithoutStorage(t *testing.T) {
	profile := t.TempDir()
	if err := os.MkdirAll(filepath.Join(profile, "Default"), 0o755); err != nil {
		t.Fatal(err)
	}
	block := `{"profile":{"default_content_setting_values":{"cookies":2}}}`
	if err := os.WriteFile(filepath.Join(profile, "Default", "Preferences"), []byte(block), 0o644); err != nil {
		t.Fatal(err)
	}
	e := newEdge(t)
	p := tab{t, webtest.Browser(t, "user-data-dir="+profile)}
	p.open(e.URL + "/c/none")
	p.shows("This link is incomplete.")
	if thrown := webtest.Eval[string](t, p.ctx, `(() => { try { return "kept " + sessionStorage.length; } catch (err) { return err.name; } })()`); thrown != "SecurityError" {
		t.Fatalf("sessionStorage: %s, want it blocked", thrown)
	}
	s := p.call(e, "unkept")
	p.click("#mic")
	webtest.Wait(t, p.ctx, `document.getElementById("mic").ariaChecked === "false"`)
	p.do(chromedp.Reload())
	p.shows("Join now")
	s.wait("hang-up", s.gone)
	p.click("#join")
	e.carry(t, nil, frankfurt, []signal.Peer{clinician})
	p.state("call")
	p.click("#leave")
	p.shows("You left the call.")
}

// Whatever is thrown before the page has shown anything, a sentence stands there.
func TestLastWord(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	// These exceptions are what the test is about.
	const expected = `for (const type of ["error", "unhandledrejection"]) addEventListener(type, (e) => e.preventDefault());`
	const sentence = "This page did not start"
	rows := []struct {
		name, page, lost, script string
	}{
		{"a module does not arrive", "/c/x", "/web/consult/machine.js", ""},
		{"the page's own script does not arrive", "/c/x", "/web/consult/main.js", ""},
		{"the texts do not arrive", "/c/x", "/web/i18n/en.json", ""},
		{"the texts never arrive", "/c/x", "", `globalThis.fetch = () => new Promise(() => {}); globalThis.setTimeout = ((later) => (f, ms, ...a) => later(f, ms / 100, ...a))(setTimeout);`},
		{"something is thrown at the top", "/c/x", "", `Object.defineProperty(navigator, "userAgent", {get() { throw new Error("thrown"); }})`},
		{"something is thrown while it is drawn", "/c/x", "", `Object.defineProperty(document, "title", {set() { throw new Error("thrown"); }})`},
		{"something is thrown that is no error", "/c/x", "", `Object.defineProperty(navigator, "permissions", {get() { return {query() { return {get state() { throw null; }}; }}; }}); Object.defineProperty(globalThis, "RTCPeerConnection", {get() { throw undefined; }})`},
		{"a browser without modules", "/c/x", "/web/consult/main.js", `delete HTMLScriptElement.prototype.noModule`},
		{"the console's script does not arrive", "/console/", "/web/console/status.js", ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			ctx, cancel := chromedp.NewContext(p.ctx)
			defer cancel()
			p := tab{t, ctx}
			e.lost.Store(&r.lost)
			webtest.Script(t, ctx, expected+r.script)
			p.open(e.URL + r.page)
			p.shows(sentence)
			p.focused("last-title")
			shown := webtest.Eval[int](t, ctx, `[...document.querySelectorAll("main > section")].filter((s) => s.checkVisibility()).length`)
			if shown != 1 {
				t.Errorf("%d sections are shown, want the sentence alone", shown)
			}
			if r.name == rows[0].name {
				p.judge("last")
				e.lost.Store(nil)
				webtest.Eval[any](t, ctx, `document.getElementById("last-reload").click(), 0`)
				p.shows("This link is incomplete.")
				p.hides(sentence)
			}
		})
	}
}
