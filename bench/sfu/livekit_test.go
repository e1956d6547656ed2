package sfu

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/encoding/protowire"
)

// LiveKit's signalling is protobuf over a WebSocket (livekit_rtc.proto of its protocol). The
// few messages that a call needs are written here by their field numbers: its module would
// bring a hundred others. A session description is 1 type, 2 sdp, 3 id.
const (
	lkSecret = "only-on-loopback-and-only-for-this-run"

	lkOffer, lkAnswer, lkTrickle, lkAddTrack, lkLeave = 1, 2, 3, 4, 8   // SignalRequest
	lkJoined, lkAnswered, lkOffered, lkTrickled       = 1, 2, 3, 4      // SignalResponse
	lkCandidate, lkTarget, lkSubscriber               = 1, 2, uint64(1) // TrickleRequest
	lkCID, lkType, lkWidth, lkHeight, lkSource        = 1, 3, 4, 5, 8   // AddTrackRequest
	lkCamera, lkMicrophone                            = uint64(1), uint64(2)
)

func livekitConfig(at, media netip.AddrPort) string {
	return fmt.Sprintf(`port: %d
bind_addresses: [%s]
keys: {bench: %s}
logging: {level: error}
rtc: {udp_port: %d, tcp_port: %d, node_ip: %s, use_external_ip: false, enable_loopback_candidate: true}
`, at.Port(), at.Addr(), lkSecret, media.Port(), media.Port(), media.Addr())
}

// lkMessage is a decoded protobuf message: the last of each field.
type lkMessage struct {
	text map[protowire.Number][]byte
	num  map[protowire.Number]uint64
}

func lkDecode(b []byte) (m lkMessage, err error) {
	m = lkMessage{map[protowire.Number][]byte{}, map[protowire.Number]uint64{}}
	for len(b) > 0 {
		field, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return m, protowire.ParseError(n)
		}
		b = b[n:]
		switch wire {
		case protowire.BytesType:
			m.text[field], n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			m.num[field], n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(field, wire, b)
		}
		if n < 0 {
			return m, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return m, nil
}

func lkText(b []byte, field protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), text)
}

func lkNumber(b []byte, field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

// lkLeg is one of a participant's two connections, with the candidates that came before its
// description.
type lkLeg struct {
	*webrtc.PeerConnection
	early []webrtc.ICECandidateInit
}

func (l *lkLeg) candidate(c webrtc.ICECandidateInit) error {
	if l.RemoteDescription() == nil {
		l.early = append(l.early, c)
		return nil
	}
	return l.AddICECandidate(c)
}

func (l *lkLeg) describe(t webrtc.SDPType, text []byte) error {
	if err := l.SetRemoteDescription(remote(t, string(text))); err != nil {
		return err
	}
	for _, c := range l.early {
		if err := l.AddICECandidate(c); err != nil {
			return err
		}
	}
	l.early = nil
	return nil
}

type lkCall struct {
	*client
	ws       *websocket.Conn
	pub, sub lkLeg
}

func joinLiveKit(at netip.AddrPort, c *client) error {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": "bench", "sub": c.name, "exp": time.Now().Add(6 * time.Hour).Unix(),
		"video": map[string]any{"room": strconv.Itoa(c.room), "roomJoin": true}}).SignedString([]byte(lkSecret))
	if err != nil {
		return err
	}
	call := &lkCall{client: c}
	if call.pub.PeerConnection, err = c.connect(); err != nil {
		return err
	}
	if call.sub.PeerConnection, err = c.connect(); err != nil {
		return err
	}
	if call.ws, err = c.dial(fmt.Sprintf("ws://%s/rtc?access_token=%s&protocol=9&auto_subscribe=1", at, token)); err != nil {
		return err
	}
	if err := call.next(); err != nil { // joined
		return err
	}
	c.running.Go(func() {
		for c.ctx.Err() == nil {
			if err := call.next(); err != nil {
				c.fail(err)
				return
			}
		}
	})
	return nil
}

func (l *lkCall) tell(field protowire.Number, m []byte) error {
	b := protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), m)
	return l.ws.Write(l.ctx, websocket.MessageBinary, b)
}

// next takes one message and answers it.
func (l *lkCall) next() error {
	_, b, err := l.ws.Read(l.ctx)
	if err != nil {
		return err
	}
	outer, err := lkDecode(b)
	if err != nil {
		return err
	}
	for field, body := range outer.text { // one: it is a oneof
		m, err := lkDecode(body)
		if err != nil {
			continue // a string, or what we do not ask for
		}
		switch field {
		case lkJoined:
			return l.joined()
		case lkAnswered:
			return l.pub.describe(webrtc.SDPTypeAnswer, m.text[2])
		case lkOffered:
			if err := l.sub.describe(webrtc.SDPTypeOffer, m.text[2]); err != nil {
				return err
			}
			text, err := l.answer(l.sub.PeerConnection)
			if err != nil {
				return err
			}
			return l.tell(lkAnswer, lkNumber(lkText(lkText(nil, 1, "answer"), 2, text), 3, m.num[3]))
		case lkTrickled:
			var c webrtc.ICECandidateInit
			if err := json.Unmarshal(m.text[lkCandidate], &c); err != nil {
				return err
			}
			if m.num[lkTarget] == lkSubscriber {
				return l.sub.candidate(c)
			}
			return l.pub.candidate(c)
		case lkLeave:
			return fmt.Errorf("sent away, reason %d", m.num[2])
		}
	}
	return nil
}

// joined publishes.
func (l *lkCall) joined() error {
	l.hangup(func() { l.tell(lkLeave, nil) })
	if !l.publishes {
		return nil
	}
	if err := l.publish(l.pub.PeerConnection, true); err != nil {
		return err
	}
	mic := lkNumber(lkNumber(lkText(nil, lkCID, trackID(l.client, audio)), lkType, 0), lkSource, lkMicrophone)
	cam := lkNumber(lkNumber(lkText(nil, lkCID, trackID(l.client, video)), lkType, 1), lkSource, lkCamera)
	cam = lkNumber(lkNumber(cam, lkWidth, 1280), lkHeight, 720)
	text, err := l.offer(l.pub.PeerConnection)
	if err != nil {
		return err
	}
	for _, track := range [][]byte{mic, cam} {
		if err := l.tell(lkAddTrack, track); err != nil {
			return err
		}
	}
	return l.tell(lkOffer, lkNumber(lkText(lkText(nil, 1, "offer"), 2, text), 3, 1))
}
