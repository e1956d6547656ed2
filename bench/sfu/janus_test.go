package sfu

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/pion/webrtc/v4"
)

// janusConfig writes the configuration: VideoRoom and the WebSocket alone. Janus leaves the
// loopback interface out of its candidates, so media go to this machine's other address,
// which the kernel keeps on loopback all the same.
func janusConfig(dir string, at netip.AddrPort, media netip.Addr) error {
	const folder = "/usr/lib/x86_64-linux-gnu/janus/"
	for name, text := range map[string]string{
		"janus.jcfg": fmt.Sprintf(`general: { configs_folder = %q, debug_level = 2, log_to_stdout = true, protected_folders = [] }
media: { ipv6 = false }
nat: { ice_enforce_list = %q }
plugins: { disable = %q }
transports: { disable = %q }
`, dir, media, disabled(folder+"plugins", "libjanus_videoroom.so"), disabled(folder+"transports", "libjanus_websockets.so")),
		"janus.transport.websockets.jcfg": fmt.Sprintf(`general: { json = "compact", ws = true, ws_ip = %q, ws_port = %d, wss = false }
admin: { admin_ws = false }
`, at.Addr(), at.Port()),
		"janus.plugin.videoroom.jcfg": "general: { }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// disabled lists a folder's modules but for one.
func disabled(folder, but string) (list string) {
	all, _ := filepath.Glob(folder + "/*.so")
	for _, path := range all {
		if name := filepath.Base(path); name != but {
			list += name + ","
		}
	}
	return list
}

type janusMessage struct {
	Janus       string `json:"janus"`
	Transaction string `json:"transaction,omitempty"`
	Session     uint64 `json:"session_id,omitempty"`
	Handle      uint64 `json:"handle_id,omitempty"`
	Plugin      string `json:"plugin,omitempty"`
	Body        any    `json:"body,omitempty"`
	JSEP        *jsep  `json:"jsep,omitempty"`
}

type jsep struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
}

type janusReply struct {
	Janus       string `json:"janus"`
	Transaction string `json:"transaction"`
	Data        struct {
		ID uint64 `json:"id"`
	} `json:"data"`
	Error struct {
		Reason string `json:"reason"`
	} `json:"error"`
	Plugin struct {
		Data struct {
			Publishers []struct {
				ID uint64 `json:"id"`
			} `json:"publishers"`
			Error string `json:"error"`
			Code  int    `json:"error_code"`
		} `json:"data"`
	} `json:"plugindata"`
	JSEP jsep `json:"jsep"`
}

type janusCall struct {
	*client
	ws      *websocket.Conn
	session uint64
	asked   int
	feed    uint64 // a publisher that was told of
}

// say sends one request and returns its answer; what comes between tells of publishers, or
// of nothing that is wanted.
func (j *janusCall) say(m janusMessage) (r janusReply, err error) {
	j.asked++
	m.Transaction, m.Session = strconv.Itoa(j.asked), j.session
	b, err := json.Marshal(m)
	if err != nil {
		return r, err
	}
	// Not wsjson, which ends a message in a newline: Janus would look for a second one after it.
	if err := j.ws.Write(j.ctx, websocket.MessageText, b); err != nil {
		return r, err
	}
	for {
		if r, err = j.read(); err != nil {
			return r, err
		}
		if r.Transaction != m.Transaction || r.Janus == "ack" {
			continue
		}
		if e := r.Plugin.Data; e.Error != "" && e.Code != roomExists {
			return r, fmt.Errorf("%s: %s", m.Janus, e.Error)
		}
		return r, nil
	}
}

const roomExists = 427

func (j *janusCall) read() (r janusReply, err error) {
	if err := wsjson.Read(j.ctx, j.ws, &r); err != nil {
		return r, err
	}
	if r.Janus == "error" {
		return r, fmt.Errorf("janus: %s", r.Error.Reason)
	}
	for _, p := range r.Plugin.Data.Publishers {
		j.feed = p.ID
	}
	return r, nil
}

type object = map[string]any

func (j *janusCall) attach() (uint64, error) {
	r, err := j.say(janusMessage{Janus: "attach", Plugin: "janus.plugin.videoroom"})
	return r.Data.ID, err
}

// joinJanus takes a handle to publish on, and, once there is somebody to hear, one to
// subscribe on.
func joinJanus(at netip.AddrPort, c *client) error {
	j := &janusCall{client: c}
	var err error
	if j.ws, err = c.dial("ws://"+at.String(), "janus-protocol"); err != nil {
		return err
	}
	r, err := j.say(janusMessage{Janus: "create"})
	if err != nil {
		return err
	}
	j.session = r.Data.ID
	handle, err := j.attach()
	if err != nil {
		return err
	}
	for _, body := range []object{
		{"request": "create", "room": c.room, "publishers": 6, "bitrate": 0, "audiocodec": "opus", "videocodec": "vp8", "opus_fec": true,
			"audiolevel_ext": true, "videoorient_ext": true, "playoutdelay_ext": true, "transport_wide_cc_ext": true},
		{"request": "join", "ptype": "publisher", "room": c.room, "display": c.name},
	} {
		if _, err := j.say(janusMessage{Janus: "message", Handle: handle, Body: body}); err != nil {
			return err
		}
	}
	if c.publishes {
		if err := j.publishOn(handle); err != nil {
			return err
		}
	}
	c.running.Go(func() {
		if c.hears > 0 {
			if err := j.subscribe(); err != nil {
				c.fail(err)
				return
			}
		}
		for c.ctx.Err() == nil {
			if _, err := j.read(); err != nil {
				c.fail(err)
				return
			}
		}
	})
	return nil
}

func (j *janusCall) publishOn(handle uint64) error {
	pc, err := j.connect()
	if err != nil {
		return err
	}
	if err := j.publish(pc, true); err != nil {
		return err
	}
	text, err := j.offer(pc)
	if err != nil {
		return err
	}
	r, err := j.say(janusMessage{Janus: "message", Handle: handle, Body: object{"request": "publish"}, JSEP: &jsep{"offer", text}})
	if err != nil {
		return err
	}
	return pc.SetRemoteDescription(remote(webrtc.SDPTypeAnswer, r.JSEP.SDP))
}

func (j *janusCall) subscribe() error {
	for j.feed == 0 {
		if _, err := j.read(); err != nil {
			return err
		}
	}
	pc, err := j.connect()
	if err != nil {
		return err
	}
	handle, err := j.attach()
	if err != nil {
		return err
	}
	r, err := j.say(janusMessage{Janus: "message", Handle: handle,
		Body: object{"request": "join", "ptype": "subscriber", "room": j.room, "streams": []object{{"feed": j.feed}}}})
	if err != nil {
		return err
	}
	if err := pc.SetRemoteDescription(remote(webrtc.SDPTypeOffer, r.JSEP.SDP)); err != nil {
		return err
	}
	text, err := j.answer(pc)
	if err != nil {
		return err
	}
	_, err = j.say(janusMessage{Janus: "message", Handle: handle, Body: object{"request": "start"}, JSEP: &jsep{"answer", text}})
	return err
}
