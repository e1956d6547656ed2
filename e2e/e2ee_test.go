package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/sfu/sframe"
	"bailiwick/edge/signal"
	"bailiwick/web/webtest"
)

// drawK is what a backend does: 32 octets, which it appends to each link of the consult.
func drawK() string {
	var k [32]byte
	rand.Read(k[:])
	return base64.RawURLEncoding.EncodeToString(k[:])
}

// newSealed places a German consult of three that is encrypted end to end.
func newSealed(t *testing.T, api string) consultReply {
	t.Helper()
	var c consultReply
	body := `{"e2ee":true,"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"},{"role":"companion","country":"DE"}]}`
	if code := call(t, "POST", api+"/v1/consults", body, &c); code != http.StatusCreated {
		t.Fatalf("POST /v1/consults: %d", code)
	}
	return c
}

// Two browsers hear and see each other, and a screen that one shares, end to end encrypted, and a third who comes and leaves;
// what passes the edge are SFrame's frames, under keys that are new when somebody leaves. The
// call goes on when the region goes down.
func TestEndToEndEncrypted(t *testing.T) {
	d := startDev(t)
	c, k := newSealed(t, d.api()), drawK()
	link := func(i int) string { return c.Participants[i].URL + "&k=" + k }
	patient, clinician := openPage(t, link(0)), openPage(t, link(1))
	flows(t, "patient", patient)
	flows(t, "clinician", clinician)
	for _, ctx := range []context.Context{patient, clinician} {
		webtest.Wait(t, ctx, `!document.getElementById("e2ee").hidden && document.getElementById("e2ee").innerText === "End-to-end encrypted."`)
	}
	webtest.Axe(t, patient)
	(&twoPages{consultReply: c, patient: patient, clinician: clinician}).photo(t)

	webtest.Click(t, clinician, "#screen")
	const shown = `document.querySelector(".tile.screen video")`
	webtest.Wait(t, patient, shown+`?.getVideoPlaybackQuality().totalVideoFrames > 5`)
	webtest.Axe(t, patient)
	flows(t, "patient, beside the screen", patient)
	webtest.Click(t, clinician, "#screen")
	webtest.Wait(t, patient, `!`+shown)

	// Who has a token and no key is handed what the edge has.
	tap := openTap(t, c.Participants[2].URL, nil)
	before := tap.frames(t, c.Participants[0].ID, c.Participants[1].ID)
	flows(t, "patient, with the third", patient)
	for who, kids := range before {
		t.Logf("%s encrypts under %x", who, kids)
	}
	tap.shut()
	companion := openPage(t, link(2))
	flows(t, "companion", companion)
	webtest.Click(t, companion, "#leave")
	flows(t, "patient, without the third", patient)
	flows(t, "clinician, without the third", clinician)

	if out, code := d.run(t, "region", "down", c.Placement.Region, "--reason", "test"); code != 0 {
		t.Fatalf("region down: exit %d: %s", code, out)
	}
	c2 := twoPages{consultReply: c, patient: patient, clinician: clinician}
	c2.elsewhere(t, d.api(), c.Placement.Edge)
	c2.goesOn(t)
}

// tap is a participant's client that encrypts nothing and decrypts nothing.
type tap struct {
	t    *testing.T
	ws   *websocket.Conn
	pc   *webrtc.PeerConnection
	stop func()
	ends sync.WaitGroup

	mu      sync.Mutex
	refused signal.Refused
	tracks  []signal.Track
	got     map[string][]*rtp.Packet // by participant and kind
}

// openTap joins with the token of a link. What voice says, it sends.
func openTap(t *testing.T, link string, voice []byte) *tap {
	t.Helper()
	_, token, _ := strings.Cut(link, "#")
	ctx, cancel := context.WithCancel(t.Context())
	ws, _, err := websocket.Dial(ctx, linked(link, token).URL, &websocket.DialOptions{Subprotocols: []string{signal.Subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(signal.MaxMessage)
	p := &tap{t: t, ws: ws, got: map[string][]*rtp.Packet{}}
	p.stop = sync.OnceFunc(func() {
		cancel()
		ws.CloseNow()
		p.ends.Wait()
		if p.pc != nil {
			p.pc.GracefulClose()
		}
	})
	t.Cleanup(p.stop)
	if p.pc, err = onLoopback(nil); err != nil {
		t.Fatal(err)
	}
	p.pc.OnTrack(func(r *webrtc.TrackRemote, rx *webrtc.RTPReceiver) { p.hear(r, rx.RTPTransceiver().Mid()) })
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "audio", "tap")
	if err != nil {
		t.Fatal(err)
	}
	p.say(ctx, map[string]any{"type": "hello", "token": token, "features": []string{"e2ee"}})
	// Its KIDs begin with what it says; what it sends does not.
	p.say(ctx, map[string]any{"type": "state", "mic": true, "camera": false, "receive_video": true, "kid": 0xabcdef})
	p.ends.Go(func() { p.listen(ctx, track, voice) })
	return p
}

func (p *tap) shut() {
	p.say(context.Background(), map[string]any{"type": "leave"})
	p.stop()
}

func (p *tap) say(ctx context.Context, m any) {
	b, err := json.Marshal(m)
	if err == nil {
		p.ws.Write(ctx, websocket.MessageText, b)
	}
}

func (p *tap) listen(ctx context.Context, track *webrtc.TrackLocalStaticRTP, voice []byte) {
	sends := false
	for {
		_, b, err := p.ws.Read(ctx)
		if err != nil {
			return
		}
		var m signal.Offer
		if json.Unmarshal(b, &m) != nil {
			continue
		}
		switch m.Type {
		case signal.TypeRefused:
			p.mu.Lock()
			json.Unmarshal(b, &p.refused)
			p.mu.Unlock()
		case signal.TypeOffer:
			if strings.Contains(m.SDP, "H264") {
				p.t.Errorf("the offer of an encrypted call has H.264:\n%s", m.SDP)
			}
			p.mu.Lock()
			p.tracks = m.Tracks
			p.mu.Unlock()
			if err := p.answer(m.SDP, track, &sends); err != nil {
				p.t.Error(err)
				return
			}
			p.say(ctx, map[string]any{"type": "answer", "sdp": p.pc.LocalDescription().SDP, "seq": m.Seq})
			if says := voice; says != nil {
				p.ends.Go(func() { speak(ctx, track, says) })
				voice = nil
			}
		}
	}
}

func speak(ctx context.Context, track *webrtc.TrackLocalStaticRTP, says []byte) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for seq := uint16(1); ; seq++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			track.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: seq, Timestamp: uint32(seq) * 960}, Payload: says})
		}
	}
}

func (p *tap) answer(offer string, track *webrtc.TrackLocalStaticRTP, sends *bool) error {
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return err
	}
	if !*sends {
		*sends = true
		sender, err := p.pc.AddTrack(track)
		if err != nil {
			return err
		}
		go drain(sender.Read)
	}
	a, err := p.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(a); err != nil {
		return err
	}
	<-gathered
	return nil
}

// drain reads until the connection closes.
func drain(read func([]byte) (int, interceptor.Attributes, error)) {
	for buf := make([]byte, 1500); ; {
		if _, _, err := read(buf); err != nil {
			return
		}
	}
}

func (p *tap) hear(r *webrtc.TrackRemote, mid string) {
	for {
		packet, _, err := r.ReadRTP()
		if err != nil {
			return
		}
		p.mu.Lock()
		for _, t := range p.tracks {
			if t.MID == mid && len(packet.Payload) > 0 {
				key := t.Participant + " " + t.Kind
				p.got[key] = append(p.got[key], packet)
			}
		}
		p.mu.Unlock()
	}
}

// frames waits for the media of each, and fails where a frame of them is not SFrame's. It gives
// the KIDs of each.
func (p *tap) frames(t *testing.T, of ...string) map[string][]uint64 {
	t.Helper()
	const enough = 30
	eventually(t, "the tap is sent everybody's media", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, who := range of {
			if a, v := len(p.got[who+" audio"]), len(p.got[who+" video"]); a < enough || v < enough {
				return fmt.Errorf("of %s %d packets of audio and %d of video", who, a, v)
			}
		}
		return nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	kids := map[string][]uint64{}
	for _, who := range of {
		counters := map[sframe.Header]bool{}
		starts := 0
		for _, kind := range []string{"audio", "video"} {
			for _, packet := range p.got[who+" "+kind] {
				frame := packet.Payload
				if kind == "video" {
					if frame[0]&0x17 != 0x10 { // RFC 7741 section 4.2: no frame begins here
						continue
					}
					frame = behindDescriptor(frame)
					starts++
				}
				h, ok := sframe.Parse(frame)
				if !ok || h.KID>>16 == 0 || h.KID>>32 != 0 || len(frame) < h.Size+16 && kind == "audio" {
					t.Fatalf("%s of %s: %x is no frame of SFrame", kind, who, frame[:min(len(frame), 24)])
				}
				if bytes.Contains(frame[:min(len(frame), 40)], []byte{0x9d, 0x01, 0x2a}) {
					t.Errorf("%s of %s: %x begins as a keyframe of VP8 does", kind, who, frame[:24])
				}
				if counters[h] {
					t.Errorf("%s of %s: KID %x and CTR %d twice", kind, who, h.KID, h.CTR)
				}
				counters[h] = true
				if !slices.Contains(kids[who], h.KID) {
					kids[who] = append(kids[who], h.KID)
				}
			}
		}
		if starts == 0 {
			t.Errorf("of %s no frame of video begins", who)
		}
		for _, kid := range kids[who] {
			if kid>>8 != kids[who][0]>>8 {
				t.Errorf("%s encrypts under KIDs %x", who, kids[who])
			}
		}
	}
	return kids
}

// behindDescriptor is a frame of VP8 without its payload descriptor (RFC 7741 section 4.2).
func behindDescriptor(b []byte) []byte {
	if b[0]&0x80 == 0 {
		return b[1:]
	}
	x, i := b[1], 2
	if x&0x80 != 0 {
		i += 1 + int(b[i]>>7)
	}
	if x&0x40 != 0 {
		i++
	}
	if x&0x30 != 0 {
		i++
	}
	return b[i:]
}

// Media in the clear are refused where a call is encrypted, and so is a client that does not say
// that it encrypts. The others hear nothing of it.
func TestMediaInTheClear(t *testing.T) {
	d := startDev(t)
	c, k := newSealed(t, d.api()), drawK()
	patient := openPage(t, c.Participants[0].URL+"&k="+k)
	listener := openTap(t, c.Participants[1].URL, nil)
	opus := []byte{0x78, 1, 2, 3, 4, 5, 6, 7, 8}
	clear := openTap(t, c.Participants[2].URL, opus)
	eventually(t, "it is refused", func() error {
		clear.mu.Lock()
		defer clear.mu.Unlock()
		if clear.refused.Code != "not_encrypted" {
			return fmt.Errorf("refused %+v", clear.refused)
		}
		return nil
	})
	eventually(t, "its seat is free", func() error {
		if n := rooms(t, d.api())[c.Placement.Edge][c.ID]; n != 2 {
			return fmt.Errorf("%d seats are taken", n)
		}
		return nil
	})
	if n := metric(t, d.api(), "bailiwick_sfu_packets_in_clear_total")[c.Placement.Edge]; n == 0 {
		t.Error("no packet in the clear was counted")
	}
	if log := d.stderr.String() + d.stdout.String(); !strings.Contains(log, "media in the clear in an end-to-end encrypted consult") {
		t.Error("the log does not tell")
	}
	eventually(t, "the listener hears the patient", func() error {
		listener.mu.Lock()
		defer listener.mu.Unlock()
		if n := len(listener.got[c.Participants[0].ID+" audio"]); n < 30 {
			return fmt.Errorf("%d packets", n)
		}
		return nil
	})
	listener.mu.Lock()
	for key, packets := range listener.got {
		for _, p := range packets {
			if bytes.Equal(p.Payload, opus) {
				t.Errorf("%s: a packet in the clear was forwarded", key)
			}
		}
	}
	listener.mu.Unlock()
	if f := flowOf(t, patient); f.Energy != 0 {
		t.Errorf("the patient hears %+v", f)
	}

	// A client of yesterday.
	ws, _, err := websocket.Dial(t.Context(), linked(c.Participants[2].URL, "").URL, &websocket.DialOptions{Subprotocols: []string{signal.Subprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	old := &tap{t: t, ws: ws}
	old.say(t.Context(), map[string]any{"type": "hello", "token": c.Participants[2].Token, "features": []string{"move-first"}})
	_, b, err := ws.Read(t.Context())
	if err != nil || !strings.Contains(string(b), `"code":"not_encrypted"`) {
		t.Errorf("a client that does not encrypt: %s, %v", b, err)
	}
}

// Whose link has no key, or another one, hears nothing and is told why.
func TestLinksWithOtherKeys(t *testing.T) {
	d := startDev(t)
	c := newSealed(t, d.api())
	for name, fragment := range map[string]string{"no key": "", "a key cut short": "&k=" + drawK()[:30]} {
		ctx := webtest.Browser(t)
		if err := chromedp.Do(ctx, chromedp.Navigate(c.Participants[0].URL+fragment)); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"no key": "the key is missing from this link", "a key cut short": "This link is incomplete"}[name]
		webtest.Wait(t, ctx, fmt.Sprintf(`document.querySelector("main").innerText.includes(%q)`, want))
	}
	if all := rooms(t, d.api()); len(all) != 0 {
		t.Errorf("rooms %v: a page without a key has joined", all)
	}

	patient, clinician := openPage(t, c.Participants[0].URL+"&k="+drawK()), openPage(t, c.Participants[1].URL+"&k="+drawK())
	for _, ctx := range []context.Context{patient, clinician} {
		webtest.Wait(t, ctx, `document.querySelector("main").innerText.includes("Your links have different keys.")`)
	}
	eventually(t, "media arrive", func() error {
		if f := flowOf(t, patient); f.Audio < 50 {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	for _, ctx := range []context.Context{patient, clinician} {
		if f := flowOf(t, ctx); f.Energy != 0 || f.Video != 0 {
			t.Errorf("heard and seen in spite of another key: %+v", f)
		}
	}
}

// A browser that cannot encrypt is told so, and sends nothing.
func TestBrowserThatCannotEncrypt(t *testing.T) {
	d := startDev(t)
	c := newSealed(t, d.api())
	ctx := webtest.Browser(t)
	webtest.Script(t, ctx, "delete globalThis.RTCRtpScriptTransform")
	if err := chromedp.Do(ctx, chromedp.Navigate(c.Participants[0].URL+"&k="+drawK())); err != nil {
		t.Fatal(err)
	}
	webtest.Wait(t, ctx, `["end-to-end encrypted, which this browser cannot do.", "No sound or video was sent."].every((text) => document.querySelector("main").innerText.includes(text))`)
	if all := rooms(t, d.api()); len(all) != 0 {
		t.Errorf("rooms %v: it has joined", all)
	}
}

// No server is told of k: no request, message, header or log of a call that moves has it, in any
// of the forms that it goes by, and neither address bar nor history keeps it.
func TestKeyStaysInThePage(t *testing.T) {
	d := startDev(t)
	c, k := newSealed(t, d.api()), drawK()
	raw, err := base64.RawURLEncoding.DecodeString(k)
	if err != nil {
		t.Fatal(err)
	}
	forms := []string{k, k[:16], hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw), string(raw)}
	watched := webtest.Browser(t, "allow-loopback-in-peer-connection", "autoplay-policy=no-user-gesture-required")
	webtest.Script(t, watched, watchPeers)
	var mu sync.Mutex
	var said bytes.Buffer // all that left the page by HTTP and WebSocket
	var requests, frames int
	err = chromedp.Listen(watched, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		var sent any
		switch ev := ev.(type) {
		case *network.EventRequestWillBeSent:
			requests++
			if ev.Request.HasPostData {
				t.Errorf("a %s with a body, which the test does not see: %s", ev.Request.Method, ev.Request.URL)
			}
			sent = []any{ev.Request.URL, ev.Request.Headers} // not of them: the fragment
		case *network.EventRequestWillBeSentExtraInfo:
			sent = ev.Headers // as they are on the wire, Referer among them
		case *network.EventWebSocketCreated:
			sent = ev.URL
		case *network.EventWebSocketWillSendHandshakeRequest:
			sent = ev.Request
		case *network.EventWebSocketFrameSent:
			frames++
			sent = ev.Response
		default:
			return
		}
		b, err := json.Marshal(sent)
		if err != nil {
			t.Error(err)
		}
		said.Write(b)
	})
	if err == nil {
		_, err = chromedp.Call(watched, network.Enable, network.EnableParams{})
	}
	if err == nil {
		err = chromedp.Do(watched, chromedp.Navigate(c.Participants[0].URL+"&k="+k))
	}
	if err != nil {
		t.Fatal(err)
	}
	webtest.Click(t, watched, "#join")
	other := openPage(t, c.Participants[1].URL+"&k="+k)
	flows(t, "patient", watched)
	if out, code := d.run(t, "region", "down", c.Placement.Region, "--reason", "test"); code != 0 {
		t.Fatalf("region down: exit %d: %s", code, out)
	}
	(&twoPages{consultReply: c, patient: watched, clinician: other}).elsewhere(t, d.api(), c.Placement.Edge)
	flows(t, "patient, moved", watched)
	history, err := chromedp.Call(watched, cdpage.GetNavigationHistory, cdp.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	var entries string
	for _, e := range history.Entries {
		entries += e.URL + " " // what was typed, or followed, is the browser's own
	}
	mu.Lock()
	text := said.String()
	if requests < 20 || frames < 4 {
		t.Errorf("%d requests and %d messages were seen: the test sees too little", requests, frames)
	}
	mu.Unlock() // the listener goes on
	for where, is := range map[string]string{
		"requests and messages": text, "log": d.stderr.String() + d.stdout.String(), "history": entries,
		"page's address": webtest.Eval[string](t, watched, "location.href + JSON.stringify(history.state) + document.referrer + document.cookie"),
		"localStorage":   webtest.Eval[string](t, watched, "JSON.stringify({...localStorage})"),
	} {
		for _, form := range forms {
			if strings.Contains(is, form) {
				t.Errorf("%s: has k", where)
			}
		}
	}
	// A reload has it of the tab's own storage, which no server reads.
	if err := chromedp.Do(watched, chromedp.Reload()); err != nil {
		t.Fatal(err)
	}
	flows(t, "patient, after a reload", watched)
}

// A patient with Firefox and a clinician with Chromium, end to end encrypted.
func TestEndToEndEncryptedWithFirefox(t *testing.T) {
	d := startDev(t)
	c, k := newSealed(t, d.api()), drawK()
	fox := webtest.StartFirefox(t)
	fox.Script(watchPeers)
	fox.Navigate(c.Participants[0].URL + "&k=" + k)
	fox.Wait(`(document.querySelector("#ask-buttons .primary")?.click(), document.querySelector("#join")?.offsetParent)`)
	fox.Wait(`(document.querySelector("#join").click(), !document.querySelector("#call").hidden)`)
	clinician := openPage(t, c.Participants[1].URL+"&k="+k)
	eventually(t, "both hear and see the other", func() error {
		var patient flow
		fox.Eval("window.flow()", &patient)
		f := flowOf(t, clinician)
		if patient.Energy == 0 || patient.Video < 5 || f.Energy == 0 || f.Video < 5 {
			return fmt.Errorf("patient %+v, clinician %+v", patient, f)
		}
		return nil
	})
	// Without ImageCapture a photo is a frame.
	webtest.Eval[any](t, clinician, `document.querySelector("#photo-asks button").click(), 0`)
	fox.Wait(`document.querySelector('[data-photo="photo-send"]')`)
	fox.Eval(`(document.querySelector('[data-photo="photo-send"]').click(), 0)`, new(int))
	webtest.Wait(t, clinician, `document.querySelector('[data-photo="photo-show"]')`)
	webtest.Click(t, clinician, `[data-photo="photo-show"]`)
	webtest.Wait(t, clinician, `document.getElementById("photo-image").naturalWidth > 0`)
	t.Logf("Firefox's photo has %v", webtest.Eval[[]int](t, clinician, `[document.getElementById("photo-image").naturalWidth, document.getElementById("photo-image").naturalHeight]`))
}
