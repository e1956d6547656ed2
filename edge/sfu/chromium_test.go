package sfu

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"bailiwick/edge/signal"
	"bailiwick/tools/exectest"
)

// browserPage is the least client there is: it answers what it is offered.
const browserPage = `<!doctype html><script>
const q = new URLSearchParams(location.search)
const log = [], players = {}
let pc, ws, data, media, tracks = [], peers = []
async function offered(m) {
  tracks = m.tracks
  const sdp = q.has('mode') ? m.sdp.replace(/^a=(rid|simulcast):.*\r\n/gm, '') : m.sdp
  await pc.setRemoteDescription({type: 'offer', sdp})
  const [audio, video] = pc.getTransceivers()
  if (audio.direction != 'sendonly') {
    audio.direction = video.direction = 'sendonly'
    if (!q.has('mute')) await send(true)
    if (q.has('shares')) screen().direction = 'sendonly'
  }
  await pc.setLocalDescription()
  ws.send(JSON.stringify({type: 'answer', sdp: pc.localDescription.sdp, seq: m.seq}))
  if (q.has('codec')) await encode(q.get('mode'), q.get('down') || 1)
}
// encode has the video sent by the codec that was asked for; in layers with the temporal ones of a mode
// each, or by another in one stream, of which the size is divided by down.
async function encode(mode, down) {
  const {sender} = pc.getTransceivers()[1], p = sender.getParameters()
  const codec = p.codecs.find(c => c.mimeType == 'video/' + q.get('codec'))
  p.degradationPreference = 'maintain-resolution'
  for (const e of p.encodings) Object.assign(e, {codec}, q.has('each') && {scalabilityMode: q.get('each')}, mode && {scalabilityMode: mode, scaleResolutionDownBy: down, maxBitrate: 2_000_000})
  await sender.setParameters(p)
}
async function send(on) {
  const [audio, video] = pc.getTransceivers()
  await audio.sender.replaceTrack(on ? media.getAudioTracks()[0] : null)
  await video.sender.replaceTrack(on ? media.getVideoTracks()[0] : null)
}
const screen = () => pc.getTransceivers().find(t => t.mid == '3')
// share begins or ends a second video, of a canvas on which something moves.
async function share(on) {
  const canvas = Object.assign(document.createElement('canvas'), {width: 1280, height: 720}), g = canvas.getContext('2d')
  clearInterval(share.timer)
  if (on) share.timer = setInterval(() => { g.fillStyle = 'hsl(' + Date.now() / 10 % 360 + ' 50% 50%)'; g.fillRect(0, 0, 1280, 720) }, 100)
  const [track] = on ? canvas.captureStream(10).getTracks() : [null]
  if (track) track.contentHint = 'detail'
  await screen().sender.replaceTrack(track)
  ws.send(JSON.stringify({type: 'state', mic: true, camera: true, receive_video: true, screen: on}))
}
async function shape(sender) {
  const p = sender.getParameters()
  for (const e of p.encodings) e.active = watched.includes(e.rid)
  await sender.setParameters(p)
}
async function start() {
  media = await navigator.mediaDevices.getUserMedia({audio: true, video: {width: 1280, height: 720, frameRate: 30}})
  if (q.has('speaks')) { // the fake microphone beeps now and then
    const at = new AudioContext(), tone = at.createOscillator(), out = at.createMediaStreamDestination()
    tone.connect(out)
    tone.start()
    media.removeTrack(media.getAudioTracks()[0])
    media.addTrack(out.stream.getAudioTracks()[0])
  }
  pc = new RTCPeerConnection({iceServers: JSON.parse(q.get('ice') || '[]'), iceTransportPolicy: q.get('policy') || 'all'})
  pc.ontrack = e => { // a media element pulls what is decoded
    const el = players[e.transceiver.mid] = document.createElement(e.track.kind)
    el.autoplay = el.playsInline = true
    el.srcObject = new MediaStream([e.track])
    document.body.append(el)
  }
  data = pc.createDataChannel('reliable', {negotiated: true, id: 0})
  data.binaryType = 'arraybuffer'
  data.onmessage = e => log.push('data: ' + [...new Uint8Array(e.data)].map(c => c < 32 ? c : String.fromCharCode(c)).join(''))
  ws = new WebSocket(location.origin.replace('http', 'ws') + '/join?' + q)
  ws.onmessage = e => {
    const m = JSON.parse(e.data)
    log.push(m.type + (m.type == 'speaker' ? ': ' + m.participant : ''))
    if (m.type == 'offer') offered(m).catch(e => log.push(String(e)))
    if (m.type == 'peers') peers = m.peers
    if (m.type == 'layers' && !q.has('mode')) watched = m.video, shape(pc.getTransceivers()[1].sender)
  }
  ws.onclose = () => log.push('closed')
}
// report says what this page receives of each participant, and what it sends.
async function report() {
  const r = {log, state: pc?.connectionState, peers, received: {}, sent: {}, layers: {}}
  const stats = pc ? await pc.getStats() : new Map()
  for (const s of stats.values()) {
    if (s.type == 'inbound-rtp') {
      const t = tracks.find(t => t.mid == s.mid)
      if (t) (r.received[t.participant] ??= {})[t.kind] = {frames: s.framesDecoded, samples: s.totalSamplesReceived,
        energy: s.totalAudioEnergy, lost: s.packetsLost, packets: s.packetsReceived, nacks: s.nackCount, plis: s.pliCount,
        width: s.frameWidth, freezes: s.freezeCount, frozen: s.totalFreezesDuration, keyframes: s.keyFramesDecoded, concealed: s.concealedSamples, codec: stats.get(s.codecId)?.mimeType}
    }
    if (s.type == 'outbound-rtp' && s.rid) r.layers[s.rid] = {bytes: s.bytesSent, width: s.frameWidth ?? 0}
    if (s.type == 'outbound-rtp') r.sent[s.mid == '3' ? 'screen' : s.kind] = {packets: s.packetsSent, bytes: s.bytesSent, target: s.targetBitrate, width: s.frameWidth, codec: stats.get(s.codecId)?.mimeType, mode: s.scalabilityMode}
    if (s.type == 'remote-inbound-rtp' && s.roundTripTime != null) r.sent[s.kind + ' rtt'] = s.roundTripTime
    if (s.type == 'transport') r.srtp = s.srtpCipher
    if (s.type == 'candidate-pair' && s.availableOutgoingBitrate) r.available = s.availableOutgoingBitrate
  }
  return r
}
start().catch(e => log.push(String(e)))
</script>`

type browserReport struct {
	Log       []string
	State     string
	SRTP      string
	Available float64 // bit/s that it thinks it may send
	Peers     []signal.Peer
	Received  map[string]map[string]struct {
		Frames, Samples, Lost, Packets, NACKs, PLIs, Width, Freezes, Frozen, Keyframes, Concealed float64
		Energy                                                                                    float64
		Codec                                                                                     string
	}
	Sent   map[string]json.RawMessage
	Layers map[string]struct{ Bytes, Width float64 } // of the video that it sends
}

// hears tells whether audio and video of that participant are decoded.
func (r browserReport) hears(id string) bool {
	m := r.Received[id]
	return m["video"].Frames > 0 && m["audio"].Samples > 0 && m["audio"].Energy > 0
}

// serveBrowsers is the protocol's WebSocket without tokens.
func serveBrowsers(t *testing.T, s *SFU) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, browserPage) })
	mux.HandleFunc("GET /join", func(w http.ResponseWriter, q *http.Request) {
		conn, err := websocket.Accept(w, q, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(signal.MaxMessage)
		out := make(chan any, 64)
		x, err := s.Join("room", Seat{Participant: q.FormValue("id"), Role: "patient", Parked: q.Form.Has("park"), Layers: q.Form.Has("layers")}, "",
			func(m any) { out <- m })
		if err != nil {
			return
		}
		defer x.Close()
		go func() {
			for {
				select {
				case <-q.Context().Done():
					return
				case m := <-out:
					b, _ := json.Marshal(m)
					conn.Write(q.Context(), websocket.MessageText, b)
				}
			}
		}()
		for {
			_, b, err := conn.Read(q.Context())
			if err != nil {
				return
			}
			m, err := signal.Decode(b)
			switch {
			case err != nil:
				t.Errorf("browser's message: %v", err)
			case m.Type == signal.TypeAnswer:
				if err := x.Answer(*m.Answer); err != nil {
					t.Errorf("browser's answer: %v", err)
				}
			case m.Type == signal.TypeState:
				x.State(*m.State)
			case m.Type == signal.TypeUnpark:
				x.Unpark()
			}
		}
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

// chromium starts a browser with fake devices; every context of it is a page.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path := exectest.Need(t, "chromium", "chromium")
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("headless", "new"), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("use-fake-device-for-media-stream", true),
		chromedp.Flag("use-fake-ui-for-media-stream", true), chromedp.Flag("autoplay-policy", "no-user-gesture-required"))
	alloc, stop := chromedp.NewExecAllocator(t.Context(), opts...)
	browser, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() { chromedp.Cancel(browser); cancel(); stop() })
	if err := chromedp.Do(browser); err != nil {
		t.Fatal(err)
	}
	return browser
}

type page struct {
	t   *testing.T
	ctx context.Context
	id  string
}

func open(t *testing.T, browser context.Context, url, id, query string) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	p := &page{t, ctx, id}
	if err := chromedp.Do(ctx, chromedp.Navigate(url+"/?id="+id+query)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *page) report() browserReport {
	p.t.Helper()
	r, err := chromedp.Run(p.ctx, chromedp.Evaluate[browserReport]("report()", chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: report: %v", p.id, err)
	}
	return r
}

func (p *page) do(js string) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.Evaluate[chromedp.Void](js, chromedp.EvalAwaitPromise)); err != nil {
		p.t.Fatalf("%s: %s: %v", p.id, js, err)
	}
}

// until polls the browser's own statistics, which have no events.
func (p *page) until(what string, cond func(browserReport) bool) browserReport {
	p.t.Helper()
	var r browserReport
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if r = p.report(); cond(r) {
			return r
		}
	}
	p.t.Fatalf("%s: not %s: %+v", p.id, what, r)
	return r
}

// TestChromium walks real browsers through a call: join, camera and microphone on
// later, lobby, leave, and another in the leaver's m-lines.
func TestChromium(t *testing.T) {
	s := listen(t)
	srv := serveBrowsers(t, s)
	browser := chromium(t)
	a, b := open(t, browser, srv.URL, "a", "&shares&speaks"), open(t, browser, srv.URL, "b", "&mute")
	r := b.until("hearing a", func(r browserReport) bool { return r.hears("a") })
	if !strings.Contains(r.SRTP, "GCM") {
		t.Errorf("SRTP cipher %q, want AES GCM", r.SRTP)
	}
	if r := a.report(); r.Received["b"]["audio"].Packets > 0 {
		t.Errorf("a muted page is heard: %+v", r)
	}
	b.do("send(true)")
	a.until("hearing b, who was muted", func(r browserReport) bool { return r.hears("b") })

	for _, p := range []*page{a, b} {
		p.until("ready for data", func(browserReport) bool {
			open, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("data.readyState == 'open'"))
			return err == nil && open
		})
	}
	a.do("data.send(new TextEncoder().encode('\\x00still here'))")
	b.until("told by a", func(r browserReport) bool { return slices.Contains(r.Log, "data: 1astill here") })

	a.do("share(true)")
	r = b.until("seeing a's screen beside its face", func(r browserReport) bool { return r.Received["a"]["screen"].Frames > 5 })
	faces := r.Received["a"]["video"].Frames
	if w := r.Received["a"]["screen"].Width; w != 1280 {
		t.Errorf("the screen is %v wide, want 1280", w)
	}
	b.until("seeing both go on", func(r browserReport) bool { return r.Received["a"]["video"].Frames > faces+5 })
	b.until("told that a speaks", func(r browserReport) bool { return slices.Contains(r.Log, "speaker: a") })
	a.do("share(false)")
	b.until("without the screen", func(r browserReport) bool { _, shown := r.Received["a"]["screen"]; return !shown && r.hears("a") })

	c := open(t, browser, srv.URL, "c", "&park")
	a.until("seeing c in the lobby", func(r browserReport) bool { return len(r.Peers) == 2 && !r.Peers[1].Connected })
	c.until("connected", func(r browserReport) bool { return r.State == "connected" })
	if r := c.report(); r.Received["a"]["audio"].Packets > 0 {
		t.Errorf("a parked page hears: %+v", r)
	}
	c.do("ws.send(JSON.stringify({type: 'unpark'}))")
	c.until("hearing both", func(r browserReport) bool { return r.hears("a") && r.hears("b") })
	a.until("hearing c", func(r browserReport) bool { return r.hears("c") })

	c.do("ws.close(), pc.close()")
	a.until("alone with b", func(r browserReport) bool { return len(r.Peers) == 1 })
	d := open(t, browser, srv.URL, "d", "")
	a.until("hearing d in c's m-lines", func(r browserReport) bool { return r.hears("d") && r.hears("b") })
	d.until("hearing both", func(r browserReport) bool { return r.hears("a") && r.hears("b") })
	// What the estimates come to is this machine's business: both begin with 300,000.
	a.until("told what of it arrives", func(r browserReport) bool { return r.Available > 0 && r.Available != 300_000 })
	eventually(t, "word of each browser on what it receives", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range s.rooms["room"].seats {
			if rate := p.session.rate.Load(); rate == 0 || rate == startRate {
				return false
			}
		}
		return true
	})
	if st := s.Stats(); st.Malformed > 0 || st.BadAnswers > 0 {
		t.Errorf("stats %+v", st)
	}
}

// shown is the video of a, and the line on which the other of the room is shown it.
func shown(s *SFU) (t *track, of *line) {
	s.mu.Lock()
	room := s.rooms["room"]
	s.mu.Unlock()
	room.mu.Lock()
	defer room.mu.Unlock()
	for _, p := range room.seats {
		if p.id == "a" {
			t = p.media.pub.tracks[Video]
			continue
		}
		for _, l := range p.media.neg.lines {
			if l.kind == Video {
				of = l
			}
		}
	}
	return t, of
}

// want moves a subscriber, whatever the allocation thinks, until that thinks anew.
func (l *line) want(spatial, temporal int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.layers.Want(spatial, temporal)
}

// TestChromiumStack: a browser sends layers stacked in one stream, another is moved to each of them
// without a freeze, and sees what its connection carries.
func TestChromiumStack(t *testing.T) {
	for _, row := range []struct {
		codec, mode string
		down        int
		through     []int // layers
	}{
		{"VP9", "L3T3_KEY", 1, []int{0, 1, 2, 1, 0, 2, 0, 2}},
		{"VP9", "L3T3", 1, []int{0, 1, 2, 1, 0, 2, 0, 2}},
		{"AV1", "L3T3_KEY", 1, []int{0, 1, 2, 1, 0, 2, 0, 2}},
		{"AV1", "L2T2", 2, []int{0, 1, 0, 1}},
	} {
		t.Run(row.codec+" "+row.mode, func(t *testing.T) {
			s := listen(t)
			srv := serveBrowsers(t, s)
			browser := chromium(t)
			a, b := open(t, browser, srv.URL, "a", fmt.Sprintf("&layers&codec=%s&mode=%s&down=%d", row.codec, row.mode, row.down)), open(t, browser, srv.URL, "b", "&mute")
			b.until("shown "+row.codec, func(r browserReport) bool {
				return r.hears("a") && r.Received["a"]["video"].Codec == "video/"+row.codec
			})
			track, line := shown(s)
			whole := float64(1280 / row.down)
			b.until("shown all of it, by its connection", func(r browserReport) bool { return r.Received["a"]["video"].Width == whole })
			if !track.stacked.Load() || track.bends() {
				t.Fatalf("stacked %t, held to what the poorest receives %t", track.stacked.Load(), track.bends())
			}
			var frozen []float64
			for range 5 { // as TestChromiumLayers
				frozen = nil
				for _, to := range row.through {
					before := b.report().Received["a"]["video"].Frozen
					r := b.until(fmt.Sprintf("on layer %d", to), func(r browserReport) bool {
						line.want(to, temporals-1)
						return r.Received["a"]["video"].Width == whole/float64(int(1)<<(slices.Max(row.through)-to))
					})
					frozen = append(frozen, r.Received["a"]["video"].Frozen-before)
				}
				if slices.Max(frozen) <= 0.2 {
					break
				}
			}
			if slices.Max(frozen) > 0.2 {
				t.Errorf("%.2f s of freezes at the switches of five rounds, want 0.2 at most at each of one", frozen)
			}
			frames := b.report().Received["a"]["video"].Frames
			b.until("shown fewer frames", func(r browserReport) bool {
				line.want(2, 0)
				return r.Received["a"]["video"].Frames > frames+10
			})
			t.Logf("frozen %.2f, %+v, stats %+v", frozen, b.report().Received["a"]["video"], s.Stats())
			if st := s.Stats(); st.Malformed > 0 || st.BadAnswers > 0 {
				t.Errorf("stats %+v", st)
			}
			a.do("ws.close()")
		})
	}
}

// TestChromiumLayers: a browser that is offered simulcast sends it, another is shown the layer
// that its connection carries, moves to another without a freeze, and what nobody watches is
// not sent.
func TestChromiumLayers(t *testing.T) {
	for _, codec := range []string{"VP8", "H264"} {
		t.Run(codec, func(t *testing.T) { testChromiumLayers(t, codec) })
	}
}

func testChromiumLayers(t *testing.T, codec string) {
	s := listen(t)
	srv := serveBrowsers(t, s)
	browser := chromium(t)
	a, b := open(t, browser, srv.URL, "a", "&layers&each=L1T3&codec="+codec), open(t, browser, srv.URL, "b", "&mute")
	b.until("shown "+codec, func(r browserReport) bool { return r.hears("a") && r.Received["a"]["video"].Codec == "video/"+codec })
	track, line := shown(s)
	want := func(spatial int) { line.want(spatial, temporals-1) }
	comes := func() (n int) {
		track.mu.Lock()
		defer track.mu.Unlock()
		for of := range track.flows {
			if track.flows[of].comes(time.Now()) {
				n++
			}
		}
		return n
	}

	// Which layers there are is for the browser's own estimate and this machine to say: the
	// camera's whole picture, or half of it.
	b.until("shown more than the lowest layer", func(r browserReport) bool { return r.Received["a"]["video"].Width >= 640 })
	eventually(t, "temporal layers", func() bool {
		track.mu.Lock()
		defer track.mu.Unlock()
		return track.flows[0].top == temporals-1 && track.flows[0].rate[0] < track.flows[0].rate[1] && track.flows[0].rate[1] < track.flows[0].rate[2]
	})
	var frozen float64
	for range 5 { // one that is smooth shows that a switch can be; a busy machine freezes by itself
		before := b.report().Received["a"]["video"].Frozen
		r := b.until("on the lowest layer", func(r browserReport) bool {
			want(0)
			return r.Received["a"]["video"].Width < 640
		})
		frozen = r.Received["a"]["video"].Frozen - before
		r = b.until("on a higher layer again", func(r browserReport) bool {
			want(2)
			return r.Received["a"]["video"].Width >= 640
		})
		if frozen = max(frozen, r.Received["a"]["video"].Frozen-before-frozen); frozen <= 0.2 {
			break
		}
	}
	if frozen > 0.2 {
		t.Errorf("%.2f s of freezes at each of five switches, want 0.2 at most at one", frozen)
	}
	b.do("ws.send(JSON.stringify({type: 'state', mic: false, camera: false, receive_video: false}))")
	eventually(t, "pause of what nobody watches", func() bool { return comes() == 0 })
	frames := b.report().Received["a"]["video"].Frames
	b.do("ws.send(JSON.stringify({type: 'state', mic: false, camera: false, receive_video: true}))")
	b.until("shown it again", func(r browserReport) bool { return r.Received["a"]["video"].Frames > frames+10 })
	t.Logf("layers %+v, frozen %.2f s, stats %+v", a.report().Layers, frozen, s.Stats())
	if st := s.Stats(); st.Malformed > 0 || st.BadAnswers > 0 {
		t.Errorf("stats %+v", st)
	}
}
