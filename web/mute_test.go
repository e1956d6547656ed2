package web_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"

	"bailiwick/edge/signal"
	"bailiwick/tools/exectest"
	"bailiwick/web/webtest"
)

// listening counts what arrives: the edge sends the page's own sound and picture back, so
// that the page is its own receiver, and what is decoded there is what a peer would hear and
// see. `got` are the tracks that devices gave, `gone` the kinds of which there are none.
const listening = `if (!globalThis.got) {
  globalThis.got = [];
  globalThis.gone = {audio: false, video: false};
  const pcs = [], last = [];
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) { super(...args); pcs.push(this); }
  };
  const devices = navigator.mediaDevices, get = devices.getUserMedia.bind(devices), list = devices.enumerateDevices.bind(devices);
  devices.getUserMedia = async (want) => {
    if (want.audio && gone.audio || want.video && gone.video) throw new DOMException("", "NotFoundError");
    const stream = await get(want);
    got.push(...stream.getTracks());
    return stream;
  };
  devices.enumerateDevices = async () => (await list()).filter((d) => !gone[d.kind.replace("input", "")]);
  globalThis.mic = () => got.filter((t) => t.kind === "audio").at(-1);
  globalThis.camera = () => got.filter((t) => t.kind === "video").at(-1);
  // The system takes a device away, or gives it back.
  globalThis.unplug = (track) => {
    gone[track.kind] = true;
    track.stop();
    track.dispatchEvent(new Event("ended"));
  };
  globalThis.plug = (kind) => {
    gone[kind] = false;
    devices.dispatchEvent(new Event("devicechange"));
  };
  globalThis.arrived = async () => {
    for (const [i, pc] of pcs.entries()) {
      if (pc.connectionState !== "connected") continue;
      const now = {energy: 0, played: 0, waiting: 0, frames: 0};
      for (const [, s] of await pc.getStats()) {
        if (s.type !== "inbound-rtp") continue;
        now.energy += s.totalAudioEnergy ?? 0;
        now.frames += s.framesDecoded ?? 0;
        if (s.kind !== "audio") continue;
        now.played += s.jitterBufferEmittedCount / 960;
        now.waiting += s.packetsReceived - s.jitterBufferEmittedCount / 960;
      }
      last[i] = now;
    }
    const sum = {energy: 0, played: 0, waiting: 0, frames: 0};
    for (const [i, one] of last.entries()) {
      if (!one) continue;
      if (pcs[i].connectionState !== "connected") one.waiting = 0; // nobody plays it any more
      for (const key in one) sum[key] += one[key];
    }
    return sum;
  };
}`

// arrival is what was decoded: sound in the unit of totalAudioEnergy, packets of 20 ms that were
// played and that wait in the jitter buffer, pictures.
type arrival struct {
	Energy, Played, Waiting float64
	Frames                  int
}

func (p tab) arrived() arrival {
	p.t.Helper()
	return webtest.Eval[arrival](p.t, p.ctx, `arrived()`)
}

// until looks at what arrives until it is enough.
func (p tab) until(what string, enough func(arrival) bool) arrival {
	p.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	over := time.After(exectest.Patience)
	for {
		a := p.arrived()
		if enough(a) {
			return a
		}
		select {
		case <-tick.C:
		case <-over:
			p.t.Fatalf("receiver: no %s in %v: %+v", what, exectest.Patience, a)
		}
	}
}

// silence is the most energy, in the unit of totalAudioEnergy, that a muted microphone may
// bring: what a codec makes of zeros. One beep of the fake microphone is thousands of times more.
const silence = 1e-6

// hears waits until sound arrives.
func (p tab) hears(what string) {
	p.t.Helper()
	was := p.arrived()
	p.until("sound "+what, func(a arrival) bool { return a.Energy > was.Energy+1000*silence })
}

// window waits until a second of packets that were sent from now on has been played, which is two
// beeps of the fake microphone, and returns what had arrived by then. On a busy machine what
// was said before may wait for long.
func (p tab) window() arrival {
	p.t.Helper()
	was := p.arrived()
	return p.until("packets", func(a arrival) bool { return a.Played >= was.Played+was.Waiting+50 })
}

// quiet waits until what was said before the microphone went off has arrived.
func (p tab) quiet() arrival {
	p.t.Helper()
	for range 10 {
		was := p.arrived()
		if now := p.window(); now.Energy-was.Energy < silence {
			return now
		}
	}
	p.t.Fatal("receiver: a microphone that is off is heard")
	return arrival{}
}

// A microphone that is off stays off at the receiver, whatever takes its track's place.
func TestMutedStaysMuted(t *testing.T) {
	there := newEdge(t)
	e := newEdge(t, there)
	p := tab{t, webtest.Browser(t, "-use-fake-ui-for-media-stream")}
	webtest.Script(t, p.ctx, listening)
	permit := func(name string, setting browser.PermissionSetting) {
		t.Helper()
		params := browser.SetPermissionParams{Permission: &browser.PermissionDescriptor{Name: name}, Setting: setting, Origin: e.URL}
		if _, err := chromedp.Call(p.ctx, browser.SetPermission, params); err != nil {
			t.Fatal(err)
		}
	}
	permit("camera", browser.PermissionSettingGranted)
	permit("microphone", browser.PermissionSettingGranted)
	s := p.call(e, "muted", signal.Standby{Edge: "de-ber-1", URL: there.ws() + "/v1/join"})
	p.hears("at first")
	p.click("#mic")

	eval := func(js string) { t.Helper(); webtest.Eval[any](t, p.ctx, js+`, 0`) }
	another := func(do func()) {
		t.Helper()
		eval(`globalThis.before = mic()`)
		do()
		webtest.Wait(t, p.ctx, `mic() && mic() !== globalThis.before && mic().readyState === "live"`)
	}
	rows := []struct {
		name string
		way  func()
	}{
		{"unplugged, and another takes its place", func() {
			another(func() { eval(`mic().stop(), mic().dispatchEvent(new Event("ended"))`) })
			p.shows("was disconnected. We switched to")
		}},
		{"paused, and turned on", func() {
			eval(`mic().dispatchEvent(new Event("mute"))`)
			p.shows("Your phone paused the microphone.")
			another(func() { p.click(`[data-key="paused"] button`) })
			p.hides("Your phone paused the microphone.")
		}},
		{"paused, and back by itself", func() {
			eval(`mic().dispatchEvent(new Event("mute"))`)
			p.shows("Your phone paused the microphone.")
			eval(`mic().dispatchEvent(new Event("unmute"))`)
			p.hides("Your phone paused the microphone.")
		}},
		{"chosen anew", func() {
			p.click("#more")
			another(func() {
				eval(`(() => { const s = document.getElementById("call-devices-audioinput"); s.selectedIndex = s.options.length - 1; s.dispatchEvent(new Event("change")); })()`)
			})
			p.click("#panel-close")
		}},
		{"gone, and plugged in again", func() {
			eval(`unplug(mic())`)
			p.shows("The others do not hear you.")
			another(func() { eval(`plug("audio")`) })
			webtest.Wait(t, p.ctx, `!document.querySelector('[data-key="gone.mic"]')`)
		}},
		{"permission taken away, and given again", func() {
			permit("microphone", browser.PermissionSettingDenied)
			p.shows("Chrome blocks your microphone or camera.")
			permit("microphone", browser.PermissionSettingGranted)
			another(func() { p.click(`[data-key="denied.chrome"] button`) })
		}},
		{"camera off and on", func() {
			p.click("#camera")
			webtest.Wait(t, p.ctx, `document.getElementById("camera").ariaChecked === "false"`)
			p.click("#camera")
			webtest.Wait(t, p.ctx, `document.getElementById("camera").ariaChecked === "true"`)
		}},
		{"sound only and video again", func() {
			p.click("#sound")
			p.state("audio-only")
			p.click("#sound")
			p.state("call")
			webtest.Wait(t, p.ctx, `document.getElementById("camera").ariaChecked === "true"`)
		}},
		{"moved to another edge", func() {
			token := strings.Split(e.link("muted", "patient"), "#")[1]
			s.send(signal.Move{Type: signal.TypeMove, URL: there.ws() + "/v1/join", Token: token, Epoch: 2, Reason: "region_draining", Place: berlin})
			s = there.carry(t, nil, berlin, []signal.Peer{clinician}, signal.Standby{Edge: "de-fra-1", URL: e.ws() + "/v1/join"})
			p.shows("Your call is handled in Berlin, Germany.")
		}},
		{"its edge is killed", func() {
			s.mute()
			s.ws.CloseNow()
			s = e.carry(t, nil, frankfurt, []signal.Peer{clinician})
			p.shows("Your call is handled in Frankfurt am Main, Germany.")
		}},
		{"reloaded", func() {
			p.do(chromedp.Reload())
			s = e.carry(t, nil, frankfurt, []signal.Peer{clinician})
			p.state("call")
		}},
		{"left and joined again", func() {
			p.click("#leave")
			p.click(`[data-do="rejoin"]`)
			s = e.carry(t, nil, frankfurt, []signal.Peer{clinician})
			p.state("call")
		}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			before := p.quiet()
			r.way()
			after := p.window()
			if r.name == "reloaded" {
				before = arrival{} // the page that counts is a new one
			}
			if heard := after.Energy - before.Energy; heard > silence {
				t.Errorf("the other side heard %g of a microphone that was off, want at most %g", heard, silence)
			}
			if on := webtest.Eval[string](t, p.ctx, `document.getElementById("mic").ariaChecked`); on != "false" {
				t.Errorf("the switch says %q", on)
			}
			// The track is one that can be heard.
			p.click("#mic")
			p.hears(r.name)
			p.click("#mic")
		})
	}
}

// A device that goes away is off on its switch and for the peers, and all is well again
// when it is back.
func TestDeviceGone(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t)}
	webtest.Script(t, p.ctx, listening)
	s := p.call(e, "gone")
	for len(s.states) > 0 {
		<-s.states
	}
	rows := []struct {
		id, track, kind string
		off             signal.State
		banner, back    string
	}{
		{"mic", "mic()", "audio", signal.State{Camera: true, ReceiveVideo: true}, "The others do not hear you.", "Microphone on."},
		{"camera", "camera()", "video", signal.State{Mic: true, ReceiveVideo: true}, "The others do not see you.", "Camera on."},
	}
	for _, r := range rows {
		is := func(on string) {
			t.Helper()
			webtest.Wait(t, p.ctx, `document.getElementById("`+r.id+`").ariaChecked === "`+on+`"`)
		}
		webtest.Eval[any](t, p.ctx, `unplug(`+r.track+`), 0`)
		if got := s.state(); got != r.off {
			t.Errorf("%s is gone: peers are told %+v, want %+v", r.id, got, r.off)
		}
		is("false")
		p.shows(r.banner)
		if r.id == "mic" {
			p.judge("gone")
		}
		webtest.Eval[any](t, p.ctx, `plug("`+r.kind+`"), 0`)
		if got, want := s.state(), (signal.State{Mic: true, Camera: true, ReceiveVideo: true}); got != want {
			t.Errorf("%s is back: peers are told %+v, want %+v", r.id, got, want)
		}
		is("true")
		p.says("say", r.back)
		p.hides(r.banner)

		webtest.Eval[any](t, p.ctx, r.track+`.dispatchEvent(new Event("mute")), 0`)
		if got := s.state(); got != r.off {
			t.Errorf("%s is paused: peers are told %+v, want %+v", r.id, got, r.off)
		}
		is("false")
		p.shows("Your phone paused the")
		p.click("#" + r.id)
		if got, want := s.state(), (signal.State{Mic: true, Camera: true, ReceiveVideo: true}); got != want {
			t.Errorf("%s is turned on: peers are told %+v, want %+v", r.id, got, want)
		}
		is("true")
		p.hides("Your phone paused the")
	}
}

// A camera that is chosen while none is on is not opened before it is wanted, light and all; one
// that was switched off while it was being opened sends no picture.
func TestCameraOffMeanwhile(t *testing.T) {
	e := newEdge(t)
	p := tab{t, webtest.Browser(t, "use-fake-device-for-media-stream=device-count=2")}
	webtest.Script(t, p.ctx, listening)
	p.call(e, "camera")
	p.click("#camera")
	webtest.Wait(t, p.ctx, `document.getElementById("camera").ariaChecked === "false" && camera().readyState === "ended"`)

	opened := webtest.Eval[int](t, p.ctx, `got.length`)
	first := webtest.Eval[string](t, p.ctx, `camera().getSettings().deviceId`)
	p.click("#more")
	chosen := webtest.Eval[string](t, p.ctx, `(() => { const s = document.getElementById("call-devices-videoinput"); s.selectedIndex = s.options.length - 1; s.dispatchEvent(new Event("change")); return s.value; })()`)
	p.click("#panel-close")
	if chosen == first {
		t.Fatalf("there is one camera, %s", chosen)
	}
	p.window()
	if now := webtest.Eval[int](t, p.ctx, `got.length`); now != opened {
		t.Errorf("a camera that is chosen while it is off is opened: %d devices, before %d", now, opened)
	}
	p.click("#camera")
	webtest.Wait(t, p.ctx, `camera().readyState === "live" && camera().getSettings().deviceId === "`+chosen+`"`)
	p.click("#camera")
	webtest.Wait(t, p.ctx, `document.getElementById("camera").ariaChecked === "false" && camera().readyState === "ended"`)

	webtest.Eval[any](t, p.ctx, `(() => {
	  const get = navigator.mediaDevices.getUserMedia;
	  navigator.mediaDevices.getUserMedia = async (want) => { const stream = await get(want); await new Promise((go) => { globalThis.give = go; }); return stream; };
	})(), 0`)
	p.click("#camera")
	webtest.Wait(t, p.ctx, `globalThis.give`)
	p.click("#sound")
	p.state("audio-only")
	was := p.window()
	webtest.Eval[any](t, p.ctx, `give(), 0`)
	webtest.Wait(t, p.ctx, `camera().readyState === "ended"`)
	if now := p.window(); now.Frames != was.Frames {
		t.Errorf("the other side saw %d frames of a camera that was off", now.Frames-was.Frames)
	}
}
