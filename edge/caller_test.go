package edge

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/signal"
	"bailiwick/region"
	"bailiwick/tools/piontest"
)

// caller is a participant with real media: a voice of 50 packets a second, and video.
type caller struct {
	t      *testing.T
	name   string
	s      *socket
	pc     *webrtc.PeerConnection
	tracks [2]*webrtc.TrackLocalStaticRTP // audio, video

	heard, seen atomic.Int64 // packets
	gap         atomic.Int64 // the most packets of a voice that were said on end and not heard

	mu      sync.Mutex
	changed chan struct{}
	told    []message
}

// caller joins with media, which run until the test ends.
func (f *fixture) caller(at region.ID, name, token string) *caller {
	f.t.Helper()
	c := &caller{t: f.t, name: name, s: f.dial(at), changed: make(chan struct{})}
	engine := &webrtc.MediaEngine{}
	if err := engine.RegisterDefaultCodecs(); err != nil {
		f.t.Fatal(err)
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(piontest.Loopback()), webrtc.WithInterceptorRegistry(&interceptor.Registry{})).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		f.t.Fatal(err)
	}
	c.pc = pc
	pc.OnTrack(func(r *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { c.receive(r) })
	c.s.hello(token, "")
	ctx, cancel := context.WithCancel(f.t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.read(ctx) })
	running.Go(func() { c.send(ctx) })
	f.t.Cleanup(func() { cancel(); running.Wait(); pc.GracefulClose() })
	return c
}

func (c *caller) read(ctx context.Context) {
	for {
		_, b, err := c.s.conn.Read(ctx)
		if err != nil {
			return
		}
		var m message
		if err := json.Unmarshal(b, &m); err != nil {
			c.t.Errorf("%s: %v in %q", c.name, err, b)
			return
		}
		if m.Type == string(signal.TypeOffer) {
			var o signal.Offer
			json.Unmarshal(b, &o)
			if err := c.answer(ctx, &o); err != nil && ctx.Err() == nil {
				c.t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		c.mu.Lock()
		c.told = append(c.told, m)
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
	}
}

func (c *caller) answer(ctx context.Context, o *signal.Offer) error {
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: o.SDP}); err != nil {
		return err
	}
	c.mu.Lock()
	fresh := c.tracks[0] == nil
	c.mu.Unlock()
	if fresh {
		var tracks [2]*webrtc.TrackLocalStaticRTP
		for i, mime := range []string{webrtc.MimeTypeOpus, webrtc.MimeTypeVP8} {
			track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime}, mime, c.name)
			if err != nil {
				return err
			}
			if _, err := c.pc.AddTrack(track); err != nil {
				return err
			}
			tracks[i] = track
		}
		c.mu.Lock()
		c.tracks = tracks
		c.mu.Unlock()
	}
	a, err := c.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(a); err != nil {
		return err
	}
	<-gathered
	b, err := json.Marshal(map[string]any{"type": "answer", "sdp": c.pc.LocalDescription().SDP, "seq": o.Seq})
	if err != nil {
		return err
	}
	if fresh {
		c.s.conn.Write(ctx, websocket.MessageText, []byte(`{"type":"state","mic":true,"camera":true,"receive_video":true}`))
	}
	return c.s.conn.Write(ctx, websocket.MessageText, b)
}

func (c *caller) receive(r *webrtc.TrackRemote) {
	last := uint32(0)
	for {
		p, _, err := r.ReadRTP()
		if err != nil {
			return
		}
		if r.Kind() == webrtc.RTPCodecTypeVideo {
			c.seen.Add(1)
			continue
		}
		n := binary.BigEndian.Uint32(p.Payload)
		if gap := int64(n) - int64(last) - 1; last > 0 && gap > c.gap.Load() {
			c.gap.Store(gap)
		}
		last = max(last, n)
		c.heard.Add(1)
	}
}

func (c *caller) send(ctx context.Context) {
	t := time.NewTicker(time.Second / 50)
	defer t.Stop()
	frame, voice := make([]byte, 900), make([]byte, 80)
	frame[0] = 0x10 // VP8: the beginning of a keyframe
	for n := uint32(1); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		c.mu.Lock()
		tracks := c.tracks
		c.mu.Unlock()
		if tracks[0] == nil {
			continue
		}
		binary.BigEndian.PutUint32(voice, n)
		tracks[0].WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: n * 960}, Payload: voice})
		tracks[1].WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: n * 1800, Marker: true}, Payload: frame})
	}
}

// await waits until the caller was told something that fits.
func (c *caller) await(what string, fits func(message) bool) message {
	c.t.Helper()
	deadline := time.After(patience)
	for i := 0; ; {
		c.mu.Lock()
		told, changed := c.told, c.changed
		c.mu.Unlock()
		for ; i < len(told); i++ {
			if fits(told[i]) {
				return told[i]
			}
		}
		select {
		case <-changed:
		case <-deadline:
			c.t.Fatalf("%s was not told in %v: %s; but %+v", c.name, patience, what, told)
		}
	}
}

// forget has await look at what comes from now on.
func (c *caller) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = nil
}

// more waits until a counter has grown by so much.
func (c *caller) more(what string, n *atomic.Int64, by int64) {
	c.t.Helper()
	from, deadline := n.Load(), time.Now().Add(patience)
	for n.Load() < from+by {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: no %d %s more in %v", c.name, by, what, patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// of mints a consult of a priority.
func (f *fixture) of(at region.ID, priority string) minted {
	f.t.Helper()
	var c minted
	if code := f.call(at, "POST", "/v1/consults", fmt.Sprintf(`{"priority":%q,"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}]}`, priority), "dev", &c); code != 201 {
		f.t.Fatalf("POST /v1/consults: %d", code)
	}
	return c
}
