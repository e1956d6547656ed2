package e2e

import (
	"fmt"
	"testing"

	"bailiwick/web/webtest"
)

// outlook is what a page knows of its connections, for who has to find a fault.
const outlook = `(async () => JSON.stringify({state: document.documentElement.dataset.state, flow: await window.flow(),
  all: await Promise.all(pcs.map(async (p) => ({is: [p.connectionState, p.iceConnectionState, p.signalingState],
    stats: [...(await p.getStats()).values()].filter((s) => /outbound-rtp|candidate-pair|media-source/.test(s.type)).map((s) =>
      [s.type, s.kind, s.rid, s.state, s.nominated, s.packetsSent, s.bytesSent, s.framesEncoded, s.nackCount, s.pliCount].join(" ")),
    senders: p.getSenders().map((s) => [s.track?.kind, s.track?.readyState, s.track?.enabled, s.track?.muted, s.transport?.state].join(" "))})))}))()`

// A patient with Firefox and a clinician with Chromium hear and see each other, and go on doing so
// on another edge when theirs drains.
func TestConsultBetweenFirefoxAndChromium(t *testing.T) {
	d := startDev(t)
	c := newConsult(t, d.api(), "DE", "DE")
	fox := webtest.StartFirefox(t)
	fox.Script(watchPeers)
	fox.Navigate(c.Participants[0].URL)
	fox.Wait(`(document.querySelector("#ask-buttons .primary")?.click(), document.querySelector("#join")?.offsetParent)`)
	fox.Wait(`(document.querySelector("#join").click(), !document.querySelector("#call").hidden)`)
	t.Cleanup(func() {
		if t.Failed() {
			var told string
			fox.Eval(outlook, &told)
			t.Log("the patient's connections:", told)
		}
	})
	clinician := openPage(t, c.Participants[1].URL)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the clinician's connections:", webtest.Eval[string](t, clinician, outlook))
		}
	})
	flowing := func() {
		t.Helper()
		flows(t, "clinician", clinician)
		var first, now flow
		fox.Eval("window.flow()", &first)
		eventually(t, "the patient hears and sees the other", func() error {
			if fox.Eval("window.flow()", &now); now.Audio < first.Audio {
				first = now // it went on on another connection
			}
			if now.Audio < first.Audio+25 || now.Video < first.Video+5 || now.Energy <= first.Energy {
				return fmt.Errorf("from %+v to %+v", first, now)
			}
			return nil
		})
	}
	flowing()
	// Each is told to send layers, and how much each of them may take.
	const layers = `pcs.at(-1).getTransceivers()[1].sender.getParameters().encodings.map((e) => e.rid + " " + e.maxBitrate).join()`
	var patients string
	fox.Eval(layers, &patients)
	for who, got := range map[string]string{"patient": patients, "clinician": webtest.Eval[string](t, clinician, layers)} {
		if got != "l 150000,m 500000,h 1500000" {
			t.Errorf("the %s sends %s", who, got)
		}
	}
	call := &twoPages{consultReply: c, clinician: clinician}
	call.on(t, d.api(), c.Placement.Edge)
	if out, code := d.run(t, "region", "drain", c.Placement.Region, "--reason", "test"); code != 0 {
		t.Fatalf("region drain: exit %d: %s", code, out)
	}
	call.elsewhere(t, d.api(), c.Placement.Edge)
	flowing()
	fox.Wait(`document.documentElement.dataset.state === "call"`)
}
