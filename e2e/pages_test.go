package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"bailiwick/web/webtest"
)

// watchPeers keeps every RTCPeerConnection that the page makes, so that a test can
// read its statistics.
const watchPeers = `window.pcs = []; const RealPC = RTCPeerConnection;
window.RTCPeerConnection = class extends RealPC { constructor(...a) { super(...a); window.pcs.push(this); } };
window.flow = async () => { const sum = {audio: 0, waiting: 0, video: 0, energy: 0, pair: "", relay: "", remote: "", made: window.pcs.length};
  for (const pc of window.pcs.filter((p) => p.connectionState === "connected").slice(-1)) {
    const stats = await pc.getStats();
    for (const s of stats.values()) {
      if (s.type === "inbound-rtp" && s.kind === "audio") { sum.audio += s.packetsReceived; sum.energy += s.totalAudioEnergy || 0;
        sum.waiting += s.packetsReceived - s.jitterBufferEmittedCount / 960; }
      if (s.type === "inbound-rtp" && s.kind === "video") sum.video += s.framesDecoded || 0;
      if (s.type === "transport" && stats.has(s.selectedCandidatePairId)) { // a pair that is being checked again has not "succeeded"
        const p = stats.get(s.selectedCandidatePairId), l = stats.get(p.localCandidateId), r = stats.get(p.remoteCandidateId);
        sum.pair = l?.candidateType; sum.relay = l?.url ?? ""; sum.remote = r?.address + ":" + r?.port; }
    } } return sum; };`

// flow is what a page receives on its newest connection that is up.
type flow struct {
	Made   int     `json:"made"`    // connections so far
	Audio  int     `json:"audio"`   // packets
	Video  int     `json:"video"`   // decoded frames
	Wait   float64 `json:"waiting"` // packets of 20 ms in the jitter buffer
	Energy float64 `json:"energy"`
	Pair   string  `json:"pair"`   // type of the local candidate in use
	Relay  string  `json:"relay"`  // URL of the TURN server, where it goes through one
	Remote string  `json:"remote"` // address of the edge
}

// openPage opens a join link in a browser of its own and joins.
func openPage(t *testing.T, url string, flags ...string) context.Context {
	t.Helper()
	// Two browsers on a host with no other interface still find each other.
	ctx := webtest.Browser(t, append(flags, "allow-loopback-in-peer-connection", "autoplay-policy=no-user-gesture-required")...)
	webtest.Script(t, ctx, watchPeers)
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	webtest.Wait(t, ctx, `document.querySelector("#join") && document.querySelector("#join").offsetParent !== null`)
	webtest.Wait(t, ctx, `(document.querySelector("#join").click(), !document.querySelector("#call").hidden)`)
	t.Cleanup(func() {
		if t.Failed() {
			shoot(t, ctx)
		}
	})
	return ctx
}

// shoot leaves a picture of a failed page in the system's temporary folder.
func shoot(t *testing.T, ctx context.Context) {
	b, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		return
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("bailiwick-%x.png", len(b)))
	if os.WriteFile(path, b, 0o600) == nil {
		t.Logf("screenshot: %s", path)
	}
}

func flowOf(t *testing.T, ctx context.Context) flow {
	t.Helper()
	return webtest.Eval[flow](t, ctx, "window.flow()")
}

// flows waits until a page decodes the other's voice and picture, and goes on to.
func flows(t *testing.T, name string, ctx context.Context) flow {
	t.Helper()
	first := flowOf(t, ctx)
	var now flow
	eventually(t, name+" hears and sees the other", func() error {
		if now = flowOf(t, ctx); now.Audio < first.Audio {
			first = now // it went on on another connection
		}
		if now.Audio < first.Audio+25 || now.Video < first.Video+5 || now.Energy <= first.Energy {
			return fmt.Errorf("from %+v to %+v", first, now)
		}
		return nil
	})
	return now
}
