package e2e

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bailiwick/store/consultest"
	"bailiwick/web/webtest"
)

// call is one consult that two browsers are in.
type twoPages struct {
	consultReply
	patient, clinician context.Context
}

// openCall places a German consult and opens both links, which carry query.
func openCall(t *testing.T, api, query string) *twoPages {
	t.Helper()
	c := &twoPages{consultReply: newConsult(t, api, "DE", "DE")}
	if c.Placement.Region != "de-ber" && c.Placement.Region != "de-fra" {
		t.Fatalf("a German consult is placed on %s", c.Placement.Region)
	}
	if len(c.Placement.Standby) == 0 || !strings.HasPrefix(c.Placement.Standby[0], "de-") && !strings.HasPrefix(c.Placement.Standby[0], "fr-") {
		t.Fatalf("standby %v is not a lawful edge", c.Placement.Standby)
	}
	link := func(i int) string { return strings.Replace(c.Participants[i].URL, "#", query+"#", 1) }
	c.patient, c.clinician = openPage(t, link(0)), openPage(t, link(1))
	return c
}

// goesOn waits until both hear and see each other.
func (c *twoPages) goesOn(t *testing.T) (patient, clinician flow) {
	t.Helper()
	return flows(t, "patient", c.patient), flows(t, "clinician", c.clinician)
}

// on waits until the consult runs on the edge with both in it and nobody is left elsewhere.
func (c *twoPages) on(t *testing.T, api, edge string) {
	t.Helper()
	eventually(t, "the consult is on "+edge+" alone", func() error {
		all := rooms(t, api)
		if len(all) != 1 || all[edge][c.ID] != 2 {
			return fmt.Errorf("rooms %v", all)
		}
		return nil
	})
}

// elsewhere waits until the consult runs with both in it on one other edge than that, and
// gives it. It is the standby, unless that keeps both pages waiting for so long on a busy
// machine that they go to the next one.
func (c *twoPages) elsewhere(t *testing.T, api, edge string) (to string) {
	t.Helper()
	eventually(t, "the consult has left "+edge+" and is on one edge", func() error {
		all := rooms(t, api)
		for to = range all {
		}
		if len(all) != 1 || to == edge || all[to][c.ID] != 2 {
			return fmt.Errorf("rooms %v", all)
		}
		return nil
	})
	return to
}

// metric sums the samples of one metric that a node shows, by its edge label.
func metric(t *testing.T, base, name string) map[string]float64 {
	t.Helper()
	_, text := get(t, base+"/metrics")
	sums := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?m)^`+name+`\{.*?edge="([^"]*)".*?\} (\S+)$`).FindAllStringSubmatch(text, -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		sums[m[1]] += v
	}
	return sums
}

// onlyThrough fails when media crossed any other edge.
func onlyThrough(t *testing.T, base, edge string) {
	t.Helper()
	for e, n := range metric(t, base, "bailiwick_sfu_packets_forwarded_total") {
		if (n > 0) != (e == edge) {
			t.Errorf("%s forwarded %v packets; the consult is on %s", e, n, edge)
		}
	}
}

// Point 2 of the main job: a consult between two real browsers, on one edge alone.
func TestConsultBetweenTwoBrowsers(t *testing.T) {
	d := startDev(t)
	c := openCall(t, d.api(), "")
	f, _ := c.goesOn(t)
	c.on(t, d.api(), c.Placement.Edge)
	onlyThrough(t, d.api(), c.Placement.Edge)
	if f.Pair == "relay" {
		t.Errorf("flow %+v goes through the relay though nothing asked for it", f)
	}
	webtest.Axe(t, c.patient)
	c.photo(t)
	c.measured(t, d.api())
	if code := call(t, "DELETE", d.api()+"/v1/consults/"+c.ID, "", nil); code != http.StatusNoContent {
		t.Errorf("DELETE: %d", code)
	}
	webtest.Wait(t, c.patient, `document.documentElement.dataset.state === "ended"`)
	webtest.Wait(t, c.clinician, `document.documentElement.dataset.state === "ended"`)
	eventually(t, "the room is gone", func() error {
		if all := rooms(t, d.api()); len(all) != 0 {
			return fmt.Errorf("rooms %v", all)
		}
		return nil
	})
}

// photo has the clinician ask the patient for one: a question that is taken back goes, who says no
// sends none, and who says yes sends the whole picture, which is shown and then forgotten.
func (c *twoPages) photo(t *testing.T) {
	t.Helper()
	ask := func() {
		t.Helper()
		webtest.Eval[any](t, c.clinician, `document.querySelector("#photo-asks button").click(), 0`)
		webtest.Wait(t, c.patient, `document.querySelector('[data-key="photo.asked"]')?.innerText.includes("The clinician asks for a photo from your camera")`)
	}
	ask()
	webtest.Click(t, c.clinician, `[data-photo="photo-stop"]`)
	webtest.Wait(t, c.patient, `document.getElementById("photos").children.length === 0`)
	ask()
	webtest.Axe(t, c.patient)
	webtest.Click(t, c.patient, `[data-photo="photo-no"]`)
	webtest.Wait(t, c.clinician, `document.querySelector("#photos")?.innerText.includes("The patient sent no photo.")`)
	ask()
	// The other keeps what the camera gave, to compare.
	webtest.Eval[any](t, c.patient, `(() => {
	  const draw = CanvasRenderingContext2D.prototype.drawImage;
	  CanvasRenderingContext2D.prototype.drawImage = function (picture, ...at) { globalThis.took = [picture.width, picture.height]; return draw.call(this, picture, ...at); };
	})(), 0`)
	webtest.Click(t, c.patient, `[data-photo="photo-send"]`)
	webtest.Wait(t, c.clinician, `document.querySelector('[data-key="photo.here"]')`)
	webtest.Wait(t, c.patient, `document.querySelector("#photos").innerText.includes("Your photo was sent.")`)
	webtest.Eval[any](t, c.clinician, `(() => { const make = URL.createObjectURL; URL.createObjectURL = (b) => make.call(URL, globalThis.photo = b); })(), 0`)
	webtest.Click(t, c.clinician, `[data-photo="photo-show"]`)
	webtest.Wait(t, c.clinician, `document.getElementById("photo").open && document.getElementById("photo-image").naturalWidth > 0`)
	webtest.Axe(t, c.clinician)
	took := webtest.Eval[[]int](t, c.patient, `took`)
	shown := webtest.Eval[[]int](t, c.clinician, `[document.getElementById("photo-image").naturalWidth, document.getElementById("photo-image").naturalHeight]`)
	camera := webtest.Eval[[]int](t, c.patient, `(() => { const {width, height} = document.getElementById("self-video").srcObject.getVideoTracks()[0].getCapabilities(); return [width.max, height.max]; })()`)
	if !slices.Equal(took, camera) || !slices.Equal(shown, camera) {
		t.Errorf("the camera has %v, the photo %v, %v are shown", camera, took, shown)
	}
	webtest.Wait(t, c.patient, `document.getElementById("self-video").srcObject.getVideoTracks()[0].getSettings().width === 1280`) // the video is as before
	if alt := webtest.Eval[string](t, c.clinician, `document.getElementById("photo-image").alt`); alt != "The patient's photo" {
		t.Errorf("the photo is described as %q", alt)
	}
	// JFIF and the colours' profile: no other segment of an application, Exif's say.
	if fault := webtest.Eval[string](t, c.clinician, `photo.arrayBuffer().then((b) => {
	  const all = new Uint8Array(b);
	  if (all[0] !== 0xff || all[1] !== 0xd8) return "no JPEG";
	  for (let at = 2; all[at] === 0xff && all[at + 1] !== 0xda; at += 2 + 256 * all[at + 2] + all[at + 3]) {
	    if (all[at + 1] > 0xe0 && all[at + 1] < 0xf0 && all[at + 1] !== 0xe2) return "segment " + all[at + 1];
	  }
	  return "";
	})`); fault != "" {
		t.Errorf("the photo: %s", fault)
	}
	url := webtest.Eval[string](t, c.clinician, `document.getElementById("photo-save").href`)
	webtest.Click(t, c.clinician, "#photo-close")
	webtest.Wait(t, c.clinician, fmt.Sprintf(`!document.getElementById("photo").open && !document.getElementById("photo-image").hasAttribute("src") && new Promise((done) => { const i = new Image(); i.onload = () => done(false); i.onerror = () => done(true); i.src = %q; })`, url))
	webtest.Click(t, c.clinician, `[data-photo="photo-close"]`)
	webtest.Wait(t, c.clinician, `document.getElementById("photos").children.length === 0`)
}

// measured waits until the pages say how the connections do, and the edge has heard how each
// plays the other. On a machine that is busy they do not do well.
func (c *twoPages) measured(t *testing.T, api string) {
	t.Helper()
	for _, page := range []context.Context{c.patient, c.clinician} {
		webtest.Click(t, page, "#net summary")
		webtest.Wait(t, page, `/^(C|Your c|The (patient|clinician)'s c)onnection: (good|weak|poor)$/.test(document.getElementById("net-word").innerText)`)
		webtest.Wait(t, page, `/Round trip \d+ ms[^]*Sound: replaced [\d.]+ %[^]*Picture: \d+ lines/.test(document.getElementById("net-numbers").innerText)`)
		t.Log(webtest.Eval[string](t, page, `document.getElementById("net").innerText`))
		webtest.Axe(t, page)
	}
	edge, _, _ := strings.Cut(c.Participants[0].URL, "/c/")
	eventually(t, "the edge knows how each plays the other", func() error {
		var r struct {
			Participants []struct {
				ID      string
				Network struct {
					Plays []struct {
						Participant              string
						Height                   int
						Frozen_s, Concealed, MOS float64
					}
				}
			}
		}
		if code := call(t, "GET", edge+"/v1/consults/"+c.ID, "", &r); code != http.StatusOK {
			return fmt.Errorf("GET: %d", code)
		}
		for i, p := range r.Participants {
			plays, other := p.Network.Plays, r.Participants[1-i].ID
			if len(plays) != 1 || plays[0].Participant != other || plays[0].Height == 0 || plays[0].MOS < 1 || plays[0].Concealed > 1 {
				return fmt.Errorf("%s plays %+v, want %s", p.ID, plays, other)
			}
		}
		t.Logf("%+v", r.Participants)
		return nil
	})
	for _, name := range []string{"bailiwick_client_mos_count", "bailiwick_client_concealed_ratio_count"} {
		if n := metric(t, api, name)[c.Placement.Edge]; n == 0 {
			t.Errorf("%s: nothing", name)
		}
	}
}

// Point 3: the same through the edge's own TURN relay.
func TestConsultThroughTheRelay(t *testing.T) {
	d := startDev(t)
	c := openCall(t, d.api(), "?relay=1")
	patient, clinician := c.goesOn(t)
	if patient.Pair != "relay" || clinician.Pair != "relay" {
		t.Errorf("candidate pairs %q and %q, want relay", patient.Pair, clinician.Pair)
	}
	for e, n := range metric(t, d.api(), "bailiwick_turn_allocations") {
		if (n > 0) != (e == c.Placement.Edge) {
			t.Errorf("%s has %v allocations; the consult is on %s", e, n, c.Placement.Edge)
		}
	}
	onlyThrough(t, d.api(), c.Placement.Edge)
}

// A patient's microphone that is off is not heard by the clinician: not on the edge where it
// was turned off, not on the one to which the call moves, not when another microphone takes its
// place there; and is heard once it is on again. What is measured is what the clinician's
// browser decodes.
func TestMutedMicrophoneAcrossAMove(t *testing.T) {
	d := startDev(t)
	c := openCall(t, d.api(), "")
	c.goesOn(t)
	hears := func(what string, want bool) {
		t.Helper()
		first := flowOf(t, c.clinician)
		eventually(t, what+": a second of packets", func() error {
			now := flowOf(t, c.clinician)
			if now.Made != first.Made || now.Audio < first.Audio {
				first = now
			}
			heard := now.Energy-first.Energy > 1e-6
			if heard && !want {
				t.Fatalf("%s: the clinician hears %g of a microphone that is off", what, now.Energy-first.Energy)
			}
			if now.Audio < first.Audio+50 || heard != want {
				return fmt.Errorf("from %+v to %+v", first, now)
			}
			return nil
		})
	}
	hears("before", true)
	webtest.Click(t, c.patient, "#mic")
	webtest.Wait(t, c.clinician, `document.querySelector("main").innerText.includes("microphone off")`)
	was := flowOf(t, c.clinician)
	eventually(t, "what was said before has been played", func() error {
		now := flowOf(t, c.clinician)
		if float64(now.Audio) < float64(was.Audio)+was.Wait+50 {
			return fmt.Errorf("from %+v to %+v", was, now)
		}
		if now.Energy-was.Energy > 1e-6 { // it was being played meanwhile
			was = now
			return fmt.Errorf("energy %g", now.Energy)
		}
		return nil
	})
	hears("off", false)
	if out, code := d.run(t, "region", "down", c.Placement.Region, "--reason", "test"); code != 0 {
		t.Fatalf("region down: exit %d: %s", code, out)
	}
	c.elsewhere(t, d.api(), c.Placement.Edge)
	webtest.Wait(t, c.clinician, `document.documentElement.dataset.state === "call"`)
	if f := flowOf(t, c.clinician); f.Energy > 1e-6 {
		t.Errorf("moved: the clinician has heard %g since", f.Energy)
	}
	hears("moved", false)
	webtest.Eval[any](t, c.patient, `(() => { const sent = pcs.at(-1).getSenders().find((s) => s.track?.kind === "audio").track; sent.stop(); sent.dispatchEvent(new Event("ended")); })(), 0`)
	webtest.Wait(t, c.patient, `document.querySelector("main").innerText.includes("was disconnected. We switched to")`)
	hears("another microphone", false)
	webtest.Click(t, c.patient, "#mic")
	hears("on", true)
}

// Point 4 on the embedded store: the region goes down, the call goes on elsewhere.
func TestRegionDownMovesTheCall(t *testing.T) {
	d := startDev(t)
	regionDownMovesTheCall(t, d, func(region, mode string) {
		verb := map[string]string{"down": "down", "serving": "serve"}[mode]
		if out, code := d.run(t, "region", verb, region, "--reason", "test"); code != 0 {
			t.Fatalf("region %s: exit %d: %s", verb, code, out)
		}
	})
}

// Point 4 on a real Consul, by the command that operators type.
func TestConsulKVPutMovesTheCall(t *testing.T) {
	server := consultest.Start(t)
	d := startDev(t, "--consul", server.Addr())
	regionDownMovesTheCall(t, d, func(region, mode string) {
		consulKV(t, server.Addr(), "bailiwick/regions/"+region, mode)
	})
}

func regionDownMovesTheCall(t *testing.T, d *dev, set func(region, mode string)) {
	before := dig(t, d.dns(), "join.media.example", "A", "+subnet=192.0.2.1")
	c := openCall(t, d.api(), "")
	c.goesOn(t)

	set(c.Placement.Region, "down")
	answered := eventually(t, "the next DNS answer is another edge", func() error {
		if now := dig(t, d.dns(), "join.media.example", "A", "+subnet=192.0.2.1"); len(now) != 1 || now[0] == before[0] {
			return fmt.Errorf("answer %v", now)
		}
		return nil
	})
	next := newConsult(t, d.api(), "DE", "DE")
	if next.Placement.Region == c.Placement.Region {
		t.Errorf("the next consult is placed on %s, which is down", next.Placement.Region)
	}
	t.Logf("DNS answer changed %v after the word was written", answered)

	at := c.elsewhere(t, d.api(), c.Placement.Edge)
	webtest.Wait(t, c.patient, `document.documentElement.dataset.state === "call"`)
	webtest.Wait(t, c.clinician, `document.documentElement.dataset.state === "call"`)
	f, _ := c.goesOn(t)
	t.Logf("media flows again on %s: %+v", at, f)

	set(c.Placement.Region, "serving")
	eventually(t, "DNS answers the first edge again", func() error {
		if now := dig(t, d.dns(), "join.media.example", "A", "+subnet=192.0.2.1"); len(now) != 1 || now[0] != before[0] {
			return fmt.Errorf("answer %v", now)
		}
		return nil
	})
}
