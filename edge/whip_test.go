package edge

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"bailiwick/edge/signal"
	"bailiwick/edge/whiptest"
	"bailiwick/region"
	"bailiwick/steer"
	"bailiwick/tools/exectest"
)

func (f *fixture) whip(at region.ID) string { return f.edges[at].Self().Host + "/v1/whip" }
func (f *fixture) whep(at region.ID) string { return f.edges[at].Self().Host + "/v1/whep" }

// unblocked: pion wrote nothing under keys of the lane's.
func (f *fixture) unblocked() {
	f.t.Helper()
	for id, e := range f.edges {
		if s := e.sfu.Stats(); s.Blocked != 0 || s.Unauthentic != 0 {
			f.t.Errorf("%s: %+v", id, s)
		}
	}
}

// talk sends until the function that it returns is called: who begins to hear does so when it will.
func talk(t *testing.T, to *webrtc.TrackLocalStaticRTP, payload func(n int) []byte) (stop func()) {
	t.Helper()
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			to.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, Marker: true, SequenceNumber: uint16(n), Timestamp: uint32(n) * 960}, Payload: payload(n)})
		}
	}()
	return func() { close(end); <-done }
}

func word(n int) []byte { return fmt.Appendf(nil, "word %d", n) }

// frame begins a VP8 keyframe each time.
func frame(n int) []byte { return fmt.Appendf([]byte{0x10, 0}, "face %d", n) }

func code(body string) string {
	var p struct{ Code, Detail string }
	json.Unmarshal([]byte(body), &p)
	if p.Detail == "" {
		return p.Code + " without a detail"
	}
	return p.Code
}

func TestWHIPAndWHEP(t *testing.T) {
	f := start(t, 10, "de-ber")
	c := f.consult("de-ber")
	ann, bob := c.Participants[0], c.Participants[1]
	pub := whiptest.Publisher(t, "va")
	if status, body := pub.Post(f.whip("de-ber"), ann.Token); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	h := pub.Header
	if h.Get("Content-Type") != "application/sdp" || h.Get("Accept-Patch") != "application/trickle-ice-sdpfrag" || !strings.HasPrefix(h.Get("ETag"), `"`) ||
		len(h.Get("Location")) < len(f.whip("de-ber"))+25 || h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "Location") {
		t.Errorf("headers %v", h)
	}
	if links := strings.Join(h.Values("Link"), "\n"); len(h.Values("Link")) != 2 || !strings.Contains(links, "<turn:127.0.0.1:") || !strings.Contains(links, `rel="ice-server"`) || !strings.Contains(links, `username="`) || !strings.Contains(links, `credential="`) {
		t.Errorf("links %s", links)
	}
	pub.Up()
	defer talk(t, pub.Audio, word)()
	defer talk(t, pub.Video, frame)()

	play := whiptest.Player(t, "av")
	if status, body := play.Post(f.whep("de-ber"), bob.Token); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	play.Hears("audio", "word")
	play.Hears("video", "face")
	if n := f.edges["de-ber"].Rooms(); len(n) != 1 || n[0].Participants != 2 {
		t.Errorf("rooms %v", n)
	}

	// A restart of ICE: what is heard goes on.
	status, header, body := pub.Do("PATCH", pub.Resource, ann.Token, "application/trickle-ice-sdpfrag", "*", pub.Fragment())
	if status != 200 || header.Get("Content-Type") != "application/trickle-ice-sdpfrag" || header.Get("ETag") == pub.ETag || header.Get("ETag") == "" {
		t.Fatalf("restart: %d %v %s", status, header, body)
	}
	pub.Restarted(body)
	pub.Up()
	mark := f.edges["de-ber"].sfu.Stats().PacketsOut
	play.Await("heard again", func() bool { return f.edges["de-ber"].sfu.Stats().PacketsOut > mark+20 })
	for what, row := range map[string]struct {
		match, body string
		want        int
	}{
		"of the session before": {pub.ETag, "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n", 412},
		"of this one":           {header.Get("ETag"), "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\n", 204},
		"without If-Match":      {"", "a=ice-ufrag:abcd\r\n", 428},
		"broken":                {header.Get("ETag"), "hello", 400},
		"a restart of nothing":  {"*", "a=mid:0\r\n", 422},
	} {
		if status, _, body := pub.Do("PATCH", pub.Resource, ann.Token, "application/trickle-ice-sdpfrag", row.match, row.body); status != row.want {
			t.Errorf("PATCH %s: %d %s", what, status, body)
		}
	}
	for what, row := range map[string]struct {
		method, token, contentType string
		want                       int
	}{
		"of another's": {"DELETE", bob.Token, "", 401},
		"of nobody's":  {"DELETE", "", "", 401},
		"as JSON":      {"PATCH", ann.Token, "application/json", 415},
		"read":         {"GET", ann.Token, "", 405},
	} {
		if status, _, body := pub.Do(row.method, pub.Resource, row.token, row.contentType, "*", ""); status != row.want {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}

	// Who leaves makes room, and what is gone is gone.
	if status, _, body := pub.Do("DELETE", pub.Resource, ann.Token, "", "", ""); status != 200 {
		t.Fatalf("DELETE: %d %s", status, body)
	}
	for _, method := range []string{"DELETE", "PATCH"} {
		if status, _, body := pub.Do(method, pub.Resource, ann.Token, "application/trickle-ice-sdpfrag", "*", ""); status != 404 || code(body) != "not_found" {
			t.Errorf("%s afterwards: %d %s", method, status, body)
		}
	}
	pub.Over()
	again := whiptest.Publisher(t, "a")
	if status, body := again.Post(f.whip("de-ber"), ann.Token); status != 201 {
		t.Fatalf("again: %d %s", status, body)
	}
	again.Up()
	defer talk(t, again.Audio, func(int) []byte { return []byte("back") })()
	play.Hears("audio", "back")

	// The end of the consult is theirs.
	if code := f.call("de-ber", "DELETE", "/v1/consults/"+c.ID, "", "dev", nil); code != 204 {
		t.Fatalf("DELETE: %d", code)
	}
	again.Over()
	play.Over()
	play.Await("forgotten", func() bool {
		return f.edges["de-ber"].hosts.find(strings.TrimPrefix(play.Resource, f.edges["de-ber"].Self().Host)) == nil
	})
	if status, _, _ := play.Do("DELETE", play.Resource, bob.Token, "", "", ""); status != 404 {
		t.Errorf("DELETE after the end: %d", status)
	}
	if status, body := whiptest.Publisher(t, "a").Post(f.whip("de-ber"), ann.Token); status != 410 || code(body) != "consult_ended" {
		t.Errorf("POST after the end: %d %s", status, body)
	}
	f.unblocked()
}

// A seat by WHIP is one of the room's: who joins by WebSocket is told of it, takes it over, and
// is not taken over.
func TestWHIPSeatsAreTheRooms(t *testing.T) {
	f := start(t, 10, "de-ber")
	c := f.consult("de-ber")
	ann, bob := c.Participants[0], c.Participants[1]
	pub := whiptest.Publisher(t, "av")
	if status, body := pub.Post(f.whip("de-ber"), ann.Token); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := whiptest.Publisher(t, "av").Post(f.whip("de-ber"), ann.Token); status != 409 || code(body) != "seat_taken" {
		t.Errorf("a second POST: %d %s", status, body)
	}
	pub.Up()
	if status, body := whiptest.Player(t, "av").Post(f.whep("de-ber"), ann.Token); status != 409 || code(body) != "seat_taken" {
		t.Errorf("a player in the publisher's seat: %d %s", status, body)
	}
	// One whose client died makes way for its next.
	pub.PC.Close()
	next := whiptest.Publisher(t, "av")
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		status, body := next.Post(f.whip("de-ber"), ann.Token)
		if status == 201 {
			break
		}
		if status != 409 || time.Now().After(end) {
			t.Fatalf("after its client died: %d %s", status, body)
		}
	}
	pub = next
	pub.Up()
	b := f.dial("de-ber")
	b.hello(bob.Token, "")
	b.next(signal.TypeWelcome)
	if status, body := whiptest.Publisher(t, "av").Post(f.whip("de-ber"), bob.Token); status != 409 || code(body) != "seat_taken" {
		t.Errorf("to take over a WebSocket's seat: %d %s", status, body)
	}
	a := f.dial("de-ber")
	a.hello(ann.Token, "")
	a.next(signal.TypeWelcome)
	pub.Over()
	pub.Await("forgotten", func() bool {
		return f.edges["de-ber"].hosts.find(strings.TrimPrefix(pub.Resource, f.edges["de-ber"].Self().Host)) == nil
	})
}

func TestWHIPRefusals(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	c, other := f.consult("de-ber"), f.consult("de-ber")
	ann := c.Participants[0].Token
	good := whiptest.Publisher(t, "av").Offer()
	x := whiptest.Publisher(t, "a")
	for what, row := range map[string]struct {
		method, path, token, contentType, body string
		want                                   int
		code                                   string
	}{
		"no token":              {"POST", "/v1/whip", "", "application/sdp", good, 401, "token_invalid"},
		"a wrong token":         {"POST", "/v1/whip", "x.y.z", "application/sdp", good, 401, "token_invalid"},
		"an API key":            {"POST", "/v1/whip", "dev", "application/sdp", good, 401, "token_invalid"},
		"JSON":                  {"POST", "/v1/whip", ann, "application/json", "{}", 415, "unsupported_type"},
		"no type":               {"POST", "/v1/whip", ann, "", good, 415, "unsupported_type"},
		"malformed":             {"POST", "/v1/whip", ann, "application/sdp", "v=0", 422, "unusable_sdp"},
		"a flood":               {"POST", "/v1/whip", ann, "application/sdp", good + strings.Repeat("a=x\r\n", 64<<10), 413, "body_too_large"},
		"an offer to play":      {"POST", "/v1/whep", ann, "application/sdp", good, 422, "unusable_sdp"},
		"a query":               {"POST", "/v1/whip?participant=x", ann, "application/sdp", good, 400, "bad_request"},
		"another query":         {"POST", "/v1/whep?who=x", ann, "application/sdp", good, 400, "bad_request"},
		"GET":                   {"GET", "/v1/whip", ann, "", "", 405, "method_not_allowed"},
		"PUT":                   {"PUT", "/v1/whep", ann, "application/sdp", good, 405, "method_not_allowed"},
		"no such session":       {"DELETE", "/v1/whip/x", ann, "", "", 404, "not_found"},
		"a path of an endpoint": {"DELETE", "/v1/whip", ann, "", "", 405, "method_not_allowed"},
	} {
		status, _, body := x.Do(row.method, f.edges["de-ber"].Self().Host+row.path, row.token, row.contentType, "", row.body)
		if status != row.want || code(body) != row.code {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	q, _ := http.NewRequest("POST", f.whip("de-ber"), strings.NewReader(good))
	q.Header.Set("Authorization", "Bearer "+ann)
	q.Header.Set("Content-Type", "application/sdp")
	q.Header.Set("Accept", "text/html, application/sdp;q=0")
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != 406 {
		t.Errorf("Accept: %d", r.StatusCode)
	}
	for _, to := range []string{"", "?participant=" + c.Participants[1].ID, "?participant=" + other.Participants[0].ID} {
		p := whiptest.Player(t, "av")
		if status, body := p.Post(f.whep("de-ber")+to, ann); status != 409 || code(body) != "not_live" {
			t.Errorf("to play %q: %d %s", to, status, body)
		}
	}
	for path, methods := range map[string]string{"/v1/whip": "POST", "/v1/whep": "POST", "/v1/whip/x": "PATCH, DELETE"} {
		status, h, _ := x.Do("OPTIONS", f.edges["de-ber"].Self().Host+path, "", "", "", "")
		if status != 204 || h.Get("Access-Control-Allow-Methods") != methods || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "If-Match") || h.Get("Accept-Post")+h.Get("Accept-Patch") == "" {
			t.Errorf("OPTIONS %s: %d %v", path, status, h)
		}
	}
	if n := f.edges["de-ber"].Rooms(); len(n) != 0 {
		t.Errorf("rooms are left: %v", n)
	}
	if len(f.edges["de-ber"].hosts.byID) != 0 {
		t.Error("sessions are left")
	}
}

// A consult that moves closes what has no other way to be told, and the client that asks again
// is sent where it is.
func TestWHIPFollowsAMove(t *testing.T) {
	f := start(t, 10, "de-ber", "de-fra")
	c := f.consult("de-ber")
	ann := c.Participants[0].Token
	pub := whiptest.Publisher(t, "a")
	if status, body := pub.Post(f.whip("de-ber"), ann); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	pub.Up()
	f.mode("de-ber", "down")
	pub.Over()
	f.until("region is down", func(w *steer.World) bool { return w.Regions[w.RegionIndex("de-ber")].Mode == steer.Down })
	again := whiptest.Publisher(t, "a")
	status, h, body := again.Do("POST", f.whip("de-ber"), ann, "application/sdp", "", again.Offer())
	if status != 307 || h.Get("Location") != f.whip("de-fra") {
		t.Fatalf("%d %v %s", status, h, body)
	}
	there := whiptest.Publisher(t, "a")
	if status, body := there.Post(h.Get("Location"), ann); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	there.Up()
}

// ownAddress is one of this machine that is not loopback's, if it has any: libnice offers no
// other. What is sent to it goes nowhere else.
func ownAddress(t *testing.T) netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr()
		}
	}
	return netip.MustParseAddr("127.0.0.1")
}

// Debian's simple-whip-client publishes GStreamer's test pattern, and another stack receives it.
func TestSimpleWHIPClient(t *testing.T) {
	program := exectest.Need(t, "whip-client", "simple-whip-client")
	own := netip.AddrPortFrom(ownAddress(t), 0)
	f := startWith(t, 10, func(c *Config) { c.HTTP, c.Media, c.Turn = own, own, own }, "de-ber")
	c := f.consult("de-ber")
	ann, bob := c.Participants[0], c.Participants[1]
	lib := t.TempDir()
	const upnp = "libgupnp-igd-1.0.so.4"
	if out, err := exec.Command(exectest.Need(t, "cc", "gcc"), "-shared", "-fPIC", "-Wl,-soname,"+upnp, "-o", filepath.Join(lib, upnp), "testdata/noupnp.c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program, "-u", f.whip("de-ber"), "-t", ann.Token,
		"-V", "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 ! vp8enc deadline=1 keyframe-max-dist=15 ! rtpvp8pay pt=96 ssrc=2 ! application/x-rtp,media=video,encoding-name=VP8,payload=96",
		"-A", "audiotestsrc is-live=true ! audioconvert ! audioresample ! opusenc ! rtpopuspay pt=100 ssrc=1 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=100")
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+lib, "GST_REGISTRY="+filepath.Join(lib, "registry")) // of its plugins
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		var text strings.Builder
		for s := bufio.NewScanner(out); s.Scan(); {
			text.WriteString(s.Text() + "\n")
		}
		said <- text.String()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		text := <-said
		cmd.Wait()
		if t.Failed() {
			t.Log(text)
		}
	})
	play := whiptest.Player(t, "av", func(s *webrtc.SettingEngine) { s.SetIPFilter(func(net.IP) bool { return true }) })
	for end := time.Now().Add(exectest.Patience); ; time.Sleep(time.Second) {
		status, body := play.Post(f.whep("de-ber"), bob.Token)
		if status == 201 {
			break
		}
		if status != 409 || code(body) != "not_live" || time.Now().After(end) {
			t.Fatalf("%d %s", status, body)
		}
	}
	play.Hears("audio", "")
	play.Hears("video", "")
	f.unblocked()
	cmd.Process.Signal(os.Interrupt) // it says DELETE
	for end := time.Now().Add(exectest.Patience); f.edges["de-ber"].Rooms()[0].Participants > 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the client's seat is kept")
		}
	}
}

// Who publishes or plays by WHIP and WHEP has no keys of an end-to-end encrypted consult.
func TestWHIPIsNotEncrypted(t *testing.T) {
	f := start(t, 10, "de-ber")
	var c minted
	if status := f.call("de-ber", "POST", "/v1/consults", `{"e2ee":true,"participants":[{"role":"patient","country":"DE"},{"role":"clinician","country":"DE"}]}`, "dev", &c); status != 201 {
		t.Fatalf("POST /v1/consults: %d", status)
	}
	if status, body := whiptest.Publisher(t, "va").Post(f.whip("de-ber"), c.Participants[0].Token); status != 403 || code(body) != "not_encrypted" {
		t.Errorf("WHIP: %d %s", status, body)
	}
	if status, body := whiptest.Player(t, "av").Post(f.whep("de-ber"), c.Participants[1].Token); status != 403 || code(body) != "not_encrypted" {
		t.Errorf("WHEP: %d %s", status, body)
	}
	if n := f.edges["de-ber"].Rooms(); len(n) != 0 {
		t.Errorf("rooms %v", n)
	}
}
