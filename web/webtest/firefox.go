package webtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"bailiwick/tools/exectest"
)

// firefoxPrefs give fake devices without a question, sound without a click, and candidates on
// loopback too.
const firefoxPrefs = `
user_pref("media.navigator.streams.fake", true);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.autoplay.default", 0);
user_pref("media.peerconnection.ice.loopback", true);
user_pref("media.peerconnection.ice.obfuscate_host_addresses", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("app.update.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("browser.safebrowsing.update.enabled", false);
user_pref("services.settings.server", "data:,");
`

// Firefox is one tab of a Firefox, driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/).
type Firefox struct {
	t    testing.TB
	ctx  context.Context
	ws   *websocket.Conn
	tab  string
	mu   sync.Mutex
	next int
}

// StartFirefox starts a Firefox of its own with fake devices that are granted; it ends with the
// test. Without one the test is skipped, or fails where CI is true.
func StartFirefox(t testing.TB) *Firefox {
	t.Helper()
	profile := t.TempDir()
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(firefoxPrefs), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exectest.Need(t, "firefox-esr", "firefox-esr"), "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", profile)
	cmd.Env = append(os.Environ(), "HOME="+profile, "MOZ_CRASHREPORTER_DISABLE=1")
	p := exectest.Start(t, cmd)
	var at string
	p.Await(t, func() error {
		for line := bufio.NewScanner(strings.NewReader(p.Log())); line.Scan(); {
			if _, url, ok := strings.Cut(line.Text(), "WebDriver BiDi listening on "); ok {
				at = strings.TrimSpace(url)
				return nil
			}
		}
		return errors.New("it does not say where it listens")
	})
	ctx, cancel := context.WithTimeout(context.Background(), life)
	t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, at+"/session", nil)
	if err != nil {
		t.Fatalf("firefox: %v", err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	ws.SetReadLimit(-1)
	f := &Firefox{t: t, ctx: ctx, ws: ws}
	f.call("session.new", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{"acceptInsecureCerts": true}}}, nil)
	var tree struct {
		Contexts []struct{ Context string }
	}
	f.call("browsingContext.getTree", map[string]any{}, &tree)
	if len(tree.Contexts) == 0 {
		t.Fatal("firefox has no tab")
	}
	f.tab = tree.Contexts[0].Context
	return f
}

// call asks one thing; a failure ends the test.
func (f *Firefox) call(method string, params, result any) {
	f.t.Helper()
	if err := f.try(method, params, result); err != nil {
		f.t.Fatalf("firefox: %s: %v", method, err)
	}
}

func (f *Firefox) try(method string, params, result any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	if err := wsjson.Write(f.ctx, f.ws, map[string]any{"id": f.next, "method": method, "params": params}); err != nil {
		return err
	}
	for {
		var m struct {
			ID      int
			Type    string
			Error   string
			Message string
			Result  json.RawMessage
		}
		if err := wsjson.Read(f.ctx, f.ws, &m); err != nil {
			return err
		}
		switch {
		case m.ID != f.next: // an event
		case m.Type == "error":
			return fmt.Errorf("%s: %s", m.Error, m.Message)
		case result == nil:
			return nil
		default:
			return json.Unmarshal(m.Result, result)
		}
	}
}

// Script runs source in every page that the tab loads from now on, before the page's own.
func (f *Firefox) Script(source string) {
	f.t.Helper()
	f.call("script.addPreloadScript", map[string]any{"functionDeclaration": "() => {" + source + "\n}"}, nil)
}

// Navigate loads a page.
func (f *Firefox) Navigate(url string) {
	f.t.Helper()
	f.call("browsingContext.navigate", map[string]any{"context": f.tab, "url": url, "wait": "complete"}, nil)
}

// Eval evaluates a JavaScript expression, awaits it where it is a promise, and reads its value
// into v as JSON.
func (f *Firefox) Eval(expression string, v any) {
	f.t.Helper()
	if err := f.eval(expression, v); err != nil {
		f.t.Fatalf("firefox: evaluate %s: %v", expression, err)
	}
}

func (f *Firefox) eval(expression string, v any) error {
	var r struct {
		Type             string
		Result           struct{ Value string }
		ExceptionDetails struct{ Text string }
	}
	err := f.try("script.evaluate", map[string]any{"expression": "(async () => JSON.stringify(await (" + expression + ")) ?? \"null\")()",
		"target": map[string]any{"context": f.tab}, "awaitPromise": true, "userActivation": true}, &r)
	if err != nil {
		return err
	}
	if r.Type == "exception" {
		return errors.New(r.ExceptionDetails.Text)
	}
	return json.Unmarshal([]byte(r.Result.Value), v)
}

// Wait waits until a JavaScript expression is true.
func (f *Firefox) Wait(expression string) {
	f.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		var ok bool
		err := f.eval("Boolean("+expression+")", &ok)
		if err == nil && ok {
			return
		}
		if time.Since(began) > patience {
			f.t.Fatalf("firefox: not in %v: %s (last error: %v)", patience, expression, err)
		}
	}
}
