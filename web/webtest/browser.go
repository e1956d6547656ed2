// Package webtest drives the pages in a real Chromium and judges them by axe-core.
// For tests only; web and e2e use it.
package webtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"bailiwick/tools/exectest"
)

const (
	// life bounds one browser, so that a page that never gets somewhere fails its
	// test and not the whole run.
	life = 15 * time.Minute
	// patience bounds one Wait.
	patience = exectest.Patience
)

// Browser starts a Chromium of its own, with a profile of its own and fake devices
// that are granted, and returns the context of its first tab; both end with the
// test. flags are "name" or "name=value", or "-name" to take one of the usual ones
// away. An uncaught exception of the page or a breach of its content security
// policy fails the test. Without a Chromium the test is skipped, or fails where CI
// is true.
func Browser(t testing.TB, flags ...string) context.Context {
	t.Helper()
	return BrowserAt(t, exectest.Need(t, "chromium", "chromium"), flags...)
}

// BrowserAt is Browser by a program that starts a Chromium, in a network namespace say.
func BrowserAt(t testing.TB, path string, flags ...string) context.Context {
	t.Helper()
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path)}
	for name, value := range merge(flags) {
		options = append(options, chromedp.Flag(name, value))
	}
	ctx, stop := context.WithTimeout(context.Background(), life)
	ctx, stopBrowser := chromedp.NewExecAllocator(ctx, options...)
	faults := &faults{t: t}
	ctx, stopTab := chromedp.NewContext(ctx, chromedp.WithListener(faults.listen))
	t.Cleanup(func() {
		faults.end()
		stopTab()
		stopBrowser() // waits for the process
		stop()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("chromium %s: %v", path, err)
	}
	return ctx
}

// merge lays the caller's flags over the usual ones.
func merge(flags []string) map[string]any {
	set := map[string]any{
		"headless": "new", "no-sandbox": true, "disable-gpu": true, "disable-quic": true,
		"disable-background-networking": true, "disable-component-update": true, "disable-sync": true,
		"no-first-run": true, "disable-dev-shm-usage": true, "disable-background-timer-throttling": true,
		"use-fake-device-for-media-stream": true, "use-fake-ui-for-media-stream": true,
	}
	for _, flag := range flags {
		if name, off := strings.CutPrefix(flag, "-"); off {
			delete(set, name)
			continue
		}
		name, value, ok := strings.Cut(flag, "=")
		set[name] = value
		if !ok {
			set[name] = true
		}
	}
	return set
}

// faults turns what the page must never do into failures of the test, until it ends.
type faults struct {
	t     testing.TB
	mu    sync.Mutex
	ended bool
}

func (f *faults) listen(event any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return
	}
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += ": " + e.ExceptionDetails.Exception.Description
		}
		f.t.Errorf("page: %s", text)
	case *log.EventEntryAdded:
		if e.Entry.Source == log.EntrySourceSecurity {
			f.t.Errorf("page: policy: %s", e.Entry.Text)
		}
	}
}

func (f *faults) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
}

// Script runs source in every page that the tab loads from now on, before the
// page's own scripts.
func Script(t testing.TB, ctx context.Context, source string) {
	t.Helper()
	params := page.AddScriptToEvaluateOnNewDocumentParams{Source: source}
	if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, params); err != nil {
		t.Fatalf("script before the page: %v", err)
	}
}

// Eval evaluates a JavaScript expression, and awaits it where it is a promise.
func Eval[T any](t testing.TB, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("evaluate %s: %v", expression, err)
	}
	return v
}

// Click presses the visible element that the selector names, where it stands now. What
// the page replaces at that moment is looked up anew, until one that the selector names
// has been clicked, and once.
func Click(t testing.TB, ctx context.Context, selector string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		clicked, err := click(ctx, selector)
		if clicked {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("page: not in %v: a click on %s (last error: %v)", patience, selector, err)
		}
	}
}

// aim finds the element's centre and has the page note a click that hits it.
const aim = `((selector) => {
  const el = document.querySelector(selector);
  if (!el?.checkVisibility()) return null;
  el.scrollIntoView({block: "nearest", behavior: "instant"});
  const {x, y, width, height} = el.getBoundingClientRect();
  globalThis.webtestHit = false;
  addEventListener("click", (e) => { globalThis.webtestHit = e.target.closest(selector) !== null; }, {capture: true, once: true});
  return [x + width / 2, y + height / 2];
})(%q)`

func click(ctx context.Context, selector string) (bool, error) {
	at, err := chromedp.Run(ctx, chromedp.Evaluate[[]float64](fmt.Sprintf(aim, selector)))
	if err != nil || len(at) != 2 {
		return false, err
	}
	if err := chromedp.Do(ctx, chromedp.MouseClickXY(at[0], at[1])); err != nil {
		return false, err
	}
	return chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean(globalThis.webtestHit)"))
}

// Wait waits until a JavaScript expression is true. It looks from outside, so that
// the page may load anew meanwhile and its policy against eval stays on.
func Wait(t testing.TB, ctx context.Context, expression string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("page: not in %v: %s (last error: %v)", patience, expression, err)
		}
	}
}
