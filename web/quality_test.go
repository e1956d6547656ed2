package web_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"bailiwick/edge/signal"
	"bailiwick/web/webtest"
)

// Why a picture is paused, in words, on the screen and for who hears the page; and what a user
// turned off has the button that turns it on.
func TestQuality(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	s := p.call(e, "quality")
	p.shows("Connection: good")
	p.click("#net summary")
	p.shows("Round trip")
	p.judge("net-numbers")
	p.click("#net summary")
	s.send(signal.Quality{Type: signal.TypeQuality, Participant: "p2", Video: signal.VideoReduced, Cause: signal.CauseEdge})
	p.shows("reduced picture")
	p.judge("quality-reduced")
	s.send(signal.Quality{Type: signal.TypeQuality, Participant: "p2", Video: signal.VideoOff, Cause: signal.CauseEdge})
	p.shows("Video is paused because our service is busy. Your device is fine. Sound continues.")
	p.shows("Connection: good")
	p.says("say", "Video is paused because our service is busy. Your device is fine. Sound continues.")
	p.hides("reduced picture")
	webtest.Wait(t, p.ctx, `[...document.querySelectorAll(".tile video")].every((v) => v.hidden)`)
	p.judge("quality-edge")

	s.send(signal.Quality{Type: signal.TypeQuality, Participant: "p2", Video: signal.VideoOff, Cause: signal.CausePeer})
	p.shows("The clinician's video is paused because their connection is weak. Sound continues.")
	p.shows("The clinician's connection: poor")
	p.judge("quality-peer")
	s.send(signal.Quality{Type: signal.TypeQuality, Participant: "p2", Video: signal.VideoOff, Cause: signal.CauseOwn})
	p.shows("Video is paused because your connection is weak. Sound continues.")
	p.shows("Your connection: poor")
	if said := webtest.Eval[int](t, p.ctx, `spoken.filter((s) => s.includes("connection is weak")).length`); said != 0 {
		t.Errorf("%d sentences of quality were read aloud within 30 s of the last", said)
	}
	p.click("#sound")
	p.shows("You chose sound only.")
	p.hides("connection is weak")
	p.click(`.banner [data-do="sound"]`)
	p.shows("Video is paused because your connection is weak. Sound continues.")
	s.send(signal.Quality{Type: signal.TypeQuality, Participant: "p2", Video: signal.VideoFull})
	webtest.Wait(t, p.ctx, `!document.querySelector("main").innerText.includes("connection is weak")`)
	webtest.Wait(t, p.ctx, `[...document.querySelectorAll(".tile video")].every((v) => !v.hidden)`)
}

// A voice for which there is little room comes in few packets, and goes on meanwhile; with room again
// as it was.
func TestThinVoice(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	s := p.call(e, "thin")
	for range 2 {
		s.says(20)
		s.send(signal.Voice{Type: signal.TypeVoice, Rate: 16_000})
		s.says(60)
		s.send(signal.Voice{Type: signal.TypeVoice})
	}
	s.says(20)
	p.shows("Connection: good")
}

// A clinician sets what the picture is looked at for, with the keyboard; everybody sees it.
func TestPicture(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	patient := clinician
	patient.Role = "patient"
	s := p.callAs(e, "picture", "clinician", patient)
	p.shows("Picture: Faces")
	p.click("#more")
	if got := p.tree(); !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "combobox Picture set for") }) {
		t.Errorf("tree: no choice of the picture in\n%s", strings.Join(got, "\n"))
	}
	p.judge("picture")
	// The words of a photo that is asked for; how one comes is e2e's.
	p.click("#photo-asks button")
	p.shows("You asked for a photo. The patient decides whether to send one.")
	p.says("say", "You asked for a photo.")
	p.judge("photo-asked")
	p.click(`[data-photo="photo-stop"]`)
	webtest.Wait(t, p.ctx, `document.getElementById("photos").children.length === 0 && document.activeElement.id === "call-title"`)
	p.do(chromedp.Focus("#picture"), chromedp.KeyEvent("D"))
	if got := s.profile(); got != "detail" {
		t.Errorf("the page asked for %q", got)
	}
	s.send(signal.Profile{Type: signal.TypeProfile, Profile: "detail", By: "p1"})
	p.shows("Picture: Detail, such as skin")
	p.says("say", "The picture is now set for: Detail, such as skin.")

	other := tab{t, webtest.Browser(t)}
	s = other.call(e, "picture")
	s.send(signal.Profile{Type: signal.TypeProfile, Profile: "sign", By: "p2"})
	other.shows("Picture: Sign language")
	other.says("say", "The picture is now set for: Sign language.")
	other.click("#more")
	if !webtest.Eval[bool](t, other.ctx, `document.getElementById("pictures").hidden`) {
		t.Error("a patient is offered what is the clinician's to choose")
	}
	if n := webtest.Eval[int](t, other.ctx, `document.querySelectorAll("#photo-asks button").length`); n != 0 {
		t.Error("a patient is offered to ask for photos")
	}
}
