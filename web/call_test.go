package web_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"bailiwick/edge/signal"
	"bailiwick/web/webtest"
)

func TestLink(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}

	p.open(e.URL + "/c/bad")
	p.shows("This link is incomplete.")
	p.hides("for a new one")
	p.title("Cannot join")
	p.judge("link-bad")

	p.open(e.link("ready", "patient"))
	p.shows("Join now")
	webtest.Wait(t, p.ctx, `document.getElementById("preview").videoWidth > 0`)
	webtest.Wait(t, p.ctx, `document.querySelectorAll("#link-devices option").length > 2`)
	if hash := webtest.Eval[string](t, p.ctx, `location.href`); strings.Contains(hash, "#") {
		t.Errorf("address bar: %s still holds the token", hash)
	}
	p.title("Get ready")
	p.judge("link-ready")

	p.click("#link-sound")
	webtest.Wait(t, p.ctx, `document.getElementById("link-sound").ariaChecked === "true" && document.getElementById("preview").hidden`)
	p.click("#join")
	p.shows("Joining the call.")
	s := e.seat(t)
	if s.hello.Park || s.hello.Session != "" {
		t.Errorf("hello: %+v, want neither park nor session", s.hello)
	}
	s.welcome(frankfurt)
	if got, want := s.state(), (signal.State{Mic: true}); got != want {
		t.Errorf("state: %+v, want %+v", got, want)
	}
	e.tell(p, s, refusal("token_expired", ""), "This link has expired.")
	p.focused("message-title")
}

func TestAsk(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	webtest.Script(t, p.ctx, `navigator.permissions.query = async () => ({state: "prompt"})`)
	p.open(e.link("ask", "patient"))
	p.shows("Your browser will ask for your microphone and camera. Choose Allow.")
	p.judge("link-ask")
	p.click(`[data-do="ask-sound"]`)
	p.shows("Join now")
	webtest.Wait(t, p.ctx, `document.getElementById("link-sound").ariaChecked === "true"`)
}

func TestCall(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t, "disable-popup-blocking")}
	s := p.call(e, "call")
	p.shows("Your call is handled in Frankfurt am Main, Germany.")
	p.shows("Clinician")
	p.title("In call")
	p.focused("call-title")
	p.says("say", "The clinician is here.")
	p.judge("call")

	// An edge of tomorrow says things that this page does not know.
	if !slices.Contains(s.hello.Features, "move-first") {
		t.Errorf("hello: features %q, want move-first among them", s.hello.Features)
	}
	s.send(map[string]any{"type": "weather", "code": "home_only", "ends_at": "2026-11-27T08:00:00Z"})
	s.send(map[string]any{"type": "peers", "epoch": 7, "peers": []any{
		map[string]any{"participant": "p2", "role": "clinician", "connected": true, "mood": "calm"},
	}})
	p.shows("Camera is off")
	p.shows("microphone off")
	p.judge("call-peer-camera-off")

	s.peers(signal.Peer{Participant: "p2", Role: "clinician"})
	p.shows("The clinician lost connection and cannot hear you now.")
	p.judge("call-peer-lost")
	s.peers(clinician)
	p.shows("Clinician")

	for len(s.states) > 0 {
		<-s.states
	}
	p.click("#sound")
	p.state("audio-only")
	p.shows("You chose sound only.")
	p.title("In call, sound only")
	if got, want := s.state(), (signal.State{Mic: true}); got != want {
		t.Errorf("state: %+v, want %+v", got, want)
	}
	p.judge("audio-only")
	p.click(`#banners [data-do="sound"]`)
	p.state("call")
	p.shows("Video is back.")

	p.click("#leave")
	s.wait("leave", s.left)
	p.shows("You left the call.")
	p.title("Call ended")
	p.focused("message-title")
	p.judge("ended-left")
	p.click(`[data-do="rejoin"]`)
	e.carry(t, nil, frankfurt, nil)
	p.state("call")
	p.shows("Nobody else is here yet.")
	p.judge("call-alone")

	// A reload keeps the seat and skips the check.
	p.do(chromedp.Reload())
	third := e.seat(t)
	if third.hello.Session != "session-de-fra" {
		t.Errorf("hello after a reload: session %q, want the one welcomed", third.hello.Session)
	}

	// A duplicated tab has a copy of the seat and does not fight for it.
	webtest.Eval[any](t, p.ctx, `globalThis.copy = open(location.href), 0`)
	webtest.Wait(t, p.ctx, `copy.document.getElementById("join")?.checkVisibility()`)
	if stored := webtest.Eval[string](t, p.ctx, `copy.sessionStorage.getItem("bailiwick:/c/call")`); !strings.Contains(stored, "session-de-fra") {
		t.Errorf("the copy's seat: %s, want one with the session", stored)
	}
}

func TestKeyboard(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	s := p.call(e, "keys")
	key := func(k string, mods ...chromedp.Modifier) {
		t.Helper()
		p.do(chromedp.KeyEvent(k, chromedp.KeyModifiers(mods...)))
	}
	key(kb.F2)
	p.focused("mic")
	key(kb.ArrowRight)
	p.focused("camera")
	key(kb.End)
	p.focused("leave")
	key(kb.ArrowRight)
	p.focused("mic")
	key(kb.ArrowLeft)
	p.focused("leave")
	key(kb.Home)
	p.focused("mic")
	key(" ")
	webtest.Wait(t, p.ctx, `document.getElementById("mic").ariaChecked === "false"`)
	p.says("say", "Microphone off.")
	key(kb.ArrowRight)
	key(kb.ArrowRight)
	key(kb.ArrowRight)
	p.focused("more")
	if stops := webtest.Eval[int](t, p.ctx, `document.querySelectorAll('#toolbar [tabindex="0"]').length`); stops != 1 {
		t.Errorf("toolbar: %d tab stops, want 1", stops)
	}
	key(kb.Enter)
	p.focused("panel-title")
	webtest.Wait(t, p.ctx, `document.getElementById("more").ariaExpanded === "true"`)
	p.judge("call-panel")
	key(kb.Escape)
	p.focused("more")
	webtest.Wait(t, p.ctx, `document.getElementById("panel").hidden`)
	key(kb.F2, chromedp.ModifierShift)
	p.focused("leave")
	p.click("#self-move")
	webtest.Wait(t, p.ctx, `document.getElementById("self").className === "corner-1"`)
	e.tell(p, s, signal.Ended{Type: signal.TypeEnded, Reason: "done"}, "The call has ended.")
	p.shows("You can close this page.")
	p.judge("ended-done")
}

// Targets are at least 48 px in the toolbar, Leave stands 24 px apart, video keeps
// three tenths of the height at 320 px, at 400 % zoom of 1280×800 everything is
// still reached by scrolling one way, and forced colours keep the switches' states. The
// edge is told how large the picture is then.
func TestLayout(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	s := p.call(e, "layout")
	for _, size := range [][2]int64{{320, 640}, {320, 200}, {390, 844}, {844, 390}, {1280, 800}} {
		p.do(chromedp.EmulateViewport(size[0], size[1]))
		for _, fault := range webtest.Eval[[]string](t, p.ctx, layoutFaults) {
			t.Errorf("%dx%d: %s", size[0], size[1], fault)
		}
		s.shows(signal.Viewed{Participant: "p2", Width: webtest.Eval[int](t, p.ctx, pictureWidth)})
	}
	p.do(chromedp.EmulateViewport(390, 844))
	p.media("forced-colors=active")
	p.shows("On")
	p.shoot("call-forced", "colors")
}

// pictureWidth is that of the first picture, in steps of 40.
const pictureWidth = `(() => {
  const video = document.querySelector(".tile video"), {width, height} = video.getBoundingClientRect();
  return Math.ceil(Math.min(width, height * video.videoWidth / video.videoHeight) / 40) * 40;
})()`

const layoutFaults = `(() => {
  const faults = [], box = (el) => el.getBoundingClientRect();
  for (const b of document.querySelectorAll("button")) {
    const {width, height} = box(b);
    if (width === 0) continue;
    const least = b.closest("#toolbar") ? 48 : 24;
    if (width < least || height < least) faults.push(b.id + ": " + width + "x" + height + " px, want " + least);
  }
  const leave = box(document.getElementById("leave")), more = box(document.getElementById("more"));
  const apart = Math.max(leave.left - more.right, leave.top - more.bottom);
  if (apart < 24) faults.push("leave: " + apart + " px from more, want 24");
  const stage = box(document.getElementById("stage")).height;
  if (stage < 0.29 * innerHeight) faults.push("stage: " + stage + " px high of " + innerHeight);
  if (document.documentElement.scrollWidth > innerWidth) faults.push("wide: " + document.documentElement.scrollWidth);
  if (innerHeight > 600 && document.documentElement.scrollHeight > innerHeight) faults.push("scrolls: " + document.documentElement.scrollHeight);
  return faults;
})()`
