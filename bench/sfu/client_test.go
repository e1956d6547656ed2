package sfu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"bailiwick/tools/piontest"
)

type kind int

const (
	audio kind = iota
	video
)

var (
	ptimes   = [...]time.Duration{audio: 20 * time.Millisecond, video: time.Second / 30}
	ticks    = [...]uint32{audio: 960, video: 3000} // of the RTP clock in a ptime
	payloads = [...]byte{audio: 111, video: 96}
)

// epoch is the zero of the one clock: senders and receivers are this process.
var epoch = time.Now()

func now() time.Duration { return time.Since(epoch) }

// client is one participant. What joins it fills send, and hands to hear what comes.
type client struct {
	room      int
	name      string
	publishes bool
	hears     int        // other publishers in the room
	ip        netip.Addr // of its sockets

	send     [2]func(*rtp.Packet) error
	keyframe atomic.Bool // somebody asked for one
	sent     [2][]time.Duration

	negotiated atomic.Int64 // when last

	ctx     context.Context
	cancel  context.CancelFunc
	failed  chan error
	heard   chan struct{} // one a track, at its first packet
	running sync.WaitGroup

	closing   atomic.Bool
	mu        sync.Mutex
	receivers []*receiver
	pcs       []*webrtc.PeerConnection
	hangups   []func()
}

func newClient(ctx context.Context, room int, name string, publishes bool, hears int, ip netip.Addr) *client {
	c := &client{room: room, name: name, publishes: publishes, hears: hears, ip: ip,
		failed: make(chan error, 1), heard: make(chan struct{}, 2*hears+2)}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

func (c *client) fail(err error) {
	if c.closing.Load() {
		return // what it reads from is gone
	}
	select {
	case c.failed <- fmt.Errorf("participant %s: %w", c.name, err):
	default:
	}
}

// hangup is what close does, the last one first.
func (c *client) hangup(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hangups = append(c.hangups, f)
}

// close leaves, and returns once nothing of the client runs.
func (c *client) close() {
	c.closing.Store(true)
	for {
		c.mu.Lock()
		n := len(c.hangups) - 1
		if n < 0 {
			c.mu.Unlock()
			break
		}
		f := c.hangups[n]
		c.hangups = c.hangups[:n]
		c.mu.Unlock()
		f()
	}
	c.cancel()
	c.running.Wait()
}

// connect makes a PeerConnection that negotiates and reports as a browser does: TWCC both
// ways, NACK and RTX, reports, header extensions. It has one UDP socket of its own.
func (c *client) connect() (*webrtc.PeerConnection, error) {
	engine, registry := &webrtc.MediaEngine{}, &interceptor.Registry{}
	err := errors.Join(
		engine.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}}, webrtc.RTPCodecTypeAudio),
		engine.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 96, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: []webrtc.RTCPFeedback{{Type: "goog-remb"}, {Type: "ccm", Parameter: "fir"}}}}, webrtc.RTPCodecTypeVideo),
		engine.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 97, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: "apt=96"}}, webrtc.RTPCodecTypeVideo),
		webrtc.ConfigureNack(engine, registry),
		webrtc.ConfigureRTCPReports(registry),
		webrtc.ConfigureTWCCHeaderExtensionSender(engine, registry),
		webrtc.ConfigureTWCCSender(engine, registry))
	for _, uri := range []string{sdp.SDESMidURI, sdp.ABSSendTimeURI} {
		for _, of := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
			err = errors.Join(err, engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, of))
		}
	}
	err = errors.Join(err, engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.AudioLevelURI}, webrtc.RTPCodecTypeAudio))
	if err != nil {
		return nil, err
	}
	s := piontest.Loopback()
	s.SetIPFilter(func(ip net.IP) bool { return ip.Equal(c.ip.AsSlice()) })
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(registry)).
		NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		return nil, err
	}
	c.hangup(func() { pc.GracefulClose() })
	c.mu.Lock()
	c.pcs = append(c.pcs, pc)
	c.mu.Unlock()
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateFailed {
			c.fail(errors.New("media connection failed"))
		}
	})
	pc.OnTrack(func(track *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		c.running.Go(func() { // RTCP that nobody reads would fill its buffer
			b := make([]byte, 1500)
			for {
				if _, _, err := r.Read(b); err != nil {
					return
				}
			}
		})
		c.running.Go(func() {
			rx, b := c.hear(), make([]byte, 1500)
			for {
				n, _, err := track.Read(b)
				if err != nil {
					return
				}
				rx.take(b[:n], now())
			}
		})
	})
	return pc, nil
}

// publish adds the tracks: to the m-lines of an offer that was applied, or to an offer that
// the client will make.
func (c *client) publish(pc *webrtc.PeerConnection, offers bool) error {
	for k, mime := range []string{audio: webrtc.MimeTypeOpus, video: webrtc.MimeTypeVP8} {
		track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime}, trackID(c, kind(k)), c.name)
		if err != nil {
			return err
		}
		var sender *webrtc.RTPSender
		if offers {
			var tr *webrtc.RTPTransceiver
			if tr, err = pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}); err == nil {
				sender = tr.Sender()
			}
		} else {
			sender, err = pc.AddTrack(track)
		}
		if err != nil {
			return err
		}
		level := uint8(0)
		c.send[k] = func(p *rtp.Packet) error {
			if kind(k) == audio {
				if level == 0 {
					level = extension(sender, sdp.AudioLevelURI)
				}
				if level != 0 {
					p.SetExtension(level, []byte{0x80 | 30}) // voice, -30 dBov
				}
			}
			return track.WriteRTP(p)
		}
		c.running.Go(func() {
			for {
				packets, _, err := sender.ReadRTCP()
				if err != nil {
					return
				}
				for _, p := range packets {
					switch p.(type) {
					case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
						c.keyframe.Store(true)
					}
				}
			}
		})
	}
	return nil
}

func trackID(c *client, k kind) string { return fmt.Sprintf("%s-%d", c.name, k) }

// extension is the ID that was negotiated; 0 for none, or not yet.
func extension(s *webrtc.RTPSender, uri string) uint8 {
	for _, e := range s.GetParameters().HeaderExtensions {
		if e.URI == uri {
			return uint8(e.ID)
		}
	}
	return 0
}

// describe makes the local description, candidates included.
func (c *client) describe(pc *webrtc.PeerConnection, make func() (webrtc.SessionDescription, error)) (string, error) {
	defer func() { c.negotiated.Store(int64(now())) }()
	d, err := make()
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(d); err != nil {
		return "", err
	}
	<-gathered // asks nobody: there is one socket
	if local := pc.LocalDescription(); local != nil {
		return local.SDP, nil
	}
	return "", webrtc.ErrConnectionClosed
}

func (c *client) offer(pc *webrtc.PeerConnection) (string, error) {
	return c.describe(pc, func() (webrtc.SessionDescription, error) { return pc.CreateOffer(nil) })
}

func (c *client) answer(pc *webrtc.PeerConnection) (string, error) {
	return c.describe(pc, func() (webrtc.SessionDescription, error) { return pc.CreateAnswer(nil) })
}

// agreed tells whether every connection with video has negotiated something: what an
// answer of either side does not repeat is off.
func (c *client) agreed(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, pc := range c.pcs {
		for _, d := range []*webrtc.SessionDescription{pc.CurrentLocalDescription(), pc.CurrentRemoteDescription()} {
			if d != nil && strings.Contains(d.SDP, "m=video") && !strings.Contains(d.SDP, text) {
				return false
			}
		}
	}
	return true
}

func remote(t webrtc.SDPType, text string) webrtc.SessionDescription {
	return webrtc.SessionDescription{Type: t, SDP: text}
}

// stream sends until the client closes: Opus of 80 bytes 50 times a second, and VP8 of 30
// frames, 100 packets of 1,100 bytes, a second.
func (c *client) stream(phase time.Duration) {
	next := [2]time.Duration{audio: now() + phase, video: now() + phase}
	var seq [2]uint16
	var count, ts [2]uint32
	timer := time.NewTimer(0)
	defer timer.Stop()
	c.keyframe.Store(true)
	write := func(k kind, payload []byte, last bool) {
		at := now()
		stamp(payload, count[k], at)
		c.sent[k] = append(c.sent[k], at)
		p := &rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: payloads[k], SequenceNumber: seq[k], Timestamp: ts[k], Marker: last}, Payload: payload}
		if err := c.send[k](p); err != nil {
			c.fail(err)
		}
		seq[k]++
		count[k]++
	}
	for frame := 0; ; {
		k := audio
		if next[video] < next[audio] {
			k = video
		}
		timer.Reset(next[k] - now())
		select {
		case <-c.ctx.Done():
			return
		case <-timer.C:
		}
		if k == audio {
			write(audio, opus(), false)
		} else {
			key, n := c.keyframe.Swap(false), 3+frame%3/2 // 3, 3, 4
			for i := range n {
				write(video, vp8(uint16(frame), i == 0, key), i == n-1)
			}
			frame++
		}
		ts[k] += ticks[k]
		next[k] += ptimes[k]
	}
}

func opus() []byte {
	b := make([]byte, 80)
	b[0] = 0x78 // CELT, 20 ms, mono
	return b
}

// vp8 is one packet of a frame (RFC 7741), with the descriptor that browsers send.
func vp8(frame uint16, first, key bool) []byte {
	b := make([]byte, 1100)
	b[0] = 0x80 // extended
	b[1] = 0xe0 // picture ID, TL0PICIDX, TID
	binary.BigEndian.PutUint16(b[2:], 0x8000|frame)
	b[4] = byte(frame)
	if first {
		b[0] |= 0x10
		b[6] = 0x11 // shown, no keyframe
		if key {
			copy(b[6:], []byte{0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02}) // 1280 × 720
		}
	}
	return b
}

// A payload ends in a mark, its number and when it was sent.
const (
	mark      = 0xba11
	stampSize = 2 + 4 + 8
)

func stamp(payload []byte, n uint32, at time.Duration) {
	s := payload[len(payload)-stampSize:]
	binary.BigEndian.PutUint16(s, mark)
	binary.BigEndian.PutUint32(s[2:], n)
	binary.BigEndian.PutUint64(s[6:], uint64(at))
}

// receiver is one track that comes: its reader's, until that one has ended.
type receiver struct {
	heard chan<- struct{}
	seen  []uint64 // a bit a number
	got   []arrival
}

type arrival struct{ sent, took time.Duration }

func (c *client) hear() *receiver {
	r := &receiver{heard: c.heard}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.receivers = append(c.receivers, r)
	return r
}

// take takes a packet, unless it is padding or came before.
func (r *receiver) take(packet []byte, at time.Duration) {
	if len(packet) < stampSize {
		return
	}
	s := packet[len(packet)-stampSize:]
	if binary.BigEndian.Uint16(s) != mark {
		return
	}
	n := binary.BigEndian.Uint32(s[2:])
	for int(n/64) >= len(r.seen) {
		r.seen = append(r.seen, 0)
	}
	if r.seen[n/64]&(1<<(n%64)) != 0 {
		return
	}
	r.seen[n/64] |= 1 << (n % 64)
	sent := time.Duration(binary.BigEndian.Uint64(s[6:]))
	r.got = append(r.got, arrival{sent, at - sent})
	if len(r.got) == 1 {
		select {
		case r.heard <- struct{}{}:
		default: // more tracks than publishers have: loss will say so
		}
	}
}
