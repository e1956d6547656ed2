package web_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"bailiwick/edge/signal"
	"bailiwick/web/webtest"
)

var shots = flag.String("shots", "", "folder that gets a picture of each state")

// tab is a browser's tab with the page in it.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func (p tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatalf("page: %v", err)
	}
}

func (p tab) open(url string) {
	p.t.Helper()
	webtest.Script(p.t, p.ctx, spoken)
	p.do(chromedp.Navigate(url))
}

// spoken keeps what the live regions said: the next message takes the place of one, and
// a test that looks on a busy machine may come too late.
const spoken = `if (!globalThis.spoken) {
  globalThis.spoken = [];
  addEventListener("DOMContentLoaded", () => {
    for (const el of document.querySelectorAll("#say, #alert")) {
      new MutationObserver(() => { if (el.textContent) spoken.push(el.id + ": " + el.textContent); }).observe(el, {childList: true});
    }
  });
}`

// says waits until a live region, say or alert, has said a text that begins so.
func (p tab) says(region, text string) {
	p.t.Helper()
	webtest.Wait(p.t, p.ctx, fmt.Sprintf(`spoken.some((s) => s.startsWith(%q))`, region+": "+text))
}

func (p tab) click(selector string) {
	p.t.Helper()
	webtest.Click(p.t, p.ctx, selector)
}

// shows waits until the visible page holds the text.
func (p tab) shows(text string) {
	p.t.Helper()
	webtest.Wait(p.t, p.ctx, fmt.Sprintf(`document.querySelector("main").innerText.includes(%q)`, text))
}

// hides fails if the visible page holds the text now.
func (p tab) hides(text string) {
	p.t.Helper()
	if webtest.Eval[bool](p.t, p.ctx, fmt.Sprintf(`document.querySelector("main").innerText.includes(%q)`, text)) {
		p.t.Errorf("page: shows %q", text)
	}
}

func (p tab) state(want string) {
	p.t.Helper()
	webtest.Wait(p.t, p.ctx, fmt.Sprintf(`document.documentElement.dataset.state === %q`, want))
}

func (p tab) title(want string) {
	p.t.Helper()
	webtest.Wait(p.t, p.ctx, fmt.Sprintf(`document.title === %q`, want+" – Video consultation"))
}

// focused fails unless the element has focus.
func (p tab) focused(id string) {
	p.t.Helper()
	webtest.Wait(p.t, p.ctx, fmt.Sprintf(`document.activeElement?.id === %q`, id))
}

// media sets what the user prefers, as name=value pairs.
func (p tab) media(features ...string) {
	p.t.Helper()
	var list []*emulation.MediaFeature
	for _, f := range features {
		name, value, _ := strings.Cut(f, "=")
		list = append(list, &emulation.MediaFeature{Name: name, Value: value})
	}
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: list}); err != nil {
		p.t.Fatalf("page: emulate media: %v", err)
	}
}

// judge holds the state to its width and to axe, in both themes, at 320 px and on a
// desktop, and takes its pictures.
func (p tab) judge(name string) {
	p.t.Helper()
	for _, theme := range []string{"light", "dark"} {
		p.media("prefers-color-scheme="+theme, "prefers-reduced-motion=reduce")
		for _, size := range [][2]int64{{320, 640}, {1280, 800}} {
			p.do(chromedp.EmulateViewport(size[0], size[1]))
			webtest.Axe(p.t, p.ctx)
			if wide := webtest.Eval[int64](p.t, p.ctx, `document.documentElement.scrollWidth`); wide > size[0] {
				p.t.Errorf("%s at %d px: the page is %d px wide", name, size[0], wide)
			}
		}
		p.shoot(name, theme)
	}
	p.do(chromedp.EmulateViewport(1280, 800))
}

func (p tab) shoot(name, theme string) {
	p.t.Helper()
	if *shots == "" {
		return
	}
	for size, box := range map[string][2]int64{"phone": {390, 844}, "desktop": {1280, 800}, "small": {320, 640}} {
		p.do(chromedp.EmulateViewport(box[0], box[1]))
		picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
		if err == nil {
			err = os.WriteFile(filepath.Join(*shots, fmt.Sprintf("%s-%s-%s.png", name, size, theme)), picture, 0o644)
		}
		if err != nil {
			p.t.Fatalf("picture %s: %v", name, err)
		}
	}
}

// call takes the page through the check into a call with a clinician.
func (p tab) call(e *fakeEdge, consult string, standby ...signal.Standby) *seat {
	p.t.Helper()
	return p.callAs(e, consult, "patient", clinician, standby...)
}

// callAs is call for any role, with anybody.
func (p tab) callAs(e *fakeEdge, consult, role string, with signal.Peer, standby ...signal.Standby) *seat {
	p.t.Helper()
	p.open(e.link(consult, role))
	p.click("#join")
	s := e.carry(p.t, nil, frankfurt, []signal.Peer{with}, standby...)
	p.state("call")
	webtest.Wait(p.t, p.ctx, `[...document.querySelectorAll(".tile video")].some((v) => v.videoWidth > 0 && !v.paused)`)
	return s
}

// Who opens an edge without a link is told what to do.
func TestHome(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	p.open(e.URL + "/")
	p.shows("Open the link from your invitation")
	p.shows("Ask your clinic to send it again.")
	p.judge("home")
}
