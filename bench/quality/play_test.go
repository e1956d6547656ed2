package quality

import (
	"context"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"bailiwick/acme/certtest"
	"bailiwick/tools/exectest"
	"bailiwick/tools/pathtest"
	"bailiwick/web/webtest"
)

// Where the servers stand.
const ownAt, livekitAt = "10.77.1.1", "10.77.1.2"

// watch has every page tell what it receives. window.people says whom a stream's ID means.
const watch = `
window.pcs = []; window.said = []; window.people = window.people ?? {};
const RealPC = RTCPeerConnection;
window.RTCPeerConnection = class extends RealPC {
  constructor(...a) {
    super(...a);
    pcs.push(this);
    this.shows = {};
    this.addEventListener("track", (e) => { this.shows[e.track.id] = e.streams[0]?.id ?? ""; });
  }
};
addEventListener("DOMContentLoaded", () => {
  for (const id of ["say", "alert", "banners"]) {
    const el = document.getElementById(id);
    if (el) new MutationObserver(() => { const text = el.textContent.trim(); if (text) said.push(text); }).observe(el, {childList: true, characterData: true, subtree: true});
  }
});
window.tell = async () => {
  const now = {samples: 0, concealed: 0, videos: {}, said, sends: 0};
  for (const pc of pcs.filter((p) => p.connectionState === "connected")) {
    for (const s of (await pc.getStats()).values()) {
      if (s.type === "candidate-pair" && s.nominated) now.sends = Math.max(now.sends, s.availableOutgoingBitrate ?? 0);
      if (s.type !== "inbound-rtp") continue;
      if (s.kind === "audio") {
        now.samples += s.totalSamplesReceived ?? 0;
        now.concealed += (s.concealedSamples ?? 0) - (s.silentConcealedSamples ?? 0);
        continue;
      }
      const stream = pc.shows[s.trackIdentifier] ?? "";
      const who = people[stream.split("|")[0]];
      if (who === undefined) continue;
      const v = now.videos[who] ??= {width: 0, frames: 0, bytes: 0, frozen: 0};
      v.width = Math.max(v.width, s.frameWidth ?? 0);
      v.frames += s.framesDecoded ?? 0; v.bytes += s.bytesReceived ?? 0; v.frozen += s.totalFreezesDuration ?? 0;
    }
  }
  return now;
};`

// caller is one who calls, in a browser of their own, behind a path of their own.
type caller struct {
	ctx  context.Context
	path *pathtest.Path
}

// play makes the call and the network, and writes down what each page tells, every second.
func (s *script) play(t *testing.T, peer string) *run {
	for _, args := range []string{"link set lo up", "link add servers type veth peer name nobody", "addr add " + ownAt + "/16 dev servers",
		"addr add " + livekitAt + "/16 dev servers", "link set servers up", "link set nobody up"} {
		if out, err := exec.Command(exectest.Need(t, "ip", "iproute2"), strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	pair := certtest.SelfSigned(t, time.Time{}, time.Now().Add(time.Hour), ownAt, livekitAt)
	var join func(ctx context.Context, i int)
	if peer == livekitName {
		join = livekit(t, pair, s.people)
	} else {
		join = own(t, pair, s.people)
	}
	sound, picture := media(t, s.people)
	callers := make([]*caller, s.people)
	for i := range callers {
		c := &caller{path: pathtest.New(t, i, s.shape(0, i), *seed+uint64(i))}
		c.ctx = webtest.BrowserAt(t, c.path.Program(t, exectest.Need(t, "chromium", "chromium")), "ignore-certificate-errors",
			"autoplay-policy=no-user-gesture-required", "window-size=1280,900", "use-file-for-fake-audio-capture="+sound, "use-file-for-fake-video-capture="+picture)
		webtest.Script(t, c.ctx, watch)
		join(c.ctx, i)
		callers[i] = c
	}
	for i, c := range callers {
		for deadline := time.Now().Add(exectest.Patience); ; time.Sleep(100 * time.Millisecond) { // statistics have no events
			now := ask(t, c.ctx)
			if seen := slices.DeleteFunc(slices.Collect(maps.Values(now.Videos)), func(v video) bool { return v.Frames == 0 }); now.Samples > 0 && len(seen) == s.people-1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("person %d does not hear and see everybody: %+v", i, now)
			}
		}
	}
	r := &run{Spans: map[string]span{}, People: make([]person, s.people)}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	second := 0
	for i, p := range s.phases {
		for j, c := range callers {
			c.path.Set(s.shape(i, j))
		}
		from := second
		for end := time.Duration(float64(p.lasts) * *scale); end > 0; end -= time.Second {
			<-tick.C
			for j, c := range callers {
				r.People[j] = append(r.People[j], ask(t, c.ctx))
			}
			second++
		}
		r.Spans[p.name] = span{from, second - 1}
	}
	return r
}

// shape is that of one's path in a phase.
func (s *script) shape(phase, who int) pathtest.Shape {
	p := s.phases[phase].shape
	if who > 0 && p != (pathtest.Shape{}) {
		return good
	}
	return p
}

func ask(t *testing.T, ctx context.Context) second {
	t.Helper()
	return webtest.Eval[second](t, ctx, "tell()")
}

func navigate(t *testing.T, ctx context.Context, url string) {
	t.Helper()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}
