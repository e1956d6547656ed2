package web_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"bailiwick/edge/signal"
	"bailiwick/web/webtest"
)

func TestRefused(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	refuse := func(consult, role, code, text string) {
		p.open(e.link(consult, role))
		p.click("#join")
		e.tell(p, e.seat(t), refusal(code, "AE", "Federal Law 2/2019 Art. 13"), text)
		p.state("refused")
	}
	const line = "For support: home_only, Federal Law 2/2019 Art. 13, reference 3f2a."
	refuse("r1", "patient", "home_only", "We cannot start this call.")
	p.shows("The rules for United Arab Emirates need a server that is not available now. No sound or video was sent.")
	p.says("alert", "We cannot start this call.")
	p.focused("message-title")
	p.hides(line)
	p.click("summary")
	p.shows(line)
	p.judge("refused-place")

	refuse("r2", "clinician", "home_only", line)

	refuse("r3", "patient", "denied_country", "The rules for this appointment do not let you join from United Arab Emirates.")
	p.hides("Call ")
	p.judge("refused-person")
}

// A link that an edge's clock calls early says when it is valid, and what that clock says.
func TestEarly(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	p.open(e.link("early", "patient"))
	p.click("#join")
	from := time.Date(2031, 5, 6, 12, 30, 0, 0, time.UTC)
	clock := from.Add(-time.Hour)
	m := refusal("token_early", "")
	m.ValidFrom, m.Clock = &from, &clock
	e.tell(p, e.seat(t), m, "This link is not valid yet.")
	p.shows("It is valid from May 6, 2031")
	p.shows("The clock of the server says May 6, 2031")
	p.title("Cannot join")
	p.judge("link-early")
	p.click(`[data-do="rejoin"]`)
	e.carry(t, nil, frankfurt, nil)
	p.state("call")
}

// Rule 18: everybody sees how long the law leaves the call, a timer that is not read aloud each
// second, and by which rule it ended.
func TestWithdrawal(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	webtest.Script(t, p.ctx, `Date.now = () => 0`) // a device whose clock is wrong
	s := p.call(e, "withdrawn")
	if !slices.Contains(s.hello.Features, "withdrawal") {
		t.Errorf("hello: features %q, want withdrawal among them", s.hello.Features)
	}
	ends := time.Now().Add(15 * time.Minute)
	gone := signal.Withdrawal{Type: signal.TypeWithdrawal, Code: "fact_missing", Citation: []string{"GDPR Art. 28"}, EndsAt: &ends, Seconds: 900}
	e.tell(p, s, gone, "The rules no longer allow this call.")
	p.shows("Ends in 14:")
	p.says("say", "The rules no longer allow this call. It ends in 15 minutes.")
	if got := p.tree(); !slices.ContainsFunc(got, func(line string) bool {
		return strings.HasPrefix(line, "timer") && !strings.Contains(line, "polite") && !strings.Contains(line, "assertive")
	}) {
		t.Errorf("tree: no timer that keeps quiet in\n%s", strings.Join(got, "\n"))
	}
	p.judge("withdrawal")
	webtest.Wait(t, p.ctx, `document.getElementById("ends-clock").textContent < "14:57"`)
	if said := webtest.Eval[int](t, p.ctx, `spoken.filter((s) => s.includes("14:")).length`); said != 0 {
		t.Errorf("%d seconds were read aloud", said)
	}
	s.send(signal.Withdrawal{Type: signal.TypeWithdrawal})
	p.shows("The rules allow this call again. It goes on.")
	p.hides("Ends in")

	gone.Seconds = 8
	s.send(gone)
	p.shows("Ends in 0:0")
	p.hides("The rules allow this call again.")
	e.tell(p, s, signal.Ended{Type: signal.TypeEnded, Reason: "law", Code: "fact_missing", Citation: []string{"GDPR Art. 28"}}, "The call has ended.")
	p.shows("The rules no longer allow it.")
	p.says("alert", "The call has ended. The rules no longer allow it.")
	p.focused("message-title")
	p.click("summary")
	p.shows("For support: fact_missing, GDPR Art. 28")
	p.judge("ended-law")
}

func TestElsewhere(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	s := p.call(e, "elsewhere")
	e.tell(p, s, signal.Ended{Type: signal.TypeEnded, Reason: "replaced"}, "You are already in this call on another device.")
	p.judge("ended-elsewhere")
	p.click(`[data-do="rejoin"]`)
	if again := e.seat(t); again.hello.Session != "" {
		t.Errorf("hello: session %q, want none: it takes the seat over", again.hello.Session)
	}
}

func TestMoving(t *testing.T) {
	there := newEdge(t)
	e := newEdge(t, there)
	p := tab{t, webtest.Browser(t)}
	s := p.call(e, "move")
	token := strings.Split(e.link("move2", "patient"), "#")[1]
	s.send(signal.Move{Type: signal.TypeMove, URL: there.ws() + "/v1/join", Token: token, Epoch: 2, Reason: "drain", Place: berlin})
	next := there.seat(t)
	if next.hello.Token != token {
		t.Error("hello: not the token of the move")
	}
	next.welcome(berlin)
	next.peers(clinician)
	p.state("moving")
	p.shows("Moving your call to another server. Stay here.")
	p.shows("Frankfurt am Main")
	webtest.Wait(t, p.ctx, `[...document.querySelectorAll(".tile video")].some((v) => v.videoWidth > 0)`)
	next = there.carry(t, next, berlin, []signal.Peer{clinician})
	p.state("call")
	p.shows("Your call moved. It is still handled in Germany.")
	p.shows("Your call is handled in Berlin, Germany.")
	s.wait("hang-up of the old leg", s.gone)
	p.judge("moved")

	next.send(signal.Move{Type: signal.TypeMove, URL: e.ws() + "/v1/join", Token: token, Epoch: 3, Reason: "drain", Place: paris})
	back := e.seat(t)
	back.welcome(paris)
	p.state("moving")
	e.carry(t, back, paris, []signal.Peer{clinician})
	p.shows("Your call moved to Paris, France. The rules allow this.")
}

func TestReconnecting(t *testing.T) {
	standby := newEdge(t)
	e := newEdge(t, standby)
	p := tab{t, webtest.Browser(t)}
	webtest.Script(t, p.ctx, skipping)
	s := p.call(e, "lost", signal.Standby{Edge: "de-ber-1", URL: standby.ws() + "/v1/join"})

	// The socket goes, media flows on: nothing is shown, and a new leg takes over.
	s.ws.CloseNow()
	quiet := e.seat(t)
	if quiet.hello.Session != "session-de-fra" {
		t.Errorf("hello: session %q, want the one welcomed", quiet.hello.Session)
	}
	p.state("call")
	quiet = e.carry(t, quiet, frankfurt, []signal.Peer{clinician}, signal.Standby{Edge: "de-ber-1", URL: standby.ws() + "/v1/join"})
	s.wait("end of the old leg's media", s.silent)
	p.state("call")
	if n := webtest.Eval[int](t, p.ctx, `document.querySelectorAll(".banner").length`); n != 0 {
		t.Errorf("after a quiet resumption: %d banners, want 0", n)
	}

	// The edge dies whole, and nobody welcomes the page: banner, help, failure page.
	quiet.mute()
	quiet.ws.CloseNow()
	p.state("reconnecting")
	p.shows("Your connection dropped. We are reconnecting you. You do not need to do anything.")
	p.title("Reconnecting")
	p.judge("lost")
	p.shows("Still trying.")
	p.says("alert", "Still trying.")
	p.judge("lost-long")
	webtest.Eval[any](t, p.ctx, `skip(60000), 0`)
	p.shows("We could not reconnect you.")
	p.judge("lost-failed")

	// Attempts went to both addresses; one that is welcomed at last is the call again.
	p.click(`[data-do="retry"]`)
	if len(standby.seats) == 0 {
		t.Error("standby: no attempt reached it")
	}
	standby.carry(t, nil, berlin, []signal.Peer{clinician})
	p.state("call")
	p.shows("Your call is handled in Berlin, Germany.")
}

// skipping lets a test jump ahead: the clock by skip(ms), and the long timers, once
// they are due at that clock, within half a second.
const skipping = `{
  const now = performance.now.bind(performance), later = setTimeout;
  let ahead = 0;
  performance.now = () => now() + ahead;
  globalThis.setTimeout = (f, ms, ...a) => later(f, ms > 20000 ? 500 : ms, ...a);
  globalThis.skip = (ms) => { ahead += ms; };
}`

// device makes getUserMedia fail as a device of that state does.
const device = `navigator.mediaDevices.getUserMedia = ((real) => async (want) => {
    const name = want.video ? %q : %q;
    if (name) throw new DOMException("", name);
    return real(want);
  })(navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices));
  navigator.permissions.query = async () => ({state: %q});`

func TestDevices(t *testing.T) {
	e := newEdge(t)
	rows := []struct {
		name, both, mic, permission, want, button string
	}{
		{"blocked", "NotAllowedError", "NotAllowedError", "denied", "Chrome blocks your microphone or camera.", "Try again"},
		{"stopped-by-the-system", "NotAllowedError", "NotAllowedError", "granted", "Your device settings stop Chrome.", "Try again"},
		{"no-camera", "NotFoundError", "", "granted", "No camera found. You can join with sound only.", "Sound only"},
		{"no-microphone", "NotFoundError", "NotFoundError", "granted", "No microphone found. Connect one, or join to listen.", "Listen"},
		{"busy", "NotReadableError", "", "granted", "Another app uses your camera. Close it.", "Try again"},
	}
	p := tab{t, webtest.Browser(t)}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			ctx, cancel := chromedp.NewContext(p.ctx)
			defer cancel()
			p := tab{t, ctx}
			webtest.Script(t, ctx, fmt.Sprintf(device, r.both, r.mic, r.permission))
			p.open(e.link("d-"+r.name, "patient"))
			if r.permission != "granted" {
				p.click(`[data-do="ask"]`)
			}
			p.shows(r.want)
			p.shows(r.button)
			p.shows("Join now")
			p.judge("device-" + r.name)
		})
	}
}

func TestConsole(t *testing.T) {
	e := newEdge(t)
	status := `{"node":"de-fra-1","generation":12,"store":"live","regions":[
	  {"id":"de-fra","city":"Frankfurt am Main","country":"DE","mode":"serving","reason":"","edges":[{"id":"de-fra-1","health":"up","consults":2,"admits":1600,"rooms":[{"id":"c1","participants":2}]}]},
	  {"id":"de-ber","city":"Berlin","country":"DE","mode":"draining","reason":"kernel update of all hypervisors of the city, in three waves, each announced to the clinics a day before","actor":"oncall","until":"2026-11-27T13:00:00Z","edges":[{"id":"de-ber-1","health":"down","consults":0,"admits":1600,"rooms":[]}]},
	  {"id":"fr-par","city":"Paris","country":"FR","mode":"down","reason":"power","edges":[]}]}`
	answer := make(chan func() (int, string), 1)
	ok := func() (int, string) { return 200, status }
	answer <- ok
	e.status = func() (int, string) { f := <-answer; answer <- f; return f() }
	p := tab{t, webtest.Browser(t)}
	p.open(e.URL + "/console/")
	p.shows("This page needs an API key")
	p.judge("console-key")
	p.do(chromedp.SendKeys("#key", "wrong\r"))
	p.shows("not one of this node's")
	p.do(chromedp.SendKeys("#key", "s3cret\r"))
	p.shows("de-fra-1. Generation 12. Store live.")
	p.shows("▼ draining")
	p.shows("2026-11-27 13:00 UTC")
	p.judge("console")
	<-answer
	answer <- func() (int, string) { return 503, "" }
	p.shows("Stale since")
	p.shows("● serving")
	p.judge("console-stale")
	<-answer
	answer <- ok
	webtest.Wait(t, p.ctx, `document.getElementById("fault").textContent === ""`)
}
