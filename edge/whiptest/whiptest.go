// Package whiptest is a client of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) by the
// standards alone: net/http and a WebRTC stack, and nothing of this house. What it calls its
// payload types, header extensions and m-lines is what the house calls others. For tests only.
package whiptest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"bailiwick/tools/piontest"
)

// What this client calls header extensions in its packets.
const (
	Levels = 1 // audio level
	MID    = 3
	RID    = 5
)

// Client is one of either kind.
type Client struct {
	t    testing.TB
	PC   *webrtc.PeerConnection
	HTTP *http.Client

	Audio, Video *webrtc.TrackLocalStaticRTP   // of one that publishes
	Layers       []*webrtc.TrackLocalStaticRTP // of its video, as they are offered; Video is the first

	// Of the answer to the POST.
	Resource string
	ETag     string
	Header   http.Header
	Answer   string

	mu      sync.Mutex
	changed chan struct{} // closed and renewed at each change of what follows
	up      bool
	over    bool
	got     map[string][]*rtp.Packet // by kind
}

// Publisher is a client that has audio and video, in this order or video first.
func Publisher(t testing.TB, kinds string, options ...func(*webrtc.SettingEngine)) *Client {
	return publisher(t, kinds, nil, options)
}

// Layered is one that has video alone, in layers of those names.
func Layered(t testing.TB, rids ...string) *Client {
	return publisher(t, "v", rids, nil)
}

func publisher(t testing.TB, kinds string, rids []string, options []func(*webrtc.SettingEngine)) *Client {
	c := newClient(t, options)
	for _, kind := range kinds {
		mime, name := webrtc.MimeTypeOpus, "audio"
		if kind == 'v' {
			mime, name = webrtc.MimeTypeVP8, "video"
		}
		var as []func(*webrtc.TrackLocalStaticRTP)
		if len(rids) > 0 {
			as = append(as, webrtc.WithRTPStreamID(rids[0]))
		}
		track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime}, name, "stream", as...)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := c.PC.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err == nil {
			err = tr.SetMid("my-" + name)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, rid := range rids {
			one := track
			if i > 0 {
				one, err = webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime}, name, "stream", webrtc.WithRTPStreamID(rid))
				if err == nil {
					err = tr.Sender().AddEncoding(one)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			c.Layers = append(c.Layers, one)
		}
		if kind == 'v' {
			c.Video = track
		} else {
			c.Audio = track
		}
	}
	return c
}

// Player is a client that wants audio and video, in either order.
func Player(t testing.TB, kinds string, options ...func(*webrtc.SettingEngine)) *Client {
	c := newClient(t, options)
	for _, kind := range kinds {
		k := webrtc.RTPCodecTypeAudio
		if kind == 'v' {
			k = webrtc.RTPCodecTypeVideo
		}
		tr, err := c.PC.AddTransceiverFromKind(k, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
		if err == nil {
			err = tr.SetMid("my-" + k.String())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func newClient(t testing.TB, options []func(*webrtc.SettingEngine)) *Client {
	t.Helper()
	engine := &webrtc.MediaEngine{}
	for _, codec := range []struct {
		pt    webrtc.PayloadType
		mime  string
		clock uint32
		fmtp  string
	}{
		{96, webrtc.MimeTypeOpus, 48000, "minptime=10;useinbandfec=1"},
		{111, webrtc.MimeTypeVP8, 90000, ""},
		{98, webrtc.MimeTypeRTX, 90000, "apt=111"},
		{97, webrtc.MimeTypeH264, 90000, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"},
		{120, webrtc.MimeTypeVP9, 90000, "profile-id=0"},
	} {
		kind, channels, feedback := webrtc.RTPCodecTypeVideo, uint16(0), []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "transport-cc"}}
		if codec.mime == webrtc.MimeTypeOpus {
			kind, channels, feedback = webrtc.RTPCodecTypeAudio, 2, nil
		}
		if err := engine.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: codec.pt, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: codec.mime, ClockRate: codec.clock, Channels: channels, SDPFmtpLine: codec.fmtp, RTCPFeedback: feedback}}, kind); err != nil {
			t.Fatal(err)
		}
	}
	for _, uri := range []string{"urn:ietf:params:rtp-hdrext:ssrc-audio-level", "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", "urn:ietf:params:rtp-hdrext:sdes:mid"} {
		if err := engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeAudio); err != nil {
			t.Fatal(err)
		}
	}
	for _, uri := range []string{"urn:ietf:params:rtp-hdrext:sdes:mid", "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"} {
		if err := engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeVideo); err != nil {
			t.Fatal(err)
		}
	}
	set := piontest.Loopback()
	for _, o := range options {
		o(&set)
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(set)).NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{t: t, PC: pc, HTTP: http.DefaultClient, changed: make(chan struct{}), got: map[string][]*rtp.Packet{}}
	t.Cleanup(func() { pc.Close() })
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		c.change(func() {
			c.up = s == webrtc.PeerConnectionStateConnected
			c.over = s == webrtc.PeerConnectionStateClosed || s == webrtc.PeerConnectionStateFailed
		})
	})
	pc.OnTrack(func(r *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := r.ReadRTP()
			if err != nil {
				return
			}
			c.change(func() { c.got[r.Kind().String()] = append(c.got[r.Kind().String()], p) })
		}
	})
	return c
}

func (c *Client) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

// Await waits until is, which is called under the client's lock.
func (c *Client) Await(what string, is func() bool) {
	c.t.Helper()
	late := time.After(2 * time.Minute)
	for {
		c.mu.Lock()
		ok, changed := is(), c.changed
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			c.t.Fatalf("not so: %s", what)
		}
	}
}

// Up waits until media can pass.
func (c *Client) Up() {
	c.t.Helper()
	c.Await("connected", func() bool { return c.up })
}

// Over waits until the other side has closed the connection.
func (c *Client) Over() {
	c.t.Helper()
	c.Await("closed by the edge", func() bool { return c.over })
}

// Hears waits for a packet of the kind with that mark in it.
func (c *Client) Hears(kind, mark string) (found *rtp.Packet) {
	c.t.Helper()
	c.Await(fmt.Sprintf("%s %q", kind, mark), func() bool {
		for _, p := range c.got[kind] {
			if bytes.Contains(p.Payload, []byte(mark)) {
				found = p
			}
		}
		return found != nil
	})
	return found
}

// Got is what came of a kind.
func (c *Client) Got(kind string) []*rtp.Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got[kind])
}

// Offer makes the SDP that is posted, with every candidate in it.
func (c *Client) Offer() string {
	c.t.Helper()
	if made := c.PC.LocalDescription(); made != nil && c.PC.RemoteDescription() == nil {
		return made.SDP // it was refused before
	}
	o, err := c.PC.CreateOffer(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(c.PC)
	if err := c.PC.SetLocalDescription(o); err != nil {
		c.t.Fatal(err)
	}
	<-gathered
	return c.PC.LocalDescription().SDP
}

// Take applies an answer.
func (c *Client) Take(answer string) {
	c.t.Helper()
	c.Answer = answer
	if err := c.PC.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		c.t.Fatalf("%v in\n%s", err, answer)
	}
}

// Post offers to an endpoint, and takes the answer if there is one.
func (c *Client) Post(endpoint, token string) (status int, body string) {
	c.t.Helper()
	status, header, body := c.Do("POST", endpoint, token, "application/sdp", "", c.Offer())
	if status != http.StatusCreated {
		return status, body
	}
	at, err := url.Parse(endpoint)
	if err == nil {
		at, err = at.Parse(header.Get("Location"))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.Resource, c.ETag, c.Header = at.String(), header.Get("ETag"), header
	c.Take(body)
	return status, body
}

// Do sends one request. Empty words are left out.
func (c *Client) Do(method, to, token, contentType, ifMatch, body string) (int, http.Header, string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for name, value := range map[string]string{"Authorization": token, "Content-Type": contentType, "If-Match": ifMatch} {
		if value != "" && name == "Authorization" {
			value = "Bearer " + value
		}
		if value != "" {
			q.Header.Set(name, value)
		}
	}
	client := *c.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r, err := client.Do(q)
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return r.StatusCode, r.Header, string(b)
}

// Fragment is the client's side of an ICE restart: what it sends of a new offer.
func (c *Client) Fragment() string {
	c.t.Helper()
	o, err := c.PC.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		c.t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(c.PC)
	if err := c.PC.SetLocalDescription(o); err != nil {
		c.t.Fatal(err)
	}
	<-gathered
	var b strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(c.PC.LocalDescription().SDP) {
		for _, begin := range []string{"a=ice-ufrag:", "a=ice-pwd:", "m=", "a=mid:", "a=candidate:"} {
			if strings.HasPrefix(line, begin) && (begin == "a=candidate:" || !seen[begin]) {
				seen[begin] = true
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// Restarted applies the fragment that answers one: the last answer, with its credentials and
// candidates.
func (c *Client) Restarted(fragment string) {
	c.t.Helper()
	values := map[string]string{}
	candidates := ""
	for line := range strings.Lines(fragment) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == "a=candidate" {
			candidates += line
		} else if ok {
			values[key] = value
		}
	}
	var b strings.Builder
	for line := range strings.Lines(c.Answer) {
		key, _, _ := strings.Cut(line, ":")
		switch key {
		case "a=ice-ufrag", "a=ice-pwd":
			line = key + ":" + values[key]
		case "a=candidate":
			line, candidates = candidates, ""
		}
		b.WriteString(line)
	}
	c.Take(b.String())
}
