package quality

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"bailiwick/acme/certtest"
	"bailiwick/tools/exectest"
)

const lkSecret = "only-in-a-namespace-and-only-for-this-run"

// lkPage is LiveKit's own client, with what its documentation recommends for calls.
const lkPage = `<!doctype html><style>video{width:620px;height:420px}</style><script src=/client.js></script><script>
addEventListener("DOMContentLoaded", async () => {
  const {Room, RoomEvent} = LivekitClient;
  const room = new Room({adaptiveStream: true, dynacast: true});
  room.on(RoomEvent.TrackSubscribed, (track, _, p) => { people[p.sid] = p.identity; document.body.append(track.attach()); });
  await room.connect(location.origin.replace("http", "ws"), location.hash.slice(1));
  await room.localParticipant.enableCameraAndMicrophone();
});
</script>`

// livekit runs a server, with its client's page before it, and gives the page that a person
// joins by.
func livekit(t *testing.T, pair *certtest.Pair, _ int) func(context.Context, int) {
	t.Helper()
	client := filepath.Join("node_modules", "livekit-client", "dist", "livekit-client.umd.js")
	path := exectest.NeedBuilt(t, "livekit", "1.13.5")
	p := exectest.Start(t, exec.Command(path, "--config-body", fmt.Sprintf(`port: 7880
bind_addresses: [%s]
keys: {bench: %s}
logging: {level: error, pion_level: error}
rtc: {udp_port: 7892, tcp_port: 7891, node_ip: %[1]s, use_external_ip: false}
`, livekitAt, lkSecret)))
	server := &url.URL{Scheme: "http", Host: livekitAt + ":7880"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, lkPage) })
	mux.HandleFunc("GET /client.js", func(w http.ResponseWriter, q *http.Request) { http.ServeFile(w, q, client) })
	mux.Handle("/rtc/", httputil.NewSingleHostReverseProxy(server))
	mux.Handle("/rtc", httputil.NewSingleHostReverseProxy(server))
	cert, key := pair.Write(t, t.TempDir())
	// HTTP/1.1 alone: a WebSocket through the proxy is that.
	srv := &http.Server{Addr: livekitAt + ":443", Handler: mux, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	go srv.ListenAndServeTLS(cert, key)
	t.Cleanup(func() { srv.Close() })
	p.Await(t, func() error {
		r, err := http.Get(server.String())
		if err == nil {
			r.Body.Close()
		}
		return err
	})
	return func(ctx context.Context, i int) {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": "bench", "sub": fmt.Sprint(i), "exp": time.Now().Add(time.Hour).Unix(),
			"video": map[string]any{"room": "consult", "roomJoin": true}}).SignedString([]byte(lkSecret))
		if err != nil {
			t.Fatal(err)
		}
		navigate(t, ctx, "https://"+livekitAt+"/#"+token)
	}
}
